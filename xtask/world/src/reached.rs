//! What a world came to be like: states that faults must lead to, or nothing is learnt about them.

use std::collections::BTreeMap;

use longshore_faults::history::{Change, Event, Kind, Stream};
use serde_json::Value;

/// How often each of them was reached.
///
/// A leader that follows another, a node that is held for lost, a pod that is evicted from one, and a watch that had to begin anew.
pub(crate) fn reached(events: &[Event], streams: &[Stream]) -> BTreeMap<&'static str, u64> {
    let mut times = BTreeMap::new();
    let mut before: BTreeMap<(Kind, &str), &Value> = BTreeMap::new();
    for event in events {
        let place = (event.kind, event.name.as_str());
        let known = match event.change {
            Change::Deleted => before.remove(&place),
            _ => before.insert(place, &event.object),
        };
        let mark = match event.kind {
            Kind::Lease => known.is_some_and(|known| follows(known, &event.object)).then_some("new leader"),
            Kind::Node => becomes(known, &event.object, "Ready", "Unknown").then_some("node lost"),
            Kind::Pod => becomes(known, &event.object, "DisruptionTarget", "True").then_some("pod evicted"),
            _ => None,
        };
        if let Some(mark) = mark {
            *times.entry(mark).or_default() += 1;
        }
    }
    let anew: usize = streams.iter().map(|stream| stream.spans.len().saturating_sub(1)).sum();
    if anew > 0 {
        times.insert("watch anew", anew as u64);
    }
    times
}

fn follows(before: &Value, lease: &Value) -> bool {
    let (old, new) = (&before["spec"]["holderIdentity"], &lease["spec"]["holderIdentity"]);
    let named = |holder: &Value| holder.as_str().is_some_and(|holder| !holder.is_empty());
    named(old) && named(new) && old != new
}

fn becomes(before: Option<&Value>, object: &Value, condition: &str, status: &str) -> bool {
    let is = |object: &Value| {
        let conditions = object["status"]["conditions"].as_array();
        conditions.into_iter().flatten().any(|one| one["type"] == condition && one["status"] == status)
    };
    is(object) && !before.is_some_and(is)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use longshore_faults::history::Span;
    use serde_json::json;

    use super::*;

    fn event(kind: Kind, revision: u64, object: Value) -> Event {
        Event { kind, name: "a".to_owned(), revision, change: Change::Modified, object: Arc::new(object) }
    }

    #[test]
    fn a_state_counts_when_it_is_reached_and_not_while_it_lasts() {
        let lease = |revision, holder| event(Kind::Lease, revision, json!({ "spec": { "holderIdentity": holder } }));
        let ready = |revision, status| {
            let condition = json!({ "type": "Ready", "status": status });
            event(Kind::Node, revision, json!({ "status": { "conditions": [condition] } }))
        };
        let events = [
            lease(1, "a"),
            lease(2, "a"),
            lease(3, "b"),
            ready(4, "True"),
            ready(5, "Unknown"),
            ready(6, "Unknown"),
            ready(7, "True"),
        ];
        let spans = vec![Span::default(), Span::default()];
        let streams = [Stream { server: 0, kind: Kind::Pod, spans }];
        let expected = [("new leader", 1), ("node lost", 1), ("watch anew", 1)];
        assert_eq!(reached(&events, &streams), BTreeMap::from(expected));
    }
}
