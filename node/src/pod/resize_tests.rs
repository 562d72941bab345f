use serde_json::{Value, json};

use super::*;
use crate::testing::{pod as a_pod, quantities};

/// A pod of one container with these resources, and a status that grants it others.
fn pod(name: &str, asked: Value, granted: Value) -> Arc<Pod> {
    let mut pod = a_pod(name, json!({"containers": [{"name": "main", "image": "web", "resources": asked}]}));
    pod.metadata.uid = Some(name.to_owned());
    if !granted.is_null() {
        let status = json!([{"name": "main", "allocatedResources": granted["requests"], "resources": granted}]);
        pod.status.container_statuses = serde_json::from_value(status).unwrap();
    }
    Arc::new(pod)
}

fn cpu(request: &str, limit: &str) -> Value {
    json!({"requests": {"cpu": request}, "limits": {"cpu": limit}})
}

fn granted(pod: &Arc<Pod>, others: &[Arc<Pod>]) -> (String, Option<Pending>) {
    let allocatable = quantities(&[("cpu", "4"), ("memory", "8Gi")]);
    let (granted, pending) = grant(pod, &pod.status, |pod| fits(pod, &allocatable, others.iter()));
    (granted.spec.containers[0].resources.requests["cpu"].to_string(), pending)
}

#[test]
fn what_fits_is_granted_and_what_does_not_waits() {
    let other = pod("b", cpu("2", "2"), Value::Null);
    let asks = |request: &str| pod("a", cpu(request, "9"), cpu("1", "1"));
    assert_eq!(granted(&asks("2"), std::slice::from_ref(&other)), ("2".into(), None));
    let (present, pending) = granted(&asks("3"), &[other]);
    let pending = pending.unwrap();
    assert_eq!((present.as_str(), pending.reason), ("1", "Deferred"));
    let message = "Node didn't have enough resource: cpu, requested: 3000, used: 2000, capacity: 4000";
    assert_eq!(pending.message, message);
    let (present, pending) = granted(&asks("5"), &[]);
    let pending = pending.unwrap();
    assert_eq!((present.as_str(), pending.reason), ("1", "Infeasible"));
    assert_eq!(pending.message, "Node didn't have enough capacity: cpu, requested: 5000, capacity: 4000");
    // Nobody has said yet what a new pod was granted, and the same in other words is no change.
    assert_eq!(granted(&pod("a", cpu("1", "1"), Value::Null), &[]), ("1".into(), None));
    assert_eq!(granted(&pod("a", cpu("1000m", "1"), cpu("1", "1")), &[]), ("1".into(), None));
}

fn container(resources: Value, policy: Value) -> Container {
    let spec = json!({"name": "main", "image": "web", "resources": resources, "resizePolicy": policy});
    serde_json::from_value(spec).unwrap()
}

#[test]
fn limits_change_in_place_unless_the_container_wants_a_restart() {
    let present = Resources { cpu_request_milli: 1000, cpu_limit_milli: Some(1000), ..Resources::default() };
    let policy = json!([{"resourceName": "cpu", "restartPolicy": "NotRequired"}, {"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    let wanted = Resources { cpu_request_milli: 2000, cpu_limit_milli: Some(3000), ..present };
    let lacks = |resources: Value| lack(&container(resources, policy.clone()), &present);
    assert_eq!(lacks(cpu("1", "1")), None);
    assert_eq!(lacks(cpu("2", "3")), Some(Lack::Limits(wanted)));
    let mut more = cpu("2", "3");
    more["limits"]["memory"] = json!("1Gi");
    assert_eq!(lacks(more), Some(Lack::Restart));
}

#[test]
fn what_is_in_force_is_told_until_it_is_as_granted() {
    let spec = container(cpu("2", "3"), json!([]));
    let status = &pod("a", cpu("1", "1"), cpu("1", "1")).status.container_statuses[0];
    let old = Resources { cpu_request_milli: 1000, cpu_limit_milli: Some(1000), ..Resources::default() };
    let told = |present: &Resources| serde_json::to_value(in_force(&spec, present, Some(status))).unwrap();
    assert_eq!(told(&old), cpu("1", "1"));
    assert_eq!(told(&limits(&spec)), cpu("2", "3"));
}

#[test]
fn only_what_grows_needs_room() {
    let holds = pod("a", cpu("2", "2"), Value::Null);
    assert!(grows(&holds, &pod("a", cpu("3", "3"), Value::Null)));
    assert!(!grows(&holds, &pod("a", cpu("1", "3"), Value::Null)));
    let memory = json!({"requests": {"cpu": "1", "memory": "1Gi"}});
    assert!(grows(&holds, &pod("a", memory, Value::Null)));
}
