//! DaemonSet: one pod on every node that the template fits.
//!
//! The controller decides which nodes get a pod and pins each pod to its node; the scheduler places it. While the
//! template changes, old pods are taken away on a few nodes at a time, or new ones started beside them (`maxSurge`).

mod node;
mod update;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use longshore_core::api::daemon_set::DaemonSetUpdateStrategyType;
use longshore_core::api::pod::PodPhase;
use longshore_core::api::pod::helpers::{is_available, is_ready, is_terminal};
use longshore_core::api::{ControllerRevision, DaemonSet, Node, Pod};
use longshore_core::events::Severity;
use longshore_core::informer::{Change, ObjectKey};
use longshore_core::selector::Selector;

use self::node::{Fit, fit, node_of, pod_for};
use crate::claim::{Claim, claim, watch_dependents};
use crate::controller::{Controller, Triggers, View};
use crate::plan::{Action, Plan};
use crate::pods::available_in;
use crate::revisions::{REVISION_HASH, Revisions, excess, hash_of, revisions};
use crate::selects::compiled;

/// Pods that one look creates or deletes at most.
const BURST: usize = 250;

/// How old a pod that ended must be before it is replaced, so that one that ends at once is not replaced all the time.
const RESPITE: SignedDuration = SignedDuration::from_secs(5);

/// The controller of DaemonSets.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct DaemonSetController;

fn selector(set: &DaemonSet) -> Selector {
    compiled(set.spec.selector.as_ref())
}

/// A node, whether the daemon belongs there, and the pods that are there, oldest first.
struct Place {
    name: String,
    fit: Fit,
    pods: Vec<Arc<Pod>>,
}

fn is_new(pod: &Pod, hash: &str) -> bool {
    pod.metadata.labels.as_ref().and_then(|labels| labels.get(REVISION_HASH)).is_some_and(|of| of == hash)
}

fn is_deleted(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Every node, and the pods of nodes that are gone.
fn places(view: &View<'_>, set: &DaemonSet, owned: &[Arc<Pod>]) -> Vec<Place> {
    let mut by_node: BTreeMap<&str, Vec<Arc<Pod>>> = BTreeMap::new();
    for pod in owned {
        by_node.entry(node_of(pod).unwrap_or_default()).or_default().push(pod.clone());
    }
    let mut places: Vec<Place> = Vec::new();
    for node in view.of::<Node>().list() {
        let name = node.metadata.name.clone().unwrap_or_default();
        let mut pods = by_node.remove(&*name).unwrap_or_default();
        let created = |pod: &Pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        pods.sort_by_key(|pod| (pod.spec.node_name.is_empty(), created(pod), pod.metadata.name.clone()));
        places.push(Place { fit: fit(set, &node), name, pods });
    }
    // The scheduler would never place those that are not bound yet; the pod collector takes the others.
    for (name, mut pods) in by_node {
        pods.retain(|pod| pod.spec.node_name.is_empty());
        places.push(Place { name: name.to_owned(), fit: Fit::Leave, pods });
    }
    places
}

/// What to create and delete so that each node has one pod of any version, or two while one surges.
#[derive(Default)]
struct Work {
    create: Vec<String>,
    delete: Vec<Arc<Pod>>,
    events: Vec<Action>,
    /// When a pod that ended may be replaced.
    look_again: Option<Duration>,
}

fn manage(set: &DaemonSet, places: &[Place], hash: &str, surges: bool, now: Timestamp) -> Work {
    let mut work = Work::default();
    for place in places {
        if place.fit == Fit::Leave {
            work.delete.extend(place.pods.iter().filter(|pod| !is_deleted(pod)).cloned());
            continue;
        }
        if place.pods.is_empty() {
            if place.fit == Fit::Run {
                work.create.push(place.name.clone());
            }
            continue;
        }
        let mut running = Vec::new();
        for pod in place.pods.iter().filter(|pod| !is_deleted(pod)) {
            if !is_terminal(pod) {
                running.push(pod);
                continue;
            }
            let created = pod.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
            // A clock that is slow makes the wait no longer.
            let since = now.duration_since(created).max(SignedDuration::ZERO);
            if let Ok(left) = Duration::try_from(RESPITE - since)
                && !left.is_zero()
            {
                work.look_again = Some(work.look_again.map_or(left, |known| known.min(left)));
                continue;
            }
            // A daemon is not meant to end.
            let failed = pod.status.phase == PodPhase::Failed;
            let (reason, word, severity) = if failed {
                ("FailedDaemonPod", "failed", Severity::Warning)
            } else {
                ("SucceededDaemonPod", "succeeded", Severity::Normal)
            };
            let meta = &pod.metadata;
            let (namespace, name) = (meta.namespace.as_deref().unwrap_or(""), meta.name.as_deref().unwrap_or(""));
            let node = &place.name;
            let text = format!("Found {word} daemon pod {namespace}/{name} on node {node}, will try to delete it");
            work.events.push(Action::event(set, severity, reason, text));
            work.delete.push(pod.clone());
        }
        if !surges {
            work.delete.extend(running.into_iter().skip(1).cloned());
            continue;
        }
        let (new, old): (Vec<&Arc<Pod>>, Vec<&Arc<Pod>>) = running.into_iter().partition(|pod| is_new(pod, hash));
        work.delete.extend(new.iter().skip(1).chain(old.iter().skip(1)).map(|pod| (*pod).clone()));
        if let (Some(new), Some(old)) = (new.first(), old.first())
            && (!is_ready(old) || is_available(new, set.spec.min_ready_seconds, now))
        {
            work.delete.push((*old).clone());
        }
    }
    work
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// The set with the status that follows from what is on the nodes.
fn observed(set: &DaemonSet, places: &[Place], hash: &str, now: Timestamp) -> DaemonSet {
    let mut new = set.clone();
    let wanted: Vec<&Place> = places.iter().filter(|place| place.fit == Fit::Run).collect();
    // The pod that has been there longest speaks for its node.
    let firsts = || wanted.iter().filter_map(|place| place.pods.first());
    let status = &mut new.status;
    status.observed_generation = set.metadata.generation.unwrap_or_default();
    status.desired_number_scheduled = count(wanted.len());
    status.current_number_scheduled = count(firsts().count());
    let misplaced = places.iter().filter(|place| place.fit != Fit::Run && !place.pods.is_empty());
    status.number_misscheduled = count(misplaced.count());
    status.number_ready = count(firsts().filter(|pod| is_ready(pod)).count());
    let available = firsts().filter(|pod| is_available(pod, set.spec.min_ready_seconds, now));
    status.number_available = count(available.count());
    status.number_unavailable = status.desired_number_scheduled - status.number_available;
    status.updated_number_scheduled = count(firsts().filter(|pod| is_new(pod, hash)).count());
    new
}

impl Controller for DaemonSetController {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "daemonset"
    }

    fn triggers(&self, triggers: &Triggers<ObjectKey>) {
        triggers.on::<DaemonSet, _>(|change| [ObjectKey::of(&**change.object())]);
        watch_dependents::<DaemonSet, Pod>(triggers, selector);
        watch_dependents::<DaemonSet, ControllerRevision>(triggers, selector);
        let sets = triggers.informer::<DaemonSet>();
        triggers.on::<Node, _>(move |change: &Change<Arc<Node>>| {
            if let Change::Modified { old, new } = change
                && old.metadata.labels == new.metadata.labels
                && old.spec == new.spec
            {
                return Vec::new();
            }
            sets.list().iter().map(|set| ObjectKey::of(&**set)).collect()
        });
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, now: Timestamp) -> Plan {
        let Some(set) = view.of::<DaemonSet>().get(&key.namespace, &key.name) else { return Plan::nothing() };
        let set = &*set;
        let Claim { owned, mut actions } = claim::<Pod>(view, set, &selector(set));
        let history = claim::<ControllerRevision>(view, set, &selector(set));
        actions.extend(history.actions);
        if !actions.is_empty() || set.metadata.deletion_timestamp.is_some() {
            return actions.into();
        }
        let (template, collisions) = (&set.spec.template, set.status.collision_count);
        let (current, old) = match revisions(view, set, history.owned, template, collisions) {
            Revisions::Settled { current, old } => (current, old),
            Revisions::Unsettled(action) => return vec![action].into(),
            Revisions::Collided => {
                let mut collided = set.clone();
                *collided.status.collision_count.get_or_insert(0) += 1;
                return vec![Action::update_status(collided)].into();
            }
        };
        let hash = hash_of(&current);
        let places = places(view, set, &owned);
        let wanted = count(places.iter().filter(|place| place.fit == Fit::Run).count());
        let (surge, unavailable) = update::bounds(set, wanted);
        let mut work = manage(set, &places, hash, surge > 0, now);
        // First every node has its pod, then versions are looked at.
        let rolls = set.spec.update_strategy.type_ != DaemonSetUpdateStrategyType::OnDelete;
        if rolls && work.create.is_empty() && work.delete.is_empty() {
            if surge > 0 {
                update::surge(set, &places, hash, surge, now, &mut work);
            } else {
                update::replace(set, &places, hash, unavailable, now, &mut work);
            }
        }
        let mut plan = Plan { actions: work.events, look_again: work.look_again };
        plan.actions.extend(work.delete.iter().take(BURST).map(|pod| Action::delete(&**pod).reported_to(set)));
        let pods = work.create.iter().take(BURST).map(|node| pod_for(set, node, hash));
        plan.actions.extend(pods.map(|pod| Action::Create(Box::new(pod)).reported_to(set)));
        let status = observed(set, &places, hash, now);
        if status != *set {
            plan.push(Action::update_status(status));
        }
        let used = |revision: &ControllerRevision| owned.iter().any(|pod| is_new(pod, hash_of(revision)));
        plan.actions.extend(excess(&old, set.spec.revision_history_limit, used));
        for pod in owned.iter().filter(|pod| !is_terminal(pod)) {
            if let Some(delay) = available_in(pod, set.spec.min_ready_seconds, now) {
                plan.look_again_in(delay);
            }
        }
        plan
    }
}

#[cfg(test)]
mod tests;
