//! Containers of a pod: what they run, with what, and how their health is told.

use super::{
    EnvFromSource, EnvVar, Lifecycle, Probe, ResourceRequirements, SecurityContext, VolumeDevice, VolumeMount,
};
use crate::api::Protocol;
use crate::api::wire::is_default;
use crate::string_enum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

string_enum! {
    /// When an image is fetched.
    pub enum PullPolicy {
        /// Before every start.
        Always,
        /// Never; it must be on the node.
        Never,
        /// If it is not on the node.
        IfNotPresent,
    }
}

string_enum! {
    /// Where the explanation of a container's end comes from.
    pub enum TerminationMessagePolicy {
        /// Its termination message file.
        File,
        /// That file, or after an error the end of its log.
        FallbackToLogsOnError,
    }
}

string_enum! {
    /// Whether a container of its own policy is restarted.
    pub enum ContainerRestartPolicy {
        /// Always.
        Always,
        /// Never.
        Never,
        /// After an error.
        OnFailure,
    }
}

string_enum! {
    /// What a restart rule does.
    pub enum ContainerRestartRuleAction {
        /// Restarts the container.
        Restart,
        /// Restarts all containers of the pod.
        RestartAllContainers,
    }
}

string_enum! {
    /// How exit codes are compared.
    pub enum ContainerRestartRuleOnExitCodesOperator {
        /// The code is one of the values.
        In,
        /// The code is none of the values.
        NotIn,
    }
}

/// One container of a pod.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// Name, unique in the pod; a DNS label.
    #[serde(default)]
    pub name: String,
    /// Image to run.
    #[serde(default, skip_serializing_if = "is_default")]
    pub image: String,
    /// Entry point; the image's if empty. `$(VAR)` is expanded.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub command: Vec<String>,
    /// Arguments; the image's if empty. `$(VAR)` is expanded.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub args: Vec<String>,
    /// Working directory; the image's if empty.
    #[serde(default, skip_serializing_if = "is_default")]
    pub working_dir: String,
    /// Ports that it listens on.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["containerPort", "protocol"], "x-kubernetes-patch-merge-key" = "containerPort", "x-kubernetes-patch-strategy" = "merge"))]
    pub ports: Vec<ContainerPort>,
    /// Sources whose every key becomes a variable.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub env_from: Vec<EnvFromSource>,
    /// Environment variables.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"], "x-kubernetes-patch-merge-key" = "name", "x-kubernetes-patch-strategy" = "merge"))]
    pub env: Vec<EnvVar>,
    /// CPU, memory and other resources that it asks for.
    #[serde(default)]
    pub resources: ResourceRequirements,
    /// What a change of resources in place needs, by resource.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub resize_policy: Vec<ContainerResizePolicy>,
    /// Restart policy of this container alone; `Always` makes an init container a sidecar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<ContainerRestartPolicy>,
    /// Rules that decide about a restart before the policy does.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub restart_policy_rules: Vec<ContainerRestartRule>,
    /// Volumes mounted into its file system.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["mountPath"], "x-kubernetes-patch-merge-key" = "mountPath", "x-kubernetes-patch-strategy" = "merge"))]
    pub volume_mounts: Vec<VolumeMount>,
    /// Raw block devices.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["devicePath"], "x-kubernetes-patch-merge-key" = "devicePath", "x-kubernetes-patch-strategy" = "merge"))]
    pub volume_devices: Vec<VolumeDevice>,
    /// Restarts the container when it fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness_probe: Option<Box<Probe>>,
    /// Takes the pod out of Services while it fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness_probe: Option<Box<Probe>>,
    /// Holds the other probes back until it succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup_probe: Option<Box<Probe>>,
    /// What runs after the start and before the stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<Box<Lifecycle>>,
    /// File whose content explains the container's end.
    #[serde(default, skip_serializing_if = "is_default")]
    pub termination_message_path: String,
    /// Where that explanation comes from.
    #[serde(default, skip_serializing_if = "is_default")]
    pub termination_message_policy: TerminationMessagePolicy,
    /// When the image is fetched.
    #[serde(default, skip_serializing_if = "is_default")]
    pub image_pull_policy: PullPolicy,
    /// Identity and rights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_context: Option<Box<SecurityContext>>,
    /// Whether standard input stays open.
    #[serde(default, skip_serializing_if = "is_default")]
    pub stdin: bool,
    /// Whether standard input closes after the first attach ends.
    #[serde(default, skip_serializing_if = "is_default")]
    pub stdin_once: bool,
    /// Whether it has a terminal.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tty: bool,
}

/// A container added to a running pod for debugging.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EphemeralContainer {
    /// Name, unique in the pod; a DNS label.
    #[serde(default)]
    pub name: String,
    /// Image to run.
    #[serde(default, skip_serializing_if = "is_default")]
    pub image: String,
    /// Entry point; the image's if empty.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub command: Vec<String>,
    /// Arguments; the image's if empty.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub args: Vec<String>,
    /// Working directory; the image's if empty.
    #[serde(default, skip_serializing_if = "is_default")]
    pub working_dir: String,
    /// Not allowed here.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["containerPort", "protocol"], "x-kubernetes-patch-merge-key" = "containerPort", "x-kubernetes-patch-strategy" = "merge"))]
    pub ports: Vec<ContainerPort>,
    /// Sources whose every key becomes a variable.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub env_from: Vec<EnvFromSource>,
    /// Environment variables.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"], "x-kubernetes-patch-merge-key" = "name", "x-kubernetes-patch-strategy" = "merge"))]
    pub env: Vec<EnvVar>,
    /// Not allowed here.
    #[serde(default)]
    pub resources: ResourceRequirements,
    /// Not allowed here.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub resize_policy: Vec<ContainerResizePolicy>,
    /// Not allowed here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<ContainerRestartPolicy>,
    /// Not allowed here.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub restart_policy_rules: Vec<ContainerRestartRule>,
    /// Volumes mounted into its file system.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["mountPath"], "x-kubernetes-patch-merge-key" = "mountPath", "x-kubernetes-patch-strategy" = "merge"))]
    pub volume_mounts: Vec<VolumeMount>,
    /// Raw block devices.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["devicePath"], "x-kubernetes-patch-merge-key" = "devicePath", "x-kubernetes-patch-strategy" = "merge"))]
    pub volume_devices: Vec<VolumeDevice>,
    /// Not allowed here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness_probe: Option<Box<Probe>>,
    /// Not allowed here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness_probe: Option<Box<Probe>>,
    /// Not allowed here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup_probe: Option<Box<Probe>>,
    /// Not allowed here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle: Option<Box<Lifecycle>>,
    /// File whose content explains the container's end.
    #[serde(default, skip_serializing_if = "is_default")]
    pub termination_message_path: String,
    /// Where that explanation comes from.
    #[serde(default, skip_serializing_if = "is_default")]
    pub termination_message_policy: TerminationMessagePolicy,
    /// When the image is fetched.
    #[serde(default, skip_serializing_if = "is_default")]
    pub image_pull_policy: PullPolicy,
    /// Identity and rights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_context: Option<Box<SecurityContext>>,
    /// Whether standard input stays open.
    #[serde(default, skip_serializing_if = "is_default")]
    pub stdin: bool,
    /// Whether standard input closes after the first attach ends.
    #[serde(default, skip_serializing_if = "is_default")]
    pub stdin_once: bool,
    /// Whether it has a terminal.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tty: bool,
    /// Container whose processes it sees.
    #[serde(default, skip_serializing_if = "is_default")]
    pub target_container_name: String,
}

impl EphemeralContainer {
    /// The container that it is but for its target.
    pub fn as_container(&self) -> Container {
        let EphemeralContainer {
            name,
            image,
            command,
            args,
            working_dir,
            ports,
            env_from,
            env,
            resources,
            resize_policy,
            restart_policy,
            restart_policy_rules,
            volume_mounts,
            volume_devices,
            liveness_probe,
            readiness_probe,
            startup_probe,
            lifecycle,
            termination_message_path,
            termination_message_policy,
            image_pull_policy,
            security_context,
            stdin,
            stdin_once,
            tty,
            target_container_name: _,
        } = self.clone();
        Container {
            name,
            image,
            command,
            args,
            working_dir,
            ports,
            env_from,
            env,
            resources,
            resize_policy,
            restart_policy,
            restart_policy_rules,
            volume_mounts,
            volume_devices,
            liveness_probe,
            readiness_probe,
            startup_probe,
            lifecycle,
            termination_message_path,
            termination_message_policy,
            image_pull_policy,
            security_context,
            stdin,
            stdin_once,
            tty,
        }
    }
}

/// A port that a container listens on.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerPort {
    /// Name by which Services refer to it; unique in the pod.
    #[serde(default, skip_serializing_if = "is_default")]
    pub name: String,
    /// Port of the node that leads to it, 0 for none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub host_port: i32,
    /// Port in the pod, 1 to 65535.
    #[serde(default)]
    pub container_port: i32,
    /// Transport protocol; TCP by default.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = "TCP"))]
    pub protocol: Protocol,
    /// Address of the node to bind the host port to; all if empty.
    #[serde(rename = "hostIP", default, skip_serializing_if = "is_default")]
    pub host_ip: String,
}

/// What a change of one resource in place needs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerResizePolicy {
    /// The resource.
    #[serde(default)]
    pub resource_name: String,
    /// `NotRequired` or `RestartContainer`.
    #[serde(default)]
    pub restart_policy: String,
}

/// One rule about restarts; the first that matches decides.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerRestartRule {
    /// What to do.
    #[serde(default, skip_serializing_if = "is_default")]
    pub action: ContainerRestartRuleAction,
    /// Exit codes that it matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_codes: Option<ContainerRestartRuleOnExitCodes>,
}

/// Exit codes that a restart rule matches.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerRestartRuleOnExitCodes {
    /// How they are compared.
    #[serde(default, skip_serializing_if = "is_default")]
    pub operator: ContainerRestartRuleOnExitCodesOperator,
    /// The codes.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub values: Vec<i32>,
}
