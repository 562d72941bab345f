//! The two kinds that ask for a number of pods.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use longshore_core::api::replica_set::{ReplicaSetCondition, ReplicaSetStatus};
use longshore_core::api::replication_controller::{ReplicationControllerCondition, ReplicationControllerStatus};
use longshore_core::api::{ConditionStatus, PodTemplateSpec, ReplicaSet, ReplicationController};
use longshore_core::selector::Selector;

use super::{Replicated, Seen};
use crate::selects::compiled;

const REPLICA_FAILURE: &str = "ReplicaFailure";

/// Sets or removes the condition `ReplicaFailure` among conditions of the given type.
macro_rules! set_failure {
    ($type:ident, $conditions:expr, $failure:expr, $now:expr) => {
        match $failure {
            None => $conditions.retain(|condition| condition.type_ != REPLICA_FAILURE),
            Some((reason, _))
                if $conditions.iter().any(|condition| {
                    condition.type_ == REPLICA_FAILURE
                        && condition.status == ConditionStatus::True
                        && condition.reason == *reason
                }) => {}
            Some((reason, message)) => {
                $conditions.retain(|condition| condition.type_ != REPLICA_FAILURE);
                $conditions.push($type {
                    type_: REPLICA_FAILURE.to_owned(),
                    status: ConditionStatus::True,
                    last_transition_time: Some(Time($now)),
                    reason: (*reason).to_owned(),
                    message: message.clone(),
                });
            }
        }
    };
}

impl Replicated for ReplicaSet {
    const NAME: &'static str = "replicaset";
    const COMPONENT: &'static str = "replicaset-controller";

    fn replicas(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }

    fn min_ready_seconds(&self) -> i32 {
        self.spec.min_ready_seconds
    }

    fn selector(&self) -> Selector {
        compiled(self.spec.selector.as_ref())
    }

    fn template(&self) -> Option<&PodTemplateSpec> {
        Some(&self.spec.template)
    }

    fn observed(&self, seen: &Seen, now: Timestamp) -> Self {
        let mut new = self.clone();
        let mut conditions = std::mem::take(&mut new.status.conditions);
        set_failure!(ReplicaSetCondition, conditions, &seen.failure, now);
        new.status = ReplicaSetStatus {
            replicas: seen.replicas,
            fully_labeled_replicas: seen.fully_labeled,
            ready_replicas: seen.ready,
            available_replicas: seen.available,
            terminating_replicas: Some(seen.terminating),
            observed_generation: self.metadata.generation.unwrap_or_default(),
            conditions,
        };
        new
    }
}

impl Replicated for ReplicationController {
    const NAME: &'static str = "replicationmanager";
    const COMPONENT: &'static str = "replication-controller";

    fn replicas(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }

    fn min_ready_seconds(&self) -> i32 {
        self.spec.min_ready_seconds
    }

    fn selector(&self) -> Selector {
        let labels = &self.spec.selector;
        if labels.is_empty() { Selector::nothing() } else { Selector::from_labels(labels) }
    }

    fn template(&self) -> Option<&PodTemplateSpec> {
        self.spec.template.as_deref()
    }

    fn observed(&self, seen: &Seen, now: Timestamp) -> Self {
        let mut new = self.clone();
        let mut conditions = std::mem::take(&mut new.status.conditions);
        set_failure!(ReplicationControllerCondition, conditions, &seen.failure, now);
        new.status = ReplicationControllerStatus {
            replicas: seen.replicas,
            fully_labeled_replicas: seen.fully_labeled,
            ready_replicas: seen.ready,
            available_replicas: seen.available,
            observed_generation: self.metadata.generation.unwrap_or_default(),
            conditions,
        };
        new
    }
}
