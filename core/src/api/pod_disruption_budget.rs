//! PodDisruptionBudget: how many pods may be down at once on purpose.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::PolicyV1;
use crate::api::columns::{self, AGE, NAME, column};
use crate::api::rules;
use crate::api::wire::{self, is_default};
use crate::api::workload::{validate_at_most_all, validate_int_or_percent};
use crate::int_or_string::IntOrString;
use crate::kind::{Column, Kind, Subresource};
use crate::selector::LabelSelector;
use crate::validation::{ErrorList, NameRule, Path, Report, go_value, validate_label_selector};
use crate::{kind, string_enum};

/// How many pods of a group may be evicted at once.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub struct PodDisruptionBudget {
    /// Version of the API.
    #[serde(default)]
    pub api_version: PolicyV1,
    /// Name, namespace, labels and the rest of the object's metadata.
    #[serde(default, deserialize_with = "wire::metadata")]
    pub metadata: ObjectMeta,
    /// The limit.
    #[serde(default)]
    pub spec: PodDisruptionBudgetSpec,
    /// How much of it is left.
    #[serde(default)]
    pub status: PodDisruptionBudgetStatus,
}

/// How many pods of a group may be evicted at once.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodDisruptionBudgetSpec {
    /// How many pods, or what percentage, must stay available. Excludes `maxUnavailable`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_available: Option<IntOrString>,
    /// The group of pods; unset matches none, empty matches all of the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-patch-strategy" = "replace"))]
    pub selector: Option<LabelSelector>,
    /// How many pods, or what percentage, may be unavailable. Excludes `minAvailable`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<IntOrString>,
    /// When running pods that are not ready may be evicted; `IfHealthyBudget` if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unhealthy_pod_eviction_policy: Option<UnhealthyPodEvictionPolicy>,
}

/// How many pods may be evicted now.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodDisruptionBudgetStatus {
    /// Generation of the spec that the status is about.
    #[serde(default, skip_serializing_if = "is_default")]
    pub observed_generation: i64,
    /// Pods whose eviction was granted but not yet seen, and when.
    #[serde(default, skip_serializing_if = "is_default")]
    pub disrupted_pods: BTreeMap<String, Time>,
    /// How many pods may be evicted now.
    #[serde(default)]
    pub disruptions_allowed: i32,
    /// How many pods are healthy.
    #[serde(default)]
    pub current_healthy: i32,
    /// How many pods must stay healthy.
    #[serde(default)]
    pub desired_healthy: i32,
    /// How many pods the group has in all.
    #[serde(default)]
    pub expected_pods: i32,
    /// What else was observed.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-patch-merge-key" = "type", "x-kubernetes-patch-strategy" = "merge", "x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

string_enum! {
    /// When running pods that are not ready may be evicted.
    pub enum UnhealthyPodEvictionPolicy {
        /// Only if enough others are healthy.
        IfHealthyBudget,
        /// Always.
        AlwaysAllow,
    }
}

kind!(PodDisruptionBudget, "policy"/v1, "poddisruptionbudgets", singular "poddisruptionbudget", Namespaced, short ["pdb"], categories [], subresources [Status]);

const COLUMNS: &[Column] = &[
    NAME,
    column("Min Available", "string", "How many pods must stay available."),
    column("Max Unavailable", "string", "How many pods may be unavailable."),
    column("Allowed Disruptions", "integer", "How many pods may be evicted now."),
    AGE,
];

impl PodDisruptionBudgetSpec {
    fn validate(&self, at: &Path, errors: &mut ErrorList) {
        if self.min_available.is_some() && self.max_unavailable.is_some() {
            errors.invalid(at, go_value(self), "minAvailable and maxUnavailable cannot be both set");
        }
        for (field, limit) in [("minAvailable", &self.min_available), ("maxUnavailable", &self.max_unavailable)] {
            if let Some(limit) = limit {
                validate_int_or_percent(limit, &at.child(field), errors);
                validate_at_most_all(limit, &at.child(field), errors);
            }
        }
        validate_label_selector(self.selector.as_ref(), &at.child("selector"), errors);
        if let Some(policy) = self.unhealthy_pod_eviction_policy.as_ref().filter(|policy| !policy.is_known()) {
            let at = at.child("unhealthyPodEvictionPolicy");
            errors.not_supported(&at, policy.as_str(), &["AlwaysAllow", "IfHealthyBudget"]);
        }
    }
}

impl PodDisruptionBudgetStatus {
    fn validate(&self, at: &Path, errors: &mut ErrorList) {
        let counts = [
            ("disruptionsAllowed", self.disruptions_allowed),
            ("currentHealthy", self.current_healthy),
            ("desiredHealthy", self.desired_healthy),
            ("expectedPods", self.expected_pods),
        ];
        for (field, count) in counts {
            errors.non_negative(&at.child(field), count);
        }
    }
}

impl Kind for PodDisruptionBudget {
    fn prepare_for_create(&mut self) {
        self.status = PodDisruptionBudgetStatus::default();
        self.metadata.generation = Some(1);
    }

    fn prepare_for_update(&mut self, old: &Self, subresource: Option<Subresource>) {
        match subresource {
            None => self.status = old.status.clone(),
            Some(_) => self.spec = old.spec.clone(),
        }
        rules::set_generation(&mut self.metadata, &old.metadata, self.spec != old.spec);
    }

    fn validate(&self) -> ErrorList {
        let mut errors = rules::validate(self, NameRule::PathSegment);
        self.spec.validate(&Path::new("spec"), &mut errors);
        errors
    }

    fn validate_update(&self, old: &Self, subresource: Option<Subresource>) -> ErrorList {
        let mut errors = rules::validate_update(self, old);
        match subresource {
            None => self.spec.validate(&Path::new("spec"), &mut errors),
            Some(_) => self.status.validate(&Path::new("status"), &mut errors),
        }
        errors
    }

    fn columns() -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let limit = |limit: &Option<IntOrString>| limit.as_ref().map_or("N/A".to_owned(), ToString::to_string);
        vec![
            columns::name(&self.metadata),
            limit(&self.spec.min_available).into(),
            limit(&self.spec.max_unavailable).into(),
            self.status.disruptions_allowed.into(),
            columns::age(&self.metadata, now),
        ]
    }
}
