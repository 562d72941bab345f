//! Which nodes a daemon runs on, and the pod that is bound for one of them.

use longshore_core::api::node::{Taint, TaintEffect};
use longshore_core::api::pod::helpers::{find_untolerated_taint, node_matches};
use longshore_core::api::pod::{
    NodeSelector, NodeSelectorOperator, NodeSelectorRequirement, NodeSelectorTerm, Toleration, TolerationOperator,
};
use longshore_core::api::{DaemonSet, Node, Pod};

use crate::revisions::REVISION_HASH;
use crate::template::pod_of;

const NODE_NAME_FIELD: &str = "metadata.name";
/// Label of pods: how often the template had changed; for those who still select by it.
const TEMPLATE_GENERATION: &str = "pod-template-generation";

/// What a daemon puts up with on every node: it is there to help when the node is in trouble.
const TOLERATED: [(&str, TaintEffect); 6] = [
    ("node.kubernetes.io/not-ready", TaintEffect::NoExecute),
    ("node.kubernetes.io/unreachable", TaintEffect::NoExecute),
    ("node.kubernetes.io/disk-pressure", TaintEffect::NoSchedule),
    ("node.kubernetes.io/memory-pressure", TaintEffect::NoSchedule),
    ("node.kubernetes.io/pid-pressure", TaintEffect::NoSchedule),
    ("node.kubernetes.io/unschedulable", TaintEffect::NoSchedule),
];
const NETWORK_UNAVAILABLE: &str = "node.kubernetes.io/network-unavailable";

/// Whether a daemon belongs on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// It shall run there.
    Run,
    /// It may stay but is not to be started: a taint that only keeps new pods away.
    Stay,
    /// It shall not run there.
    Leave,
}

/// The pod that runs on the node of this name.
pub(super) fn pod_for(set: &DaemonSet, node: &str, hash: &str) -> Pod {
    let mut pod = pod_of(&set.spec.template, set);
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(TEMPLATE_GENERATION.to_owned(), set.template_generation().to_string());
    labels.insert(REVISION_HASH.to_owned(), hash.to_owned());
    pin(&mut pod, node);
    tolerate(&mut pod);
    pod
}

/// Leaves the scheduler one node to choose.
fn pin(pod: &mut Pod, node: &str) {
    let on_node = NodeSelectorRequirement {
        key: NODE_NAME_FIELD.to_owned(),
        operator: NodeSelectorOperator::In,
        values: vec![node.to_owned()],
    };
    let affinity = pod.spec.affinity.get_or_insert_default().node_affinity.get_or_insert_default();
    let required = affinity.required_during_scheduling_ignored_during_execution.get_or_insert(NodeSelector::default());
    if required.node_selector_terms.is_empty() {
        required.node_selector_terms.push(NodeSelectorTerm::default());
    }
    for term in &mut required.node_selector_terms {
        term.match_fields = vec![on_node.clone()];
    }
}

fn tolerate(pod: &mut Pod) {
    let network = pod.spec.host_network.then_some((NETWORK_UNAVAILABLE, TaintEffect::NoSchedule));
    for (key, effect) in TOLERATED.into_iter().chain(network) {
        let toleration = Toleration {
            key: key.to_owned(),
            operator: TolerationOperator::Exists,
            effect: effect.to_string(),
            ..Toleration::default()
        };
        let same = |known: &Toleration| known.key == toleration.key && known.effect == toleration.effect;
        pod.spec.tolerations.retain(|known| !same(known));
        pod.spec.tolerations.push(toleration);
    }
}

/// The node that a pod is on or bound for.
pub(super) fn node_of(pod: &Pod) -> Option<&str> {
    if !pod.spec.node_name.is_empty() {
        return Some(&pod.spec.node_name);
    }
    let required = &pod.spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let terms = &required.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms;
    let fields = terms.iter().flat_map(|term| &term.match_fields);
    fields.into_iter().find(|field| field.key == NODE_NAME_FIELD)?.values.first().map(String::as_str)
}

/// Whether the set's pods belong on the node.
pub(super) fn fit(set: &DaemonSet, node: &Node) -> Fit {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let chosen = &set.spec.template.spec.node_name;
    if !chosen.is_empty() && chosen != name {
        return Fit::Leave;
    }
    let mut pod = Pod { spec: set.spec.template.spec.clone(), ..Pod::default() };
    tolerate(&mut pod);
    // What cannot be read matches nothing.
    if !node_matches(&pod, node).unwrap_or(false) {
        return Fit::Leave;
    }
    let untolerated =
        |counts: fn(&Taint) -> bool| find_untolerated_taint(&node.spec.taints, &pod.spec.tolerations, counts).is_some();
    if untolerated(|taint| taint.effect == TaintEffect::NoExecute) {
        return Fit::Leave;
    }
    if untolerated(|taint| taint.effect == TaintEffect::NoSchedule) { Fit::Stay } else { Fit::Run }
}
