//! What really happened: every commit, as the store beneath all servers made it.
//!
//! Observers lose the thread when the store forgets its past. What none of them told is told here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use longshore_core::kind::DynObject;
use longshore_core::store::{
    Committed, Error, KeyValue, ListOptions, MemoryStore, Operation, Page, Revision, Snapshot, Status, Store,
    Transaction, WatchStream,
};
use longshore_faults::history::{Change, Kind};

use crate::log::{kind_type, namespace};

/// The store in memory, whose commits are remembered.
#[derive(Debug)]
pub struct Truth {
    store: Arc<MemoryStore>,
    /// Where objects of a kind are.
    prefixes: Vec<(String, Kind)>,
    commits: Mutex<Vec<Put>>,
}

/// A change of one key.
#[derive(Debug)]
struct Put {
    kind: Kind,
    name: String,
    revision: Revision,
    value: Option<Bytes>,
}

/// A change of one object.
#[derive(Debug)]
pub struct Happened {
    /// Of what kind.
    pub kind: Kind,
    /// Name of the object.
    pub name: String,
    /// The commit's revision.
    pub revision: Revision,
    /// What happened.
    pub change: Change,
    /// The object after it, as it was stored; of a deletion, its last state.
    pub value: Bytes,
}

impl Happened {
    /// The object, with its revision; `None` if what was stored is none.
    pub fn object(&self) -> Option<DynObject> {
        let mut object = (kind_type(self.kind).from_slice)(&self.value).ok()?;
        object.meta_mut().resource_version = Some(self.revision.to_string());
        Some(object.into())
    }
}

/// Where the objects of a kind are that are observed.
pub fn prefix(kind: Kind) -> String {
    let info = &kind_type(kind).info;
    format!("/registry/{}/{}/{}/", info.group, info.plural, namespace(kind).unwrap_or_default())
}

impl Truth {
    /// Remembers what is committed from now on.
    pub fn new(store: Arc<MemoryStore>) -> Self {
        let prefixes = Kind::ALL.into_iter().map(|kind| (prefix(kind), kind)).collect();
        Self { store, prefixes, commits: Mutex::default() }
    }

    fn commits(&self) -> MutexGuard<'_, Vec<Put>> {
        self.commits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that happened so far to objects that are observed, in order.
    pub fn happened(&self) -> Vec<Happened> {
        let mut last: BTreeMap<(Kind, String), Bytes> = BTreeMap::new();
        let mut all = Vec::new();
        for Put { kind, name, revision, value } in std::mem::take(&mut *self.commits()) {
            let before = match &value {
                Some(value) => last.insert((kind, name.clone()), value.clone()),
                None => last.remove(&(kind, name.clone())),
            };
            let (change, value) = match (before, value) {
                (None, Some(value)) => (Change::Added, value),
                (Some(_), Some(value)) => (Change::Modified, value),
                (Some(before), None) => (Change::Deleted, before),
                (None, None) => continue,
            };
            all.push(Happened { kind, name, revision, change, value });
        }
        all
    }
}

#[async_trait]
impl Store for Truth {
    async fn get(&self, key: &str) -> Result<Snapshot<Option<KeyValue>>, Error> {
        self.store.get(key).await
    }

    async fn list(&self, prefix: &str, options: ListOptions) -> Result<Page, Error> {
        self.store.list(prefix, options).await
    }

    async fn commit(&self, transaction: Transaction) -> Result<Committed, Error> {
        let keys: Vec<String> = match tracing::enabled!(tracing::Level::TRACE) {
            true => transaction.operations.iter().map(|operation| operation.key().to_owned()).collect(),
            false => Vec::new(),
        };
        let mut seen = Vec::new();
        for operation in &transaction.operations {
            let found =
                self.prefixes.iter().find_map(|(prefix, kind)| Some((operation.key().strip_prefix(prefix)?, kind)));
            if let Some((name, kind)) = found {
                let value = match operation {
                    Operation::Put { value, .. } => Some(value.clone()),
                    Operation::Delete { .. } => None,
                };
                seen.push(Put { kind: *kind, name: name.to_owned(), revision: 0, value });
            }
        }
        let done = self.store.commit(transaction).await?;
        if let Committed::Done(revision) = done {
            tracing::trace!(revision, ?keys, "committed");
            self.commits().extend(seen.into_iter().map(|put| Put { revision, ..put }));
        }
        Ok(done)
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<WatchStream, Error> {
        self.store.watch(prefix, after).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.store.compact(revision).await
    }

    async fn status(&self) -> Result<Status, Error> {
        self.store.status().await
    }
}
