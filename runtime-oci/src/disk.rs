//! What the runtime keeps on disk: everything it needs to find its sandboxes again after a restart or a crash.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use longshore_core::runtime::{ContainerRef, Error};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// How a container ended, as the shim writes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Exit {
    pub(crate) finished_at: Timestamp,
    pub(crate) code: i32,
    pub(crate) signal: i32,
    pub(crate) oom_killed: bool,
    pub(crate) message: String,
}

/// When a container was started, as the shim writes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Started {
    pub(crate) started_at: Timestamp,
    pub(crate) pid: u32,
}

/// Writes a record so that it is either wholly there or not at all, also after the machine lost its power.
pub(crate) fn write<T: Serialize>(path: &Path, record: &T) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(record)?)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// Reads a record; `None` if there is none.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes down something about processes: atomically, whoever is killed meanwhile. They do not outlive the machine, so
/// this need not, and does not wait for the disk.
pub(crate) fn note<T: Serialize>(path: &Path, record: &T) -> io::Result<()> {
    let temporary = path.with_extension("new");
    fs::write(&temporary, serde_json::to_vec(record)?)?;
    fs::rename(&temporary, path)
}

/// Reads what was noted; what a loss of power has damaged is as if it were not there.
pub(crate) fn noted<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match read(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) => Ok(None),
        found => found,
    }
}

/// The directories below; none if the directory is not there.
pub(crate) fn directories(path: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(path) {
        Ok(entries) => {
            let mut found = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
            found.retain(|path| path.is_dir());
            found.sort();
            Ok(found)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Removes a tree; one that is gone is none.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    // Whoever lists meanwhile may note an end in it.
    for _ in 0..10 {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => return Ok(()),
        }
    }
    fs::remove_dir_all(path)
}

/// The name of a container's directory in its sandbox's.
pub(crate) fn directory_name(container: &ContainerRef) -> String {
    format!("{}_{}", container.name, container.attempt)
}

/// An error of this crate's: what was tried and what happened.
pub(crate) fn failed(operation: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let operation = operation.into();
    move |error| Error::Failed { operation, reason: error.to_string() }
}

/// Refuses names that could leave the directory they are used in.
pub(crate) fn check_name(what: &str, name: &str) -> Result<(), Error> {
    let fine = (1..=253).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
        && !name.starts_with('.');
    if fine { Ok(()) } else { Err(Error::Invalid { reason: format!("{what} {name:?} is not a DNS name") }) }
}
