//! Pods that have a node and wait for permission to be bound.

use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use longshore_core::api::pod::Pod;
use longshore_core::informer::ObjectKey;
use longshore_core::scheduling::{Refusal, Waiting};

use super::Placed;

/// One pod that waits.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) placed: Placed,
    /// The policies, by place in the profile, that have not allowed it yet, each with the time when it gives up.
    pending: Vec<(usize, Duration)>,
}

/// All pods that wait, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Room {
    entries: IndexMap<ObjectKey, Entry>,
    refused: Vec<(ObjectKey, Option<usize>, Refusal)>,
}

impl Room {
    pub(super) fn insert(&mut self, key: ObjectKey, placed: Placed, pending: Vec<(usize, Duration)>) {
        self.entries.insert(key, Entry { placed, pending });
    }

    pub(super) fn remove(&mut self, key: &ObjectKey) -> Option<Entry> {
        self.entries.shift_remove(key)
    }

    /// Takes out all that are so, in the order in which they came.
    pub(super) fn remove_all(&mut self, mut wanted: impl FnMut(&Placed) -> bool) -> Vec<(ObjectKey, Placed)> {
        let taken = self.entries.extract_if(.., |_, entry| wanted(&entry.placed));
        taken.map(|(key, entry)| (key, entry.placed)).collect()
    }

    pub(super) fn next_due(&self) -> Option<Duration> {
        self.entries.values().flat_map(|entry| &entry.pending).map(|(_, due)| *due).min()
    }

    /// Refuses those that waited too long.
    pub(super) fn expire(&mut self, now: Duration) {
        for (key, entry) in &self.entries {
            if let Some((policy, _)) = entry.pending.iter().find(|(_, due)| *due <= now) {
                let why = Refusal::unschedulable("timed out waiting for permission to be bound");
                self.refused.push((key.clone(), Some(*policy), why));
            }
        }
    }

    /// The next pod that was refused, with the policy that did.
    pub(super) fn next_refused(&mut self) -> Option<(ObjectKey, Entry, Option<usize>, Refusal)> {
        while let Some((key, policy, why)) = self.refused.pop() {
            if let Some(entry) = self.entries.shift_remove(&key) {
                return Some((key, entry, policy, why));
            }
        }
        None
    }

    /// The next pod that everyone allowed.
    pub(super) fn next_ready(&mut self) -> Option<(ObjectKey, Entry)> {
        let index = self.entries.values().position(|entry| entry.pending.is_empty())?;
        self.entries.shift_remove_index(index)
    }

    /// The pods as a policy sees them: those that it made wait. `None` sees all.
    pub(super) fn seen_by(&mut self, policy: Option<usize>) -> View<'_> {
        View { room: self, policy }
    }
}

/// See [`Room::seen_by`].
pub(super) struct View<'r> {
    room: &'r mut Room,
    policy: Option<usize>,
}

impl Waiting for View<'_> {
    fn pods(&self) -> Vec<(Arc<Pod>, String)> {
        let own = |entry: &&Entry| {
            self.policy.is_none_or(|policy| entry.pending.iter().any(|(pending, _)| *pending == policy))
        };
        let placed = self.room.entries.values().filter(own).map(|entry| &entry.placed);
        placed.map(|placed| (placed.pod.clone(), placed.bind.node.clone())).collect()
    }

    fn allow(&mut self, pod: &ObjectKey) {
        if let Some(entry) = self.room.entries.get_mut(pod) {
            entry.pending.retain(|(pending, _)| self.policy.is_some_and(|policy| policy != *pending));
        }
    }

    fn refuse(&mut self, pod: &ObjectKey, why: Refusal) {
        if self.room.entries.contains_key(pod) {
            self.room.refused.push((pod.clone(), self.policy, why));
        }
    }
}
