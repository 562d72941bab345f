//! Which nodes a pod wants, and which other pods near it or not.

use crate::api::wire::{self, is_default};
use crate::selector::LabelSelector;
use crate::string_enum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

string_enum! {
    /// How a node's label or field is compared.
    pub enum NodeSelectorOperator {
        /// It is one of the values.
        In,
        /// It is none of the values.
        NotIn,
        /// It is there.
        Exists,
        /// It is not there.
        DoesNotExist,
        /// It is a greater number.
        Gt,
        /// It is a smaller number.
        Lt,
    }
}

string_enum! {
    /// What happens when pods cannot be spread.
    pub enum UnsatisfiableConstraintAction {
        /// The pod waits.
        DoNotSchedule,
        /// The most even node is preferred.
        ScheduleAnyway,
    }
}

string_enum! {
    /// Whether nodes that the pod cannot use count.
    pub enum NodeInclusionPolicy {
        /// They do not count.
        Honor,
        /// They count.
        Ignore,
    }
}

string_enum! {
    /// How a toleration's value is compared.
    pub enum TolerationOperator {
        /// Any value.
        Exists,
        /// The same value.
        Equal,
        /// A smaller number.
        Lt,
        /// A greater number.
        Gt,
    }
}

/// Where a pod wants to be.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Affinity {
    /// By the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_affinity: Option<NodeAffinity>,
    /// Near other pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_affinity: Option<PodAffinity>,
    /// Away from other pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_anti_affinity: Option<PodAntiAffinity>,
}

/// Which nodes a pod wants.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeAffinity {
    /// Only these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required_during_scheduling_ignored_during_execution: Option<NodeSelector>,
    /// Rather these.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub preferred_during_scheduling_ignored_during_execution: Vec<PreferredSchedulingTerm>,
}

/// Terms of which one must match.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct NodeSelector {
    /// The terms.
    #[serde(default, serialize_with = "wire::empty_as_null", deserialize_with = "wire::null_as_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub node_selector_terms: Vec<NodeSelectorTerm>,
}

/// Requirements that must all hold; without any it matches nothing.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct NodeSelectorTerm {
    /// On the node's labels.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub match_expressions: Vec<NodeSelectorRequirement>,
    /// On the node's fields; only `metadata.name`.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub match_fields: Vec<NodeSelectorRequirement>,
}

/// One requirement on a node.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeSelectorRequirement {
    /// Label or field.
    #[serde(default)]
    pub key: String,
    /// How it is compared.
    #[serde(default)]
    pub operator: NodeSelectorOperator,
    /// What it is compared with.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub values: Vec<String>,
}

/// Nodes that are preferred.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreferredSchedulingTerm {
    /// How much, 1 to 100.
    #[serde(default)]
    pub weight: i32,
    /// Which.
    #[serde(default)]
    pub preference: NodeSelectorTerm,
}

/// Pods that a pod wants near.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodAffinity {
    /// It must be near all of these.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub required_during_scheduling_ignored_during_execution: Vec<PodAffinityTerm>,
    /// It would rather be near these.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub preferred_during_scheduling_ignored_during_execution: Vec<WeightedPodAffinityTerm>,
}

/// Pods that a pod does not want near.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodAntiAffinity {
    /// It must not be near any of these.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub required_during_scheduling_ignored_during_execution: Vec<PodAffinityTerm>,
    /// It would rather not be near these.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub preferred_during_scheduling_ignored_during_execution: Vec<WeightedPodAffinityTerm>,
}

/// Pods that are preferred near or far.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WeightedPodAffinityTerm {
    /// How much, 1 to 100.
    #[serde(default)]
    pub weight: i32,
    /// Which.
    #[serde(default)]
    pub pod_affinity_term: PodAffinityTerm,
}

/// A set of pods and what counts as near.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodAffinityTerm {
    /// The pods, by label; none if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<LabelSelector>,
    /// Their namespaces by name.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub namespaces: Vec<String>,
    /// Nodes with the same value of this label are near each other.
    #[serde(default)]
    pub topology_key: String,
    /// Their namespaces by label; all if empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// Keys of the pod's own labels whose values the pods must share.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub match_label_keys: Vec<String>,
    /// Keys of the pod's own labels whose values the pods must not share.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub mismatch_label_keys: Vec<String>,
}

/// A taint that a pod puts up with.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Toleration {
    /// The taint's key; all if empty, with operator `Exists`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub key: String,
    /// How the value is compared; `Equal` by default.
    #[serde(default, skip_serializing_if = "is_default")]
    pub operator: TolerationOperator,
    /// The taint's value.
    #[serde(default, skip_serializing_if = "is_default")]
    pub value: String,
    /// The taint's effect; all if empty.
    #[serde(default, skip_serializing_if = "is_default")]
    pub effect: String,
    /// For how many seconds a `NoExecute` taint is tolerated; for ever if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub toleration_seconds: Option<i64>,
}

/// How evenly pods are spread over a topology.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TopologySpreadConstraint {
    /// Most by which the number of pods may differ.
    #[serde(default)]
    pub max_skew: i32,
    /// Nodes with the same value of this label are one domain.
    #[serde(default)]
    pub topology_key: String,
    /// What happens when that cannot be kept.
    #[serde(default)]
    pub when_unsatisfiable: UnsatisfiableConstraintAction,
    /// The pods that count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<LabelSelector>,
    /// Least number of domains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_domains: Option<i32>,
    /// Whether nodes that the pod's affinity excludes count; not by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_affinity_policy: Option<NodeInclusionPolicy>,
    /// Whether nodes with taints that the pod does not tolerate count; yes by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_taints_policy: Option<NodeInclusionPolicy>,
    /// Keys of the pod's own labels whose values the pods must share.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub match_label_keys: Vec<String>,
}
