//! The kinds of objects, one file or folder each, and the one list of those that an API server offers.

mod columns;
mod rules;
pub(crate) mod wire;
mod workload;

pub mod byte_string;
pub mod certificate_signing_request;
pub mod cluster_role;
pub mod cluster_role_binding;
pub mod condition;
pub mod config_map;
pub mod controller_revision;
pub mod cron_job;
pub mod csi_driver;
pub mod csi_node;
pub mod csi_storage_capacity;
pub mod daemon_set;
pub mod deployment;
pub mod endpoint_slice;
pub mod endpoints;
pub mod event;
pub mod ingress;
pub mod job;
pub mod lease;
pub mod limit_range;
pub mod namespace;
pub mod network_policy;
pub mod node;
pub mod persistent_volume;
pub mod persistent_volume_claim;
pub mod pod;
pub mod pod_disruption_budget;
pub mod pod_group;
pub mod priority_class;
pub mod protocol;
pub mod reference;
pub mod replica_set;
pub mod replication_controller;
pub mod resource_quota;
pub mod resources;
pub mod role;
pub mod role_binding;
pub mod scale;
pub mod secret;
pub mod service;
pub mod service_account;
pub mod stateful_set;
pub mod storage_class;
pub mod token_request;

pub use byte_string::ByteString;
pub use certificate_signing_request::CertificateSigningRequest;
pub use cluster_role::ClusterRole;
pub use cluster_role_binding::ClusterRoleBinding;
pub use condition::ConditionStatus;
pub use config_map::ConfigMap;
pub use controller_revision::ControllerRevision;
pub use cron_job::CronJob;
pub use csi_driver::CSIDriver;
pub use csi_node::CSINode;
pub use csi_storage_capacity::CSIStorageCapacity;
pub use daemon_set::DaemonSet;
pub use deployment::Deployment;
pub use endpoint_slice::EndpointSlice;
pub use endpoints::Endpoints;
pub use event::Event;
pub use ingress::Ingress;
pub use job::{Job, JobSpec, JobTemplateSpec};
pub use lease::Lease;
pub use limit_range::LimitRange;
pub use namespace::Namespace;
pub use network_policy::NetworkPolicy;
pub use node::Node;
pub use persistent_volume::{PersistentVolume, PersistentVolumeSpec, PersistentVolumeStatus};
pub use persistent_volume_claim::{
    PersistentVolumeClaim, PersistentVolumeClaimPhase, PersistentVolumeClaimSpec, PersistentVolumeClaimStatus,
};
pub use pod::{Binding, Pod, PodTemplate, PodTemplateSpec};
pub use pod_disruption_budget::PodDisruptionBudget;
pub use pod_group::PodGroup;
pub use priority_class::PriorityClass;
pub use protocol::Protocol;
pub use reference::{
    LocalObjectReference, ObjectReference, SecretReference, TypedLocalObjectReference, TypedObjectReference,
};
pub use replica_set::ReplicaSet;
pub use replication_controller::ReplicationController;
pub use resource_quota::ResourceQuota;
pub use resources::ResourceList;
pub use role::Role;
pub use role_binding::RoleBinding;
pub use scale::Scale;
pub use secret::Secret;
pub use service::Service;
pub use service_account::ServiceAccount;
pub use stateful_set::StatefulSet;
pub use storage_class::StorageClass;
pub use token_request::TokenRequest;
pub use wire::{
    AppsV1, AuthenticationV1, AutoscalingV1, BatchV1, CertificatesV1, CoordinationV1, DiscoveryV1, NetworkingV1,
    PolicyV1, RbacV1, SchedulingV1, SchedulingXV1alpha1, StorageV1, V1,
};

use crate::kind::KindType;

/// Every kind that an API server offers. A new kind is one more line here.
static KINDS: &[&KindType] = &[
    KindType::of::<CertificateSigningRequest>(),
    KindType::of::<ClusterRole>(),
    KindType::of::<ClusterRoleBinding>(),
    KindType::of::<ConfigMap>(),
    KindType::of::<ControllerRevision>(),
    KindType::of::<CSIDriver>(),
    KindType::of::<CSINode>(),
    KindType::of::<CSIStorageCapacity>(),
    KindType::of::<DaemonSet>(),
    KindType::of::<Deployment>(),
    KindType::of::<Job>(),
    KindType::of::<ReplicaSet>(),
    KindType::of::<ReplicationController>(),
    KindType::of::<StatefulSet>(),
    KindType::of::<EndpointSlice>(),
    KindType::of::<Endpoints>(),
    KindType::of::<Event>(),
    KindType::of::<Lease>(),
    KindType::of::<LimitRange>(),
    KindType::of::<Namespace>(),
    KindType::of::<NetworkPolicy>(),
    KindType::of::<Node>(),
    KindType::of::<PersistentVolume>(),
    KindType::of::<PersistentVolumeClaim>(),
    KindType::of::<Pod>(),
    KindType::of::<PodDisruptionBudget>(),
    KindType::of::<PodGroup>(),
    KindType::of::<PodTemplate>(),
    KindType::of::<PriorityClass>(),
    KindType::of::<ResourceQuota>(),
    KindType::of::<Role>(),
    KindType::of::<RoleBinding>(),
    KindType::of::<Secret>(),
    KindType::of::<Service>(),
    KindType::of::<ServiceAccount>(),
    KindType::of::<StorageClass>(),
];

/// Every kind that an API server offers.
pub fn kinds() -> &'static [&'static KindType] {
    KINDS
}

/// The kind with this `apiVersion` and `kind`, if it is offered.
pub fn find(api_version: &str, kind: &str) -> Option<&'static KindType> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    KINDS.iter().copied().find(|of| of.info.kind == kind && of.info.group == group && of.info.version == version)
}

/// The kind served under this group, version and plural, if it is offered.
pub fn find_resource(group: &str, version: &str, plural: &str) -> Option<&'static KindType> {
    KINDS.iter().copied().find(|of| of.info.plural == plural && of.info.group == group && of.info.version == version)
}

#[cfg(test)]
mod workload_tests;
