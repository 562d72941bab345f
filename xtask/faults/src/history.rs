//! What was seen and done during a run: changes that watches told, and what clients asked and were answered.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHasher};
use serde_json::Value;

use crate::check::Violation;

/// Kinds of objects that are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Registers of the clients that check single keys.
    ConfigMap,
    /// Rolling updates.
    Deployment,
    /// Work that ends.
    Job,
    /// Leases of leaders.
    Lease,
    /// Their amounts of resources.
    Node,
    /// Bindings, phases.
    Pod,
    /// How a Deployment's pods are divided.
    ReplicaSet,
    /// Pods with names of their own.
    StatefulSet,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::ConfigMap,
        Self::Deployment,
        Self::Job,
        Self::Lease,
        Self::Node,
        Self::Pod,
        Self::ReplicaSet,
        Self::StatefulSet,
    ];

    /// Where the objects of the run are, as a path of the API.
    pub fn path(self) -> &'static str {
        match self {
            Self::ConfigMap => "/api/v1/namespaces/default/configmaps",
            Self::Deployment => "/apis/apps/v1/namespaces/default/deployments",
            Self::Job => "/apis/batch/v1/namespaces/default/jobs",
            Self::Lease => "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases",
            Self::Node => "/api/v1/nodes",
            Self::Pod => "/api/v1/namespaces/default/pods",
            Self::ReplicaSet => "/apis/apps/v1/namespaces/default/replicasets",
            Self::StatefulSet => "/apis/apps/v1/namespaces/default/statefulsets",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It appeared.
    Added,
    /// It changed.
    Modified,
    /// It went.
    Deleted,
}

/// One change, as a watch told it. All objects of a kind are in one namespace, so a name is enough.
#[derive(Debug, Clone)]
pub struct Event {
    /// Of what kind.
    pub kind: Kind,
    /// Name of the object.
    pub name: String,
    /// The object's `resourceVersion`; of a deletion, that of the deletion.
    pub revision: u64,
    /// What happened.
    pub change: Change,
    /// The object after it; of a deletion, its last state.
    pub object: Arc<Value>,
}

/// A stretch of changes from which nothing may be missing.
#[derive(Debug, Clone, Default)]
pub struct Span {
    /// Revision of the listing that it begins with.
    pub from: u64,
    /// Up to where it is known to be complete.
    pub until: u64,
    /// The changes, in the order in which they came.
    pub events: Vec<Event>,
}

/// What one API server told of one kind. A new span begins with each listing.
#[derive(Debug, Clone)]
pub struct Stream {
    /// Which server.
    pub server: usize,
    /// Which kind.
    pub kind: Kind,
    /// What it told.
    pub spans: Vec<Span>,
}

/// One object in memory for each content, whoever told it.
#[derive(Debug, Default)]
pub struct Interner(FxHashMap<u64, Vec<Arc<Value>>>);

impl Interner {
    /// The shared copy of an object.
    pub fn intern(&mut self, object: Value) -> Arc<Value> {
        let mut hasher = FxHasher::default();
        object.hash(&mut hasher);
        let same = self.0.entry(hasher.finish()).or_default();
        if let Some(known) = same.iter().find(|known| ***known == object) {
            return Arc::clone(known);
        }
        let object = Arc::new(object);
        same.push(Arc::clone(&object));
        object
    }
}

/// How a write ended, as its client knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was acknowledged.
    Done,
    /// It was refused because of what was there.
    Refused,
    /// Nobody knows whether it happened or will happen.
    Unknown,
}

/// One request about a single key that is used as a register. Values are unique; a condition names a value, which stands
/// for the revision that it was read with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// What was read; `None` if there was no such object.
    Read(Option<u64>),
    /// The object is created with this value if it is not there.
    Create(u64, Outcome),
    /// The second value replaces the first.
    Swap(u64, u64, Outcome),
    /// The object is deleted if it has this value.
    Delete(u64, Outcome),
}

/// A call and when it was made, by one clock for all clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// When it was sent.
    pub called: Duration,
    /// When its answer came; of no meaning if the outcome is unknown.
    pub returned: Duration,
    /// What was asked and answered.
    pub call: Call,
}

/// A write that was acknowledged.
#[derive(Debug, Clone)]
pub struct Acknowledged {
    /// Of what kind.
    pub kind: Kind,
    /// Name of the object.
    pub name: String,
    /// What was answered: the object as stored, or as it was when it went.
    pub object: Arc<Value>,
    /// Whether it was a deletion.
    pub deletion: bool,
}

/// All that a run leaves to be checked.
#[derive(Debug, Default)]
pub struct History {
    /// What the watches told.
    pub streams: Vec<Stream>,
    /// Requests about registers, by key.
    pub registers: BTreeMap<String, Vec<Operation>>,
    /// Which value a register had at which revision, as answers told.
    pub values: Vec<(String, u64, u64)>,
    /// Acknowledged writes.
    pub acknowledged: Vec<Acknowledged>,
}

/// `resourceVersion` of an object.
pub fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Name of an object.
pub fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// Uid of an object.
pub fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap_or_default()
}

/// All changes in the order of their revisions, each once; and which of them watches do not agree about.
pub fn merge(streams: &[Stream]) -> (Vec<Event>, Vec<Violation>) {
    let mut merged: BTreeMap<(u64, Kind, &str), &Event> = BTreeMap::new();
    let mut violations = Vec::new();
    for stream in streams {
        for event in stream.spans.iter().flat_map(|span| &span.events) {
            let place = (event.revision, event.kind, event.name.as_str());
            let first = *merged.entry(place).or_insert(event);
            if first.change != event.change
                || (!Arc::ptr_eq(&first.object, &event.object) && first.object != event.object)
            {
                violations.push(Violation::new(
                    "revisions",
                    format!("{} {} at {}: watches tell different things of it", event.kind, event.name, event.revision),
                ));
            }
        }
    }
    (merged.into_values().cloned().collect(), violations)
}
