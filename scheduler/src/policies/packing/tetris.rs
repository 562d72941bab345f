//! Alignment of what is asked for with what is left.

use longshore_core::scheduling::{Cycle, NodeSet, Reach, Score, ScoreRange, Scores, State};

use super::{graded, normalise_graded, prefers, ratio, uses};

/// Takes the node where what the pod asks for and what is left have the largest dot product, each resource in parts of the node's own:
/// big pods go where much is left of what they need much of.
///
/// Tetris: Multi-resource packing for cluster schedulers (Grandl et al., SIGCOMM '14, § 3.2), without its share for short jobs. The best
/// node's score is 100, and each per cent less of the product costs a point. [`GpuDotProduct`](crate::policies::gpu::GpuDotProduct)
/// prefers the smallest product, as the experiments of FGD do.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tetris;

prefers!(Tetris, "Tetris");

impl Score for Tetris {
    fn score(&self, cycle: Cycle<'_>, _: &State, nodes: &NodeSet, scores: &mut Scores) {
        for node in nodes.iter() {
            let product = uses(cycle, node).iter().map(|it| ratio(it.asked, it.there) * (1.0 - it.before())).sum();
            scores.add(node, graded(product));
        }
    }

    fn is_normalised(&self) -> bool {
        true
    }

    fn normalise(&self, _: Cycle<'_>, _: &State, range: ScoreRange, nodes: &NodeSet, scores: &mut Scores) {
        normalise_graded(range, nodes, scores);
    }

    fn reach(&self) -> Reach {
        Reach::Node
    }
}
