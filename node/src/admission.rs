//! Whether the node takes a pod that was bound to it: the scheduler may have been wrong, or not asked.

use std::sync::Arc;

use longshore_core::api::node::{Taint, TaintEffect};
use longshore_core::api::pod::helpers::{ResourceOptions, find_untolerated_taint, node_matches, pod_requests};
use longshore_core::api::{Node, Pod, ResourceList};
use longshore_core::client::Api;
use longshore_core::client::params::{Patch, PatchParams};
use longshore_core::devices::ANNOTATION;
use longshore_core::network::HostPort;
use longshore_core::quantity::Quantity;
use serde_json::json;

use crate::pod::config::host_ports;
use crate::pod::observed::Refusal;
use crate::register::Reporter;
use crate::shared::Shared;

/// The node's object, for pods that care; read anew if what is known would refuse the pod.
pub(crate) async fn node(shared: &Shared, reporter: &Reporter, pod: &Pod) -> Option<Arc<Node>> {
    let known = reporter.node();
    if known.as_ref().is_some_and(|node| suits(pod, node).is_ok()) {
        return known;
    }
    let api: Api<Node> = Api::all(shared.client.clone());
    api.get(&shared.options.node_name).await.ok().or(known)
}

/// Writes which devices the agent chose for a pod to where schedulers and the ledger see it.
pub(crate) async fn tell_devices(shared: &Shared, pod: &Pod, note: &str) -> Result<(), Refusal> {
    let meta = &pod.metadata;
    let (namespace, name) = (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
    let api: Api<Pod> = Api::namespaced(shared.client.clone(), namespace);
    // The pod of this name may be another by now.
    let patch = json!({"metadata": {"uid": meta.uid, "annotations": {ANNOTATION: note}}});
    match api.patch(name, &Patch::Merge(patch), &PatchParams::default()).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_conflict() => {
            let message = format!("Allocate failed due to devices being taken already: {error}, which is unexpected");
            Err(Refusal { reason: "UnexpectedAdmissionError".to_owned(), message })
        }
        // What the pod has is noted with its sandbox as well.
        Err(error) => {
            tracing::warn!(pod = name, %error, "cannot write down which devices a pod has");
            Ok(())
        }
    }
}

/// Takes a pod, or says why not, in upstream's words. `others` are the pods that the node has taken.
pub(crate) fn admit<'a>(
    pod: &Pod,
    node: Option<&Node>,
    allocatable: &ResourceList,
    others: impl Iterator<Item = &'a Arc<Pod>> + Clone,
) -> Result<(), Refusal> {
    fits(pod, allocatable, others.clone())?;
    if let Some(node) = node {
        suits(pod, node)?;
    }
    let wanted = host_ports(pod);
    if others.flat_map(|other| host_ports(other)).any(|taken| wanted.iter().any(|port| clash(port, &taken))) {
        return Err(predicate("NodePorts", "node(s) didn't have free ports for the requested pod ports"));
    }
    Ok(())
}

/// Whether selectors and taints let the pod onto the node.
fn suits(pod: &Pod, node: &Node) -> Result<(), Refusal> {
    if !node_matches(pod, node).unwrap_or(false) {
        return Err(predicate("NodeAffinity", "node(s) didn't match Pod's node affinity/selector"));
    }
    let evicts = |taint: &Taint| taint.effect == TaintEffect::NoExecute;
    if let Some(taint) = find_untolerated_taint(&node.spec.taints, &pod.spec.tolerations, evicts) {
        let what = format!("node(s) had untolerated taint {{{}: {}}}", taint.key, taint.value);
        return Err(predicate("TaintToleration", &what));
    }
    Ok(())
}

fn predicate(name: &str, message: &str) -> Refusal {
    Refusal { reason: name.to_owned(), message: format!("Predicate {name} failed: {message}") }
}

/// Whether the node has what a pod asks for beside others.
pub(crate) fn fits<'a>(
    pod: &Pod,
    allocatable: &ResourceList,
    others: impl Iterator<Item = &'a Arc<Pod>> + Clone,
) -> Result<(), Refusal> {
    if let Some(most) = allocatable.get("pods") {
        let used = others.clone().count();
        if used as i64 + 1 > most.value() {
            return Err(insufficient("pods", 1, used as i64, most.value()));
        }
    }
    let requests = pod_requests(pod, ResourceOptions::default());
    for (name, request) in requests.iter().filter(|(_, request)| !request.is_zero()) {
        let mut used = Quantity::default();
        for other in others.clone() {
            if let Some(theirs) = pod_requests(other, ResourceOptions::default()).get(name) {
                used += theirs;
            }
        }
        let capacity = match allocatable.get(name) {
            Some(capacity) => capacity.clone(),
            // A node that does not say how much it has does not limit what every pod uses.
            None if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") => continue,
            None => Quantity::default(),
        };
        let mut wanted = used.clone();
        wanted += request;
        if wanted > capacity {
            let unit = |quantity: &Quantity| if name == "cpu" { quantity.milli_value() } else { quantity.value() };
            return Err(insufficient(name, unit(request), unit(&used), unit(&capacity)));
        }
    }
    Ok(())
}

fn insufficient(name: &str, requested: i64, used: i64, capacity: i64) -> Refusal {
    Refusal {
        reason: format!("OutOf{name}"),
        message: format!(
            "Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
        ),
    }
}

fn clash(a: &HostPort, b: &HostPort) -> bool {
    let addresses = match (a.host_ip, b.host_ip) {
        (Some(a), Some(b)) => a == b,
        _ => true,
    };
    addresses && a.protocol == b.protocol && a.host_port == b.host_port
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
