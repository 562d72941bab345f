use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures::StreamExt;
use longshore_core::store::{Committed, ListOptions, Store, Transaction};
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
}

impl Default for Failing {
    fn default() -> Self {
        Self { full_from: AtomicU64::new(u64::MAX), read_once: AtomicBool::new(false) }
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
        self.inner.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if offset + data.len() as u64 > self.failing.full_from.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
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
            longshore_core::store::WatchEvent::Changes { revision, changes } => {
                assert_eq!((revision, changes.len()), (before.revision + 1, 100));
                break;
            }
            longshore_core::store::WatchEvent::Progress(revision) => assert_eq!(revision, before.revision),
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
