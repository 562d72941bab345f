//! Replacing daemons of older versions.

use std::sync::Arc;

use jiff::Timestamp;
use longshore_core::api::pod::helpers::{is_available, is_terminal};
use longshore_core::api::{DaemonSet, Pod};
use longshore_core::int_or_string::IntOrString;

use super::node::Fit;
use super::{Place, Work, is_deleted, is_new};

/// On how many nodes a second pod may run, and how many may be without one. Both are rounded up; if both came out as 0
/// nothing could ever move, so one node may be without then.
pub(super) fn bounds(set: &DaemonSet, nodes: i32) -> (i32, i32) {
    let given = set.spec.update_strategy.rolling_update.clone().unwrap_or_default();
    // What is neither a number nor a percentage does not pass validation.
    let scaled = |bound: Option<IntOrString>, default: i32| {
        bound.unwrap_or(IntOrString::Int(default)).scaled(nodes, true).unwrap_or(0).max(0)
    };
    let (surge, unavailable) = (scaled(given.max_surge, 0), scaled(given.max_unavailable, 1));
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
}

/// The pods of the node that are neither ending nor ended, by version: new and old.
fn versions<'a>(place: &'a Place, hash: &str) -> (Option<&'a Arc<Pod>>, Option<&'a Arc<Pod>>) {
    let mut living = place.pods.iter().filter(|pod| !is_deleted(pod) && !is_terminal(pod));
    let new = living.clone().find(|pod| is_new(pod, hash));
    (new, living.find(|pod| !is_new(pod, hash)))
}

/// Takes away old pods: those that do not serve at once, others as long as few enough nodes are without.
pub(super) fn replace(set: &DaemonSet, places: &[Place], hash: &str, most: i32, now: Timestamp, work: &mut Work) {
    let available = |pod: &Pod| is_available(pod, set.spec.min_ready_seconds, now);
    let (mut missing, mut candidates) = (0, Vec::new());
    for place in places.iter().filter(|place| place.fit != Fit::Leave) {
        match versions(place, hash) {
            (None, Some(old)) if !available(old) => {
                work.delete.push(old.clone());
                missing += 1;
            }
            (None, Some(old)) => candidates.push(old),
            (Some(new), None) if available(new) => {}
            (None, None) if place.fit == Fit::Stay => {}
            _ => missing += 1,
        }
    }
    let room = usize::try_from(most - missing).unwrap_or(0);
    work.delete.extend(candidates.into_iter().take(room).cloned());
}

/// Starts new pods beside old ones: where the old one does not serve at once, elsewhere on few enough nodes.
pub(super) fn surge(set: &DaemonSet, places: &[Place], hash: &str, most: i32, now: Timestamp, work: &mut Work) {
    let available = |pod: &Pod| is_available(pod, set.spec.min_ready_seconds, now);
    let (mut surging, mut candidates) = (0, Vec::new());
    for place in places.iter().filter(|place| place.fit == Fit::Run) {
        match versions(place, hash) {
            (None, Some(old)) if !available(old) => work.create.push(place.name.clone()),
            (None, Some(_)) => candidates.push(place),
            // Both are there; `manage` takes the old one away when the new one serves.
            (Some(_), Some(_)) => surging += 1,
            _ => {}
        }
    }
    let room = usize::try_from(most - surging).unwrap_or(0);
    work.create.extend(candidates.into_iter().take(room).map(|place| place.name.clone()));
}
