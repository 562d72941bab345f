//! The file: its tables, how values lie in them, and how it is opened.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use longshore_core::store::{Error, KeyValue, Revision};
use redb::backends::FileBackend;
use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::{OpenError, Options};

/// Keys and their values, each behind a [header](Stored).
pub(crate) const KEYS: TableDefinition<&str, &[u8]> = TableDefinition::new("keys");
/// For keys that expire: when, in milliseconds since 1970, and the time to live that was given, in milliseconds.
pub(crate) const EXPIRY: TableDefinition<&str, (i64, u64)> = TableDefinition::new("expiry");
/// Numbers by name.
pub(crate) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// In [`META`]: the revision of the last commit.
pub(crate) const META_REVISION: &str = "revision";
/// In [`META`]: the format of all tables.
const META_FORMAT: &str = "format";
/// The format that this version writes. Whoever changes the tables above raises it.
const FORMAT: u64 = 1;

/// The name of the file in its directory.
const FILE: &str = "store.redb";

/// A value as it lies in the file: revision and creation, little-endian, then the bytes.
pub(crate) struct Stored<'a> {
    pub(crate) revision: Revision,
    pub(crate) created: Revision,
    pub(crate) value: &'a [u8],
}

impl<'a> Stored<'a> {
    const HEADER: usize = 16;

    pub(crate) fn decode(raw: &'a [u8]) -> Result<Self, redb::Error> {
        let number = |at: usize| raw.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
        match (number(0), number(8)) {
            (Some(revision), Some(created)) => Ok(Self { revision, created, value: &raw[Self::HEADER..] }),
            _ => Err(redb::Error::Corrupted(format!("a value of {} bytes has no header", raw.len()))),
        }
    }

    pub(crate) fn encode(&self, into: &mut Vec<u8>) {
        into.clear();
        into.extend_from_slice(&self.revision.to_le_bytes());
        into.extend_from_slice(&self.created.to_le_bytes());
        into.extend_from_slice(self.value);
    }

    pub(crate) fn at(&self, key: &str) -> KeyValue {
        KeyValue {
            key: key.to_owned(),
            value: Bytes::copy_from_slice(self.value),
            revision: self.revision,
            created: self.created,
        }
    }
}

/// Where the file is and how it is to be opened; knows how to do it again after a failure.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) path: PathBuf,
    cache_bytes: usize,
    verify_bytes_max: u64,
    reserve_bytes: u64,
    file_bytes_max: u64,
    #[cfg(test)]
    pub(crate) failing: std::sync::Arc<tests::Failing>,
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
            path: directory.join(FILE),
            cache_bytes: options.cache_bytes,
            verify_bytes_max: options.verify_bytes_max,
            reserve_bytes: options.reserve_bytes,
            file_bytes_max: options.file_bytes_max,
            #[cfg(test)]
            failing: Default::default(),
        })
    }

    /// Opens the file and answers it with the revision that it holds.
    pub(crate) fn open(&self, opening: Opening) -> Result<(Database, Revision), OpenError> {
        // Values may hold secrets: nobody else may read them.
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(opening == Opening::Start)
            .truncate(false)
            .mode(0o600)
            .open(&self.path)
            .map_err(|error| io_error("open", &self.path, &error))?;
        let size = file.metadata().map_err(|error| io_error("measure", &self.path, &error))?.len();
        let backend = FileBackend::new(file).map_err(|error| self.classify(error.into()))?;
        #[cfg(test)]
        let backend = tests::FailingBackend { inner: backend, failing: self.failing.clone() };
        let mut builder = Builder::new();
        let verify = opening == Opening::Start && size > 0 && size <= self.verify_bytes_max;
        builder.set_cache_size(self.cache_bytes).set_check_integrity_on_open(verify);
        // A damaged file that is not verified may also make the library panic.
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let database = builder.create_with_backend(backend)?;
            let state = if size == 0 { None } else { read_meta(&database)? };
            Ok((database, state))
        }));
        let (database, state) = match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => return Err(self.classify(error)),
            Err(_) => return Err(self.damaged("its pages do not fit together")),
        };
        match state {
            None => {
                initialize(&database).map_err(|error| self.classify(error))?;
                self.sync_directory()?;
                Ok((database, 1))
            }
            Some((FORMAT, Some(revision))) => Ok((database, revision)),
            Some((FORMAT, None)) => Err(self.damaged("it holds no revision")),
            Some((found, _)) => Err(OpenError::Format { path: self.path.clone(), found, known: FORMAT }),
        }
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
        // Pages are copied before they are changed: a few times the bytes are needed until the commit is done.
        if free < self.reserve_bytes + 4 * bytes as u64 {
            let reason = format!("the disk of {} has {free} bytes left", self.path.display());
            return Err(Error::NoSpace { reason });
        }
        Ok(())
    }

    /// Makes the file's name durable, too.
    fn sync_directory(&self) -> Result<(), OpenError> {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|error| io_error("sync directory", directory, &error))
    }

    fn damaged(&self, reason: impl Into<String>) -> OpenError {
        OpenError::Damaged { path: self.path.clone(), reason: reason.into() }
    }

    fn classify(&self, error: redb::Error) -> OpenError {
        match error {
            redb::Error::DatabaseAlreadyOpen => OpenError::InUse { path: self.path.clone() },
            redb::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => self.damaged(error.to_string()),
            redb::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.damaged("it ends too early"),
            redb::Error::Io(error) => io_error("read or write", &self.path, &error),
            other => self.damaged(other.to_string()),
        }
    }
}

fn io_error(tried: &'static str, path: &Path, error: &io::Error) -> OpenError {
    OpenError::Io { tried, path: path.to_owned(), reason: error.to_string() }
}

/// Format and revision; `None` if the file was created but not initialized.
fn read_meta(database: &Database) -> Result<Option<(u64, Option<Revision>)>, redb::Error> {
    let meta = match database.begin_read()?.open_table(META) {
        Ok(meta) => meta,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let number = |name| Ok::<_, redb::Error>(ReadableTable::get(&meta, name)?.map(|found| found.value()));
    Ok(Some((number(META_FORMAT)?.unwrap_or(0), number(META_REVISION)?)))
}

/// Makes the tables of an empty store.
fn initialize(database: &Database) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    transaction.open_table(KEYS)?;
    transaction.open_table(EXPIRY)?;
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert(META_FORMAT, FORMAT)?;
        meta.insert(META_REVISION, 1)?;
    }
    transaction.commit()?;
    Ok(())
}

/// What a failed read or write means to the store's caller.
pub(crate) fn store_error(error: &redb::Error) -> Error {
    match error {
        redb::Error::Corrupted(reason) => Error::Corrupt { reason: reason.clone() },
        redb::Error::Io(error) if is_no_space(error) => Error::NoSpace { reason: error.to_string() },
        other => Error::Unavailable { reason: other.to_string() },
    }
}

fn is_no_space(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

#[cfg(test)]
pub(crate) mod tests;
