//! Whether a job is over, and how it ended.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use longshore_core::api::job::{JobCondition, JobStatus};
use longshore_core::api::pod::{PodPhase, RestartPolicy};
use longshore_core::api::{ConditionStatus, Job, Pod};

use super::pods::is_indexed;
use super::policy::success;
use super::tally::Tally;

pub(super) const COMPLETE: &str = "Complete";
pub(super) const FAILED: &str = "Failed";
pub(super) const SUCCESS_CRITERIA_MET: &str = "SuccessCriteriaMet";
pub(super) const FAILURE_TARGET: &str = "FailureTarget";
pub(super) const SUSPENDED: &str = "Suspended";

/// How a job ends.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct End {
    pub(super) succeeded: bool,
    pub(super) reason: String,
    pub(super) message: String,
}

impl End {
    fn new(succeeded: bool, reason: &str, message: impl Into<String>) -> Self {
        Self { succeeded, reason: reason.to_owned(), message: message.into() }
    }

    /// The condition while pods are still on their way out, and the one after.
    pub(super) fn conditions(&self) -> (&'static str, &'static str) {
        if self.succeeded { (SUCCESS_CRITERIA_MET, COMPLETE) } else { (FAILURE_TARGET, FAILED) }
    }
}

pub(super) fn has<'a>(status: &'a JobStatus, type_: &str) -> Option<&'a JobCondition> {
    status.conditions.iter().find(|condition| condition.type_ == type_ && condition.status == ConditionStatus::True)
}

/// The condition with which the job ended, if it did.
pub(super) fn finished(status: &JobStatus) -> Option<&JobCondition> {
    has(status, COMPLETE).or_else(|| has(status, FAILED))
}

/// Sets a condition. Says whether its status changed.
pub(super) fn set(
    status: &mut JobStatus,
    type_: &str,
    holds: bool,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> bool {
    let value = if holds { ConditionStatus::True } else { ConditionStatus::False };
    if status.conditions.iter().any(|known| known.type_ == type_ && known.status == value) {
        return false;
    }
    status.conditions.retain(|known| known.type_ != type_);
    status.conditions.push(JobCondition {
        type_: type_.to_owned(),
        status: value,
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
        reason: reason.to_owned(),
        message: message.to_owned(),
    });
    true
}

pub(super) fn is_suspended(job: &Job) -> bool {
    job.spec.suspend == Some(true)
}

/// How the job ends, if it does now or was found to earlier.
pub(super) fn end(job: &Job, owned: &[Arc<Pod>], tally: &Tally, active: i32, now: Timestamp) -> Option<End> {
    for (type_, succeeded) in [(FAILURE_TARGET, false), (SUCCESS_CRITERIA_MET, true)] {
        if let Some(condition) = has(&job.status, type_) {
            return Some(End::new(succeeded, &condition.reason, condition.message.clone()));
        }
    }
    if let Some(message) = &tally.fails_job {
        return Some(End::new(false, "PodFailurePolicy", message.clone()));
    }
    if tally.failed() > job.spec.backoff_limit.unwrap_or(6) || restarted_too_often(job, owned) {
        return Some(End::new(false, "BackoffLimitExceeded", "Job has reached the specified backoff limit"));
    }
    if deadline(job).is_some_and(|deadline| now >= deadline) {
        return Some(End::new(false, "DeadlineExceeded", "Job was active longer than specified deadline"));
    }
    let failed = i32::try_from(tally.failed_indexes.len()).unwrap_or(i32::MAX);
    if job.spec.max_failed_indexes.is_some_and(|most| failed > most) {
        let text = "Job has exceeded the specified maximal number of failed indexes";
        return Some(End::new(false, "MaxFailedIndexesExceeded", text));
    }
    if let Some(rule) = success(job, &tally.succeeded_indexes).filter(|_| is_indexed(job)) {
        return Some(End::new(true, "SuccessPolicy", format!("Matched rules at index {rule}")));
    }
    let reached = match job.spec.completions {
        None => tally.succeeded() > 0 && active == 0,
        Some(completions) if failed > 0 => {
            let all = tally.succeeded().saturating_add(failed) >= completions;
            return all.then(|| End::new(false, "FailedIndexes", "Job has failed indexes"));
        }
        Some(completions) => tally.succeeded() >= completions,
    };
    reached.then(|| End::new(true, "CompletionsReached", "Reached expected number of succeeded pods"))
}

/// When a job that runs must be over.
pub(super) fn deadline(job: &Job) -> Option<Timestamp> {
    let (seconds, start) = (job.spec.active_deadline_seconds?, job.status.start_time.as_ref()?.0);
    if is_suspended(job) {
        return None;
    }
    start.checked_add(SignedDuration::from_secs(seconds)).ok()
}

/// Whether containers that are restarted in place failed more often than the job bears.
fn restarted_too_often(job: &Job, owned: &[Arc<Pod>]) -> bool {
    if job.spec.template.spec.restart_policy != RestartPolicy::OnFailure {
        return false;
    }
    let living = owned.iter().filter(|pod| matches!(pod.status.phase, PodPhase::Running | PodPhase::Pending));
    let statuses =
        living.flat_map(|pod| pod.status.init_container_statuses.iter().chain(&pod.status.container_statuses));
    let restarts: i32 = statuses.map(|status| status.restart_count).fold(0, i32::saturating_add);
    match job.spec.backoff_limit.unwrap_or(6) {
        0 => restarts > 0,
        limit => restarts >= limit,
    }
}

/// How long until a job that ended is to be deleted; `None` if never.
pub(super) fn time_to_live(job: &Job, now: Timestamp) -> Option<Duration> {
    let ended = finished(&job.status)?.last_transition_time.as_ref()?.0;
    let expires = ended.checked_add(SignedDuration::from_secs(i64::from(job.spec.ttl_seconds_after_finished?))).ok()?;
    Some(Duration::try_from(expires.duration_since(now)).unwrap_or_default())
}
