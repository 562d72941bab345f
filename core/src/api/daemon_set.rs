//! DaemonSet: one pod on every node, or on every node of a sort.

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

/// One pod on every node of a sort.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub struct DaemonSet {
    /// Version of the API.
    #[serde(default)]
    pub api_version: AppsV1,
    /// Name, namespace, labels and the rest of the object's metadata.
    #[serde(default, deserialize_with = "wire::metadata")]
    pub metadata: ObjectMeta,
    /// What is wanted.
    #[serde(default)]
    pub spec: DaemonSetSpec,
    /// What was observed.
    #[serde(default)]
    pub status: DaemonSetStatus,
}

/// What every node should run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DaemonSetSpec {
    /// Labels of the pods that count; must match the template's. Cannot change.
    #[serde(default)]
    pub selector: Option<LabelSelector>,
    /// What the pods look like.
    #[serde(default)]
    pub template: PodTemplateSpec,
    /// How old pods are replaced.
    #[serde(default)]
    pub update_strategy: DaemonSetUpdateStrategy,
    /// How many seconds a new pod must be ready before it counts as available.
    #[serde(default, skip_serializing_if = "is_default")]
    pub min_ready_seconds: i32,
    /// How many old revisions are kept for a way back; 10 if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision_history_limit: Option<i32>,
}

/// How old pods are replaced.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DaemonSetUpdateStrategy {
    /// `RollingUpdate` (if unset) or `OnDelete`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub type_: DaemonSetUpdateStrategyType,
    /// Bounds for `RollingUpdate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolling_update: Option<RollingUpdateDaemonSet>,
}

/// Bounds of a rolling update.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RollingUpdateDaemonSet {
    /// How many pods, or what percentage rounded up, may be missing; 1 if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<IntOrString>,
    /// On how many nodes, or what percentage rounded up, a new pod may run beside the old; 0 if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_surge: Option<IntOrString>,
}

/// What was observed of a daemon set.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DaemonSetStatus {
    /// How many nodes run a pod and should.
    #[serde(default)]
    pub current_number_scheduled: i32,
    /// How many nodes run a pod and should not.
    #[serde(default)]
    pub number_misscheduled: i32,
    /// How many nodes should run a pod.
    #[serde(default)]
    pub desired_number_scheduled: i32,
    /// How many nodes have a ready pod.
    #[serde(default)]
    pub number_ready: i32,
    /// Generation of the spec that the status is about.
    #[serde(default, skip_serializing_if = "is_default")]
    pub observed_generation: i64,
    /// How many nodes run a pod as the template now says.
    #[serde(default, skip_serializing_if = "is_default")]
    pub updated_number_scheduled: i32,
    /// How many nodes have an available pod.
    #[serde(default, skip_serializing_if = "is_default")]
    pub number_available: i32,
    /// How many nodes should have an available pod and have none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub number_unavailable: i32,
    /// How often the name of a new revision was taken already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collision_count: Option<i32>,
    /// What else was observed.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-patch-merge-key" = "type", "x-kubernetes-patch-strategy" = "merge", "x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<DaemonSetCondition>,
}

/// One observation about the object.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DaemonSetCondition {
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
    /// How old pods are replaced.
    pub enum DaemonSetUpdateStrategyType {
        /// A few at a time.
        RollingUpdate,
        /// When somebody deletes them.
        OnDelete,
    }
}

kind!(DaemonSet, "apps"/v1, "daemonsets", singular "daemonset", Namespaced, short ["ds"], categories ["all"], subresources [Status]);

/// Annotation that counts changes of the template.
pub const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

const COLUMNS: &[Column] = &[
    NAME,
    column("Desired", "integer", "How many nodes should run a pod."),
    column("Current", "integer", "How many nodes run one."),
    column("Ready", "integer", "How many nodes have a ready one."),
    column("Up-to-date", "integer", "How many nodes run one as the template now says."),
    column("Available", "integer", "How many nodes have an available one."),
    column("Node Selector", "string", "Labels of the nodes."),
    AGE,
    wide("Containers", "string", "Names of the template's containers."),
    wide("Images", "string", "Images of the template's containers."),
    wide("Selector", "string", "Labels of the pods that belong to the object."),
];

impl DaemonSet {
    /// How often the template changed, as the annotation says; 0 if it says nothing.
    pub fn template_generation(&self) -> i64 {
        let annotations = self.metadata.annotations.as_ref();
        annotations.and_then(|all| all.get(TEMPLATE_GENERATION)?.parse().ok()).unwrap_or_default()
    }

    fn set_template_generation(&mut self, generation: i64) {
        let annotations = self.metadata.annotations.get_or_insert_default();
        annotations.insert(TEMPLATE_GENERATION.to_owned(), generation.to_string());
    }
}

impl Kind for DaemonSet {
    fn set_defaults(&mut self) {
        let spec = &mut self.spec;
        spec.template.set_defaults();
        let strategy = &mut spec.update_strategy;
        if strategy.type_.is_unset() {
            strategy.type_ = DaemonSetUpdateStrategyType::RollingUpdate;
        }
        if strategy.type_ == DaemonSetUpdateStrategyType::RollingUpdate {
            let bounds = strategy.rolling_update.get_or_insert_default();
            bounds.max_unavailable.get_or_insert(IntOrString::Int(1));
            bounds.max_surge.get_or_insert(IntOrString::Int(0));
        }
        spec.revision_history_limit.get_or_insert(10);
    }

    fn normalize(&mut self) {
        self.spec.template.normalize();
    }

    fn prepare_for_create(&mut self) {
        self.status = DaemonSetStatus::default();
        self.metadata.generation = Some(1);
        self.set_template_generation(self.template_generation().max(1));
    }

    fn prepare_for_update(&mut self, old: &Self, subresource: Option<Subresource>) {
        match subresource {
            Some(Subresource::Status) => {
                self.spec = old.spec.clone();
            }
            _ => self.status = old.status.clone(),
        }
        let template_changed = self.spec.template != old.spec.template;
        self.set_template_generation(old.template_generation() + i64::from(template_changed));
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
            self.status.desired_number_scheduled.into(),
            self.status.current_number_scheduled.into(),
            self.status.number_ready.into(),
            self.status.updated_number_scheduled.into(),
            self.status.number_available.into(),
            columns::labels(&self.spec.template.spec.node_selector).into(),
            columns::age(&self.metadata, now),
            containers.into(),
            images.into(),
            LabelSelector::format(self.spec.selector.as_ref()).into(),
        ]
    }
}
