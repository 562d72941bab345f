//! CSIDriver: what a storage driver can do.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::StorageV1;
use crate::api::columns::{self, AGE, NAME, column};
use crate::api::csi_node::validate_driver_name;
use crate::api::rules;
use crate::api::wire::{self, is_default};
use crate::kind::{Column, Kind, Subresource};
use crate::validation::{ErrorList, NameRule, Path, Report};
use crate::{kind, string_enum};

/// What the storage driver of the same name can do.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
#[allow(clippy::upper_case_acronyms, reason = "upstream's name of the kind")]
pub struct CSIDriver {
    /// Version of the API.
    #[serde(default)]
    pub api_version: StorageV1,
    /// Name, labels and the rest of the object's metadata.
    #[serde(default, deserialize_with = "wire::metadata")]
    pub metadata: ObjectMeta,
    /// What it can do.
    #[serde(default)]
    pub spec: CSIDriverSpec,
}

/// What a storage driver can do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CSIDriverSpec {
    /// Whether volumes must be attached to a node before they can be mounted; `true` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attach_required: Option<bool>,
    /// Whether the driver is told about the pod when it mounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_info_on_mount: Option<bool>,
    /// What sorts of volume it offers; `Persistent` by default.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub volume_lifecycle_modes: Vec<VolumeLifecycleMode>,
    /// Whether it publishes how much room there is, which the scheduler is to heed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_capacity: Option<bool>,
    /// When a volume's group is changed at mounting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fs_group_policy: Option<FSGroupPolicy>,
    /// Tokens of the pod's service account that it is given.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub token_requests: Vec<TokenRequest>,
    /// Whether it is asked again and again to publish a volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requires_republish: Option<bool>,
    /// Whether it can mount with an SELinux context.
    #[serde(rename = "seLinuxMount", default, skip_serializing_if = "Option::is_none")]
    pub se_linux_mount: Option<bool>,
    /// How often a node's number of volumes is asked for, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_allocatable_update_period_seconds: Option<i64>,
    /// Whether tokens are given as a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_token_in_secrets: Option<bool>,
}

/// A token of a pod's service account.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenRequest {
    /// For whom it is.
    #[serde(default)]
    pub audience: String,
    /// How long it lives, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration_seconds: Option<i64>,
}

string_enum! {
    /// A sort of volume.
    pub enum VolumeLifecycleMode {
        /// Claimed, and outliving pods.
        Persistent,
        /// Written in the pod, and gone with it.
        Ephemeral,
    }
}

string_enum! {
    /// When a volume's group is changed at mounting.
    pub enum FSGroupPolicy {
        /// If it has a file system and is used by one node.
        ReadWriteOnceWithFSType,
        /// Always.
        File,
        /// Never.
        None,
    }
}

kind!(CSIDriver, "storage.k8s.io"/v1, "csidrivers", singular "csidriver", Cluster, short [], categories [], subresources []);

const COLUMNS: &[Column] = &[
    NAME,
    column("AttachRequired", "boolean", "Whether volumes must be attached before they can be mounted."),
    column("PodInfoOnMount", "boolean", "Whether the driver is told about the pod."),
    column("StorageCapacity", "boolean", "Whether the driver publishes how much room there is."),
    column("TokenRequests", "string", "For whom the driver is given tokens."),
    column("RequiresRepublish", "boolean", "Whether volumes are published again and again."),
    column("Modes", "string", "What sorts of volume the driver offers."),
    AGE,
];

fn validate_spec(spec: &CSIDriverSpec, errors: &mut ErrorList) {
    let at = Path::new("spec");
    let flags = [
        ("attachRequired", spec.attach_required),
        ("podInfoOnMount", spec.pod_info_on_mount),
        ("storageCapacity", spec.storage_capacity),
    ];
    for (name, _) in flags.iter().filter(|(_, value)| value.is_none()) {
        errors.required(&at.child(name), "");
    }
    match &spec.fs_group_policy {
        None => errors.required(&at.child("fsGroupPolicy"), ""),
        Some(policy) if !policy.is_known() => {
            errors.not_supported(&at.child("fsGroupPolicy"), policy.as_str(), FSGroupPolicy::ALL);
        }
        Some(_) => {}
    }
    for mode in spec.volume_lifecycle_modes.iter().filter(|mode| !mode.is_known()) {
        errors.not_supported(&at.child("volumeLifecycleModes"), mode.as_str(), VolumeLifecycleMode::ALL);
    }
    let mut seen = std::collections::BTreeSet::new();
    for (index, request) in spec.token_requests.iter().enumerate() {
        let at = at.child("tokenRequests").index(index);
        if !seen.insert(&request.audience) {
            errors.duplicate(&at.child("audience"), request.audience.as_str());
        }
        match request.expiration_seconds {
            Some(seconds) if seconds < 600 => {
                errors.invalid(
                    &at.child("expirationSeconds"),
                    seconds,
                    "may not specify a duration less than 10 minutes",
                );
            }
            Some(seconds) if seconds > 1 << 32 => {
                errors.invalid(
                    &at.child("expirationSeconds"),
                    seconds,
                    "may not specify a duration larger than 2^32 seconds",
                );
            }
            _ => {}
        }
    }
}

impl Kind for CSIDriver {
    fn set_defaults(&mut self) {
        let spec = &mut self.spec;
        spec.attach_required.get_or_insert(true);
        spec.pod_info_on_mount.get_or_insert(false);
        spec.storage_capacity.get_or_insert(false);
        spec.requires_republish.get_or_insert(false);
        spec.se_linux_mount.get_or_insert(false);
        spec.fs_group_policy.get_or_insert(FSGroupPolicy::ReadWriteOnceWithFSType);
        if spec.volume_lifecycle_modes.is_empty() {
            spec.volume_lifecycle_modes.push(VolumeLifecycleMode::Persistent);
        }
    }

    fn validate(&self) -> ErrorList {
        let mut errors = rules::validate(self, NameRule::PathSegment);
        let at = Path::new("metadata").child("name");
        validate_driver_name(self.metadata.name.as_deref().unwrap_or_default(), &at, &mut errors);
        validate_spec(&self.spec, &mut errors);
        errors
    }

    fn validate_update(&self, old: &Self, _subresource: Option<Subresource>) -> ErrorList {
        let mut errors = rules::validate_update(self, old);
        validate_spec(&self.spec, &mut errors);
        let at = Path::new("spec");
        errors.immutable(&at.child("attachedRequired"), &self.spec.attach_required, &old.spec.attach_required);
        let modes = (&self.spec.volume_lifecycle_modes, &old.spec.volume_lifecycle_modes);
        errors.immutable(&at.child("volumeLifecycleModes"), modes.0, modes.1);
        errors
    }

    fn columns() -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let spec = &self.spec;
        let joined = |texts: Vec<&str>, none: &str| if texts.is_empty() { none.to_owned() } else { texts.join(",") };
        vec![
            columns::name(&self.metadata),
            spec.attach_required.unwrap_or(true).into(),
            spec.pod_info_on_mount.unwrap_or_default().into(),
            spec.storage_capacity.unwrap_or_default().into(),
            joined(spec.token_requests.iter().map(|request| request.audience.as_str()).collect(), "<unset>").into(),
            spec.requires_republish.unwrap_or_default().into(),
            joined(spec.volume_lifecycle_modes.iter().map(VolumeLifecycleMode::as_str).collect(), "<none>").into(),
            columns::age(&self.metadata, now),
        ]
    }
}
