//! What the node agent and others observed of a pod.

use super::ResourceRequirements;
use crate::api::ConditionStatus;
use crate::api::wire::{self, is_default};
use crate::quantity::Quantity;
use crate::string_enum;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

string_enum! {
    /// Where a pod is in its life.
    pub enum PodPhase {
        /// Accepted; not all containers have been started.
        Pending,
        /// On a node, started.
        Running,
        /// All containers ended well.
        Succeeded,
        /// All containers ended, at least one with an error.
        Failed,
        /// Its node cannot be asked.
        Unknown,
    }
}

string_enum! {
    /// How readily a pod is evicted when the node is short.
    pub enum PodQosClass {
        /// Last.
        Guaranteed,
        /// Before that.
        Burstable,
        /// First.
        BestEffort,
    }
}

/// What was observed of a pod.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodStatus {
    /// The generation that this status is about.
    #[serde(default, skip_serializing_if = "is_default")]
    pub observed_generation: i64,
    /// Where it is in its life.
    #[serde(default, skip_serializing_if = "is_default")]
    pub phase: PodPhase,
    /// Conditions.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"], "x-kubernetes-patch-merge-key" = "type", "x-kubernetes-patch-strategy" = "merge"))]
    pub conditions: Vec<PodCondition>,
    /// Why it is in this state, for people.
    #[serde(default, skip_serializing_if = "is_default")]
    pub message: String,
    /// Why it is in this state, one word.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reason: String,
    /// Node where room is being made for it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub nominated_node_name: String,
    /// Address of its node.
    #[serde(rename = "hostIP", default, skip_serializing_if = "is_default")]
    pub host_ip: String,
    /// All addresses of its node.
    #[serde(rename = "hostIPs", default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic", "x-kubernetes-patch-merge-key" = "ip", "x-kubernetes-patch-strategy" = "merge"))]
    pub host_ips: Vec<HostIP>,
    /// Its address.
    #[serde(rename = "podIP", default, skip_serializing_if = "is_default")]
    pub pod_ip: String,
    /// All its addresses.
    #[serde(rename = "podIPs", default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["ip"], "x-kubernetes-patch-merge-key" = "ip", "x-kubernetes-patch-strategy" = "merge"))]
    pub pod_ips: Vec<PodIP>,
    /// When the agent took it over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// Of its init containers.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub init_container_statuses: Vec<ContainerStatus>,
    /// Of its containers.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub container_statuses: Vec<ContainerStatus>,
    /// Its class, from its resources.
    #[serde(default, skip_serializing_if = "is_default")]
    pub qos_class: PodQosClass,
    /// Of its debugging containers.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub ephemeral_container_statuses: Vec<ContainerStatus>,
    /// State of a change of resources in place; replaced by conditions.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resize: String,
    /// Of its claims.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"], "x-kubernetes-patch-merge-key" = "name", "x-kubernetes-patch-strategy" = "merge,retainKeys"))]
    pub resource_claim_statuses: Vec<PodResourceClaimStatus>,
    /// Of the claim made for its extended resources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extended_resource_claim_status: Option<PodExtendedResourceClaimStatus>,
    /// Resources set aside for the whole pod.
    #[serde(default, skip_serializing_if = "is_default")]
    pub allocated_resources: BTreeMap<String, Quantity>,
    /// Resources in force for the whole pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
}

/// One condition of a pod.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodCondition {
    /// Which, such as `Ready`.
    #[serde(default)]
    pub type_: String,
    /// The generation that it is about.
    #[serde(default, skip_serializing_if = "is_default")]
    pub observed_generation: i64,
    /// Whether it holds.
    #[serde(default)]
    pub status: ConditionStatus,
    /// When it was last checked.
    #[serde(default)]
    pub last_probe_time: Option<Time>,
    /// When it last changed.
    #[serde(default)]
    pub last_transition_time: Option<Time>,
    /// Why, one word.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reason: String,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "is_default")]
    pub message: String,
}

/// An address of a node.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostIP {
    /// The address.
    #[serde(default)]
    pub ip: String,
}

/// An address of a pod.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodIP {
    /// The address.
    #[serde(default)]
    pub ip: String,
}

/// Which claim stands for one of the pod's.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodResourceClaimStatus {
    /// Name in the pod's spec.
    #[serde(default)]
    pub name: String,
    /// The claim made for it; none was needed if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_claim_name: Option<String>,
}

/// The claim made for a pod's extended resources.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodExtendedResourceClaimStatus {
    /// Which request stands for which resource.
    #[serde(default, serialize_with = "wire::empty_as_null", deserialize_with = "wire::null_as_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub request_mappings: Vec<ContainerExtendedResourceRequest>,
    /// The claim.
    #[serde(default)]
    pub resource_claim_name: String,
}

/// Which request stands for a container's extended resource.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerExtendedResourceRequest {
    /// The container.
    #[serde(default)]
    pub container_name: String,
    /// The resource.
    #[serde(default)]
    pub resource_name: String,
    /// The request.
    #[serde(default)]
    pub request_name: String,
}

/// What was observed of a container.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerStatus {
    /// The container.
    #[serde(default)]
    pub name: String,
    /// Its state.
    #[serde(default)]
    pub state: ContainerState,
    /// The state in which its predecessor ended.
    #[serde(default)]
    pub last_state: ContainerState,
    /// Whether its readiness probe holds.
    #[serde(default)]
    pub ready: bool,
    /// How often it was restarted.
    #[serde(default)]
    pub restart_count: i32,
    /// The image that it runs.
    #[serde(default)]
    pub image: String,
    /// Id of that image's content.
    #[serde(rename = "imageID", default)]
    pub image_id: String,
    /// Its id, `runtime://id`.
    #[serde(rename = "containerID", default, skip_serializing_if = "is_default")]
    pub container_id: String,
    /// Whether its startup probe has held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<bool>,
    /// Resources set aside for it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub allocated_resources: BTreeMap<String, Quantity>,
    /// Resources in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Of its mounts.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["mountPath"], "x-kubernetes-patch-merge-key" = "mountPath", "x-kubernetes-patch-strategy" = "merge"))]
    pub volume_mounts: Vec<VolumeMountStatus>,
    /// Who its first process runs as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<ContainerUser>,
    /// Health of its devices.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"], "x-kubernetes-patch-merge-key" = "name", "x-kubernetes-patch-strategy" = "merge"))]
    pub allocated_resources_status: Vec<ResourceStatus>,
    /// Signal that asks it to stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
}

/// What was observed of a mount.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeMountStatus {
    /// The volume.
    #[serde(default)]
    pub name: String,
    /// Where it is mounted.
    #[serde(default)]
    pub mount_path: String,
    /// Whether writes are refused.
    #[serde(default, skip_serializing_if = "is_default")]
    pub read_only: bool,
    /// Whether that holds for mounts below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recursive_read_only: Option<String>,
}

/// Who a process runs as.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerUser {
    /// On Linux.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linux: Option<LinuxContainerUser>,
}

/// Who a process runs as on Linux.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LinuxContainerUser {
    /// User id.
    #[serde(default)]
    pub uid: i64,
    /// Group id.
    #[serde(default)]
    pub gid: i64,
    /// Further groups.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub supplemental_groups: Vec<i64>,
}

/// Health of a kind of device.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceStatus {
    /// The resource.
    #[serde(default)]
    pub name: String,
    /// Of each device.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["resourceID"]))]
    pub resources: Vec<ResourceHealth>,
}

/// Health of a device.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceHealth {
    /// The device.
    #[serde(rename = "resourceID", default)]
    pub resource_id: String,
    /// `Healthy`, `Unhealthy` or `Unknown`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub health: String,
}

/// Where a container is in its life; one of three.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerState {
    /// Not yet started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<ContainerStateWaiting>,
    /// Running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<ContainerStateRunning>,
    /// Ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminated: Option<ContainerStateTerminated>,
}

/// A container that was not started.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerStateWaiting {
    /// Why, one word.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reason: String,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "is_default")]
    pub message: String,
}

/// A container that runs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerStateRunning {
    /// Since when.
    #[serde(default)]
    pub started_at: Option<Time>,
}

/// A container that ended.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerStateTerminated {
    /// Its exit code.
    #[serde(default)]
    pub exit_code: i32,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub signal: i32,
    /// Why, one word.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reason: String,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "is_default")]
    pub message: String,
    /// When it was started.
    #[serde(default)]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(default)]
    pub finished_at: Option<Time>,
    /// Its id.
    #[serde(rename = "containerID", default, skip_serializing_if = "is_default")]
    pub container_id: String,
}
