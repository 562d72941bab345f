//! StatefulSet: pods with stable names and storage, one after the other.

mod validation;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::columns::{self, AGE, NAME, column, wide};
use crate::api::rules;
use crate::api::wire::{self, is_default};
use crate::api::{
    AppsV1, ConditionStatus, PersistentVolumeClaimPhase, PersistentVolumeClaimSpec, PersistentVolumeClaimStatus,
    PodTemplateSpec,
};
use crate::int_or_string::IntOrString;
use crate::kind::{Column, Kind, Subresource};
use crate::selector::LabelSelector;
use crate::validation::ErrorList;
use crate::{kind, string_enum};

/// Pods with stable names and storage, one after the other.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub struct StatefulSet {
    /// Version of the API.
    #[serde(default)]
    pub api_version: AppsV1,
    /// Name, namespace, labels and the rest of the object's metadata.
    #[serde(default, deserialize_with = "wire::metadata")]
    pub metadata: ObjectMeta,
    /// What is wanted.
    #[serde(default)]
    pub spec: StatefulSetSpec,
    /// What was observed.
    #[serde(default)]
    pub status: StatefulSetStatus,
}

/// How many pods with stable names are wanted.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatefulSetSpec {
    /// How many pods; 1 if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Labels of the pods that count; must match the template's. Cannot change.
    #[serde(default)]
    pub selector: Option<LabelSelector>,
    /// What the pods look like; each is called after the set with its number behind a dash.
    #[serde(default)]
    pub template: PodTemplateSpec,
    /// Claims that each pod gets of its own.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub volume_claim_templates: Vec<VolumeClaimTemplate>,
    /// The headless service under which the pods have names.
    #[serde(default)]
    pub service_name: String,
    /// `OrderedReady` (if unset) or `Parallel`. Cannot change.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pod_management_policy: PodManagementPolicyType,
    /// How old pods are replaced.
    #[serde(default)]
    pub update_strategy: StatefulSetUpdateStrategy,
    /// How many old revisions are kept for a way back; 10 if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision_history_limit: Option<i32>,
    /// How many seconds a new pod must be ready before it counts as available.
    #[serde(default, skip_serializing_if = "is_default")]
    pub min_ready_seconds: i32,
    /// What becomes of claims.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim_retention_policy: Option<StatefulSetPersistentVolumeClaimRetentionPolicy>,
    /// How pods are numbered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordinals: Option<StatefulSetOrdinals>,
}

/// A claim that each pod of a set gets of its own.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeClaimTemplate {
    /// Always `v1`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub api_version: String,
    /// Always `PersistentVolumeClaim`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub kind: String,
    /// Name, labels and annotations of the claims.
    #[serde(default, deserialize_with = "wire::metadata")]
    pub metadata: ObjectMeta,
    /// What is claimed.
    #[serde(default)]
    pub spec: PersistentVolumeClaimSpec,
    /// Not used.
    #[serde(default)]
    pub status: PersistentVolumeClaimStatus,
}

/// How old pods are replaced.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatefulSetUpdateStrategy {
    /// `RollingUpdate` (if unset) or `OnDelete`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub type_: StatefulSetUpdateStrategyType,
    /// Bounds for `RollingUpdate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolling_update: Option<RollingUpdateStatefulSetStrategy>,
}

/// Bounds of a rolling update.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RollingUpdateStatefulSetStrategy {
    /// Only pods of this number and above are replaced; 0 if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<i32>,
    /// How many pods, or what percentage rounded up, may be missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<IntOrString>,
}

/// What becomes of the claims of a set's pods.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatefulSetPersistentVolumeClaimRetentionPolicy {
    /// When the set is deleted; `Retain` if unset.
    #[serde(default, skip_serializing_if = "is_default")]
    pub when_deleted: PersistentVolumeClaimRetentionPolicyType,
    /// When the set shrinks; `Retain` if unset.
    #[serde(default, skip_serializing_if = "is_default")]
    pub when_scaled: PersistentVolumeClaimRetentionPolicyType,
}

/// How a set's pods are numbered.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatefulSetOrdinals {
    /// The first number.
    #[serde(default)]
    pub start: i32,
}

/// What was observed of a stateful set.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatefulSetStatus {
    /// Generation of the spec that the status is about.
    #[serde(default, skip_serializing_if = "is_default")]
    pub observed_generation: i64,
    /// How many pods there are.
    #[serde(default)]
    pub replicas: i32,
    /// How many are ready.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ready_replicas: i32,
    /// How many are of `currentRevision`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub current_replicas: i32,
    /// How many are of `updateRevision`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub updated_replicas: i32,
    /// Revision of the pods that are not replaced yet.
    #[serde(default, skip_serializing_if = "is_default")]
    pub current_revision: String,
    /// Revision of the pods that are replaced.
    #[serde(default, skip_serializing_if = "is_default")]
    pub update_revision: String,
    /// How often the name of a new revision was taken already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collision_count: Option<i32>,
    /// What else was observed.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-patch-merge-key" = "type", "x-kubernetes-patch-strategy" = "merge", "x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<StatefulSetCondition>,
    /// How many have been ready for `minReadySeconds`.
    #[serde(default)]
    pub available_replicas: i32,
}

/// One observation about the object.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatefulSetCondition {
    /// What is observed.
    #[serde(default)]
    pub type_: String,
    /// Whether it holds.
    #[serde(default)]
    pub status: ConditionStatus,
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

string_enum! {
    /// In what order pods come and go.
    pub enum PodManagementPolicyType {
        /// One after the other, each when the one before is ready.
        OrderedReady,
        /// All at once.
        Parallel,
    }
}

string_enum! {
    /// How old pods are replaced.
    pub enum StatefulSetUpdateStrategyType {
        /// One after the other, from the highest number down.
        RollingUpdate,
        /// When somebody deletes them.
        OnDelete,
    }
}

string_enum! {
    /// What becomes of claims.
    pub enum PersistentVolumeClaimRetentionPolicyType {
        /// They stay.
        Retain,
        /// They go.
        Delete,
    }
}

kind!(StatefulSet, "apps"/v1, "statefulsets", singular "statefulset", Namespaced, short ["sts"], categories ["all"], subresources [Status, Scale]);

const COLUMNS: &[Column] = &[
    NAME,
    column("Ready", "string", "How many pods are ready, of how many wanted."),
    AGE,
    wide("Containers", "string", "Names of the template's containers."),
    wide("Images", "string", "Images of the template's containers."),
];

impl Kind for StatefulSet {
    fn set_defaults(&mut self) {
        let spec = &mut self.spec;
        spec.template.set_defaults();
        for claim in &mut spec.volume_claim_templates {
            if claim.status.phase.is_unset() {
                claim.status.phase = PersistentVolumeClaimPhase::Pending;
            }
            claim.spec.set_defaults();
        }
        if spec.pod_management_policy.is_unset() {
            spec.pod_management_policy = PodManagementPolicyType::OrderedReady;
        }
        let strategy = &mut spec.update_strategy;
        if strategy.type_.is_unset() {
            strategy.type_ = StatefulSetUpdateStrategyType::RollingUpdate;
            strategy.rolling_update.get_or_insert_default();
        }
        if strategy.type_ == StatefulSetUpdateStrategyType::RollingUpdate
            && let Some(bounds) = &mut strategy.rolling_update
        {
            bounds.partition.get_or_insert(0);
        }
        let retention = spec.persistent_volume_claim_retention_policy.get_or_insert_default();
        for when in [&mut retention.when_deleted, &mut retention.when_scaled] {
            if when.is_unset() {
                *when = PersistentVolumeClaimRetentionPolicyType::Retain;
            }
        }
        spec.replicas.get_or_insert(1);
        spec.revision_history_limit.get_or_insert(10);
    }

    fn normalize(&mut self) {
        self.spec.template.normalize();
        for claim in &mut self.spec.volume_claim_templates {
            claim.api_version = "v1".to_owned();
            claim.kind = "PersistentVolumeClaim".to_owned();
        }
    }

    fn prepare_for_create(&mut self) {
        self.status = StatefulSetStatus::default();
        self.metadata.generation = Some(1);
        self.normalize();
    }

    fn prepare_for_update(&mut self, old: &Self, subresource: Option<Subresource>) {
        self.normalize();
        match subresource {
            Some(Subresource::Status) => {
                self.spec = old.spec.clone();
            }
            _ => self.status = old.status.clone(),
        }
        rules::set_generation(&mut self.metadata, &old.metadata, self.spec != old.spec);
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
        let (containers, images) = columns::containers(&self.spec.template);
        vec![
            columns::name(&self.metadata),
            format!("{}/{}", self.status.ready_replicas, self.spec.replicas.unwrap_or_default()).into(),
            columns::age(&self.metadata, now),
            containers.into(),
            images.into(),
        ]
    }
}
