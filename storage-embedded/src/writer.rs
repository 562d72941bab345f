//! The one thread that writes: it takes what waits, writes it to the log with one sync, publishes it, and answers.
//!
//! While a batch is synced, the next is applied and most of it written, if it is full: else it waits, for more may come.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use longshore_core::clock::Clock;
use longshore_core::store::{COMMIT_OPERATIONS_MAX, Committed, Deadlines, Error, History, Revision, Transaction};
use redb::ReadableTable;
use tokio::sync::mpsc;

use crate::base::Base;
use crate::batch::{Asked, Batch, Done};
use crate::checkpoint::{Checkpoint, Checkpointer};
use crate::disk::{Disk, io_error, store_error, store_io_error};
use crate::flight::{Flight, Reply, Syncer};
use crate::log::{Frame, Logs, Replayed, replay};
use crate::overlay::{Mark, Overlay};
use crate::queue::{Request, Waiting, room_bytes};
use crate::snapshot::{Failed, Published, Snapshot};
use crate::{OpenError, Options};

#[derive(Debug)]
pub(crate) struct Writer {
    disk: Arc<Disk>,
    base: Arc<Base>,
    logs: Logs,
    frame: Frame,
    /// What was appended last, if it is not published yet.
    flight: Option<Flight>,
    syncer: Syncer,
    checkpointer: Checkpointer,
    revision: Revision,
    deadlines: Deadlines,
    clock: Arc<dyn Clock>,
    history: History,
    published: Published,
    batch_max: usize,
    log_bytes: u64,
    logs_max: usize,
    /// A new log is not tried before, by the clock's elapsed time.
    next_turn: Duration,
}

/// What was in flight could not be made durable: it did not happen, and whoever waited for it was told.
struct Lost;

/// Bytes of memory for what the file does not have yet, after which the oldest log is brought there. Commits wait at twice as many.
pub(crate) const MEMORY_MAX: usize = 16 << 20;

/// No log is larger than one part in so many of the disk, so that on a small one they do not take all of it before the first is
/// written anew.
const DISK_PART: u64 = 32;

/// A log of which less than one part in so many counts is brought to the file at once.
const LIVE_PART: u64 = 64;

impl Writer {
    /// Opens file and logs, and publishes what they hold.
    pub(crate) fn open(disk: Arc<Disk>, options: &Options) -> Result<Self, OpenError> {
        if !disk.path.exists() && !disk.logs()?.is_empty() {
            return Err(disk.damaged("it is missing, but there are logs beside it"));
        }
        let (base, snapshot, wanted) = Base::open(Arc::clone(&disk))?;
        let Replayed { logs, recent, revision } = replay(&disk, snapshot.revision, wanted)?;
        let damaged = |error: redb::Error| disk.damaged(error.to_string());
        let deadlines = read_deadlines(&snapshot, &recent, &*options.clock).map_err(damaged)?;
        let keys = count(&snapshot, &recent).map_err(damaged)?;
        let published = Published::new(snapshot, recent, revision, keys);
        let base = Arc::new(base);
        let unstarted = |error: io::Error| io_error("start a thread for", &disk.path, &error);
        let checkpointer = Checkpointer::start(Arc::clone(&base), published.clone(), &disk.path).map_err(unstarted)?;
        let syncer = Syncer::start().map_err(unstarted)?;
        let log_bytes = log_bytes(options.log_bytes, disk.capacity());
        let mut writer = Self {
            disk,
            base,
            logs,
            frame: Frame::default(),
            flight: None,
            syncer,
            checkpointer,
            revision,
            deadlines,
            clock: Arc::clone(&options.clock),
            history: History::new(revision, options.history),
            published,
            batch_max: options.batch_max.max(1),
            log_bytes,
            logs_max: options.logs_max,
            next_turn: Duration::ZERO,
        };
        // What a crash left goes to the file at once.
        let left = writer.logs.older().len();
        writer.checkpoint(left);
        Ok(writer)
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
        while let Some(waiting) = self.next(&mut requests) {
            self.commit(waiting.commits);
            let Some(other) = waiting.other else { continue };
            self.land();
            match other {
                Request::Commit { .. } => {}
                Request::Expire { reply } => {
                    // The expiry task may have ended with its runtime.
                    let _ = reply.send(self.expire());
                }
                Request::Revive { generation, reply } => {
                    let revived = self.revive(generation);
                    // The reader may have given up.
                    let _ = reply.send(revived);
                }
                Request::Close { reply } => {
                    closers.extend(reply);
                    requests.close();
                }
            }
        }
        self.finish();
        // Closes the file and tells readers and watches.
        drop(self);
        for closer in closers {
            // Whoever closed the store may not have waited.
            let _ = closer.send(());
        }
    }

    /// What is to be done next, once there is something; `None` if nothing will come any more.
    fn next(&mut self, requests: &mut mpsc::Receiver<Request>) -> Option<Waiting> {
        let mut waiting = Waiting::default();
        waiting.gather(requests, self.batch_max);
        match &mut self.flight {
            Some(flight) if waiting.is_full(self.batch_max) => self.syncer.begin(flight),
            _ => {
                self.land();
                waiting.gather(requests, self.batch_max);
            }
        }
        if waiting.commits.is_empty() && waiting.other.is_none() {
            waiting.add(requests.blocking_recv()?);
            waiting.gather(requests, self.batch_max);
        }
        Some(waiting)
    }

    /// Commits a batch. Everyone in it is answered, at the latest when it [lands](Writer::land).
    fn commit(&mut self, batch: Vec<(Asked, Reply)>) {
        if batch.is_empty() {
            return;
        }
        self.make_room();
        let needed: usize = batch.iter().map(|(asked, _)| room_bytes(&asked.transaction)).sum();
        let room = if needed > 0 { self.room(needed) } else { Ok(()) };
        let (mut accepted, mut replies) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for (asked, reply) in batch {
            match &room {
                Err(refused) if room_bytes(&asked.transaction) > 0 => {
                    // Whoever asked may have gone.
                    let _ = reply.send(Err(refused.clone()));
                }
                _ => {
                    accepted.push(asked);
                    replies.push(reply);
                }
            }
        }
        match self.write(&accepted) {
            Ok((outcomes, None)) => answer(replies.into_iter().zip(outcomes)),
            Ok((outcomes, Some(mut flight))) => {
                flight.answers = replies.into_iter().zip(outcomes).collect();
                self.flight = Some(flight);
            }
            Err(error) => self.refuse(replies.into_iter(), &error),
        }
    }

    /// Applies transactions in order and appends them to the log, if they change anything; what was in flight has landed then.
    fn write(&mut self, batch: &[Asked]) -> Result<(Vec<Committed>, Option<Flight>), Error> {
        loop {
            let (outcomes, done) = self.apply_or_revive(batch)?;
            let changes = !done.commits.is_empty();
            let prepared = if changes { self.logs.prepare(self.last(), &mut self.frame) } else { Ok(()) };
            let Ok(before) = self.synced() else { continue };
            // The disk has work again before those who wait for the frame before are told.
            let is_busy = before.as_ref().is_some_and(Flight::is_handed);
            let appended =
                if changes { prepared.and_then(|()| self.append(done, is_busy).map(Some)) } else { Ok(None) };
            if let Some(before) = before {
                self.publish(before);
            }
            return match appended {
                Ok(flight) => Ok((outcomes, flight)),
                Err(error) => Err(self.unwritten(&error)),
            };
        }
    }

    /// Appends the frame that was prepared, and has the thread that syncs begin with it if told to.
    fn append(&mut self, done: Done, begin: bool) -> io::Result<Flight> {
        let mut flight = Flight::new(done, self.logs.append(&self.frame)?);
        if begin {
            self.syncer.begin(&mut flight);
        }
        Ok(flight)
    }

    /// Makes what is in flight durable, publishes it and answers; `false` if it is lost.
    fn land(&mut self) -> bool {
        let synced = self.synced();
        let is_well = synced.is_ok();
        if let Ok(Some(flight)) = synced {
            self.publish(flight);
        }
        is_well
    }

    /// Makes what is in flight durable, and answers what that was.
    fn synced(&mut self) -> Result<Option<Flight>, Lost> {
        let Some(flight) = self.flight.take() else { return Ok(None) };
        let Err(error) = self.syncer.finish(&flight) else { return Ok(Some(flight)) };
        self.logs.unsettle();
        let error = self.unwritten(&error);
        self.refuse(flight.answers.into_iter().map(|(reply, _)| reply), &error);
        Err(Lost)
    }

    /// Publishes what is durable, and answers.
    fn publish(&mut self, flight: Flight) {
        let Flight { done, appended, answers, .. } = flight;
        self.revision = done.revision;
        for (key, deadline) in done.expiries {
            self.deadlines.set(&key, deadline);
        }
        let entries = done.entries.into_iter().map(|(key, new)| (key, new.entry(&appended)));
        self.published.publish(&self.history, done.commits, appended.log, entries);
        answer(answers.into_iter());
    }

    /// What those are told whose frame was not written, or perhaps was. A new log says that it does not count; without one, nobody
    /// knows.
    fn unwritten(&mut self, error: &io::Error) -> Error {
        if self.logs.is_unsettled() && self.logs.turn(self.revision).is_err() {
            return Error::Unavailable { reason: error.to_string() };
        }
        store_io_error(error)
    }

    fn refuse(&self, replies: impl Iterator<Item = Reply>, error: &Error) {
        tracing::warn!(path = %self.disk.path.display(), %error, "a write failed");
        for reply in replies {
            // Whoever asked may have gone.
            let _ = reply.send(Err(error.clone()));
        }
    }

    fn apply_or_revive(&mut self, batch: &[Asked]) -> Result<(Vec<Committed>, Done), Error> {
        let generation = match self.apply(batch) {
            Ok(applied) => return Ok(applied),
            Err(failed) => failed.generation,
        };
        self.revive(generation)?;
        self.apply(batch).map_err(|failed| store_error(&failed.error))
    }

    /// The revision of what was appended last.
    fn last(&self) -> Revision {
        self.flight.as_ref().map_or(self.revision, |flight| flight.done.revision)
    }

    /// Works out what a batch comes to, in `self.frame` as well.
    fn apply(&mut self, batch: &[Asked]) -> Result<(Vec<Committed>, Done), Failed> {
        self.frame.clear();
        let before = self.flight.as_ref().map(|flight| &flight.done);
        let mut work = Batch::begin(self.last(), &*self.clock, &self.deadlines, &self.published, before);
        let mut outcomes = Vec::with_capacity(batch.len());
        for one in batch {
            outcomes.push(work.apply(one, &mut self.frame)?);
        }
        Ok((outcomes, work.finish()))
    }

    fn revive(&self, generation: u64) -> Result<(), Error> {
        self.base.revive(generation, |snapshot| self.published.rebase(snapshot))
    }

    /// Whether puts of so many bytes have room, on the disk and in the log; if not, why.
    fn room(&self, bytes: usize) -> Result<(), Error> {
        self.disk.room(bytes)?;
        if self.logs.len() < 2 * self.log_bytes {
            return Ok(());
        }
        let reason = match self.checkpointer.failure() {
            Some(error) => format!("the log is full, for it could not be brought to the file: {error}"),
            None => "the log is full, and another could not be started".to_owned(),
        };
        Err(Error::NoSpace { reason })
    }

    /// Sees to it that neither the logs nor what memory has of them grow without end.
    fn make_room(&mut self) {
        let now = self.clock.elapsed();
        self.collect(now, false);
        loop {
            if self.logs.len() >= self.log_bytes && self.logs.older().len() <= self.logs_max {
                self.turn(now);
            }
            let (memory, mut due) = self.due();
            if due == 0 && memory >= MEMORY_MAX && !self.logs.is_empty() {
                // It is all in the log that is written, which ends early.
                due = usize::from(self.turn(now));
            }
            if !self.checkpointer.is_busy() {
                self.checkpoint(due);
            }
            let full = self.logs.len() >= 2 * self.log_bytes || memory >= 2 * MEMORY_MAX;
            if !full || !self.checkpointer.is_busy() || self.checkpointer.failure().is_some() {
                return;
            }
            // Commits come faster than the file takes them: they wait.
            self.collect(now, true);
        }
    }

    /// Starts a new log, unless that failed just now; answers whether there is one.
    fn turn(&mut self, now: Duration) -> bool {
        if now < self.next_turn {
            return false;
        }
        // It begins after what is durable.
        self.land();
        let turned = self.logs.turn(self.revision);
        if let Err(error) = &turned {
            // An unsettled log is followed by a new one at once, or nothing can be written.
            if !self.logs.is_unsettled() {
                self.next_turn = now + TURN_RETRY;
            }
            tracing::warn!(path = %self.disk.path.display(), %error, "a log could not be started");
        }
        turned.is_ok()
    }

    /// Takes back the files of logs that the file has; waits for the checkpoint that is being written if told to.
    fn collect(&mut self, now: Duration, wait: bool) {
        let freed = self.checkpointer.poll(now, wait);
        self.logs.give_back(freed);
    }

    /// How much memory what the file does not have takes, and how many logs, from the oldest on, are to be brought there: those that
    /// are too many, and those that hardly anything depends on.
    fn due(&self) -> (usize, usize) {
        let logs = self.logs.older();
        let (memory, live) = self.published.weigh(self.logs.older().map(|(id, _)| id));
        let many = logs.len().saturating_sub(self.logs_max).max(usize::from(memory >= MEMORY_MAX && logs.len() > 0));
        let spent = logs.zip(live).skip(many).take_while(|((_, bytes), live)| live * LIVE_PART <= *bytes).count();
        (memory, many + spent)
    }

    /// Has what counts in the first so many logs brought to the file.
    fn checkpoint(&mut self, logs: usize) {
        if let Some((log, meta)) = self.logs.first(logs) {
            self.checkpointer.begin(Checkpoint { log, meta });
        }
    }

    /// Brings everything to the file, so that no log is needed, as far as that can be done.
    fn finish(&mut self) {
        let now = self.clock.elapsed();
        self.collect(now, true);
        if self.checkpointer.is_busy() {
            return;
        }
        self.logs.end(self.revision);
        let left = self.logs.older().len();
        self.checkpoint(left);
        self.collect(now, true);
        if !self.checkpointer.is_busy() {
            self.logs.remove_free();
        }
    }

    /// Deletes what has run out and answers when to come again: at once if that was not all of it, so that commits which
    /// wait get their turn.
    fn expire(&mut self) -> Option<Duration> {
        let now = self.clock.elapsed();
        let due = self.deadlines.due(now, EXPIRE_MAX);
        if !due.is_empty() {
            let deletes = |keys: &[Arc<str>]| keys.iter().fold(Transaction::new(), |all, key| all.delete(&**key));
            let batch: Vec<Asked> = due.chunks(COMMIT_OPERATIONS_MAX).map(|keys| deletes(keys).into()).collect();
            self.make_room();
            match self.write(&batch) {
                Ok((_, written)) => self.flight = written,
                Err(error) => {
                    tracing::warn!(%error, "keys that have run out could not be deleted, trying again");
                    return Some(now + EXPIRE_RETRY);
                }
            }
            if !self.land() {
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
        self.published.close();
    }
}

/// Most keys that expire in one write.
const EXPIRE_MAX: usize = 8 * COMMIT_OPERATIONS_MAX;

/// How long after it failed a new log is tried again.
const TURN_RETRY: Duration = Duration::from_secs(1);

/// How long expiry waits after it failed to write.
const EXPIRE_RETRY: Duration = Duration::from_secs(5);

/// Bytes of one log, on a disk of this capacity.
fn log_bytes(wanted: u64, disk: Option<u64>) -> u64 {
    let most = disk.map_or(u64::MAX, |bytes| (bytes / DISK_PART).max(1 << 20));
    wanted.min(most)
}

fn answer(answers: impl Iterator<Item = (Reply, Committed)>) {
    for (reply, outcome) in answers {
        // Whoever asked may have gone.
        let _ = reply.send(Ok(outcome));
    }
}

/// The deadlines in file and log, by a clock whose time began anew with the process.
fn read_deadlines(base: &Snapshot, recent: &Overlay, clock: &dyn Clock) -> Result<Deadlines, redb::Error> {
    let mut deadlines = Deadlines::default();
    let (now, elapsed) = (clock.now().as_millisecond(), clock.elapsed());
    let mut set = |key: &str, at: i64, ttl: u64| {
        // However the clock was set meanwhile, no key lives longer than it was given.
        let left = u64::try_from(at.saturating_sub(now)).unwrap_or(0).min(ttl);
        deadlines.set(key, elapsed.checked_add(Duration::from_millis(left)));
    };
    for entry in ReadableTable::iter(base.expiry())? {
        let (key, value) = entry?;
        let (at, ttl) = value.value();
        set(key.value(), at, ttl);
    }
    for (key, entry) in recent.iter() {
        if let Mark::At(at, ttl) = entry.expiry {
            set(key, at, ttl);
        }
    }
    for (key, _) in recent.iter().filter(|(_, entry)| entry.expiry == Mark::Cleared) {
        deadlines.set(key, None);
    }
    Ok(deadlines)
}

/// How many keys there are.
fn count(base: &Snapshot, recent: &Overlay) -> Result<u64, redb::Error> {
    let mut keys = base.count()?;
    for (key, entry) in recent.iter() {
        match (base.get(key)?.is_some(), entry.value.is_some()) {
            (false, true) => keys += 1,
            (true, false) => keys -= 1,
            _ => {}
        }
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_smaller_on_a_small_disk() {
        let bytes = |disk| log_bytes(32 << 20, disk);
        assert_eq!(
            [bytes(None), bytes(Some(8 << 30)), bytes(Some(64 << 20)), bytes(Some(1))],
            [32 << 20, 32 << 20, 2 << 20, 1 << 20]
        );
        assert_eq!(log_bytes(4096, Some(1)), 4096, "as it was told");
    }
}
