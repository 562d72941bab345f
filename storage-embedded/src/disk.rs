//! The store's directory: its files by name, how they are opened, and how much room there is.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use longshore_core::store::Error;
use redb::backends::FileBackend;

use crate::{OpenError, Options};

/// The name of the file in its directory.
pub(crate) const FILE: &str = "store.redb";
/// What the names of logs begin with; a number follows.
const LOG: &str = "log-";

/// An open file, locked against other processes.
#[cfg(not(test))]
pub(crate) type Device = FileBackend;
#[cfg(test)]
pub(crate) type Device = crate::tests::FailingBackend;

/// Where the files are and how they are to be opened; knows how to do it again after a failure.
#[derive(Debug)]
pub(crate) struct Disk {
    directory: PathBuf,
    /// The file.
    pub(crate) path: PathBuf,
    pub(crate) cache_bytes: usize,
    pub(crate) verify_bytes_max: u64,
    reserve_bytes: u64,
    file_bytes_max: u64,
    #[cfg(test)]
    pub(crate) failing: std::sync::Arc<crate::tests::Failing>,
}

/// Why the file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opening {
    /// The store starts: the file is created if need be, and verified.
    Start,
    /// A read or write failed. Verifying would write to a disk that may be full.
    Again,
}

impl Disk {
    pub(crate) fn new(directory: &Path, options: &Options) -> Result<Self, OpenError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| io_error("create directory", directory, &error))?;
        Ok(Self {
            directory: directory.to_owned(),
            path: directory.join(FILE),
            cache_bytes: options.cache_bytes,
            verify_bytes_max: options.verify_bytes_max,
            reserve_bytes: options.reserve_bytes,
            file_bytes_max: options.file_bytes_max,
            #[cfg(test)]
            failing: Default::default(),
        })
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Opens the file.
    pub(crate) fn file(&self, opening: Opening) -> Result<Device, OpenError> {
        let file =
            self.open(&self.path, opening == Opening::Start).map_err(|error| io_error("open", &self.path, &error))?;
        self.device(file, FILE).map_err(|error| self.classify(error.into()))
    }

    /// Opens a log, which is made if it is not there, and says how long it is.
    pub(crate) fn log(&self, number: u32) -> io::Result<(Device, u64)> {
        let name = format!("{LOG}{number}");
        let path = self.directory.join(&name);
        let file = self.open(&path, true)?;
        let length = file.metadata()?.len();
        // Also of a file that was there: whoever made it may have been killed before its name was durable.
        File::open(&self.directory)?.sync_all()?;
        Ok((self.device(file, &name).map_err(io::Error::other)?, length))
    }

    /// The logs that are there, by number.
    pub(crate) fn logs(&self) -> Result<Vec<(u32, PathBuf)>, OpenError> {
        logs(&self.directory)
    }

    /// Removes a log that nobody needs. If that fails it is found again, and not needed, by the next start.
    pub(crate) fn remove_log(&self, number: u32) {
        let path = self.directory.join(format!("{LOG}{number}"));
        if let Err(error) = std::fs::remove_file(&path) {
            tracing::warn!(path = %path.display(), %error, "a log that is not needed could not be removed");
        }
    }

    /// Values may hold secrets: nobody else may read them.
    fn open(&self, path: &Path, create: bool) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create(create).truncate(false).mode(0o600).open(path)
    }

    #[cfg(not(test))]
    fn device(&self, file: File, _name: &str) -> Result<Device, redb::DatabaseError> {
        FileBackend::new(file)
    }

    #[cfg(test)]
    fn device(&self, file: File, name: &str) -> Result<Device, redb::DatabaseError> {
        let inner = FileBackend::new(file)?;
        Ok(crate::tests::FailingBackend { inner, name: name.to_owned(), failing: self.failing.clone() })
    }

    /// Whether puts of so many bytes have room; if not, why.
    pub(crate) fn room(&self, bytes: usize) -> Result<(), Error> {
        let size = std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len());
        if size > self.file_bytes_max {
            let reason = format!("{} has {size} bytes, {} are allowed", self.path.display(), self.file_bytes_max);
            return Err(Error::NoSpace { reason });
        }
        let Ok(disk) = nix::sys::statvfs::statvfs(&self.path) else { return Ok(()) };
        let free = disk.blocks_available() * disk.fragment_size();
        // Pages are copied before they are changed: a few times the bytes are needed until they are in the file.
        if free < self.reserve_bytes + 4 * bytes as u64 {
            let reason = format!("the disk of {} has {free} bytes left", self.path.display());
            return Err(Error::NoSpace { reason });
        }
        Ok(())
    }

    /// How large the whole disk is, in bytes, if it says so.
    pub(crate) fn capacity(&self) -> Option<u64> {
        let disk = nix::sys::statvfs::statvfs(&self.directory).ok()?;
        Some(disk.blocks() * disk.fragment_size()).filter(|bytes| *bytes > 0)
    }

    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> Option<u64> {
        let length = |path: &Path| std::fs::metadata(path).ok().map(|metadata| metadata.len());
        let logs = self.logs().ok()?.iter().filter_map(|(_, path)| length(path)).sum::<u64>();
        Some(length(&self.path)? + logs)
    }

    /// Makes the file's name durable, too.
    pub(crate) fn sync_directory(&self) -> Result<(), OpenError> {
        File::open(&self.directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|error| io_error("sync directory", &self.directory, &error))
    }

    pub(crate) fn damaged(&self, reason: impl Into<String>) -> OpenError {
        OpenError::Damaged { path: self.path.clone(), reason: reason.into() }
    }

    pub(crate) fn classify(&self, error: redb::Error) -> OpenError {
        match error {
            redb::Error::DatabaseAlreadyOpen => OpenError::InUse { path: self.path.clone() },
            redb::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => self.damaged(error.to_string()),
            redb::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.damaged("it ends too early"),
            redb::Error::Io(error) => io_error("read or write", &self.path, &error),
            other => self.damaged(other.to_string()),
        }
    }
}

/// The logs in a directory, by number.
pub(crate) fn logs(directory: &Path) -> Result<Vec<(u32, PathBuf)>, OpenError> {
    let failed = |error: io::Error| io_error("read directory", directory, &error);
    let mut logs = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let number = entry.file_name().to_str().and_then(|name| name.strip_prefix(LOG)?.parse().ok());
        logs.extend(number.map(|number| (number, entry.path())));
    }
    logs.sort_unstable();
    Ok(logs)
}

pub(crate) fn io_error(tried: &'static str, path: &Path, error: &io::Error) -> OpenError {
    OpenError::Io { tried, path: path.to_owned(), reason: error.to_string() }
}

/// What a failed read or write of the file means to the store's caller.
pub(crate) fn store_error(error: &redb::Error) -> Error {
    match error {
        redb::Error::Corrupted(reason) => Error::Corrupt { reason: reason.clone() },
        redb::Error::Io(error) => store_io_error(error),
        other => Error::Unavailable { reason: other.to_string() },
    }
}

pub(crate) fn store_io_error(error: &io::Error) -> Error {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    match error.kind() {
        StorageFull | QuotaExceeded | FileTooLarge => Error::NoSpace { reason: error.to_string() },
        _ => Error::Unavailable { reason: error.to_string() },
    }
}
