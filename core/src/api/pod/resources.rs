//! Resources that containers and pods ask for.

use crate::api::wire::is_default;
use crate::quantity::Quantity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Resources of a container or a pod.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceRequirements {
    /// The most that may be used.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: BTreeMap<String, Quantity>,
    /// What is set aside; the limits where not given.
    #[serde(default, skip_serializing_if = "is_default")]
    pub requests: BTreeMap<String, Quantity>,
    /// Claims of the pod that it uses.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub claims: Vec<ResourceClaim>,
}

/// A use of one of the pod's claims.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceClaim {
    /// Name of the claim in the pod's spec.
    #[serde(default)]
    pub name: String,
    /// Request of the claim; all if empty.
    #[serde(default, skip_serializing_if = "is_default")]
    pub request: String,
}

/// A claim of devices for the pod.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodResourceClaim {
    /// Name in the pod.
    #[serde(default)]
    pub name: String,
    /// A ResourceClaim in the pod's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_claim_name: Option<String>,
    /// A template from which a claim is made for the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_claim_template_name: Option<String>,
}
