//! Gang: pods that are of use only together are bound together or not at all.

use std::collections::BTreeSet;
use std::time::Duration;

use longshore_core::api::pod::Pod;
use longshore_core::informer::ObjectKey;
use longshore_core::scheduling::{ClusterEvent, Cycle, NodeId, Permit, Permitted, Policy, Refusal, Reserve, Waiting};

/// Label that names a pod's gang.
pub const GROUP_LABEL: &str = "scheduling.x-k8s.io/pod-group";
/// Annotation that says how many pods of the gang must have a place before any is bound.
pub const MIN_MEMBER_ANNOTATION: &str = "scheduling.x-k8s.io/min-member";

/// Holds the nodes of a gang's pods until enough of them have one, then lets all go ahead. If that takes longer than the
/// timeout, all give their nodes back. A gang is the pods of one namespace with the same [`GROUP_LABEL`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gang {
    timeout: Duration,
}

impl Default for Gang {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(60) }
    }
}

impl Gang {
    /// The policy with another timeout than 60 seconds.
    pub fn new(timeout: Duration) -> Self {
        Self { timeout }
    }
}

fn group(pod: &Pod) -> Option<(&str, &str)> {
    let name = pod.metadata.labels.as_ref()?.get(GROUP_LABEL)?;
    Some((pod.metadata.namespace.as_deref().unwrap_or_default(), name))
}

fn min_member(pod: &Pod) -> usize {
    let annotations = pod.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(MIN_MEMBER_ANNOTATION)?.parse().ok()).unwrap_or(1)
}

impl Policy for Gang {
    fn name(&self) -> &str {
        "Gang"
    }

    fn may_help(&self, pod: &Pod, event: &ClusterEvent<'_>) -> bool {
        match event {
            ClusterEvent::PodPlaced(other) => group(other) == group(pod),
            ClusterEvent::NodeAdded(_) | ClusterEvent::PodRemoved(_) | ClusterEvent::PodForgotten(_) => true,
            _ => false,
        }
    }

    fn as_reserve(&self) -> Option<&dyn Reserve> {
        Some(self)
    }

    fn as_permit(&self) -> Option<&dyn Permit> {
        Some(self)
    }
}

impl Permit for Gang {
    fn permit(&self, cycle: Cycle<'_>, _node: NodeId, waiting: &mut dyn Waiting) -> Permitted {
        let Some(own) = group(cycle.pod()) else { return Permitted::Allow };
        // The pod itself has its node already, and so have those that wait.
        let mut members: BTreeSet<&str> = BTreeSet::new();
        for (_, placed) in cycle.cluster().placed_pods() {
            let shape = placed.shape();
            if shape.namespace() == own.0 && shape.labels().get(GROUP_LABEL).is_some_and(|name| name == own.1) {
                members.insert(placed.pod().metadata.name.as_deref().unwrap_or_default());
            }
        }
        if members.len() < min_member(cycle.pod()) {
            return Permitted::Wait(self.timeout);
        }
        for (pod, _) in waiting.pods() {
            if group(&pod) == Some(own) {
                waiting.allow(&ObjectKey::of(&*pod));
            }
        }
        Permitted::Allow
    }
}

impl Reserve for Gang {
    /// One that goes takes the others along.
    fn unreserve(&self, pod: &Pod, _node: &str, waiting: &mut dyn Waiting) {
        let Some(own) = group(pod) else { return };
        for (other, _) in waiting.pods() {
            if group(&other) == Some(own) {
                let why = format!("gang {} is not complete", own.1);
                waiting.refuse(&ObjectKey::of(&*other), Refusal::unschedulable(why));
            }
        }
    }
}
