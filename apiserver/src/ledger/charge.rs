//! What one pod takes of its node.

use std::collections::BTreeMap;

use longshore_core::api::pod::helpers::{ResourceOptions, is_terminal, pod_requests};
use longshore_core::api::pod::{ContainerRestartPolicy, Pod, PodPhase};
use longshore_core::devices::{self, Assignment};
use serde::{Deserialize, Serialize};

/// The address that stands for all of a node's addresses.
const ANY_ADDRESS: &str = "0.0.0.0";

/// What one pod takes, besides being one pod.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Charge {
    /// Amounts by name of resource: thousandths of a core for `cpu`, whole units for all others. Nothing is 0.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) amounts: BTreeMap<String, i64>,
    /// Ports of the node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) ports: Vec<HostPort>,
    /// Thousandths of devices by kind and device, once it is known which ones the pod has.
    #[serde(default, skip_serializing_if = "devices::Charge::is_empty")]
    pub(crate) devices: devices::Charge,
}

/// A port of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostPort {
    pub(crate) protocol: String,
    /// One address of the node, or all of them.
    pub(crate) ip: String,
    pub(crate) port: i32,
}

impl HostPort {
    /// Whether both cannot be had at once.
    pub(crate) fn clashes(&self, other: &Self) -> bool {
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || self.ip == ANY_ADDRESS || other.ip == ANY_ADDRESS)
    }
}

impl Charge {
    /// What the pod takes: its requests, and while it is resized what it still holds.
    pub(crate) fn of(pod: &Pod) -> Self {
        let options = ResourceOptions { use_status: true, ..ResourceOptions::default() };
        let requests = pod_requests(pod, options);
        let amount = |name: &str, quantity: &longshore_core::quantity::Quantity| match name {
            "cpu" => quantity.milli_value(),
            _ => quantity.value(),
        };
        let amounts = requests.iter().map(|(name, quantity)| (name.clone(), amount(name, quantity)));
        Self {
            amounts: amounts.filter(|(_, amount)| *amount > 0).collect(),
            ports: host_ports(pod),
            devices: Assignment::of(pod).map(|assignment| assignment.charge(pod)).unwrap_or_default(),
        }
    }
}

/// Ports of containers that run as long as the pod does.
fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let sidecars = pod.spec.init_containers.iter();
    let sidecars = sidecars.filter(|container| container.restart_policy == Some(ContainerRestartPolicy::Always));
    let ports = pod.spec.containers.iter().chain(sidecars).flat_map(|container| &container.ports);
    ports
        .filter(|port| port.host_port > 0)
        .map(|port| HostPort {
            protocol: match port.protocol.as_str() {
                "" => "TCP".to_owned(),
                protocol => protocol.to_owned(),
            },
            ip: if port.host_ip.is_empty() { ANY_ADDRESS.to_owned() } else { port.host_ip.clone() },
            port: port.host_port,
        })
        .collect()
}

/// A pod that is on a node and not over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) node: String,
    pub(crate) uid: String,
    /// `namespace/name`, for people.
    pub(crate) pod: String,
    /// Whether the node's agent took the pod in.
    pub(crate) runs: bool,
    pub(crate) charge: Charge,
}

impl Claim {
    /// What the pod claims; `None` if it is on no node or over.
    pub(crate) fn of(pod: &Pod) -> Option<Self> {
        if pod.spec.node_name.is_empty() || is_terminal(pod) {
            return None;
        }
        let meta = &pod.metadata;
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        Some(Self {
            node: pod.spec.node_name.clone(),
            uid: text(&meta.uid),
            pod: format!("{}/{}", text(&meta.namespace), text(&meta.name)),
            runs: pod.status.phase == PodPhase::Running,
            charge: Charge::of(pod),
        })
    }
}
