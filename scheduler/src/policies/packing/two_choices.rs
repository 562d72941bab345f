//! The better of two nodes.

use std::hash::{Hash, Hasher};

use longshore_core::api::pod::Pod;
use longshore_core::scheduling::{Cycle, MAX_NODE_SCORE, NodeId, NodeSet, PreScore, Reach, Score, Scores, State};
use rustc_hash::FxHasher;

use super::{mean, prefers, uses};

/// Looks at two nodes by chance of those that can take the pod, and takes the one that is less in use.
///
/// Mitzenmacher: The power of two choices in randomized load balancing (IEEE TPDS 12(10), 2001). Sparrow (Ousterhout et al., SOSP '13) places
/// tasks so, by the length of workers' queues; here what counts is the mean part of the node's resources in use.
///
/// What stands for chance is worked out of the seed and the pod's namespace and name, so the answer holds for this pod alone and
/// nothing is remembered: a decision takes time by the number of nodes.
#[derive(Debug, Clone, Copy)]
pub struct TwoChoices {
    /// Another seed gives other choices.
    pub seed: u64,
}

impl TwoChoices {
    /// A number from 0 to `end`, which is not among them and more than 0.
    fn draw(self, pod: &Pod, which: u8, end: usize) -> usize {
        let mut hasher = FxHasher::default();
        (self.seed, which, &pod.metadata.namespace, &pod.metadata.name).hash(&mut hasher);
        let mixed = u128::from(hasher.finish().wrapping_mul(0x9e37_79b9_7f4a_7c15));
        usize::try_from((mixed * end as u128) >> 64).unwrap_or(0)
    }
}

prefers!(TwoChoices, "TwoChoices");

impl Score for TwoChoices {
    fn pre_score(&self, cycle: Cycle<'_>, state: &mut State, feasible: &NodeSet) -> PreScore {
        let count = feasible.len();
        let nth = |place: usize| feasible.iter().nth(place);
        let chosen = match count {
            0 => return PreScore::Skip,
            1 => nth(0),
            _ => {
                let first = self.draw(cycle.pod(), 0, count);
                // Any but the first.
                let second = self.draw(cycle.pod(), 1, count - 1);
                let second = second + usize::from(second >= first);
                let used = |node: NodeId| mean(&uses(cycle, node), |it| it.before());
                let (first, second) = (nth(first), nth(second));
                if second.map(used) < first.map(used) { second } else { first }
            }
        };
        state.set(chosen);
        PreScore::Score
    }

    fn score(&self, _: Cycle<'_>, state: &State, nodes: &NodeSet, scores: &mut Scores) {
        let chosen = state.get::<Option<NodeId>>().copied().flatten();
        if let Some(chosen) = chosen.filter(|chosen| nodes.contains(*chosen)) {
            scores.add(chosen, MAX_NODE_SCORE);
        }
    }

    fn reach(&self) -> Reach {
        Reach::Outside
    }
}
