//! Job: runs pods until enough of them have succeeded, or too many have failed.
//!
//! How pods are counted exactly once is the story of [`tally`]. A job that is found to end says so first
//! (`SuccessCriteriaMet`, `FailureTarget`), stops what still runs, and is `Complete` or `Failed` when nothing is left of
//! its pods but those that ended.

mod finish;
mod indexes;
mod manage;
mod pods;
mod policy;
mod tally;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use longshore_core::api::job::{JOB_NAME_LABEL, JobStatus};
use longshore_core::api::pod::helpers::is_ready;
use longshore_core::api::{Job, Pod};
use longshore_core::client::params::PropagationPolicy;
use longshore_core::events::Severity;
use longshore_core::informer::ObjectKey;
use longshore_core::kind::KindType;
use longshore_core::selector::Selector;

use self::finish::End;
use self::tally::Tally;
use crate::claim::{Claim, claim, controller_key, controller_of, is_controlled_by, watch_dependents};
use crate::controller::{Controller, Triggers, View};
use crate::plan::{Action, ObjectRef, Plan};
use crate::pods::{is_active, is_terminating};
use crate::selects::compiled;

/// Index of tracked pods by namespace and name of their job.
const BY_JOB: &str = "job/tracked";
/// Who takes care of a job that says nothing else.
const MANAGER: &str = "kubernetes.io/job-controller";

/// The controller of Jobs.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct JobController;

fn selector(job: &Job) -> Selector {
    compiled(job.spec.selector.as_ref())
}

/// The job to which a tracked pod belongs, or did before somebody took it away.
fn job_key(pod: &Pod) -> Option<ObjectKey> {
    if !pods::is_tracked(pod) {
        return None;
    }
    let label = || {
        let name = pod.metadata.labels.as_ref()?.get(JOB_NAME_LABEL)?;
        Some(ObjectKey::new(pod.metadata.namespace.as_deref().unwrap_or_default(), name))
    };
    controller_key::<Job>(pod).or_else(label)
}

/// Lets go of pods that have the finalizer but no job that would ever count them.
fn free_strangers(view: &View<'_>, key: &ObjectKey, job: Option<&Job>) -> Plan {
    let mut plan = Plan::nothing();
    for pod in view.of::<Pod>().by_index(BY_JOB, &key.to_string()) {
        if job.is_some_and(|job| is_controlled_by(&*pod, job)) {
            continue;
        }
        match controller_of(&*pod) {
            Some(owner) if owner.kind == "Job" => {
                let owner = ObjectRef { kind: KindType::of::<Job>(), key: key.clone(), uid: owner.uid.clone() };
                plan.push(Action::ConfirmGone(owner));
            }
            // An orphan that the job may still adopt.
            None if job.is_some_and(|job| selector(job).matches_optional(pod.metadata.labels.as_ref())) => continue,
            _ => {}
        }
        plan.push(pods::free(&pod));
    }
    plan
}

/// What is left to do about a job that ended: nothing, until it may be deleted.
fn finished(job: &Job, owned: &[Arc<Pod>], now: Timestamp) -> Plan {
    let mut plan = Plan::nothing();
    plan.actions.extend(owned.iter().filter(|pod| pods::is_tracked(pod)).map(|pod| pods::free(pod)));
    match finish::time_to_live(job, now).filter(|_| job.metadata.deletion_timestamp.is_none()) {
        None => {}
        Some(Duration::ZERO) => plan.push(Action::Delete {
            target: ObjectRef::of(job),
            resource_version: job.metadata.resource_version.clone(),
            propagation: Some(PropagationPolicy::Foreground),
            grace_seconds: None,
        }),
        Some(left) => plan.look_again_in(left),
    }
    plan
}

/// The status that follows from the counts.
fn observed(job: &Job, owned: &[Arc<Pod>], tally: &Tally) -> JobStatus {
    let count = |counts: &dyn Fn(&Pod) -> bool| {
        i32::try_from(owned.iter().filter(|pod| counts(pod)).count()).unwrap_or(i32::MAX)
    };
    let mut status = job.status.clone();
    status.active = count(&is_active);
    status.ready = Some(count(&|pod| is_active(pod) && is_ready(pod)));
    status.terminating = Some(count(&is_terminating));
    status.failed = tally.counted_failed;
    if pods::is_indexed(job) {
        status.succeeded = tally.succeeded();
        status.completed_indexes = indexes::format(&tally.succeeded_indexes);
        let per_index = job.spec.backoff_limit_per_index.is_some();
        status.failed_indexes = per_index.then(|| indexes::format(&tally.failed_indexes));
    } else {
        status.succeeded = tally.counted_succeeded;
    }
    status.uncounted_terminated_pods = Some(tally.uncounted.clone());
    status
}

/// Says how the job ends, at once or, while pods are on their way out, as an intention.
fn conclude(job: &Job, status: &mut JobStatus, tally: &Tally, end: &End, now: Timestamp) -> Option<Action> {
    let (intention, condition) = end.conditions();
    finish::set(status, intention, true, &end.reason, &end.message, now);
    let gone = status.active == 0 && status.terminating.unwrap_or(0) == 0;
    if !gone || !tally.is_settled() {
        return None;
    }
    finish::set(status, condition, true, &end.reason, &end.message, now);
    status.uncounted_terminated_pods = None;
    if end.succeeded {
        status.completion_time = Some(Time(now));
        return Some(Action::event(job, Severity::Normal, "Completed", "Job completed"));
    }
    Some(Action::event(job, Severity::Warning, reason(&end.reason), end.message.clone()))
}

/// The reasons of failure, as events have them.
fn reason(text: &str) -> &'static str {
    const REASONS: [&str; 5] =
        ["BackoffLimitExceeded", "DeadlineExceeded", "FailedIndexes", "MaxFailedIndexesExceeded", "PodFailurePolicy"];
    REASONS.into_iter().find(|reason| *reason == text).unwrap_or("Failed")
}

/// Notes that a job is suspended or is so no more.
fn note_suspension(job: &Job, status: &mut JobStatus, now: Timestamp) -> Option<Action> {
    if finish::is_suspended(job) {
        let changed = finish::set(status, finish::SUSPENDED, true, "JobSuspended", "Job suspended", now);
        return changed.then(|| Action::event(job, Severity::Normal, "Suspended", "Job suspended"));
    }
    let resumed = finish::has(status, finish::SUSPENDED).is_some();
    if resumed {
        finish::set(status, finish::SUSPENDED, false, "JobResumed", "Job resumed", now);
        status.start_time = Some(Time(now));
    } else if status.start_time.is_none() {
        status.start_time = Some(Time(now));
    }
    resumed.then(|| Action::event(job, Severity::Normal, "Resumed", "Job resumed"))
}

impl Controller for JobController {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "job"
    }

    fn triggers(&self, triggers: &Triggers<ObjectKey>) {
        let key = |pod: &Pod| job_key(pod).map(|key| key.to_string()).into_iter().collect();
        triggers.informer::<Pod>().add_index(BY_JOB, key);
        triggers.on::<Job, _>(|change| [ObjectKey::of(&**change.object())]);
        watch_dependents::<Job, Pod>(triggers, selector);
        triggers.on::<Pod, _>(|change| change.current().and_then(|pod| job_key(pod)));
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, now: Timestamp) -> Plan {
        let job = view.of::<Job>().get(&key.namespace, &key.name);
        let mut plan = free_strangers(view, key, job.as_deref());
        let Some(job) = job else { return plan };
        let job = &*job;
        if job.spec.managed_by.as_deref().is_some_and(|manager| manager != MANAGER) {
            return plan;
        }
        let Claim { owned, actions } = claim::<Pod>(view, job, &selector(job));
        plan.actions.extend(actions);
        if !plan.actions.is_empty() {
            return plan;
        }
        if finish::finished(&job.status).is_some() {
            return finished(job, &owned, now);
        }
        let tally = Tally::of(job, &owned);
        let mut status = observed(job, &owned, &tally);
        let end = finish::end(job, &owned, &tally, status.active, now);
        let mut work = Plan::nothing();
        let event = match &end {
            Some(end) => {
                manage::stop(job, &owned, &mut work);
                conclude(job, &mut status, &tally, end, now)
            }
            None => {
                let event = note_suspension(job, &mut status, now);
                if finish::is_suspended(job) {
                    manage::stop(job, &owned, &mut work);
                } else if job.metadata.deletion_timestamp.is_none() {
                    manage::manage(job, &owned, &tally, now, &mut work);
                }
                let started = Job { status: status.clone(), ..job.clone() };
                if let Some(left) = finish::deadline(&started).map(|deadline| deadline.duration_since(now)) {
                    work.look_again_in(Duration::try_from(left).unwrap_or_default());
                }
                event
            }
        };
        // What is stored first is what the finalizers wait for.
        let counted = Job { status, ..job.clone() };
        if counted != *job {
            plan.push(Action::update_status(counted));
            plan.actions.extend(event);
        }
        plan.actions.extend(tally.freed.iter().map(|pod| pods::free(pod)));
        plan.actions.extend(work.actions);
        plan.look_again = work.look_again;
        plan
    }
}

#[cfg(test)]
mod tests;
