mod flight;
mod frozen;
mod logs;

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use longshore_core::store::{Committed, Error, HistoryLimits, ListOptions, Store, Transaction, WatchEvent};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use redb::backends::FileBackend;
use redb::{BackendError, Database, ReadableDatabase, StorageBackend};

use crate::base::{FORMAT, META, META_FORMAT};
use crate::disk::{Disk, FILE};
use crate::{EmbeddedStore, OpenError, Options};

/// A disk that fails when told to.
#[derive(Debug)]
pub(crate) struct Failing {
    /// No file grows.
    full: AtomicBool,
    /// The next read fails.
    read_once: AtomicBool,
    /// The sync of a log that comes so many later fails, although it syncs; 0 for none.
    sync_in: AtomicU64,
    /// How many fail then, one after the other.
    sync_failures: AtomicU64,
    /// Syncs of logs that were begun; they do not go on while somebody holds them.
    syncs: AtomicU64,
    held: Mutex<()>,
    /// What a loss of power would leave of each file, if somebody wants to know.
    power: Mutex<Option<BTreeMap<String, Power>>>,
}

/// A file as the disk has it: what was synced, and the writes since, of which a loss of power leaves any part.
#[derive(Debug, Default)]
struct Power {
    synced: Vec<u8>,
    since: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Length(u64),
    Write(u64, Vec<u8>),
}

impl Power {
    fn apply(image: &mut Vec<u8>, change: &Change) {
        match change {
            Change::Length(length) => image.resize(*length as usize, 0),
            Change::Write(offset, data) => {
                let (start, end) = (*offset as usize, *offset as usize + data.len());
                image.resize(image.len().max(end), 0);
                image[start..end].copy_from_slice(data);
            }
        }
    }

    /// The oldest so many writes are synced: those that came before the sync began.
    fn sync(&mut self, writes: usize) {
        for change in self.since.drain(..writes) {
            Self::apply(&mut self.synced, &change);
        }
    }

    /// The file after the process was killed now.
    fn written(&self) -> Vec<u8> {
        let mut image = self.synced.clone();
        self.since.iter().for_each(|change| Self::apply(&mut image, change));
        image
    }

    /// The file after a loss of power now: each unsynced write is there, or not, or half.
    fn lose(&self, random: &mut Pcg64) -> Vec<u8> {
        let mut image = self.synced.clone();
        for change in &self.since {
            match (change, random.random_range(0..3)) {
                (_, 0) => {}
                (Change::Write(offset, data), 1) if data.len() > 512 => {
                    let half = random.random_range(0..data.len() / 512) * 512;
                    Self::apply(&mut image, &Change::Write(*offset, data[..half].to_vec()));
                }
                (change, _) => Self::apply(&mut image, change),
            }
        }
        image
    }
}

impl Default for Failing {
    fn default() -> Self {
        Self {
            full: AtomicBool::new(false),
            read_once: AtomicBool::new(false),
            sync_in: AtomicU64::new(0),
            sync_failures: AtomicU64::new(1),
            syncs: AtomicU64::new(0),
            held: Mutex::new(()),
            power: Mutex::new(None),
        }
    }
}

#[derive(Debug)]
pub(crate) struct FailingBackend {
    pub(crate) inner: FileBackend,
    pub(crate) name: String,
    pub(crate) failing: Arc<Failing>,
}

impl FailingBackend {
    fn record(&self, change: impl FnOnce(&mut Power)) {
        if let Some(power) = &mut *self.failing.power.lock().unwrap() {
            change(power.entry(self.name.clone()).or_default());
        }
    }

    fn grow(&self, end: u64) -> io::Result<()> {
        let full = self.failing.full.load(Ordering::SeqCst) && end > self.inner.len()?;
        if full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl StorageBackend for FailingBackend {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if self.failing.read_once.swap(false, Ordering::SeqCst) {
            return Err(io::Error::other("injected"));
        }
        self.inner.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.grow(len)?;
        self.record(|power| power.since.push(Change::Length(len)));
        self.inner.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        let mut writes = 0;
        self.record(|power| writes = power.since.len());
        if self.name != FILE {
            self.failing.syncs.fetch_add(1, Ordering::SeqCst);
            drop(self.failing.held.lock());
        }
        self.inner.sync_data()?;
        self.record(|power| power.sync(writes));
        if self.name == FILE {
            return Ok(());
        }
        match self.failing.sync_in.load(Ordering::SeqCst) {
            0 => Ok(()),
            1 => {
                let left = self.failing.sync_failures.fetch_sub(1, Ordering::SeqCst) - 1;
                self.failing.sync_in.store(left.min(1), Ordering::SeqCst);
                Err(io::Error::other("injected"))
            }
            left => {
                self.failing.sync_in.store(left - 1, Ordering::SeqCst);
                Ok(())
            }
        }
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.grow(offset + data.len() as u64)?;
        self.record(|power| power.since.push(Change::Write(offset, data.to_vec())));
        self.inner.write(offset, data)
    }
    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }
    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }
    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }
    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }
    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }
    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}

fn open(directory: &Path) -> Result<EmbeddedStore, OpenError> {
    EmbeddedStore::open(directory, Options::default())
}

fn failing(directory: &Path) -> (EmbeddedStore, Arc<Failing>) {
    // Small, so that reads reach the disk, and the file is written often.
    let options = Options { cache_bytes: 0, log_bytes: 64 << 10, logs_max: 0, ..Options::default() };
    let disk = Disk::new(directory, &options).unwrap();
    let failing = Arc::clone(&disk.failing);
    (EmbeddedStore::start(disk, options).unwrap(), failing)
}

async fn fill(store: &EmbeddedStore, from: usize, to: usize) -> Result<(), Error> {
    for index in from..to {
        let put = Transaction::new().put(format!("/{index:04}"), vec![b'x'; 4000]);
        assert!(matches!(store.commit(put).await?, Committed::Done(_)));
    }
    Ok(())
}

#[tokio::test]
async fn a_full_disk_refuses_puts_and_goes_on_reading_and_recovers() {
    let directory = tempfile::tempdir().unwrap();
    let (store, failing) = failing(directory.path());
    fill(&store, 0, 100).await.unwrap();
    let before = store.status().await.unwrap();
    let mut watch = store.watch("/", before.revision).await.unwrap();
    failing.full.store(true, Ordering::SeqCst);
    let big = || (0..100).fold(Transaction::new(), |all, index| all.put(format!("/b/{index}"), vec![b'x'; 14_000]));
    for _ in 0..3 {
        let refused = store.commit(big()).await;
        assert!(matches!(refused, Err(Error::NoSpace { .. })), "{refused:?}");
        assert_eq!(store.list("/", ListOptions::default()).await.unwrap().entries.len(), 100);
        assert_eq!(store.get("/0099").await.unwrap().revision, before.revision);
        assert!(store.get("/b/0").await.unwrap().value.is_none());
    }
    failing.full.store(false, Ordering::SeqCst);
    assert_eq!(store.commit(big()).await, Ok(Committed::Done(before.revision + 1)));
    loop {
        match watch.next().await.unwrap().unwrap() {
            WatchEvent::Changes { revision, changes } => {
                assert_eq!((revision, changes.len()), (before.revision + 1, 100));
                break;
            }
            WatchEvent::Progress(revision) => assert_eq!(revision, before.revision),
        }
    }
    drop(store);
    let again = open(directory.path()).unwrap();
    assert_eq!(again.status().await.unwrap().keys, Some(200));
}

#[tokio::test]
async fn a_failed_read_is_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let (store, failing) = failing(directory.path());
    fill(&store, 0, 50).await.unwrap();
    for _ in 0..5 {
        failing.read_once.store(true, Ordering::SeqCst);
        assert_eq!(store.list("/", ListOptions::default()).await.unwrap().entries.len(), 50);
        assert!(!failing.read_once.load(Ordering::SeqCst), "the read reached the disk");
        assert!(store.get("/0007").await.unwrap().value.is_some());
    }
    fill(&store, 50, 60).await.unwrap();
    assert_eq!(store.status().await.unwrap().keys, Some(60));
}

/// A commit whose sync failed did not happen, whatever the disk has of it: a new log says so.
#[tokio::test]
async fn after_a_failed_sync_all_agree_that_nothing_happened() {
    for (sync, failures) in [(1, 1), (2, 1), (3, 1), (1, 2), (2, 3), (2, 5)] {
        let directory = tempfile::tempdir().unwrap();
        let (store, failing) = failing(directory.path());
        fill(&store, 0, 5).await.unwrap();
        let before = store.status().await.unwrap().revision;
        let mut watch = store.watch("/", before).await.unwrap();
        failing.sync_failures.store(failures, Ordering::SeqCst);
        failing.sync_in.store(sync, Ordering::SeqCst);
        let mut acknowledged = Vec::new();
        for index in 0..6 {
            let key = format!("/new/{index}");
            match store.commit(Transaction::new().put(key.clone(), "x")).await {
                Ok(Committed::Done(_)) => acknowledged.push(key),
                Err(Error::Unavailable { .. }) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(failing.sync_in.load(Ordering::SeqCst), 0, "the failures came");
        assert!((3..6).contains(&acknowledged.len()), "{acknowledged:?}");
        let keys = |entries: &[longshore_core::store::KeyValue]| {
            entries.iter().map(|entry| entry.key.clone()).collect::<Vec<_>>()
        };
        let page = store.list("/new/", ListOptions::default()).await.unwrap();
        assert_eq!(keys(&page.entries), acknowledged, "sync {sync}, {failures} failures");
        let mut seen = Vec::new();
        while seen.len() < acknowledged.len() {
            match watch.next().await.unwrap().unwrap() {
                WatchEvent::Changes { changes, .. } => seen.extend(changes.into_iter().map(|change| change.key)),
                WatchEvent::Progress(_) => {}
            }
        }
        assert_eq!(seen, acknowledged);
        // As if the process were killed now.
        let killed = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(directory.path()).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), killed.path().join(entry.file_name())).unwrap();
        }
        let again = open(killed.path()).unwrap().list("/new/", ListOptions::default()).await.unwrap();
        assert_eq!(again, page);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loss_of_power_loses_nothing_acknowledged() {
    // All goes to the file at once, and only what lasts; one frame after the other, and each while the one before is synced.
    for (logs_max, batch_max) in [(0, 256), (4, 256), (4, 1)] {
        power_is_lost(Options { log_bytes: 20 << 10, logs_max, batch_max, ..Options::default() }).await;
    }
}

async fn power_is_lost(options: Options) {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::new(directory.path(), &options).unwrap();
    *disk.failing.power.lock().unwrap() = Some(BTreeMap::new());
    let failing = Arc::clone(&disk.failing);
    let store = Arc::new(EmbeddedStore::start(disk, options).unwrap());
    let (acknowledged, stop) = (Arc::new(AtomicU64::new(1)), Arc::new(AtomicBool::new(false)));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..4 {
        let (store, acknowledged, stop) = (Arc::clone(&store), Arc::clone(&acknowledged), Arc::clone(&stop));
        writers.spawn(async move {
            for n in 0_usize.. {
                let value = vec![b'a' + (n % 26) as u8; n % 11 * 500];
                let put = Transaction::new().put(format!("/{writer}/{}", n % 50), value);
                let Ok(Committed::Done(revision)) = store.commit(put).await else { panic!("the put is possible") };
                acknowledged.fetch_max(revision, Ordering::SeqCst);
                if stop.load(Ordering::SeqCst) {
                    break;
                }
            }
        });
    }
    let mut random = Pcg64::seed_from_u64(7);
    for _ in 0..40 {
        let lost = tempfile::tempdir().unwrap();
        // Somewhere in the next few commits.
        let target = acknowledged.load(Ordering::SeqCst) + random.random_range(1..6);
        while acknowledged.load(Ordering::SeqCst) < target {
            tokio::task::yield_now().await;
        }
        let least = {
            let power = failing.power.lock().unwrap();
            let least = acknowledged.load(Ordering::SeqCst);
            for (name, power) in power.as_ref().unwrap() {
                std::fs::write(lost.path().join(name), power.lose(&mut random)).unwrap();
            }
            least
        };
        let found = open(lost.path()).unwrap();
        let page = found.list("/", ListOptions::default()).await.unwrap();
        assert!(page.revision >= least, "{least} was acknowledged, {} is there", page.revision);
        // What was on its way and not durable may have lasted: nobody knows of it yet.
        while store.status().await.unwrap().revision < page.revision {
            tokio::task::yield_now().await;
        }
        let then = store.list("/", ListOptions { revision: Some(page.revision), ..Default::default() }).await.unwrap();
        assert_eq!(page.entries, then.entries, "at {}", page.revision);
    }
    stop.store(true, Ordering::SeqCst);
    writers.join_all().await;
}

#[tokio::test]
async fn little_free_space_and_a_large_file_refuse_puts_but_not_deletes() {
    for options in [
        Options { reserve_bytes: u64::MAX / 4, ..Options::default() },
        Options { file_bytes_max: 1, ..Options::default() },
    ] {
        let directory = tempfile::tempdir().unwrap();
        fill(&open(directory.path()).unwrap(), 0, 3).await.unwrap();
        let store = EmbeddedStore::open(directory.path(), options).unwrap();
        assert!(matches!(fill(&store, 3, 4).await, Err(Error::NoSpace { .. })));
        assert_eq!(store.commit(Transaction::new().delete("/0000")).await, Ok(Committed::Done(5)));
        // As the registry deletes a pod of a node that has others.
        let both = Transaction::new().delete("/0001").put("/0002", "less");
        assert_eq!(store.commit(both).await, Ok(Committed::Done(6)));
        let left = store.list("/", ListOptions::default()).await.unwrap().entries;
        assert_eq!(
            left.iter().map(|entry| (&*entry.key, &*entry.value)).collect::<Vec<_>>(),
            [("/0002", &b"less"[..])]
        );
    }
}

#[tokio::test]
async fn a_second_one_is_refused_until_the_first_is_closed() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(directory.path()).unwrap();
    let refused = open(directory.path()).unwrap_err();
    assert!(matches!(refused, OpenError::InUse { .. }), "{refused}");
    fill(&first, 0, 1).await.unwrap();
    first.close().await;
    assert_eq!(fill(&first, 0, 1).await, Err(Error::Closed));
    assert_eq!(first.get("/0000").await, Err(Error::Closed));
    assert!(matches!(first.watch("/", 2).await.err(), Some(Error::Closed)));
    let second = open(directory.path()).unwrap();
    assert!(second.get("/0000").await.unwrap().value.is_some());
    drop(first);
    fill(&second, 1, 2).await.unwrap();
}

#[tokio::test]
async fn what_is_not_a_store_or_no_longer_one_is_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE);
    std::fs::write(&path, b"#!/bin/sh\necho no store\n".repeat(1000)).unwrap();
    let refused = open(directory.path()).unwrap_err();
    assert!(matches!(refused, OpenError::Damaged { .. }), "{refused}");
    std::fs::remove_file(&path).unwrap();

    fill(&open(directory.path()).unwrap(), 0, 200).await.unwrap();
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let refused = open(directory.path()).unwrap_err();
    assert!(matches!(refused, OpenError::Damaged { .. }), "{refused}");

    // One changed byte in a value that is in use.
    let position = whole.windows(100).position(|window| window.iter().all(|byte| *byte == b'x')).unwrap();
    let mut flipped = whole.clone();
    for at in (position..whole.len()).step_by(4096).filter(|at| whole[*at] == b'x').take(20) {
        flipped[at] = b'y';
    }
    std::fs::write(&path, &flipped).unwrap();
    let refused = open(directory.path()).unwrap_err();
    assert!(matches!(refused, OpenError::Damaged { .. }), "{refused}");

    std::fs::write(&path, &whole).unwrap();
    assert_eq!(open(directory.path()).unwrap().status().await.unwrap().keys, Some(200));
}

#[test]
fn another_format_is_named() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()).unwrap());
    let database = Database::create(directory.path().join(FILE)).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert(META_FORMAT, 7).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let refused = open(directory.path()).unwrap_err();
    assert!(matches!(refused, OpenError::Format { found: 7, known: FORMAT, .. }), "{refused}");
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let refused = open(&file.join("store")).unwrap_err();
    assert!(refused.to_string().contains("cannot create directory"), "{refused}");
}

#[test]
fn nobody_else_may_read_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let inner = directory.path().join("data");
    drop(open(&inner).unwrap());
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&inner), mode(&inner.join(FILE))), (0o700, 0o600));
}

/// The tables as the first format had them. They must stay as they are here.
#[tokio::test]
async fn a_file_that_cannot_grow_stops_puts_but_neither_deletes_nor_reads() {
    let directory = tempfile::tempdir().unwrap();
    let (store, failing) = failing(directory.path());
    fill(&store, 0, 200).await.unwrap();
    failing.full.store(true, Ordering::SeqCst);
    let mut refused = None;
    let mut done = 0;
    for index in 200..2000 {
        match fill(&store, index, index + 1).await {
            Ok(()) => done += 1,
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    assert!(matches!(refused, Some(Error::NoSpace { .. })), "{refused:?} after {done}");
    assert!(matches!(store.commit(Transaction::new().delete("/0000")).await, Ok(Committed::Done(_))));
    assert_eq!(store.status().await.unwrap().keys, Some(199 + done));
    assert_eq!(store.list("/", ListOptions::default()).await.unwrap().entries.len() as u64, 199 + done);
    failing.full.store(false, Ordering::SeqCst);
    drop(store);
    let store = open(directory.path()).unwrap();
    assert_eq!(store.status().await.unwrap().keys, Some(199 + done));
    fill(&store, 3000, 3010).await.unwrap();
}

/// Pages of a few keys, where most of what was changed lately is gone again.
#[tokio::test]
async fn pages_are_whole_whatever_was_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    for index in 0..300 {
        store.commit(Transaction::new().put(format!("/{index:04}"), "x")).await.unwrap();
    }
    let then = store.status().await.unwrap().revision;
    for index in (0..300).filter(|index| index % 10 != 0) {
        store.commit(Transaction::new().delete(format!("/{index:04}"))).await.unwrap();
    }
    for (revision, all) in [(None, 30), (Some(then), 300)] {
        let mut keys = Vec::new();
        loop {
            let options = ListOptions { revision, limit: 7, after: keys.last().cloned() };
            let page = store.list("/", options).await.unwrap();
            assert!(page.entries.len() == 7 || !page.more, "a page of {}", page.entries.len());
            keys.extend(page.entries.into_iter().map(|entry| entry.key));
            if !page.more {
                break;
            }
        }
        assert_eq!(keys.len(), all);
        assert!(keys.is_sorted());
    }
}

#[tokio::test]
async fn a_snapshot_holds_one_revision_and_makes_a_store() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { log_bytes: 16 << 10, logs_max: 3, ..Options::default() };
    let store = EmbeddedStore::open(directory.path().join("store"), options).unwrap();
    fill(&store, 0, 100).await.unwrap();
    let hour = std::time::Duration::from_secs(3600);
    store.commit(Transaction::new().put_with_ttl("/0003", "x", hour).delete("/0004")).await.unwrap();
    let then = store.list("/", ListOptions::default()).await.unwrap();
    let file = directory.path().join("snapshot");
    let copied = store.snapshot(&file).await.unwrap();
    assert_eq!((copied.revision, copied.keys), (then.revision, 99));
    let again = store.snapshot(&file).await.unwrap_err().to_string();
    assert!(again.contains("exists already"), "{again}");
    fill(&store, 0, 200).await.unwrap();

    let new = directory.path().join("new");
    let restored = EmbeddedStore::restore(&file, &new, then.revision + 999).unwrap();
    assert_eq!((restored.revision, restored.keys), (then.revision + 1000, 99));
    let refused = EmbeddedStore::restore(&file, &new, 1000).unwrap_err();
    assert!(matches!(refused, OpenError::Occupied { .. }), "{refused}");
    let clock = longshore_core::clock::VirtualClock::new();
    let store = EmbeddedStore::open(&new, Options { clock: Arc::new(clock.clone()), ..Options::default() }).unwrap();
    let page = store.list("/", ListOptions::default()).await.unwrap();
    assert_eq!((page.entries, page.revision), (then.entries, then.revision + 1000));
    let mut watch = store.watch("/", page.revision).await.unwrap();
    clock.advance(hour * 2);
    loop {
        match watch.next().await.unwrap().unwrap() {
            WatchEvent::Changes { changes, .. } => {
                assert_eq!((changes[0].key.as_str(), &changes[0].value), ("/0003", &None));
                break;
            }
            WatchEvent::Progress(_) => {}
        }
    }
}

#[tokio::test]
async fn what_is_no_snapshot_makes_no_store() {
    let directory = tempfile::tempdir().unwrap();
    let new = directory.path().join("new");
    let missing = EmbeddedStore::restore(directory.path().join("missing"), &new, 0).unwrap_err().to_string();
    assert!(missing.contains("missing"), "{missing}");
    let file = directory.path().join("snapshot");
    let store = open(&directory.path().join("store")).unwrap();
    fill(&store, 0, 300).await.unwrap();
    store.snapshot(&file).await.unwrap();
    let whole = std::fs::read(&file).unwrap();
    let mut flipped = whole.clone();
    let position = whole.windows(100).position(|window| window.iter().all(|byte| *byte == b'x')).unwrap();
    flipped[position] = b'y';
    for bad in [&whole[..whole.len() / 2], &flipped, b"no snapshot"] {
        std::fs::write(&file, bad).unwrap();
        let refused = EmbeddedStore::restore(&file, &new, 0).unwrap_err();
        assert!(refused.to_string().contains(&file.display().to_string()), "{refused}");
        assert_eq!(std::fs::read_dir(&new).unwrap().count(), 0, "nothing is left");
    }
    std::fs::write(&file, &whole).unwrap();
    assert_eq!(EmbeddedStore::restore(&file, &new, 0).unwrap().keys, 300);
}

/// The sync that fails may be that of a new log's header, after which the log before must not go on.
#[tokio::test]
async fn whichever_sync_fails_what_is_acknowledged_after_it_is_not_lost() {
    for sync in 1..25 {
        let directory = tempfile::tempdir().unwrap();
        let options = Options { log_bytes: 8 << 10, logs_max: sync as usize % 3, ..Options::default() };
        let disk = Disk::new(directory.path(), &options).unwrap();
        let failing = Arc::clone(&disk.failing);
        let store = EmbeddedStore::start(disk, options).unwrap();
        failing.sync_in.store(sync, Ordering::SeqCst);
        let mut refused = Vec::new();
        for index in 0..20 {
            refused.extend(fill(&store, index, index + 1).await.err());
        }
        let page = store.list("/", ListOptions::default()).await.unwrap();
        assert!(page.entries.len() >= 19, "sync {sync}: {} are there, {refused:?}", page.entries.len());
        drop(store);
        let again = open(directory.path()).unwrap().list("/", ListOptions::default()).await.unwrap();
        assert_eq!(again, page, "sync {sync}, closed");
    }
}

/// As before, but the process is killed, wherever the second thread is.
#[tokio::test]
async fn whichever_sync_fails_a_kill_loses_nothing_acknowledged() {
    for sync in 1..25 {
        let directory = tempfile::tempdir().unwrap();
        let options = Options { log_bytes: 32 << 10, logs_max: sync as usize % 2, ..Options::default() };
        let disk = Disk::new(directory.path(), &options).unwrap();
        *disk.failing.power.lock().unwrap() = Some(BTreeMap::new());
        let failing = Arc::clone(&disk.failing);
        let store = EmbeddedStore::start(disk, options).unwrap();
        failing.sync_in.store(sync, Ordering::SeqCst);
        for index in 0..14 {
            // The one whose sync fails is not acknowledged.
            let _ = fill(&store, index, index + 1).await;
        }
        let page = store.list("/", ListOptions::default()).await.unwrap();
        let killed = tempfile::tempdir().unwrap();
        for (name, power) in failing.power.lock().unwrap().as_ref().unwrap() {
            std::fs::write(killed.path().join(name), power.written()).unwrap();
        }
        let again = open(killed.path()).unwrap().list("/", ListOptions::default()).await.unwrap();
        assert_eq!(again, page, "sync {sync}");
    }
}

#[tokio::test]
async fn logs_that_cannot_be_started_leave_no_files_behind() {
    let directory = tempfile::tempdir().unwrap();
    let (store, failing) = failing(directory.path());
    fill(&store, 0, 100).await.unwrap();
    failing.full.store(true, Ordering::SeqCst);
    for index in 0..100 {
        // Some have room yet.
        let _ = store.commit(Transaction::new().delete(format!("/{index:04}"))).await;
        let _ = fill(&store, 200 + index, 201 + index).await;
    }
    let logs = std::fs::read_dir(directory.path()).unwrap().count();
    assert!(logs <= 5, "{logs} files");
}

/// Of two logs without commits that count, one makes the other's void: neither may go before the file says so.
#[tokio::test]
async fn what_a_failed_sync_left_stays_void_whatever_is_killed_when() {
    let directory = tempfile::tempdir().unwrap();
    let (store, failing) = failing(directory.path());
    failing.sync_in.store(2, Ordering::SeqCst);
    assert!(fill(&store, 0, 1).await.is_err(), "its sync failed");
    let killed = |from: &Path| {
        let to = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), to.path().join(entry.file_name())).unwrap();
        }
        to
    };
    let first = killed(directory.path());
    let names = |directory: &Path| {
        let names = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name != FILE).collect::<std::collections::BTreeSet<_>>()
    };
    let logs = names(first.path());
    assert_eq!(logs.len(), 2);
    let store = open(first.path()).unwrap();
    assert_eq!(store.commit(Transaction::new().delete("/absent")).await, Ok(Committed::Done(1)));
    assert!(names(first.path()).is_superset(&logs), "both are there until the file says that they do not count");
    assert_eq!(open(killed(first.path()).path()).unwrap().status().await.unwrap().keys, Some(0));
}
