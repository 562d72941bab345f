//! Pods: bound once, within what their nodes have, and no two of one StatefulSet with the same ordinal.

use std::collections::BTreeMap;

use longshore_core::quantity::Quantity;
use serde_json::Value;

use crate::check::Violation;
use crate::history::{Change, Event, Kind, uid};

/// What is known of a pod.
struct Pod {
    node: String,
    /// Thousandths of a CPU that it asks for.
    cpu: i64,
    ended: bool,
}

/// Checks all changes of pods and nodes, in the order of their revisions.
pub fn check(events: &[Event]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut allocatable: BTreeMap<&str, i64> = BTreeMap::new();
    let mut pods: BTreeMap<&str, Pod> = BTreeMap::new();
    for event in events {
        match event.kind {
            Kind::Node => {
                allocatable.insert(&event.name, thousandths(&event.object["status"]["allocatable"]["cpu"]));
            }
            Kind::Pod => {
                let id = uid(&event.object);
                if event.change == Change::Deleted {
                    violations.extend(still_ran(event));
                    pods.remove(id);
                    continue;
                }
                let node = event.object["spec"]["nodeName"].as_str().unwrap_or_default();
                let before = pods.get(id).map(|pod| pod.node.clone()).unwrap_or_default();
                if !before.is_empty() && before != node {
                    let what =
                        format!("{} at {} is bound to {node:?} and was to {before:?}", event.name, event.revision);
                    violations.push(Violation::new("one binding a pod", what));
                }
                let ended = matches!(event.object["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
                pods.insert(id, Pod { node: node.to_owned(), cpu: request(&event.object), ended });
                if before.is_empty() && !node.is_empty() {
                    violations.extend(overcommitted(event, node, &allocatable, &pods));
                }
            }
            _ => {}
        }
    }
    violations
}

fn overcommitted(
    event: &Event,
    node: &str,
    allocatable: &BTreeMap<&str, i64>,
    pods: &BTreeMap<&str, Pod>,
) -> Option<Violation> {
    let has = *allocatable.get(node)?;
    let used: i64 = pods.values().filter(|pod| pod.node == node && !pod.ended).map(|pod| pod.cpu).sum();
    let what =
        || format!("{node} has {has}m CPU, and with {} at {} its pods ask for {used}m", event.name, event.revision);
    (used > has).then(|| Violation::new("no node overcommitted", what()))
}

/// A pod of a StatefulSet that went although, as far as anybody had said, its containers ran: its successor of the same name may
/// run beside it.
fn still_ran(event: &Event) -> Option<Violation> {
    let object = &event.object;
    let owners = object["metadata"]["ownerReferences"].as_array()?;
    if !owners.iter().any(|owner| owner["kind"] == "StatefulSet") || object["spec"]["nodeName"].is_null() {
        return None;
    }
    let statuses = object["status"]["containerStatuses"].as_array()?;
    let runs = statuses.iter().any(|status| status["state"]["running"].is_object());
    let what = || format!("{} at {} went while it ran", event.name, event.revision);
    runs.then(|| Violation::new("one pod an ordinal", what()))
}

/// What a pod's containers ask for together.
fn request(pod: &Value) -> i64 {
    let containers = pod["spec"]["containers"].as_array();
    containers.into_iter().flatten().map(|container| thousandths(&container["resources"]["requests"]["cpu"])).sum()
}

fn thousandths(amount: &Value) -> i64 {
    amount.as_str().and_then(|text| text.parse::<Quantity>().ok()).map_or(0, |amount| amount.milli_value())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::check::testing::{changed, found};

    fn node(revision: u64) -> Event {
        let object = json!({ "metadata": { "uid": "n" }, "status": { "allocatable": { "cpu": "1" } } });
        changed(Kind::Node, "n", revision, Change::Added, object)
    }

    fn pod(name: &str, revision: u64, node: Option<&str>, phase: &str) -> Event {
        let requests = json!({ "requests": { "cpu": "600m" } });
        let object = json!({
            "metadata": { "uid": name, "ownerReferences": [{ "kind": "StatefulSet" }] },
            "spec": { "nodeName": node, "containers": [{ "resources": requests }] },
            "status": { "phase": phase, "containerStatuses": [{ "state": { "running": {} } }] },
        });
        changed(Kind::Pod, name, revision, Change::Modified, object)
    }

    #[test]
    fn pods_that_follow_each_other_on_a_node_are_no_violation() {
        let ended = pod("a", 4, Some("n"), "Succeeded");
        let mut gone = pod("c", 8, Some("n"), "Running");
        gone.change = Change::Deleted;
        let mut ends = (*gone.object).clone();
        ends["status"]["containerStatuses"] = json!([{ "state": { "terminated": {} } }]);
        gone.object = ends.into();
        let events = [
            node(1),
            pod("a", 2, None, "Pending"),
            pod("a", 3, Some("n"), "Running"),
            ended,
            pod("c", 5, Some("n"), "Running"),
            gone,
            pod("d", 9, Some("n"), "Running"),
        ];
        assert_eq!(check(&events), []);
    }

    #[test]
    fn a_pod_that_changes_its_node_is_found() {
        for other in [Some("m"), None] {
            let violations = check(&[pod("a", 2, Some("n"), "Running"), pod("a", 3, other, "Running")]);
            assert_eq!(violations.len(), 1, "{violations:?}");
        }
    }

    #[test]
    fn a_node_with_too_many_pods_is_found() {
        let violations = check(&[node(1), pod("a", 2, Some("n"), "Pending"), pod("b", 3, Some("n"), "Pending")]);
        let expected = "no node overcommitted: n has 1000m CPU, and with b at 3 its pods ask for 1200m";
        assert_eq!(found(&violations), [expected]);
    }

    #[test]
    fn an_ordinal_that_goes_while_it_runs_is_found() {
        let mut gone = pod("web-0", 3, Some("n"), "Running");
        gone.change = Change::Deleted;
        assert_eq!(found(&check(&[gone])), ["one pod an ordinal: web-0 at 3 went while it ran"]);
    }
}
