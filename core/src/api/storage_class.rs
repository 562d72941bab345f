//! StorageClass: how volumes of one sort are made.

mod validation;

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::StorageV1;
use crate::api::columns::{self, AGE, NAME, column};
use crate::api::wire::{self, is_default};
use crate::kind::{Column, Kind, Subresource};
use crate::validation::ErrorList;
use crate::{kind, string_enum};

/// How volumes of one sort are made.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub struct StorageClass {
    /// Version of the API.
    #[serde(default)]
    pub api_version: StorageV1,
    /// Name, namespace, labels and the rest of the object's metadata.
    #[serde(default, deserialize_with = "wire::metadata")]
    pub metadata: ObjectMeta,
    /// Who makes the volumes.
    #[serde(default)]
    pub provisioner: String,
    /// What the provisioner is told; it alone knows the meaning.
    #[serde(default, skip_serializing_if = "is_default")]
    pub parameters: BTreeMap<String, String>,
    /// What becomes of a volume whose claim went; `Delete` if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reclaim_policy: Option<PersistentVolumeReclaimPolicy>,
    /// Options with which the volumes are mounted.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub mount_options: Vec<String>,
    /// Whether claims of this class may grow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_volume_expansion: Option<bool>,
    /// When a claim gets its volume; `Immediate` if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_binding_mode: Option<VolumeBindingMode>,
    /// Where volumes may be made; anywhere if empty.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub allowed_topologies: Vec<TopologySelectorTerm>,
}

/// Requirements on a node's labels that hold together.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct TopologySelectorTerm {
    /// The requirements.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub match_label_expressions: Vec<TopologySelectorLabelRequirement>,
}

/// A label that must have one of some values.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TopologySelectorLabelRequirement {
    /// The label.
    #[serde(default)]
    pub key: String,
    /// The values, one of which must match.
    #[serde(default, serialize_with = "wire::empty_as_null", deserialize_with = "wire::null_as_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub values: Vec<String>,
}

string_enum! {
    /// What becomes of a volume whose claim went.
    pub enum PersistentVolumeReclaimPolicy {
        /// It is wiped and offered again.
        Recycle,
        /// It is removed together with what backs it.
        Delete,
        /// It is left for an administrator.
        Retain,
    }
}

string_enum! {
    /// When a claim gets its volume.
    pub enum VolumeBindingMode {
        /// As soon as the claim exists.
        Immediate,
        /// When the first pod that uses the claim is placed.
        WaitForFirstConsumer,
    }
}

kind!(StorageClass, "storage.k8s.io"/v1, "storageclasses", singular "storageclass", Cluster, short ["sc"], categories [], subresources []);

const COLUMNS: &[Column] = &[
    NAME,
    column("Provisioner", "string", "Who makes the volumes."),
    column("ReclaimPolicy", "string", "What becomes of a volume whose claim went."),
    column("VolumeBindingMode", "string", "When a claim gets its volume."),
    column("AllowVolumeExpansion", "string", "Whether claims may grow."),
    AGE,
];

/// The provisioner of classes whose volumes are made by hand.
pub const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

impl StorageClass {
    /// The class of claims that name none: of several that are marked so, the newest, as upstream has it.
    pub fn default_of<'c>(classes: impl IntoIterator<Item = &'c Self>) -> Option<&'c Self> {
        let created = |class: &Self| class.metadata.creation_timestamp.as_ref().map(|time| time.0);
        classes
            .into_iter()
            .filter(|class| class.is_default())
            .max_by_key(|class| (created(class), std::cmp::Reverse(class.metadata.name.clone())))
    }

    /// Whether claims that name no class get this one.
    pub fn is_default(&self) -> bool {
        const MARKS: [&str; 2] =
            ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
        let annotations = self.metadata.annotations.as_ref();
        MARKS.iter().any(|mark| annotations.and_then(|all| all.get(*mark)).is_some_and(|value| value == "true"))
    }
}

impl Kind for StorageClass {
    fn set_defaults(&mut self) {
        self.reclaim_policy.get_or_insert(PersistentVolumeReclaimPolicy::Delete);
        self.volume_binding_mode.get_or_insert(VolumeBindingMode::Immediate);
    }

    fn validate(&self) -> ErrorList {
        validation::validate(self)
    }

    fn validate_update(&self, old: &Self, _subresource: Option<Subresource>) -> ErrorList {
        validation::validate_update(self, old)
    }

    fn columns() -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let mut name = self.metadata.name.clone().unwrap_or_default();
        if self.is_default() {
            name.push_str(" (default)");
        }
        vec![
            name.into(),
            self.provisioner.as_str().into(),
            self.reclaim_policy.as_ref().map_or("Delete", PersistentVolumeReclaimPolicy::as_str).into(),
            self.volume_binding_mode.as_ref().map_or("Immediate", VolumeBindingMode::as_str).into(),
            self.allow_volume_expansion.unwrap_or_default().into(),
            columns::age(&self.metadata, now),
        ]
    }
}
