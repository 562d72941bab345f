//! The watch cache: every object of the cluster decoded once per process, and the recent changes of each kind.
//!
//! One watch of the store feeds all kinds, so the cache always stands at one revision. Watchers hold only a place in
//! their kind's window of recent events: memory is bounded however slow they are, and one that falls out of the window
//! is told that its version expired.

pub(crate) mod feed;
pub(crate) mod handoff;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use longshore_core::client::Error;
use longshore_core::kind::{DynObject, KindType};
use longshore_core::store::{Revision, Store};
use rustc_hash::FxHashMap;
use tokio::sync::watch as signal;

use crate::key::{PREFIX, kind_prefix};
use crate::selector::Filter;
use crate::status;

pub(crate) use feed::Feed;
pub(crate) use handoff::Handoff;
pub(crate) use watch::{Bookmarks, watch};

/// Key under which nothing is ever stored: reading it tells the store's revision, linearizably.
const PROBE: &str = "/longshore/revision";

/// The cached objects of all kinds.
#[derive(Debug)]
pub(crate) struct Cache {
    kinds: FxHashMap<String, Arc<KindCache>>,
    by_name: FxHashMap<(&'static str, &'static str), Arc<KindCache>>,
    revision: signal::Sender<Revision>,
    pub(crate) handoff: Handoff,
}

/// The cached objects of one kind.
#[derive(Debug)]
pub(crate) struct KindCache {
    pub(crate) kind: &'static KindType,
    state: RwLock<State>,
    /// Told whenever there is something new for watchers of this kind.
    changed: signal::Sender<Revision>,
    window: usize,
}

#[derive(Debug, Default)]
struct State {
    /// By `namespace/name`, in the store's order.
    objects: BTreeMap<String, Cached>,
    events: VecDeque<Arc<Event>>,
    /// Every event after this revision is in `events`.
    oldest: Revision,
    /// Revision of the last event.
    newest: Revision,
    closed: bool,
}

/// An object and the revision that put it.
#[derive(Debug, Clone)]
pub(crate) struct Cached {
    pub(crate) object: DynObject,
    pub(crate) revision: Revision,
}

/// Events that are kept of each kind however old they are.
const EVENTS_MIN: usize = 128;

/// How long events are kept beyond that: enough for a watcher that has to connect anew.
const EVENTS_AGE: Duration = Duration::from_secs(300);

/// One change of one object.
#[derive(Debug)]
pub(crate) struct Event {
    /// When the cache learned of it, by the clock's elapsed time.
    at: Duration,
    revision: Revision,
    key: String,
    /// The object as it is now; of a deleted one the last state, with the version of the deletion.
    object: DynObject,
    previous: Option<DynObject>,
    deleted: bool,
}

/// Objects of one kind as of one revision.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) objects: Vec<DynObject>,
    pub(crate) revision: Revision,
    /// The key after which objects remain.
    pub(crate) more_after: Option<String>,
    pub(crate) remaining: Option<i64>,
}

impl Cache {
    pub(crate) fn new(kinds: &[&'static KindType], window: usize) -> Self {
        let mut by_prefix = FxHashMap::default();
        let mut by_name = FxHashMap::default();
        for kind in kinds {
            let cache = Arc::new(KindCache { kind, state: RwLock::default(), changed: signal::Sender::new(0), window });
            by_prefix.insert(kind_prefix(&kind.info), Arc::clone(&cache));
            by_name.insert((kind.info.group, kind.info.kind), cache);
        }
        Self { kinds: by_prefix, by_name, revision: signal::Sender::new(0), handoff: Handoff::default() }
    }

    /// The cache of a kind; an error if the kind is not served.
    pub(crate) fn kind(&self, kind: &KindType) -> Result<&Arc<KindCache>, Error> {
        self.by_name
            .get(&(kind.info.group, kind.info.kind))
            .ok_or_else(|| status::failure(404, "NotFound", "the server could not find the requested resource"))
    }

    /// The cache and the rest of a stored key; `None` for kinds that are not served.
    fn split_key<'a>(&self, key: &'a str) -> Option<(&Arc<KindCache>, &'a str)> {
        let rest = key.strip_prefix(PREFIX)?;
        let end = rest.match_indices('/').nth(1)?.0 + PREFIX.len() + 1;
        Some((self.kinds.get(&key[..end])?, &key[end..]))
    }

    /// The revision up to which the cache is complete.
    pub(crate) fn revision(&self) -> Revision {
        *self.revision.borrow()
    }

    /// Tells of every revision up to which the cache becomes complete.
    pub(crate) fn revisions(&self) -> signal::Receiver<Revision> {
        self.revision.subscribe()
    }

    /// Waits until the cache is complete up to `revision`.
    pub(crate) async fn reach(&self, revision: Revision) {
        if self.revision() >= revision {
            return;
        }
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.revision.subscribe().wait_for(|reached| *reached >= revision).await;
    }

    /// The revision of the last commit before this call.
    pub(crate) async fn newest(&self, store: &dyn Store) -> Result<Revision, Error> {
        Ok(store.get(PROBE).await.map_err(|error| status::from_store(error, "read"))?.revision)
    }

    /// Waits until the cache has everything that was committed before this call.
    pub(crate) async fn fresh(&self, store: &dyn Store) -> Result<(), Error> {
        let now = self.newest(store).await?;
        self.reach(now).await;
        Ok(())
    }

    /// Ends all watches.
    pub(crate) fn close(&self) {
        for kind in self.kinds.values() {
            kind.write().closed = true;
            kind.changed.send_modify(|_| {});
        }
    }
}

impl KindCache {
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The object under `namespace/name` (`/name` for kinds without namespace).
    pub(crate) fn get(&self, key: &str) -> Option<Cached> {
        self.read().objects.get(key).cloned()
    }

    /// All objects, as of now.
    pub(crate) fn objects(&self) -> Vec<DynObject> {
        self.read().objects.values().map(|cached| Arc::clone(&cached.object)).collect()
    }

    /// Changes whenever an object of the kind does, from now on.
    pub(crate) fn changes(&self) -> signal::Receiver<Revision> {
        self.changed.subscribe()
    }

    /// How many objects there are.
    pub(crate) fn len(&self) -> usize {
        self.read().objects.len()
    }

    /// Lists what matches, as of now. `reached` is the cache's revision, read before this call.
    pub(crate) fn list(&self, namespace: Option<&str>, filter: &Filter, limit: usize, reached: Revision) -> Listing {
        let prefix = namespace.map(|namespace| format!("{namespace}/")).unwrap_or_default();
        let state = self.read();
        let revision = reached.max(state.newest);
        let mut objects = Vec::new();
        let mut last = None;
        let mut range = state
            .objects
            .range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(&prefix));
        for (key, cached) in range.by_ref() {
            if !filter.is_empty() && !filter.matches(&*cached.object) {
                continue;
            }
            objects.push(Arc::clone(&cached.object));
            if limit > 0 && objects.len() == limit {
                last = Some(key.clone());
                break;
            }
        }
        let rest = if last.is_some() { range.count() } else { 0 };
        let more_after = last.filter(|_| rest > 0);
        let remaining = (more_after.is_some() && filter.is_empty()).then_some(rest as i64);
        Listing { objects, revision, more_after, remaining }
    }
}

impl State {
    fn push(&mut self, event: Event, window: usize) {
        let now = event.at;
        self.newest = event.revision;
        self.events.push_back(Arc::new(event));
        while let Some(oldest) = self.events.front() {
            let stale = self.events.len() > EVENTS_MIN && now.saturating_sub(oldest.at) > EVENTS_AGE;
            if self.events.len() <= window && !stale {
                break;
            }
            self.oldest = oldest.revision;
            self.events.pop_front();
        }
    }
}
