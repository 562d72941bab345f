//! Pod: one or more containers that live and die together on one node.

mod affinity;
mod attached_volume;
mod columns;
mod container;
mod defaults;
mod env;
pub mod helpers;
mod normalize;
mod probe;
mod qos;
mod resources;
mod security;
mod spec;
mod status;
pub(crate) mod validation;
mod volume;

pub use affinity::{
    Affinity, NodeAffinity, NodeInclusionPolicy, NodeSelector, NodeSelectorOperator, NodeSelectorRequirement,
    NodeSelectorTerm, PodAffinity, PodAffinityTerm, PodAntiAffinity, PreferredSchedulingTerm, Toleration,
    TolerationOperator, TopologySpreadConstraint, UnsatisfiableConstraintAction, WeightedPodAffinityTerm,
};
pub use attached_volume::{
    AWSElasticBlockStoreVolumeSource, AzureDiskVolumeSource, AzureFileVolumeSource, CephFSVolumeSource,
    CinderVolumeSource, FCVolumeSource, FlexVolumeSource, FlockerVolumeSource, GCEPersistentDiskVolumeSource,
    GitRepoVolumeSource, GlusterfsVolumeSource, ISCSIVolumeSource, NFSVolumeSource, PhotonPersistentDiskVolumeSource,
    PortworxVolumeSource, QuobyteVolumeSource, RBDVolumeSource, ScaleIOVolumeSource, StorageOSVolumeSource,
    VsphereVirtualDiskVolumeSource,
};
pub use container::{
    Container, ContainerPort, ContainerResizePolicy, ContainerRestartPolicy, ContainerRestartRule,
    ContainerRestartRuleAction, ContainerRestartRuleOnExitCodes, ContainerRestartRuleOnExitCodesOperator,
    EphemeralContainer, PullPolicy, TerminationMessagePolicy,
};
pub use env::{
    ConfigMapEnvSource, ConfigMapKeySelector, EnvFromSource, EnvVar, EnvVarSource, FileKeySelector,
    ObjectFieldSelector, ResourceFieldSelector, SecretEnvSource, SecretKeySelector,
};
pub use probe::{
    ExecAction, GRPCAction, HTTPGetAction, HTTPHeader, Lifecycle, LifecycleHandler, Probe, SleepAction,
    TCPSocketAction, UriScheme,
};
pub use qos::qos_class;
pub use resources::{PodResourceClaim, ResourceClaim, ResourceRequirements};
pub use security::{
    AppArmorProfile, AppArmorProfileType, Capabilities, PodFSGroupChangePolicy, PodSELinuxChangePolicy,
    PodSecurityContext, ProcMountType, SELinuxOptions, SeccompProfile, SeccompProfileType, SecurityContext,
    SupplementalGroupsPolicy, Sysctl, WindowsSecurityContextOptions,
};
pub use spec::{
    DnsPolicy, HostAlias, PodDNSConfig, PodDNSConfigOption, PodOS, PodReadinessGate, PodSchedulingGate, PodSpec,
    PreemptionPolicy, RestartPolicy, WorkloadReference,
};
pub use status::{
    ContainerExtendedResourceRequest, ContainerState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, ContainerUser, HostIP, LinuxContainerUser, PodCondition,
    PodExtendedResourceClaimStatus, PodIP, PodPhase, PodQosClass, PodResourceClaimStatus, PodStatus, ResourceHealth,
    ResourceStatus, VolumeMountStatus,
};
pub use volume::{
    CSIVolumeSource, ClusterTrustBundleProjection, ConfigMapProjection, ConfigMapVolumeSource, DownwardAPIProjection,
    DownwardAPIVolumeFile, DownwardAPIVolumeSource, EmptyDirVolumeSource, EphemeralVolumeSource, HostPathType,
    HostPathVolumeSource, ImageVolumeSource, KeyToPath, MountPropagationMode, PersistentVolumeClaimTemplate,
    PersistentVolumeClaimVolumeSource, PodCertificateProjection, ProjectedVolumeSource, RecursiveReadOnlyMode,
    SecretProjection, SecretVolumeSource, ServiceAccountTokenProjection, StorageMedium, Volume, VolumeDevice,
    VolumeMount, VolumeProjection,
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::wire::is_default;
use super::{V1, rules, wire};
use crate::kind::{Column, Kind, Subresource};
use crate::validation::{ErrorList, NameRule, Path};

/// One or more containers that share a network, volumes and a node, and live and die together.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub struct Pod {
    /// Version of the API.
    #[serde(default)]
    pub api_version: V1,
    /// Name, namespace, labels and the rest of the object's metadata.
    #[serde(default, deserialize_with = "wire::metadata")]
    pub metadata: ObjectMeta,
    /// What the pod is to be.
    #[serde(default)]
    pub spec: PodSpec,
    /// What was observed of it.
    #[serde(default)]
    pub status: PodStatus,
}

/// What pods are made from.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodTemplateSpec {
    /// Labels and annotations of the pods.
    #[serde(default, deserialize_with = "wire::metadata")]
    pub metadata: ObjectMeta,
    /// What the pods are to be.
    #[serde(default)]
    pub spec: PodSpec,
}

impl PodTemplateSpec {
    /// Fills what the user left out, as upstream does for a template.
    pub fn set_defaults(&mut self) {
        defaults::set_spec_defaults(&mut self.spec);
    }

    /// See [`Kind::normalize`].
    pub fn normalize(&mut self) {
        normalize::drop_init_annotations(&mut self.metadata);
        normalize::spec(&mut self.spec);
    }
}

crate::kind!(
    Pod, v1, "pods", singular "pod", Namespaced, short ["po"], categories ["all"],
    subresources [Status, Attach, Binding, Eviction, EphemeralContainers, Exec, Explain, Log, PortForward, Resize]
);

impl Kind for Pod {
    fn set_defaults(&mut self) {
        defaults::set_pod_defaults(self);
    }

    fn normalize(&mut self) {
        normalize::drop_init_annotations(&mut self.metadata);
        normalize::spec(&mut self.spec);
        normalize::status(&mut self.status);
    }

    fn prepare_for_create(&mut self) {
        self.metadata.generation = Some(1);
        helpers::merge_label_keys(self);
        self.status = PodStatus { phase: PodPhase::Pending, qos_class: qos_class(&self.spec), ..PodStatus::default() };
    }

    fn prepare_for_update(&mut self, old: &Self, subresource: Option<Subresource>) {
        match subresource {
            Some(Subresource::Status) => {
                let status = std::mem::take(&mut self.status);
                let metadata = std::mem::take(&mut self.metadata);
                *self = old.clone();
                self.metadata = metadata;
                self.metadata.deletion_timestamp = old.metadata.deletion_timestamp.clone();
                // The owners decide who collects the pod; an agent that reports its status has no say in that.
                self.metadata.owner_references = old.metadata.owner_references.clone();
                self.status = status;
                if self.status.qos_class.is_unset() {
                    self.status.qos_class = old.status.qos_class.clone();
                }
            }
            Some(Subresource::EphemeralContainers) => {
                let added = std::mem::take(&mut self.spec.ephemeral_containers);
                self.spec = old.spec.clone();
                self.spec.ephemeral_containers = added;
                self.status = old.status.clone();
            }
            Some(Subresource::Resize) => keep_all_but_sizes(self, old),
            _ => self.status = old.status.clone(),
        }
        rules::set_generation(&mut self.metadata, &old.metadata, self.spec != old.spec);
    }

    fn validate(&self) -> ErrorList {
        validation::validate_pod(self)
    }

    fn validate_update(&self, old: &Self, subresource: Option<Subresource>) -> ErrorList {
        match subresource {
            Some(Subresource::Status) => validation::validate_status_update(self, old),
            Some(Subresource::EphemeralContainers) => validation::validate_ephemeral_containers_update(self, old),
            Some(Subresource::Resize) => validation::validate_resize(self, old),
            // What an assignment may be, the registry checks against the node.
            Some(Subresource::Binding) => rules::validate_update(self, old),
            _ => validation::validate_pod_update(self, old),
        }
    }

    fn columns() -> &'static [Column] {
        columns::COLUMNS
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        columns::row(self, now)
    }

    fn field(&self, label: &str) -> Option<String> {
        Some(match label {
            "spec.nodeName" => self.spec.node_name.clone(),
            "spec.restartPolicy" => self.spec.restart_policy.to_string(),
            "spec.schedulerName" => self.spec.scheduler_name.clone(),
            "spec.serviceAccountName" => self.spec.service_account_name.clone(),
            "spec.hostNetwork" => self.spec.host_network.to_string(),
            "status.phase" => self.status.phase.to_string(),
            "status.podIP" => self.status.pod_ip.clone(),
            "status.nominatedNodeName" => self.status.nominated_node_name.clone(),
            _ => return None,
        })
    }

    fn selectable_fields() -> &'static [&'static str] {
        &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            // Taken, but always empty: upstream's pods do not offer the list's text.
            "status.podIPs",
            "status.nominatedNodeName",
        ]
    }

    fn renamed_fields() -> &'static [(&'static str, &'static str)] {
        &[("spec.host", "spec.nodeName")]
    }
}

/// Puts everything back that a resize does not change: it is about resources, and how containers take a change of them.
fn keep_all_but_sizes(pod: &mut Pod, old: &Pod) {
    let wanted = std::mem::replace(&mut pod.spec, old.spec.clone());
    let version = pod.metadata.resource_version.take();
    let managed = pod.metadata.managed_fields.take();
    pod.metadata.clone_from(&old.metadata);
    (pod.metadata.resource_version, pod.metadata.managed_fields) = (version, managed);
    pod.status.clone_from(&old.status);
    let resize = |containers: &mut Vec<Container>, wanted: Vec<Container>| {
        for wanted in wanted {
            if let Some(container) = containers.iter_mut().find(|container| container.name == wanted.name) {
                container.resources = wanted.resources;
                container.resize_policy = wanted.resize_policy;
            }
        }
    };
    resize(&mut pod.spec.containers, wanted.containers);
    resize(&mut pod.spec.init_containers, wanted.init_containers);
}

/// A pod from which others are made, stored on its own.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub struct PodTemplate {
    /// Version of the API.
    #[serde(default)]
    pub api_version: V1,
    /// Name, namespace, labels and the rest of the object's metadata.
    #[serde(default, deserialize_with = "wire::metadata")]
    pub metadata: ObjectMeta,
    /// What the pods are made from.
    #[serde(default)]
    pub template: PodTemplateSpec,
}

crate::kind!(PodTemplate, v1, "podtemplates", singular "podtemplate", Namespaced, short [], categories [], subresources []);

impl Kind for PodTemplate {
    fn set_defaults(&mut self) {
        self.template.set_defaults();
    }

    fn normalize(&mut self) {
        self.template.normalize();
    }

    fn prepare_for_create(&mut self) {
        self.metadata.generation = Some(1);
    }

    fn prepare_for_update(&mut self, old: &Self, _subresource: Option<Subresource>) {
        rules::set_generation(&mut self.metadata, &old.metadata, self.template != old.template);
    }

    fn validate(&self) -> ErrorList {
        let mut errors = rules::validate(self, NameRule::DnsSubdomain);
        validation::validate_template(&self.template, &Path::new("template"), &mut errors);
        errors
    }

    fn validate_update(&self, old: &Self, _subresource: Option<Subresource>) -> ErrorList {
        let mut errors = rules::validate_update(self, old);
        validation::validate_template(&self.template, &Path::new("template"), &mut errors);
        errors
    }

    fn columns() -> &'static [Column] {
        columns::TEMPLATE_COLUMNS
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        columns::template_row(self, now)
    }
}

/// The assignment of a pod to a node, as `pods/binding` takes it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub struct Binding {
    /// Version of the API.
    #[serde(default)]
    pub api_version: V1,
    /// Name and namespace of the pod; annotations are put on it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub metadata: ObjectMeta,
    /// The node.
    #[serde(default)]
    pub target: super::ObjectReference,
}

#[cfg(test)]
mod tests;
