//! Tells the world about a pod: its status, and events about what is held back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use longshore_core::api::Pod;
use longshore_core::api::pod::PodStatus;
use longshore_core::client::Error;
use longshore_core::client::params::{Patch, PatchParams};
use longshore_core::events::EventRecorder;
use longshore_core::kind::Subresource;
use serde_json::{Value, json};

use super::config::{find_container, pod_ref};
use super::container_status::full_name;
use super::events::Events;
use super::observed::{Failure, Target};
use crate::json_diff;
use crate::shared::Shared;

/// What has to be written to bring one status to another; `None` if nothing.
pub(super) fn difference(old: &PodStatus, new: &PodStatus) -> Option<Value> {
    if old == new {
        return None;
    }
    // Compared as written: what is told apart in memory only, no report can ever change.
    json_diff::merge_patch(&json!(old), &json!(new))
}

/// Writes a change of a pod's status.
pub(super) async fn write(shared: Arc<Shared>, pod: Arc<Pod>, change: Value) -> Result<Arc<Pod>, Error> {
    // The patch replaces lists, so it must be about the very state that it was made from.
    let patch = json!({
        "metadata": {"uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version},
        "status": change,
    });
    let (pod, patch) = (pod_ref(&pod), Patch::Merge(patch));
    let params = PatchParams::default();
    shared.pods.patch(&pod.namespace, &pod.name, Some(Subresource::Status), &patch, &params).await
}

/// Tells once for each attempt that a container is held back.
pub(super) fn announce(recorder: &EventRecorder, pod: &Pod, status: &PodStatus, announced: &mut BTreeMap<String, i32>) {
    for found in status.container_statuses.iter().chain(&status.init_container_statuses) {
        let waits = found.state.waiting.as_ref().is_some_and(|waiting| waiting.reason == "CrashLoopBackOff");
        if waits && announced.insert(found.name.clone(), found.restart_count) != Some(found.restart_count) {
            let message = format!("Back-off restarting failed container {} in pod {}", found.name, full_name(pod));
            Events::of_container(recorder, pod, &found.name).warning("BackOff", message);
        }
    }
}

/// Once people could read that a pull failed, the container waits for the next one.
pub(super) fn back_off_pulls(recorder: &EventRecorder, pod: &Pod, failures: &mut BTreeMap<Target, Failure>) {
    for (target, failure) in failures {
        let (Target::Container(name), "ErrImagePull") = (target, failure.reason.as_str()) else { continue };
        let spec = find_container(pod, name);
        let message = format!("Back-off pulling image \"{}\"", spec.as_ref().map_or("", |spec| spec.image.as_str()));
        let events = Events::of_container(recorder, pod, name);
        events.normal("BackOff", message.clone());
        events.warning("Failed", "Error: ImagePullBackOff");
        failure.message = format!("{message}: ErrImagePull: {}", failure.message);
        failure.reason = "ImagePullBackOff".to_owned();
    }
}

/// How long after its `count`th failure in a row an operation waits.
pub(super) fn wait_after(target: &Target, reason: &str, count: u32) -> Duration {
    let is_image = matches!(
        reason,
        "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName" | "ImageInspectError"
    );
    let (first, most) = match target {
        Target::Container(_) if is_image => (10_000, 300_000),
        Target::Container(_) => (2_000, 60_000),
        _ => (500, 120_000),
    };
    let wait: u64 = (first << count.saturating_sub(1).min(16)).min(most);
    Duration::from_millis(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_in_memory_only_is_none() {
        let mut new = PodStatus::default();
        assert_eq!(difference(&PodStatus::default(), &new), None);
        new.message = "x".into();
        assert_eq!(difference(&PodStatus::default(), &new), Some(json!({"message": "x"})));
        // A time read back has lost the fractions that the wire format has no room for.
        let (whole, part) = (jiff::Timestamp::constant(7, 0), jiff::Timestamp::constant(7, 1));
        let started = |at| PodStatus { start_time: Some(k8s_time(at)), ..PodStatus::default() };
        assert_eq!(difference(&started(whole), &started(part)), None);
    }

    fn k8s_time(at: jiff::Timestamp) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::Time {
        k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at)
    }
}
