//! ReplicationController: keeps a number of pods running; the oldest of its kind.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::columns::{self, AGE, NAME, column, wide};
use crate::api::pod::validation::validate_template;
use crate::api::rules;
use crate::api::wire::{self, is_default};
use crate::api::workload;
use crate::api::{ConditionStatus, PodTemplateSpec, V1};
use crate::kind;
use crate::kind::{Column, Kind, Subresource};
use crate::validation::{ErrorList, NameRule, Path, Report, json};

/// Keeps a number of pods of one sort running.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub struct ReplicationController {
    /// Version of the API.
    #[serde(default)]
    pub api_version: V1,
    /// Name, namespace, labels and the rest of the object's metadata.
    #[serde(default, deserialize_with = "wire::metadata")]
    pub metadata: ObjectMeta,
    /// What is wanted.
    #[serde(default)]
    pub spec: ReplicationControllerSpec,
    /// What was observed.
    #[serde(default)]
    pub status: ReplicationControllerStatus,
}

/// How many pods of which sort are wanted.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationControllerSpec {
    /// How many pods; 1 if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// How many seconds a new pod must be ready before it counts as available.
    #[serde(default, skip_serializing_if = "is_default")]
    pub min_ready_seconds: i32,
    /// Labels of the pods that count; those of the template if empty.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub selector: BTreeMap<String, String>,
    /// What new pods look like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<Box<PodTemplateSpec>>,
}

/// How many pods were observed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationControllerStatus {
    /// How many there are.
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
    /// Generation of the spec that the status is about.
    #[serde(default, skip_serializing_if = "is_default")]
    pub observed_generation: i64,
    /// What else was observed.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-patch-merge-key" = "type", "x-kubernetes-patch-strategy" = "merge", "x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<ReplicationControllerCondition>,
}

/// One observation about the object.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationControllerCondition {
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

kind!(ReplicationController, v1, "replicationcontrollers", singular "replicationcontroller", Namespaced, short ["rc"], categories ["all"], subresources [Status, Scale]);

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

impl ReplicationController {
    fn validate_spec(&self, errors: &mut ErrorList) {
        let (spec, at) = (&self.spec, Path::new("spec"));
        errors.non_negative(&at.child("minReadySeconds"), spec.min_ready_seconds);
        if spec.selector.is_empty() {
            errors.required(&at.child("selector"), "");
        }
        errors.non_negative(&at.child("replicas"), spec.replicas.unwrap_or_default());
        let at = at.child("template");
        let Some(template) = &spec.template else {
            errors.required(&at, "");
            return;
        };
        let labels = template.metadata.labels.clone().unwrap_or_default();
        if spec.selector.iter().any(|(key, value)| labels.get(key) != Some(value)) {
            let at = at.child("metadata").child("labels");
            errors.invalid(&at, json(&labels), "`selector` does not match template `labels`");
        }
        validate_template(template, &at, errors);
        workload::require_always_restart(template, &at, errors);
        workload::refuse_deadline(template, "ReplicationController", &at, errors);
    }

    fn validate_status(&self, errors: &mut ErrorList) {
        let (status, at) = (&self.status, Path::new("status"));
        let counts = workload::ReplicaCounts {
            replicas: status.replicas,
            fully_labeled: status.fully_labeled_replicas,
            ready: status.ready_replicas,
            available: status.available_replicas,
            terminating: None,
            observed_generation: status.observed_generation,
        };
        workload::validate_replica_counts(&counts, &at, errors);
    }
}

impl Kind for ReplicationController {
    fn set_defaults(&mut self) {
        if let Some(template) = &mut self.spec.template {
            template.set_defaults();
            if let Some(labels) = template.metadata.labels.as_ref().filter(|labels| !labels.is_empty()) {
                if self.spec.selector.is_empty() {
                    self.spec.selector.clone_from(labels);
                }
                if self.metadata.labels.as_ref().is_none_or(BTreeMap::is_empty) {
                    self.metadata.labels = Some(labels.clone());
                }
            }
        }
        self.spec.replicas.get_or_insert(1);
    }

    fn normalize(&mut self) {
        if let Some(template) = &mut self.spec.template {
            template.normalize();
        }
    }

    fn prepare_for_create(&mut self) {
        self.status = ReplicationControllerStatus::default();
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
        if subresource == Some(Subresource::Status) {
            let mut errors = rules::validate_update(self, old);
            self.validate_status(&mut errors);
            return errors;
        }
        // As upstream's strategy: the object itself, then the change and its specification once more.
        let mut errors = self.validate();
        errors.extend(rules::validate_update(self, old));
        self.validate_spec(&mut errors);
        errors
    }

    fn columns() -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let (containers, images) = self.spec.template.as_deref().map(columns::containers).unwrap_or_default();
        vec![
            columns::name(&self.metadata),
            self.spec.replicas.unwrap_or_default().into(),
            self.status.replicas.into(),
            self.status.ready_replicas.into(),
            columns::age(&self.metadata, now),
            containers.into(),
            images.into(),
            columns::labels(&self.spec.selector).into(),
        ]
    }

    fn field(&self, label: &str) -> Option<String> {
        (label == "status.replicas").then(|| self.status.replicas.to_string())
    }

    fn selectable_fields() -> &'static [&'static str] {
        &["status.replicas"]
    }
}
