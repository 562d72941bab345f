//! ClusterRole: what may be done in the whole cluster, or in a namespace that a RoleBinding is in.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::RbacV1;
use crate::api::role::{self, PolicyRule};
use crate::api::rules;
use crate::api::wire;
use crate::kind;
use crate::kind::{Column, Kind, Subresource};
use crate::selector::LabelSelector;
use crate::validation::{ErrorList, NameRule, Path, Report, validate_label_selector};

/// What those who hold the role may do, wherever it is bound.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub struct ClusterRole {
    /// Version of the API.
    #[serde(default)]
    pub api_version: RbacV1,
    /// Name, labels and the rest of the object's metadata.
    #[serde(default, deserialize_with = "wire::metadata")]
    pub metadata: ObjectMeta,
    /// The permissions; they only ever add up.
    #[serde(default, serialize_with = "wire::empty_as_null", deserialize_with = "wire::null_as_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub rules: Vec<PolicyRule>,
    /// Other cluster roles whose rules are this one's, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregation_rule: Option<AggregationRule>,
}

/// Which cluster roles are put together to one.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AggregationRule {
    /// Labels of the cluster roles; one that any selector chooses counts.
    #[serde(default, skip_serializing_if = "wire::is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub cluster_role_selectors: Vec<LabelSelector>,
}

kind!(ClusterRole, "rbac.authorization.k8s.io"/v1, "clusterroles", singular "clusterrole", Cluster, short [], categories [], subresources []);

impl Kind for ClusterRole {
    fn validate(&self) -> ErrorList {
        let mut errors = rules::validate(self, NameRule::PathSegment);
        role::validate_rules(&self.rules, false, &mut errors);
        if let Some(rule) = &self.aggregation_rule {
            let at = Path::new("aggregationRule").child("clusterRoleSelectors");
            if rule.cluster_role_selectors.is_empty() {
                errors.required(&at, "at least one clusterRoleSelector required if aggregationRule is non-nil");
            }
            for (index, selector) in rule.cluster_role_selectors.iter().enumerate() {
                validate_label_selector(Some(selector), &at.index(index), &mut errors);
            }
        }
        errors
    }

    fn validate_update(&self, old: &Self, _subresource: Option<Subresource>) -> ErrorList {
        let mut errors = self.validate();
        errors.extend(rules::validate_update(self, old));
        errors
    }

    fn columns() -> &'static [Column] {
        role::COLUMNS
    }

    fn row(&self, _now: Timestamp) -> Vec<Value> {
        role::row(&self.metadata)
    }
}
