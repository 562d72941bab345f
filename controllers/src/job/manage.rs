//! Which pods a job needs and which it can do without.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use longshore_core::api::{Job, Pod};

use super::pods::{self, failures_in_a_row, index, is_indexed, replaces_only_ended};
use super::tally::Tally;
use crate::plan::{Action, Plan};
use crate::pods::{is_active, is_terminating};
use crate::replicas::rank::least_useful_first;

/// Pods that one look creates or deletes at most.
const BURST: usize = 500;
/// Wait after the first failure in a row; doubles with each further one.
const BACKOFF: Duration = Duration::from_secs(10);
const BACKOFF_MAX: Duration = Duration::from_secs(600);

/// Deletes all pods that run.
pub(super) fn stop(job: &Job, owned: &[Arc<Pod>], plan: &mut Plan) {
    let running = owned.iter().filter(|pod| is_active(pod)).take(BURST);
    plan.actions.extend(running.map(|pod| Action::delete(&**pod).reported_to(job)));
}

/// Creates or deletes pods until as many run as shall.
pub(super) fn manage(job: &Job, owned: &[Arc<Pod>], tally: &Tally, now: Timestamp, plan: &mut Plan) {
    let mut active: Vec<Arc<Pod>> = owned.iter().filter(|pod| is_active(pod)).cloned().collect();
    let wanted = wanted(job, active.len(), tally);
    if is_indexed(job) {
        // Two pods for an index, or one for an index that is done, are of no use.
        let mut taken = BTreeSet::new();
        let useful = |pod: &Arc<Pod>| {
            index(job, pod).is_some_and(|index| {
                !tally.succeeded_indexes.contains(&index)
                    && !tally.failed_indexes.contains(&index)
                    && taken.insert(index)
            })
        };
        let (useful, useless): (Vec<_>, Vec<_>) = active.into_iter().partition(useful);
        plan.actions.extend(useless.iter().map(|pod| Action::delete(&**pod).reported_to(job)));
        active = useful;
    }
    let surplus = active.len().saturating_sub(wanted);
    if surplus > 0 {
        least_useful_first(&mut active, &[], now);
        plan.actions.extend(active.iter().take(surplus.min(BURST)).map(|pod| Action::delete(&**pod).reported_to(job)));
        return;
    }
    let leaving: Vec<&Arc<Pod>> = owned.iter().filter(|pod| replaces_only_ended(job) && is_terminating(pod)).collect();
    let missing = (wanted - active.len()).saturating_sub(leaving.len()).min(BURST);
    if missing == 0 {
        return;
    }
    if !is_indexed(job) {
        match wait(failures_in_a_row(job, owned.iter()), now) {
            Some(wait) => plan.look_again_in(wait),
            None => plan.actions.extend((0..missing).map(|_| pods::create(job, None))),
        }
        return;
    }
    let taken: BTreeSet<i32> = active.iter().chain(leaving.iter().copied()).filter_map(|pod| index(job, pod)).collect();
    let per_index = job.spec.backoff_limit_per_index.is_some();
    let overall = if per_index { None } else { wait(failures_in_a_row(job, owned.iter()), now) };
    if let Some(wait) = overall {
        return plan.look_again_in(wait);
    }
    let free = |index: &i32| {
        ![&taken, &tally.succeeded_indexes, &tally.failed_indexes].iter().any(|indexes| indexes.contains(index))
    };
    for of in (0..job.spec.completions.unwrap_or(0)).filter(free).take(missing) {
        let pods = owned.iter().filter(|pod| index(job, pod) == Some(of));
        match wait(failures_in_a_row(job, pods).filter(|_| per_index), now) {
            Some(wait) => plan.look_again_in(wait),
            None => plan.push(pods::create(job, Some(of))),
        }
    }
}

/// How many pods shall run.
fn wanted(job: &Job, active: usize, tally: &Tally) -> usize {
    let parallelism = usize::try_from(job.spec.parallelism.unwrap_or(1)).unwrap_or(0);
    match job.spec.completions {
        // Once one pod of a work queue succeeded, the others only finish what they have.
        None if tally.succeeded() > 0 => active.min(parallelism),
        None => parallelism,
        Some(completions) => {
            let failed = i32::try_from(tally.failed_indexes.len()).unwrap_or(i32::MAX);
            let left = completions.saturating_sub(tally.succeeded()).saturating_sub(failed);
            usize::try_from(left).unwrap_or(0).min(parallelism)
        }
    }
}

/// How long until failed pods may be replaced.
fn wait(failures: Option<(u32, Timestamp)>, now: Timestamp) -> Option<Duration> {
    let (failures, last) = failures?;
    let factor = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    let delay = BACKOFF.saturating_mul(factor).min(BACKOFF_MAX);
    // Where a clock is slow, the last failure is yet to come: that must not be waited for as well, as upstream does.
    let since = now.duration_since(last).max(SignedDuration::ZERO);
    let left = SignedDuration::try_from(delay).ok()? - since;
    Duration::try_from(left).ok().filter(|left| !left.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_clock_makes_no_wait_longer() {
        let now = Timestamp::UNIX_EPOCH;
        let ago = |seconds: i64| Some((2, now - SignedDuration::from_secs(seconds)));
        let seconds = |failures| wait(failures, now).map(|wait| wait.as_secs());
        assert_eq!(
            [None, ago(20), ago(21), ago(5), ago(0), ago(-300)].map(seconds),
            [None, None, None, Some(15), Some(20), Some(20)]
        );
    }
}
