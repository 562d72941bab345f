//! PodTopologySpread: pods of a kind are spread evenly over zones, hosts or other domains.

mod constraint;
mod filter;
mod score;

use longshore_core::api::pod::{Pod, TopologySpreadConstraint};
use longshore_core::api::{ReplicaSet, ReplicationController, Service, StatefulSet};
use longshore_core::kind::KindType;
use longshore_core::scheduling::{ClusterEvent, Filter, Policy, Score};

/// Refuses nodes whose domain has too many pods of the kind already, and prefers domains that have few. Pods without
/// constraints of their own that a service or controller selects are spread softly over hosts and zones, unless other
/// constraints are given for them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PodTopologySpread {
    /// `None` for upstream's.
    defaults: Option<Vec<TopologySpreadConstraint>>,
}

impl PodTopologySpread {
    /// The policy with these constraints for pods that have none; which pods count follows from the services and the
    /// controller of the pod, whatever the constraints' selectors. With such defaults, unlike with upstream's own, nodes
    /// that lack a topology label are not scored.
    pub fn with_defaults(constraints: Vec<TopologySpreadConstraint>) -> Self {
        Self { defaults: Some(constraints) }
    }
}

impl Policy for PodTopologySpread {
    fn name(&self) -> &str {
        "PodTopologySpread"
    }

    fn kinds(&self) -> Vec<&'static KindType> {
        vec![
            KindType::of::<Service>(),
            KindType::of::<ReplicationController>(),
            KindType::of::<ReplicaSet>(),
            KindType::of::<StatefulSet>(),
        ]
    }

    fn may_help(&self, pod: &Pod, event: &ClusterEvent<'_>) -> bool {
        let same_namespace = |other: &Pod| other.metadata.namespace == pod.metadata.namespace;
        match event {
            ClusterEvent::NodeAdded(_) | ClusterEvent::SelfUpdated { .. } => true,
            ClusterEvent::NodeUpdated { old, new } => {
                old.metadata.labels != new.metadata.labels || old.spec.taints != new.spec.taints
            }
            ClusterEvent::PodPlaced(other) | ClusterEvent::PodRemoved(other) | ClusterEvent::PodForgotten(other) => {
                same_namespace(other)
            }
            ClusterEvent::PodUpdated { old, new } => {
                let terminating = |pod: &Pod| pod.metadata.deletion_timestamp.is_some();
                let changed = old.metadata.labels != new.metadata.labels || terminating(old) != terminating(new);
                same_namespace(new) && changed
            }
            _ => false,
        }
    }

    fn as_filter(&self) -> Option<&dyn Filter> {
        Some(self)
    }

    fn as_score(&self) -> Option<&dyn Score> {
        Some(self)
    }
}
