//! What a pod is to be.

use super::{
    Affinity, Container, EphemeralContainer, PodResourceClaim, PodSecurityContext, ResourceRequirements, Toleration,
    TopologySpreadConstraint, Volume,
};
use crate::api::LocalObjectReference;
use crate::api::wire::{self, is_default};
use crate::quantity::Quantity;
use crate::string_enum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

string_enum! {
    /// Whether containers that ended are restarted.
    pub enum RestartPolicy {
        /// Always.
        Always,
        /// After an error.
        OnFailure,
        /// Never.
        Never,
    }
}

string_enum! {
    /// Where names are looked up.
    pub enum DnsPolicy {
        /// The cluster's DNS first, also on the node's network.
        ClusterFirstWithHostNet,
        /// The cluster's DNS first.
        ClusterFirst,
        /// As the node does.
        Default,
        /// As `dnsConfig` says.
        None,
    }
}

string_enum! {
    /// Whether pods of lower priority are evicted for a pod.
    pub enum PreemptionPolicy {
        /// They may be.
        PreemptLowerPriority,
        /// They are not.
        Never,
    }
}

/// What a pod is to be.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodSpec {
    /// Volumes that its containers may mount.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"], "x-kubernetes-patch-merge-key" = "name", "x-kubernetes-patch-strategy" = "merge,retainKeys"))]
    pub volumes: Vec<Volume>,
    /// Containers that run to their end, one after the other, before the others start.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"], "x-kubernetes-patch-merge-key" = "name", "x-kubernetes-patch-strategy" = "merge"))]
    pub init_containers: Vec<Container>,
    /// Containers; at least one.
    #[serde(default, serialize_with = "wire::empty_as_null", deserialize_with = "wire::null_as_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"], "x-kubernetes-patch-merge-key" = "name", "x-kubernetes-patch-strategy" = "merge"))]
    pub containers: Vec<Container>,
    /// Containers added for debugging.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"], "x-kubernetes-patch-merge-key" = "name", "x-kubernetes-patch-strategy" = "merge"))]
    pub ephemeral_containers: Vec<EphemeralContainer>,
    /// Whether containers that ended are restarted; `Always` by default.
    #[serde(default, skip_serializing_if = "is_default")]
    pub restart_policy: RestartPolicy,
    /// Seconds to stop in; 30 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination_grace_period_seconds: Option<i64>,
    /// Seconds after which it is stopped and failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_deadline_seconds: Option<i64>,
    /// Where names are looked up; `ClusterFirst` by default.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dns_policy: DnsPolicy,
    /// Labels that its node must have.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub node_selector: BTreeMap<String, String>,
    /// Its service account.
    #[serde(default, skip_serializing_if = "is_default")]
    pub service_account_name: String,
    /// Former name of `serviceAccountName`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub service_account: String,
    /// Whether the account's token is mounted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub automount_service_account_token: Option<bool>,
    /// Its node; set by the scheduler.
    #[serde(default, skip_serializing_if = "is_default")]
    pub node_name: String,
    /// Whether it uses the node's network.
    #[serde(default, skip_serializing_if = "is_default")]
    pub host_network: bool,
    /// Whether it sees the node's processes.
    #[serde(rename = "hostPID", default, skip_serializing_if = "is_default")]
    pub host_pid: bool,
    /// Whether it uses the node's IPC.
    #[serde(rename = "hostIPC", default, skip_serializing_if = "is_default")]
    pub host_ipc: bool,
    /// Whether its containers see each other's processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_process_namespace: Option<bool>,
    /// Identity and rights of all its containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_context: Option<Box<PodSecurityContext>>,
    /// Secrets for fetching images.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"], "x-kubernetes-patch-merge-key" = "name", "x-kubernetes-patch-strategy" = "merge"))]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Its host name; its name if empty.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hostname: String,
    /// Its subdomain.
    #[serde(default, skip_serializing_if = "is_default")]
    pub subdomain: String,
    /// Where it wants to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Box<Affinity>>,
    /// The scheduler that places it; `default-scheduler` by default.
    #[serde(default, skip_serializing_if = "is_default")]
    pub scheduler_name: String,
    /// Taints that it puts up with.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub tolerations: Vec<Toleration>,
    /// Lines of its `/etc/hosts`.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["ip"], "x-kubernetes-patch-merge-key" = "ip", "x-kubernetes-patch-strategy" = "merge"))]
    pub host_aliases: Vec<HostAlias>,
    /// Its priority, by name.
    #[serde(default, skip_serializing_if = "is_default")]
    pub priority_class_name: String,
    /// Its priority; set from its class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// How names are looked up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_config: Option<Box<PodDNSConfig>>,
    /// Further conditions that must hold for it to be ready.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub readiness_gates: Vec<PodReadinessGate>,
    /// Class of the runtime that runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_class_name: Option<String>,
    /// Whether Services become environment variables; yes by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_service_links: Option<bool>,
    /// Whether others are evicted for it; `PreemptLowerPriority` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preemption_policy: Option<PreemptionPolicy>,
    /// Resources that running it costs beside its containers; set from its runtime class.
    #[serde(default, skip_serializing_if = "is_default")]
    pub overhead: BTreeMap<String, Quantity>,
    /// How evenly it and its like are spread.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["topologyKey", "whenUnsatisfiable"], "x-kubernetes-patch-merge-key" = "topologyKey", "x-kubernetes-patch-strategy" = "merge"))]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// Whether its host name is its full name.
    #[serde(rename = "setHostnameAsFQDN", default, skip_serializing_if = "Option::is_none")]
    pub set_hostname_as_fqdn: Option<bool>,
    /// Its operating system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os: Option<PodOS>,
    /// Whether it uses the node's users; yes by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_users: Option<bool>,
    /// While there are any, it is not placed.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"], "x-kubernetes-patch-merge-key" = "name", "x-kubernetes-patch-strategy" = "merge"))]
    pub scheduling_gates: Vec<PodSchedulingGate>,
    /// Claims of devices.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"], "x-kubernetes-patch-merge-key" = "name", "x-kubernetes-patch-strategy" = "merge,retainKeys"))]
    pub resource_claims: Vec<PodResourceClaim>,
    /// Resources of the whole pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Box<ResourceRequirements>>,
    /// Its host name, whatever else says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname_override: Option<String>,
    /// The workload that it is part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_ref: Option<Box<WorkloadReference>>,
}

/// A line of `/etc/hosts`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostAlias {
    /// Address.
    #[serde(default)]
    pub ip: String,
    /// Names.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub hostnames: Vec<String>,
}

/// How names are looked up.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodDNSConfig {
    /// Servers.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub nameservers: Vec<String>,
    /// Search domains.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub searches: Vec<String>,
    /// Options of the resolver.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub options: Vec<PodDNSConfigOption>,
}

/// An option of the resolver.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodDNSConfigOption {
    /// Name.
    #[serde(default, skip_serializing_if = "is_default")]
    pub name: String,
    /// Value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// A condition that must hold.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodReadinessGate {
    /// Its type.
    #[serde(default)]
    pub condition_type: String,
}

/// An operating system.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodOS {
    /// `linux` or `windows`.
    #[serde(default)]
    pub name: String,
}

/// Something that holds back a pod's placement.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodSchedulingGate {
    /// Its name.
    #[serde(default)]
    pub name: String,
}

/// The workload that a pod is part of.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadReference {
    /// The workload.
    #[serde(default)]
    pub name: String,
    /// The pod's group in it.
    #[serde(default)]
    pub pod_group: String,
    /// The group's replica.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pod_group_replica_key: String,
}
