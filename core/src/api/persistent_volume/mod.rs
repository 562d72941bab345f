//! PersistentVolume: storage that outlives pods.

mod matching;
mod source_validation;
mod sources;
mod validation;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::columns::{self, AGE, NAME, column, wide};
use crate::api::persistent_volume_claim::{BETA_STORAGE_CLASS, PersistentVolumeAccessMode, PersistentVolumeMode};
use crate::api::pod::{
    AWSElasticBlockStoreVolumeSource, AzureDiskVolumeSource, FCVolumeSource, FlockerVolumeSource,
    GCEPersistentDiskVolumeSource, HostPathType, HostPathVolumeSource, NFSVolumeSource,
    PhotonPersistentDiskVolumeSource, PortworxVolumeSource, QuobyteVolumeSource, VsphereVirtualDiskVolumeSource,
};
use crate::api::resources;
use crate::api::storage_class::PersistentVolumeReclaimPolicy;
use crate::api::wire::{self, is_default};
use crate::api::{ObjectReference, ResourceList, V1};
use crate::kind::{Column, Kind, Subresource};
use crate::validation::ErrorList;
use crate::{kind, string_enum};

pub use sources::*;

/// Storage that outlives pods.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub struct PersistentVolume {
    /// Version of the API.
    #[serde(default)]
    pub api_version: V1,
    /// Name, labels and the rest of the object's metadata.
    #[serde(default, deserialize_with = "wire::metadata")]
    pub metadata: ObjectMeta,
    /// What the volume is.
    #[serde(default)]
    pub spec: PersistentVolumeSpec,
    /// What became of it.
    #[serde(default)]
    pub status: PersistentVolumeStatus,
}

/// What a volume is; exactly one source.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PersistentVolumeSpec {
    /// How much it holds.
    #[serde(default, skip_serializing_if = "is_default")]
    pub capacity: ResourceList,
    /// A disk of Google's cloud; no longer supported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gce_persistent_disk: Option<Box<GCEPersistentDiskVolumeSource>>,
    /// A disk of Amazon's cloud; no longer supported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws_elastic_block_store: Option<Box<AWSElasticBlockStoreVolumeSource>>,
    /// A path of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_path: Option<Box<HostPathVolumeSource>>,
    /// A Gluster volume; no longer supported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub glusterfs: Option<Box<GlusterfsPersistentVolumeSource>>,
    /// An NFS export.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nfs: Option<Box<NFSVolumeSource>>,
    /// A Ceph block device; no longer supported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rbd: Option<Box<RBDPersistentVolumeSource>>,
    /// An iSCSI disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iscsi: Option<Box<ISCSIPersistentVolumeSource>>,
    /// A disk of OpenStack's; no longer supported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cinder: Option<Box<CinderPersistentVolumeSource>>,
    /// A Ceph file system; no longer supported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cephfs: Option<Box<CephFSPersistentVolumeSource>>,
    /// A Fibre Channel disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fc: Option<Box<FCVolumeSource>>,
    /// A Flocker volume; no longer supported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flocker: Option<Box<FlockerVolumeSource>>,
    /// A volume of an exec plug-in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flex_volume: Option<Box<FlexPersistentVolumeSource>>,
    /// A share of Azure's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure_file: Option<Box<AzureFilePersistentVolumeSource>>,
    /// A disk of vSphere's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vsphere_volume: Option<Box<VsphereVirtualDiskVolumeSource>>,
    /// A Quobyte volume; no longer supported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quobyte: Option<Box<QuobyteVolumeSource>>,
    /// A disk of Azure's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure_disk: Option<Box<AzureDiskVolumeSource>>,
    /// A disk of Photon's; no longer supported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub photon_persistent_disk: Option<Box<PhotonPersistentDiskVolumeSource>>,
    /// A Portworx volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub portworx_volume: Option<Box<PortworxVolumeSource>>,
    /// A ScaleIO volume; no longer supported.
    #[serde(rename = "scaleIO", default, skip_serializing_if = "Option::is_none")]
    pub scale_io: Option<Box<ScaleIOPersistentVolumeSource>>,
    /// A disk or directory of one node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<Box<LocalVolumeSource>>,
    /// A StorageOS volume; no longer supported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storageos: Option<Box<StorageOSPersistentVolumeSource>>,
    /// A volume of a CSI driver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csi: Option<Box<CSIPersistentVolumeSource>>,
    /// How it can be used.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub access_modes: Vec<PersistentVolumeAccessMode>,
    /// The claim that it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-map-type" = "granular"))]
    pub claim_ref: Option<ObjectReference>,
    /// What becomes of it when its claim goes; `Retain` by default.
    #[serde(default, skip_serializing_if = "is_default")]
    pub persistent_volume_reclaim_policy: PersistentVolumeReclaimPolicy,
    /// Its class; empty means none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub storage_class_name: String,
    /// Options with which it is mounted.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub mount_options: Vec<String>,
    /// Whether a file system or the raw device is offered; `Filesystem` if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_mode: Option<PersistentVolumeMode>,
    /// The nodes from which it can be reached; all if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_affinity: Option<VolumeNodeAffinity>,
    /// Its class of changeable attributes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_attributes_class_name: Option<String>,
}

/// What became of a volume.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PersistentVolumeStatus {
    /// Whether it is bound.
    #[serde(default, skip_serializing_if = "is_default")]
    pub phase: PersistentVolumePhase,
    /// Why it is in that phase, for people.
    #[serde(default, skip_serializing_if = "is_default")]
    pub message: String,
    /// Why it failed, in one CamelCase word.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reason: String,
    /// When the phase last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_phase_transition_time: Option<Time>,
}

string_enum! {
    /// Whether a volume is bound.
    pub enum PersistentVolumePhase {
        /// It cannot be offered yet.
        Pending,
        /// It waits for a claim.
        Available,
        /// It is bound to a claim.
        Bound,
        /// Its claim went, and it is not yet reclaimed.
        Released,
        /// It could not be reclaimed.
        Failed,
    }
}

kind!(PersistentVolume, v1, "persistentvolumes", singular "persistentvolume", Cluster, short ["pv"], categories [], subresources [Status]);

const COLUMNS: &[Column] = &[
    NAME,
    column("Capacity", "string", "How much it holds."),
    column("Access Modes", "string", "How it can be used."),
    column("Reclaim Policy", "string", "What becomes of it when its claim goes."),
    column("Status", "string", "Whether it is bound."),
    column("Claim", "string", "The claim that it is bound to."),
    column("StorageClass", "string", "Its class."),
    column("VolumeAttributesClass", "string", "Its class of changeable attributes."),
    column("Reason", "string", "Why it failed."),
    AGE,
    wide("VolumeMode", "string", "Whether it is a file system or a raw device."),
];

fn set_if_empty(text: &mut String, default: &str) {
    if text.is_empty() {
        default.clone_into(text);
    }
}

impl PersistentVolumeSpec {
    fn set_source_defaults(&mut self) {
        if let Some(source) = &mut self.host_path {
            source.type_.get_or_insert(HostPathType::Unset);
        }
        if let Some(source) = &mut self.rbd {
            set_if_empty(&mut source.pool, "rbd");
            set_if_empty(&mut source.user, "admin");
            set_if_empty(&mut source.keyring, "/etc/ceph/keyring");
        }
        if let Some(source) = &mut self.iscsi {
            set_if_empty(&mut source.iscsi_interface, "default");
        }
        if let Some(source) = &mut self.azure_disk {
            source.set_defaults();
        }
        if let Some(source) = &mut self.scale_io {
            set_if_empty(&mut source.storage_mode, "ThinProvisioned");
            set_if_empty(&mut source.fs_type, "xfs");
        }
    }
}

/// Finalizer of volumes: they stay while they are bound.
pub const PROTECTION: &str = "kubernetes.io/pv-protection";

/// Set on a volume that was made for a claim: by whom.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";

/// The provisioner of volumes that are directories of one node.
pub const LOCAL_PATH: &str = "longshore.io/local-path";

impl PersistentVolume {
    /// Its class, also if an annotation says so as in old times; empty if it has none.
    pub fn class(&self) -> &str {
        let annotations = self.metadata.annotations.as_ref();
        annotations.and_then(|all| all.get(BETA_STORAGE_CLASS)).unwrap_or(&self.spec.storage_class_name)
    }
}

impl Kind for PersistentVolume {
    fn set_defaults(&mut self) {
        if self.status.phase.is_unset() {
            self.status.phase = PersistentVolumePhase::Pending;
        }
        if self.spec.persistent_volume_reclaim_policy.is_unset() {
            self.spec.persistent_volume_reclaim_policy = PersistentVolumeReclaimPolicy::Retain;
        }
        self.spec.volume_mode.get_or_insert(PersistentVolumeMode::Filesystem);
        resources::round_up(&mut self.spec.capacity);
        self.spec.set_source_defaults();
    }

    fn prepare_for_create(&mut self) {
        self.status = PersistentVolumeStatus { phase: PersistentVolumePhase::Pending, ..Default::default() };
    }

    fn prepare_for_update(&mut self, old: &Self, subresource: Option<Subresource>) {
        match subresource {
            None => self.status = old.status.clone(),
            Some(_) => self.spec = old.spec.clone(),
        }
    }

    fn validate(&self) -> ErrorList {
        validation::validate(self)
    }

    fn validate_update(&self, old: &Self, subresource: Option<Subresource>) -> ErrorList {
        match subresource {
            Some(Subresource::Status) => validation::validate_status_update(self, old),
            _ => validation::validate_update(self, old),
        }
    }

    fn columns() -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let (spec, status) = (&self.spec, &self.status);
        let phase = if self.metadata.deletion_timestamp.is_some() { "Terminating" } else { status.phase.as_str() };
        let claim = spec.claim_ref.as_ref().map(|claim| format!("{}/{}", claim.namespace, claim.name));
        vec![
            columns::name(&self.metadata),
            spec.capacity.get("storage").cloned().unwrap_or_default().to_string().into(),
            PersistentVolumeAccessMode::abbreviate(&spec.access_modes).into(),
            spec.persistent_volume_reclaim_policy.as_str().into(),
            phase.into(),
            claim.unwrap_or_default().into(),
            self.class().into(),
            spec.volume_attributes_class_name.as_deref().unwrap_or("<unset>").into(),
            status.reason.as_str().into(),
            columns::age(&self.metadata, now),
            spec.volume_mode.as_ref().map_or("<unset>", PersistentVolumeMode::as_str).into(),
        ]
    }
}
