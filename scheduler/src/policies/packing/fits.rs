//! First, best and worst fit.

use longshore_core::scheduling::{Cycle, MAX_NODE_SCORE, NodeSet, Reach, Score, ScoreRange, Scores, State};

use super::{Use, mean, prefers, prefers_by_use};

/// Takes the first node, by place, that can take the pod.
///
/// Johnson, Demers, Ullman, Garey, Graham: Worst-case performance bounds for simple one-dimensional packing algorithms (SIAM J.
/// Computing 3(4), 1974).
#[derive(Debug, Clone, Copy, Default)]
pub struct FirstFit;

prefers!(FirstFit, "FirstFit");

impl Score for FirstFit {
    fn score(&self, _: Cycle<'_>, _: &State, nodes: &NodeSet, scores: &mut Scores) {
        for node in nodes.iter() {
            scores.add(node, -i64::try_from(node.index()).unwrap_or(i64::MAX));
        }
    }

    fn is_normalised(&self) -> bool {
        true
    }

    fn normalise(&self, _: Cycle<'_>, _: &State, range: ScoreRange, nodes: &NodeSet, scores: &mut Scores) {
        for node in nodes.iter() {
            scores.set(node, if scores.get(node) == range.max { MAX_NODE_SCORE } else { 0 });
        }
    }

    fn reach(&self) -> Reach {
        Reach::Node
    }
}

/// Prefers the node of which the least would be left: `100 · the mean part in use`, over its resources.
///
/// Best fit in several dimensions by the sum of what is left: Panigrahy, Talwar, Uyeda, Wieder: Heuristics for vector bin packing
/// (Microsoft Research, 2011), with each resource in parts of the node's own.
#[derive(Debug, Clone, Copy, Default)]
pub struct BestFit;

impl BestFit {
    fn of_uses(uses: &[Use]) -> f64 {
        mean(uses, |it| it.after())
    }
}

prefers_by_use!(BestFit, "BestFit");

/// Prefers the node of which the most would be left: the opposite of [`BestFit`], and what spreads load.
#[derive(Debug, Clone, Copy, Default)]
pub struct WorstFit;

impl WorstFit {
    fn of_uses(uses: &[Use]) -> f64 {
        mean(uses, |it| it.left())
    }
}

prefers_by_use!(WorstFit, "WorstFit");
