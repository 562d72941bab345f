//! SchedulingGates: pods with gates are not queued.

use longshore_core::api::pod::Pod;
use longshore_core::scheduling::{ClusterEvent, Policy, PreEnqueue, Refusal};

/// Holds pods back as long as `spec.schedulingGates` names a gate.
#[derive(Debug, Clone, Copy, Default)]
pub struct SchedulingGates;

impl Policy for SchedulingGates {
    fn name(&self) -> &str {
        "SchedulingGates"
    }

    fn may_help(&self, _pod: &Pod, event: &ClusterEvent<'_>) -> bool {
        matches!(event, ClusterEvent::SelfUpdated { new, .. } if new.spec.scheduling_gates.is_empty())
    }

    fn as_pre_enqueue(&self) -> Option<&dyn PreEnqueue> {
        Some(self)
    }
}

impl PreEnqueue for SchedulingGates {
    fn pre_enqueue(&self, pod: &Pod) -> Result<(), Refusal> {
        let gates: Vec<&str> = pod.spec.scheduling_gates.iter().map(|gate| gate.name.as_str()).collect();
        if gates.is_empty() {
            return Ok(());
        }
        Err(Refusal::unresolvable(format!("waiting for scheduling gates: [{}]", gates.join(" "))))
    }
}
