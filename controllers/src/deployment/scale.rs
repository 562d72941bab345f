//! A change of the number of pods while nothing is, or while something is being rolled out.

use std::cmp::Reverse;

use super::draft::{DESIRED, Draft, MAX};
use super::is_recreate;
use super::rollout::{Rollout, max_surge};

impl Rollout {
    /// Gives the pods that came or went to the replica sets there are: to the only one that has any, else to each in
    /// proportion to its size, so that a rollout that is under way stays as far as it is.
    pub(super) fn scale(&mut self) {
        let wanted = self.replicas();
        let deployment = self.deployment.clone();
        if let Some(only) = self.active_or_latest() {
            only.scale_to(wanted, &deployment);
            return;
        }
        if self.new.as_ref().is_some_and(|new| is_saturated(new, wanted)) {
            self.stop_old();
            return;
        }
        if !is_recreate(&self.deployment) {
            self.scale_in_proportion();
        }
    }

    /// The replica set that has pods, if no other has; the newest if none has. `None` if several have.
    fn active_or_latest(&mut self) -> Option<&mut Draft> {
        let active = |draft: &&mut Draft| draft.replicas() > 0;
        match self.all().filter(|draft| draft.replicas() > 0).count() {
            0 if self.new.is_some() => self.new.as_mut(),
            0 => self.old.last_mut(),
            1 => self.old.iter_mut().chain(&mut self.new).find(active),
            _ => None,
        }
    }

    fn scale_in_proportion(&mut self) {
        let wanted = self.replicas();
        let allowed = if wanted > 0 { wanted.saturating_add(max_surge(&self.deployment)) } else { 0 };
        let to_add = allowed - self.total(Draft::replicas);
        let deployment = self.deployment.clone();
        let mut active: Vec<&mut Draft> =
            self.old.iter_mut().chain(&mut self.new).filter(|draft| draft.replicas() > 0).collect();
        // The biggest first; of the same size the newer grow first, the older shrink first.
        let created = |draft: &Draft| draft.is.metadata.creation_timestamp.as_ref().map(|time| time.0);
        if to_add > 0 {
            active.sort_by_key(|draft| Reverse((draft.replicas(), created(draft))));
        } else {
            active.sort_by_key(|draft| (Reverse(draft.replicas()), created(draft)));
        }
        let mut added = 0;
        let mut sizes = Vec::with_capacity(active.len());
        for draft in &active {
            let left = to_add - added;
            let share = share(draft, wanted, allowed, deployment.status.replicas);
            let share = match to_add {
                0 => 0,
                1.. => share.min(left),
                _ => share.max(left),
            };
            added += share;
            sizes.push(draft.replicas() + share);
        }
        // What rounding left over goes to the first.
        if let Some(first) = sizes.first_mut() {
            *first = (*first + to_add - added).max(0);
        }
        for (draft, size) in active.into_iter().zip(sizes) {
            draft.scale_to(size, &deployment);
        }
    }
}

/// How many pods a replica set gets or loses by its size.
fn share(draft: &Draft, wanted: i32, allowed: i32, replicas_seen: i32) -> i32 {
    let size = draft.replicas();
    if wanted == 0 {
        return -size;
    }
    let base = draft.number(MAX).filter(|max| *max != 0).unwrap_or(i64::from(replicas_seen));
    if base == 0 {
        return 0;
    }
    // The size in proportion to what was allowed when it was set, rounded to the nearest.
    let scaled = i64::from(size) * i64::from(allowed);
    let rounded = (scaled * 2 + base).div_euclid(base * 2);
    i32::try_from(rounded).unwrap_or(i32::MAX) - size
}

/// Whether the new replica set has all the pods wanted and all of them serve.
fn is_saturated(new: &Draft, wanted: i32) -> bool {
    new.replicas() == wanted
        && new.number(DESIRED) == Some(i64::from(wanted))
        && new.is.status.available_replicas == wanted
}
