//! How `kubectl get nodes` shows a node.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use super::{Node, NodeAddressType};
use crate::api::ConditionStatus;
use crate::api::columns::{self, AGE, NAME, column, wide};
use crate::kind::Column;

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    column("Status", "string", "Whether the node is ready for pods."),
    column("Roles", "string", "Roles that labels give the node."),
    AGE,
    column("Version", "string", "Version of the node agent."),
    wide("Internal-IP", "string", "Address that the cluster reaches."),
    wide("External-IP", "string", "Address that the world reaches."),
    wide("OS-Image", "string", "The operating system's release."),
    wide("Kernel-Version", "string", "Version of the kernel."),
    wide("Container-Runtime", "string", "Runtime and its version."),
];

pub(super) fn row(node: &Node, now: Timestamp) -> Vec<Value> {
    let info = &node.status.node_info;
    let known = |text: &str| if text.is_empty() { "<unknown>".to_owned() } else { text.to_owned() };
    vec![
        columns::name(&node.metadata),
        status(node).into(),
        roles(node).into(),
        columns::age(&node.metadata, now),
        info.kubelet_version.as_str().into(),
        address(node, &NodeAddressType::InternalIP).into(),
        address(node, &NodeAddressType::ExternalIP).into(),
        known(&info.os_image).into(),
        known(&info.kernel_version).into(),
        known(&info.container_runtime_version).into(),
    ]
}

fn status(node: &Node) -> String {
    // Of several conditions of one type the last counts, as upstream's map has it.
    let ready = node.status.conditions.iter().rfind(|condition| condition.type_ == "Ready");
    let mut status = match ready.map(|ready| &ready.status) {
        Some(ConditionStatus::True) => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if node.spec.unschedulable {
        status.push_str(",SchedulingDisabled");
    }
    status
}

fn roles(node: &Node) -> String {
    let labels = node.metadata.labels.iter().flatten();
    let roles: BTreeSet<&str> = labels
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role),
            None => (key == "kubernetes.io/role").then_some(value.as_str()),
        })
        .filter(|role| !role.is_empty())
        .collect();
    if roles.is_empty() { "<none>".to_owned() } else { roles.into_iter().collect::<Vec<_>>().join(",") }
}

fn address<'n>(node: &'n Node, type_: &NodeAddressType) -> &'n str {
    let found = node.status.addresses.iter().find(|address| address.type_ == *type_);
    found.map_or("<none>", |found| &found.address)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(object: Value, cells: [&str; 10]) {
        let node: Node = serde_json::from_value(object).unwrap();
        assert_eq!(row(&node, Timestamp::UNIX_EPOCH), cells);
    }

    #[test]
    fn cells() {
        check(
            json!({
                "metadata": { "name": "n", "labels": { "node-role.kubernetes.io/worker": "", "kubernetes.io/role": "edge" } },
                "spec": { "unschedulable": true },
                "status": { "conditions": [{ "type": "Ready", "status": "Unknown" }],
                            "addresses": [{ "type": "InternalIP", "address": "10.0.0.9" }],
                            "nodeInfo": { "kubeletVersion": "v1.35.0", "osImage": "Linux" } },
            }),
            [
                "n",
                "NotReady,SchedulingDisabled",
                "edge,worker",
                "<unknown>",
                "v1.35.0",
                "10.0.0.9",
                "<none>",
                "Linux",
                "<unknown>",
                "<unknown>",
            ],
        );
        check(
            json!({ "status": { "conditions": [{ "type": "Ready", "status": "True" }] } }),
            ["", "Ready", "<none>", "<unknown>", "", "<none>", "<none>", "<unknown>", "<unknown>", "<unknown>"],
        );
    }
}
