//! Expels pods from nodes whose taints they do not tolerate, or not for so long.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use longshore_core::api::node::TaintEffect;
use longshore_core::api::pod::helpers::{is_terminal, set_condition, tolerates};
use longshore_core::api::pod::{PodCondition, Toleration};
use longshore_core::api::{ConditionStatus, Node, Pod};
use longshore_core::events::Severity;
use longshore_core::informer::{Change, ObjectKey};

use crate::controller::{Controller, Triggers, View};
use crate::plan::{Action, Plan};
use crate::pods::{BY_NODE, index_by_node};

/// The controller that expels pods.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TaintEvictionController;

/// When a pod must leave a node; `None` if it may stay.
fn leaves_at(node: &Node, tolerations: &[Toleration], now: Timestamp) -> Option<Timestamp> {
    let expelling = node.spec.taints.iter().filter(|taint| taint.effect == TaintEffect::NoExecute);
    expelling
        .filter_map(|taint| {
            let Some(toleration) = tolerations.iter().find(|toleration| tolerates(toleration, taint)) else {
                return Some(now);
            };
            let seconds = toleration.toleration_seconds?.max(0);
            // The lifecycle controller gives every such taint a time; that change causes another look.
            let added = taint.time_added.as_ref()?.0;
            Some(added.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX))
        })
        .min()
}

fn evict(pod: &Pod, now: Timestamp) -> Vec<Action> {
    let mut told = pod.clone();
    let condition = PodCondition {
        type_: "DisruptionTarget".to_owned(),
        status: ConditionStatus::True,
        reason: "DeletionByTaintManager".to_owned(),
        message: "Taint manager: deleting due to NoExecute taint".to_owned(),
        ..PodCondition::default()
    };
    let changed = set_condition(&mut told.status, condition, now);
    let meta = &pod.metadata;
    let (namespace, name) = (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
    let text = format!("Marking for deletion Pod {namespace}/{name}");
    let mut actions = vec![Action::event(pod, Severity::Normal, "TaintManagerEviction", text)];
    actions.extend(changed.then(|| Action::update_status(told)));
    actions.push(Action::delete(pod));
    actions
}

impl Controller for TaintEvictionController {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "taint_eviction"
    }

    fn triggers(&self, triggers: &Triggers<ObjectKey>) {
        index_by_node(triggers);
        triggers.on::<Pod, _>(|change: &Change<Arc<Pod>>| {
            let pod = change.current().filter(|pod| !pod.spec.node_name.is_empty())?;
            let same = |old: &Arc<Pod>| {
                old.spec.node_name == pod.spec.node_name && old.spec.tolerations == pod.spec.tolerations
            };
            (!change.old().is_some_and(same)).then(|| ObjectKey::of(&**pod))
        });
        let pods = triggers.informer::<Pod>();
        triggers.on::<Node, _>(move |change: &Change<Arc<Node>>| {
            let taints = |node: &Arc<Node>| node.spec.taints.clone();
            match change.current() {
                Some(node) if change.old().map(taints).unwrap_or_default() != node.spec.taints => {
                    let there = pods.by_index(BY_NODE, node.metadata.name.as_deref().unwrap_or_default());
                    there.iter().map(|pod| ObjectKey::of(&**pod)).collect()
                }
                _ => Vec::new(),
            }
        });
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, now: Timestamp) -> Plan {
        let Some(pod) = view.of::<Pod>().get(&key.namespace, &key.name) else { return Plan::nothing() };
        if pod.metadata.deletion_timestamp.is_some() || is_terminal(&pod) {
            return Plan::nothing();
        }
        let Some(node) = view.of::<Node>().get("", &pod.spec.node_name) else { return Plan::nothing() };
        let Some(at) = leaves_at(&node, &pod.spec.tolerations, now) else { return Plan::nothing() };
        match Duration::try_from(at.duration_since(now)) {
            Ok(left) if !left.is_zero() => Plan { actions: Vec::new(), look_again: Some(left) },
            _ => evict(&pod, now).into(),
        }
    }
}
