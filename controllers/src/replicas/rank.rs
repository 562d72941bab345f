//! Which pods can best be done without.

use std::cmp::{Ordering, Reverse};
use std::sync::Arc;

use jiff::Timestamp;
use longshore_core::api::Pod;
use longshore_core::api::pod::helpers::is_ready;
use rustc_hash::FxHashMap;

use crate::pods::{is_active, phase_rank, ready_since, restarts};

/// Annotation by which a pod's author says how dear it is; 0 if unset.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Sorts pods as upstream does: those that run nowhere first, then those that are not running, not ready, cheap by their
/// annotation, on nodes with many of their relatives, ready for a short time, often restarted, young. Times that are of
/// the same order of magnitude count as equal, so that it is not always the youngest that goes.
pub(crate) fn least_useful_first(pods: &mut [Arc<Pod>], relatives: &[Arc<Pod>], now: Timestamp) {
    let mut crowd: FxHashMap<&str, usize> = FxHashMap::default();
    for pod in relatives.iter().filter(|pod| is_active(pod)) {
        *crowd.entry(&pod.spec.node_name).or_default() += 1;
    }
    let crowd = |pod: &Pod| crowd.get(&*pod.spec.node_name).copied().unwrap_or(0);
    pods.sort_by(|a, b| {
        let key = |pod: &Pod| {
            (!pod.spec.node_name.is_empty(), phase_rank(pod), is_ready(pod), deletion_cost(pod), Reverse(crowd(pod)))
        };
        key(a)
            .cmp(&key(b))
            .then_with(|| match (is_ready(a) && is_ready(b), ready_since(a), ready_since(b)) {
                (true, a_since, b_since) if a_since != b_since => by_age(a, a_since, b, b_since, now),
                _ => Ordering::Equal,
            })
            .then_with(|| Reverse(restarts(a)).cmp(&Reverse(restarts(b))))
            .then_with(|| {
                let created = |pod: &Pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
                if created(a) == created(b) { Ordering::Equal } else { by_age(a, created(a), b, created(b), now) }
            })
    });
}

fn deletion_cost(pod: &Pod) -> i32 {
    let annotations = pod.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(DELETION_COST)?.parse().ok()).unwrap_or(0)
}

/// No time at all, then short times, then long ones; by uid within an order of magnitude.
fn by_age(a: &Pod, a_since: Option<Timestamp>, b: &Pod, b_since: Option<Timestamp>, now: Timestamp) -> Ordering {
    let (Some(a_since), Some(b_since)) = (a_since, b_since) else { return a_since.is_some().cmp(&b_since.is_some()) };
    let magnitude = |since: Timestamp| {
        let age = u128::try_from(now.duration_since(since).as_nanos()).unwrap_or(0);
        age.checked_ilog2().map_or(-1, i64::from)
    };
    magnitude(a_since).cmp(&magnitude(b_since)).then_with(|| a.metadata.uid.cmp(&b.metadata.uid))
}
