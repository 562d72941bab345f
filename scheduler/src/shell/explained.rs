//! What a scheduler has to say about one pod, to be shown to people and programs.

use std::collections::BTreeMap;

use longshore_core::api::pod::Pod;
use longshore_core::scheduling::Refusal;
use serde::Serialize;

use super::record::Decision;
use crate::engine::{Explanation, NodeRefusal, NodeScore};

/// Said of a pod that has a node.
const AS_IF: &str = "as if the pod were to be placed now and were not there yet";

/// Everything that a scheduler has to say about a pod. Serializes for programs and prints for people.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct PodExplanation {
    /// `PodExplanation`.
    pub kind: &'static str,
    /// `longshore.dev/v1`.
    pub api_version: &'static str,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's uid.
    pub uid: String,
    /// The profile that decides about the pod.
    pub profile: String,
    /// The node that the pod has; `None` while it is pending.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Where a pending pod waits: `active` (to be tried next), `backoff`, `unschedulable` (for something to change) or `gated`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<&'static str>,
    /// Of what state the rest speaks, if not simply of the present one.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub assuming: &'static str,
    /// Why no node can take the pod, in upstream's words; empty if one can.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Who refused the pod before any node was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused_at_once: Option<PolicyRefusal>,
    /// How many nodes were refused for each reason. A node may have several.
    pub reasons: BTreeMap<String, usize>,
    /// How many nodes each policy refused. A node is refused by the first that does.
    pub policies: BTreeMap<String, usize>,
    /// The smallest changes that would let the pod fit, best first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remedies: Vec<RemedyText>,
    /// What is to be known about the cluster to see why the pod has no place, in sentences.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
    /// The nodes of the highest total.
    pub best: Vec<String>,
    /// The nodes that can take the pod, with what each policy thinks of them; by name.
    pub feasible: Vec<NodeScore>,
    /// The nodes that cannot; by name.
    pub refused: Vec<RefusedNode>,
    /// What was decided about pods of this name lately, oldest first.
    pub decisions: Vec<Decision>,
}

/// A change and what it would bring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RemedyText {
    /// What is to be changed, such as `200m less cpu`.
    pub change: String,
    /// On how many nodes the pod would fit.
    pub nodes: usize,
}

/// A policy's no.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyRefusal {
    /// The policy.
    pub policy: String,
    /// Upstream's name of the code: whether evicting pods could help.
    pub code: &'static str,
    /// Why.
    pub reasons: Vec<String>,
}

/// A node that cannot take the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusedNode {
    /// The node.
    pub node: String,
    /// The first policy to refuse it, and why.
    #[serde(flatten)]
    pub why: PolicyRefusal,
    /// What upstream's reasons leave out, such as how much is free, or which taint it is; empty if there is nothing to add.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

impl PolicyRefusal {
    fn of(policy: String, refusal: &Refusal) -> Self {
        let reasons = refusal.reasons.iter().map(|reason| reason.as_str().to_owned()).collect();
        Self { policy, code: refusal.code.as_str(), reasons }
    }
}

impl PodExplanation {
    pub(super) fn of(pod: &Pod) -> Self {
        let meta = &pod.metadata;
        Self {
            kind: "PodExplanation",
            api_version: "longshore.dev/v1",
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            ..Self::default()
        }
    }

    /// `detail` says more about a node's refusal.
    pub(super) fn with(
        mut self,
        explanation: Explanation,
        remedies: Vec<RemedyText>,
        detail: impl Fn(&NodeRefusal) -> String,
    ) -> Self {
        if self.node.is_some() {
            self.assuming = AS_IF;
        }
        let held = explanation.held.or(explanation.pre_filter);
        self.message = explanation.message;
        if let Some((policy, refusal)) = held {
            if self.message.is_empty() {
                self.message = refusal.to_string();
            }
            self.refused_at_once = Some(PolicyRefusal::of(policy, &refusal));
        }
        for refused in explanation.refused {
            *self.policies.entry(refused.policy.clone()).or_default() += 1;
            let detail = detail(&refused);
            let why = PolicyRefusal::of(refused.policy, &refused.refusal);
            self.refused.push(RefusedNode { node: refused.node, why, detail });
        }
        self.reasons = explanation.reasons;
        self.best = explanation.best;
        self.feasible = explanation.feasible;
        self.remedies = remedies;
        self
    }
}
