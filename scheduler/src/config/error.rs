//! What can be wrong with a configuration.

use std::fmt;

use longshore_core::validation::{self, ErrorList, Path};

/// What is wrong with a configuration: one message for each thing, which starts with its place, such as
/// `profiles[0].plugins.score.enabled[1]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError(Vec<String>);

impl ConfigError {
    /// One thing that is wrong, with its place.
    pub fn new(at: &Path, reason: impl fmt::Display) -> Self {
        let at = at.to_string();
        Self(vec![if at.is_empty() { reason.to_string() } else { format!("{at}: {reason}") }])
    }

    /// One thing that is wrong, in words that name its place.
    pub(super) fn of(message: String) -> Self {
        Self(vec![message])
    }

    /// What is wrong, each with its place.
    pub fn messages(&self) -> &[String] {
        &self.0
    }

    /// Nothing, if nothing is wrong.
    pub(super) fn none_of(messages: Vec<String>) -> Result<(), Self> {
        if messages.is_empty() { Ok(()) } else { Err(Self(messages)) }
    }

    /// Nothing, if there are no errors.
    pub(super) fn no_errors(errors: &ErrorList) -> Result<(), Self> {
        Self::none_of(errors.iter().map(validation::Error::message).collect())
    }

    pub(super) fn into_messages(self) -> Vec<String> {
        self.0
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [one] => f.write_str(one),
            many => write!(f, "[{}]", many.join(", ")),
        }
    }
}

impl std::error::Error for ConfigError {}
