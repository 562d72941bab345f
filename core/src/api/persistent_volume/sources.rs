//! Where the content of a persistent volume comes from, where that differs from a pod's own volumes: mostly in that a
//! secret may be of any namespace.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::pod::NodeSelector;
use crate::api::wire::{self, is_default};
use crate::api::{ObjectReference, SecretReference};

/// A disk or directory of one node.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalVolumeSource {
    /// The path.
    #[serde(default)]
    pub path: String,
    /// File system, for a device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fs_type: Option<String>,
}

/// The nodes from which a volume can be reached.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeNodeAffinity {
    /// What such a node must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required: Option<NodeSelector>,
}

/// A volume of a CSI driver.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CSIPersistentVolumeSource {
    /// The driver.
    #[serde(default)]
    pub driver: String,
    /// The volume, as the driver names it.
    #[serde(default)]
    pub volume_handle: String,
    /// Whether writes are refused.
    #[serde(default, skip_serializing_if = "is_default")]
    pub read_only: bool,
    /// File system.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fs_type: String,
    /// Attributes for the driver.
    #[serde(default, skip_serializing_if = "is_default")]
    pub volume_attributes: BTreeMap<String, String>,
    /// Secret for attaching the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller_publish_secret_ref: Option<SecretReference>,
    /// Secret for staging the volume on a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_stage_secret_ref: Option<SecretReference>,
    /// Secret for mounting the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_publish_secret_ref: Option<SecretReference>,
    /// Secret for growing the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller_expand_secret_ref: Option<SecretReference>,
    /// Secret for growing the volume on its node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_expand_secret_ref: Option<SecretReference>,
}

/// A Gluster volume.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GlusterfsPersistentVolumeSource {
    /// Endpoints with the addresses of the servers.
    #[serde(default)]
    pub endpoints: String,
    /// The volume.
    #[serde(default)]
    pub path: String,
    /// Whether writes are refused.
    #[serde(default, skip_serializing_if = "is_default")]
    pub read_only: bool,
    /// Namespace of the Endpoints; the claim's if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints_namespace: Option<String>,
}

/// A Ceph block device.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RBDPersistentVolumeSource {
    /// Addresses of the monitors.
    #[serde(default, serialize_with = "wire::empty_as_null", deserialize_with = "wire::null_as_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub monitors: Vec<String>,
    /// The image.
    #[serde(default)]
    pub image: String,
    /// File system.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fs_type: String,
    /// The pool; `rbd` by default.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pool: String,
    /// The user; `admin` by default.
    #[serde(default, skip_serializing_if = "is_default")]
    pub user: String,
    /// Path of the key ring; `/etc/ceph/keyring` by default.
    #[serde(default, skip_serializing_if = "is_default")]
    pub keyring: String,
    /// Secret of the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretReference>,
    /// Whether writes are refused.
    #[serde(default, skip_serializing_if = "is_default")]
    pub read_only: bool,
}

/// An iSCSI disk.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ISCSIPersistentVolumeSource {
    /// Address of the target.
    #[serde(default)]
    pub target_portal: String,
    /// Name of the target.
    #[serde(default)]
    pub iqn: String,
    /// Number of the unit.
    #[serde(default)]
    pub lun: i32,
    /// Transport; `default` by default.
    #[serde(default, skip_serializing_if = "is_default")]
    pub iscsi_interface: String,
    /// File system.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fs_type: String,
    /// Whether writes are refused.
    #[serde(default, skip_serializing_if = "is_default")]
    pub read_only: bool,
    /// Further addresses of the target.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub portals: Vec<String>,
    /// Whether discovery authenticates by CHAP.
    #[serde(default, skip_serializing_if = "is_default")]
    pub chap_auth_discovery: bool,
    /// Whether sessions authenticate by CHAP.
    #[serde(default, skip_serializing_if = "is_default")]
    pub chap_auth_session: bool,
    /// Secret for CHAP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretReference>,
    /// Name of the initiator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initiator_name: Option<String>,
}

/// A disk of OpenStack's.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CinderPersistentVolumeSource {
    /// The volume.
    #[serde(rename = "volumeID", default)]
    pub volume_id: String,
    /// File system.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fs_type: String,
    /// Whether writes are refused.
    #[serde(default, skip_serializing_if = "is_default")]
    pub read_only: bool,
    /// Secret for OpenStack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretReference>,
}

/// A Ceph file system.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CephFSPersistentVolumeSource {
    /// Addresses of the monitors.
    #[serde(default, serialize_with = "wire::empty_as_null", deserialize_with = "wire::null_as_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub monitors: Vec<String>,
    /// The mounted root; `/` if empty.
    #[serde(default, skip_serializing_if = "is_default")]
    pub path: String,
    /// The user; `admin` by default.
    #[serde(default, skip_serializing_if = "is_default")]
    pub user: String,
    /// Path of the key ring; `/etc/ceph/user.secret` by default.
    #[serde(default, skip_serializing_if = "is_default")]
    pub secret_file: String,
    /// Secret of the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretReference>,
    /// Whether writes are refused.
    #[serde(default, skip_serializing_if = "is_default")]
    pub read_only: bool,
}

/// A volume of an exec plug-in.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FlexPersistentVolumeSource {
    /// The plug-in.
    #[serde(default)]
    pub driver: String,
    /// File system.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fs_type: String,
    /// Secret for the plug-in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretReference>,
    /// Whether writes are refused.
    #[serde(default, skip_serializing_if = "is_default")]
    pub read_only: bool,
    /// What the plug-in is told.
    #[serde(default, skip_serializing_if = "is_default")]
    pub options: BTreeMap<String, String>,
}

/// A share of Azure's.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AzureFilePersistentVolumeSource {
    /// Secret of the account.
    #[serde(default)]
    pub secret_name: String,
    /// The share.
    #[serde(default)]
    pub share_name: String,
    /// Whether writes are refused.
    #[serde(default, skip_serializing_if = "is_default")]
    pub read_only: bool,
    /// Namespace of the secret; the claim's if unset.
    #[serde(default)]
    pub secret_namespace: Option<String>,
}

/// A ScaleIO volume.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScaleIOPersistentVolumeSource {
    /// Address of the gateway.
    #[serde(default)]
    pub gateway: String,
    /// The system.
    #[serde(default)]
    pub system: String,
    /// Secret of the user.
    #[serde(default)]
    pub secret_ref: Option<SecretReference>,
    /// Whether to use TLS.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ssl_enabled: bool,
    /// The domain.
    #[serde(default, skip_serializing_if = "is_default")]
    pub protection_domain: String,
    /// The pool.
    #[serde(default, skip_serializing_if = "is_default")]
    pub storage_pool: String,
    /// `ThinProvisioned` (default) or `ThickProvisioned`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub storage_mode: String,
    /// The volume.
    #[serde(default, skip_serializing_if = "is_default")]
    pub volume_name: String,
    /// File system; `xfs` by default.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fs_type: String,
    /// Whether writes are refused.
    #[serde(default, skip_serializing_if = "is_default")]
    pub read_only: bool,
}

/// A StorageOS volume.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorageOSPersistentVolumeSource {
    /// The volume.
    #[serde(default, skip_serializing_if = "is_default")]
    pub volume_name: String,
    /// Its namespace.
    #[serde(default, skip_serializing_if = "is_default")]
    pub volume_namespace: String,
    /// File system.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fs_type: String,
    /// Whether writes are refused.
    #[serde(default, skip_serializing_if = "is_default")]
    pub read_only: bool,
    /// Secret of the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<ObjectReference>,
}
