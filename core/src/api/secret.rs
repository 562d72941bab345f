//! Secret: small pieces of sensitive data.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::columns::{self, AGE, NAME, column};
use crate::api::config_map::DATA_MAX;
use crate::api::rules;
use crate::api::wire::{self, is_default};
use crate::api::{ByteString, V1};
use crate::kind::{Column, Kind, Subresource};
use crate::validation::names::is_config_map_key;
use crate::validation::{ErrorList, NameRule, Path, Report, read_json};
use crate::{kind, string_enum};

/// Sensitive data such as passwords and keys.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub struct Secret {
    /// Version of the API.
    #[serde(default)]
    pub api_version: V1,
    /// Name, namespace, labels and the rest of the object's metadata.
    #[serde(default, deserialize_with = "wire::metadata")]
    pub metadata: ObjectMeta,
    /// If true, the data can no longer change; only the metadata can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub immutable: Option<bool>,
    /// Values by key, base64 on the wire.
    #[serde(default, skip_serializing_if = "is_default")]
    pub data: BTreeMap<String, ByteString>,
    /// Values by key as plain text, for writing only: they are merged over `data` and never read back.
    #[serde(default, skip_serializing_if = "is_default")]
    pub string_data: BTreeMap<String, String>,
    /// What the data are for; decides which keys must be there. `Opaque` if unset.
    #[serde(default, skip_serializing_if = "is_default")]
    pub type_: SecretType,
}

kind!(Secret, v1, "secrets", singular "secret", Namespaced, short [], categories [], subresources []);

string_enum! {
    /// What a secret holds; any other text is a type of the user's own.
    pub enum SecretType {
        /// Anything.
        Opaque = "Opaque",
        /// A token of a service account.
        ServiceAccountToken = "kubernetes.io/service-account-token",
        /// A `.dockercfg` file.
        Dockercfg = "kubernetes.io/dockercfg",
        /// A `.docker/config.json` file.
        DockerConfigJson = "kubernetes.io/dockerconfigjson",
        /// User name and password.
        BasicAuth = "kubernetes.io/basic-auth",
        /// An SSH private key.
        SshAuth = "kubernetes.io/ssh-auth",
        /// A certificate and its key.
        Tls = "kubernetes.io/tls",
        /// A token with which nodes join.
        BootstrapToken = "bootstrap.kubernetes.io/token",
    }
}

const COLUMNS: &[Column] = &[
    NAME,
    column("Type", "string", "What the data are for."),
    column("Data", "string", "How many keys there are."),
    AGE,
];

impl Secret {
    /// Moves `stringData` into `data`, as a write does.
    fn merge_string_data(&mut self) {
        for (key, text) in std::mem::take(&mut self.string_data) {
            self.data.insert(key, ByteString(text.into_bytes()));
        }
    }
}

/// Annotation that names the account of a token.
const SERVICE_ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";

impl Secret {
    /// Checks that what the type is about is there.
    fn validate_type(&self, at: &Path, errors: &mut ErrorList) {
        let has = |key: &str| self.data.contains_key(key);
        let mut demand = |key: &str| errors.required(&at.key(key), "");
        match self.type_ {
            SecretType::ServiceAccountToken => {
                let annotations = self.metadata.annotations.as_ref();
                if annotations.and_then(|all| all.get(SERVICE_ACCOUNT_NAME)).is_none_or(String::is_empty) {
                    let at = Path::new("metadata").child("annotations").key(SERVICE_ACCOUNT_NAME);
                    errors.required(&at, "");
                }
            }
            SecretType::Dockercfg => self.validate_json(".dockercfg", at, errors),
            SecretType::DockerConfigJson => self.validate_json(".dockerconfigjson", at, errors),
            SecretType::BasicAuth if !has("username") && !has("password") => {
                ["username", "password"].into_iter().for_each(demand);
            }
            SecretType::SshAuth if self.data.get("ssh-privatekey").is_none_or(|key| key.0.is_empty()) => {
                demand("ssh-privatekey");
            }
            SecretType::Tls => ["tls.crt", "tls.key"].into_iter().filter(|key| !has(key)).for_each(demand),
            _ => {}
        }
    }

    fn validate_json(&self, key: &str, at: &Path, errors: &mut ErrorList) {
        type Fields = serde_json::Map<String, Value>;
        match self.data.get(key).map(|text| read_json::<Fields>(&text.0, "map[string]interface {}")) {
            None => errors.required(&at.key(key), ""),
            Some(Ok(_)) => {}
            Some(Err(error)) => errors.invalid(&at.key(key), "<secret contents redacted>", error),
        }
    }
}

impl Kind for Secret {
    fn set_defaults(&mut self) {
        if self.type_.is_unset() {
            self.type_ = SecretType::Opaque;
        }
    }

    fn normalize(&mut self) {
        self.merge_string_data();
    }

    fn prepare_for_create(&mut self) {
        self.merge_string_data();
    }

    fn prepare_for_update(&mut self, old: &Self, _subresource: Option<Subresource>) {
        self.merge_string_data();
        if self.type_.is_unset() {
            self.type_ = old.type_.clone();
        }
    }

    fn validate(&self) -> ErrorList {
        let mut errors = rules::validate(self, NameRule::DnsSubdomain);
        let at = Path::new("data");
        for key in self.data.keys() {
            errors.invalid_each(&at.key(key), key, is_config_map_key(key));
        }
        if self.data.values().map(|value| value.0.len()).sum::<usize>() > DATA_MAX {
            errors.too_long(&at, DATA_MAX);
        }
        self.validate_type(&at, &mut errors);
        errors
    }

    fn validate_update(&self, old: &Self, _subresource: Option<Subresource>) -> ErrorList {
        let mut errors = rules::validate_update(self, old);
        errors.immutable(&Path::new("type"), &self.type_, &old.type_);
        if old.immutable == Some(true) {
            let changed = [("immutable", self.immutable != Some(true)), ("data", self.data != old.data)];
            for (field, _) in changed.into_iter().filter(|(_, changed)| *changed) {
                errors.forbidden(&Path::new(field), "field is immutable when `immutable` is set");
            }
        }
        errors.extend(self.validate());
        errors
    }

    fn columns() -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        vec![
            columns::name(&self.metadata),
            self.type_.as_str().into(),
            self.data.len().into(),
            columns::age(&self.metadata, now),
        ]
    }

    fn field(&self, label: &str) -> Option<String> {
        (label == "type").then(|| self.type_.to_string())
    }

    fn selectable_fields() -> &'static [&'static str] {
        &["type"]
    }
}
