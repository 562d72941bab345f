//! Where clients and observers write down what they see.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use longshore_core::api::{ConfigMap, Deployment, Job, Lease, Node, Pod, ReplicaSet, StatefulSet};
use longshore_core::kind::{DynObject, KindType};
use longshore_faults::history::{Acknowledged, Call, Change, Event, History, Kind, Operation, Span, Stream};
use rustc_hash::{FxHashMap, FxHasher};
use serde_json::Value;

use crate::truth::Happened;

/// The type of a kind.
pub fn kind_type(kind: Kind) -> &'static KindType {
    match kind {
        Kind::ConfigMap => KindType::of::<ConfigMap>(),
        Kind::Deployment => KindType::of::<Deployment>(),
        Kind::Job => KindType::of::<Job>(),
        Kind::Lease => KindType::of::<Lease>(),
        Kind::Node => KindType::of::<Node>(),
        Kind::Pod => KindType::of::<Pod>(),
        Kind::ReplicaSet => KindType::of::<ReplicaSet>(),
        Kind::StatefulSet => KindType::of::<StatefulSet>(),
    }
}

/// The namespace in which objects of a kind are observed.
pub fn namespace(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Node => None,
        Kind::Lease => Some("kube-system"),
        _ => Some("default"),
    }
}

/// `resourceVersion` of an object.
pub fn revision(object: &DynObject) -> u64 {
    object.meta().resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Name of an object.
pub fn name(object: &DynObject) -> &str {
    object.meta().name.as_deref().unwrap_or_default()
}

/// All of it; the processes share it.
#[derive(Debug, Default)]
pub struct Log {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Grows with every moment that is asked for: all happens in one thread, so there is one order.
    moments: u64,
    streams: BTreeMap<(usize, Kind), Vec<Heard>>,
    states: BTreeMap<(usize, Kind), BTreeMap<String, DynObject>>,
    registers: BTreeMap<String, Vec<Operation>>,
    values: Vec<(String, u64, u64)>,
    acknowledged: Vec<(Kind, String, DynObject, bool)>,
    unexpected: BTreeSet<String>,
}

/// A stretch of what an observer heard.
#[derive(Debug)]
struct Heard {
    from: u64,
    until: u64,
    events: Vec<(Change, DynObject)>,
}

/// What a log comes to.
#[derive(Debug)]
pub struct Told {
    /// To be checked.
    pub history: History,
    /// Answers that no client should get.
    pub unexpected: BTreeSet<String>,
    /// Of all that happened; equal for equal seeds.
    pub fingerprint: u64,
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This moment: later than all before, however little virtual time passes.
    pub fn moment(&self) -> Duration {
        let mut inner = self.lock();
        inner.moments += 1;
        Duration::from_nanos(inner.moments)
    }

    /// An observer begins with a listing, from which nothing is known of what was before.
    pub fn listed(&self, server: usize, kind: Kind, from: u64, items: Vec<DynObject>) {
        let inner = &mut *self.lock();
        let state = items.into_iter().map(|item| (name(&item).to_owned(), item)).collect();
        inner.states.insert((server, kind), state);
        inner.streams.entry((server, kind)).or_default().push(Heard { from, until: from, events: Vec::new() });
    }

    /// An observer is told of a change.
    pub fn changed(&self, server: usize, kind: Kind, change: Change, object: DynObject) {
        let inner = &mut *self.lock();
        let state = inner.states.entry((server, kind)).or_default();
        if change == Change::Deleted {
            state.remove(name(&object));
        } else {
            state.insert(name(&object).to_owned(), object.clone());
        }
        if let Some(heard) = inner.streams.entry((server, kind)).or_default().last_mut() {
            heard.until = heard.until.max(revision(&object));
            heard.events.push((change, object));
        }
    }

    /// An observer is told up to where it knows everything.
    pub fn bookmark(&self, server: usize, kind: Kind, until: u64) {
        if let Some(heard) = self.lock().streams.entry((server, kind)).or_default().last_mut() {
            heard.until = heard.until.max(until);
        }
    }

    /// The objects of a kind, as the observer of a server knows them.
    pub fn state(&self, server: usize, kind: Kind) -> Vec<DynObject> {
        let inner = self.lock();
        inner.states.get(&(server, kind)).into_iter().flat_map(|state| state.values().cloned()).collect()
    }

    /// How many streams have begun.
    pub fn streams(&self) -> usize {
        self.lock().streams.len()
    }

    /// A request about a register was answered, or not.
    pub fn called(&self, key: &str, called: Duration, call: Call) {
        let returned = self.moment();
        tracing::debug!(key, ?called, ?returned, ?call, "answered");
        let operation = Operation { called, returned, call };
        self.lock().registers.entry(key.to_owned()).or_default().push(operation);
    }

    /// An answer told which value a register has at a revision.
    pub fn has(&self, key: &str, revision: u64, value: u64) {
        self.lock().values.push((key.to_owned(), revision, value));
    }

    /// A write was acknowledged.
    pub fn acknowledged(&self, kind: Kind, object: &DynObject, deletion: bool) {
        self.lock().acknowledged.push((kind, name(object).to_owned(), object.clone(), deletion));
    }

    /// A client got an answer that it should not get.
    pub fn unexpected(&self, what: String) {
        self.lock().unexpected.insert(what);
    }

    /// All of it as a history, in which what really happened is one more stream, as if told by the server of this number.
    pub fn finish(&self, happened: &[Happened], truth: usize) -> Told {
        let Inner { streams, registers, values, acknowledged, unexpected, moments, .. } =
            std::mem::take(&mut *self.lock());
        let mut hasher = FxHasher::default();
        moments.hash(&mut hasher);
        let mut known = Known::default();
        let mut told = Vec::new();
        for ((server, kind), heard) in streams {
            let spans = heard.into_iter().map(|Heard { from, until, events }| {
                (from, until, events.len()).hash(&mut hasher);
                let event = |(change, object): (Change, DynObject)| {
                    let (name, revision) = (name(&object).to_owned(), revision(&object));
                    (revision, change as u8).hash(&mut hasher);
                    Event { kind, name, revision, change, object: known.value(kind, object) }
                };
                Span { from, until, events: events.into_iter().map(event).collect() }
            });
            told.push(Stream { server, kind, spans: spans.collect() });
        }
        for kind in Kind::ALL {
            let same = happened.iter().filter(|happened| happened.kind == kind);
            let events = same.filter_map(|happened| {
                let Happened { name, revision, change, value, .. } = happened;
                (revision, *change as u8, value).hash(&mut hasher);
                let object = match known.told(kind, *revision, name) {
                    Some(told) => told,
                    None => known.value(kind, happened.object()?),
                };
                Some(Event { kind, name: name.clone(), revision: *revision, change: *change, object })
            });
            let events: Vec<Event> = events.collect();
            let until = events.last().map_or(0, |event| event.revision);
            told.push(Stream { server: truth, kind, spans: vec![Span { from: 0, until, events }] });
        }
        for (key, operations) in &registers {
            key.hash(&mut hasher);
            operations.iter().for_each(|one| (one.called, one.returned).hash(&mut hasher));
        }
        let acknowledged = acknowledged.into_iter().map(|(kind, name, object, deletion)| {
            let object = known.value(kind, object);
            Acknowledged { kind, name, object, deletion }
        });
        let acknowledged = acknowledged.collect();
        let history = History { streams: told, registers, values, acknowledged };
        Told { history, unexpected, fingerprint: hasher.finish() }
    }
}

/// What was told of a kind at a revision: of objects that are as they should be, each once.
type Same = Vec<(DynObject, Arc<Value>)>;

/// Objects as JSON, each content once.
#[derive(Default)]
struct Known(FxHashMap<(Kind, u64), Same>);

impl Known {
    /// What observers told first of an object at a revision.
    fn told(&self, kind: Kind, revision: u64, of: &str) -> Option<Arc<Value>> {
        let same = self.0.get(&(kind, revision))?;
        same.iter().find(|(object, _)| name(object) == of).map(|(_, value)| Arc::clone(value))
    }

    fn value(&mut self, kind: Kind, object: DynObject) -> Arc<Value> {
        let same = self.0.entry((kind, revision(&object))).or_default();
        let is_known = |known: &DynObject| Arc::ptr_eq(known, &object) || known.equals(&*object);
        if let Some((_, value)) = same.iter().find(|(known, _)| is_known(known)) {
            return Arc::clone(value);
        }
        let value = Arc::new(object.to_unmanaged_value());
        same.push((object, Arc::clone(&value)));
        value
    }
}
