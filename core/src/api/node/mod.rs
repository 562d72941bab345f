//! Node: a machine that runs pods.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::resources;
use crate::api::wire::{self, is_default};
use crate::api::{ConditionStatus, ResourceList, V1};
use crate::kind::{Column, Kind, Subresource};
use crate::validation::ErrorList;
use crate::{kind, string_enum};

/// A machine that runs pods.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub struct Node {
    /// Version of the API.
    #[serde(default)]
    pub api_version: V1,
    /// Name, namespace, labels and the rest of the object's metadata.
    #[serde(default, deserialize_with = "wire::metadata")]
    pub metadata: ObjectMeta,
    /// What is wanted of the node.
    #[serde(default)]
    pub spec: NodeSpec,
    /// What the node reports.
    #[serde(default)]
    pub status: NodeStatus,
}

/// What is wanted of a node.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeSpec {
    /// Address range of the node's pods; equals the first of `podCIDRs`.
    #[serde(rename = "podCIDR", default, skip_serializing_if = "is_default")]
    pub pod_cidr: String,
    /// Address ranges of the node's pods, at most one a family.
    #[serde(rename = "podCIDRs", default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-patch-strategy" = "merge", "x-kubernetes-list-type" = "set"))]
    pub pod_cidrs: Vec<String>,
    /// The machine's name at whoever provides it.
    #[serde(rename = "providerID", default, skip_serializing_if = "is_default")]
    pub provider_id: String,
    /// If true, no new pods are placed on the node.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unschedulable: bool,
    /// What keeps pods off that do not tolerate it.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub taints: Vec<Taint>,
    /// No longer used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_source: Option<Box<NodeConfigSource>>,
    /// No longer used.
    #[serde(rename = "externalID", default, skip_serializing_if = "is_default")]
    pub external_id: String,
}

/// Keeps pods off a node that do not tolerate it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Taint {
    /// Key of the taint.
    #[serde(default)]
    pub key: String,
    /// Value of the taint.
    #[serde(default, skip_serializing_if = "is_default")]
    pub value: String,
    /// What happens to pods that do not tolerate it.
    #[serde(default)]
    pub effect: TaintEffect,
    /// When it was added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_added: Option<Time>,
}

/// No longer used: where a node's configuration came from.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeConfigSource {
    /// A config map.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapNodeConfigSource>,
}

/// No longer used: a config map that configured a node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapNodeConfigSource {
    /// Namespace of the config map.
    #[serde(default)]
    pub namespace: String,
    /// Name of the config map.
    #[serde(default)]
    pub name: String,
    /// UID of the config map.
    #[serde(default, skip_serializing_if = "is_default")]
    pub uid: String,
    /// Version of the config map.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resource_version: String,
    /// Key in the config map.
    #[serde(default)]
    pub kubelet_config_key: String,
}

/// What a node reports.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// All that the node has.
    #[serde(default, skip_serializing_if = "is_default")]
    pub capacity: ResourceList,
    /// What of it pods may use; the same as `capacity` if unset.
    #[serde(default, skip_serializing_if = "is_default")]
    pub allocatable: ResourceList,
    /// No longer used.
    #[serde(default, skip_serializing_if = "is_default")]
    pub phase: String,
    /// How the node is.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-patch-merge-key" = "type", "x-kubernetes-patch-strategy" = "merge", "x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<NodeCondition>,
    /// Where the node can be reached.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-patch-merge-key" = "type", "x-kubernetes-patch-strategy" = "merge", "x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub addresses: Vec<NodeAddress>,
    /// Ports of the node's agents.
    #[serde(default)]
    pub daemon_endpoints: NodeDaemonEndpoints,
    /// What software the node runs.
    #[serde(default)]
    pub node_info: NodeSystemInfo,
    /// Images that are on the node.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub images: Vec<ContainerImage>,
    /// Attachable volumes that are mounted.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub volumes_in_use: Vec<String>,
    /// Volumes that are attached.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub volumes_attached: Vec<AttachedVolume>,
    /// No longer used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Box<NodeConfigStatus>>,
    /// Container runtimes that pods can choose.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub runtime_handlers: Vec<NodeRuntimeHandler>,
    /// What the container runtime can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<NodeFeatures>,
    /// Features that the node says it has.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub declared_features: Vec<String>,
}

/// One observation about a node.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeCondition {
    /// What is observed, such as `Ready` or `MemoryPressure`.
    #[serde(default)]
    pub type_: String,
    /// Whether it holds.
    #[serde(default)]
    pub status: ConditionStatus,
    /// When the node last said so.
    #[serde(default)]
    pub last_heartbeat_time: Option<Time>,
    /// When `status` last changed.
    #[serde(default)]
    pub last_transition_time: Option<Time>,
    /// Why, in one CamelCase word.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reason: String,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "is_default")]
    pub message: String,
}

/// One way to reach a node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeAddress {
    /// What the address is.
    #[serde(default)]
    pub type_: NodeAddressType,
    /// The address.
    #[serde(default)]
    pub address: String,
}

/// Ports of a node's agents.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeDaemonEndpoints {
    /// Where the node agent listens.
    #[serde(default)]
    pub kubelet_endpoint: DaemonEndpoint,
}

/// Where an agent listens.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DaemonEndpoint {
    /// The port; spelled with a capital letter on the wire.
    #[serde(rename = "Port", default)]
    pub port: i32,
}

/// What software a node runs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeSystemInfo {
    /// Content of the machine-id file.
    #[serde(rename = "machineID", default)]
    pub machine_id: String,
    /// UUID of the hardware.
    #[serde(rename = "systemUUID", default)]
    pub system_uuid: String,
    /// UUID of the current boot.
    #[serde(rename = "bootID", default)]
    pub boot_id: String,
    /// Version of the kernel.
    #[serde(default)]
    pub kernel_version: String,
    /// Name of the operating system's release.
    #[serde(default)]
    pub os_image: String,
    /// Runtime and version, as `name://version`.
    #[serde(default)]
    pub container_runtime_version: String,
    /// Version of the node agent.
    #[serde(default)]
    pub kubelet_version: String,
    /// No longer used.
    #[serde(default)]
    pub kube_proxy_version: String,
    /// Such as `linux`.
    #[serde(default)]
    pub operating_system: String,
    /// Such as `amd64`.
    #[serde(default)]
    pub architecture: String,
    /// Swap space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap: Option<NodeSwapStatus>,
}

/// Swap space of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeSwapStatus {
    /// How much there is, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<i64>,
}

/// An image that is on a node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerImage {
    /// Names of the image.
    #[serde(default, serialize_with = "wire::empty_as_null", deserialize_with = "wire::null_as_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub names: Vec<String>,
    /// Its size, in bytes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub size_bytes: i64,
}

/// A volume that is attached to a node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AttachedVolume {
    /// Name of the volume.
    #[serde(default)]
    pub name: String,
    /// Where its device is.
    #[serde(default)]
    pub device_path: String,
}

/// No longer used: state of a node's configuration.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeConfigStatus {
    /// What the node tries to use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assigned: Option<NodeConfigSource>,
    /// What the node uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<NodeConfigSource>,
    /// What the node falls back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_known_good: Option<NodeConfigSource>,
    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub error: String,
}

/// A container runtime that pods can choose.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeRuntimeHandler {
    /// Its name; empty for the default.
    #[serde(default)]
    pub name: String,
    /// What it can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<NodeRuntimeHandlerFeatures>,
}

/// What a container runtime can do for one pod.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeRuntimeHandlerFeatures {
    /// Whether mounts can be read-only with all below them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recursive_read_only_mounts: Option<bool>,
    /// Whether pods can have user namespaces of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_namespaces: Option<bool>,
}

/// What a node's container runtime can do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeFeatures {
    /// Whether it follows `supplementalGroupsPolicy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supplemental_groups_policy: Option<bool>,
}

string_enum! {
    /// What happens to pods that do not tolerate a taint.
    pub enum TaintEffect {
        /// New ones are not placed there.
        NoSchedule,
        /// New ones are placed there only if nothing better is found.
        PreferNoSchedule,
        /// New ones are not placed there, and those that run are evicted.
        NoExecute,
    }
}

string_enum! {
    /// What a node's address is.
    pub enum NodeAddressType {
        /// The node's name.
        Hostname,
        /// An IP address that the cluster reaches.
        InternalIP,
        /// An IP address that the world reaches.
        ExternalIP,
        /// A name that the cluster resolves.
        InternalDNS,
        /// A name that the world resolves.
        ExternalDNS,
    }
}

mod columns;
mod validation;

kind!(Node, v1, "nodes", singular "node", Cluster, short ["no"], categories [], subresources [Status]);

impl Kind for Node {
    fn set_defaults(&mut self) {
        let status = &mut self.status;
        if status.allocatable.is_empty() {
            status.allocatable.clone_from(&status.capacity);
        }
        resources::round_up(&mut status.capacity);
        resources::round_up(&mut status.allocatable);
    }

    fn normalize(&mut self) {
        let spec = &mut self.spec;
        if !spec.pod_cidr.is_empty() && spec.pod_cidrs.first() != Some(&spec.pod_cidr) {
            spec.pod_cidrs = vec![spec.pod_cidr.clone()];
        }
        if let Some(first) = spec.pod_cidrs.first() {
            spec.pod_cidr.clone_from(first);
        }
    }

    fn prepare_for_create(&mut self) {
        self.normalize();
    }

    fn prepare_for_update(&mut self, old: &Self, subresource: Option<Subresource>) {
        match subresource {
            None => self.status = old.status.clone(),
            Some(_) => self.spec = old.spec.clone(),
        }
        self.normalize();
    }

    fn validate(&self) -> ErrorList {
        validation::validate(self)
    }

    fn validate_update(&self, old: &Self, _subresource: Option<Subresource>) -> ErrorList {
        validation::validate_update(self, old)
    }

    fn columns() -> &'static [Column] {
        self::columns::COLUMNS
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        self::columns::row(self, now)
    }

    fn field(&self, label: &str) -> Option<String> {
        (label == "spec.unschedulable").then(|| self.spec.unschedulable.to_string())
    }

    fn selectable_fields() -> &'static [&'static str] {
        &["spec.unschedulable"]
    }
}
