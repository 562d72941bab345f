//! Deployment: pods of one sort, and how a change of them is rolled out.

mod validation;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::columns::{self, AGE, NAME, column, wide};
use crate::api::rules;
use crate::api::wire::{self, is_default};
use crate::api::{AppsV1, ConditionStatus, PodTemplateSpec};
use crate::int_or_string::IntOrString;
use crate::kind::{Column, Kind, Subresource};
use crate::selector::LabelSelector;
use crate::validation::ErrorList;
use crate::{kind, string_enum};

/// Pods of one sort, and how a change of them is rolled out.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub struct Deployment {
    /// Version of the API.
    #[serde(default)]
    pub api_version: AppsV1,
    /// Name, namespace, labels and the rest of the object's metadata.
    #[serde(default, deserialize_with = "wire::metadata")]
    pub metadata: ObjectMeta,
    /// What is wanted.
    #[serde(default)]
    pub spec: DeploymentSpec,
    /// What was observed.
    #[serde(default)]
    pub status: DeploymentStatus,
}

/// How many pods of which sort are wanted, and how changes are rolled out.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentSpec {
    /// How many pods; 1 if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Labels of the pods that count; must match the template's. Cannot change.
    #[serde(default)]
    pub selector: Option<LabelSelector>,
    /// What new pods look like.
    #[serde(default)]
    pub template: PodTemplateSpec,
    /// How old pods are replaced.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-patch-strategy" = "retainKeys"))]
    pub strategy: DeploymentStrategy,
    /// How many seconds a new pod must be ready before it counts as available.
    #[serde(default, skip_serializing_if = "is_default")]
    pub min_ready_seconds: i32,
    /// How many old replica sets are kept for a way back; 10 if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision_history_limit: Option<i32>,
    /// Whether changes wait instead of being rolled out.
    #[serde(default, skip_serializing_if = "is_default")]
    pub paused: bool,
    /// After how many seconds without progress a rollout counts as failed; 600 if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress_deadline_seconds: Option<i32>,
}

/// How old pods are replaced.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentStrategy {
    /// `RollingUpdate` (if unset) or `Recreate`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub type_: DeploymentStrategyType,
    /// Bounds for `RollingUpdate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolling_update: Option<RollingUpdateDeployment>,
}

/// Bounds of a rolling update.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RollingUpdateDeployment {
    /// How many pods, or what percentage rounded down, may be missing; 25% if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<IntOrString>,
    /// How many pods, or what percentage rounded up, may be there beyond the number wanted; 25% if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_surge: Option<IntOrString>,
}

/// What was observed of a deployment.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentStatus {
    /// Generation of the spec that the status is about.
    #[serde(default, skip_serializing_if = "is_default")]
    pub observed_generation: i64,
    /// How many pods there are, without those that terminate.
    #[serde(default, skip_serializing_if = "is_default")]
    pub replicas: i32,
    /// How many are as the template now says.
    #[serde(default, skip_serializing_if = "is_default")]
    pub updated_replicas: i32,
    /// How many are ready.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ready_replicas: i32,
    /// How many have been ready for `minReadySeconds`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub available_replicas: i32,
    /// How many are still missing.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unavailable_replicas: i32,
    /// How many are on their way out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminating_replicas: Option<i32>,
    /// What else was observed.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-patch-merge-key" = "type", "x-kubernetes-patch-strategy" = "merge", "x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<DeploymentCondition>,
    /// How often the name of a new replica set was taken already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collision_count: Option<i32>,
}

/// One observation about the object.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentCondition {
    /// What is observed.
    #[serde(default)]
    pub type_: String,
    /// Whether it holds.
    #[serde(default)]
    pub status: ConditionStatus,
    /// When the condition was last written.
    #[serde(default)]
    pub last_update_time: Option<Time>,
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
    /// How old pods are replaced.
    pub enum DeploymentStrategyType {
        /// All old ones go before new ones come.
        Recreate,
        /// A few at a time.
        RollingUpdate,
    }
}

kind!(Deployment, "apps"/v1, "deployments", singular "deployment", Namespaced, short ["deploy"], categories ["all"], subresources [Status, Scale]);

const COLUMNS: &[Column] = &[
    NAME,
    column("Ready", "string", "How many pods are ready, of how many wanted."),
    column("Up-to-date", "string", "How many pods are as the template now says."),
    column("Available", "string", "How many pods are available."),
    AGE,
    wide("Containers", "string", "Names of the template's containers."),
    wide("Images", "string", "Images of the template's containers."),
    wide("Selector", "string", "Labels of the pods that belong to the object."),
];

impl Kind for Deployment {
    fn set_defaults(&mut self) {
        let spec = &mut self.spec;
        spec.template.set_defaults();
        spec.replicas.get_or_insert(1);
        if spec.strategy.type_.is_unset() {
            spec.strategy.type_ = DeploymentStrategyType::RollingUpdate;
        }
        if spec.strategy.type_ == DeploymentStrategyType::RollingUpdate {
            let bounds = spec.strategy.rolling_update.get_or_insert_default();
            bounds.max_unavailable.get_or_insert_with(|| IntOrString::String("25%".to_owned()));
            bounds.max_surge.get_or_insert_with(|| IntOrString::String("25%".to_owned()));
        }
        spec.revision_history_limit.get_or_insert(10);
        spec.progress_deadline_seconds.get_or_insert(600);
    }

    fn normalize(&mut self) {
        self.spec.template.normalize();
    }

    fn prepare_for_create(&mut self) {
        self.status = DeploymentStatus::default();
        self.metadata.generation = Some(1);
    }

    fn prepare_for_update(&mut self, old: &Self, subresource: Option<Subresource>) {
        match subresource {
            Some(Subresource::Status) => {
                self.spec = old.spec.clone();
                self.metadata.labels.clone_from(&old.metadata.labels);
            }
            _ => self.status = old.status.clone(),
        }
        // A rollback in the old style was asked for by an annotation, so these count as desired state too.
        let changed =
            subresource.is_none() && (self.spec != old.spec || self.metadata.annotations != old.metadata.annotations);
        rules::set_generation(&mut self.metadata, &old.metadata, changed);
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
            self.status.updated_replicas.into(),
            self.status.available_replicas.into(),
            columns::age(&self.metadata, now),
            containers.into(),
            images.into(),
            LabelSelector::format(self.spec.selector.as_ref()).into(),
        ]
    }
}
