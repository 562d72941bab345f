use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use longshore_core::store::{Committed, ListOptions, Store, Transaction, WatchEvent};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use redb::{BackendError, StorageBackend};

use super::*;
use crate::EmbeddedStore;

/// A disk that fails when told to.
#[derive(Debug)]
pub(crate) struct Failing {
    /// Writes that end beyond this offset find no space.
    full_from: AtomicU64,
    /// The next read fails.
    read_once: AtomicBool,
    /// The sync that comes so many later fails, although it syncs; 0 for none.
    sync_in: AtomicU64,
    /// What a loss of power would leave, if somebody wants to know.
    power: Mutex<Option<Power>>,
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

    fn sync(&mut self) {
        for change in self.since.drain(..) {
            Self::apply(&mut self.synced, &change);
        }
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
            full_from: AtomicU64::new(u64::MAX),
            read_once: AtomicBool::new(false),
            sync_in: AtomicU64::new(0),
            power: Mutex::new(None),
        }
    }
}

#[derive(Debug)]
pub(crate) struct FailingBackend {
    pub(crate) inner: FileBackend,
    pub(crate) failing: Arc<Failing>,
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
        if let Some(power) = &mut *self.failing.power.lock().unwrap() {
            power.since.push(Change::Length(len));
        }
        self.inner.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()?;
        if let Some(power) = &mut *self.failing.power.lock().unwrap() {
            power.sync();
        }
        match self.failing.sync_in.load(Ordering::SeqCst) {
            0 => Ok(()),
            left => {
                self.failing.sync_in.store(left - 1, Ordering::SeqCst);
                if left == 1 { Err(io::Error::other("injected")) } else { Ok(()) }
            }
        }
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if offset + data.len() as u64 > self.failing.full_from.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if let Some(power) = &mut *self.failing.power.lock().unwrap() {
            power.since.push(Change::Write(offset, data.to_vec()));
        }
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
    // Small, so that reads reach the disk.
    let options = Options { cache_bytes: 0, ..Options::default() };
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
    failing.full_from.store(before.bytes.unwrap(), Ordering::SeqCst);
    let big = || (0..100).fold(Transaction::new(), |all, index| all.put(format!("/b/{index}"), vec![b'x'; 14_000]));
    for _ in 0..3 {
        let refused = store.commit(big()).await;
        assert!(matches!(refused, Err(Error::NoSpace { .. })), "{refused:?}");
        assert_eq!(store.list("/", ListOptions::default()).await.unwrap().entries.len(), 100);
        assert_eq!(store.get("/0099").await.unwrap().revision, before.revision);
        assert!(store.get("/b/0").await.unwrap().value.is_none());
    }
    failing.full_from.store(u64::MAX, Ordering::SeqCst);
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

/// Whether a commit whose sync failed happened is not known to its caller, but to the store, which hides nothing.
#[tokio::test]
async fn after_a_failed_sync_reads_and_watches_agree() {
    let mut unseen = 0;
    for sync in 1..=4 {
        let directory = tempfile::tempdir().unwrap();
        let (store, failing) = failing(directory.path());
        fill(&store, 0, 5).await.unwrap();
        let before = store.status().await.unwrap().revision;
        let mut watch = store.watch("/", before).await.unwrap();
        failing.sync_in.store(sync, Ordering::SeqCst);
        let mut happened = Vec::new();
        for index in 0..3 {
            let put = Transaction::new().put(format!("/new/{index}"), "x");
            match store.commit(put).await {
                Ok(Committed::Done(_)) => {}
                Err(Error::Unavailable { .. }) => happened.push(index),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(failing.sync_in.load(Ordering::SeqCst), 0, "the failure came");
        let page = store.list("/new/", ListOptions::default()).await.unwrap();
        assert!((2..=3).contains(&page.entries.len()) && happened.len() <= 1, "sync {sync}: {happened:?}");
        let mut seen = 0;
        let ended = loop {
            match watch.next().await.unwrap() {
                Ok(WatchEvent::Changes { changes, .. }) => seen += changes.len(),
                Ok(WatchEvent::Progress(revision)) if revision == page.revision => break false,
                Ok(WatchEvent::Progress(_)) => {}
                Err(Error::Compacted { oldest, .. }) => {
                    assert!(oldest > before && oldest <= page.revision);
                    break true;
                }
                Err(other) => panic!("{other}"),
            }
        };
        assert!(ended || seen == page.entries.len(), "sync {sync}: the watch skipped something");
        unseen += usize::from(ended);
        drop(store);
        let again = open(directory.path()).unwrap().list("/new/", ListOptions::default()).await.unwrap();
        assert_eq!(again, page);
    }
    assert!((1..4).contains(&unseen), "some of the failed syncs wrote the commit, some did not: {unseen}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loss_of_power_loses_nothing_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options::default();
    let disk = Disk::new(directory.path(), &options).unwrap();
    *disk.failing.power.lock().unwrap() = Some(Power::default());
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
    let lost = tempfile::tempdir().unwrap();
    for _ in 0..60 {
        // Somewhere in the next few commits.
        let target = acknowledged.load(Ordering::SeqCst) + random.random_range(1..6);
        while acknowledged.load(Ordering::SeqCst) < target {
            tokio::task::yield_now().await;
        }
        let (least, image) = {
            let power = failing.power.lock().unwrap();
            let least = acknowledged.load(Ordering::SeqCst);
            (least, power.as_ref().unwrap().lose(&mut random))
        };
        std::fs::write(lost.path().join(FILE), image).unwrap();
        let found = open(lost.path()).unwrap();
        let page = found.list("/", ListOptions::default()).await.unwrap();
        assert!(page.revision >= least, "{least} was acknowledged, {} is there", page.revision);
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
        assert_eq!(store.list("/", ListOptions::default()).await.unwrap().entries.len(), 2);
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
    assert!(matches!(refused, OpenError::Format { found: 7, known: 1, .. }), "{refused}");
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
