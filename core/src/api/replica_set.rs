//! ReplicaSet: keeps a number of pods running.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::columns::{self, AGE, NAME, column, wide};
use crate::api::rules;
use crate::api::wire::{self, is_default};
use crate::api::workload;
use crate::api::{AppsV1, ConditionStatus, PodTemplateSpec};
use crate::kind;
use crate::kind::{Column, Kind, Subresource};
use crate::selector::LabelSelector;
use crate::validation::{ErrorList, NameRule, Path, Report};

/// Keeps a number of pods of one sort running.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub struct ReplicaSet {
    /// Version of the API.
    #[serde(default)]
    pub api_version: AppsV1,
    /// Name, namespace, labels and the rest of the object's metadata.
    #[serde(default, deserialize_with = "wire::metadata")]
    pub metadata: ObjectMeta,
    /// What is wanted.
    #[serde(default)]
    pub spec: ReplicaSetSpec,
    /// What was observed.
    #[serde(default)]
    pub status: ReplicaSetStatus,
}

/// How many pods of which sort are wanted.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaSetSpec {
    /// How many pods; 1 if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// How many seconds a new pod must be ready before it counts as available.
    #[serde(default, skip_serializing_if = "is_default")]
    pub min_ready_seconds: i32,
    /// Labels of the pods that count; must match the template's. Cannot change.
    #[serde(default)]
    pub selector: Option<LabelSelector>,
    /// What new pods look like.
    #[serde(default)]
    pub template: PodTemplateSpec,
}

/// How many pods were observed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaSetStatus {
    /// How many there are, without those that terminate.
    #[serde(default)]
    pub replicas: i32,
    /// How many have all labels of the template.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fully_labeled_replicas: i32,
    /// How many are ready.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ready_replicas: i32,
    /// How many have been ready for `minReadySeconds`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub available_replicas: i32,
    /// How many are on their way out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminating_replicas: Option<i32>,
    /// Generation of the spec that the status is about.
    #[serde(default, skip_serializing_if = "is_default")]
    pub observed_generation: i64,
    /// What else was observed.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-patch-merge-key" = "type", "x-kubernetes-patch-strategy" = "merge", "x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<ReplicaSetCondition>,
}

/// One observation about the object.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaSetCondition {
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

kind!(ReplicaSet, "apps"/v1, "replicasets", singular "replicaset", Namespaced, short ["rs"], categories ["all"], subresources [Status, Scale]);

const COLUMNS: &[Column] = &[
    NAME,
    column("Desired", "integer", "How many pods are wanted."),
    column("Current", "integer", "How many there are."),
    column("Ready", "integer", "How many are ready."),
    AGE,
    wide("Containers", "string", "Names of the template's containers."),
    wide("Images", "string", "Images of the template's containers."),
    wide("Selector", "string", "Labels of the pods that belong to the object."),
];

impl ReplicaSet {
    fn validate_spec(&self, errors: &mut ErrorList) {
        let (spec, at) = (&self.spec, Path::new("spec"));
        errors.non_negative(&at.child("replicas"), spec.replicas.unwrap_or_default());
        errors.non_negative(&at.child("minReadySeconds"), spec.min_ready_seconds);
        workload::validate_kept_pods(spec.selector.as_ref(), &spec.template, &at, errors);
    }

    fn validate_status(&self, errors: &mut ErrorList) {
        let status = &self.status;
        let counts = workload::ReplicaCounts {
            replicas: status.replicas,
            fully_labeled: status.fully_labeled_replicas,
            ready: status.ready_replicas,
            available: status.available_replicas,
            terminating: status.terminating_replicas,
            observed_generation: status.observed_generation,
        };
        workload::validate_replica_counts(&counts, &Path::new("status"), errors);
    }
}

impl Kind for ReplicaSet {
    fn set_defaults(&mut self) {
        self.spec.template.set_defaults();
        self.spec.replicas.get_or_insert(1);
    }

    fn normalize(&mut self) {
        self.spec.template.normalize();
    }

    fn prepare_for_create(&mut self) {
        self.status = ReplicaSetStatus::default();
        self.metadata.generation = Some(1);
    }

    fn prepare_for_update(&mut self, old: &Self, subresource: Option<Subresource>) {
        match subresource {
            Some(Subresource::Status) => {
                self.spec = old.spec.clone();
            }
            _ => self.status = old.status.clone(),
        }
        rules::set_generation(&mut self.metadata, &old.metadata, self.spec != old.spec);
    }

    fn validate(&self) -> ErrorList {
        let mut errors = rules::validate(self, NameRule::DnsSubdomain);
        self.validate_spec(&mut errors);
        errors
    }

    fn validate_update(&self, old: &Self, subresource: Option<Subresource>) -> ErrorList {
        let mut errors = rules::validate_update(self, old);
        if subresource == Some(Subresource::Status) {
            self.validate_status(&mut errors);
        } else {
            self.validate_spec(&mut errors);
            errors.immutable(&Path::new("spec").child("selector"), &self.spec.selector, &old.spec.selector);
        }
        errors
    }

    fn columns() -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let (containers, images) = columns::containers(&self.spec.template);
        vec![
            columns::name(&self.metadata),
            self.spec.replicas.unwrap_or_default().into(),
            self.status.replicas.into(),
            self.status.ready_replicas.into(),
            columns::age(&self.metadata, now),
            containers.into(),
            images.into(),
            LabelSelector::format(self.spec.selector.as_ref()).into(),
        ]
    }
}
