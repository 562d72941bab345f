//! What can be chosen when a store is opened, and what can go wrong then.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use longshore_core::clock::{Clock, SystemClock};
use longshore_core::store::HistoryLimits;

/// How to open a store.
#[derive(Debug, Clone)]
pub struct Options {
    /// The clock that keys expire by.
    pub clock: Arc<dyn Clock>,
    /// How much of the past is kept in memory, for watches and for lists at a past revision.
    pub history: HistoryLimits,
    /// Bytes of memory for pages of the file; the operating system caches them as well.
    pub cache_bytes: usize,
    /// Most commits that wait to be written; further ones wait for a place.
    pub queue_max: usize,
    /// Most commits that share one write to disk.
    pub batch_max: usize,
    /// Bytes of one log, after which the next is begun; no more than a 32nd of the disk, but for a disk of less than 32 MiB. Where the
    /// file cannot keep up a log grows to twice as many; then commits wait.
    pub log_bytes: u64,
    /// Logs that are kept besides the one that is written. If there are more, what counts in the oldest is brought to the file; the
    /// more there are, the less often a key that changes again and again gets there.
    pub logs_max: usize,
    /// Puts are refused when the disk has less free than this, in bytes, so that deletes still find room.
    pub reserve_bytes: u64,
    /// Puts are refused when the file is larger than this, in bytes.
    pub file_bytes_max: u64,
    /// Files up to this size, in bytes, are read and verified whole when they are opened (about 0.5 s a GB).
    pub verify_bytes_max: u64,
}

impl Default for Options {
    /// The machine's clock, 8 MiB of history, 4 MiB of cache, 1,024 waiting commits of which 256 are written at once, 8 logs of 32 MiB,
    /// 16 MiB of the disk left free, files up to 64 GiB, verified up to 64 MiB.
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock::new()),
            history: HistoryLimits { changes_max: 100_000, bytes_max: 8 << 20 },
            cache_bytes: 4 << 20,
            queue_max: 1024,
            batch_max: 256,
            log_bytes: 32 << 20,
            logs_max: 7,
            reserve_bytes: 16 << 20,
            file_bytes_max: 64 << 30,
            verify_bytes_max: 64 << 20,
        }
    }
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Somebody else has it open.
    #[error("the store {path} is in use by another process: stop that one, or choose another directory", path = .path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A newer Longshore wrote it, or something else did.
    #[error("the store {path} has format {found}, this version knows format {known}: use the version that wrote it", path = .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The format found.
        found: u64,
        /// The format that this version writes.
        known: u64,
    },
    /// The file does not hold what was written to it, or is not a store at all.
    #[error("the store {path} is damaged ({reason}): restore it from a backup, or move it away to start empty", path = .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// A store was to be made where there is one.
    #[error("there is a store in {path} already: choose another directory, or move that one away", path = .path.display())]
    Occupied {
        /// The directory.
        path: PathBuf,
    },
    /// The file or its directory could not be read or written.
    #[error("cannot {tried} {path}: {reason}", path = .path.display())]
    Io {
        /// What was tried.
        tried: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
}

impl OpenError {
    /// The same error, of a file that was copied from here.
    pub(crate) fn at(mut self, origin: &Path) -> Self {
        match &mut self {
            Self::InUse { path }
            | Self::Format { path, .. }
            | Self::Damaged { path, .. }
            | Self::Occupied { path }
            | Self::Io { path, .. } => *path = origin.to_owned(),
        }
        self
    }
}
