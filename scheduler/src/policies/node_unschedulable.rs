//! NodeUnschedulable: nodes with `spec.unschedulable` take no new pods.

use longshore_core::api::node::{Taint, TaintEffect};
use longshore_core::api::pod::Pod;
use longshore_core::api::pod::helpers::tolerates;
use longshore_core::scheduling::{Candidates, ClusterEvent, Cycle, Filter, Policy, Reach, Refusal, State};

/// The taint that stands for `spec.unschedulable`.
const TAINT: &str = "node.kubernetes.io/unschedulable";

/// Refuses nodes that take no new pods, unless the pod tolerates that.
#[derive(Debug, Clone, Copy, Default)]
pub struct NodeUnschedulable;

fn is_tolerated(pod: &Pod) -> bool {
    let taint = Taint { key: TAINT.to_owned(), effect: TaintEffect::NoSchedule, ..Taint::default() };
    pod.spec.tolerations.iter().any(|toleration| tolerates(toleration, &taint))
}

impl Policy for NodeUnschedulable {
    fn name(&self) -> &str {
        "NodeUnschedulable"
    }

    fn may_help(&self, pod: &Pod, event: &ClusterEvent<'_>) -> bool {
        match event {
            ClusterEvent::NodeAdded(node) => !node.spec.unschedulable || is_tolerated(pod),
            ClusterEvent::NodeUpdated { old, new } => old.spec.unschedulable && !new.spec.unschedulable,
            ClusterEvent::SelfUpdated { old, new } => old.spec.tolerations != new.spec.tolerations,
            _ => false,
        }
    }

    fn as_filter(&self) -> Option<&dyn Filter> {
        Some(self)
    }
}

impl Filter for NodeUnschedulable {
    fn filter(&self, cycle: Cycle<'_>, _state: &State, candidates: &mut Candidates) {
        let unschedulable = cycle.cluster().unschedulable();
        if unschedulable.intersects(candidates.nodes()) && !is_tolerated(cycle.pod()) {
            candidates.refuse_all(unschedulable, Refusal::unresolvable("node(s) were unschedulable"));
        }
    }

    fn reach(&self) -> Reach {
        Reach::Node
    }
}
