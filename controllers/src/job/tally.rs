//! Counting pods that ended, each exactly once.
//!
//! A pod that ended is first listed by uid in `status.uncountedTerminatedPods` (or, if it succeeded for an index, as that
//! index). Only when that is stored is its finalizer taken away, and only when the finalizer is gone does the pod move
//! from the list into the count. Wherever the process dies, the next one goes on from what is stored.

use std::collections::BTreeSet;
use std::sync::Arc;

use longshore_core::api::job::UncountedTerminatedPods;
use longshore_core::api::{Job, Pod};

use super::indexes;
use super::pods::{index, is_failed, is_indexed, is_succeeded, is_tracked};
use super::policy::{Verdict, judge};

/// Uids that one look adds to the list at most.
const UNCOUNTED_MAX: usize = 500;

#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Counted for good.
    pub(super) counted_succeeded: i32,
    pub(super) counted_failed: i32,
    /// Stored or to be stored, but not counted yet.
    pub(super) uncounted: UncountedTerminatedPods,
    pub(super) succeeded_indexes: BTreeSet<i32>,
    pub(super) failed_indexes: BTreeSet<i32>,
    /// Pods whose finalizer can go as soon as the tally is stored.
    pub(super) freed: Vec<Arc<Pod>>,
    /// Why the job has failed, by its failure policy.
    pub(super) fails_job: Option<String>,
    indexed: bool,
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

impl Tally {
    pub(super) fn of(job: &Job, pods: &[Arc<Pod>]) -> Self {
        let (status, completions) = (&job.status, job.spec.completions.unwrap_or(0));
        let mut tally = Self {
            counted_succeeded: status.succeeded,
            counted_failed: status.failed,
            succeeded_indexes: indexes::parse(&status.completed_indexes, completions),
            failed_indexes: indexes::parse(status.failed_indexes.as_deref().unwrap_or_default(), completions),
            indexed: is_indexed(job),
            ..Self::default()
        };
        let tracked: BTreeSet<&str> =
            pods.iter().filter(|pod| is_tracked(pod)).filter_map(|pod| pod.metadata.uid.as_deref()).collect();
        let listed = status.uncounted_terminated_pods.clone().unwrap_or_default();
        let (waiting, gone) = listed.succeeded.into_iter().partition(|uid| tracked.contains(&**uid));
        tally.uncounted.succeeded = waiting;
        tally.counted_succeeded += count(Vec::<String>::len(&gone));
        let (waiting, gone) = listed.failed.into_iter().partition(|uid| tracked.contains(&**uid));
        tally.uncounted.failed = waiting;
        tally.counted_failed += count(Vec::<String>::len(&gone));
        for pod in pods.iter().filter(|pod| is_tracked(pod)) {
            if tally.uncounted.succeeded.len() + tally.uncounted.failed.len() >= UNCOUNTED_MAX {
                break;
            }
            tally.add(job, pod);
        }
        tally.judge_indexes(job, pods);
        tally
    }

    fn add(&mut self, job: &Job, pod: &Arc<Pod>) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        if self.uncounted.succeeded.contains(&uid) || self.uncounted.failed.contains(&uid) {
            self.freed.push(pod.clone());
        } else if is_succeeded(pod) {
            match (self.indexed, index(job, pod)) {
                (true, Some(index)) => _ = self.succeeded_indexes.insert(index),
                (true, None) => {}
                (false, _) => self.uncounted.succeeded.push(uid),
            }
            self.freed.push(pod.clone());
        } else if is_failed(job, pod) {
            match judge(job, pod) {
                Verdict::Ignore => {}
                Verdict::FailJob(message) => {
                    self.fails_job.get_or_insert(message);
                    self.uncounted.failed.push(uid);
                }
                Verdict::Count | Verdict::FailIndex if self.indexed && index(job, pod).is_none() => {}
                Verdict::Count | Verdict::FailIndex => self.uncounted.failed.push(uid),
            }
            self.freed.push(pod.clone());
        }
    }

    /// Finds the indexes that failed too often.
    fn judge_indexes(&mut self, job: &Job, pods: &[Arc<Pod>]) {
        let Some(limit) = job.spec.backoff_limit_per_index.filter(|_| self.indexed) else { return };
        let mut failures = std::collections::BTreeMap::<i32, i32>::new();
        for pod in pods.iter().filter(|pod| is_failed(job, pod)) {
            let Some(index) = index(job, pod).filter(|index| !self.succeeded_indexes.contains(index)) else { continue };
            match judge(job, pod) {
                Verdict::Ignore => {}
                Verdict::FailIndex => _ = self.failed_indexes.insert(index),
                Verdict::Count | Verdict::FailJob(_) => *failures.entry(index).or_default() += 1,
            }
        }
        let too_often = failures.into_iter().filter(|(_, failures)| *failures > limit);
        self.failed_indexes.extend(too_often.map(|(index, _)| index));
    }

    /// All that succeeded.
    pub(super) fn succeeded(&self) -> i32 {
        if self.indexed {
            return count(self.succeeded_indexes.len());
        }
        self.counted_succeeded + count(self.uncounted.succeeded.len())
    }

    /// All that failed.
    pub(super) fn failed(&self) -> i32 {
        self.counted_failed + count(self.uncounted.failed.len())
    }

    /// Whether every pod that ended is in the counts.
    pub(super) fn is_settled(&self) -> bool {
        self.freed.is_empty() && self.uncounted == UncountedTerminatedPods::default()
    }
}
