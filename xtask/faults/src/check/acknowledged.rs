//! No acknowledged write is lost, and no revision stands for two writes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::check::Violation;
use crate::history::{Acknowledged, Change, Event, Kind, revision, uid};

/// Checks what was acknowledged against what watches told; `values` says which value a register had at which revision, as
/// answers told.
pub fn check(events: &[Event], acknowledged: &[Acknowledged], values: &[(String, u64, u64)]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut places = BTreeMap::new();
    let mut gone = BTreeMap::new();
    for event in events {
        places.insert((event.kind, event.name.as_str(), event.revision), event);
        if event.change == Change::Deleted {
            gone.insert((event.kind, event.name.as_str(), uid(&event.object)), event.revision);
        }
    }
    for write in acknowledged {
        let Acknowledged { kind, name, object, .. } = write;
        let told = places.get(&(*kind, name.as_str(), revision(object)));
        if write.deletion && !is_on_its_way(object) {
            if !gone.contains_key(&(*kind, name.as_str(), uid(object))) {
                violations.push(Violation::new(
                    "acknowledged writes",
                    format!("{kind} {name} was deleted and no watch told it"),
                ));
            }
        } else if told.is_none() {
            let what = format!("{kind} {name} at {} was acknowledged and no watch told it", revision(object));
            violations.push(Violation::new("acknowledged writes", what));
        } else if told.is_some_and(|event| event.object != *object) {
            let mut places = Vec::new();
            differ("", object, &told.map_or(Value::Null, |event| (*event.object).clone()), &mut places);
            let what = format!(
                "{kind} {name} at {}: the answer and the watches differ: {}",
                revision(object),
                places.join("; ")
            );
            violations.push(Violation::new("revisions", what));
        }
    }
    violations.extend(reused(events, values));
    violations
}

/// The places where an answer and what was told differ.
fn differ(place: &str, answered: &Value, told: &Value, places: &mut Vec<String>) {
    match (answered, told) {
        (Value::Object(one), Value::Object(other)) => {
            let keys: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            for key in keys {
                let (one, other) = (one.get(key).unwrap_or(&Value::Null), other.get(key).unwrap_or(&Value::Null));
                differ(&format!("{place}.{key}"), one, other, places);
            }
        }
        _ if answered != told => places.push(format!("{place} was {answered}, then {told}")),
        _ => {}
    }
}

/// Whether the answer to a deletion is an object that stays for a while. What went at once may be answered as it would have been.
fn is_on_its_way(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
        && object["metadata"]["deletionGracePeriodSeconds"].as_i64() > Some(0)
}

/// Registers whose revision stood for two values, or whose value, which was written once, stood for two revisions.
fn reused(events: &[Event], values: &[(String, u64, u64)]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut by_revision: BTreeMap<(&str, u64), u64> = BTreeMap::new();
    let mut by_value: BTreeMap<(&str, u64), u64> = BTreeMap::new();
    let told = events.iter().filter(|event| event.kind == Kind::ConfigMap && event.change != Change::Deleted);
    let told = told.filter_map(|event| Some((event.name.as_str(), event.revision, value(&event.object)?)));
    let answered = values.iter().map(|(key, revision, value)| (key.as_str(), *revision, *value));
    for (key, revision, value) in told.chain(answered) {
        let (known, first) =
            (*by_revision.entry((key, revision)).or_insert(value), *by_value.entry((key, value)).or_insert(revision));
        if known != value {
            violations.push(Violation::new(
                "revisions",
                format!("{key}: revision {revision} has the values {known} and {value}"),
            ));
        }
        if first != revision {
            violations.push(Violation::new(
                "revisions",
                format!("{key}: the value {value} has the revisions {first} and {revision}"),
            ));
        }
    }
    violations
}

/// The value of a register.
pub fn value(object: &Value) -> Option<u64> {
    object["data"]["value"].as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::check::testing::{changed, found};

    fn register(revision: u64, value: u64, change: Change) -> Event {
        changed(
            Kind::ConfigMap,
            "a",
            revision,
            change,
            json!({ "metadata": { "uid": "u" }, "data": { "value": value.to_string() } }),
        )
    }

    fn write(object: &Value, deletion: bool) -> Acknowledged {
        Acknowledged { kind: Kind::ConfigMap, name: "a".to_owned(), object: object.clone().into(), deletion }
    }

    #[test]
    fn writes_that_watches_told_are_no_violation() {
        let events = [register(2, 1, Change::Added), register(3, 2, Change::Modified), register(4, 2, Change::Deleted)];
        let acknowledged = [write(&events[1].object, false), write(&json!({ "metadata": { "uid": "u" } }), true)];
        assert_eq!(check(&events, &acknowledged, &[("a".to_owned(), 2, 1)]), []);
    }

    #[test]
    fn a_lost_write_is_found() {
        let lost = register(3, 2, Change::Modified);
        let violations = check(&[register(2, 1, Change::Added)], &[write(&lost.object, false)], &[]);
        assert_eq!(found(&violations), ["acknowledged writes: ConfigMap a at 3 was acknowledged and no watch told it"]);
    }

    #[test]
    fn a_lost_deletion_is_found() {
        let there = register(2, 1, Change::Added);
        let violations = check(&[there], &[write(&json!({ "metadata": { "uid": "u" } }), true)], &[]);
        assert_eq!(found(&violations), ["acknowledged writes: ConfigMap a was deleted and no watch told it"]);
    }

    #[test]
    fn a_revision_of_two_values_and_a_value_of_two_revisions_are_found() {
        let events = [register(2, 1, Change::Added)];
        let violations = check(&events, &[], &[("a".to_owned(), 2, 7), ("a".to_owned(), 3, 1)]);
        assert_eq!(violations.len(), 2);
    }
}
