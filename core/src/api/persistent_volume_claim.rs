//! PersistentVolumeClaim: a wish for storage.

pub(crate) mod validation;

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::columns::{self, AGE, NAME, column, wide};
use crate::api::resources;
use crate::api::wire::{self, is_default};
use crate::api::{ConditionStatus, ResourceList, TypedLocalObjectReference, TypedObjectReference, V1};
use crate::kind::{Column, Kind, Subresource};
use crate::quantity::Quantity;
use crate::selector::LabelSelector;
use crate::validation::ErrorList;
use crate::{kind, string_enum};

/// A wish for storage.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub struct PersistentVolumeClaim {
    /// Version of the API.
    #[serde(default)]
    pub api_version: V1,
    /// Name, namespace, labels and the rest of the object's metadata.
    #[serde(default, deserialize_with = "wire::metadata")]
    pub metadata: ObjectMeta,
    /// The wish.
    #[serde(default)]
    pub spec: PersistentVolumeClaimSpec,
    /// What became of it.
    #[serde(default)]
    pub status: PersistentVolumeClaimStatus,
}

/// A wish for storage.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PersistentVolumeClaimSpec {
    /// How the volume must be usable.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub access_modes: Vec<PersistentVolumeAccessMode>,
    /// Labels of volumes to choose from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// How much is wanted.
    #[serde(default)]
    pub resources: VolumeResourceRequirements,
    /// The volume that the claim is bound to.
    #[serde(default, skip_serializing_if = "is_default")]
    pub volume_name: String,
    /// The class of the volume; empty means one without a class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class_name: Option<String>,
    /// Whether a file system or the raw device is wanted; `Filesystem` if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_mode: Option<PersistentVolumeMode>,
    /// What the volume starts from, of the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_source: Option<TypedLocalObjectReference>,
    /// What the volume starts from, of any kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_source_ref: Option<TypedObjectReference>,
    /// A class of changeable attributes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_attributes_class_name: Option<String>,
}

/// How much storage is wanted.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeResourceRequirements {
    /// The most.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: ResourceList,
    /// The least.
    #[serde(default, skip_serializing_if = "is_default")]
    pub requests: ResourceList,
}

/// What became of a claim.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PersistentVolumeClaimStatus {
    /// Whether it is bound.
    #[serde(default, skip_serializing_if = "is_default")]
    pub phase: PersistentVolumeClaimPhase,
    /// How the volume is usable.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub access_modes: Vec<PersistentVolumeAccessMode>,
    /// How much the volume holds.
    #[serde(default, skip_serializing_if = "is_default")]
    pub capacity: ResourceList,
    /// What happens to the volume, such as a resize.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-patch-merge-key" = "type", "x-kubernetes-patch-strategy" = "merge", "x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<PersistentVolumeClaimCondition>,
    /// How much is set aside during a resize.
    #[serde(default, skip_serializing_if = "is_default")]
    pub allocated_resources: ResourceList,
    /// How far a resize is.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-map-type" = "granular"))]
    pub allocated_resource_statuses: BTreeMap<String, String>,
    /// The class of attributes that the volume has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_volume_attributes_class_name: Option<String>,
    /// How far a change of attributes is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modify_volume_status: Option<ModifyVolumeStatus>,
}

/// One observation about a claim.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PersistentVolumeClaimCondition {
    /// What is observed.
    #[serde(default)]
    pub type_: String,
    /// Whether it holds.
    #[serde(default)]
    pub status: ConditionStatus,
    /// When it was last looked at.
    #[serde(default)]
    pub last_probe_time: Option<Time>,
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

/// How far a change of a volume's attributes is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModifyVolumeStatus {
    /// The class that is wanted.
    #[serde(default, skip_serializing_if = "is_default")]
    pub target_volume_attributes_class_name: String,
    /// `Pending`, `InProgress` or `Infeasible`.
    #[serde(default)]
    pub status: String,
}

string_enum! {
    /// How a volume can be used.
    pub enum PersistentVolumeAccessMode {
        /// Read and written on one node.
        ReadWriteOnce,
        /// Read on many nodes.
        ReadOnlyMany,
        /// Read and written on many nodes.
        ReadWriteMany,
        /// Read and written by one pod.
        ReadWriteOncePod,
    }
}

string_enum! {
    /// What a volume looks like to a container.
    pub enum PersistentVolumeMode {
        /// A raw device.
        Block,
        /// A directory.
        Filesystem,
    }
}

string_enum! {
    /// Whether a claim is bound.
    pub enum PersistentVolumeClaimPhase {
        /// Not yet.
        Pending,
        /// It is.
        Bound,
        /// It was, and its volume is gone.
        Lost,
    }
}

kind!(PersistentVolumeClaim, v1, "persistentvolumeclaims", singular "persistentvolumeclaim", Namespaced, short ["pvc"], categories [], subresources [Status]);

const COLUMNS: &[Column] = &[
    NAME,
    column("Status", "string", "Whether the claim is bound."),
    column("Volume", "string", "The volume that the claim is bound to."),
    column("Capacity", "string", "How much the volume holds."),
    column("Access Modes", "string", "How the volume is usable."),
    column("StorageClass", "string", "The class of the volume."),
    column("VolumeAttributesClass", "string", "The class of changeable attributes."),
    AGE,
    wide("VolumeMode", "string", "Whether it is a file system or a raw device."),
];

/// The annotation that named the storage class before there was a field.
pub(crate) const BETA_STORAGE_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

impl PersistentVolumeAccessMode {
    /// Modes as `RWO,ROX`, each once, in upstream's order.
    pub(crate) fn abbreviate(modes: &[Self]) -> String {
        const NAMES: [(PersistentVolumeAccessMode, &str); 4] = [
            (PersistentVolumeAccessMode::ReadWriteOnce, "RWO"),
            (PersistentVolumeAccessMode::ReadOnlyMany, "ROX"),
            (PersistentVolumeAccessMode::ReadWriteMany, "RWX"),
            (PersistentVolumeAccessMode::ReadWriteOncePod, "RWOP"),
        ];
        NAMES.iter().filter(|(mode, _)| modes.contains(mode)).map(|(_, name)| *name).collect::<Vec<_>>().join(",")
    }
}

impl PersistentVolumeClaimSpec {
    /// See [`Kind::set_defaults`].
    pub(crate) fn set_defaults(&mut self) {
        self.volume_mode.get_or_insert(PersistentVolumeMode::Filesystem);
        resources::round_up(&mut self.resources.limits);
        resources::round_up(&mut self.resources.requests);
    }

    /// Fills the older of the two references to a source from the newer one, and the other way round.
    pub(crate) fn normalize_data_sources(&mut self) {
        match (&self.data_source, &self.data_source_ref) {
            (Some(source), None) => {
                let TypedLocalObjectReference { api_group, kind, name } = source.clone();
                self.data_source_ref = Some(TypedObjectReference { api_group, kind, name, namespace: None });
            }
            (None, Some(source)) if source.namespace.as_deref().unwrap_or_default().is_empty() => {
                let TypedObjectReference { api_group, kind, name, .. } = source.clone();
                self.data_source = Some(TypedLocalObjectReference { api_group, kind, name });
            }
            _ => {}
        }
    }
}

/// Set on a claim once both it and its volume say that they are bound to each other.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";

/// Set on a claim or a volume whose partner was chosen for it, not by hand.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";

/// Set on a claim: the node for which its volume is to be made.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

/// Set on a claim whose volume is to be made: who shall make it.
pub const STORAGE_PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";

/// The same, as it was called before; some provisioners still read it.
pub const BETA_STORAGE_PROVISIONER: &str = "volume.beta.kubernetes.io/storage-provisioner";

/// Finalizer of claims: they stay while a pod uses them.
pub const PROTECTION: &str = "kubernetes.io/pvc-protection";

impl PersistentVolumeClaim {
    /// Its class, also if an annotation says so as in old times; empty if it has none.
    pub fn class(&self) -> &str {
        let annotations = self.metadata.annotations.as_ref();
        let class = annotations.and_then(|all| all.get(BETA_STORAGE_CLASS)).or(self.spec.storage_class_name.as_ref());
        class.map_or("", String::as_str)
    }

    /// How much it asks for.
    pub fn size(&self) -> Quantity {
        self.spec.resources.requests.get("storage").cloned().unwrap_or_default()
    }

    /// The value of an annotation; empty if it has none.
    pub fn annotation(&self, name: &str) -> &str {
        self.metadata.annotations.as_ref().and_then(|all| all.get(name)).map_or("", String::as_str)
    }

    /// Whether it says that it wants no class, or one: otherwise it gets the default class.
    pub fn has_class(&self) -> bool {
        let annotations = self.metadata.annotations.as_ref();
        self.spec.storage_class_name.is_some() || annotations.is_some_and(|all| all.contains_key(BETA_STORAGE_CLASS))
    }

    /// Whether the claim has a volume, and both say so.
    pub fn is_fully_bound(&self) -> bool {
        let annotations = self.metadata.annotations.as_ref();
        !self.spec.volume_name.is_empty() && annotations.is_some_and(|all| all.contains_key(BIND_COMPLETED))
    }
}

impl Kind for PersistentVolumeClaim {
    fn set_defaults(&mut self) {
        if self.status.phase.is_unset() {
            self.status.phase = PersistentVolumeClaimPhase::Pending;
        }
        self.spec.set_defaults();
        resources::round_up(&mut self.status.capacity);
        resources::round_up(&mut self.status.allocated_resources);
    }

    fn prepare_for_create(&mut self) {
        self.status = PersistentVolumeClaimStatus { phase: PersistentVolumeClaimPhase::Pending, ..Default::default() };
        self.spec.normalize_data_sources();
    }

    fn prepare_for_update(&mut self, old: &Self, subresource: Option<Subresource>) {
        match subresource {
            None => {
                self.status = old.status.clone();
                self.spec.normalize_data_sources();
            }
            Some(_) => self.spec = old.spec.clone(),
        }
    }

    fn validate(&self) -> ErrorList {
        validation::validate(self)
    }

    fn validate_update(&self, old: &Self, subresource: Option<Subresource>) -> ErrorList {
        match subresource {
            None => validation::validate_update(self, old),
            Some(_) => validation::validate_status_update(self, old),
        }
    }

    fn columns() -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let (spec, status) = (&self.spec, &self.status);
        let phase = if self.metadata.deletion_timestamp.is_some() { "Terminating" } else { status.phase.as_str() };
        let (mut capacity, mut modes) = (String::new(), String::new());
        if !spec.volume_name.is_empty() {
            modes = PersistentVolumeAccessMode::abbreviate(&status.access_modes);
            capacity = status.capacity.get("storage").cloned().unwrap_or_default().to_string();
        }
        vec![
            columns::name(&self.metadata),
            phase.into(),
            spec.volume_name.as_str().into(),
            capacity.into(),
            modes.into(),
            self.class().into(),
            spec.volume_attributes_class_name.as_deref().unwrap_or("<unset>").into(),
            columns::age(&self.metadata, now),
            spec.volume_mode.as_ref().map_or("<unset>", PersistentVolumeMode::as_str).into(),
        ]
    }
}
