//! What the writer is asked to do, and how much of what waits is one batch.

use std::time::Duration;

use longshore_core::store::{Error, Operation, Transaction};
use tokio::sync::{mpsc, oneshot};

use crate::batch::Asked;
use crate::flight::Reply;

/// What the writer is asked to do.
#[derive(Debug)]
pub(crate) enum Request {
    Commit {
        asked: Asked,
        reply: Reply,
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

/// Commits that are to share a frame, each with who waits for it.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    pub(crate) commits: Vec<(Asked, Reply)>,
    bytes: usize,
    /// What was asked after them, which is not a commit.
    pub(crate) other: Option<Request>,
}

/// Most bytes of transactions in one batch; a single one may be larger than what is left.
const BATCH_BYTES_MAX: usize = 4 << 20;

impl Waiting {
    /// Takes what waits, until there is enough for a batch or something else is asked.
    pub(crate) fn gather(&mut self, requests: &mut mpsc::Receiver<Request>, batch_max: usize) {
        while self.other.is_none() && !self.is_full(batch_max) {
            let Ok(request) = requests.try_recv() else { return };
            self.add(request);
        }
    }

    pub(crate) fn add(&mut self, request: Request) {
        match request {
            // Nobody waits any more, so it need not happen.
            Request::Commit { reply, .. } if reply.is_closed() => {}
            Request::Commit { asked, reply } => {
                self.bytes += size(&asked.transaction);
                self.commits.push((asked, reply));
            }
            other => self.other = Some(other),
        }
    }

    pub(crate) fn is_full(&self, batch_max: usize) -> bool {
        self.commits.len() >= batch_max || self.bytes >= BATCH_BYTES_MAX
    }
}

fn size(transaction: &Transaction) -> usize {
    let keys: usize = transaction.operations.iter().map(|operation| operation.key().len()).sum();
    keys + put_bytes(transaction)
}

/// Bytes for which there must be room beside the reserve; at least 1 if any. The reserve is for whoever deletes, which often writes
/// down something as well: with a pod goes its part of what its node holds.
pub(crate) fn room_bytes(transaction: &Transaction) -> usize {
    let deletes = transaction.operations.iter().any(|operation| matches!(operation, Operation::Delete { .. }));
    if deletes { 0 } else { put_bytes(transaction) }
}

fn put_bytes(transaction: &Transaction) -> usize {
    let bytes = |operation: &Operation| match operation {
        Operation::Put { key, value, .. } => key.len() + value.len(),
        Operation::Delete { .. } => 0,
    };
    transaction.operations.iter().map(bytes).sum()
}
