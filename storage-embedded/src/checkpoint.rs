//! Bringing to the file what the oldest logs came to, on a thread of its own, while commits go on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use longshore_core::store::Error;

use crate::base::{Base, Meta};
use crate::disk::store_error;
use crate::snapshot::Published;

/// What goes to the file in one step: all that counts in the logs up to one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Checkpoint {
    /// The last of the logs that nobody needs then.
    pub(crate) log: u64,
    /// What the file says of itself then.
    pub(crate) meta: Meta,
}

/// Entries that are looked at in one go, so that whoever reads or publishes waits only briefly.
const STEP: usize = 2048;

/// The thread that writes checkpoints, one at a time. Dropping it waits for the one it is at.
#[derive(Debug)]
pub(crate) struct Checkpointer {
    /// `None` once the thread is told to end.
    jobs: Option<Sender<Checkpoint>>,
    results: Receiver<(Checkpoint, Result<(), Error>)>,
    running: bool,
    failed: Option<Failure>,
    thread: Option<JoinHandle<()>>,
}

/// A checkpoint that could not be written, and will be tried again.
#[derive(Debug)]
struct Failure {
    checkpoint: Checkpoint,
    error: Error,
    again: Duration,
}

/// How long after a failure a checkpoint is tried again.
const RETRY: Duration = Duration::from_secs(5);

impl Checkpointer {
    pub(crate) fn start(base: Arc<Base>, published: Published, path: &Path) -> std::io::Result<Self> {
        let (jobs, receiver) = channel::<Checkpoint>();
        let (sender, results) = channel();
        let path = path.to_owned();
        let work = move || {
            for checkpoint in receiver {
                let write = || write(&base, &published, checkpoint);
                // A panic is a failure that is told; the thread goes on, for somebody may wait for it.
                let written = catch_unwind(AssertUnwindSafe(write))
                    .unwrap_or_else(|_| Err(Error::Unavailable { reason: "what brings it there panicked".to_owned() }));
                if let Err(error) = &written {
                    tracing::warn!(path = %path.display(), %error, "the log could not be brought to the file");
                }
                if sender.send((checkpoint, written)).is_err() {
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new().name("longshore-checkpoint".to_owned()).spawn(work)?;
        Ok(Self { jobs: Some(jobs), results, running: false, failed: None, thread: Some(thread) })
    }

    /// Whether a checkpoint is being written, or waits to be written again.
    pub(crate) fn is_busy(&self) -> bool {
        self.running || self.failed.is_some()
    }

    /// Why the last checkpoint could not be written.
    pub(crate) fn failure(&self) -> Option<&Error> {
        self.failed.as_ref().map(|failure| &failure.error)
    }

    /// Gives the thread work. It must not be busy.
    pub(crate) fn begin(&mut self, checkpoint: Checkpoint) {
        self.running = self.jobs.as_ref().is_some_and(|jobs| jobs.send(checkpoint).is_ok());
    }

    /// Looks whether the thread is done, or waits until it is; answers the last of the logs that nobody needs any more.
    pub(crate) fn poll(&mut self, now: Duration, wait: bool) -> Option<u64> {
        if let Some(failure) = self.failed.take_if(|failure| wait || failure.again <= now) {
            self.begin(failure.checkpoint);
        }
        if !self.running {
            return None;
        }
        let result = if wait { self.results.recv().ok() } else { self.results.try_recv().ok() };
        let (checkpoint, written) = result?;
        self.running = false;
        match written {
            Ok(()) => Some(checkpoint.log),
            Err(error) => {
                self.failed = Some(Failure { checkpoint, error, again: now + RETRY });
                None
            }
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.jobs = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that brings the log to the file had panicked");
        }
    }
}

fn write(base: &Base, published: &Published, checkpoint: Checkpoint) -> Result<(), Error> {
    let entries = published.until_log(checkpoint.log, STEP)?;
    let write = || base.write(&entries, checkpoint.meta, |snapshot| published.rebase(snapshot));
    // A damaged file may make the library panic.
    let written = catch_unwind(AssertUnwindSafe(write))
        .unwrap_or_else(|_| Err(redb::Error::Corrupted("its pages do not fit together".to_owned())));
    written.map_err(|error| {
        // The failure may have closed the file for reads, too.
        if let Err(error) = base.revive(u64::MAX, |snapshot| published.rebase(snapshot)) {
            return error;
        }
        store_error(&error)
    })?;
    for step in entries.chunks(STEP) {
        published.forget(checkpoint.log, step.iter().map(|(key, _)| key));
    }
    Ok(())
}
