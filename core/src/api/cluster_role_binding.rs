//! ClusterRoleBinding: who holds a cluster role everywhere.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::RbacV1;
use crate::api::role_binding::{self, RoleRef, Subject};
use crate::api::rules;
use crate::api::wire::{self, is_default};
use crate::kind;
use crate::kind::{Column, Kind, Subresource};
use crate::validation::{ErrorList, NameRule};

/// Gives a cluster role to somebody, in all namespaces and beyond them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub struct ClusterRoleBinding {
    /// Version of the API.
    #[serde(default)]
    pub api_version: RbacV1,
    /// Name, labels and the rest of the object's metadata.
    #[serde(default, deserialize_with = "wire::metadata")]
    pub metadata: ObjectMeta,
    /// Who holds the role.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub subjects: Vec<Subject>,
    /// The cluster role.
    #[serde(default)]
    pub role_ref: RoleRef,
}

kind!(ClusterRoleBinding, "rbac.authorization.k8s.io"/v1, "clusterrolebindings", singular "clusterrolebinding", Cluster, short [], categories [], subresources []);

impl Kind for ClusterRoleBinding {
    fn set_defaults(&mut self) {
        role_binding::set_defaults(&mut self.subjects, &mut self.role_ref);
    }

    fn validate(&self) -> ErrorList {
        let mut errors = rules::validate(self, NameRule::PathSegment);
        role_binding::validate(&self.subjects, &self.role_ref, &["ClusterRole"], &mut errors);
        errors
    }

    fn validate_update(&self, old: &Self, _subresource: Option<Subresource>) -> ErrorList {
        let mut errors = self.validate();
        errors.extend(rules::validate_update(self, old));
        role_binding::validate_role_update(&self.role_ref, &old.role_ref, &mut errors);
        errors
    }

    fn columns() -> &'static [Column] {
        role_binding::COLUMNS
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        role_binding::row(&self.metadata, &self.subjects, &self.role_ref, now)
    }
}
