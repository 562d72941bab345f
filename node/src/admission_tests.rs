use serde_json::json;

use super::*;
use crate::testing::{pod, quantities};

fn asks(name: &str, requests: serde_json::Value) -> Arc<Pod> {
    let container = json!({"name": "main", "image": "web", "resources": {"requests": requests}});
    Arc::new(pod(name, json!({"containers": [container]})))
}

fn refusal(pod: &Pod, node: Option<&Node>, others: &[Arc<Pod>]) -> String {
    let allocatable = quantities(&[("cpu", "2"), ("memory", "1Gi"), ("pods", "3")]);
    match admit(pod, node, &allocatable, others.iter()) {
        Ok(()) => String::new(),
        Err(refusal) => format!("{}: {}", refusal.reason, refusal.message),
    }
}

#[test]
fn resources_are_counted_as_upstream_counts_them() {
    let others = [asks("a", json!({"cpu": "1500m", "memory": "512Mi"}))];
    assert_eq!(refusal(&asks("b", json!({"cpu": "500m"})), None, &others), "");
    assert_eq!(
        refusal(&asks("b", json!({"cpu": "501m"})), None, &others),
        "OutOfcpu: Node didn't have enough resource: cpu, requested: 501, used: 1500, capacity: 2000"
    );
    assert_eq!(
        refusal(&asks("b", json!({"memory": "600Mi"})), None, &others),
        "OutOfmemory: Node didn't have enough resource: memory, requested: 629145600, used: 536870912, capacity: 1073741824"
    );
    assert_eq!(
        refusal(&asks("b", json!({"example.com/gpu": "1"})), None, &others),
        "OutOfexample.com/gpu: Node didn't have enough resource: example.com/gpu, requested: 1, used: 0, capacity: 0"
    );
    assert_eq!(refusal(&asks("b", json!({"ephemeral-storage": "1Gi"})), None, &others), "");
    let full: Vec<_> = ["a", "b", "c"].iter().map(|name| asks(name, json!({}))).collect();
    assert_eq!(
        refusal(&asks("d", json!({})), None, &full),
        "OutOfpods: Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3"
    );
}

#[test]
fn ports_of_the_node_are_given_once() {
    let port = |ip: &str, protocol: &str| {
        let ports = json!([{"containerPort": 80, "hostPort": 8080, "hostIP": ip, "protocol": protocol}]);
        Arc::new(pod("p", json!({"containers": [{"name": "main", "image": "web", "ports": ports}]})))
    };
    let taken = "NodePorts: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
    for (a, b, expected) in [
        (("", "TCP"), ("", "TCP"), taken),
        (("", "TCP"), ("10.0.0.1", "TCP"), taken),
        (("0.0.0.0", "TCP"), ("10.0.0.1", "TCP"), taken),
        (("10.0.0.1", "TCP"), ("10.0.0.2", "TCP"), ""),
        (("", "TCP"), ("", "UDP"), ""),
    ] {
        assert_eq!(refusal(&port(a.0, a.1), None, &[port(b.0, b.1)]), expected, "{a:?} {b:?}");
    }
}

#[test]
fn selectors_and_taints_hold_on_the_node_too() {
    let node: Node = serde_json::from_value(json!({
        "metadata": {"name": "n1", "labels": {"disk": "hdd"}},
        "spec": {"taints": [{"key": "a", "effect": "NoSchedule"}, {"key": "b", "value": "x", "effect": "NoExecute"}]},
    }))
    .unwrap();
    let tolerates = json!([{"key": "b", "operator": "Exists"}]);
    let with = |selector: &str, tolerations: serde_json::Value| {
        pod("p", json!({"nodeSelector": {"disk": selector}, "tolerations": tolerations}))
    };
    assert_eq!(
        refusal(&with("ssd", tolerates.clone()), Some(&node), &[]),
        "NodeAffinity: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
    );
    assert_eq!(refusal(&with("hdd", tolerates), Some(&node), &[]), "");
    assert_eq!(
        refusal(&with("hdd", json!([])), Some(&node), &[]),
        "TaintToleration: Predicate TaintToleration failed: node(s) had untolerated taint {b: x}"
    );
}
