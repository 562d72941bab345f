//! Histories for the tests of the checks.

use std::sync::Arc;

use serde_json::Value;

use crate::check::Violation;
use crate::history::{Change, Event, Kind, Span, Stream};

/// A change of an object, with its name and revision filled in.
pub(crate) fn changed(kind: Kind, name: &str, revision: u64, change: Change, mut object: Value) -> Event {
    object["metadata"]["name"] = name.into();
    object["metadata"]["resourceVersion"] = revision.to_string().into();
    Event { kind, name: name.to_owned(), revision, change, object: Arc::new(object) }
}

/// A watch of one span.
pub(crate) fn stream(server: usize, kind: Kind, from: u64, until: u64, events: Vec<Event>) -> Stream {
    Stream { server, kind, spans: vec![Span { from, until, events }] }
}

/// Violations as texts.
pub(crate) fn found(violations: &[Violation]) -> Vec<String> {
    violations.iter().map(Violation::to_string).collect()
}
