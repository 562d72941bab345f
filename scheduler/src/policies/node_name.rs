//! NodeName: a pod that names its node goes nowhere else.

use longshore_core::api::pod::Pod;
use longshore_core::scheduling::{
    Candidates, ClusterEvent, Cycle, Filter, NodeSet, Policy, PreFilter, Reach, Refusal, State,
};

/// Refuses every node but the one that the pod names.
#[derive(Debug, Clone, Copy, Default)]
pub struct NodeName;

impl Policy for NodeName {
    fn name(&self) -> &str {
        "NodeName"
    }

    fn may_help(&self, pod: &Pod, event: &ClusterEvent<'_>) -> bool {
        matches!(event, ClusterEvent::NodeAdded(node) if node.metadata.name.as_ref() == Some(&pod.spec.node_name))
    }

    fn as_filter(&self) -> Option<&dyn Filter> {
        Some(self)
    }
}

impl Filter for NodeName {
    fn pre_filter(&self, cycle: Cycle<'_>, _state: &mut State) -> Result<PreFilter, Refusal> {
        Ok(if cycle.pod().spec.node_name.is_empty() { PreFilter::Skip } else { PreFilter::All })
    }

    fn filter(&self, cycle: Cycle<'_>, _state: &State, candidates: &mut Candidates) {
        let named: NodeSet = cycle.cluster().node_id(&cycle.pod().spec.node_name).into_iter().collect();
        candidates.keep_only(&named, Refusal::unresolvable("node(s) didn't match the requested node name"));
    }

    fn reach(&self) -> Reach {
        Reach::Node
    }
}
