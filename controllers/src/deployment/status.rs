//! What is told about a deployment.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use longshore_core::api::deployment::{DeploymentCondition, DeploymentStatus};
use longshore_core::api::{ConditionStatus, Deployment};

use super::conditions::{
    self, AVAILABLE, NEW_SET_AVAILABLE, PROGRESSING, REPLICA_FAILURE, SET_UPDATED, TIMED_OUT, condition, progressing,
};
use super::draft::Draft;
use super::rollout::{Rollout, max_unavailable};

/// Whether all pods are as the template says, serve, and are the only ones.
pub(super) fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = deployment.spec.replicas.unwrap_or(1);
    status.updated_replicas == wanted
        && status.replicas == wanted
        && status.available_replicas == wanted
        && status.observed_generation >= deployment.metadata.generation.unwrap_or_default()
}

/// Whether there are more new pods, fewer old ones, or more that serve.
fn has_progressed(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    new.updated_replicas > old.updated_replicas
        || new.replicas - new.updated_replicas < old.replicas - old.updated_replicas
        || new.ready_replicas > old.ready_replicas
        || new.available_replicas > old.available_replicas
}

/// When a rollout that does not move on has failed.
fn deadline(deployment: &Deployment, progressing: &DeploymentCondition) -> Option<Timestamp> {
    let seconds = deployment.spec.progress_deadline_seconds?;
    let since = progressing.last_update_time.as_ref()?.0;
    since.checked_add(SignedDuration::from_secs(i64::from(seconds))).ok()
}

impl Rollout {
    /// The counts and whether the deployment is available; the other conditions stay.
    pub(super) fn status(&self) -> DeploymentStatus {
        let deployment = &self.deployment;
        let seen = |count: fn(&Draft) -> i32| self.total(count);
        let available = seen(|draft| draft.is.status.available_replicas);
        let mut status = DeploymentStatus {
            observed_generation: deployment.metadata.generation.unwrap_or_default(),
            replicas: seen(|draft| draft.is.status.replicas),
            updated_replicas: self.new.as_ref().map_or(0, |draft| draft.is.status.replicas),
            ready_replicas: seen(|draft| draft.is.status.ready_replicas),
            available_replicas: available,
            unavailable_replicas: (seen(Draft::replicas) - available).max(0),
            terminating_replicas: Some(seen(|draft| draft.is.status.terminating_replicas.unwrap_or(0))),
            conditions: deployment.status.conditions.clone(),
            collision_count: deployment.status.collision_count,
        };
        let is_available = available >= self.replicas() - max_unavailable(deployment);
        let (holds, reason, text) = if is_available {
            (ConditionStatus::True, "MinimumReplicasAvailable", "Deployment has minimum availability.")
        } else {
            (ConditionStatus::False, "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
        };
        conditions::set(&mut status.conditions, condition(AVAILABLE, holds, reason, text.to_owned()), self.now);
        status
    }

    /// Takes over what was observed, without a word about progress.
    pub(super) fn observe(&mut self) {
        if !self.tell_first && !self.collided {
            self.deployment.status = self.status();
        }
    }

    /// Takes over what was observed, and says whether the rollout moves on, is done, or is stuck.
    pub(super) fn observe_progress(&mut self) {
        if self.tell_first || self.collided {
            return;
        }
        let mut status = self.status();
        let known = self.condition(PROGRESSING).cloned();
        let subject = match self.new.as_ref().and_then(|draft| draft.is.metadata.name.as_deref()) {
            Some(name) => format!("ReplicaSet {name:?}"),
            None => format!("Deployment {:?}", self.deployment.metadata.name.as_deref().unwrap_or_default()),
        };
        if !self.has_deadline() {
            status.conditions.retain(|condition| condition.type_ != PROGRESSING);
        }
        let was_done = known.as_ref().is_some_and(|known| known.reason == NEW_SET_AVAILABLE);
        if self.has_deadline() && !(was_done && status.replicas == status.updated_replicas) {
            if is_complete(&self.deployment, &status) {
                let text = format!("{subject} has successfully progressed.");
                conditions::set(&mut status.conditions, progressing(true, NEW_SET_AVAILABLE, text), self.now);
            } else if has_progressed(&self.deployment.status, &status) {
                // Written anew each time: its time of update is what the deadline counts from.
                status.conditions.retain(|condition| condition.type_ != PROGRESSING);
                let text = format!("{subject} is progressing.");
                conditions::set(&mut status.conditions, progressing(true, SET_UPDATED, text), self.now);
                let kept = known.filter(|known| known.status == ConditionStatus::True);
                if let (Some(known), Some(new)) = (kept, status.conditions.last_mut()) {
                    new.last_transition_time = known.last_transition_time;
                }
            } else if let Some(known) = known.filter(|known| !was_done && known.reason != TIMED_OUT) {
                match deadline(&self.deployment, &known).map(|at| at.duration_since(self.now)) {
                    Some(left) if left.is_negative() => {
                        let text = format!("{subject} has timed out progressing.");
                        conditions::set(&mut status.conditions, progressing(false, TIMED_OUT, text), self.now);
                    }
                    Some(left) => {
                        let left = Duration::try_from(left).unwrap_or_default() + Duration::from_secs(1);
                        self.look_again = Some(left);
                    }
                    None => {}
                }
            }
        }
        let mut failures = self.new.iter().chain(&self.old).flat_map(|draft| &draft.is.status.conditions);
        let failure = failures.find(|condition| condition.type_ == REPLICA_FAILURE);
        match failure {
            Some(failure) => {
                let (status_, message) = (failure.status.clone(), failure.message.clone());
                let failure = condition(REPLICA_FAILURE, status_, &failure.reason, message);
                conditions::set(&mut status.conditions, failure, self.now);
            }
            None => status.conditions.retain(|condition| condition.type_ != REPLICA_FAILURE),
        }
        self.deployment.status = status;
    }
}
