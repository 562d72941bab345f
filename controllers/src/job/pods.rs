//! The pods of a job: how they are made, and what is to be read from them.

use std::sync::Arc;

use jiff::Timestamp;
use longshore_core::api::job::{CompletionMode, PodReplacementPolicy};
use longshore_core::api::pod::helpers::condition;
use longshore_core::api::pod::{EnvVar, EnvVarSource, ObjectFieldSelector, PodPhase};
use longshore_core::api::{Job, Pod};
use serde_json::json;

use crate::plan::{Action, ObjectRef};
use crate::template::pod_of;

/// Finalizer that keeps a pod until the job has counted it.
pub(super) const TRACKING: &str = "batch.kubernetes.io/job-tracking";
/// Annotation and label: the index of a pod of an indexed job.
const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// Variable that tells a pod its index.
const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";

pub(super) fn is_indexed(job: &Job) -> bool {
    job.spec.completion_mode == Some(CompletionMode::Indexed)
}

/// Whether a pod that is on its way out is replaced only when it has ended.
pub(super) fn replaces_only_ended(job: &Job) -> bool {
    job.spec.pod_replacement_policy == Some(PodReplacementPolicy::Failed)
}

pub(super) fn is_tracked(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == TRACKING)
}

pub(super) fn is_succeeded(pod: &Pod) -> bool {
    pod.status.phase == PodPhase::Succeeded
}

/// Whether the pod counts as failed: it has, or somebody deleted it before it ended.
pub(super) fn is_failed(job: &Job, pod: &Pod) -> bool {
    match pod.status.phase {
        PodPhase::Failed => true,
        PodPhase::Succeeded => false,
        _ => !replaces_only_ended(job) && pod.metadata.deletion_timestamp.is_some(),
    }
}

/// The pod's index, if it has one below the number of completions.
pub(super) fn index(job: &Job, pod: &Pod) -> Option<i32> {
    let index: i32 = pod.metadata.annotations.as_ref()?.get(INDEX)?.parse().ok()?;
    (0..job.spec.completions.unwrap_or(0)).contains(&index).then_some(index)
}

/// When the pod ended, as well as that can be told.
pub(super) fn ended_at(pod: &Pod) -> Option<Timestamp> {
    let finished = pod
        .status
        .container_statuses
        .iter()
        .filter_map(|status| Some(status.state.terminated.as_ref()?.finished_at.as_ref()?.0));
    let ready = || condition(&pod.status, "Ready").and_then(|ready| ready.last_transition_time.as_ref());
    let deleted = || pod.metadata.deletion_timestamp.as_ref();
    let created = || pod.metadata.creation_timestamp.as_ref();
    finished.max().or_else(|| Some(deleted().or_else(ready).or_else(created)?.0))
}

/// Lets a pod go.
pub(super) fn free(pod: &Pod) -> Action {
    let kept: Vec<&String> = pod.metadata.finalizers.iter().flatten().filter(|other| *other != TRACKING).collect();
    let guard =
        json!({ "finalizers": kept, "uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version });
    Action::Patch { target: ObjectRef::of(pod), subresource: None, patch: json!({ "metadata": guard }) }
}

/// A new pod, with this index if the job is indexed.
pub(super) fn create(job: &Job, index: Option<i32>) -> Action {
    let mut pod = pod_of(&job.spec.template, job);
    pod.metadata.finalizers.get_or_insert_default().push(TRACKING.to_owned());
    if let Some(index) = index {
        let name = job.metadata.name.as_deref().unwrap_or_default();
        pod.metadata.generate_name = Some(format!("{name}-{index}-"));
        for map in [&mut pod.metadata.annotations, &mut pod.metadata.labels] {
            map.get_or_insert_default().insert(INDEX.to_owned(), index.to_string());
        }
        pod.spec.hostname = format!("{name}-{index}");
        for container in pod.spec.init_containers.iter_mut().chain(&mut pod.spec.containers) {
            if container.env.iter().all(|variable| variable.name != INDEX_VARIABLE) {
                container.env.push(index_variable());
            }
        }
    }
    Action::Create(Box::new(pod)).reported_to(job)
}

fn index_variable() -> EnvVar {
    let field_path = format!("metadata.labels['{INDEX}']");
    let field_ref = Some(ObjectFieldSelector { field_path, ..ObjectFieldSelector::default() });
    let value_from = Some(Box::new(EnvVarSource { field_ref, ..EnvVarSource::default() }));
    EnvVar { name: INDEX_VARIABLE.to_owned(), value_from, ..EnvVar::default() }
}

/// How often pods failed in a row since one last succeeded, and when the last one did.
pub(super) fn failures_in_a_row<'a>(job: &Job, pods: impl Iterator<Item = &'a Arc<Pod>>) -> Option<(u32, Timestamp)> {
    let ended = pods.filter(|pod| is_succeeded(pod) || is_failed(job, pod));
    let mut ended: Vec<(Timestamp, bool)> = ended.filter_map(|pod| Some((ended_at(pod)?, is_succeeded(pod)))).collect();
    ended.sort_unstable();
    let failures = ended.iter().rev().take_while(|(_, succeeded)| !succeeded).count();
    let (last, _) = ended.last().filter(|(_, succeeded)| !succeeded)?;
    Some((u32::try_from(failures).unwrap_or(u32::MAX), *last))
}
