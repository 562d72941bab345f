//! Opportunity cost.

use longshore_core::scheduling::{Cycle, NodeSet, Reach, Score, ScoreRange, Scores, State};

use super::{Use, graded, normalise_graded, prefers, uses};

/// Takes the node where the pod costs the least: a node costs the sum over its resources of `n^(part in use)`, where n is the number of
/// nodes, and the pod what it adds to that. It spreads load, the more the fuller nodes are; Borg used a variant of it for years.
///
/// Amir, Awerbuch, Barak, Borgstrom, Keren: An opportunity cost approach for job assignment in a scalable computing cluster (IEEE
/// TPDS 11(7), 2000), called E-PVM there; Large-scale cluster management at Google with Borg (Verma et al., EuroSys '15, § 3.2). The
/// cheapest node's score is 100, and each per cent dearer costs a point.
#[derive(Debug, Clone, Copy, Default)]
pub struct EPvm;

prefers!(EPvm, "EPvm");

/// What the pod adds to the cost of a node.
fn cost(uses: &[Use], nodes: f64) -> f64 {
    uses.iter().map(|it| nodes.powf(it.after()) - nodes.powf(it.before())).sum()
}

impl Score for EPvm {
    #[expect(clippy::cast_precision_loss, reason = "there are far fewer nodes than 2^52")]
    fn score(&self, cycle: Cycle<'_>, _: &State, nodes: &NodeSet, scores: &mut Scores) {
        // One node alone would cost the same whatever is on it.
        let count = cycle.cluster().node_count().max(2) as f64;
        for node in nodes.iter() {
            scores.add(node, -graded(cost(&uses(cycle, node), count)));
        }
    }

    fn is_normalised(&self) -> bool {
        true
    }

    fn normalise(&self, _: Cycle<'_>, _: &State, range: ScoreRange, nodes: &NodeSet, scores: &mut Scores) {
        normalise_graded(range, nodes, scores);
    }

    fn reach(&self) -> Reach {
        Reach::Nodes
    }
}
