//! What several controllers ask about pods.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use longshore_core::api::pod::PodPhase;
use longshore_core::api::pod::helpers::{claim_name, condition, is_available, is_ready, is_terminal};
use longshore_core::api::{ConditionStatus, Pod};
use longshore_core::informer::ObjectKey;

use crate::controller::{Triggers, View};

/// Whether the pod counts as one that runs or will run: it has not ended and nobody deleted it.
pub(crate) fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && pod.metadata.deletion_timestamp.is_none()
}

/// Whether the pod is on its way out but has not ended yet.
pub(crate) fn is_terminating(pod: &Pod) -> bool {
    !is_terminal(pod) && pod.metadata.deletion_timestamp.is_some()
}

/// Since when the pod has been ready; `None` if it is not.
pub(crate) fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(&pod.status, "Ready").filter(|ready| ready.status == ConditionStatus::True)?;
    ready.last_transition_time.as_ref().map(|time| time.0)
}

/// How long until the pod counts as available, if it stays ready; `None` if it does already, or is not ready.
pub(crate) fn available_in(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Option<std::time::Duration> {
    if !is_ready(pod) || is_available(pod, min_ready_seconds, now) {
        return None;
    }
    let whole = SignedDuration::from_secs(i64::from(min_ready_seconds));
    // Where a clock is slow, it is looked at again in time nevertheless.
    let left = (ready_since(pod)? + whole).duration_since(now).min(whole);
    std::time::Duration::try_from(left).ok()
}

/// Whether the pod runs or waits, in the words of its phase.
pub(crate) fn phase_rank(pod: &Pod) -> u8 {
    match pod.status.phase {
        PodPhase::Pending | PodPhase::Unset => 0,
        PodPhase::Unknown => 1,
        _ => 2,
    }
}

/// How often the pod's containers were restarted: the worst of them, of the main ones and of the init ones that restart.
pub(crate) fn restarts(pod: &Pod) -> (i32, i32) {
    let worst = |statuses: &mut dyn Iterator<Item = i32>| statuses.max().unwrap_or(0);
    let regular = worst(&mut pod.status.container_statuses.iter().map(|status| status.restart_count));
    let sidecars = worst(&mut pod.status.init_container_statuses.iter().map(|status| status.restart_count));
    (regular, sidecars)
}

/// Index of pods by the node that they are on.
pub(crate) const BY_NODE: &str = "controllers/node";

/// Adds [`BY_NODE`].
pub(crate) fn index_by_node<T: Clone + Eq + std::hash::Hash + Send + Sync + 'static>(triggers: &Triggers<T>) {
    triggers.informer::<Pod>().add_index(BY_NODE, |pod| {
        Some(pod.spec.node_name.clone()).filter(|name| !name.is_empty()).into_iter().collect()
    });
}

/// Index of pods by the claims that they use, as `namespace/name`.
const BY_CLAIM: &str = "controllers/claim";

/// Adds the index that [`using_claim`] needs.
pub(crate) fn index_by_claim<T: Clone + Eq + std::hash::Hash + Send + Sync + 'static>(triggers: &Triggers<T>) {
    triggers.informer::<Pod>().add_index(BY_CLAIM, |pod| claims_of(pod).map(|key| key.to_string()).collect());
}

/// The claims that a pod uses.
pub(crate) fn claims_of(pod: &Pod) -> impl Iterator<Item = ObjectKey> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    pod.spec.volumes.iter().filter_map(|volume| claim_name(pod, volume)).map(|name| ObjectKey::new(namespace, &name))
}

/// The pods that use a claim.
pub(crate) fn using_claim(view: &View<'_>, claim: &ObjectKey) -> Vec<Arc<Pod>> {
    view.of::<Pod>().by_index(BY_CLAIM, &claim.to_string())
}
