//! StatefulSet: pods with stable names and storage.
//!
//! `OrderedReady` takes one step at a time: a pod is started when all before it serve, and taken away when none after it
//! is left. `Parallel` does not wait. A change of the template replaces pods from the last to the `partition`-th, each
//! when the one replaced before serves again.

mod identity;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use longshore_core::api::pod::PodPhase;
use longshore_core::api::pod::helpers::{is_available, is_ready, is_terminal};
use longshore_core::api::stateful_set::{PodManagementPolicyType, StatefulSetStatus, StatefulSetUpdateStrategyType};
use longshore_core::api::{ControllerRevision, PersistentVolumeClaim, Pod, PodTemplateSpec, StatefulSet};
use longshore_core::events::Severity;
use longshore_core::informer::{Change, ObjectKey};
use longshore_core::selector::Selector;

use self::identity::{ordinal, revision, words};
use crate::claim::{Claim, claim, watch_dependents};
use crate::controller::{Controller, Triggers, View};
use crate::plan::{Action, Plan};
use crate::pods::available_in;
use crate::revisions::{Revisions, excess, revisions, template_of};
use crate::selects::compiled;

/// The controller of StatefulSets.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StatefulSetController;

fn selector(set: &StatefulSet) -> Selector {
    compiled(set.spec.selector.as_ref())
}

fn is_rolling(set: &StatefulSet) -> bool {
    set.spec.update_strategy.type_ != StatefulSetUpdateStrategyType::OnDelete
}

fn is_deleted(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// What there is of a set, and what it shall become.
struct Look<'a> {
    view: &'a View<'a>,
    set: &'a StatefulSet,
    now: Timestamp,
    /// Pods by ordinal.
    pods: BTreeMap<i32, Arc<Pod>>,
    /// Names of the revisions before and after the change that is being rolled out; equal if none is.
    current: String,
    update: String,
    /// The template before the change.
    current_template: PodTemplateSpec,
    actions: Vec<Action>,
}

impl Look<'_> {
    fn first(&self) -> i32 {
        self.set.spec.ordinals.as_ref().map_or(0, |ordinals| ordinals.start)
    }

    fn end(&self) -> i32 {
        self.first().saturating_add(self.set.spec.replicas.unwrap_or(1))
    }

    fn is_ordered(&self) -> bool {
        self.set.spec.pod_management_policy != PodManagementPolicyType::Parallel
    }

    fn is_running_and_ready(&self, pod: &Pod) -> bool {
        pod.status.phase == PodPhase::Running && is_ready(pod)
    }

    fn is_running_and_available(&self, pod: &Pod) -> bool {
        self.is_running_and_ready(pod) && is_available(pod, self.set.spec.min_ready_seconds, self.now)
    }

    /// Whether the pod serves and nobody took it away.
    fn is_healthy(&self, pod: &Pod) -> bool {
        self.is_running_and_available(pod) && !is_deleted(pod)
    }

    fn partition(&self) -> Option<i32> {
        self.set.spec.update_strategy.rolling_update.as_ref().map(|bounds| bounds.partition.unwrap_or(0))
    }

    /// The pod to start for an ordinal: of the version before the change where that has not arrived yet.
    fn new_pod(&self, ordinal: i32) -> Pod {
        let kept = self.partition().unwrap_or(self.set.status.current_replicas);
        if is_rolling(self.set) && ordinal < self.first().saturating_add(kept) {
            return identity::pod(self.set, &self.current_template, &self.current, ordinal);
        }
        identity::pod(self.set, &self.set.spec.template, &self.update, ordinal)
    }

    fn delete(&mut self, pod: &Pod) {
        self.actions.push(Action::delete(pod).reported_with(self.set, words));
    }

    /// Starts what is missing. Says whether one may go on to take pods away.
    fn start(&mut self) -> bool {
        for ordinal in self.first()..self.end() {
            let pod = self.pods.get(&ordinal).cloned();
            let claims = identity::claims(self.view, self.set, ordinal, pod.as_ref(), false);
            self.actions.extend(claims);
            if pod.is_none() && identity::loses_claim(self.view, self.set, ordinal) {
                // A pod that came now would hold the old claim; it comes when the new one can.
                if self.is_ordered() {
                    return false;
                }
                continue;
            }
            let Some(pod) = pod else {
                let create = Action::Create(Box::new(self.new_pod(ordinal)));
                self.actions.push(create.reported_with(self.set, words));
                if self.is_ordered() {
                    return false;
                }
                continue;
            };
            if is_terminal(&pod) && !is_deleted(&pod) {
                // It has to go before another of its name can come.
                let meta = &self.set.metadata;
                let (namespace, name) = (meta.namespace.as_deref().unwrap_or(""), meta.name.as_deref().unwrap_or(""));
                let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
                let text = format!("StatefulSet {namespace}/{name} is recreating failed Pod {pod_name}");
                self.actions.push(Action::event(self.set, Severity::Warning, "RecreatingFailedPod", text));
                self.delete(&pod);
                if self.is_ordered() {
                    return false;
                }
                continue;
            }
            if self.is_ordered() && !self.is_healthy(&pod) {
                return false;
            }
        }
        true
    }

    /// Takes away what is too much, the last first. Says whether one may go on to replace pods.
    fn shrink(&mut self) -> bool {
        let (first, end) = (self.first(), self.end());
        let kept = first..end;
        let condemned: Vec<(i32, Arc<Pod>)> = self
            .pods
            .iter()
            .rev()
            .filter(|(ordinal, _)| !kept.contains(ordinal))
            .map(|(a, b)| (*a, b.clone()))
            .collect();
        // One that is out of order does not keep itself from being taken away.
        let unhealthy = self.pods.iter().find(|(_, pod)| !self.is_healthy(pod)).map(|(ordinal, _)| *ordinal);
        for (ordinal, pod) in &condemned {
            if is_deleted(pod) {
                if self.is_ordered() {
                    return false;
                }
                continue;
            }
            if self.is_ordered() && !self.is_healthy(pod) && unhealthy != Some(*ordinal) {
                return false;
            }
            let claims = identity::claims(self.view, self.set, *ordinal, Some(pod), true);
            self.actions.extend(claims);
            self.delete(pod);
            if self.is_ordered() {
                return false;
            }
        }
        condemned.is_empty()
    }

    /// Replaces pods of other versions, the last first, as many at once as may be without service.
    fn replace(&mut self) {
        if !is_rolling(self.set) {
            return;
        }
        let bounds = self.set.spec.update_strategy.rolling_update.clone().unwrap_or_default();
        let replicas = self.set.spec.replicas.unwrap_or(1);
        // Rounded down, but never less than one. What is neither a number nor a percentage does not pass validation.
        let most = bounds.max_unavailable.and_then(|most| most.scaled(replicas, false).ok()).unwrap_or(1).max(1);
        let least = self.first().saturating_add(self.partition().unwrap_or(0));
        let mut missing = 0;
        for ordinal in (least..self.end()).rev() {
            if missing >= most {
                return;
            }
            let Some(pod) = self.pods.get(&ordinal).cloned() else {
                missing += 1;
                continue;
            };
            if revision(&pod) != self.update && !is_deleted(&pod) {
                self.delete(&pod);
                missing += 1;
            } else if !self.is_healthy(&pod) {
                missing += 1;
            }
        }
    }

    fn status(&self) -> StatefulSetStatus {
        let count = |counts: &dyn Fn(&Pod) -> bool| {
            i32::try_from(self.pods.values().filter(|pod| counts(pod)).count()).unwrap_or(i32::MAX)
        };
        let of = |name: &str| count(&|pod| !is_deleted(pod) && revision(pod) == name);
        let mut status = self.set.status.clone();
        status.observed_generation = self.set.metadata.generation.unwrap_or_default();
        status.replicas = count(&|_| true);
        status.ready_replicas = count(&|pod| self.is_running_and_ready(pod));
        status.available_replicas = count(&|pod| self.is_running_and_available(pod));
        status.current_replicas = of(&self.current);
        status.updated_replicas = of(&self.update);
        status.current_revision.clone_from(&self.current);
        status.update_revision.clone_from(&self.update);
        status.collision_count.get_or_insert(0);
        let all_new = status.updated_replicas == status.replicas && status.ready_replicas == status.replicas;
        if is_rolling(self.set) && all_new {
            status.current_replicas = status.updated_replicas;
            status.current_revision.clone_from(&self.update);
        }
        status
    }
}

impl Controller for StatefulSetController {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "statefulset"
    }

    fn triggers(&self, triggers: &Triggers<ObjectKey>) {
        triggers.on::<StatefulSet, _>(|change| [ObjectKey::of(&**change.object())]);
        watch_dependents::<StatefulSet, Pod>(triggers, selector);
        watch_dependents::<StatefulSet, ControllerRevision>(triggers, selector);
        let sets = triggers.informer::<StatefulSet>();
        triggers.on::<PersistentVolumeClaim, _>(move |change: &Change<Arc<PersistentVolumeClaim>>| {
            let Change::Deleted(claim) = change else { return Vec::new() };
            let sets = sets.list_namespace(claim.metadata.namespace.as_deref().unwrap_or_default());
            let owners = sets.iter().filter(|set| identity::is_claim_of(set, claim));
            owners.map(|set| ObjectKey::of(&**set)).collect()
        });
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, now: Timestamp) -> Plan {
        let Some(set) = view.of::<StatefulSet>().get(&key.namespace, &key.name) else { return Plan::nothing() };
        let set = &*set;
        let Claim { owned, mut actions } = claim::<Pod>(view, set, &selector(set));
        let history = claim::<ControllerRevision>(view, set, &selector(set));
        actions.extend(history.actions);
        if !actions.is_empty() || set.metadata.deletion_timestamp.is_some() {
            return actions.into();
        }
        let (template, collisions) = (&set.spec.template, set.status.collision_count.filter(|count| *count != 0));
        let (latest, old) = match revisions(view, set, history.owned, template, collisions) {
            Revisions::Settled { current, old } => (current, old),
            Revisions::Unsettled(action) => return vec![action].into(),
            Revisions::Collided => {
                let mut collided = set.clone();
                *collided.status.collision_count.get_or_insert(0) += 1;
                return vec![Action::update_status(collided)].into();
            }
        };
        let name = |revision: &ControllerRevision| revision.metadata.name.clone().unwrap_or_default();
        let before = old.iter().find(|revision| name(revision) == set.status.current_revision);
        let before = before.and_then(|revision| Some((name(revision), template_of(revision)?)));
        let (current, current_template) = before.unwrap_or_else(|| (name(&latest), template.clone()));
        let mut look = Look {
            view,
            set,
            now,
            pods: owned.iter().filter_map(|pod| Some((ordinal(set, pod)?, pod.clone()))).collect(),
            current,
            update: name(&latest),
            current_template,
            actions: Vec::new(),
        };
        if look.start() && look.shrink() {
            look.replace();
        }
        let observed = StatefulSet { status: look.status(), ..set.clone() };
        let mut plan = Plan::nothing();
        if observed != *set {
            plan.push(Action::update_status(observed));
        }
        let used = |of: &ControllerRevision| {
            let name = name(of);
            name == look.current || owned.iter().any(|pod| revision(pod) == name)
        };
        let excess = excess(&old, set.spec.revision_history_limit, used);
        plan.actions.extend(look.actions);
        plan.actions.extend(excess);
        for pod in &owned {
            if let Some(delay) = available_in(pod, set.spec.min_ready_seconds, now) {
                plan.look_again_in(delay);
            }
        }
        plan
    }
}

#[cfg(test)]
mod tests;
