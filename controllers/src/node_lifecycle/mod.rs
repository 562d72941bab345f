//! Nodes that are not heard of any more: their conditions, the taints that follow from conditions, and the pods there.
//!
//! A node is heard of by its lease (`kube-node-lease`) or by its status. One that is silent for longer than the grace
//! period has its conditions set to `Unknown`, then taints that keep pods away (`NoSchedule`) and expel them
//! (`NoExecute`); [`eviction`] does the expelling. If no node at all is heard of, it is more likely that we cannot hear
//! than that all are gone: then nobody is expelled.
//!
//! Silence is measured by the clock here, from when a heartbeat was seen ([`heard`]); the times on heartbeats are not compared with it.

pub(crate) mod eviction;
mod heard;
mod taints;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use longshore_core::api::node::NodeCondition;
use longshore_core::api::pod::PodCondition;
use longshore_core::api::pod::helpers::{is_ready, is_terminal, set_condition};
use longshore_core::api::{ConditionStatus, Lease, Node, Pod};
use longshore_core::clock::Clock;
use longshore_core::events::Severity;
use longshore_core::informer::{Change, ObjectKey};

use self::heard::Heard;
use crate::controller::{Controller, Triggers, View};
use crate::plan::{Action, Plan};
use crate::pods::{BY_NODE, index_by_node};

/// Namespace of the leases by which nodes say that they are alive.
const LEASES: &str = "kube-node-lease";
/// Conditions that nobody can know of a node that is not heard of.
const CONDITIONS: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];
/// How often a node that is not heard of is looked at: whether others are heard of may change.
const MONITOR_PERIOD: Duration = Duration::from_secs(5);

/// The controller of nodes' conditions and taints.
#[derive(Debug, Clone)]
pub(crate) struct NodeLifecycleController {
    grace: Duration,
    heard: Arc<Heard>,
}

fn condition<'a>(node: &'a Node, type_: &str) -> Option<&'a NodeCondition> {
    node.status.conditions.iter().find(|condition| condition.type_ == type_)
}

fn name(node: &Node) -> &str {
    node.metadata.name.as_deref().unwrap_or_default()
}

impl NodeLifecycleController {
    /// A controller that listens from now on, by this clock, and gives nodes this long to be heard of.
    pub(crate) fn new(grace: Duration, clock: Arc<dyn Clock>) -> Self {
        Self { grace, heard: Arc::new(Heard::new(clock)) }
    }

    /// How long until the node has been silent for too long; zero if it has.
    fn left(&self, node: &Node) -> Duration {
        self.grace.saturating_sub(self.heard.silence(node))
    }

    /// Whether any node is heard of.
    fn hears_any(&self, view: &View<'_>) -> bool {
        view.of::<Node>().list().iter().any(|node| !self.left(node).is_zero())
    }
}

/// The node with all conditions unknown that it should report.
fn silenced(node: &Node, now: Timestamp) -> Node {
    let mut node = node.clone();
    let created = node.metadata.creation_timestamp.clone();
    for type_ in CONDITIONS {
        let known = node.status.conditions.iter_mut().find(|condition| condition.type_ == type_);
        match known {
            Some(condition) if condition.status == ConditionStatus::Unknown => {}
            Some(condition) => {
                condition.status = ConditionStatus::Unknown;
                condition.reason = "NodeStatusUnknown".to_owned();
                condition.message = "Kubelet stopped posting node status.".to_owned();
                condition.last_transition_time = Some(Time(now));
            }
            None => node.status.conditions.push(NodeCondition {
                type_: type_.to_owned(),
                status: ConditionStatus::Unknown,
                reason: "NodeStatusNeverUpdated".to_owned(),
                message: "Kubelet never posted node status.".to_owned(),
                last_heartbeat_time: created.clone(),
                last_transition_time: Some(Time(now)),
            }),
        }
    }
    node
}

/// Takes pods on a silent node out of service: nobody can tell whether they still are ready.
fn unready(pod: &Pod, now: Timestamp) -> [Action; 2] {
    let mut new = pod.clone();
    let known = longshore_core::api::pod::helpers::condition(&pod.status, "Ready").cloned().unwrap_or_default();
    let condition = PodCondition { type_: "Ready".to_owned(), status: ConditionStatus::False, ..known };
    set_condition(&mut new.status, condition, now);
    let event = Action::event(pod, Severity::Warning, "NodeNotReady", "Node is not ready");
    [Action::update_status(new), event]
}

impl Controller for NodeLifecycleController {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "node_lifecycle"
    }

    fn component(&self) -> String {
        "node-controller".to_owned()
    }

    fn triggers(&self, triggers: &Triggers<ObjectKey>) {
        index_by_node(triggers);
        let heard = self.heard.clone();
        triggers.on::<Node, _>(move |change: &Change<Arc<Node>>| match change {
            Change::Deleted(node) => {
                heard.forget(node);
                None
            }
            change => {
                heard.node(change.object());
                Some(ObjectKey::of(&**change.object()))
            }
        });
        let heard = self.heard.clone();
        triggers.on::<Lease, _>(move |change: &Change<Arc<Lease>>| {
            if let Some(lease) = change.current() {
                heard.lease(lease);
            }
            // Nodes are looked at when their time is up; a renewal is no reason to.
            None::<ObjectKey>
        });
        triggers.on::<Pod, _>(|_: &Change<Arc<Pod>>| None::<ObjectKey>);
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, now: Timestamp) -> Plan {
        let Some(node) = view.of::<Node>().get("", &key.name) else { return Plan::nothing() };
        let mut plan = Plan::nothing();
        let left = self.left(&node);
        let silent = left.is_zero();
        if silent {
            let new = silenced(&node, now);
            if new != *node {
                let was_unknown =
                    condition(&node, "Ready").is_some_and(|ready| ready.status == ConditionStatus::Unknown);
                if !was_unknown {
                    let text = format!("Node {} status is now: NodeNotReady", name(&node));
                    plan.push(Action::event(&*node, Severity::Normal, "NodeNotReady", text));
                }
                // The taints follow from what is stored, at the look that this causes.
                plan.push(Action::update_status(new));
                return plan;
            }
        }
        let expels = !silent || self.hears_any(view);
        let taints = taints::wanted(&node, expels, now);
        if taints != node.spec.taints {
            let mut new = (*node).clone();
            new.spec.taints = taints;
            plan.push(Action::Update { object: Box::new(new), subresource: None });
        }
        if silent {
            let pods = view.of::<Pod>().by_index(BY_NODE, name(&node));
            let serving = pods.iter().filter(|pod| is_ready(pod) && !is_terminal(pod));
            plan.actions.extend(serving.flat_map(|pod| unready(pod, now)));
            plan.look_again_in(MONITOR_PERIOD);
        } else {
            plan.look_again_in(left);
        }
        plan
    }
}

#[cfg(test)]
mod tests;
