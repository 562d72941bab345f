//! Volumes that live elsewhere: shares and disks of a network or a cloud, most of them no longer supported.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::LocalObjectReference;
use crate::api::wire::{self, is_default};

/// An NFS export.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NFSVolumeSource {
    /// The server.
    #[serde(default)]
    pub server: String,
    /// The export.
    #[serde(default)]
    pub path: String,
    /// Whether writes are refused.
    #[serde(default, skip_serializing_if = "is_default")]
    pub read_only: bool,
}

/// An iSCSI disk.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ISCSIVolumeSource {
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
    pub secret_ref: Option<LocalObjectReference>,
    /// Name of the initiator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initiator_name: Option<String>,
}

/// A Fibre Channel disk.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FCVolumeSource {
    /// Names of the targets.
    #[serde(rename = "targetWWNs", default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub target_wwns: Vec<String>,
    /// Number of the unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lun: Option<i32>,
    /// File system.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fs_type: String,
    /// Whether writes are refused.
    #[serde(default, skip_serializing_if = "is_default")]
    pub read_only: bool,
    /// Identifiers of the volume.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub wwids: Vec<String>,
}

/// A volume of an exec plug-in.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FlexVolumeSource {
    /// The plug-in.
    #[serde(default)]
    pub driver: String,
    /// File system.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fs_type: String,
    /// Secret for the plug-in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalObjectReference>,
    /// Whether writes are refused.
    #[serde(default, skip_serializing_if = "is_default")]
    pub read_only: bool,
    /// Options for the plug-in.
    #[serde(default, skip_serializing_if = "is_default")]
    pub options: BTreeMap<String, String>,
}

/// A disk of Google's cloud.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GCEPersistentDiskVolumeSource {
    /// The disk.
    #[serde(default)]
    pub pd_name: String,
    /// File system.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fs_type: String,
    /// Number of the partition.
    #[serde(default, skip_serializing_if = "is_default")]
    pub partition: i32,
    /// Whether writes are refused.
    #[serde(default, skip_serializing_if = "is_default")]
    pub read_only: bool,
}

/// A disk of Amazon's cloud.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AWSElasticBlockStoreVolumeSource {
    /// The disk.
    #[serde(rename = "volumeID", default)]
    pub volume_id: String,
    /// File system.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fs_type: String,
    /// Number of the partition.
    #[serde(default, skip_serializing_if = "is_default")]
    pub partition: i32,
    /// Whether writes are refused.
    #[serde(default, skip_serializing_if = "is_default")]
    pub read_only: bool,
}

/// A git repository.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GitRepoVolumeSource {
    /// The repository.
    #[serde(default)]
    pub repository: String,
    /// The commit.
    #[serde(default, skip_serializing_if = "is_default")]
    pub revision: String,
    /// Directory in the volume.
    #[serde(default, skip_serializing_if = "is_default")]
    pub directory: String,
}

/// A Gluster volume.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GlusterfsVolumeSource {
    /// Endpoints object of the servers.
    #[serde(default)]
    pub endpoints: String,
    /// The volume.
    #[serde(default)]
    pub path: String,
    /// Whether writes are refused.
    #[serde(default, skip_serializing_if = "is_default")]
    pub read_only: bool,
}

/// A Ceph block device.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RBDVolumeSource {
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
    /// The keyring.
    #[serde(default, skip_serializing_if = "is_default")]
    pub keyring: String,
    /// Secret of the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalObjectReference>,
    /// Whether writes are refused.
    #[serde(default, skip_serializing_if = "is_default")]
    pub read_only: bool,
}

/// A disk of OpenStack's.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CinderVolumeSource {
    /// The disk.
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
    pub secret_ref: Option<LocalObjectReference>,
}

/// A Ceph file system.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CephFSVolumeSource {
    /// Addresses of the monitors.
    #[serde(default, serialize_with = "wire::empty_as_null", deserialize_with = "wire::null_as_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub monitors: Vec<String>,
    /// Path that is mounted.
    #[serde(default, skip_serializing_if = "is_default")]
    pub path: String,
    /// The user.
    #[serde(default, skip_serializing_if = "is_default")]
    pub user: String,
    /// File with the user's key.
    #[serde(default, skip_serializing_if = "is_default")]
    pub secret_file: String,
    /// Secret of the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalObjectReference>,
    /// Whether writes are refused.
    #[serde(default, skip_serializing_if = "is_default")]
    pub read_only: bool,
}

/// A Flocker volume.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FlockerVolumeSource {
    /// Name of the dataset.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dataset_name: String,
    /// Uuid of the dataset.
    #[serde(rename = "datasetUUID", default, skip_serializing_if = "is_default")]
    pub dataset_uuid: String,
}

/// A share of Azure's.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AzureFileVolumeSource {
    /// Secret of the account.
    #[serde(default)]
    pub secret_name: String,
    /// The share.
    #[serde(default)]
    pub share_name: String,
    /// Whether writes are refused.
    #[serde(default, skip_serializing_if = "is_default")]
    pub read_only: bool,
}

/// A disk of vSphere's.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VsphereVirtualDiskVolumeSource {
    /// The disk.
    #[serde(default)]
    pub volume_path: String,
    /// File system.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fs_type: String,
    /// Name of the storage policy.
    #[serde(default, skip_serializing_if = "is_default")]
    pub storage_policy_name: String,
    /// Id of the storage policy.
    #[serde(rename = "storagePolicyID", default, skip_serializing_if = "is_default")]
    pub storage_policy_id: String,
}

/// A Quobyte volume.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QuobyteVolumeSource {
    /// Addresses of the registries.
    #[serde(default)]
    pub registry: String,
    /// The volume.
    #[serde(default)]
    pub volume: String,
    /// Whether writes are refused.
    #[serde(default, skip_serializing_if = "is_default")]
    pub read_only: bool,
    /// User.
    #[serde(default, skip_serializing_if = "is_default")]
    pub user: String,
    /// Group.
    #[serde(default, skip_serializing_if = "is_default")]
    pub group: String,
    /// Tenant.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tenant: String,
}

/// A disk of Azure's.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AzureDiskVolumeSource {
    /// Name of the disk.
    #[serde(default)]
    pub disk_name: String,
    /// Address of the disk.
    #[serde(rename = "diskURI", default)]
    pub disk_uri: String,
    /// Caching; `ReadWrite` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caching_mode: Option<String>,
    /// File system; `ext4` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fs_type: Option<String>,
    /// Whether writes are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
    /// `Shared` (default), `Dedicated` or `Managed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// A disk of Photon's.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PhotonPersistentDiskVolumeSource {
    /// The disk.
    #[serde(rename = "pdID", default)]
    pub pd_id: String,
    /// File system.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fs_type: String,
}

/// A Portworx volume.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PortworxVolumeSource {
    /// The volume.
    #[serde(rename = "volumeID", default)]
    pub volume_id: String,
    /// File system.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fs_type: String,
    /// Whether writes are refused.
    #[serde(default, skip_serializing_if = "is_default")]
    pub read_only: bool,
}

/// A ScaleIO volume.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScaleIOVolumeSource {
    /// Address of the gateway.
    #[serde(default)]
    pub gateway: String,
    /// The system.
    #[serde(default)]
    pub system: String,
    /// Secret of the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalObjectReference>,
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
pub struct StorageOSVolumeSource {
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
    pub secret_ref: Option<LocalObjectReference>,
}
