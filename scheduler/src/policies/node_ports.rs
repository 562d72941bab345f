//! NodePorts: a port of a node goes to one pod only.

use longshore_core::api::pod::Pod;
use longshore_core::scheduling::{Candidates, ClusterEvent, Cycle, Filter, Policy, PreFilter, Reach, Refusal, State};

/// Refuses nodes of which a port that the pod wants is taken.
#[derive(Debug, Clone, Copy, Default)]
pub struct NodePorts;

impl Policy for NodePorts {
    fn name(&self) -> &str {
        "NodePorts"
    }

    fn may_help(&self, _pod: &Pod, event: &ClusterEvent<'_>) -> bool {
        let has_ports = |pod: &Pod| {
            let containers = pod.spec.containers.iter().chain(&pod.spec.init_containers);
            containers.flat_map(|container| &container.ports).any(|port| port.host_port > 0)
        };
        match event {
            ClusterEvent::NodeAdded(_) => true,
            ClusterEvent::PodRemoved(gone) | ClusterEvent::PodForgotten(gone) => has_ports(gone),
            _ => false,
        }
    }

    fn as_filter(&self) -> Option<&dyn Filter> {
        Some(self)
    }
}

impl Filter for NodePorts {
    fn pre_filter(&self, cycle: Cycle<'_>, _state: &mut State) -> Result<PreFilter, Refusal> {
        Ok(if cycle.shape().host_ports().is_empty() { PreFilter::Skip } else { PreFilter::All })
    }

    fn filter(&self, cycle: Cycle<'_>, _state: &State, candidates: &mut Candidates) {
        let (cluster, wanted) = (cycle.cluster(), cycle.shape().host_ports());
        for node in cluster.nodes_with_ports().intersection(candidates.nodes()).iter() {
            let taken = cluster.ports_of(node);
            if wanted.iter().any(|port| taken.iter().any(|other| port.conflicts(other))) {
                let reason = "node(s) didn't have free ports for the requested pod ports";
                candidates.refuse(node, Refusal::unschedulable(reason));
            }
        }
    }

    fn reach(&self) -> Reach {
        Reach::Node
    }
}
