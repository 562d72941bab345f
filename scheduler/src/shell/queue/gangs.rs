//! Groups of pods in the queue: one turn, one back-off, all or none active.

use std::collections::BTreeSet;
use std::time::Duration;

use longshore_core::informer::ObjectKey;
use rustc_hash::FxHashMap;

use super::{Entry, FAILURE, Place, Queue};

/// A group of which the queue knows any pod.
#[derive(Debug, Default)]
struct Gang {
    members: BTreeSet<ObjectKey>,
    /// How many of them are active.
    active: usize,
    /// What the first of them that became active was given for its place in the queue; the others stand behind it.
    turn: (Duration, u64),
}

/// All groups.
#[derive(Debug, Default)]
pub(super) struct Gangs(FxHashMap<ObjectKey, Gang>);

impl Gangs {
    /// A pod becomes active, alone at this place; says at which it stands.
    pub(super) fn activated(&mut self, group: Option<&ObjectKey>, alone: (Duration, u64)) -> (Duration, u64) {
        let Some(gang) = group.and_then(|group| self.0.get_mut(group)) else { return alone };
        if gang.active == 0 {
            gang.turn = alone;
        }
        gang.active += 1;
        gang.turn
    }

    /// A pod is no longer active.
    pub(super) fn deactivated(&mut self, group: Option<&ObjectKey>) {
        if let Some(gang) = group.and_then(|group| self.0.get_mut(group)) {
            gang.active -= 1;
        }
    }

    fn members(&self, group: &ObjectKey) -> Vec<ObjectKey> {
        self.0.get(group).map_or_else(Vec::new, |gang| gang.members.iter().cloned().collect())
    }
}

/// Whether the pod is neither active nor out, and nobody holds it back.
fn waits(entry: &Entry) -> bool {
    matches!(entry.place, Place::Backoff(_)) || matches!(entry.place, Place::Unschedulable(_) if !entry.is_held)
}

impl Queue {
    pub(super) fn join(&mut self, key: &ObjectKey, group: Option<&ObjectKey>) {
        if let Some(group) = group {
            self.gangs.0.entry(group.clone()).or_default().members.insert(key.clone());
        }
    }

    pub(super) fn leave(&mut self, key: &ObjectKey, group: &ObjectKey) {
        if let Some(gang) = self.gangs.0.get_mut(group) {
            gang.members.remove(key);
            if gang.members.is_empty() {
                self.gangs.0.remove(group);
            }
        }
    }

    /// With this pod, which is new, the group is another: its failures so far count no longer.
    pub(super) fn reinforced(&mut self, key: &ObjectKey, why: &'static str, now: Duration) {
        let Some(group) = self.entries.get(key).and_then(|entry| entry.group.clone()) else { return };
        for key in self.gangs.members(&group) {
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            entry.attempts = 0;
            if waits(entry) {
                self.release_at(&key, now, why, now);
            }
        }
    }

    /// The pod became active: so do the others of its group, once their back-off is over.
    pub(super) fn release_others(&mut self, key: &ObjectKey, why: &'static str, now: Duration) {
        if let Some(group) = self.entries.get(key).and_then(|entry| entry.group.clone()) {
            self.release_group(&group, why, now);
        }
    }

    /// Out of the unschedulable ones: the whole group is tried when the last back-off in it is over.
    pub(super) fn release_group(&mut self, group: &ObjectKey, why: &'static str, now: Duration) {
        let members = self.gangs.members(group);
        let waiting: Vec<_> =
            members.iter().filter_map(|key| Some((key, self.entries.get(key).filter(|entry| waits(entry))?))).collect();
        let due = waiting.iter().map(|(_, entry)| match entry.place {
            Place::Backoff(due) => due,
            _ => self.due(entry),
        });
        let Some(due) = due.max() else { return };
        let early = waiting.into_iter().filter(|(_, entry)| entry.place != Place::Backoff(due));
        let early: Vec<ObjectKey> = early.map(|(key, _)| key.clone()).collect();
        for key in early {
            self.release_at(&key, due, why, now);
        }
    }

    /// How many pods of the group may still find a node: those that are active or will be by themselves, and those for which
    /// `room_is_made`.
    pub(in crate::shell) fn hopeful(&self, group: &ObjectKey, room_is_made: impl Fn(&ObjectKey) -> bool) -> usize {
        let members = self.gangs.0.get(group).into_iter().flat_map(|gang| &gang.members);
        let hopeful = members.filter(|key| match self.entries.get(*key).map(|entry| entry.place) {
            Some(Place::Active | Place::Backoff(_)) => true,
            Some(Place::Unschedulable(_)) => room_is_made(key),
            _ => false,
        });
        hopeful.count()
    }

    /// The group cannot be completed: its pods that are active, and these, which were out, wait for an event that helps the one
    /// that was refused by these policies. Says which were active.
    pub(in crate::shell) fn give_up(
        &mut self,
        group: &ObjectKey,
        out: &[ObjectKey],
        policies: &[String],
        now: Duration,
    ) -> Vec<ObjectKey> {
        let is_active = |key: &ObjectKey| self.entries.get(key).is_some_and(|entry| entry.place == Place::Active);
        let active: Vec<ObjectKey> = self.gangs.members(group).into_iter().filter(is_active).collect();
        for key in active.iter().chain(out) {
            self.take(key);
            if let Some(entry) = self.entries.get_mut(key) {
                entry.attempts += 1;
                entry.refused_by = policies.to_vec();
                entry.tried = self.tries;
                self.lay_aside(key, FAILURE, now);
            }
        }
        active
    }
}
