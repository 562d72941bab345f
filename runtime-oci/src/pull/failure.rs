//! Why something could not be had from a registry.

use std::io;
use std::path::Path;

/// What happened, and what it means for another try.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The connection or the server broke: another try may help.
    Broken(String),
    /// Another try would end the same way.
    Final(String),
    /// This machine's disk failed.
    Disk(io::Error),
}

impl Failure {
    /// What a user is told; `store` is where images are kept.
    pub(crate) fn reason(self, store: &Path) -> String {
        match self {
            Self::Broken(reason) | Self::Final(reason) => reason,
            Self::Disk(error) if error.kind() == io::ErrorKind::StorageFull => {
                format!("the disk that holds {} is full: free some space, or remove images", store.display())
            }
            Self::Disk(error) => error.to_string(),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

/// Text of somebody else's, short and without control characters.
pub(crate) fn tame(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}
