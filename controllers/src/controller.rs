//! What a controller is.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use jiff::Timestamp;
use longshore_core::client::Error;
use longshore_core::informer::{Change, DynInformer, Informer, Informers};
use longshore_core::kind::{DynObject, Kind, KindType};
use longshore_core::queue::WorkQueue;

use crate::plan::{Plan, Verb};

/// A loop that brings one sort of thing to where it shall be, one key at a time.
pub trait Controller: fmt::Debug + Send + Sync + 'static {
    /// What the controller works on, mostly an [`ObjectKey`](longshore_core::informer::ObjectKey).
    type Key: Clone + Eq + Hash + fmt::Debug + Send + Sync + 'static;

    /// The name in logs and metrics, as upstream's: `replicaset`.
    fn name(&self) -> &'static str;

    /// The name under which it records events, as upstream's: `replicaset-controller`.
    fn component(&self) -> String {
        format!("{}-controller", self.name().replace('_', "-"))
    }

    /// Says which changes of which kinds make which keys worth a look, and which indexes [`Controller::reconcile`]
    /// needs. Every kind that it reads must be named here.
    fn triggers(&self, triggers: &Triggers<Self::Key>);

    /// Decides what to do about a key. Depends on nothing but its arguments (save what only the moment of a change tells, such as how
    /// long a node has been silent); the same view gives the same plan. It is told *which* key, never *why*, and may be called at any time
    /// and any number of times.
    fn reconcile(&self, view: &View<'_>, key: &Self::Key, now: Timestamp) -> Plan;
}

/// Where a controller says what wakes it.
pub struct Triggers<T> {
    informers: Informers,
    queue: WorkQueue<T>,
}

impl<T> Clone for Triggers<T> {
    fn clone(&self) -> Self {
        Self { informers: self.informers.clone(), queue: self.queue.clone() }
    }
}

impl<T: Clone + Eq + Hash> fmt::Debug for Triggers<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Triggers").field("queue", &self.queue).finish_non_exhaustive()
    }
}

impl<T: Clone + Eq + Hash + Send + Sync + 'static> Triggers<T> {
    pub(crate) fn new(informers: Informers, queue: WorkQueue<T>) -> Self {
        Self { informers, queue }
    }

    /// The informer of a kind, to add indexes to.
    pub fn informer<K: Kind>(&self) -> Informer<K> {
        self.informers.of()
    }

    /// The informer of a kind known only at run time.
    pub fn dyn_informer(&self, kind: &'static KindType) -> DynInformer {
        self.informers.of_kind(kind)
    }

    /// Looks at the keys that `keys` names, whenever an object of kind `K` changes.
    pub fn on<K: Kind, I: IntoIterator<Item = T>>(&self, keys: impl Fn(&Change<Arc<K>>) -> I + Send + Sync + 'static) {
        let queue = self.queue.clone();
        self.informers.of::<K>().on_change(move |change| keys(&change).into_iter().for_each(|key| queue.add(key)));
    }

    /// The same for a kind known only at run time.
    pub fn on_kind<I: IntoIterator<Item = T>>(
        &self,
        kind: &'static KindType,
        keys: impl Fn(&Change<DynObject>) -> I + Send + Sync + 'static,
    ) {
        let queue = self.queue.clone();
        self.informers.of_kind(kind).on_change(move |change| keys(change).into_iter().for_each(|key| queue.add(key)));
    }
}

/// What happened when the last plan for a key was carried out.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// What sort of action was tried.
    pub verb: Verb,
    /// The kind of the object that it was tried on.
    pub kind: &'static KindType,
    /// What was tried, in words.
    pub action: String,
    /// How it failed.
    pub error: Error,
}

/// What a controller sees.
#[derive(Debug)]
pub struct View<'a> {
    informers: &'a Informers,
    failure: Option<&'a Failure>,
}

impl<'a> View<'a> {
    /// What the caches show, and how the last plan for the key failed, if it did.
    pub fn new(informers: &'a Informers, failure: Option<&'a Failure>) -> Self {
        Self { informers, failure }
    }

    /// The objects of a kind.
    pub fn of<K: Kind>(&self) -> Informer<K> {
        self.informers.of()
    }

    /// The objects of a kind known only at run time.
    pub fn of_kind(&self, kind: &'static KindType) -> DynInformer {
        self.informers.of_kind(kind)
    }

    /// How the last plan for the key failed; `None` if it did not.
    pub fn failure(&self) -> Option<&'a Failure> {
        self.failure
    }
}
