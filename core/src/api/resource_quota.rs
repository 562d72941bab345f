//! ResourceQuota: what all objects of a namespace may use together.

mod validation;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::columns::{self, AGE, NAME, column};
use crate::api::resources;
use crate::api::wire::{self, is_default};
use crate::api::{ResourceList, V1};
use crate::kind;
use crate::kind::{Column, Kind, Subresource};
use crate::validation::ErrorList;

/// What all objects of a namespace may use together.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub struct ResourceQuota {
    /// Version of the API.
    #[serde(default)]
    pub api_version: V1,
    /// Name, namespace, labels and the rest of the object's metadata.
    #[serde(default, deserialize_with = "wire::metadata")]
    pub metadata: ObjectMeta,
    /// The limits.
    #[serde(default)]
    pub spec: ResourceQuotaSpec,
    /// What is used.
    #[serde(default)]
    pub status: ResourceQuotaStatus,
}

/// What all objects of a namespace may use together.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceQuotaSpec {
    /// The limits by resource.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hard: ResourceList,
    /// Which objects count; all if empty.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub scopes: Vec<String>,
    /// Which objects count, with operators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope_selector: Option<ScopeSelector>,
}

/// Requirements on objects that hold together.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct ScopeSelector {
    /// The requirements.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub match_expressions: Vec<ScopedResourceSelectorRequirement>,
}

/// A requirement on one scope.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScopedResourceSelectorRequirement {
    /// The scope.
    #[serde(default)]
    pub scope_name: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    #[serde(default)]
    pub operator: String,
    /// The values for `In` and `NotIn`; empty for the others.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub values: Vec<String>,
}

/// What a namespace's objects use.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceQuotaStatus {
    /// The limits that are in force.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hard: ResourceList,
    /// What is used of them.
    #[serde(default, skip_serializing_if = "is_default")]
    pub used: ResourceList,
}

kind!(ResourceQuota, v1, "resourcequotas", singular "resourcequota", Namespaced, short ["quota"], categories [], subresources [Status]);

const COLUMNS: &[Column] = &[
    NAME,
    column("Request", "string", "Use and limit of what is requested or counted."),
    column("Limit", "string", "Use and limit of what limits add up to."),
    AGE,
];

impl Kind for ResourceQuota {
    fn set_defaults(&mut self) {
        let lists = [&mut self.spec.hard, &mut self.status.hard, &mut self.status.used];
        lists.into_iter().for_each(resources::round_up);
    }

    fn prepare_for_create(&mut self) {
        self.status = ResourceQuotaStatus::default();
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
            None => validation::validate_update(self, old),
            Some(_) => validation::validate_status_update(self, old),
        }
    }

    fn columns() -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let (mut requests, mut limits) = (Vec::new(), Vec::new());
        for (name, hard) in &self.status.hard {
            let used = self.status.used.get(name).cloned().unwrap_or_default();
            let cells = if name.starts_with("limits.") { &mut limits } else { &mut requests };
            cells.push(format!("{name}: {used}/{hard}"));
        }
        vec![
            columns::name(&self.metadata),
            requests.join(", ").into(),
            limits.join(", ").into(),
            columns::age(&self.metadata, now),
        ]
    }
}
