//! InterPodAffinity: near these pods, away from those; and what the pods that are there say about it.

mod counts;
mod filter;
mod score;
mod term;

use longshore_core::api::pod::Pod;
use longshore_core::scheduling::{ClusterEvent, Filter, Policy, Score};

/// Refuses nodes by required affinity and anti-affinity, of the pod and of the pods that are there, and scores the others by
/// the preferred ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterPodAffinity {
    hard_weight: i64,
    own_preferences_only: bool,
}

impl Default for InterPodAffinity {
    fn default() -> Self {
        Self { hard_weight: 1, own_preferences_only: false }
    }
}

impl InterPodAffinity {
    /// What a required affinity of a pod that is there counts for in the score; 1 by default.
    #[must_use]
    pub fn with_hard_weight(mut self, weight: i64) -> Self {
        self.hard_weight = weight;
        self
    }

    /// Does not score pods that prefer nothing themselves, whatever the pods that are there say.
    #[must_use]
    pub fn ignoring_preferences_of_others(mut self) -> Self {
        self.own_preferences_only = true;
        self
    }
}

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
