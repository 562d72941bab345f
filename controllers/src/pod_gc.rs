//! Collects pods that nobody would ever remove: those of nodes that are gone, those deleted before they had a node, and
//! the oldest of too many that ended.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use longshore_core::api::node::TaintEffect;
use longshore_core::api::pod::helpers::{is_terminal, set_condition};
use longshore_core::api::pod::{PodCondition, PodPhase};
use longshore_core::api::{ConditionStatus, Node, Pod};
use longshore_core::informer::{Change, ObjectKey};
use longshore_core::kind::KindType;

use crate::controller::{Controller, Triggers, View};
use crate::plan::{Action, ObjectRef, Plan};
use crate::pods::{BY_NODE, index_by_node};

/// A pod is not collected before its node was missed for so long: it may yet register, or be back.
const QUARANTINE: SignedDuration = SignedDuration::from_secs(40);
/// What is known of a node that was missed is forgotten after so long, for its pods are gone by then.
const FORGET: SignedDuration = SignedDuration::from_hours(1);
/// Taint by which somebody assures that a node is off and stays so.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
/// Index of pods that ended.
const ENDED: &str = "pod-gc/ended";

/// The pod collector.
#[derive(Debug)]
pub(crate) struct PodCollector {
    /// How many ended pods are kept; 0 for all.
    ended_max: usize,
    missed: Arc<Missed>,
}

/// Since when nodes are missed that pods have.
#[derive(Debug, Default)]
struct Missed(Mutex<BTreeMap<String, Timestamp>>);

impl Missed {
    fn nodes(&self) -> MutexGuard<'_, BTreeMap<String, Timestamp>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long the node is missed, from now on if it was not before.
    fn age(&self, node: &str, now: Timestamp) -> SignedDuration {
        let mut nodes = self.nodes();
        nodes.retain(|_, since| now.duration_since(*since) < FORGET);
        now.duration_since(*nodes.entry(node.to_owned()).or_insert(now))
    }

    fn is_there(&self, node: &str) {
        self.nodes().remove(node);
    }
}

/// What to look at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Item {
    /// One pod.
    Pod(ObjectKey),
    /// How many have ended.
    Ended,
}

impl PodCollector {
    /// A collector that keeps this many ended pods; 0 for all.
    pub(crate) fn new(ended_max: usize) -> Self {
        Self { ended_max, missed: Arc::default() }
    }

    fn ended(&self, view: &View<'_>) -> Plan {
        let mut ended = view.of::<Pod>().by_index(ENDED, "");
        if self.ended_max == 0 || ended.len() <= self.ended_max {
            return Plan::nothing();
        }
        ended.retain(|pod| pod.metadata.deletion_timestamp.is_none());
        let surplus = ended.len().saturating_sub(self.ended_max);
        // Evicted ones tell the least, then age decides.
        let created = |pod: &Pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        ended.sort_by_key(|pod| (pod.status.reason != "Evicted", created(pod), pod.metadata.name.clone()));
        ended.iter().take(surplus).map(|pod| force_delete(pod)).collect::<Vec<_>>().into()
    }
}

fn force_delete(pod: &Pod) -> Action {
    Action::Delete { target: ObjectRef::of(pod), resource_version: None, propagation: None, grace_seconds: Some(0) }
}

/// Says that the pod has ended, for those who count ends, and removes it.
fn collect(pod: &Pod, why: Option<&str>, now: Timestamp) -> Vec<Action> {
    let mut told = pod.clone();
    if !is_terminal(pod) {
        told.status.phase = PodPhase::Failed;
        if let Some(why) = why {
            let condition = PodCondition {
                type_: "DisruptionTarget".to_owned(),
                status: ConditionStatus::True,
                reason: "DeletionByPodGC".to_owned(),
                message: why.to_owned(),
                ..PodCondition::default()
            };
            set_condition(&mut told.status, condition, now);
        }
    }
    let told = (told != *pod).then(|| Action::update_status(told));
    let removed = (!is_collected(pod)).then(|| force_delete(pod));
    told.into_iter().chain(removed).collect()
}

/// Whether it only waits for finalizers.
fn is_collected(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
        && pod.metadata.deletion_grace_period_seconds == Some(0)
        && pod.metadata.finalizers.iter().flatten().next().is_some()
}

fn is_out_of_service(node: &Node) -> bool {
    let ready = node.status.conditions.iter().find(|condition| condition.type_ == "Ready");
    let mut taints = node.spec.taints.iter();
    ready.is_none_or(|ready| ready.status != ConditionStatus::True)
        && taints.any(|taint| taint.key == OUT_OF_SERVICE && taint.effect != TaintEffect::Unset)
}

fn look_at(view: &View<'_>, missed: &Missed, pod: &Pod, now: Timestamp) -> Plan {
    let deleted = pod.metadata.deletion_timestamp.is_some();
    if pod.spec.node_name.is_empty() {
        return if deleted { collect(pod, None, now).into() } else { Plan::nothing() };
    }
    let Some(node) = view.of::<Node>().get("", &pod.spec.node_name) else {
        let age = missed.age(&pod.spec.node_name, now);
        if age < QUARANTINE {
            let left = Duration::try_from(QUARANTINE - age).ok();
            return Plan { actions: Vec::new(), look_again: left };
        }
        let node = ObjectKey::new("", &pod.spec.node_name);
        // Whatever node of that name there is.
        let node = ObjectRef { kind: KindType::of::<Node>(), key: node, uid: String::new() };
        let mut plan: Plan = vec![Action::ConfirmGone(node)].into();
        plan.actions.extend(collect(pod, Some("PodGC: node no longer exists"), now));
        return plan;
    };
    missed.is_there(&pod.spec.node_name);
    if deleted && is_out_of_service(&node) {
        return collect(pod, None, now).into();
    }
    Plan::nothing()
}

impl Controller for PodCollector {
    type Key = Item;

    fn name(&self) -> &'static str {
        "pod_garbage_collector"
    }

    fn triggers(&self, triggers: &Triggers<Item>) {
        index_by_node(triggers);
        triggers
            .informer::<Pod>()
            .add_index(ENDED, |pod| if is_terminal(pod) { vec![String::new()] } else { Vec::new() });
        triggers.on::<Pod, _>(|change: &Change<Arc<Pod>>| {
            let Some(pod) = change.current() else { return Vec::new() };
            let ended = is_terminal(pod) && !change.old().is_some_and(|old| is_terminal(old));
            let facts = |pod: &Pod| (pod.metadata.deletion_timestamp.is_some(), pod.spec.node_name.is_empty());
            let moved = change.old().is_none_or(|old| facts(old) != facts(pod));
            let pod = moved.then(|| Item::Pod(ObjectKey::of(&**pod)));
            pod.into_iter().chain(ended.then_some(Item::Ended)).collect()
        });
        let (pods, missed) = (triggers.informer::<Pod>(), self.missed.clone());
        triggers.on::<Node, _>(move |change: &Change<Arc<Node>>| {
            let node = change.object();
            if !matches!(change, Change::Deleted(_)) {
                missed.is_there(node.metadata.name.as_deref().unwrap_or_default());
            }
            if !matches!(change, Change::Deleted(_)) && !is_out_of_service(node) {
                return Vec::new();
            }
            let there = pods.by_index(BY_NODE, node.metadata.name.as_deref().unwrap_or_default());
            there.iter().map(|pod| Item::Pod(ObjectKey::of(&**pod))).collect()
        });
    }

    fn reconcile(&self, view: &View<'_>, key: &Item, now: Timestamp) -> Plan {
        match key {
            Item::Ended => self.ended(view),
            Item::Pod(key) => match view.of::<Pod>().get(&key.namespace, &key.name) {
                Some(pod) => look_at(view, &self.missed, &pod, now),
                None => Plan::nothing(),
            },
        }
    }
}

#[cfg(test)]
#[path = "pod_gc_tests.rs"]
mod tests;
