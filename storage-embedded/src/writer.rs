//! The one thread that writes: it takes what waits, writes it with one sync, publishes it, and answers.

use std::sync::Arc;
use std::time::Duration;

use longshore_core::clock::Clock;
use longshore_core::store::{
    COMMIT_OPERATIONS_MAX, Committed, Deadlines, Error, History, HistoryLimits, Operation, Revision, Transaction,
};
use redb::{Database, Durability, ReadableDatabase, ReadableTable};
use tokio::sync::{mpsc, oneshot};

use crate::OpenError;
use crate::batch::{Batch, Done};
use crate::disk::{Disk, EXPIRY, Opening, store_error};
use crate::snapshot::{Published, Snapshot};

/// What the writer is asked to do.
#[derive(Debug)]
pub(crate) enum Request {
    Commit {
        transaction: Transaction,
        reply: oneshot::Sender<Result<Committed, Error>>,
    },
    /// Delete what has run out, and say when to come again.
    Expire {
        reply: oneshot::Sender<Option<Duration>>,
    },
    /// Reading from this generation of the open file failed: open it again.
    Revive {
        generation: u64,
        reply: oneshot::Sender<Result<(), Error>>,
    },
    /// Finish what waits, then end; the answer comes when the file is closed.
    Close {
        reply: Option<oneshot::Sender<()>>,
    },
}

/// One commit of a batch and who waits for it.
type Waiting = (Transaction, oneshot::Sender<Result<Committed, Error>>);

#[derive(Debug)]
pub(crate) struct Writer {
    disk: Disk,
    /// `None` after a failure, until the file could be opened again.
    database: Option<Database>,
    generation: u64,
    revision: Revision,
    deadlines: Deadlines,
    clock: Arc<dyn Clock>,
    history: History,
    published: Published,
    batch_max: usize,
}

/// Most bytes of transactions in one batch; a single one may be larger than what is left.
const BATCH_BYTES_MAX: usize = 4 << 20;

impl Writer {
    /// Opens the file and publishes what it holds.
    pub(crate) fn open(
        disk: Disk,
        clock: Arc<dyn Clock>,
        limits: HistoryLimits,
        batch_max: usize,
    ) -> Result<Self, OpenError> {
        let (database, revision) = disk.open(Opening::Start)?;
        let damaged = |error: redb::Error| OpenError::Damaged { path: disk.path.clone(), reason: error.to_string() };
        let deadlines = read_deadlines(&database, &*clock).map_err(damaged)?;
        let snapshot = Snapshot::take(&database, revision, 0).map_err(damaged)?;
        let published = Published::new(snapshot);
        let history = History::new(revision, limits);
        Ok(Self {
            disk,
            database: Some(database),
            generation: 0,
            revision,
            deadlines,
            clock,
            history,
            published,
            batch_max: batch_max.max(1),
        })
    }

    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    pub(crate) fn published(&self) -> &Published {
        &self.published
    }

    pub(crate) fn has_deadlines(&self) -> bool {
        !self.deadlines.is_empty()
    }

    /// Works until all senders are gone or somebody says [`Request::Close`]; what waits then is still done.
    pub(crate) fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut closers = Vec::new();
        while let Some(first) = requests.blocking_recv() {
            let (mut batch, mut bytes, mut next) = (Vec::new(), 0, Some(first));
            let mut other = None;
            while let Some(request) = next {
                match request {
                    // Nobody waits any more, so it need not happen.
                    Request::Commit { reply, .. } if reply.is_closed() => {}
                    Request::Commit { transaction, reply } => {
                        bytes += size(&transaction);
                        batch.push((transaction, reply));
                    }
                    request => {
                        other = Some(request);
                        break;
                    }
                }
                let full = batch.len() >= self.batch_max || bytes >= BATCH_BYTES_MAX;
                next = if full { None } else { requests.try_recv().ok() };
            }
            self.commit(batch);
            match other {
                None | Some(Request::Commit { .. }) => {}
                Some(Request::Expire { reply }) => {
                    // The expiry task may have ended with its runtime.
                    let _ = reply.send(self.expire());
                }
                Some(Request::Revive { generation, reply }) => {
                    let revived = if generation < self.generation { Ok(()) } else { self.revive() };
                    // The reader may have given up.
                    let _ = reply.send(revived);
                }
                Some(Request::Close { reply }) => {
                    closers.extend(reply);
                    requests.close();
                }
            }
        }
        // Closes the file and tells readers and watches.
        drop(self);
        for closer in closers {
            // Whoever closed the store may not have waited.
            let _ = closer.send(());
        }
    }

    /// Commits a batch and answers everyone in it.
    fn commit(&mut self, batch: Vec<Waiting>) {
        if batch.is_empty() {
            return;
        }
        let puts: usize = batch.iter().map(|(transaction, _)| put_bytes(transaction)).sum();
        let room = if puts > 0 { self.disk.room(puts) } else { Ok(()) };
        let (transactions, replies): (Vec<Option<Transaction>>, Vec<_>) = batch
            .into_iter()
            .map(|(transaction, reply)| {
                let refused = room.is_err() && put_bytes(&transaction) > 0;
                (if refused { None } else { Some(transaction) }, reply)
            })
            .unzip();
        let expected = self.revision;
        let outcome = self.write(&transactions);
        let answers: Vec<Result<Committed, Error>> = match outcome {
            Ok(outcomes) => {
                let mut outcomes = outcomes.into_iter();
                let no_space = room.err().unwrap_or(Error::Closed);
                let answer = |transaction: &Option<Transaction>| match transaction {
                    None => Err(no_space.clone()),
                    Some(_) => outcomes.next().unwrap_or(Err(Error::Closed)),
                };
                transactions.iter().map(answer).collect()
            }
            Err(error) => {
                let answer = self.after_failure(expected, &error);
                tracing::warn!(path = %self.disk.path.display(), %error, "a write failed");
                replies.iter().map(|_| Err(answer.clone())).collect()
            }
        };
        for (reply, answer) in replies.into_iter().zip(answers) {
            // Whoever asked may have gone.
            let _ = reply.send(answer);
        }
    }

    /// Writes the transactions that are left of a batch, in order, with one sync, and publishes them.
    fn write(&mut self, batch: &[Option<Transaction>]) -> Result<Vec<Result<Committed, Error>>, redb::Error> {
        if self.database.is_none() {
            self.revive().map_err(|error| redb::Error::Io(std::io::Error::other(error.to_string())))?;
        }
        let Some(database) = &self.database else { return Err(redb::Error::DatabaseClosed) };
        let mut transaction = database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        // Opening after a crash then takes no time however large the file is; the price is a second sync.
        transaction.set_quick_repair(true);
        let mut work = Batch::begin(&transaction, self.revision, &*self.clock, &self.deadlines)?;
        let mut outcomes = Vec::with_capacity(batch.len());
        for one in batch.iter().flatten() {
            outcomes.push(Ok(work.apply(one)?));
        }
        let Done { revision, commits, expiries } = work.finish()?;
        if commits.is_empty() {
            transaction.abort()?;
            return Ok(outcomes);
        }
        transaction.commit()?;
        self.revision = revision;
        for (key, deadline) in expiries {
            self.deadlines.set(&key, deadline);
        }
        let snapshot = Snapshot::take(database, revision, self.generation)?;
        self.published.replace(Some(Arc::new(snapshot)), || self.history.publish(commits));
        Ok(outcomes)
    }

    /// After a failed write, opens the file again, and says what became of the batch.
    fn after_failure(&mut self, expected: Revision, error: &redb::Error) -> Error {
        let failed = store_error(error);
        let reopened = self.revive();
        match (reopened, failed) {
            // The file holds what it held before: nothing has happened.
            (Ok(()), failed) if self.revision == expected => failed,
            (_, Error::NoSpace { reason } | Error::Corrupt { reason } | Error::Unavailable { reason }) => {
                Error::Unavailable { reason }
            }
            (_, other) => other,
        }
    }

    /// Opens the file again, after a failure that closed it for reads and writes alike.
    fn revive(&mut self) -> Result<(), Error> {
        let unavailable = |reason: String| Error::Unavailable { reason };
        // The old one holds the lock.
        self.database = None;
        let (database, revision) = self.disk.open(Opening::Again).map_err(|error| unavailable(error.to_string()))?;
        if revision < self.revision {
            let reason = format!("the file went back from revision {} to {revision}", self.revision);
            return Err(Error::Corrupt { reason });
        }
        self.generation += 1;
        let read = |error: redb::Error| store_error(&error);
        let snapshot = Snapshot::take(&database, revision, self.generation).map_err(read)?;
        self.deadlines = read_deadlines(&database, &*self.clock).map_err(read)?;
        self.database = Some(database);
        self.revision = revision;
        self.published.replace(Some(Arc::new(snapshot)), || {
            if revision > self.history.revision() {
                // The batch that failed was written after all, but its changes are lost to the history.
                self.history.restart(revision);
            }
        });
        Ok(())
    }

    /// Deletes what has run out and answers when to come again: at once if that was not all of it, so that commits which
    /// wait get their turn.
    fn expire(&mut self) -> Option<Duration> {
        let now = self.clock.elapsed();
        let due = self.deadlines.due(now, EXPIRE_MAX);
        if !due.is_empty() {
            let deletes = |keys: &[Arc<str>]| keys.iter().fold(Transaction::new(), |all, key| all.delete(&**key));
            let batch: Vec<_> = due.chunks(COMMIT_OPERATIONS_MAX).map(|keys| Some(deletes(keys))).collect();
            let expected = self.revision;
            if let Err(error) = self.write(&batch) {
                let error = self.after_failure(expected, &error);
                tracing::warn!(%error, "keys that have run out could not be deleted, trying again");
                return Some(now + EXPIRE_RETRY);
            }
        }
        self.deadlines.next()
    }
}

impl Drop for Writer {
    /// However the writer ends, nobody goes on waiting for it.
    fn drop(&mut self) {
        self.history.close();
        self.published.replace(None, || {});
    }
}

/// Most keys that expire in one write.
const EXPIRE_MAX: usize = 8 * COMMIT_OPERATIONS_MAX;

/// How long expiry waits after it failed to write.
const EXPIRE_RETRY: Duration = Duration::from_secs(5);

fn size(transaction: &Transaction) -> usize {
    let keys: usize = transaction.operations.iter().map(|operation| operation.key().len()).sum();
    keys + put_bytes(transaction)
}

/// Bytes that the transaction puts; at least 1 if it puts anything.
fn put_bytes(transaction: &Transaction) -> usize {
    let bytes = |operation: &Operation| match operation {
        Operation::Put { key, value, .. } => key.len() + value.len(),
        Operation::Delete { .. } => 0,
    };
    transaction.operations.iter().map(bytes).sum()
}

/// The deadlines in the file, by a clock whose time began anew with the process.
fn read_deadlines(database: &Database, clock: &dyn Clock) -> Result<Deadlines, redb::Error> {
    let mut deadlines = Deadlines::default();
    let (now, elapsed) = (clock.now().as_millisecond(), clock.elapsed());
    for entry in database.begin_read()?.open_table(EXPIRY)?.iter()? {
        let (key, value) = entry?;
        let (at, ttl) = value.value();
        // However the clock was set meanwhile, no key lives longer than it was given.
        let left = u64::try_from(at.saturating_sub(now)).unwrap_or(0).min(ttl);
        deadlines.set(key.value(), elapsed.checked_add(Duration::from_millis(left)));
    }
    Ok(deadlines)
}
