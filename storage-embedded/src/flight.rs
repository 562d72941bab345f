//! A batch that is in the log and not durable yet, and the thread that makes it so while the writer prepares the next.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use longshore_core::store::{Committed, Error};
use tokio::sync::oneshot;

use crate::batch::Done;
use crate::log::{Appended, Slot};

/// Who waits for a commit.
pub(crate) type Reply = oneshot::Sender<Result<Committed, Error>>;

/// A batch whose frame was appended.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) done: Done,
    pub(crate) appended: Appended,
    /// By commit, what it is told once the frame is durable.
    pub(crate) answers: Vec<(Reply, Committed)>,
    /// The thread is at it.
    handed: bool,
}

/// The thread that syncs, one frame at a time.
#[derive(Debug)]
pub(crate) struct Syncer {
    /// `None` once the thread is told to end.
    jobs: Option<Sender<Arc<Slot>>>,
    results: Receiver<io::Result<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Flight {
    /// One that nobody waits for yet.
    pub(crate) fn new(done: Done, appended: Appended) -> Self {
        Self { done, appended, answers: Vec::new(), handed: false }
    }

    /// Whether the thread is at it, or was.
    pub(crate) fn is_handed(&self) -> bool {
        self.handed
    }
}

impl Syncer {
    pub(crate) fn start() -> io::Result<Self> {
        let (jobs, receiver) = channel::<Arc<Slot>>();
        let (sender, results) = channel();
        let work = move || {
            for slot in receiver {
                let synced = slot.sync();
                // Whoever finds that a log is not used any more may use it again.
                drop(slot);
                if sender.send(synced).is_err() {
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new().name("longshore-sync".to_owned()).spawn(work)?;
        Ok(Self { jobs: Some(jobs), results, thread: Some(thread) })
    }

    /// Begins to make a batch durable, unless that was done.
    pub(crate) fn begin(&self, flight: &mut Flight) {
        if !flight.handed {
            let slot = Arc::clone(&flight.appended.slot);
            flight.handed = self.jobs.as_ref().is_some_and(|jobs| jobs.send(slot).is_ok());
        }
    }

    /// Makes a batch durable: on this thread, unless the other one is at it.
    pub(crate) fn finish(&self, flight: &Flight) -> io::Result<()> {
        match flight.handed {
            true => self.results.recv().unwrap_or_else(|_| Err(io::Error::other("the thread that syncs ended"))),
            false => flight.appended.slot.sync(),
        }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.jobs = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that makes commits durable had panicked");
        }
    }
}
