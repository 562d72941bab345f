//! Replacing old pods by new ones.

use super::is_recreate;
use super::rollout::{Rollout, max_surge, max_unavailable};

impl Rollout {
    /// How many pods the new replica set may have now.
    pub(super) fn new_size(&self) -> i32 {
        let wanted = self.replicas();
        let Some(new) = &self.new else { return 0 };
        if is_recreate(&self.deployment) {
            return wanted;
        }
        // An old one that has not taken notice of its last change may have more pods than it says.
        let settled = self.old.iter().all(super::draft::Draft::is_observed);
        let room = wanted.saturating_add(max_surge(&self.deployment)) - self.total(super::draft::Draft::occupied);
        if room <= 0 || !settled {
            return new.replicas();
        }
        new.replicas() + room.min(wanted - new.replicas())
    }

    /// Brings the new replica set nearer to the number wanted. Says whether that changed anything.
    pub(super) fn grow_new(&mut self) -> bool {
        let wanted = self.replicas();
        let size = match &self.new {
            None => return false,
            Some(new) if new.was.is_none() || new.replicas() == wanted => return false,
            Some(new) if new.replicas() > wanted => wanted,
            Some(_) => self.new_size(),
        };
        let Some(new) = &mut self.new else { return false };
        let changed = size != new.replicas();
        if changed {
            new.scale_to(size, &self.deployment);
        }
        changed
    }

    /// Takes pods from the old replica sets: those that do not serve, then others as long as enough serve. Says whether
    /// that changed anything.
    pub(super) fn shrink_old(&mut self) -> bool {
        let least = self.replicas() - max_unavailable(&self.deployment);
        let new_unavailable = self.new.as_ref().map_or(0, |new| new.replicas() - new.available());
        let spare = self.total(super::draft::Draft::replicas) - least - new_unavailable;
        if spare <= 0 {
            return false;
        }
        let mut left = spare;
        for draft in &mut self.old {
            let idle = (draft.replicas() - draft.available()).min(left);
            if idle > 0 {
                let size = draft.replicas() - idle;
                draft.scale_to(size, &self.deployment);
                left -= idle;
            }
        }
        let mut serving = self.total(super::draft::Draft::available) - least;
        for draft in &mut self.old {
            let surplus = draft.replicas().min(serving);
            if surplus > 0 {
                let size = draft.replicas() - surplus;
                draft.scale_to(size, &self.deployment);
                serving -= surplus;
            }
        }
        self.old.iter().any(|draft| draft.replicas() != draft.replicas_before())
    }

    /// Takes all pods from the old replica sets. Says whether that changed anything.
    pub(super) fn stop_old(&mut self) -> bool {
        let mut changed = false;
        for draft in self.old.iter_mut().filter(|draft| draft.replicas() > 0) {
            draft.scale_to(0, &self.deployment);
            changed = true;
        }
        changed
    }

    /// Gives the new replica set all pods.
    pub(super) fn start_new(&mut self) {
        let wanted = self.replicas();
        if let Some(new) = self.new.as_mut().filter(|new| new.replicas() != wanted) {
            new.scale_to(wanted, &self.deployment);
        }
    }
}
