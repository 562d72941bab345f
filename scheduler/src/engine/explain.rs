//! Everything that policies think of a pod, node by node.

use std::collections::BTreeMap;

use longshore_core::api::pod::Pod;
use longshore_core::scheduling::Refusal;
use serde::Serialize;

use super::{Diagnosis, Engine, Unplaced, cached_at};

/// What one policy thinks of a node that can take the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyScore {
    /// The policy.
    pub policy: String,
    /// 0 to 100.
    pub score: i64,
    /// What the score is multiplied by.
    pub weight: i64,
}

/// A node that can take the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeScore {
    /// The node.
    pub node: String,
    /// What the policies think of it; a policy that has nothing to say about the pod is not listed.
    pub scores: Vec<PolicyScore>,
    /// The sum of weight times score.
    pub total: i64,
}

/// A node that cannot take the pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRefusal {
    /// The node.
    pub node: String,
    /// The first policy to refuse it.
    pub policy: String,
    /// What it said.
    pub refusal: Refusal,
}

/// Everything that policies think of a pod. Nodes are ordered by name.
#[derive(Debug, Clone, Default)]
pub struct Explanation {
    /// The policy that holds the pod back, if any; then nothing else was looked at.
    pub held: Option<(String, Refusal)>,
    /// The policy that refused the pod before any node was looked at.
    pub pre_filter: Option<(String, Refusal)>,
    /// The nodes that can take the pod.
    pub feasible: Vec<NodeScore>,
    /// The nodes that cannot.
    pub refused: Vec<NodeRefusal>,
    /// How many nodes were refused for each reason. A node may have several.
    pub reasons: BTreeMap<String, usize>,
    /// Those of the highest total, or the one on which room was made for the pod if it can take it.
    pub best: Vec<String>,
    /// Whether the pod goes where room was made for it, whatever the scores.
    pub nominated: bool,
    /// The message for people, if no node can take the pod.
    pub message: String,
}

impl Explanation {
    /// Orders the nodes, counts reasons and finds the best.
    pub(super) fn conclude(&mut self, pod: &Pod) {
        self.feasible.sort_by(|a, b| a.node.cmp(&b.node));
        self.refused.sort_by(|a, b| a.node.cmp(&b.node));
        for reason in self.refused.iter().flat_map(|node| &node.refusal.reasons) {
            *self.reasons.entry(reason.as_str().to_owned()).or_default() += 1;
        }
        let top = self.feasible.iter().map(|score| score.total).max();
        let nominated = &pod.status.nominated_node_name;
        self.nominated = self.feasible.iter().any(|score| score.node == *nominated);
        self.best = if self.nominated {
            vec![nominated.clone()]
        } else {
            let best = self.feasible.iter().filter(|score| Some(score.total) == top);
            best.map(|score| score.node.clone()).collect()
        };
    }
}

impl Engine {
    /// Explains what [`Engine::decide`] would do, from the same state. Changes nothing.
    ///
    /// # Errors
    /// [`Unplaced::NoProfile`].
    pub fn explain(&mut self, pod: &Pod) -> Result<Explanation, Unplaced> {
        let place = self.profile_place(pod).ok_or_else(|| Unplaced::no_profile(pod))?;
        let mut explanation = Explanation::default();
        if let Err(Unplaced::Held { policy, refusal }) = self.held(place, pod) {
            explanation.held = Some((policy, refusal));
            return Ok(explanation);
        }
        let (profile, seat) = self.look(place, pod);
        let refusals = self.refusals(&profile, seat, pod);
        let cached = cached_at(&self.known, &self.scratch, seat);
        let diagnosis = Diagnosis::new(&profile, cached, refusals, self.cluster.node_count());
        for (node, total) in self.cluster.nodes().iter().filter_map(|node| Some((node, cached.best().score(node)?))) {
            let scores = profile.scores().filter_map(|(place, _)| {
                let enabled = &profile.policies()[place];
                let score = cached.score(place, node)?;
                Some(PolicyScore { policy: enabled.policy().name().to_owned(), score, weight: enabled.weight() })
            });
            let scores = scores.collect();
            explanation.feasible.push(NodeScore { node: self.cluster.name(node).to_owned(), scores, total });
        }
        let refused = diagnosis.refusals(&self.cluster);
        explanation.refused = refused
            .map(|(node, policy, refusal)| NodeRefusal {
                node: node.to_owned(),
                policy: policy.to_owned(),
                refusal: refusal.clone(),
            })
            .collect();
        explanation.pre_filter = diagnosis.pre_filter().map(|(policy, refusal)| (policy.to_owned(), refusal.clone()));
        if explanation.feasible.is_empty() {
            explanation.message = diagnosis.to_string();
        }
        explanation.conclude(pod);
        Ok(explanation)
    }
}
