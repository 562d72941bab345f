//! What could not be used of what was read.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::TraceError;

/// How many bad rows are kept to be shown.
const KEPT: usize = 10;

/// Counts bad rows, and what has no meaning for a simulation. Copies share one count, so that it can be asked for while events
/// stream and afterwards.
#[derive(Debug, Clone)]
pub struct Tally {
    limit: u64,
    found: Arc<Mutex<Found>>,
}

#[derive(Debug, Default)]
struct Found {
    bad: u64,
    first: Vec<BadRow>,
    left_out: BTreeMap<&'static str, u64>,
}

/// A row that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow {
    /// The file.
    pub file: PathBuf,
    /// Its line, from 1.
    pub line: u64,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for BadRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: line {}: {}", self.file.display(), self.line, self.reason)
    }
}

impl Default for Tally {
    /// With a limit of 100.
    fn default() -> Self {
        Self::with_limit(100)
    }
}

impl Tally {
    /// Reading stops with the bad row after this many.
    pub fn with_limit(limit: u64) -> Self {
        Self { limit, found: Arc::default() }
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        // Counts are whole after each step, whoever panicked.
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many rows were bad.
    pub fn bad_rows(&self) -> u64 {
        self.found().bad
    }

    /// The first bad rows, at most ten.
    pub fn first_bad_rows(&self) -> Vec<BadRow> {
        self.found().first.clone()
    }

    /// What was left out though it is as it should be, and how often.
    pub fn left_out(&self) -> BTreeMap<&'static str, u64> {
        self.found().left_out.clone()
    }

    /// A row is bad.
    ///
    /// # Errors
    /// There are more of them than the limit allows.
    pub(crate) fn bad(&self, file: &Path, line: u64, reason: String) -> Result<(), TraceError> {
        let mut found = self.found();
        found.bad += 1;
        if found.first.len() < KEPT {
            found.first.push(BadRow { file: file.to_owned(), line, reason: reason.clone() });
        }
        if found.bad > self.limit {
            let last = BadRow { file: file.to_owned(), line, reason };
            return Err(TraceError::TooManyBadRows { limit: self.limit, last });
        }
        Ok(())
    }

    pub(crate) fn leave_out(&self, what: &'static str) {
        *self.found().left_out.entry(what).or_default() += 1;
    }
}
