//! Snapshots of a store, and stores made from them.
//!
//! A snapshot is a store's file, with nothing in it but the keys of one revision.

use std::fs::{File, OpenOptions};
use std::io::Seek;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use longshore_core::store::{Error, Revision};
use redb::backends::FileBackend;
use redb::{Builder, Database, ReadableTable};

use crate::base::{self, Meta, Stored, Wanted};
use crate::disk::{Disk, FILE, Opening, io_error, logs, store_error};
use crate::overlay::{Entry, Mark, Overlay};
use crate::snapshot::Snapshot;
use crate::{EmbeddedStore, OpenError, Options};

/// What a snapshot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// The revision that the keys are at.
    pub revision: Revision,
    /// Number of keys.
    pub keys: u64,
    /// Size of the snapshot's file, in bytes.
    pub bytes: u64,
}

/// Most keys that go to a snapshot in one step, and bytes after which it ends, so that memory stays bounded.
const STEP_KEYS: usize = 10_000;
const STEP_BYTES: usize = 8 << 20;

/// Bytes of memory for pages of a snapshot.
const CACHE_BYTES: usize = 4 << 20;

impl EmbeddedStore {
    /// Writes all keys, as of one revision, to a new file, while the store goes on. The file appears under its name when it is
    /// whole and synced.
    ///
    /// # Errors
    /// [`Error::NoSpace`], [`Error::Unavailable`] if the file exists or cannot be written; [`Error::Closed`].
    pub async fn snapshot(&self, file: impl AsRef<Path>) -> Result<Copied, Error> {
        let file = file.as_ref().to_owned();
        let (base, recent, revision) = self.published.all()?;
        let work = tokio::task::spawn_blocking(move || write_snapshot(&file, &base, &recent, revision));
        work.await.map_err(|error| Error::Unavailable { reason: error.to_string() })?
    }

    /// The same in a file without a name, which is gone when it is closed; it lies on the store's disk, and is at its beginning.
    ///
    /// # Errors
    /// As [`EmbeddedStore::snapshot`].
    pub async fn snapshot_unnamed(&self) -> Result<File, Error> {
        let (base, recent, revision) = self.published.all()?;
        let directory = self.directory().to_owned();
        let work = tokio::task::spawn_blocking(move || {
            let cannot = |error: std::io::Error| store_error(&error.into());
            let mut file = tempfile::tempfile_in(&directory).map_err(cannot)?;
            fill(file.try_clone().map_err(cannot)?, &base, &recent, revision)?;
            file.rewind().map_err(cannot)?;
            Ok(file)
        });
        work.await.map_err(|error| Error::Unavailable { reason: error.to_string() })?
    }

    /// Makes a store in `directory` from a snapshot, or from the file of a store that was closed. The snapshot is verified whole;
    /// of a store that was not closed, a copy of its file alone lacks what only its log has.
    ///
    /// Whoever saw the store that was lost may know revisions after the snapshot's: the new store goes on beyond `beyond`, so
    /// that none comes again with other content, if nobody ever saw a later one.
    ///
    /// # Errors
    /// [`OpenError::Occupied`] if there is a store already; what is wrong with the snapshot, or with the directory.
    pub fn restore(
        snapshot: impl AsRef<Path>,
        directory: impl AsRef<Path>,
        beyond: Revision,
    ) -> Result<Copied, OpenError> {
        let (snapshot, directory) = (snapshot.as_ref(), directory.as_ref());
        let options = Options { verify_bytes_max: u64::MAX, ..Options::default() };
        let disk = Disk::new(directory, &options)?;
        if disk.path.exists() || !disk.logs()?.is_empty() {
            return Err(OpenError::Occupied { path: directory.to_owned() });
        }
        if !snapshot.is_file() {
            let error = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(io_error("read snapshot", snapshot, &error));
        }
        // In a directory of its own until it is whole, for a copy may end half-way.
        let unfinished = Disk::new(&directory.join("restoring"), &options)?;
        // What an earlier one left.
        let _ = std::fs::remove_file(&unfinished.path);
        File::open(snapshot)
            .and_then(|mut from| std::io::copy(&mut from, &mut private(&unfinished.path)?))
            .map_err(|error| io_error("copy snapshot", snapshot, &error))?;
        let restored = (|| {
            let (database, meta) = base::open(&unfinished, Opening::Start).map_err(|error| error.at(snapshot))?;
            let beside = snapshot.parent().filter(|_| snapshot.file_name() == Some(FILE.as_ref())).map(logs);
            if meta.wanted.present || beside.transpose()?.is_some_and(|logs| !logs.is_empty()) {
                return Err(OpenError::Damaged {
                    path: snapshot.to_owned(),
                    reason: "it is the file of a store that was not closed, and nothing without the logs beside it"
                        .to_owned(),
                });
            }
            let meta = Meta {
                revision: meta.revision.max(beyond.saturating_add(1)),
                wanted: Wanted { from: 1, present: false },
            };
            base::write(&database, &[], meta).map_err(|error| unfinished.classify(error))?;
            let keys = base::keys(&database).map_err(|error| unfinished.classify(error))?;
            drop(database);
            std::fs::rename(&unfinished.path, &disk.path).map_err(|error| io_error("rename", &disk.path, &error))?;
            disk.sync_directory()?;
            Ok(Copied { revision: meta.revision, keys, bytes: disk.bytes().unwrap_or(0) })
        })();
        // Empty if all went well.
        let _ = std::fs::remove_dir_all(directory.join("restoring"));
        restored
    }
}

fn write_snapshot(file: &Path, base: &Snapshot, recent: &Overlay, revision: Revision) -> Result<Copied, Error> {
    if file.exists() {
        return Err(Error::Unavailable { reason: format!("{} exists already", file.display()) });
    }
    let unfinished = Unfinished::beside(file);
    let cannot = |error: std::io::Error| Error::Unavailable { reason: format!("{}: {error}", file.display()) };
    let copied = fill(private(&unfinished.path).map_err(cannot)?, base, recent, revision)?;
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let named = std::fs::rename(&unfinished.path, file).and_then(|()| File::open(directory)?.sync_all());
    let bytes = named.and_then(|()| std::fs::metadata(file)).map_err(cannot)?.len();
    Ok(Copied { revision, keys: copied, bytes })
}

/// Writes a snapshot to an empty file and syncs it; answers how many keys it has.
fn fill(file: File, base: &Snapshot, recent: &Overlay, revision: Revision) -> Result<u64, Error> {
    let read = |error: redb::Error| store_error(&error);
    let device = FileBackend::new(file).map_err(|error| read(error.into()))?;
    let created = Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(device);
    let database = created.map_err(|error| read(error.into()))?;
    let meta = Meta { revision, wanted: Wanted { from: 1, present: false } };
    copy(base, recent, &database, meta).map_err(read)
}

/// A new file that nobody else may read, for it holds Secrets.
fn private(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// Copies the file's keys with what is laid over them; answers how many there are.
fn copy(base: &Snapshot, recent: &Overlay, into: &Database, meta: Meta) -> Result<u64, redb::Error> {
    let (mut step, mut bytes) = (Vec::new(), 0);
    for entry in ReadableTable::iter(base.keys())? {
        let (key, raw) = entry?;
        let key = key.value();
        if recent.get(key).is_some() {
            continue;
        }
        let stored = Stored::decode(raw.value())?;
        bytes += key.len() + stored.value.len();
        let value = Some(stored.at(key).into());
        let expiry = ReadableTable::get(base.expiry(), key)?
            .map_or(Mark::Untouched, |found| Mark::At(found.value().0, found.value().1));
        step.push((key.to_owned(), Entry { value, expiry }));
        if step.len() >= STEP_KEYS || bytes >= STEP_BYTES {
            base::write(into, &std::mem::take(&mut step), meta)?;
            bytes = 0;
        }
    }
    step.extend(recent.iter().map(|(key, entry)| (key.clone(), entry.clone())));
    base::write(into, &step, meta)?;
    base::keys(into)
}

/// A file that is removed unless it got its name.
struct Unfinished {
    path: PathBuf,
}

impl Unfinished {
    fn beside(file: &Path) -> Self {
        let mut name = file.file_name().unwrap_or_default().to_owned();
        name.push(".unfinished");
        let unfinished = Self { path: file.with_file_name(name) };
        unfinished.remove();
        unfinished
    }

    fn remove(&self) {
        // There is none, mostly.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.remove();
    }
}
