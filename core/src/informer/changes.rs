//! Changes as something to wait for: bounded, because news about one object replaces older news about it.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use indexmap::IndexMap;
use tokio::sync::Notify;

use super::cache::{Change, ObjectKey};
use super::typed::downcast;
use crate::kind::{AnyObject, DynObject, Kind};

/// The changes of an informer's cache for one reader, oldest object first.
///
/// A slow reader misses intermediate states of an object, never an object: at most one piece of news waits for each, and one
/// more while the reader is at those that it took before.
/// If an object was deleted and one of the same name made anew, the reader gets both.
#[derive(Debug)]
pub struct Changes<K> {
    shared: Arc<Shared>,
    /// What waited when the reader last looked: taken at once, since a queue with keys is slow to take single things from.
    taken: indexmap::map::IntoValues<ObjectKey, Waiting>,
    /// The second half of a replacement, delivered before anything else.
    next: VecDeque<Change<DynObject>>,
    kind: PhantomData<fn() -> K>,
}

#[derive(Debug, Default)]
pub(super) struct Shared {
    waiting: Mutex<IndexMap<ObjectKey, Waiting>>,
    news: Notify,
}

/// What the reader last saw of an object, and what it shall see.
#[derive(Debug)]
struct Waiting {
    old: Option<DynObject>,
    new: Option<DynObject>,
}

impl Shared {
    pub(super) fn push(&self, change: &Change<DynObject>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = waiting
            .entry(ObjectKey::of(&**change.object()))
            .or_insert_with(|| Waiting { old: change.old().cloned(), new: None });
        entry.new = change.current().cloned();
        drop(waiting);
        self.news.notify_one();
    }
}

impl<K: Kind> Changes<K> {
    pub(super) fn new() -> (Self, Weak<Shared>) {
        let shared = Arc::new(Shared::default());
        let weak = Arc::downgrade(&shared);
        (Self { shared, taken: IndexMap::new().into_values(), next: VecDeque::new(), kind: PhantomData }, weak)
    }

    /// The next change. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Change<Arc<K>> {
        loop {
            if let Some(change) = self.try_next() {
                return change;
            }
            self.shared.news.notified().await;
        }
    }

    /// The next change, if one waits.
    pub fn try_next(&mut self) -> Option<Change<Arc<K>>> {
        loop {
            if let Some(change) = self.next.pop_front() {
                return Some(change.map(downcast));
            }
            let Waiting { old, new } = match self.taken.next() {
                Some(waiting) => waiting,
                None => {
                    let waiting =
                        std::mem::take(&mut *self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner));
                    self.taken = waiting.into_values();
                    self.taken.next()?
                }
            };
            let same = |old: &dyn AnyObject, new: &dyn AnyObject| old.meta().uid == new.meta().uid;
            match (old, new) {
                // Came and went before the reader looked.
                (None, None) => {}
                (None, Some(new)) => self.next.push_back(Change::Added(new)),
                (Some(old), None) => self.next.push_back(Change::Deleted(old)),
                (Some(old), Some(new)) if same(&*old, &*new) => self.next.push_back(Change::Modified { old, new }),
                (Some(old), Some(new)) => self.next.extend([Change::Deleted(old), Change::Added(new)]),
            }
        }
    }
}
