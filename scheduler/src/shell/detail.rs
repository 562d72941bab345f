//! What upstream's reasons leave out: how much is missing where, which taint it is, which label is another.

use std::sync::Arc;

use longshore_core::api::node::{Taint, TaintEffect};
use longshore_core::api::pod::Pod;
use longshore_core::api::pod::helpers::find_untolerated_taint;
use longshore_core::kind::AnyObject;
use longshore_core::scheduling::{Cycle, NodeView};
use rustc_hash::FxHashSet;

use super::explained::RemedyText;
use crate::engine::{Engine, NodeRefusal, quantity};

/// The label that tells nodes apart.
const HOSTNAME: &str = "kubernetes.io/hostname";
/// Of how many kinds of nodes another one is tried.
const KINDS_MAX: usize = 8;

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
        _ => {}
    }
    parts.join(", ")
}

/// Whether another node would help: an empty one, like one of those that are there. Each kind of node is tried, on the engine's
/// state, which is put back.
pub(super) fn another_node(engine: &mut Engine, pod: &Pod) -> Vec<RemedyText> {
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
    let named = helps.map(|model| {
        let model = model.metadata.name.as_deref().unwrap_or_default();
        RemedyText { change: format!("another node like {model}, empty"), nodes: 1 }
    });
    named.collect()
}
