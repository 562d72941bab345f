//! Conditions of a pod: is it ready, available, over.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::ConditionStatus;
use crate::api::pod::{Pod, PodCondition, PodPhase, PodStatus};

/// The condition of this type, such as `Ready`.
pub fn condition<'a>(status: &'a PodStatus, type_: &str) -> Option<&'a PodCondition> {
    status.conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether the pod serves: its condition `Ready` is true.
pub fn is_ready(pod: &Pod) -> bool {
    is_true(pod, "Ready")
}

/// Whether all containers are ready, whatever readiness gates say.
pub fn containers_ready(pod: &Pod) -> bool {
    is_true(pod, "ContainersReady")
}

/// Whether the pod has been ready for at least `min_ready_seconds`.
pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    let Some(ready) = condition(&pod.status, "Ready").filter(|ready| ready.status == ConditionStatus::True) else {
        return false;
    };
    min_ready_seconds == 0
        || ready
            .last_transition_time
            .as_ref()
            .is_some_and(|since| now.duration_since(since.0) >= SignedDuration::from_secs(i64::from(min_ready_seconds)))
}

/// Whether the pod will never run again.
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(pod.status.phase, PodPhase::Failed | PodPhase::Succeeded)
}

/// Puts a condition in, `now` being when its status changed if it did. Says whether anything changed.
pub fn update_condition(conditions: &mut Vec<PodCondition>, mut new: PodCondition, now: Timestamp) -> bool {
    new.last_transition_time = Some(Time(now));
    let Some(old) = conditions.iter_mut().find(|old| old.type_ == new.type_) else {
        conditions.push(new);
        return true;
    };
    if old.status == new.status {
        new.last_transition_time = old.last_transition_time.clone();
    }
    let same = old.status == new.status
        && old.reason == new.reason
        && old.message == new.message
        && old.last_probe_time == new.last_probe_time
        && old.last_transition_time == new.last_transition_time;
    *old = new;
    !same
}

/// [`update_condition`] on a pod's status.
pub fn set_condition(status: &mut PodStatus, new: PodCondition, now: Timestamp) -> bool {
    update_condition(&mut status.conditions, new, now)
}

fn is_true(pod: &Pod, type_: &str) -> bool {
    condition(&pod.status, type_).is_some_and(|condition| condition.status == ConditionStatus::True)
}
