//! The store: one ordered, revisioned key space.
//!
//! A store knows bytes and nothing of kinds. Everything above it (registry, caches, clients) rests on the promises
//! below, which are etcd's; `longshore_core::testing::store` (feature `testing`) holds the conformance suite that checks them on any
//! implementation.
//!
//! # Contract
//!
//! 1. **One revision.** The store has a single revision, a positive integer that only grows. Every commit that puts
//!    or deletes at least one existing key takes the next revision; all its changes carry that one revision.
//!    A commit that changes nothing (deletes of absent keys only) takes none.
//! 2. **Linearizable.** [`Store::get`] and [`Store::list`] without a revision see every commit that was acknowledged
//!    before the call began.
//! 3. **Atomic.** A commit's comparisons and operations happen as one step. Either all comparisons hold and all
//!    operations are applied, or nothing is.
//! 4. **Durable.** Once a commit is acknowledged it survives whatever the implementation says it survives (memory:
//!    the process's life; embedded: `kill -9` and power loss; etcd: the loss of a minority).
//! 5. **Watch.** A watch delivers every change after its start revision exactly once, in revision order, changes of
//!    one revision together; or it ends with [`Error::Compacted`] or [`Error::Lagged`]. It never skips.
//! 6. **Unknown outcome.** After [`Error::Unavailable`] from a commit the caller does not know whether it happened and
//!    must read to find out. All other errors mean that nothing happened.
//! 7. **Dropped futures.** Dropping a read is harmless. Dropping a commit's future leaves its outcome unknown (as in 6);
//!    the store itself stays whole.
//! 8. **Expiry.** A key put with a time to live is deleted by a commit of the store's own some time after it ran out,
//!    never before; watchers see an ordinary delete.

mod expiry;
mod history;
mod memory;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

pub use expiry::{Deadlines, Ended, Expiry};
pub use history::{Commit, History, HistoryLimits};
pub use memory::MemoryStore;

/// A point in the store's history. The empty, new store is at revision 1, as etcd's.
pub type Revision = u64;

/// Most operations (puts and deletes), and most comparisons, that one commit may hold.
pub const COMMIT_OPERATIONS_MAX: usize = 128;

/// Most bytes of keys and values that one commit may hold.
pub const COMMIT_BYTES_MAX: usize = 1_500_000;

/// A stored value with its place in history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The key, such as `/registry//pods/default/web`.
    pub key: String,
    /// The value as it was put.
    pub value: Bytes,
    /// Revision of the commit that last put this key.
    pub revision: Revision,
    /// Revision of the commit that created this key (since it was last absent).
    pub created: Revision,
}

/// What a read saw, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot<T> {
    /// What was found.
    pub value: T,
    /// The revision that the read reflects.
    pub revision: Revision,
}

/// How to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// As of this revision; `None` for now. Every page of one listing names the first page's revision.
    pub revision: Option<Revision>,
    /// Most entries to return; 0 for all.
    pub limit: usize,
    /// Only keys strictly after this one: the last key of the page before.
    pub after: Option<String>,
}

/// One page of a listing, in key order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The entries.
    pub entries: Vec<KeyValue>,
    /// Whether keys remain after the last entry.
    pub more: bool,
    /// How many keys of the prefix come after the last entry, where the store can count them cheaply.
    pub remaining: Option<u64>,
    /// The revision that the page reflects.
    pub revision: Revision,
}

/// A condition on one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    /// The key.
    pub key: String,
    /// The key's [`KeyValue::revision`] must be this; 0 means that the key must be absent.
    pub revision: Revision,
}

/// A change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Creates or replaces.
    Put {
        /// The key.
        key: String,
        /// The new value.
        value: Bytes,
        /// The key expires this long after the commit; `None` for never (a later put without it makes the key permanent).
        ttl: Option<Duration>,
    },
    /// Removes; nothing happens if the key is absent.
    Delete {
        /// The key.
        key: String,
    },
}

impl Operation {
    /// The key that is changed.
    pub fn key(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }
}

/// Comparisons and the changes to make if all of them hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction {
    /// Conditions; none means unconditional.
    pub compare: Vec<Compare>,
    /// Changes. No key may occur twice.
    pub operations: Vec<Operation>,
}

impl Transaction {
    /// A transaction that does nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the condition that `key` was last put at `revision` (0: is absent).
    #[must_use]
    pub fn expect(mut self, key: impl Into<String>, revision: Revision) -> Self {
        self.compare.push(Compare { key: key.into(), revision });
        self
    }

    /// Adds a put.
    #[must_use]
    pub fn put(mut self, key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.operations.push(Operation::Put { key: key.into(), value: value.into(), ttl: None });
        self
    }

    /// Adds a put that expires.
    #[must_use]
    pub fn put_with_ttl(mut self, key: impl Into<String>, value: impl Into<Bytes>, ttl: Duration) -> Self {
        self.operations.push(Operation::Put { key: key.into(), value: value.into(), ttl: Some(ttl) });
        self
    }

    /// Adds a delete.
    #[must_use]
    pub fn delete(mut self, key: impl Into<String>) -> Self {
        self.operations.push(Operation::Delete { key: key.into() });
        self
    }

    /// Checks the limits that every store enforces alike: number of operations and comparisons, bytes, no key twice, no empty key.
    ///
    /// # Errors
    /// [`Error::TooManyOperations`], [`Error::TooLarge`], [`Error::InvalidTransaction`].
    pub fn check(&self) -> Result<(), Error> {
        let got = self.operations.len().max(self.compare.len());
        if got > COMMIT_OPERATIONS_MAX {
            return Err(Error::TooManyOperations { got });
        }
        let mut bytes = 0;
        let mut keys = std::collections::BTreeSet::new();
        for operation in &self.operations {
            let key = operation.key();
            if key.is_empty() {
                return Err(Error::InvalidTransaction { reason: "a key is empty".to_owned() });
            }
            if !keys.insert(key) {
                return Err(Error::InvalidTransaction { reason: format!("key {key} is changed twice") });
            }
            bytes += key.len();
            if let Operation::Put { value, .. } = operation {
                bytes += value.len();
            }
        }
        if bytes > COMMIT_BYTES_MAX {
            return Err(Error::TooLarge { got: bytes });
        }
        Ok(())
    }
}

/// The outcome of a commit whose comparisons could be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// All comparisons held; the changes carry this revision (the current one if nothing changed).
    Done(Revision),
    /// A comparison failed and nothing was changed.
    Conflict {
        /// The first key, in the order given, whose comparison failed.
        key: String,
        /// What is stored there, as of the commit's attempt; `None` if absent.
        current: Option<KeyValue>,
    },
}

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: String,
    /// The new value; `None` if the key was deleted.
    pub value: Option<Bytes>,
    /// The value before; `None` if the key was absent, or if it is no longer known because of compaction.
    pub previous: Option<KeyValue>,
    /// Revision of the commit.
    pub revision: Revision,
    /// Revision of the commit that created the key; for a delete, of the key that was deleted.
    pub created: Revision,
}

/// What a watch delivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchEvent {
    /// All changes under the prefix that one revision made, in the order of the transaction.
    Changes {
        /// The commit's revision.
        revision: Revision,
        /// Its changes under the prefix, never empty.
        changes: Vec<Change>,
    },
    /// Every change up to and including this revision has been delivered.
    Progress(Revision),
}

/// A running watch. Dropping it ends it.
pub type WatchStream = BoxStream<'static, Result<WatchEvent, Error>>;

/// What is known of a store's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Current revision.
    pub revision: Revision,
    /// Everything at or before this revision may be gone from history; 0 if nothing was compacted.
    pub compacted: Revision,
    /// Number of keys, where it is known cheaply.
    pub keys: Option<u64>,
    /// Bytes on disk or in memory, where known cheaply.
    pub bytes: Option<u64>,
}

/// What can go wrong. Apart from [`Error::Unavailable`] on a commit, an error means that nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// History before `oldest` was compacted away; list again and watch from there.
    #[error("revision {requested} is compacted, the oldest kept is {oldest}: list again")]
    Compacted {
        /// The revision asked for.
        requested: Revision,
        /// The oldest that can be read.
        oldest: Revision,
    },
    /// A read named a revision that has not happened yet.
    #[error("revision {requested} is in the future, the store is at {current}")]
    FutureRevision {
        /// The revision asked for.
        requested: Revision,
        /// The store's revision.
        current: Revision,
    },
    /// The reader of a watch fell too far behind and was cut off; watch again from the last revision seen.
    #[error("the watch fell behind at revision {last} and was ended: watch again from there")]
    Lagged {
        /// The last revision delivered.
        last: Revision,
    },
    /// Too many operations in one commit.
    #[error("a commit holds at most {COMMIT_OPERATIONS_MAX} operations or comparisons, this one has {got}: split it")]
    TooManyOperations {
        /// Operations given, or comparisons if those are more.
        got: usize,
    },
    /// Too many bytes in one commit.
    #[error("a commit holds at most {COMMIT_BYTES_MAX} bytes, this one has {got}")]
    TooLarge {
        /// Bytes given.
        got: usize,
    },
    /// A transaction that no state of the store could satisfy.
    #[error("invalid transaction: {reason}")]
    InvalidTransaction {
        /// What is wrong with it.
        reason: String,
    },
    /// No space to write; reads go on.
    #[error("the store cannot write: {reason}")]
    NoSpace {
        /// What the disk said.
        reason: String,
    },
    /// The store holds something that it cannot have written.
    #[error("the store is damaged: {reason}")]
    Corrupt {
        /// What was found, where.
        reason: String,
    },
    /// The store could not be reached or broke while working. After a commit the outcome is unknown.
    #[error("the store is unavailable: {reason}")]
    Unavailable {
        /// What was tried and what happened.
        reason: String,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

/// An ordered, revisioned key space; see the [module's contract](self).
///
/// The trait is object-safe: parts hold an `Arc<dyn Store>`.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Reads one key, linearizably.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Closed`].
    async fn get(&self, key: &str) -> Result<Snapshot<Option<KeyValue>>, Error>;

    /// Reads the keys that start with `prefix`, in order.
    ///
    /// # Errors
    /// [`Error::Compacted`] or [`Error::FutureRevision`] if `options.revision` is out of reach.
    async fn list(&self, prefix: &str, options: ListOptions) -> Result<Page, Error>;

    /// Applies a transaction.
    ///
    /// # Errors
    /// The limits of [`Transaction::check`]; [`Error::NoSpace`]; [`Error::Unavailable`] with unknown outcome.
    async fn commit(&self, transaction: Transaction) -> Result<Committed, Error>;

    /// Watches the keys that start with `prefix`, from the first change after revision `after`.
    ///
    /// `after` may be the current revision or any later than the compacted one; the watch is established when the call
    /// returns, so nothing committed afterwards is missed. Progress events come when the implementation has delivered
    /// everything it has, at least once after the backlog, and at intervals of its own while idle.
    ///
    /// # Errors
    /// [`Error::Compacted`] if changes after `after` are gone; [`Error::FutureRevision`] if it has not happened yet.
    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream, Error>;

    /// Forgets history: revisions before `revision` can no longer be listed, and watches can no longer start before it.
    /// Current values are kept.
    ///
    /// # Errors
    /// [`Error::Compacted`] if it was compacted further already, [`Error::FutureRevision`].
    async fn compact(&self, revision: Revision) -> Result<(), Error>;

    /// The store's state.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Closed`].
    async fn status(&self) -> Result<Status, Error>;
}
