//! What can go wrong with a cluster, in words for the person who runs it.

use std::path::PathBuf;

use longshore_scheduler::config::ConfigError;

/// Why a cluster could not be started, found or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another process runs a cluster in this directory.
    #[error(
        "a cluster runs in {directory} already (process {pid}): stop it with Ctrl-C or `longshore down --data-dir {directory}`, or choose another --data-dir",
        directory = .directory.display()
    )]
    Running {
        /// The directory.
        directory: PathBuf,
        /// The process that holds it; 0 if it did not say.
        pid: u32,
    },
    /// No cluster was ever started in this directory.
    #[error(
        "there is no cluster in {directory}: start one with `longshore up --data-dir {directory}`",
        directory = .directory.display()
    )]
    NoCluster {
        /// The directory.
        directory: PathBuf,
    },
    /// The directory holds a cluster that was made another way.
    #[error(
        "the cluster in {directory} was made with --{option} {recorded}, not {asked}: leave the option out, choose another --data-dir, or delete the cluster with `longshore down --purge --data-dir {directory}`",
        directory = .directory.display()
    )]
    OtherSettings {
        /// The directory.
        directory: PathBuf,
        /// The option.
        option: &'static str,
        /// What it was.
        recorded: String,
        /// What it is asked to be.
        asked: String,
    },
    /// A file or directory could not be read or written.
    #[error("cannot {tried} {path}: {reason}", path = .path.display())]
    File {
        /// What was tried.
        tried: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said, and what to do.
        reason: String,
    },
    /// A manifest cannot be read.
    #[error("{file}, document {document}: {reason}")]
    Manifest {
        /// The file's name.
        file: String,
        /// Which document of the file, from 1.
        document: usize,
        /// What is wrong.
        reason: String,
    },
    /// A scheduler's configuration cannot be used.
    #[error("{file}: {reason}", file = .file.display())]
    SchedulerConfiguration {
        /// The file.
        file: PathBuf,
        /// What is wrong where in it.
        reason: ConfigError,
    },
    /// The machine lacks something.
    #[error("{what}: {remedy}")]
    Missing {
        /// What is missing.
        what: String,
        /// What to do.
        remedy: String,
    },
    /// This machine is no node of the cluster, and cannot become one.
    #[error("cannot join the cluster: {what}; {remedy}")]
    Join {
        /// What is wrong.
        what: String,
        /// What to do.
        remedy: String,
    },
    /// A part could not start or broke.
    #[error("{part}: {reason}")]
    Part {
        /// Which part.
        part: &'static str,
        /// What happened.
        reason: String,
    },
    /// Something did not become ready.
    #[error("not ready after {seconds} s: {what}")]
    NotReady {
        /// What is missing, and why as far as known.
        what: String,
        /// How long it was waited for.
        seconds: u64,
    },
}

impl Error {
    pub(crate) fn file(tried: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |error| {
            let remedy = match error.kind() {
                std::io::ErrorKind::PermissionDenied => ": run it as root, or choose another --data-dir",
                std::io::ErrorKind::ReadOnlyFilesystem => ": choose another --data-dir",
                std::io::ErrorKind::StorageFull => ": make room, or choose another --data-dir",
                _ => "",
            };
            Self::File { tried, path, reason: format!("{error}{remedy}") }
        }
    }
}
