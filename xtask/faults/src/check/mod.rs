//! What must hold of a history, each rule in a module of its own.

pub mod acknowledged;
pub mod linear;
pub mod pods;
pub mod rollout;
pub mod streams;
#[cfg(test)]
pub(crate) mod testing;

use std::fmt;

use crate::history::{Event, History, merge};

/// A promise that was not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which promise.
    pub promise: &'static str,
    /// What happened.
    pub what: String,
}

impl Violation {
    /// A violation of a promise.
    pub fn new(promise: &'static str, what: impl Into<String>) -> Self {
        Self { promise, what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.promise, self.what)
    }
}

/// All checks; and the changes of the history in order, each once.
pub fn all(history: &History) -> (Vec<Event>, Vec<Violation>) {
    let (events, mut violations) = merge(&history.streams);
    violations.extend(streams::check(&history.streams));
    violations.extend(acknowledged::check(&events, &history.acknowledged, &history.values));
    for (key, operations) in &history.registers {
        violations.extend(linear::check(key, operations));
    }
    violations.extend(pods::check(&events));
    violations.extend(rollout::check(&events));
    (events, violations)
}
