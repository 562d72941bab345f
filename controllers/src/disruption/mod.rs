//! Counts the pods of disruption budgets, so that evictions know how many may go.
//!
//! What upstream's disruption controller counts: pods that are ready, that nobody deleted and that were not just evicted are
//! healthy; how many there should be is what the pods' controllers say, or for a `minAvailable` in numbers the pods themselves.

mod expected;
mod stale;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use longshore_core::api::pod::helpers::is_ready;
use longshore_core::api::pod_disruption_budget::PodDisruptionBudgetStatus;
use longshore_core::api::{Deployment, Pod, PodDisruptionBudget, ReplicaSet, ReplicationController, StatefulSet};
use longshore_core::events::Severity;
use longshore_core::informer::{Change, Informer, ObjectKey};
use longshore_core::kind::{AnyObject, Kind};
use longshore_core::selector::{LabelSelector, Selector};

use crate::controller::{Controller, Triggers, View};
use crate::plan::{Action, Plan};
use expected::Expected;
pub(crate) use stale::StaleDisruptionController;

/// How long a pod whose eviction was granted may take to show that it is being deleted.
const DELETION_TIMEOUT: SignedDuration = SignedDuration::from_mins(2);
const DISRUPTION_ALLOWED: &str = "DisruptionAllowed";

/// The disruption controller.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DisruptionController;

/// The pods of a budget.
fn selector(budget: &PodDisruptionBudget) -> Selector {
    Selector::from_object(budget.spec.selector.as_ref()).unwrap_or_else(|_| Selector::nothing())
}

/// Wakes the budgets of a namespace when a controller of pods asks for another number of them.
fn watch_scale<K: Kind>(triggers: &Triggers<ObjectKey>, replicas: fn(&K) -> Option<i32>) {
    let budgets = triggers.informer::<PodDisruptionBudget>();
    triggers.on::<K, _>(move |change: &Change<Arc<K>>| {
        let scale = |object: &Arc<K>| replicas(object);
        if change.old().map(scale) == change.current().map(scale) {
            return Vec::new();
        }
        let namespace = AnyObject::meta(&**change.object()).namespace.clone().unwrap_or_default();
        budgets.list_namespace(&namespace).iter().map(|budget| ObjectKey::of(&**budget)).collect()
    });
}

/// What a pod counts as.
fn facts(pod: &Pod) -> impl PartialEq + use<'_> {
    (is_ready(pod), pod.metadata.deletion_timestamp.is_some(), &pod.metadata.labels, &pod.metadata.owner_references)
}

/// The budgets that cover a pod now or covered it before it changed.
fn concerned(budgets: &Informer<PodDisruptionBudget>, change: &Change<Arc<Pod>>) -> Vec<ObjectKey> {
    if let Change::Modified { old, new } = change
        && facts(old) == facts(new)
    {
        return Vec::new();
    }
    let versions: Vec<_> = change.old().into_iter().chain(change.current()).collect();
    let mut found = budgets.list_namespace(change.object().metadata.namespace.as_deref().unwrap_or_default());
    found.retain(|budget| {
        let selector = selector(budget);
        versions.iter().any(|pod| selector.matches_optional(pod.metadata.labels.as_ref()))
    });
    found.iter().map(|budget| ObjectKey::of(&**budget)).collect()
}

impl Controller for DisruptionController {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "disruption"
    }

    fn triggers(&self, triggers: &Triggers<ObjectKey>) {
        triggers.on::<PodDisruptionBudget, _>(|change| [ObjectKey::of(&**change.object())]);
        let budgets = triggers.informer::<PodDisruptionBudget>();
        triggers.on::<Pod, _>(move |change| concerned(&budgets, change));
        watch_scale::<Deployment>(triggers, |object| object.spec.replicas);
        watch_scale::<ReplicaSet>(triggers, |object| object.spec.replicas);
        watch_scale::<ReplicationController>(triggers, |object| object.spec.replicas);
        watch_scale::<StatefulSet>(triggers, |object| object.spec.replicas);
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, now: Timestamp) -> Plan {
        let Some(budget) = view.of::<PodDisruptionBudget>().get(&key.namespace, &key.name) else {
            return Plan::nothing();
        };
        let selector = selector(&budget);
        let mut pods = view.of::<Pod>().list_namespace(&key.namespace);
        pods.retain(|pod| selector.matches_optional(pod.metadata.labels.as_ref()));
        let mut plan = Plan::nothing();
        if pods.is_empty() {
            plan.push(Action::event(&*budget, Severity::Normal, "NoPods", "No matching pods found"));
        }
        let status = match expected::expected(view, &budget, &pods) {
            Ok(expected) => {
                plan.actions.extend(tell_unmanaged(&budget, &expected));
                count(&budget, &pods, &expected, &mut plan, now)
            }
            Err(why) => {
                let message = format!("Failed to calculate the number of expected pods: {why}");
                let reason = "CalculateExpectedPodCountFailed";
                plan.push(Action::event(&*budget, Severity::Warning, reason, message));
                uncounted(&budget, why, now)
            }
        };
        if status != budget.status {
            plan.push(Action::update_status(PodDisruptionBudget { status, ..(*budget).clone() }));
        }
        plan
    }
}

fn tell_unmanaged(budget: &PodDisruptionBudget, expected: &Expected) -> Option<Action> {
    if expected.unmanaged == 0 {
        return None;
    }
    let selector = LabelSelector::format(budget.spec.selector.as_ref());
    let text = format!(
        "Pods selected by this PodDisruptionBudget (selector: {selector}) were found to be unmanaged. As a result, the \
         status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these \
         pods please set \".spec.minAvailable\" field of the PDB to an integer value."
    );
    Some(Action::event(budget, Severity::Warning, "UnmanagedPods", text))
}

/// The status of a budget whose pods could be counted. Tells of pods that were evicted and stay, and looks again when
/// the next of them is due.
fn count(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    expected: &Expected,
    plan: &mut Plan,
    now: Timestamp,
) -> PodDisruptionBudgetStatus {
    let disrupted_pods = disrupted(budget, pods, plan, now);
    let name = |pod: &Pod| pod.metadata.name.clone().unwrap_or_default();
    let healthy = pods.iter().filter(|pod| {
        let leaves = pod.metadata.deletion_timestamp.is_some() || disrupted_pods.contains_key(&name(pod));
        !leaves && is_ready(pod)
    });
    let current_healthy = i32::try_from(healthy.count()).unwrap_or(i32::MAX);
    // A budget that covers no pod yet allows none to go, so that its first pods are safe before they are counted.
    let spare = if expected.pods > 0 { current_healthy.saturating_sub(expected.healthy).max(0) } else { 0 };
    let mut status = PodDisruptionBudgetStatus {
        observed_generation: budget.metadata.generation.unwrap_or(0),
        disrupted_pods,
        disruptions_allowed: spare,
        current_healthy,
        desired_healthy: expected.healthy,
        expected_pods: expected.pods,
        conditions: budget.status.conditions.clone(),
    };
    let (holds, reason) = if spare > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    set_condition(&mut status, holds, reason, String::new(), now);
    status
}

/// The status of a budget whose pods could not be counted: none may go.
fn uncounted(budget: &PodDisruptionBudget, why: String, now: Timestamp) -> PodDisruptionBudgetStatus {
    let mut status = PodDisruptionBudgetStatus { disruptions_allowed: 0, ..budget.status.clone() };
    set_condition(&mut status, "False", "SyncFailed", why, now);
    status
}

/// The pods whose eviction was granted and that may still be on their way.
fn disrupted(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    plan: &mut Plan,
    now: Timestamp,
) -> BTreeMap<String, Time> {
    let mut kept = BTreeMap::new();
    for pod in pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
        let Some((name, granted)) =
            pod.metadata.name.as_ref().and_then(|name| budget.status.disrupted_pods.get_key_value(name))
        else {
            continue;
        };
        let due = granted.0.checked_add(DELETION_TIMEOUT).unwrap_or(Timestamp::MAX);
        match Duration::try_from(due.duration_since(now)) {
            Ok(left) if !left.is_zero() => {
                plan.look_again_in(left);
                kept.insert(name.clone(), granted.clone());
            }
            _ => {
                let ObjectKey { namespace, name } = ObjectKey::of(budget);
                let text = format!("Pod was expected by PDB {namespace}/{name} to be deleted but it wasn't");
                plan.push(Action::event(&**pod, Severity::Warning, "NotDeleted", text));
            }
        }
    }
    kept
}

fn set_condition(status: &mut PodDisruptionBudgetStatus, holds: &str, reason: &str, message: String, now: Timestamp) {
    let known = status.conditions.iter().position(|condition| condition.type_ == DISRUPTION_ALLOWED);
    let since = known.map(|at| &status.conditions[at]).filter(|known| known.status == holds);
    let now = Time(Timestamp::from_second(now.as_second()).unwrap_or(now));
    let condition = Condition {
        type_: DISRUPTION_ALLOWED.to_owned(),
        status: holds.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: Some(status.observed_generation),
        last_transition_time: since.map_or(now, |known| known.last_transition_time.clone()),
    };
    match known {
        Some(at) => status.conditions[at] = condition,
        None => status.conditions.push(condition),
    }
}

#[cfg(test)]
mod tests;
