//! NodeResourcesBalancedAllocation: resources of a node should be used alike.

use longshore_core::api::pod::Pod;
use longshore_core::scheduling::{
    ClusterEvent, Cycle, MAX_NODE_SCORE, NodeSet, Policy, PreScore, Reach, Score, Scores, State,
};

use super::node_resources_fit::{Usage, cpu_and_memory};

/// Prefers nodes of which, with the pod, the same part of each resource would be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeResourcesBalancedAllocation {
    resources: Vec<(String, i64)>,
}

impl Default for NodeResourcesBalancedAllocation {
    fn default() -> Self {
        Self { resources: cpu_and_memory() }
    }
}

impl NodeResourcesBalancedAllocation {
    /// The policy over these resources.
    pub fn over(resources: impl IntoIterator<Item = String>) -> Self {
        Self { resources: resources.into_iter().map(|name| (name, 1)).collect() }
    }
}

impl Policy for NodeResourcesBalancedAllocation {
    fn name(&self) -> &str {
        "NodeResourcesBalancedAllocation"
    }

    fn may_help(&self, _pod: &Pod, _event: &ClusterEvent<'_>) -> bool {
        false
    }

    fn as_score(&self) -> Option<&dyn Score> {
        Some(self)
    }
}

impl Score for NodeResourcesBalancedAllocation {
    fn pre_score(&self, cycle: Cycle<'_>, _state: &mut State, _feasible: &NodeSet) -> PreScore {
        let asks = self.resources.iter().any(|(name, _)| cycle.request(name) != 0);
        if asks { PreScore::Score } else { PreScore::Skip }
    }

    fn score(&self, cycle: Cycle<'_>, _state: &State, nodes: &NodeSet, scores: &mut Scores) {
        let usage = Usage::of(cycle, &self.resources, false);
        let mut parts: Vec<f64> = Vec::with_capacity(self.resources.len());
        for node in nodes.iter() {
            parts.clear();
            #[expect(
                clippy::cast_precision_loss,
                reason = "upstream divides as floating point, and its scores are the measure"
            )]
            usage.each(node, |_, requested, allocatable| parts.push((requested as f64 / allocatable as f64).min(1.0)));
            #[expect(clippy::cast_possible_truncation, reason = "from 0 to 100, and truncated as upstream")]
            scores.add(node, ((1.0 - deviation(&parts)) * MAX_NODE_SCORE as f64) as i64);
        }
    }

    fn reach(&self) -> Reach {
        Reach::Node
    }
}

/// The standard deviation.
#[expect(clippy::cast_precision_loss, reason = "a handful of resources")]
fn deviation(parts: &[f64]) -> f64 {
    match *parts {
        [] | [_] => 0.0,
        [a, b] => ((a - b) / 2.0).abs(),
        _ => {
            let count = parts.len() as f64;
            let mean = parts.iter().sum::<f64>() / count;
            (parts.iter().map(|part| (part - mean) * (part - mean)).sum::<f64>() / count).sqrt()
        }
    }
}
