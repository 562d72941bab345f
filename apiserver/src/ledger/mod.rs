//! The ledger: what is taken of each node, in one stored record a node.
//!
//! Whatever changes what a pod takes (binding, creation with a node, the end of a pod, its removal, a resize) writes the pod
//! and its node's record in one commit, on the condition that the record is as it was read. A commit that gives a pod room
//! also compares the node itself, so that allocatable amounts cannot shrink, nor the node go, in between. So any number of
//! schedulers over any number of API servers can place pods at once, and none can give out more than there is.
//!
//! A node without pods has no record. Records are kept by the node's name, as pods are: they outlive the node's object.

mod charge;
mod record;
mod repair;
#[cfg(test)]
mod stress_tests;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use longshore_core::store::{self, Revision, Store, Transaction};
use rustc_hash::FxHashMap;
use tokio::sync::OwnedMutexGuard;

pub(crate) use charge::Claim;
pub(crate) use record::{Entry, Misfit, Record};
pub(crate) use repair::repair;

/// Prefix of all records.
pub(crate) const PREFIX: &str = "/longshore/ledger/";

/// How many records are remembered, which is those of all nodes but in the largest clusters; others are read from the store when
/// they are needed.
const REMEMBERED_MAX: usize = 16 << 10;

/// How much a pod's charge has to fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    /// Or it is refused.
    Must,
    /// Or it is noted without taking anything: whoever made the pod chose its node, and the agent there decides.
    May,
    /// What is reported takes what it takes, and a resize what it asks for: the node's agent grants that when it fits, and until then
    /// nobody else gets the room.
    Is,
}

/// A record and the revision that put it (0: there is none).
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) revision: Revision,
    pub(crate) record: Record,
}

/// A remembered record, which may be out of date: commits compare its revision.
type Slot = Option<Seen>;

/// The records of all nodes.
///
/// Who changes a record holds its lock until the commit is done, so that parts of one process do not race each other.
#[derive(Debug)]
pub(crate) struct Ledger {
    store: Arc<dyn Store>,
    slots: Mutex<FxHashMap<String, Arc<tokio::sync::Mutex<Slot>>>>,
}

impl Ledger {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, slots: Mutex::default() }
    }

    /// Opens a node's record for a change.
    pub(crate) async fn open(&self, node: &str) -> Result<Open, store::Error> {
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            if slots.len() >= REMEMBERED_MAX && !slots.contains_key(node) {
                slots.retain(|_, slot| Arc::strong_count(slot) > 1);
            }
            Arc::clone(slots.entry(node.to_owned()).or_default())
        };
        let mut guard = slot.lock_owned().await;
        let key = key(node);
        let seen = match guard.take() {
            Some(seen) => seen,
            None => read(&*self.store, &key).await?,
        };
        Ok(Open { key, guard, seen, changed: false })
    }
}

/// A record that is being changed. Dropping it without [`Open::done`] forgets what was remembered.
#[derive(Debug)]
pub(crate) struct Open {
    key: String,
    guard: OwnedMutexGuard<Slot>,
    pub(crate) seen: Seen,
    /// Whether [`Open::seen`] is no longer what was read.
    pub(crate) changed: bool,
}

impl Open {
    /// Adds the change to a transaction. That nothing needs to change is a conclusion from what was read, which may be out of date,
    /// so it is compared too.
    pub(crate) fn write(&self, transaction: Transaction) -> Transaction {
        if self.changed {
            write(transaction, &self.key, &self.seen)
        } else {
            transaction.expect(&self.key, self.seen.revision)
        }
    }

    /// Remembers the record after its commit.
    pub(crate) fn done(self, revision: Revision) {
        let Self { mut guard, seen, changed, .. } = self;
        let revision = match changed {
            false => seen.revision,
            true if seen.record.pods.is_empty() => 0,
            true => revision,
        };
        *guard = Some(Seen { revision, ..seen });
    }
}

fn key(node: &str) -> String {
    format!("{PREFIX}{node}")
}

async fn read(store: &dyn Store, key: &str) -> Result<Seen, store::Error> {
    match store.get(key).await?.value {
        None => Ok(Seen::default()),
        Some(entry) => Ok(Seen { revision: entry.revision, record: decode(key, &entry.value)? }),
    }
}

fn decode(key: &str, value: &[u8]) -> Result<Record, store::Error> {
    serde_json::from_slice(value)
        .map_err(|error| store::Error::Corrupt { reason: format!("{key} is not a ledger record: {error}") })
}

/// Puts a record, or deletes an empty one, on the condition that it is as it was seen.
fn write(transaction: Transaction, key: &str, seen: &Seen) -> Transaction {
    let transaction = transaction.expect(key, seen.revision);
    if seen.record.pods.is_empty() {
        return transaction.delete(key);
    }
    let value = serde_json::to_vec(&seen.record).expect("a record has string keys and plain fields");
    transaction.put(key, Bytes::from(value))
}
