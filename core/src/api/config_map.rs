//! ConfigMap: configuration that is not secret.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::V1;
use super::wire::is_default;

/// Configuration data for pods to use.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub struct ConfigMap {
    /// Version of the API.
    #[serde(default)]
    pub api_version: V1,
    /// Name, namespace, labels and the rest of the object's metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// If set, `data` and `binary_data` can no longer change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub immutable: Option<bool>,
    /// Text values by key.
    #[serde(default, skip_serializing_if = "is_default")]
    pub data: BTreeMap<String, String>,
}

crate::kind!(ConfigMap, v1, "configmaps", singular "configmap", Namespaced, short ["cm"], categories [], subresources []);

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
}
