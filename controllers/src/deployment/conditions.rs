//! The conditions of a deployment.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use longshore_core::api::ConditionStatus;
use longshore_core::api::deployment::DeploymentCondition;

use super::rollout::Rollout;

pub(super) const PROGRESSING: &str = "Progressing";
pub(super) const AVAILABLE: &str = "Available";
pub(super) const REPLICA_FAILURE: &str = "ReplicaFailure";

/// The rollout is done.
pub(super) const NEW_SET_AVAILABLE: &str = "NewReplicaSetAvailable";
/// The rollout moved on.
pub(super) const SET_UPDATED: &str = "ReplicaSetUpdated";
/// The rollout did not move on for too long.
pub(super) const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";
const RESUMED: &str = "DeploymentResumed";

pub(super) fn condition(type_: &str, status: ConditionStatus, reason: &str, message: String) -> DeploymentCondition {
    DeploymentCondition {
        type_: type_.into(),
        status,
        reason: reason.into(),
        message,
        ..DeploymentCondition::default()
    }
}

pub(super) fn progressing(progresses: bool, reason: &str, message: String) -> DeploymentCondition {
    let status = if progresses { ConditionStatus::True } else { ConditionStatus::False };
    condition(PROGRESSING, status, reason, message)
}

/// Puts a condition in. Nothing changes if one with the same status and reason is there.
pub(super) fn set(conditions: &mut Vec<DeploymentCondition>, mut new: DeploymentCondition, now: jiff::Timestamp) {
    let known = conditions.iter().position(|known| known.type_ == new.type_);
    let known = known.map(|index| (conditions[index].status == new.status, index));
    let now = Some(Time(now));
    new.last_update_time = now.clone();
    new.last_transition_time = now;
    if let Some((same_status, index)) = known {
        if same_status && conditions[index].reason == new.reason {
            return;
        }
        let old = conditions.remove(index);
        if same_status {
            new.last_transition_time = old.last_transition_time;
        }
    }
    conditions.push(new);
}

impl Rollout {
    pub(super) fn has_deadline(&self) -> bool {
        self.deployment.spec.progress_deadline_seconds.is_some_and(|seconds| seconds != i32::MAX)
    }

    pub(super) fn condition(&self, type_: &str) -> Option<&DeploymentCondition> {
        self.deployment.status.conditions.iter().find(|condition| condition.type_ == type_)
    }

    pub(super) fn set_condition(&mut self, new: DeploymentCondition) {
        set(&mut self.deployment.status.conditions, new, self.now);
    }

    /// Says that the deployment is paused, or is so no more. The deadline does not run while it is.
    pub(super) fn note_pause(&mut self) {
        let reason = self.condition(PROGRESSING).map(|condition| condition.reason.clone());
        if !self.has_deadline() || reason.as_deref() == Some(TIMED_OUT) {
            return;
        }
        let noted = reason.as_deref() == Some(PAUSED);
        let (reason, text) = match (self.deployment.spec.paused, noted) {
            (true, false) => (PAUSED, "Deployment is paused"),
            (false, true) => (RESUMED, "Deployment is resumed"),
            _ => return,
        };
        self.set_condition(condition(PROGRESSING, ConditionStatus::Unknown, reason, text.to_owned()));
    }
}
