//! The store as its users see it.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use async_trait::async_trait;
use longshore_core::store::{
    Committed, Ended, Error, Expiry, History, KeyValue, ListOptions, Operation, Page, Revision, Snapshot as Seen,
    Status, Store, Transaction, WatchStream,
};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use crate::batch::Asked;
use crate::disk::{Disk, store_error};
use crate::queue::Request;
use crate::snapshot::{Failed, Published, Step};
use crate::writer::Writer;
use crate::{OpenError, Options};

/// A durable [`Store`] in one file; see the [crate](crate) for what it promises.
///
/// Dropping it finishes the commits that wait, closes the file, and blocks the thread for as long as that takes (some
/// milliseconds); [`EmbeddedStore::close`] waits without blocking.
#[derive(Debug)]
pub struct EmbeddedStore {
    requests: mpsc::Sender<Request>,
    pub(crate) published: Published,
    history: History,
    expiry: Expiry,
    disk: Arc<Disk>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// Keys that a listing looks at before it gives way to other tasks.
const LIST_STEP: usize = 512;

/// How often a read is tried while the file has to be opened again.
const READ_TRIES: usize = 3;

impl EmbeddedStore {
    /// Opens the store in this directory; both are created if they do not exist.
    ///
    /// Keys with a time to live expire while a tokio runtime is there: that of the caller, or else that of the first
    /// commit with such a key.
    ///
    /// # Errors
    /// [`OpenError`]; nothing is changed then.
    pub fn open(directory: impl AsRef<Path>, options: Options) -> Result<Self, OpenError> {
        let disk = Disk::new(directory.as_ref(), &options)?;
        Self::start(disk, options)
    }

    pub(crate) fn start(disk: Disk, options: Options) -> Result<Self, OpenError> {
        let disk = Arc::new(disk);
        let writer = Writer::open(Arc::clone(&disk), &options)?;
        let (published, history) = (writer.published().clone(), writer.history().clone());
        let has_deadlines = writer.has_deadlines();
        let (requests, receiver) = mpsc::channel(options.queue_max.max(1));
        let thread = std::thread::Builder::new()
            .name("longshore-store".to_owned())
            .spawn(move || writer.run(receiver))
            .map_err(|error| OpenError::Io {
                tried: "start a writer for",
                path: disk.path.clone(),
                reason: error.to_string(),
            })?;
        let expiry = Expiry::new(options.clock);
        let store = Self { requests, published, history, expiry, disk, writer: Mutex::new(Some(thread)) };
        if has_deadlines {
            store.wake_expiry();
        }
        Ok(store)
    }

    /// Finishes the commits that wait and closes the file; afterwards every call answers [`Error::Closed`].
    pub async fn close(&self) {
        self.expiry.abort();
        let (reply, closed) = oneshot::channel();
        if self.requests.send(Request::Close { reply: Some(reply) }).await.is_ok() {
            // An error means that the writer is gone, and the file with it.
            let _ = closed.await;
        }
    }

    pub(crate) fn directory(&self) -> &Path {
        self.disk.directory()
    }

    fn wake_expiry(&self) {
        let requests = self.requests.downgrade();
        self.expiry.wake(move || {
            let requests = requests.clone();
            async move {
                let (reply, next) = oneshot::channel();
                let requests = requests.upgrade().ok_or(Ended)?;
                requests.send(Request::Expire { reply }).await.map_err(|_| Ended)?;
                drop(requests);
                next.await.map_err(|_| Ended)
            }
        });
    }

    /// Has the file opened again after a read failed.
    async fn revive(&self, generation: u64) -> Result<(), Error> {
        let (reply, revived) = oneshot::channel();
        self.requests.send(Request::Revive { generation, reply }).await.map_err(|_| Error::Closed)?;
        revived.await.map_err(|_| Error::Closed)?
    }

    /// After a failed read: whether to try again, or the error.
    async fn after_failed_read(&self, tries: usize, failed: Failed) -> Result<(), Error> {
        match store_error(&failed.error) {
            Error::Unavailable { .. } if tries + 1 < READ_TRIES => self.revive(failed.generation).await,
            error => Err(error),
        }
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        // The expiry task may hold a sender too, so the writer is told to end.
        while let Err(TrySendError::Full(_)) = self.requests.try_send(Request::Close { reply: None }) {
            std::thread::yield_now();
        }
        let writer = self.writer.get_mut().ok().and_then(Option::take);
        if writer.is_some_and(|writer| writer.join().is_err()) {
            tracing::error!(path = %self.disk.path.display(), "the store's writer had panicked");
        }
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn get(&self, key: &str) -> Result<Seen<Option<KeyValue>>, Error> {
        let mut tries = 0;
        loop {
            let (revision, found) = self.published.get(key)?;
            match found {
                Ok(value) => return Ok(Seen { value, revision }),
                Err(failed) => self.after_failed_read(tries, failed).await?,
            }
            tries += 1;
        }
    }

    async fn list(&self, prefix: &str, options: ListOptions) -> Result<Page, Error> {
        let (mut tries, mut whole) = (0, false);
        'again: loop {
            let mut listing = self.published.list(&self.history, prefix, &options, whole)?;
            loop {
                match listing.step(LIST_STEP) {
                    Ok(Step::Complete) => return Ok(listing.page),
                    Ok(Step::More) => tokio::task::yield_now().await,
                    Ok(Step::TakeAll) => {
                        whole = true;
                        continue 'again;
                    }
                    Err(error) => {
                        let failed = Failed { error, generation: listing.base.generation };
                        self.after_failed_read(tries, failed).await?;
                        tries += 1;
                        continue 'again;
                    }
                }
            }
        }
    }

    async fn commit(&self, transaction: Transaction) -> Result<Committed, Error> {
        transaction.check()?;
        let expires = transaction.operations.iter().any(|put| matches!(put, Operation::Put { ttl: Some(_), .. }));
        let (reply, outcome) = oneshot::channel();
        let place = self.requests.reserve().await.map_err(|_| Error::Closed)?;
        // With a place in the queue, so that no more of what it reads is in memory than waits there.
        place.send(Request::Commit { asked: Asked::new(transaction, &self.published), reply });
        let gone = |_| Error::Unavailable { reason: "the store's writer ended while it worked".to_owned() };
        let outcome = outcome.await.map_err(gone)??;
        if expires && matches!(outcome, Committed::Done(_)) {
            self.wake_expiry();
        }
        Ok(outcome)
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream, Error> {
        self.history.watch(prefix, after)
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.published.status()?;
        self.history.compact(revision)
    }

    async fn status(&self) -> Result<Status, Error> {
        let (revision, keys) = self.published.status()?;
        let bytes = self.disk.bytes();
        Ok(Status { revision, compacted: self.history.compacted(), keys: Some(keys), bytes })
    }
}
