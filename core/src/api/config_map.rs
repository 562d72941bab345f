//! ConfigMap: configuration that is not secret.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::columns::{self, AGE, NAME, column};
use crate::api::rules;
use crate::api::wire::{self, is_default};
use crate::api::{ByteString, V1};
use crate::kind;
use crate::kind::{Column, Kind, Subresource};
use crate::validation::names::is_config_map_key;
use crate::validation::{ErrorList, NameRule, Path, Report};

/// The name of the map with the certificate of the cluster's authority, which a controller keeps in every namespace.
pub const ROOT_CA: &str = "kube-root-ca.crt";

/// Configuration data for pods to use.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub struct ConfigMap {
    /// Version of the API.
    #[serde(default)]
    pub api_version: V1,
    /// Name, namespace, labels and the rest of the object's metadata.
    #[serde(default, deserialize_with = "wire::metadata")]
    pub metadata: ObjectMeta,
    /// If true, the data can no longer change; only the metadata can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub immutable: Option<bool>,
    /// Text values by key. A key may not also be in `binaryData`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub data: BTreeMap<String, String>,
    /// Binary values by key, base64 on the wire. A key may not also be in `data`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub binary_data: BTreeMap<String, ByteString>,
}

kind!(ConfigMap, v1, "configmaps", singular "configmap", Namespaced, short ["cm"], categories [], subresources []);

const COLUMNS: &[Column] = &[NAME, column("Data", "string", "How many keys there are, text and binary together."), AGE];

/// Most bytes that all values of a config map or secret may have together.
pub(crate) const DATA_MAX: usize = 1024 * 1024;

impl ConfigMap {
    fn validate_content(&self, errors: &mut ErrorList) {
        let at = Path::new("data");
        for key in self.data.keys() {
            errors.invalid_each(&at.key(key), key, is_config_map_key(key));
            if self.binary_data.contains_key(key) {
                errors.invalid(&at.key(key), key.as_str(), "duplicate of key present in binaryData");
            }
        }
        for key in self.binary_data.keys() {
            errors.invalid_each(&Path::new("binaryData").key(key), key, is_config_map_key(key));
        }
        let text: usize = self.data.values().map(String::len).sum();
        let binary: usize = self.binary_data.values().map(|value| value.0.len()).sum();
        if text + binary > DATA_MAX {
            errors.too_long(&Path::new(""), DATA_MAX);
        }
    }
}

impl Kind for ConfigMap {
    fn validate(&self) -> ErrorList {
        let mut errors = rules::validate(self, NameRule::DnsSubdomain);
        self.validate_content(&mut errors);
        errors
    }

    fn validate_update(&self, old: &Self, _subresource: Option<Subresource>) -> ErrorList {
        let mut errors = rules::validate_update(self, old);
        if old.immutable == Some(true) {
            let changed = [
                ("immutable", self.immutable != Some(true)),
                ("data", self.data != old.data),
                ("binaryData", self.binary_data != old.binary_data),
            ];
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
            (self.data.len() + self.binary_data.len()).into(),
            columns::age(&self.metadata, now),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_format_has_the_type() {
        let map = ConfigMap { data: [("a".into(), "1".into())].into(), ..ConfigMap::default() };
        let text = serde_json::to_string(&map).unwrap();
        assert_eq!(text, r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{},"data":{"a":"1"}}"#);
        assert_eq!(serde_json::from_str::<ConfigMap>(&text).unwrap(), map);
    }

    #[test]
    fn binary_data_is_base64_and_counts() {
        let map: ConfigMap = serde_json::from_str(r#"{"data":{"a":"1"},"binaryData":{"b":"AAEC"}}"#).unwrap();
        assert_eq!(map.binary_data["b"].0, [0, 1, 2]);
        assert_eq!(map.row(Timestamp::UNIX_EPOCH)[1], 2);
    }
}
