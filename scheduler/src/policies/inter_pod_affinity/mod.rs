//! InterPodAffinity: near these pods, away from those; and what the pods that are there say about it.

mod counts;
mod filter;
mod score;
mod term;

use longshore_core::api::pod::Pod;
use longshore_core::scheduling::{ClusterEvent, Filter, Policy, Score};

/// Refuses nodes by required affinity and anti-affinity, of the pod and of the pods that are there, and scores the others by
/// the preferred ones.
#[derive(Debug, Clone, Copy, Default)]
pub struct InterPodAffinity;

impl Policy for InterPodAffinity {
    fn name(&self) -> &str {
        "InterPodAffinity"
    }

    fn may_help(&self, _pod: &Pod, event: &ClusterEvent<'_>) -> bool {
        match event {
            ClusterEvent::NodeUpdated { old, new } => old.metadata.labels != new.metadata.labels,
            ClusterEvent::PodUpdated { old, new } => old.metadata.labels != new.metadata.labels,
            ClusterEvent::ObjectChanged { .. } | ClusterEvent::ObjectRemoved { .. } => false,
            _ => true,
        }
    }

    fn as_filter(&self) -> Option<&dyn Filter> {
        Some(self)
    }

    fn as_score(&self) -> Option<&dyn Score> {
        Some(self)
    }
}
