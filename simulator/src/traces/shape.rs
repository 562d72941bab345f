//! Nodes and pods from a trace's own units.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use longshore_core::api::Node;
use longshore_core::api::pod::{
    Affinity, Container, NodeAffinity, NodeSelector, NodeSelectorOperator, NodeSelectorRequirement, NodeSelectorTerm,
    Pod, PodAffinityTerm, PodAntiAffinity,
};
use longshore_core::quantity::{Format, Quantity};
use longshore_core::selector::LabelSelector;
use serde::{Deserialize, Serialize};

/// The label that tells nodes apart.
pub(super) const HOST: &str = "kubernetes.io/hostname";

/// More pods than any node of these traces ever has.
const PODS_MAX: i64 = 1001;

/// What the largest machine of a trace has, whose amounts are parts of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MachineSize {
    /// Cores, such as `64`.
    pub cpu: Quantity,
    /// Such as `256Gi`.
    pub memory: Quantity,
}

impl Default for MachineSize {
    /// 64 cores and 256 GiB.
    fn default() -> Self {
        Self {
            cpu: Quantity::from_value(64, Format::DecimalSi),
            memory: Quantity::from_value(256 << 30, Format::BinarySi),
        }
    }
}

impl MachineSize {
    /// That much of it, rounded down.
    pub(super) fn share(&self, cpu: f64, memory: f64) -> Amounts {
        Amounts { milli_cpu: part(cpu, self.cpu.milli_value()), memory: part(memory, self.memory.value()) }
    }
}

/// So much of a whole, rounded down; but what misses a whole number by no more than such products do by themselves is that.
#[expect(clippy::cast_possible_truncation, reason = "a product that does not fit becomes the largest number")]
pub(super) fn part(share: f64, whole: i64) -> i64 {
    let part = share * whole as f64;
    let near = part.round();
    (if (part - near).abs() <= 1e-12 * part { near } else { part.floor() }) as i64
}

/// What something takes, or has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Amounts {
    /// Thousandths of a core.
    pub(super) milli_cpu: i64,
    /// Bytes.
    pub(super) memory: i64,
}

impl Amounts {
    fn quantities(self) -> BTreeMap<String, Quantity> {
        BTreeMap::from([
            ("cpu".to_owned(), Quantity::from_milli(self.milli_cpu, Format::DecimalSi)),
            ("memory".to_owned(), Quantity::from_value(self.memory, Format::BinarySi)),
        ])
    }
}

/// A node with a name, which is also its label, and further labels.
pub(super) fn node(name: &str, has: Amounts, labels: impl IntoIterator<Item = (String, String)>) -> Node {
    let mut node = Node::default();
    node.metadata.name = Some(name.to_owned());
    let mut all = BTreeMap::from([(HOST.to_owned(), name.to_owned())]);
    all.extend(labels);
    node.metadata.labels = Some(all);
    node.status.allocatable = has.quantities();
    node.status.allocatable.insert("pods".to_owned(), Quantity::from_value(PODS_MAX, Format::DecimalSi));
    node
}

/// A pod without a name.
pub(super) fn pod(takes: Amounts, priority: i32) -> Pod {
    let mut container = Container { name: "main".to_owned(), ..Container::default() };
    container.resources.requests = takes.quantities();
    let metadata = ObjectMeta { namespace: Some("default".to_owned()), ..ObjectMeta::default() };
    let mut pod = Pod { metadata, ..Pod::default() };
    pod.spec.containers = vec![container];
    pod.spec.priority = Some(priority);
    pod
}

/// The pod also has this label.
pub(super) fn label(pod: &mut Pod, key: &str, value: &str) {
    pod.metadata.labels.get_or_insert_default().insert(key.to_owned(), value.to_owned());
}

/// It only goes to nodes of which a label has one of these values.
pub(super) fn only_where(pod: &mut Pod, key: &str, values: Vec<String>) {
    let requirement = NodeSelectorRequirement { key: key.to_owned(), operator: NodeSelectorOperator::In, values };
    only_on(pod, NodeSelectorTerm { match_expressions: vec![requirement], ..NodeSelectorTerm::default() });
}

/// It only goes to nodes that are so.
pub(super) fn only_on(pod: &mut Pod, term: NodeSelectorTerm) {
    let affinity = pod.spec.affinity.get_or_insert_default();
    affinity.node_affinity = Some(NodeAffinity {
        required_during_scheduling_ignored_during_execution: Some(NodeSelector { node_selector_terms: vec![term] }),
        ..NodeAffinity::default()
    });
}

/// It does not share a domain with pods that have the same value of this label of its own.
pub(super) fn apart(pod: &mut Pod, label: &str, topology_key: &str) {
    let term = PodAffinityTerm {
        label_selector: Some(equal(pod, label)),
        topology_key: topology_key.to_owned(),
        ..PodAffinityTerm::default()
    };
    let affinity: &mut Affinity = pod.spec.affinity.get_or_insert_default();
    let apart = affinity.pod_anti_affinity.get_or_insert_with(PodAntiAffinity::default);
    apart.required_during_scheduling_ignored_during_execution.push(term);
}

/// Selects the pods that have the value of this label that the pod has.
pub(super) fn equal(pod: &Pod, label: &str) -> LabelSelector {
    let value = pod.metadata.labels.as_ref().and_then(|labels| labels.get(label)).cloned().unwrap_or_default();
    LabelSelector { match_labels: BTreeMap::from([(label.to_owned(), value)]), ..LabelSelector::default() }
}
