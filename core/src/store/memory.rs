//! The store in memory: for tests, simulations, and clusters that may forget.

use std::collections::{BTreeMap, btree_map};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::expiry::{Deadlines, Ended, Expiry};
use super::{
    COMMIT_OPERATIONS_MAX, Change, Commit, Committed, Error, History, HistoryLimits, KeyValue, ListOptions, Operation,
    Page, Revision, Snapshot, Status, Store, Transaction, WatchStream,
};
use crate::clock::{Clock, SystemClock};

/// A [`Store`] in memory. It lives as long as the value: dropping it ends its watches with [`Error::Closed`].
///
/// All work happens inside the calls; only the expiry of keys needs a task, which starts with the first key that has a
/// time to live. Creating one costs next to nothing.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// use longshore_core::store::{MemoryStore, Store, Transaction};
/// let store = MemoryStore::new();
/// store.commit(Transaction::new().expect("/a", 0).put("/a", "x")).await?;
/// assert_eq!(store.get("/a").await?.revision, 2);
/// # Ok::<(), longshore_core::store::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct MemoryStore {
    state: Arc<State>,
    expiry: Expiry,
}

#[derive(Debug)]
struct State {
    clock: Arc<dyn Clock>,
    // Lock order: the keys, then (inside `History`) the ring.
    keys: RwLock<Keys>,
    history: History,
}

#[derive(Debug, Default)]
struct Keys {
    values: BTreeMap<String, Stored>,
    deadlines: Deadlines,
    bytes: usize,
}

#[derive(Debug, Clone)]
struct Stored {
    value: Bytes,
    revision: Revision,
    created: Revision,
}

impl Stored {
    fn at(&self, key: &str) -> KeyValue {
        KeyValue { key: key.to_owned(), value: self.value.clone(), revision: self.revision, created: self.created }
    }
}

impl MemoryStore {
    /// An empty store by the machine's clock, with the default history.
    pub fn new() -> Self {
        Self::with_clock(Arc::new(SystemClock::new()), HistoryLimits::default())
    }

    /// An empty store whose keys expire by `clock` and which remembers as much as `limits` allow.
    pub fn with_clock(clock: Arc<dyn Clock>, limits: HistoryLimits) -> Self {
        let state =
            State { clock: Arc::clone(&clock), keys: RwLock::new(Keys::default()), history: History::new(1, limits) };
        Self { state: Arc::new(state), expiry: Expiry::new(clock) }
    }

    fn wake_expiry(&self) {
        let state = Arc::downgrade(&self.state);
        self.expiry.wake(move || {
            let next = state.upgrade().map(|state| state.expire()).ok_or(Ended);
            std::future::ready(next)
        });
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for MemoryStore {
    fn drop(&mut self) {
        self.state.history.close();
    }
}

impl State {
    fn read(&self) -> RwLockReadGuard<'_, Keys> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Keys> {
        self.keys.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Deletes what has run out and answers when the next key will.
    fn expire(&self) -> Option<Duration> {
        let mut keys = self.write();
        loop {
            let due = keys.deadlines.due(self.clock.elapsed(), COMMIT_OPERATIONS_MAX);
            if due.is_empty() {
                return keys.deadlines.next();
            }
            let operations = due.iter().map(|key| Operation::Delete { key: (**key).to_owned() }).collect();
            self.apply(&mut keys, operations);
        }
    }

    /// Applies operations whose comparisons hold and answers the revision.
    fn apply(&self, keys: &mut Keys, operations: Vec<Operation>) -> Revision {
        let current = self.history.revision();
        let revision = current + 1;
        let now = self.clock.elapsed();
        let changes: Vec<Change> =
            operations.into_iter().filter_map(|operation| keys.apply(operation, revision, now)).collect();
        if changes.is_empty() {
            return current;
        }
        // Published under the write lock, so that readers see keys and history at the same revision.
        self.history.publish(vec![Commit { revision, changes }]);
        revision
    }
}

impl Keys {
    fn apply(&mut self, operation: Operation, revision: Revision, now: Duration) -> Option<Change> {
        match operation {
            Operation::Put { key, value, ttl } => {
                // A time to live beyond what a clock can count is forever.
                self.deadlines.set(&key, ttl.and_then(|ttl| now.checked_add(ttl)));
                self.bytes += key.len() + value.len();
                let new = |created| Stored { value: value.clone(), revision, created };
                let (previous, created) = match self.values.entry(key.clone()) {
                    btree_map::Entry::Vacant(entry) => {
                        entry.insert(new(revision));
                        (None, revision)
                    }
                    btree_map::Entry::Occupied(mut entry) => {
                        let created = entry.get().created;
                        let old = entry.insert(new(created));
                        self.bytes -= key.len() + old.value.len();
                        (Some(old.at(&key)), created)
                    }
                };
                Some(Change { key, value: Some(value), previous, revision, created })
            }
            Operation::Delete { key } => {
                let old = self.values.remove(&key)?;
                self.deadlines.set(&key, None);
                self.bytes -= key.len() + old.value.len();
                let (previous, created) = (Some(old.at(&key)), old.created);
                Some(Change { key, value: None, previous, revision, created })
            }
        }
    }

    /// Keys that start with `prefix` and come after `after`, in order.
    fn range<'a>(&'a self, prefix: &'a str, after: Option<&'a str>) -> impl Iterator<Item = (&'a String, &'a Stored)> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        self.values.range::<str, _>((start, Bound::Unbounded)).take_while(move |(key, _)| key.starts_with(prefix))
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn get(&self, key: &str) -> Result<Snapshot<Option<KeyValue>>, Error> {
        let keys = self.state.read();
        let value = keys.values.get(key).map(|stored| stored.at(key));
        Ok(Snapshot { value, revision: self.state.history.revision() })
    }

    async fn list(&self, prefix: &str, options: ListOptions) -> Result<Page, Error> {
        let keys = self.state.read();
        let current = self.state.history.revision();
        let after = options.after.as_deref();
        let limit = if options.limit == 0 { usize::MAX } else { options.limit };
        let revision = options.revision.unwrap_or(current);
        let overlay = self.state.history.overlay(prefix, revision, current)?;
        let mut rest = past(keys.range(prefix, after), overlay, after);
        let entries: Vec<KeyValue> = rest.by_ref().take(limit).map(Entry::into_key_value).collect();
        let remaining = rest.count();
        Ok(Page { entries, more: remaining > 0, remaining: Some(remaining as u64), revision })
    }

    async fn commit(&self, transaction: Transaction) -> Result<Committed, Error> {
        transaction.check()?;
        let expires = transaction.operations.iter().any(|put| matches!(put, Operation::Put { ttl: Some(_), .. }));
        let revision = {
            let mut keys = self.state.write();
            for compare in transaction.compare {
                let stored = keys.values.get(&compare.key);
                if stored.map_or(0, |stored| stored.revision) != compare.revision {
                    let current = stored.map(|stored| stored.at(&compare.key));
                    return Ok(Committed::Conflict { key: compare.key, current });
                }
            }
            self.state.apply(&mut keys, transaction.operations)
        };
        if expires {
            self.wake_expiry();
        }
        Ok(Committed::Done(revision))
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream, Error> {
        self.state.history.watch(prefix, after)
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.state.history.compact(revision)
    }

    async fn status(&self) -> Result<Status, Error> {
        let keys = self.state.read();
        let history = &self.state.history;
        Ok(Status {
            revision: history.revision(),
            compacted: history.compacted(),
            keys: Some(keys.values.len() as u64),
            bytes: Some((keys.bytes + history.bytes()) as u64),
        })
    }
}

/// A listed key: as it is, or as it was before a change.
enum Entry<'a> {
    Now(&'a String, &'a Stored),
    Past(KeyValue),
}

impl Entry<'_> {
    fn into_key_value(self) -> KeyValue {
        match self {
            Self::Now(key, stored) => stored.at(key),
            Self::Past(was) => was,
        }
    }
}

/// Merges the keys of now with what they held in the past.
fn past<'a>(
    now: impl Iterator<Item = (&'a String, &'a Stored)>,
    overlay: BTreeMap<String, Option<KeyValue>>,
    after: Option<&str>,
) -> impl Iterator<Item = Entry<'a>> {
    let after = after.map(str::to_owned);
    let mut now = now.peekable();
    let mut overlay = overlay.into_iter().skip_while(move |(key, _)| Some(key) <= after.as_ref()).peekable();
    std::iter::from_fn(move || {
        loop {
            let changed = match (now.peek(), overlay.peek()) {
                (_, None) => false,
                (None, Some(_)) => true,
                (Some((key, _)), Some((changed, _))) => changed <= *key,
            };
            if !changed {
                return now.next().map(|(key, stored)| Entry::Now(key, stored));
            }
            let (key, was) = overlay.next()?;
            now.next_if(|(current, _)| **current == key);
            if let Some(was) = was {
                return Some(Entry::Past(was));
            }
        }
    })
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
