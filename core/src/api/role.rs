//! Role: what may be done in a namespace.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::RbacV1;
use crate::api::columns::{self, NAME, column};
use crate::api::rules;
use crate::api::wire::{self, is_default};
use crate::kind;
use crate::kind::{Column, Kind, Subresource};
use crate::validation::{ErrorList, NameRule, Path, Report, json};

/// What those who hold the role may do in its namespace.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub struct Role {
    /// Version of the API.
    #[serde(default)]
    pub api_version: RbacV1,
    /// Name, namespace, labels and the rest of the object's metadata.
    #[serde(default, deserialize_with = "wire::metadata")]
    pub metadata: ObjectMeta,
    /// The permissions; they only ever add up.
    #[serde(default, serialize_with = "wire::empty_as_null", deserialize_with = "wire::null_as_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub rules: Vec<PolicyRule>,
}

/// Some verbs on some things.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRule {
    /// The verbs; `*` means all.
    #[serde(default, serialize_with = "wire::empty_as_null", deserialize_with = "wire::null_as_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub verbs: Vec<String>,
    /// API groups of the resources; the empty string is the core group.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub api_groups: Vec<String>,
    /// Plural names of kinds; `*` means all.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub resources: Vec<String>,
    /// Names of objects; empty means any.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub resource_names: Vec<String>,
    /// Paths that are not objects; only for cluster roles.
    #[serde(rename = "nonResourceURLs", default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub non_resource_urls: Vec<String>,
}

kind!(Role, "rbac.authorization.k8s.io"/v1, "roles", singular "role", Namespaced, short [], categories [], subresources []);

/// The columns of roles of both kinds.
pub(crate) const COLUMNS: &[Column] = &[NAME, column("Created At", "date", "When the role was created.")];

/// The cells of [`COLUMNS`].
pub(crate) fn row(metadata: &ObjectMeta) -> Vec<Value> {
    let created = metadata.creation_timestamp.as_ref().map(|time| time.0.to_string()).unwrap_or_default();
    vec![columns::name(metadata), created.into()]
}

/// Checks the rules of a role; only those of the whole cluster reach beyond objects.
pub(crate) fn validate_rules(rules: &[PolicyRule], namespaced: bool, errors: &mut ErrorList) {
    for (index, rule) in rules.iter().enumerate() {
        let at = Path::new("rules").index(index);
        if rule.verbs.is_empty() {
            errors.required(&at.child("verbs"), "verbs must contain at least one value");
        }
        if !rule.non_resource_urls.is_empty() {
            let at = at.child("nonResourceURLs");
            if namespaced {
                let why = "namespaced rules cannot apply to non-resource URLs";
                errors.invalid(&at, json(&rule.non_resource_urls), why);
            }
            if !rule.api_groups.is_empty() || !rule.resources.is_empty() || !rule.resource_names.is_empty() {
                let why = "rules cannot apply to both regular resources and non-resource URLs";
                errors.invalid(&at, json(&rule.non_resource_urls), why);
            }
            continue;
        }
        if rule.api_groups.is_empty() {
            errors.required(&at.child("apiGroups"), "resource rules must supply at least one api group");
        }
        if rule.resources.is_empty() {
            errors.required(&at.child("resources"), "resource rules must supply at least one resource");
        }
    }
}

impl Kind for Role {
    fn validate(&self) -> ErrorList {
        let mut errors = rules::validate(self, NameRule::PathSegment);
        validate_rules(&self.rules, true, &mut errors);
        errors
    }

    fn validate_update(&self, old: &Self, _subresource: Option<Subresource>) -> ErrorList {
        let mut errors = self.validate();
        errors.extend(rules::validate_update(self, old));
        errors
    }

    fn columns() -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, _now: Timestamp) -> Vec<Value> {
        row(&self.metadata)
    }
}
