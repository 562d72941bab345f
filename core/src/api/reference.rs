//! References from one object to another.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::wire::is_default;

/// Names an object anywhere, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct ObjectReference {
    /// Kind of the object.
    #[serde(default, skip_serializing_if = "is_default")]
    pub kind: String,
    /// Namespace of the object.
    #[serde(default, skip_serializing_if = "is_default")]
    pub namespace: String,
    /// Name of the object.
    #[serde(default, skip_serializing_if = "is_default")]
    pub name: String,
    /// UID of the object; if set, an object of the same name that was created anew is not meant.
    #[serde(default, skip_serializing_if = "is_default")]
    pub uid: String,
    /// Group and version of the object.
    #[serde(default, skip_serializing_if = "is_default")]
    pub api_version: String,
    /// Version of the object, if a particular one is meant.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resource_version: String,
    /// A part of the object, such as `spec.containers{name}`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub field_path: String,
}

/// Names an object of the same namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct LocalObjectReference {
    /// Name of the object.
    #[serde(default, skip_serializing_if = "is_default")]
    pub name: String,
}

/// Names an object of the same namespace and its kind.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct TypedLocalObjectReference {
    /// API group of the object; unset means the core group.
    #[serde(default)]
    pub api_group: Option<String>,
    /// Kind of the object.
    #[serde(default)]
    pub kind: String,
    /// Name of the object.
    #[serde(default)]
    pub name: String,
}

/// Names an object of a kind, possibly in another namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TypedObjectReference {
    /// API group of the object; unset means the core group.
    #[serde(default)]
    pub api_group: Option<String>,
    /// Kind of the object.
    #[serde(default)]
    pub kind: String,
    /// Name of the object.
    #[serde(default)]
    pub name: String,
    /// Namespace of the object; unset means the same one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// Names a secret, possibly in another namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct SecretReference {
    /// Name of the secret.
    #[serde(default, skip_serializing_if = "is_default")]
    pub name: String,
    /// Namespace of the secret.
    #[serde(default, skip_serializing_if = "is_default")]
    pub namespace: String,
}
