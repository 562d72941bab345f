//! Deployments stay within `maxSurge` and `maxUnavailable` in what their controller decides.
//!
//! Faults take pods away at any time, so it is the decisions that are checked, which are changes of a ReplicaSet's `spec.replicas`, by what
//! the controller can have known. It knew the ReplicaSet as it was before the change, for the write compared its revision, and so
//! everything of ReplicaSets up to then; what happened after, it may or may not have known. Likewise with the Deployment: it knew at
//! least the generation that its status named then. Whatever is allowed by one of those states is allowed.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::check::Violation;
use crate::history::{Change, Event, Kind, name, uid};

/// States of one object, each with the revision from which it held.
type States<'a> = Vec<(u64, &'a Value)>;

/// Checks all changes of Deployments and ReplicaSets, in the order of their revisions.
pub fn check(events: &[Event]) -> Vec<Violation> {
    let mut deployments: BTreeMap<&str, States<'_>> = BTreeMap::new();
    let mut sets: BTreeMap<&str, States<'_>> = BTreeMap::new();
    let mut violations = Vec::new();
    for event in events {
        let id = uid(&event.object);
        match (event.kind, event.change) {
            (Kind::Deployment | Kind::ReplicaSet, Change::Deleted) => {
                deployments.remove(id);
                sets.remove(id);
            }
            (Kind::Deployment, _) => deployments.entry(id).or_default().push((event.revision, &event.object)),
            (Kind::ReplicaSet, _) => {
                let known = sets.entry(id).or_default();
                let before = known.last().copied();
                known.push((event.revision, &event.object));
                if let Some(deployment) = owner(&event.object).and_then(|owner| deployments.get(owner)) {
                    let decision = Decision { event, before, deployment, sets: &sets };
                    violations.extend(decision.violation());
                }
            }
            _ => {}
        }
    }
    violations
}

/// One change of a ReplicaSet and what surrounds it.
struct Decision<'a> {
    event: &'a Event,
    /// The same ReplicaSet before.
    before: Option<(u64, &'a Value)>,
    deployment: &'a States<'a>,
    sets: &'a BTreeMap<&'a str, States<'a>>,
}

impl Decision<'_> {
    fn violation(&self) -> Option<Violation> {
        let is = replicas(&self.event.object);
        let was = self.before.map_or(0, |(_, set)| replicas(set));
        // A Deployment that waits for its old pods to end has no such bounds.
        let rolling = self.deployment.last().is_some_and(|(_, last)| last["spec"]["strategy"]["type"] != "Recreate");
        if !rolling || is == was {
            return None;
        }
        let revision = self.event.revision;
        let place = || format!("ReplicaSet {} from {was} to {is} at {revision}", name(&self.event.object));
        if is > was {
            let most = self.seen_deployments().map(|seen| replicas(seen) + bound(seen, "maxSurge", true)).max()?;
            let total =
                is + self.others().map(|states| states.iter().map(|set| replicas(set)).min().unwrap_or(0)).sum::<i64>();
            let what = || format!("{}: {total} pods are asked for, {most} are allowed", place());
            return (total > most).then(|| Violation::new("maxSurge", what()));
        }
        let newest = self.deployment.last().map(|(_, last)| &last["spec"]["template"]["spec"]);
        let scaled = self.before.is_some_and(|(_, set)| desired(set) != desired(&self.event.object));
        if scaled || Some(&self.event.object["spec"]["template"]["spec"]) == newest {
            // What is scaled down with the whole Deployment is not part of a rolling update.
            return None;
        }
        let least = self.seen_deployments().map(|seen| replicas(seen) - bound(seen, "maxUnavailable", false)).min()?;
        // Pods that are not available may be taken away whatever the others are.
        let unhealthy = self.before.is_none_or(|(_, set)| available(set) <= is);
        let others: i64 = self.others().map(|states| states.iter().map(|set| available(set)).max().unwrap_or(0)).sum();
        let remain = is + others;
        let what = || format!("{}: {remain} pods may remain available, {least} are needed", place());
        (remain < least && !unhealthy).then(|| Violation::new("maxUnavailable", what()))
    }

    /// The Deployment's states that the controller may have decided by.
    fn seen_deployments(&self) -> impl Iterator<Item = &Value> {
        let known = self.before.map_or(0, |(revision, _)| revision);
        let acted = self.deployment.iter().rev().find(|(revision, _)| *revision <= known.max(self.deployment[0].0));
        let observed = acted.and_then(|(_, state)| state["status"]["observedGeneration"].as_i64()).unwrap_or(0);
        let states = self.deployment.iter().map(|(_, state)| *state);
        states.filter(move |state| state["metadata"]["generation"].as_i64().unwrap_or(0) >= observed)
    }

    /// Of each other ReplicaSet of the Deployment the states that the controller may have decided by.
    fn others(&self) -> impl Iterator<Item = Vec<&Value>> {
        let known = self.before.map_or(0, |(revision, _)| revision);
        let owner = owner(&self.event.object);
        let others = self.sets.iter().filter(|(id, _)| **id != uid(&self.event.object));
        others.filter_map(move |(_, states)| {
            let (_, last) = states.last()?;
            let after = states.partition_point(|(revision, _)| *revision <= known);
            let seen: Vec<&Value> = states[after.saturating_sub(1)..].iter().map(|(_, state)| *state).collect();
            (self::owner(last) == owner).then_some(seen)
        })
    }
}

fn owner(object: &Value) -> Option<&str> {
    object["metadata"]["ownerReferences"].as_array()?.iter().find(|owner| owner["controller"] == true)?["uid"].as_str()
}

fn replicas(object: &Value) -> i64 {
    object["spec"]["replicas"].as_i64().unwrap_or(1)
}

/// How many replicas the Deployment asked for when the ReplicaSet was last scaled, as its controller notes.
fn desired(set: &Value) -> &Value {
    &set["metadata"]["annotations"]["deployment.kubernetes.io/desired-replicas"]
}

fn available(object: &Value) -> i64 {
    object["status"]["availableReplicas"].as_i64().unwrap_or(0)
}

/// A bound of a rolling update, in pods. The workload gives numbers or nothing, which is 25 %.
fn bound(deployment: &Value, field: &str, up: bool) -> i64 {
    let value = &deployment["spec"]["strategy"]["rollingUpdate"][field];
    let share = value.as_str().and_then(|text| text.strip_suffix('%')?.parse::<i64>().ok());
    let hundredths = replicas(deployment) * share.unwrap_or(25);
    value.as_i64().unwrap_or(if up { (hundredths + 99) / 100 } else { hundredths / 100 })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::check::testing::{changed, found};

    fn deployment(revision: u64, image: &str, generation: u64, observed: u64) -> Event {
        let rolling = json!({ "maxSurge": 1, "maxUnavailable": 1 });
        let object = json!({
            "metadata": { "uid": "d", "generation": generation },
            "spec": { "replicas": 4, "strategy": { "type": "RollingUpdate", "rollingUpdate": rolling }, "template": { "spec": image } },
            "status": { "observedGeneration": observed },
        });
        changed(Kind::Deployment, "d", revision, Change::Modified, object)
    }

    fn set(revision: u64, image: &str, replicas: i64, available: i64) -> Event {
        let object = json!({
            "metadata": { "uid": image, "ownerReferences": [{ "controller": true, "uid": "d" }] },
            "spec": { "replicas": replicas, "template": { "spec": image } },
            "status": { "availableReplicas": available },
        });
        changed(Kind::ReplicaSet, image, revision, Change::Modified, object)
    }

    #[test]
    fn a_rolling_update_within_its_bounds_is_no_violation() {
        let events = [
            deployment(1, "a", 1, 1),
            set(2, "a", 4, 0),
            set(3, "a", 4, 4),
            deployment(4, "b", 2, 1),
            set(5, "b", 1, 0),
            set(6, "a", 3, 4),
            set(7, "a", 3, 3),
            set(8, "b", 2, 0),
            set(9, "b", 2, 2),
            set(10, "a", 1, 3),
        ];
        assert_eq!(check(&events), []);
    }

    #[test]
    fn too_many_new_pods_are_found() {
        let events = [
            deployment(1, "a", 1, 1),
            set(2, "a", 4, 4),
            deployment(3, "b", 2, 1),
            set(4, "b", 0, 0),
            set(5, "b", 2, 0),
        ];
        assert_eq!(
            found(&check(&events)),
            ["maxSurge: ReplicaSet b from 0 to 2 at 5: 6 pods are asked for, 5 are allowed"]
        );
    }

    #[test]
    fn old_pods_that_go_too_early_are_found() {
        let events = [
            deployment(1, "a", 1, 1),
            set(2, "a", 4, 4),
            deployment(3, "b", 2, 1),
            set(4, "b", 1, 0),
            set(5, "a", 2, 4),
        ];
        let expected = "maxUnavailable: ReplicaSet a from 4 to 2 at 5: 2 pods may remain available, 3 are needed";
        assert_eq!(found(&check(&events)), [expected]);
    }

    #[test]
    fn what_the_controller_may_not_have_known_is_no_violation() {
        let begin = [deployment(1, "a", 1, 1), set(2, "a", 4, 4), deployment(3, "b", 2, 1), set(4, "b", 1, 1)];
        let decided = set(6, "a", 2, 4);
        let broke = set(5, "b", 1, 0);
        // The new pods broke after the last state of the old ReplicaSet that the decision is based on ...
        assert_eq!(check(&[begin.as_slice(), &[broke.clone(), decided]].concat()), []);
        // ... or before one that it is based on.
        let knew = [begin.as_slice(), &[broke, set(6, "a", 4, 4), set(7, "a", 2, 4)]].concat();
        assert_eq!(check(&knew).len(), 1);
    }
}
