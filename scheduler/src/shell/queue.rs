//! The queue: which pod is tried next, and when one that found no place is tried again.
//!
//! A pod is *active* (to be tried), *backing off* (to be tried at a time), *unschedulable* (waits for an event that may help), or
//! *out* (being tried or bound). One that finds no place never stands before others. Time is a parameter: nothing here
//! waits.
//!
//! Pods of one group have their turns one after the other, and become active together; see `gangs`.

mod gangs;

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use longshore_core::api::pod::Pod;
use longshore_core::informer::ObjectKey;
use longshore_core::scheduling::{ClusterEvent, QueuedPod};
use rustc_hash::FxHashMap;

use super::Backoff;
use crate::{Profile, SchedulerMetrics};

/// After this time a pod is tried again even though no event seemed to help.
const UNSCHEDULABLE_MAX: Duration = Duration::from_secs(300);
/// Wait after the first refusal by a ledger, where somebody else was quicker; doubles up to [`CONFLICT_MAX`].
const CONFLICT_BASE: Duration = Duration::from_millis(10);
const CONFLICT_MAX: Duration = Duration::from_secs(1);

/// Why a pod came to where it is, besides events: upstream's names, for metrics.
const POD_ADD: &str = "PodAdd";
const POD_UPDATE: &str = "PodUpdate";
const FAILURE: &str = "ScheduleAttemptFailure";

/// Where a pod is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Active,
    Backoff(Duration),
    Unschedulable(Duration),
    Out,
}

#[derive(Debug)]
struct Entry {
    pod: Arc<Pod>,
    profile: Arc<Profile>,
    /// Failures so far, for the back-off.
    attempts: u32,
    conflicts: u32,
    /// When it came to where it is.
    since: Duration,
    number: u64,
    group: Option<ObjectKey>,
    /// Where it stands among pods that are active since the same time: its group's number, or its own.
    turn: u64,
    /// The last try was the so manieth of all.
    tried: u64,
    place: Place,
    refused_by: Vec<String>,
    /// A policy holds it back: only a change of itself can help.
    is_held: bool,
}

/// A pod's turn. Ordered as the profile's policy says, then first come first served, a group as one.
#[derive(Debug, Clone)]
struct Turn {
    pod: Arc<Pod>,
    profile: Arc<Profile>,
    since: Duration,
    turn: u64,
    number: u64,
}

impl Turn {
    fn of(entry: &Entry) -> Self {
        let Entry { since, turn, number, .. } = *entry;
        Self { pod: entry.pod.clone(), profile: entry.profile.clone(), since, turn, number }
    }
}

impl Ord for Turn {
    fn cmp(&self, other: &Self) -> Ordering {
        let queued = |turn: &'_ Self| (turn.since, turn.turn, turn.number);
        let by_policy = self.profile.queue_order().map_or(Ordering::Equal, |order| {
            order.compare(
                QueuedPod { pod: &self.pod, since: self.since },
                QueuedPod { pod: &other.pod, since: other.since },
            )
        });
        by_policy.then_with(|| queued(self).cmp(&queued(other)))
    }
}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Turn {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Turn {}

/// How a try ended that placed nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// Policies refused the pod: it waits for an event that may help.
    Refused(Vec<String>),
    /// Something went wrong that has nothing to do with the pod.
    Error,
    /// Somebody else was quicker.
    Conflict,
}

/// A pod that is to be tried now.
#[derive(Debug)]
pub(super) struct Try {
    pub(super) key: ObjectKey,
    pub(super) pod: Arc<Pod>,
    pub(super) profile: Arc<Profile>,
    /// Which try it is, from 1.
    pub(super) attempt: u32,
}

/// The queue; see the [module](self).
#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: FxHashMap<ObjectKey, Entry>,
    active: BTreeSet<Turn>,
    backoff: BTreeSet<(Duration, u64, ObjectKey)>,
    unschedulable: BTreeSet<(Duration, u64, ObjectKey)>,
    gangs: gangs::Gangs,
    next: u64,
    tries: u64,
    backoff_times: Backoff,
    /// How many of the unschedulable ones a policy holds back.
    held: usize,
    metrics: Option<SchedulerMetrics>,
}

impl Queue {
    /// An empty queue that counts what comes.
    pub(super) fn new(backoff: Backoff, metrics: Option<SchedulerMetrics>) -> Self {
        Self { backoff_times: backoff, metrics, ..Self::default() }
    }

    /// How many pods wait, by where they do.
    pub(super) fn depths(&self) -> [(&'static str, usize); 4] {
        let unschedulable = self.unschedulable.len() - self.held;
        let (active, backoff) = (self.active.len(), self.backoff.len());
        [("active", active), ("backoff", backoff), ("unschedulable", unschedulable), ("gated", self.held)]
    }

    fn count(&self, queue: &'static str, event: &'static str) {
        if let Some(metrics) = &self.metrics {
            metrics.incoming(queue, event);
        }
    }

    /// A pod came, or changed. One that is out stays out.
    pub(super) fn put(&mut self, pod: Arc<Pod>, profile: &Arc<Profile>, now: Duration) {
        let key = ObjectKey::of(&*pod);
        let Some(entry) = self.entries.get_mut(&key) else {
            return self.add(key, pod, profile, now);
        };
        let regrouped = entry.group != profile.group_of(&pod) && entry.place != Place::Out;
        if entry.pod.metadata.uid != pod.metadata.uid || regrouped {
            self.remove(&key);
            return self.add(key, pod, profile, now);
        }
        let old = std::mem::replace(&mut entry.pod, pod.clone());
        match entry.place {
            Place::Out | Place::Backoff(_) => {}
            Place::Active if !differs(&old, &pod) => {}
            Place::Active => {
                // Its turn may be another now.
                self.take(&key);
                self.activate(&key, POD_UPDATE, now);
            }
            Place::Unschedulable(_) if entry.is_held => self.admit(&key, POD_UPDATE, now),
            Place::Unschedulable(_) => {
                if differs(&old, &pod) {
                    let event = ClusterEvent::SelfUpdated { old: &old, new: &pod };
                    if helps(&self.entries[&key], &event) {
                        self.release(&key, POD_UPDATE, now);
                    }
                }
            }
        }
    }

    fn add(&mut self, key: ObjectKey, pod: Arc<Pod>, profile: &Arc<Profile>, now: Duration) {
        self.next += 1;
        let entry = Entry {
            profile: profile.clone(),
            attempts: 0,
            conflicts: 0,
            since: now,
            number: self.next,
            group: profile.group_of(&pod),
            turn: self.next,
            tried: 0,
            place: Place::Out,
            refused_by: Vec::new(),
            is_held: false,
            pod,
        };
        self.join(&key, entry.group.as_ref());
        self.entries.insert(key.clone(), entry);
        self.admit(&key, POD_ADD, now);
    }

    /// Lets the pod in unless a policy holds it back.
    fn admit(&mut self, key: &ObjectKey, why: &'static str, now: Duration) {
        self.take(key);
        let Some(entry) = self.entries.get_mut(key) else { return };
        let mut policies = entry.profile.pre_enqueue();
        let held = policies.find_map(|(place, policy)| policy.pre_enqueue(&entry.pod).err().map(|_| place));
        drop(policies);
        entry.is_held = held.is_some();
        match held {
            Some(place) => {
                entry.refused_by = vec![entry.profile.name_of(place).to_owned()];
                self.lay_aside(key, why, now);
            }
            None => {
                self.activate(key, why, now);
                self.reinforced(key, why, now);
            }
        }
    }

    /// The pod is gone, or is nobody's to place any more.
    pub(super) fn remove(&mut self, key: &ObjectKey) {
        self.take(key);
        if let Some(Entry { group: Some(group), .. }) = self.entries.remove(key) {
            self.leave(key, &group);
        }
    }

    /// The pod, if the queue knows it, wherever it is.
    pub(super) fn get(&self, key: &ObjectKey) -> Option<&Arc<Pod>> {
        self.entries.get(key).map(|entry| &entry.pod)
    }

    /// Where the pod waits, in upstream's words; `None` if it is not known or out.
    pub(super) fn place_of(&self, key: &ObjectKey) -> Option<&'static str> {
        let entry = self.entries.get(key)?;
        match entry.place {
            Place::Active => Some("active"),
            Place::Backoff(_) => Some("backoff"),
            Place::Unschedulable(_) if entry.is_held => Some("gated"),
            Place::Unschedulable(_) => Some("unschedulable"),
            Place::Out => None,
        }
    }

    /// The next pod to try. It is out until [`Queue::failed`] or [`Queue::remove`].
    pub(super) fn pop(&mut self) -> Option<Try> {
        let turn = self.active.pop_first()?;
        let key = ObjectKey::of(&*turn.pod);
        let entry = self.entries.get_mut(&key)?;
        entry.place = Place::Out;
        self.tries += 1;
        entry.tried = self.tries;
        self.gangs.deactivated(entry.group.as_ref());
        let attempt = entry.attempts + entry.conflicts + 1;
        Some(Try { key, pod: entry.pod.clone(), profile: entry.profile.clone(), attempt })
    }

    /// A try ended without a place. Nothing happens if the pod is gone meanwhile.
    pub(super) fn failed(&mut self, key: &ObjectKey, failure: Failure, now: Duration) {
        let times = self.backoff_times;
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.since = now;
        match failure {
            Failure::Conflict => {
                entry.conflicts += 1;
                let wait = doubled(CONFLICT_BASE, entry.conflicts, CONFLICT_MAX);
                self.back_off(key, FAILURE, now + wait);
            }
            Failure::Error => {
                entry.attempts += 1;
                entry.refused_by.clear();
                let wait = doubled(times.initial, entry.attempts, times.max);
                self.back_off(key, FAILURE, now + wait);
            }
            Failure::Refused(policies) => {
                entry.attempts += 1;
                entry.refused_by = policies;
                self.lay_aside(key, FAILURE, now);
            }
        }
    }

    /// Something happened: pods that it may help are tried again, after their back-off.
    pub(super) fn event(&mut self, event: &ClusterEvent<'_>, now: Duration) {
        self.event_for(event, 0, now);
    }

    /// The pod, which was out, gave back the node that it got by its last try. That helps only pods that were tried after it:
    /// to others the cluster is as it was.
    pub(super) fn gave_back(&mut self, key: &ObjectKey, now: Duration) {
        if let Some(Entry { pod, tried, .. }) = self.entries.get(key) {
            let (pod, tried) = (pod.clone(), *tried);
            self.event_for(&ClusterEvent::PodForgotten(&pod), tried, now);
        }
    }

    fn event_for(&mut self, event: &ClusterEvent<'_>, tried_after: u64, now: Duration) {
        let may_be_helped = |entry: &Entry| !entry.is_held && entry.tried >= tried_after && helps(entry, event);
        let helped: Vec<ObjectKey> = (self.unschedulable.iter())
            .filter(|(_, _, key)| self.entries.get(key).is_some_and(may_be_helped))
            .map(|(_, _, key)| key.clone())
            .collect();
        for key in helped {
            self.release(&key, label(event), now);
        }
    }

    /// Time passed: pods whose time has come are tried again.
    pub(super) fn tick(&mut self, now: Duration) {
        while let Some((due, _, key)) = self.backoff.first().cloned() {
            if due > now {
                break;
            }
            self.take(&key);
            self.activate(&key, "BackoffComplete", now);
            self.release_others(&key, "BackoffComplete", now);
        }
        let stale: Vec<ObjectKey> = (self.unschedulable.iter())
            .take_while(|(since, _, _)| now.saturating_sub(*since) >= UNSCHEDULABLE_MAX)
            .filter(|(_, _, key)| self.entries.get(key).is_some_and(|entry| !entry.is_held))
            .map(|(_, _, key)| key.clone())
            .collect();
        for key in stale {
            self.release(&key, "UnschedulableTimeout", now);
        }
    }

    /// When [`Queue::tick`] has something to do.
    pub(super) fn next_due(&self) -> Option<Duration> {
        let backoff = self.backoff.first().map(|(due, _, _)| *due);
        let waiting = self.unschedulable.iter();
        let stale = waiting.filter(|(_, _, key)| self.entries.get(key).is_some_and(|entry| !entry.is_held));
        let stale = stale.map(|(since, _, _)| *since + UNSCHEDULABLE_MAX).next();
        backoff.into_iter().chain(stale).min()
    }

    /// Takes the pod from where it waits; it is out then.
    fn take(&mut self, key: &ObjectKey) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        match entry.place {
            Place::Active => {
                let turn = Turn::of(entry);
                self.gangs.deactivated(entry.group.as_ref());
                if !self.active.remove(&turn) {
                    // The order of a pod that changed is no longer where it was put.
                    self.active.retain(|other| other.number != turn.number);
                }
            }
            Place::Backoff(due) => drop(self.backoff.remove(&(due, entry.number, key.clone()))),
            Place::Unschedulable(since) => {
                self.held -= usize::from(entry.is_held);
                self.unschedulable.remove(&(since, entry.number, key.clone()));
            }
            Place::Out => {}
        }
        entry.place = Place::Out;
    }

    fn activate(&mut self, key: &ObjectKey, why: &'static str, now: Duration) {
        self.count("active", why);
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.place = Place::Active;
        (entry.since, entry.turn) = self.gangs.activated(entry.group.as_ref(), (now, entry.number));
        self.active.insert(Turn::of(entry));
    }

    fn back_off(&mut self, key: &ObjectKey, why: &'static str, due: Duration) {
        self.count("backoff", why);
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.place = Place::Backoff(due);
        self.backoff.insert((due, entry.number, key.clone()));
    }

    fn lay_aside(&mut self, key: &ObjectKey, why: &'static str, now: Duration) {
        self.count("unschedulable", why);
        let Some(entry) = self.entries.get_mut(key) else { return };
        self.held += usize::from(entry.is_held);
        entry.since = now;
        entry.place = Place::Unschedulable(now);
        self.unschedulable.insert((now, entry.number, key.clone()));
    }

    /// Out of the unschedulable ones: to be tried at once, or when its back-off is over; with all of its group.
    fn release(&mut self, key: &ObjectKey, why: &'static str, now: Duration) {
        let Some(entry) = self.entries.get(key) else { return };
        match entry.group.clone() {
            Some(group) => self.release_group(&group, why, now),
            None => self.release_at(key, self.due(entry), why, now),
        }
    }

    /// When the back-off of an unschedulable pod is over.
    fn due(&self, entry: &Entry) -> Duration {
        entry.since + doubled(self.backoff_times.initial, entry.attempts, self.backoff_times.max)
    }

    fn release_at(&mut self, key: &ObjectKey, due: Duration, why: &'static str, now: Duration) {
        self.take(key);
        if due > now {
            self.back_off(key, why, due);
        } else {
            self.activate(key, why, now);
        }
    }
}

/// The event's name for metrics.
const fn label(event: &ClusterEvent<'_>) -> &'static str {
    match event {
        ClusterEvent::NodeAdded(_) => "NodeAdd",
        ClusterEvent::NodeUpdated { .. } => "NodeUpdate",
        ClusterEvent::PodPlaced(_) => "AssignedPodAdd",
        ClusterEvent::PodUpdated { .. } => "AssignedPodUpdate",
        ClusterEvent::PodRemoved(_) | ClusterEvent::PodForgotten(_) => "AssignedPodDelete",
        ClusterEvent::SelfUpdated { .. } => POD_UPDATE,
        ClusterEvent::NamespaceChanged => "NamespaceUpdate",
        ClusterEvent::ObjectChanged { .. } => "ObjectUpdate",
        ClusterEvent::ObjectRemoved { .. } => "ObjectDelete",
        _ => "Other",
    }
}

fn doubled(base: Duration, times: u32, max: Duration) -> Duration {
    if times == 0 {
        return Duration::ZERO;
    }
    base.saturating_mul(1_u32.checked_shl(times - 1).unwrap_or(u32::MAX)).min(max)
}

/// Whether one of the policies that refused the pod thinks that the event may help.
fn helps(entry: &Entry, event: &ClusterEvent<'_>) -> bool {
    entry.refused_by.is_empty()
        || entry.profile.policies().iter().map(|enabled| enabled.policy()).any(|policy| {
            entry.refused_by.iter().any(|name| name == policy.name()) && policy.may_help(&entry.pod, event)
        })
}

/// Whether more changed than what the scheduler itself writes into the pod's status.
fn differs(old: &Pod, new: &Pod) -> bool {
    old.spec != new.spec
        || old.metadata.labels != new.metadata.labels
        || old.metadata.annotations != new.metadata.annotations
        || old.metadata.owner_references != new.metadata.owner_references
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
