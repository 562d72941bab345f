//! Scale: the number of replicas of any workload, served as a subresource only.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::AutoscalingV1;
use crate::api::wire::{self, is_default};
use crate::kind;

/// The number of replicas of a workload.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub struct Scale {
    /// Version of the API.
    #[serde(default)]
    pub api_version: AutoscalingV1,
    /// Name, namespace, labels and the rest of the object's metadata.
    #[serde(default, deserialize_with = "wire::metadata")]
    pub metadata: ObjectMeta,
    /// The number wanted.
    #[serde(default)]
    pub spec: ScaleSpec,
    /// The number observed.
    #[serde(default)]
    pub status: ScaleStatus,
}

/// How many replicas are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScaleSpec {
    /// The number wanted.
    #[serde(default, skip_serializing_if = "is_default")]
    pub replicas: i32,
}

/// How many replicas there are.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScaleStatus {
    /// The number observed.
    #[serde(default)]
    pub replicas: i32,
    /// The label selector of the replicas, as text.
    #[serde(default, skip_serializing_if = "is_default")]
    pub selector: String,
}

kind!(Scale, "autoscaling"/v1, "scales", singular "scale", Namespaced, short [], categories [], subresources []);
