//! Where clients and watches write down what they see.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use longshore_core::clock::{Clock, SystemClock};
use serde_json::Value;

use crate::history::{
    Acknowledged, Call, Change, Event, History, Interner, Kind, Operation, Span, Stream, name, revision, uid,
};
use crate::plan::REPLICAS;

/// When a request that had to be tried again was answered at last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retried {
    /// When it was first sent.
    pub from: Duration,
    /// When it was answered.
    pub until: Duration,
}

/// All of it in one thread, so it needs no lock.
#[derive(Debug, Default)]
pub struct Recorder {
    clock: SystemClock,
    inner: RefCell<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    objects: Interner,
    streams: BTreeMap<(usize, Kind), Vec<Span>>,
    /// Name and revision of each object, as watches told.
    states: BTreeMap<(usize, Kind), BTreeMap<String, u64>>,
    history: History,
    /// Requests by verb.
    operations: BTreeMap<&'static str, u64>,
    retried: Vec<Retried>,
    unexpected: BTreeSet<String>,
    bound: BTreeSet<String>,
    bindings: Vec<Duration>,
    holders: BTreeMap<String, String>,
    elections: Vec<(Duration, String, String)>,
}

/// What a run measured beside its history.
#[derive(Debug, Default)]
pub struct Figures {
    /// Requests that were answered, by what they were.
    pub operations: BTreeMap<&'static str, u64>,
    /// Requests that had to be tried again.
    pub retried: Vec<Retried>,
    /// Answers that no client should get.
    pub unexpected: BTreeSet<String>,
    /// When pods were bound.
    pub bindings: Vec<Duration>,
    /// When which lease got which holder.
    pub elections: Vec<(Duration, String, String)>,
}

impl Recorder {
    /// Time since the start.
    pub fn now(&self) -> Duration {
        self.clock.elapsed()
    }

    /// A watch begins with a listing, from which nothing is known of what was before.
    pub fn listed(&self, server: usize, kind: Kind, list: &Value) {
        let from = revision(list);
        let items = list["items"].as_array().into_iter().flatten();
        let state = items.map(|item| (name(item).to_owned(), revision(item))).collect();
        let inner = &mut *self.inner.borrow_mut();
        inner.states.insert((server, kind), state);
        inner.streams.entry((server, kind)).or_default().push(Span { from, until: from, events: Vec::new() });
    }

    /// A watch told of a change.
    pub fn changed(&self, server: usize, kind: Kind, change: Change, mut object: Value) {
        // Nothing is checked about them, and they are half of an object.
        if let Some(fields) = object["metadata"].as_object_mut() {
            fields.remove("managedFields");
        }
        let now = self.now();
        let inner = &mut *self.inner.borrow_mut();
        if kind == Kind::Pod && object["spec"]["nodeName"].is_string() && inner.bound.insert(uid(&object).to_owned()) {
            inner.bindings.push(now);
        }
        if kind == Kind::Lease && change != Change::Deleted {
            let holder = object["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned();
            let known = inner.holders.entry(name(&object).to_owned()).or_default();
            // Watches of other servers may be behind; a holder never comes back, for a process that starts again has another name.
            if *known != holder && !inner.elections.iter().any(|(_, _, before)| *before == holder) {
                known.clone_from(&holder);
                inner.elections.push((now, name(&object).to_owned(), holder));
            }
        }
        let revision = revision(&object);
        let state = inner.states.entry((server, kind)).or_default();
        if change == Change::Deleted {
            state.remove(name(&object));
        } else {
            state.insert(name(&object).to_owned(), revision);
        }
        let event =
            Event { kind, name: name(&object).to_owned(), revision, change, object: inner.objects.intern(object) };
        if let Some(span) = inner.streams.entry((server, kind)).or_default().last_mut() {
            span.until = span.until.max(revision);
            span.events.push(event);
        }
    }

    /// A watch said up to where it has told everything.
    pub fn bookmark(&self, server: usize, kind: Kind, until: u64) {
        if let Some(span) = self.inner.borrow_mut().streams.entry((server, kind)).or_default().last_mut() {
            span.until = span.until.max(until);
        }
    }

    /// Who holds a lease.
    pub fn holder(&self, lease: &str) -> String {
        self.inner.borrow().holders.get(lease).cloned().unwrap_or_default()
    }

    /// A request about a register was answered, or not.
    pub fn called(&self, key: &str, called: Duration, call: Call) {
        let operation = Operation { called, returned: self.now(), call };
        self.inner.borrow_mut().history.registers.entry(key.to_owned()).or_default().push(operation);
    }

    /// An answer told which value a register has at a revision.
    pub fn has(&self, key: &str, revision: u64, value: u64) {
        self.inner.borrow_mut().history.values.push((key.to_owned(), revision, value));
    }

    /// A write was acknowledged.
    pub fn acknowledged(&self, kind: Kind, name: &str, mut object: Value, deletion: bool) {
        if let Some(fields) = object["metadata"].as_object_mut() {
            fields.remove("managedFields");
        }
        self.inner.borrow_mut().history.acknowledged.push(Acknowledged {
            kind,
            name: name.to_owned(),
            object: object.into(),
            deletion,
        });
    }

    /// A request was answered at last.
    pub fn answered(&self, what: &'static str, from: Duration, tries: usize) {
        let until = self.now();
        let inner = &mut *self.inner.borrow_mut();
        *inner.operations.entry(what).or_default() += 1;
        if tries > 1 {
            inner.retried.push(Retried { from, until });
        }
    }

    /// A client got an answer that it should not get.
    pub fn unexpected(&self, what: String) {
        self.inner.borrow_mut().unexpected.insert(what);
    }

    /// Whether every watch has begun.
    pub fn all_listed(&self) -> bool {
        self.inner.borrow().streams.len() == REPLICAS * Kind::ALL.len()
    }

    /// How many requests were answered so far.
    pub fn operations(&self) -> u64 {
        self.inner.borrow().operations.values().sum()
    }

    /// What watches have told so far, and the rest of the history.
    pub fn finish(self) -> (History, Figures) {
        let Inner { streams, mut history, operations, retried, unexpected, bindings, elections, .. } =
            self.inner.into_inner();
        history.streams = streams.into_iter().map(|((server, kind), spans)| Stream { server, kind, spans }).collect();
        (history, Figures { operations, retried, unexpected, bindings, elections })
    }

    /// Name and revision of a kind's objects, as one server has told.
    pub fn state(&self, server: usize, kind: Kind) -> BTreeMap<String, u64> {
        self.inner.borrow().states.get(&(server, kind)).cloned().unwrap_or_default()
    }
}
