//! The taints that follow from a node's conditions.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use longshore_core::api::node::{Taint, TaintEffect};
use longshore_core::api::{ConditionStatus, Node};

use super::condition;

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// A condition, the status of it that is bad, and the taint for that.
const BY_CONDITION: [(&str, ConditionStatus, &str); 6] = [
    ("Ready", ConditionStatus::False, NOT_READY),
    ("Ready", ConditionStatus::Unknown, UNREACHABLE),
    ("MemoryPressure", ConditionStatus::True, "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", ConditionStatus::True, "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", ConditionStatus::True, "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", ConditionStatus::True, "node.kubernetes.io/network-unavailable"),
];

/// Whether the taint is one that we set and take away.
fn is_ours(taint: &Taint) -> bool {
    let key = |key: &str| taint.key == key;
    match taint.effect {
        TaintEffect::NoSchedule => key(UNSCHEDULABLE) || BY_CONDITION.iter().any(|(_, _, ours)| key(ours)),
        TaintEffect::NoExecute => key(NOT_READY) || key(UNREACHABLE),
        _ => false,
    }
}

/// The taints that the node shall have: others' as they are, ours as its conditions demand. What is there already keeps
/// its place and time. Taints that expel pods are only set if `expels`; every one of them gets the time from which the
/// patience of pods is counted.
pub(super) fn wanted(node: &Node, expels: bool, now: Timestamp) -> Vec<Taint> {
    let mut ours: Vec<(&str, TaintEffect)> = Vec::new();
    for (type_, bad, key) in &BY_CONDITION {
        if condition(node, type_).is_some_and(|condition| condition.status == *bad) {
            ours.push((key, TaintEffect::NoSchedule));
            if *type_ == "Ready" && expels {
                ours.push((key, TaintEffect::NoExecute));
            }
        }
    }
    if node.spec.unschedulable {
        ours.push((UNSCHEDULABLE, TaintEffect::NoSchedule));
    }
    let is = |taint: &Taint, (key, effect): &(&str, TaintEffect)| taint.key == *key && taint.effect == *effect;
    let mut taints = node.spec.taints.clone();
    taints.retain(|taint| !is_ours(taint) || ours.iter().any(|wanted| is(taint, wanted)));
    for wanted in ours {
        if !taints.iter().any(|taint| is(taint, &wanted)) {
            let (key, effect) = (wanted.0.to_owned(), wanted.1);
            taints.push(Taint { key, effect, time_added: Some(Time(now)), ..Taint::default() });
        }
    }
    for taint in taints.iter_mut().filter(|taint| taint.effect == TaintEffect::NoExecute) {
        taint.time_added.get_or_insert(Time(now));
    }
    taints
}
