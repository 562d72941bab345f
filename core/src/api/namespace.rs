//! Namespace: a scope for names.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::columns::{self, AGE, NAME, column};
use crate::api::rules;
use crate::api::wire::{self, is_default};
use crate::api::{ConditionStatus, V1};
use crate::kind::{Column, Kind, Subresource};
use crate::validation::names::validate_finalizer_name;
use crate::validation::{ErrorList, NameRule, Path, Report, validate_kube_finalizer};
use crate::{kind, string_enum};

/// A scope in which names of objects are unique.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub struct Namespace {
    /// Version of the API.
    #[serde(default)]
    pub api_version: V1,
    /// Name, namespace, labels and the rest of the object's metadata.
    #[serde(default, deserialize_with = "wire::metadata")]
    pub metadata: ObjectMeta,
    /// What the namespace should be.
    #[serde(default)]
    pub spec: NamespaceSpec,
    /// Where in its life the namespace is.
    #[serde(default)]
    pub status: NamespaceStatus,
}

/// What a namespace should be.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceSpec {
    /// Who must agree before the namespace can go; emptied only through the `finalize` subresource.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub finalizers: Vec<String>,
}

/// Where in its life a namespace is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceStatus {
    /// `Active`, or `Terminating` once deletion was asked for.
    #[serde(default, skip_serializing_if = "is_default")]
    pub phase: NamespacePhase,
    /// What stands in the way of deletion.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-patch-merge-key" = "type", "x-kubernetes-patch-strategy" = "merge", "x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<NamespaceCondition>,
}

/// One observation about a namespace.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceCondition {
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
    /// Where in its life a namespace is.
    pub enum NamespacePhase {
        /// Objects can be created in it.
        Active,
        /// It is being emptied and will go.
        Terminating,
    }
}

kind!(Namespace, v1, "namespaces", singular "namespace", Cluster, short ["ns"], categories [], subresources [Status, Finalize]);

/// Label that carries a namespace's own name, so that selectors can find it.
pub const LABEL_METADATA_NAME: &str = "kubernetes.io/metadata.name";

/// The finalizer of the controller that empties a namespace.
pub const FINALIZER_KUBERNETES: &str = "kubernetes";

const COLUMNS: &[Column] = &[NAME, column("Status", "string", "Where in its life the namespace is."), AGE];

fn validate_finalizer(name: &str, at: &Path, errors: &mut ErrorList) {
    errors.extend(validate_finalizer_name(name, at));
    validate_kube_finalizer(name, at, errors);
}

impl Namespace {
    /// The phase follows from whether the namespace is being deleted.
    fn validate_phase(&self, errors: &mut ErrorList) {
        let (phase, why) = match self.metadata.deletion_timestamp {
            None => (NamespacePhase::Active, "may only be 'Active' if `deletionTimestamp` is empty"),
            Some(_) => (NamespacePhase::Terminating, "may only be 'Terminating' if `deletionTimestamp` is not empty"),
        };
        if self.status.phase != phase {
            // The capital letter is upstream's.
            errors.invalid(&Path::new("status").child("Phase"), self.status.phase.as_str(), why);
        }
    }
}

impl Kind for Namespace {
    fn set_defaults(&mut self) {
        if let Some(name) = self.metadata.name.clone().filter(|name| !name.is_empty()) {
            self.metadata.labels.get_or_insert_default().insert(LABEL_METADATA_NAME.to_owned(), name);
        }
        if self.status.phase.is_unset() {
            self.status.phase = NamespacePhase::Active;
        }
    }

    fn prepare_for_create(&mut self) {
        self.status = NamespaceStatus { phase: NamespacePhase::Active, conditions: Vec::new() };
        if !self.spec.finalizers.iter().any(|finalizer| finalizer == FINALIZER_KUBERNETES) {
            self.spec.finalizers.push(FINALIZER_KUBERNETES.to_owned());
        }
        // The name may have been generated after defaulting.
        self.set_defaults();
    }

    fn prepare_for_update(&mut self, old: &Self, subresource: Option<Subresource>) {
        match subresource {
            Some(Subresource::Finalize) => self.status = old.status.clone(),
            Some(_) => self.spec.finalizers.clone_from(&old.spec.finalizers),
            None => {
                self.spec.finalizers.clone_from(&old.spec.finalizers);
                self.status = old.status.clone();
            }
        }
    }

    fn validate(&self) -> ErrorList {
        let mut errors = rules::validate(self, NameRule::DnsLabel);
        let at = Path::new("spec").child("finalizers");
        self.spec.finalizers.iter().for_each(|name| validate_finalizer(name, &at, &mut errors));
        errors
    }

    fn validate_update(&self, old: &Self, subresource: Option<Subresource>) -> ErrorList {
        let mut errors = rules::validate_update(self, old);
        match subresource {
            Some(Subresource::Status) => self.validate_phase(&mut errors),
            Some(Subresource::Finalize) => {
                let at = Path::new("spec").child("finalizers");
                for (index, name) in self.spec.finalizers.iter().enumerate() {
                    validate_finalizer(name, &at.index(index), &mut errors);
                }
            }
            _ => {}
        }
        errors
    }

    fn columns() -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        vec![columns::name(&self.metadata), self.status.phase.as_str().into(), columns::age(&self.metadata, now)]
    }

    fn field(&self, label: &str) -> Option<String> {
        (label == "status.phase").then(|| self.status.phase.to_string())
    }

    fn selectable_fields() -> &'static [&'static str] {
        &["status.phase"]
    }
}
