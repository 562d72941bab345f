//! ReplicaSet and ReplicationController: keep a number of pods running.
//!
//! Both are the same decision over different kinds. Missing pods are created, those too many deleted, the least useful
//! first. Pods that ended or were deleted do not count: they are replaced at once.

mod kinds;
pub(crate) mod rank;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use jiff::Timestamp;
use longshore_core::api::pod::helpers::{is_available, is_ready};
use longshore_core::api::{Pod, PodTemplateSpec, ReplicaSet, ReplicationController};
use longshore_core::informer::ObjectKey;
use longshore_core::kind::{AnyObject, Kind};
use longshore_core::selector::Selector;

use crate::claim::{Claim, claim, controller_of, dependents, watch_dependents};
use crate::controller::{Controller, Triggers, View};
use crate::plan::{Action, Plan, Verb};
use crate::pods::{available_in, is_active, is_terminating};
use crate::selects::selects_all;
use crate::template::pod_of;

/// Pods that one plan creates or deletes at most.
const BURST: usize = 500;

/// A kind that asks for a number of pods.
pub(crate) trait Replicated: Kind {
    /// The controller's name in logs and metrics.
    const NAME: &'static str;
    /// The controller's name in events.
    const COMPONENT: &'static str;

    /// How many pods.
    fn replicas(&self) -> i32;
    /// How long a pod must be ready to count as available.
    fn min_ready_seconds(&self) -> i32;
    /// What selects its pods.
    fn selector(&self) -> Selector;
    /// What its pods look like.
    fn template(&self) -> Option<&PodTemplateSpec>;
    /// The same object with the status that follows from what was seen.
    fn observed(&self, seen: &Seen, now: Timestamp) -> Self;
}

/// What was seen of an object's pods.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    replicas: i32,
    fully_labeled: i32,
    ready: i32,
    available: i32,
    terminating: i32,
    /// Why pods cannot be created or deleted: reason and message.
    failure: Option<(&'static str, String)>,
}

/// Keeps as many pods as each object of kind `K` wants.
pub(crate) struct ReplicaController<K>(PhantomData<fn() -> K>);

/// The controller of ReplicaSets.
pub(crate) type ReplicaSetController = ReplicaController<ReplicaSet>;
/// The controller of ReplicationControllers.
pub(crate) type ReplicationManager = ReplicaController<ReplicationController>;

impl<K> Default for ReplicaController<K> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<K: Replicated> fmt::Debug for ReplicaController<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplicaController").field("kind", &K::INFO.kind).finish()
    }
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn observe<K: Replicated>(owner: &K, owned: &[Arc<Pod>], view: &View<'_>, now: Timestamp) -> Seen {
    let active: Vec<&Arc<Pod>> = owned.iter().filter(|pod| is_active(pod)).collect();
    let counted = |counts: &dyn Fn(&Pod) -> bool| count(active.iter().filter(|pod| counts(pod)).count());
    let labels = owner.template().and_then(|template| template.metadata.labels.clone()).unwrap_or_default();
    let failure = view.failure().filter(|failure| failure.kind.info.kind == "Pod");
    Seen {
        replicas: count(active.len()),
        fully_labeled: counted(&|pod| selects_all(&labels, &pod.metadata.labels)),
        ready: counted(&is_ready),
        available: counted(&|pod| is_available(pod, owner.min_ready_seconds(), now)),
        terminating: count(owned.iter().filter(|pod| is_terminating(pod)).count()),
        failure: failure.and_then(|failure| match failure.verb {
            Verb::Create => Some(("FailedCreate", failure.error.to_string())),
            Verb::Delete => Some(("FailedDelete", failure.error.to_string())),
            _ => None,
        }),
    }
}

/// Creates what is missing and deletes what is too much.
fn manage<K: Replicated>(owner: &K, owned: &[Arc<Pod>], view: &View<'_>, now: Timestamp) -> Vec<Action> {
    let mut active: Vec<Arc<Pod>> = owned.iter().filter(|pod| is_active(pod)).cloned().collect();
    let wanted = usize::try_from(owner.replicas()).unwrap_or(0);
    if let Some(template) = owner.template()
        && active.len() < wanted
    {
        let missing = (wanted - active.len()).min(BURST);
        let create = || Action::Create(Box::new(pod_of(template, owner))).reported_to(owner);
        return std::iter::repeat_with(create).take(missing).collect();
    }
    let surplus = active.len().saturating_sub(wanted);
    if surplus > 0 && wanted > 0 {
        rank::least_useful_first(&mut active, &relatives(owner, view), now);
    }
    active.iter().take(surplus.min(BURST)).map(|pod| Action::delete(&**pod).reported_to(owner)).collect()
}

/// The pods of all objects that have the same controller: those of one deployment shall spread over nodes together.
fn relatives<K: Replicated>(owner: &K, view: &View<'_>) -> Vec<Arc<Pod>> {
    let Some(parent) = controller_of(owner) else { return dependents(view, owner) };
    let siblings = view.of::<K>().list_namespace(AnyObject::meta(owner).namespace.as_deref().unwrap_or_default());
    let related = siblings.iter().filter(|other| controller_of(&***other).is_some_and(|of| of.uid == parent.uid));
    related.flat_map(|other| dependents::<Pod>(view, &**other)).collect()
}

impl<K: Replicated> Controller for ReplicaController<K> {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        K::NAME
    }

    fn component(&self) -> String {
        K::COMPONENT.to_owned()
    }

    fn triggers(&self, triggers: &Triggers<ObjectKey>) {
        triggers.on::<K, _>(|change| [ObjectKey::of(&**change.object())]);
        watch_dependents::<K, Pod>(triggers, K::selector);
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, now: Timestamp) -> Plan {
        let Some(owner) = view.of::<K>().get(&key.namespace, &key.name) else { return Plan::nothing() };
        let owner = &*owner;
        let Claim { owned, actions } = claim::<Pod>(view, owner, &owner.selector());
        if !actions.is_empty() {
            return actions.into();
        }
        let seen = observe(owner, &owned, view, now);
        let status = owner.observed(&seen, now);
        let status = (status != *owner).then(|| Action::update_status(status));
        let deleted = AnyObject::meta(owner).deletion_timestamp.is_some();
        let work = if deleted { Vec::new() } else { manage(owner, &owned, view, now) };
        // What cannot be done shall at least be told before it is tried again.
        let (first, last) = if seen.failure.is_some() { (status, None) } else { (None, status) };
        let mut plan: Plan = first.into_iter().chain(work).chain(last).collect::<Vec<_>>().into();
        for pod in owned.iter().filter(|pod| is_active(pod)) {
            if let Some(delay) = available_in(pod, owner.min_ready_seconds(), now) {
                plan.look_again_in(delay);
            }
        }
        plan
    }
}

#[cfg(test)]
mod tests;
