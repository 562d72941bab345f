//! What upstream's reasons leave out: how much is missing where, which taint it is, which label is another.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_core::api::PersistentVolumeClaim;
use longshore_core::api::node::{Taint, TaintEffect};
use longshore_core::api::pod::helpers::find_untolerated_taint;
use longshore_core::api::pod::{Pod, TopologySpreadConstraint, UnsatisfiableConstraintAction};
use longshore_core::kind::AnyObject;
use longshore_core::scheduling::{Cycle, NodeView, Reason};
use longshore_core::selector::{LabelSelector, Selector};
use rustc_hash::FxHashSet;

use super::explained::RemedyText;
use crate::engine::{Engine, NodeRefusal, quantity};

/// The label that tells nodes apart.
const HOSTNAME: &str = "kubernetes.io/hostname";
/// Of how many kinds of nodes another one is tried.
const KINDS_MAX: usize = 8;
/// Values of a label that are shown.
const VALUES_MAX: usize = 8;

/// What can be said about a refusal beyond its reasons; empty if nothing.
pub(super) fn detail(cycle: Cycle<'_>, node: NodeView<'_>, refused: &NodeRefusal) -> String {
    let mut parts: Vec<String> = Vec::new();
    match refused.policy.as_str() {
        "NodeResourcesFit" => {
            for reason in &refused.refusal.reasons {
                let reason = reason.as_str();
                let Some(resource) = reason.strip_prefix("Insufficient ") else {
                    parts.push(reason.to_owned());
                    continue;
                };
                let (asked, free) = (cycle.request(resource), node.free(resource));
                let all = node.allocatable(resource);
                let show = |amount| quantity(resource, amount);
                parts.push(format!("{resource}: {} asked for, {} of {} free", show(asked), show(free), show(all)));
            }
        }
        "TaintToleration" => {
            let counts = |taint: &Taint| matches!(taint.effect, TaintEffect::NoSchedule | TaintEffect::NoExecute);
            let taint = find_untolerated_taint(&node.node().spec.taints, &cycle.pod().spec.tolerations, counts);
            parts.extend(taint.map(|Taint { key, value, effect, .. }| {
                let value = if value.is_empty() { String::new() } else { format!("={value}") };
                format!("taint {key}{value}:{}", effect.as_str())
            }));
        }
        "NodeAffinity" => {
            for (key, wanted) in &cycle.pod().spec.node_selector {
                match node.label(key) {
                    Some(value) if value == wanted => {}
                    Some(value) => parts.push(format!("{key} is {value}, not {wanted}")),
                    None => parts.push(format!("no label {key}")),
                }
            }
        }
        "NodeUnschedulable" => parts.push(format!("cordoned; `kubectl uncordon {}` opens it", node.name())),
        "VolumeBinding" => {
            let elsewhere =
                |reason: &Reason| reason.as_str() == "node(s) didn't match PersistentVolume's node affinity";
            if refused.refusal.reasons.iter().any(elsewhere) {
                let claims = cycle.shape().claims();
                parts.extend(claims.filter_map(|claim| {
                    let object = cycle.cluster().object::<PersistentVolumeClaim>(cycle.shape().namespace(), &claim)?;
                    let volume = object.spec.volume_name.as_str();
                    (!volume.is_empty()).then(|| format!("claim {claim} has volume {volume}, which is elsewhere"))
                }));
            }
        }
        "InterPodAffinity" => parts.extend(in_the_way(cycle, node)),
        _ => {}
    }
    parts.join(", ")
}

/// The pod on the node that the pod's own required anti-affinity by host name keeps it away from.
fn in_the_way(cycle: Cycle<'_>, node: NodeView<'_>) -> Option<String> {
    let terms = &cycle.pod().spec.affinity.as_ref()?.pod_anti_affinity.as_ref()?;
    let terms = &terms.required_during_scheduling_ignored_during_execution;
    let by_host = terms.iter().filter(|term| {
        term.topology_key == HOSTNAME && term.namespaces.is_empty() && term.namespace_selector.is_none()
    });
    let selectors: Vec<Selector> = by_host.filter_map(|term| selector(term.label_selector.as_ref())).collect();
    let other = node.pods().find(|placed| {
        let labels = placed.pod().metadata.labels.clone().unwrap_or_default();
        placed.pod().metadata.namespace.as_deref() == Some(cycle.shape().namespace())
            && selectors.iter().any(|selector| selector.matches(&labels))
    })?;
    Some(format!("keeps away from pod {}", other.pod().metadata.name.as_deref().unwrap_or_default()))
}

fn selector(selector: Option<&LabelSelector>) -> Option<Selector> {
    Selector::from_object(selector).ok()
}

/// What is to be known about the cluster to see why the pod has no place.
pub(super) fn hints(cycle: Cycle<'_>) -> Vec<String> {
    let selected = cycle.pod().spec.node_selector.iter().filter_map(|(key, wanted)| no_such_label(cycle, key, wanted));
    let spread = cycle.pod().spec.topology_spread_constraints.iter();
    let spread =
        spread.filter(|constraint| constraint.when_unsatisfiable == UnsatisfiableConstraintAction::DoNotSchedule);
    selected.chain(spread.filter_map(|constraint| spread_now(cycle, constraint))).collect()
}

/// That no node has a label that the pod selects by, and what they have instead.
fn no_such_label(cycle: Cycle<'_>, key: &str, wanted: &str) -> Option<String> {
    let mut values: BTreeMap<&str, usize> = BTreeMap::new();
    for node in cycle.cluster().nodes().iter() {
        if let Some(value) = cycle.node(node).label(key) {
            *values.entry(value).or_default() += 1;
        }
    }
    if values.contains_key(wanted) {
        return None;
    }
    let shown: Vec<String> =
        values.iter().take(VALUES_MAX).map(|(value, nodes)| format!("{value} ({nodes})")).collect();
    let instead =
        if shown.is_empty() { "no node has that label".to_owned() } else { format!("there is {}", shown.join(", ")) };
    Some(format!("No node has {key}={wanted}; {instead}."))
}

/// How the pods that a constraint counts are spread now.
fn spread_now(cycle: Cycle<'_>, constraint: &TopologySpreadConstraint) -> Option<String> {
    let selector = selector(constraint.label_selector.as_ref())?;
    let key = constraint.topology_key.as_str();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for node in cycle.cluster().nodes().iter().map(|node| cycle.node(node)) {
        let Some(value) = node.label(key) else { continue };
        let counted = node.pods().filter(|placed| {
            let meta = &placed.pod().metadata;
            meta.deletion_timestamp.is_none()
                && meta.namespace.as_deref() == Some(cycle.shape().namespace())
                && meta.labels.as_ref().is_some_and(|labels| selector.matches(labels))
        });
        *counts.entry(value).or_default() += counted.count();
    }
    let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, pods)| *pods);
    let left = counts.len().saturating_sub(VALUES_MAX);
    let mut shown: Vec<String> =
        counts.iter().take(VALUES_MAX).map(|(value, pods)| format!("{value} {pods}")).collect();
    if left > 0 {
        shown.push(format!("{left} more"));
    }
    Some(format!("Spread over {key} now: {}; maxSkew is {}.", shown.join(", "), constraint.max_skew))
}

/// Whether another node would help: an empty one, like one of those that are there. Each kind of node is tried, on the engine's
/// state, which is put back.
pub(super) fn another_node(engine: &mut Engine, pod: &Pod) -> Option<RemedyText> {
    let mut kinds = FxHashSet::default();
    let cluster = engine.cluster();
    let nodes = cluster.nodes().iter().filter(|node| !cluster.unschedulable().contains(*node));
    let mut models = Vec::new();
    for node in nodes.filter_map(|node| cluster.node(node)) {
        let mut labels = node.metadata.labels.clone().unwrap_or_default();
        labels.remove(HOSTNAME);
        let kind = serde_json::json!([labels, node.spec.taints, node.status.allocatable]).to_string();
        if models.len() < KINDS_MAX && kinds.insert(kind) {
            models.push(node.clone());
        }
    }
    let helps = models.into_iter().filter(|model| {
        let name = format!("another-{}", model.meta().name.as_deref().unwrap_or_default());
        let mut node = (**model).clone();
        node.metadata.name = Some(name.clone());
        node.metadata.uid = None;
        node.metadata.labels.iter_mut().filter_map(|labels| labels.get_mut(HOSTNAME)).for_each(|label| {
            label.clone_from(&name);
        });
        engine.cluster_mut().put_node(Arc::new(node));
        let explanation = engine.explain(pod);
        engine.cluster_mut().remove_node(&name);
        explanation.is_ok_and(|explanation| explanation.feasible.iter().any(|score| score.node == name))
    });
    let mut names: Vec<String> = helps.filter_map(|model| model.metadata.name.clone()).collect();
    names.sort_unstable();
    let (last, others) = names.split_last()?;
    let like = if others.is_empty() { last.clone() } else { format!("{} or {last}", others.join(", ")) };
    Some(RemedyText { change: format!("another node, empty, like {like}"), nodes: 1 })
}
