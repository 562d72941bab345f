//! NodeResourcesBalancedAllocation: resources of a node should be used alike.

use longshore_core::api::pod::Pod;
use longshore_core::scheduling::{ClusterEvent, Cycle, NodeSet, Policy, PreScore, Reach, Score, Scores, State};
use smallvec::SmallVec;

use super::lanes::{Lane, Lanes, floor};
use super::node_resources_fit::{BEST, Usage, cpu_and_memory};

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
        let of_lanes = |lanes: &[(i32, Lanes)], scores: &mut Lane| {
            if let [(_, a), (_, b)] = lanes {
                for (lane, score) in scores.iter_mut().enumerate() {
                    let part = |it: &Lanes| capped(it.taken[lane] / it.there[lane]);
                    *score = floor((1.0 - ((part(a) - part(b)) / 2.0).abs()) * BEST);
                }
                return;
            }
            for (lane, score) in scores.iter_mut().enumerate() {
                let parts = lanes.iter().map(|(_, it)| capped(it.taken[lane] / it.there[lane]));
                *score = floor((1.0 - deviation(&parts.collect::<SmallVec<[f64; 4]>>())) * BEST);
            }
        };
        usage.score(nodes, scores, of_lanes, |node| {
            let mut parts: SmallVec<[f64; 4]> = SmallVec::new();
            #[expect(
                clippy::cast_precision_loss,
                reason = "upstream divides as floating point, and its scores are the measure"
            )]
            usage.each(node, |_, requested, allocatable| parts.push(capped(requested as f64 / allocatable as f64)));
            #[expect(clippy::cast_possible_truncation, reason = "from 0 to 100, and truncated as upstream")]
            let score = ((1.0 - deviation(&parts)) * BEST) as i64;
            score
        });
    }

    fn reach(&self) -> Reach {
        Reach::Node
    }
}

/// What is more than all is all.
fn capped(part: f64) -> f64 {
    if part < 1.0 { part } else { 1.0 }
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
