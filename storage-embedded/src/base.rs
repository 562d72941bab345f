//! The file: its tables, how values lie in them, how it is opened, and how it is brought up to date with the log.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use longshore_core::store::{Error, KeyValue, Revision};
use redb::{
    Builder, Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, StorageBackend, TableDefinition,
};

use crate::OpenError;
use crate::disk::{Device, Disk, Opening, store_error};
use crate::overlay::{Entry, Mark};
use crate::snapshot::Snapshot;

/// Keys and their values, each behind a [header](Stored).
pub(crate) const KEYS: TableDefinition<&str, &[u8]> = TableDefinition::new("keys");
/// For keys that expire: when, in milliseconds since 1970, and the time to live that was given, in milliseconds.
pub(crate) const EXPIRY: TableDefinition<&str, (i64, u64)> = TableDefinition::new("expiry");
/// Numbers by name.
pub(crate) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// In [`META`]: the revision that the tables are at.
const META_REVISION: &str = "revision";
/// In [`META`]: the format of all tables.
pub(crate) const META_FORMAT: &str = "format";
/// In [`META`]: logs before this one do not count.
const META_LOG: &str = "log";
/// In [`META`]: whether that log must be there (1) or need not (0).
const META_LOG_PRESENT: &str = "log-present";
/// The format that this version writes. Whoever changes the tables above, or the log, raises it.
pub(crate) const FORMAT: u64 = 2;
/// The format before there was a log: its tables are the same.
const FORMAT_WITHOUT_LOG: u64 = 1;

/// Which logs the file calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Logs before this one do not count.
    pub(crate) from: u64,
    /// Whether this one must be there.
    pub(crate) present: bool,
}

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

/// The file, open.
#[derive(Debug)]
pub(crate) struct Base {
    disk: Arc<Disk>,
    open: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    /// `None` after a failure, until the file could be opened again.
    database: Option<Database>,
    revision: Revision,
    /// Counts how often the file was opened.
    generation: u64,
}

impl Base {
    /// Opens the file, or makes it, and says which logs it calls for.
    pub(crate) fn open(disk: Arc<Disk>) -> Result<(Self, Snapshot, Wanted), OpenError> {
        let (database, meta) = open(&disk, Opening::Start)?;
        let snapshot = Snapshot::take(&database, meta.revision, 0).map_err(|error| disk.classify(error))?;
        let open = Open { database: Some(database), revision: meta.revision, generation: 0 };
        Ok((Self { disk, open: Mutex::new(open) }, snapshot, meta.wanted))
    }

    /// Brings the file to what these entries and `meta` say, in one step, and publishes what it holds then.
    pub(crate) fn write(
        &self,
        entries: &[(String, Entry)],
        meta: Meta,
        publish: impl FnOnce(Snapshot),
    ) -> Result<(), redb::Error> {
        let mut open = self.lock();
        if open.database.is_none() {
            self.open_again(&mut open)?;
        }
        let Some(database) = &open.database else { return Err(redb::Error::DatabaseClosed) };
        write(database, entries, meta)?;
        publish(Snapshot::take(database, meta.revision, open.generation)?);
        open.revision = meta.revision;
        Ok(())
    }

    /// Opens the file again, after a failure that closed it for reads and writes alike, and publishes what it holds; unless
    /// somebody did so since `generation`.
    pub(crate) fn revive(&self, generation: u64, publish: impl FnOnce(Snapshot)) -> Result<(), Error> {
        let mut open = self.lock();
        if open.database.is_some() && open.generation > generation {
            return Ok(());
        }
        let read = |error: redb::Error| store_error(&error);
        self.open_again(&mut open).map_err(read)?;
        if let Some(database) = &open.database {
            publish(Snapshot::take(database, open.revision, open.generation).map_err(read)?);
        }
        Ok(())
    }

    fn open_again(&self, held: &mut Open) -> Result<(), redb::Error> {
        // The old one holds the lock.
        held.database = None;
        let (database, meta) = open(&self.disk, Opening::Again)
            .map_err(|error| redb::Error::Io(std::io::Error::other(error.to_string())))?;
        if meta.revision < held.revision {
            let reason = format!("the file went back from revision {} to {}", held.revision, meta.revision);
            return Err(redb::Error::Corrupted(reason));
        }
        *held = Open { database: Some(database), revision: meta.revision, generation: held.generation + 1 };
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the file says of itself: it has what the logs before a revision came to, but for keys that changed again later. So it is
/// as of that revision only together with all logs after it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meta {
    pub(crate) revision: Revision,
    pub(crate) wanted: Wanted,
}

/// A file's format, and what it says of itself in a format that is known; `None` if it says nothing yet.
type Said = Option<(u64, Option<Meta>)>;

/// Opens the file, or makes it, and answers it with what it says of itself.
pub(crate) fn open(disk: &Disk, opening: Opening) -> Result<(Database, Meta), OpenError> {
    let device = disk.file(opening)?;
    let size = device.len().map_err(|error| disk.classify(error.into()))?;
    let (database, found) = open_device(disk, device, opening == Opening::Start && size <= disk.verify_bytes_max)?;
    match found {
        Some((FORMAT, Some(meta))) => {
            if opening == Opening::Start {
                disk.sync_directory()?;
            }
            Ok((database, meta))
        }
        None | Some((FORMAT_WITHOUT_LOG, _)) => {
            let revision = found.and_then(|(_, meta)| meta).map_or(1, |meta| meta.revision);
            let meta = Meta { revision, wanted: Wanted { from: 1, present: false } };
            write(&database, &[], meta).map_err(|error| disk.classify(error))?;
            disk.sync_directory()?;
            Ok((database, meta))
        }
        Some((FORMAT, None)) => Err(disk.damaged("it holds no revision")),
        Some((found, _)) => Err(OpenError::Format { path: disk.path.clone(), found, known: FORMAT }),
    }
}

/// The database on the device, with its format and the rest of what it says of itself; `None` if it says nothing yet.
fn open_device(disk: &Disk, device: Device, verify: bool) -> Result<(Database, Said), OpenError> {
    let size = device.len().map_err(|error| disk.classify(error.into()))?;
    let mut builder = Builder::new();
    builder.set_cache_size(disk.cache_bytes).set_check_integrity_on_open(verify && size > 0);
    // A damaged file that is not verified may also make the library panic.
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let database = builder.create_with_backend(device)?;
        let meta = if size == 0 { None } else { read_meta(&database)? };
        Ok((database, meta))
    }));
    match opened {
        Ok(Ok(opened)) => Ok(opened),
        Ok(Err(error)) => Err(disk.classify(error)),
        Err(_) => Err(disk.damaged("its pages do not fit together")),
    }
}

fn read_meta(database: &Database) -> Result<Said, redb::Error> {
    let meta = match database.begin_read()?.open_table(META) {
        Ok(meta) => meta,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let number = |name| Ok::<_, redb::Error>(ReadableTable::get(&meta, name)?.map(|found| found.value()));
    let format = number(META_FORMAT)?.unwrap_or(0);
    let wanted = Wanted { from: number(META_LOG)?.unwrap_or(1), present: number(META_LOG_PRESENT)? == Some(1) };
    Ok(Some((format, number(META_REVISION)?.map(|revision| Meta { revision, wanted }))))
}

/// Brings the tables, which are made if they are not there, to what these entries say, in one durable step.
pub(crate) fn write(database: &Database, entries: &[(String, Entry)], meta: Meta) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    // So that opening after a crash needs no look at the whole file. It costs a second sync, which nobody waits for.
    transaction.set_quick_repair(true);
    {
        let mut keys = transaction.open_table(KEYS)?;
        let mut expiry = transaction.open_table(EXPIRY)?;
        let mut buffer = Vec::new();
        for (key, entry) in entries {
            match &entry.value {
                Some(value) => {
                    let bytes = value.bytes.read()?;
                    let stored = Stored { revision: value.revision, created: value.created, value: &bytes };
                    stored.encode(&mut buffer);
                    keys.insert(key.as_str(), buffer.as_slice())?;
                }
                None => {
                    keys.remove(key.as_str())?;
                }
            }
            match entry.expiry {
                Mark::Untouched => {}
                Mark::Cleared => {
                    expiry.remove(key.as_str())?;
                }
                Mark::At(at, ttl) => {
                    expiry.insert(key.as_str(), (at, ttl))?;
                }
            }
        }
        let mut numbers = transaction.open_table(META)?;
        numbers.insert(META_FORMAT, FORMAT)?;
        numbers.insert(META_REVISION, meta.revision)?;
        numbers.insert(META_LOG, meta.wanted.from)?;
        numbers.insert(META_LOG_PRESENT, u64::from(meta.wanted.present))?;
    }
    transaction.commit()?;
    Ok(())
}

/// How many keys the file holds.
pub(crate) fn keys(database: &Database) -> Result<u64, redb::Error> {
    Ok(database.begin_read()?.open_table(KEYS)?.len()?)
}
