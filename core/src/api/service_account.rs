//! ServiceAccount: an identity for the processes of pods.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::columns::{self, AGE, NAME, column};
use crate::api::rules;
use crate::api::wire::{self, is_default};
use crate::api::{LocalObjectReference, ObjectReference, V1};
use crate::kind;
use crate::kind::{Column, Kind, Subresource};
use crate::validation::{ErrorList, NameRule};

/// An identity that pods of its namespace can run under.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub struct ServiceAccount {
    /// Version of the API.
    #[serde(default)]
    pub api_version: V1,
    /// Name, namespace, labels and the rest of the object's metadata.
    #[serde(default, deserialize_with = "wire::metadata")]
    pub metadata: ObjectMeta,
    /// Secrets of the same namespace that pods with this account may use; only the names count.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-patch-merge-key" = "name", "x-kubernetes-patch-strategy" = "merge", "x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub secrets: Vec<ObjectReference>,
    /// Secrets of the same namespace for pulling images.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Whether pods with this account get a token mounted; a pod can overrule it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub automount_service_account_token: Option<bool>,
}

kind!(ServiceAccount, v1, "serviceaccounts", singular "serviceaccount", Namespaced, short ["sa"], categories [], subresources [Token]);

const COLUMNS: &[Column] = &[NAME, column("Secrets", "string", "How many secrets are listed."), AGE];

impl ServiceAccount {
    /// Of a reference to a secret only the name means anything, so only that is kept.
    fn keep_only_names_of_secrets(&mut self) {
        for secret in &mut self.secrets {
            *secret = ObjectReference { name: std::mem::take(&mut secret.name), ..ObjectReference::default() };
        }
    }
}

impl Kind for ServiceAccount {
    fn prepare_for_create(&mut self) {
        self.keep_only_names_of_secrets();
    }

    fn prepare_for_update(&mut self, _old: &Self, _subresource: Option<Subresource>) {
        self.keep_only_names_of_secrets();
    }

    fn validate(&self) -> ErrorList {
        rules::validate(self, NameRule::DnsSubdomain)
    }

    fn validate_update(&self, old: &Self, _subresource: Option<Subresource>) -> ErrorList {
        let mut errors = rules::validate_update(self, old);
        errors.extend(self.validate());
        errors
    }

    fn columns() -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        vec![columns::name(&self.metadata), self.secrets.len().into(), columns::age(&self.metadata, now)]
    }
}
