//! Policies from the literature on packing and spreading, each in a file of its own. They prefer nodes by CPU, memory and, where a node
//! has them, GPUs ([`GPU`]) together; what fits is a matter of [`NodeResourcesFit`](super::NodeResourcesFit) and
//! [`Devices`](super::Devices).
//!
//! Scores are whole numbers from 0 to 100, truncated. A profile that has only one of these should break ties in a fixed order of nodes
//! ([`TieBreak::First`](longshore_core::scheduling::TieBreak)).

mod e_pvm;
mod fits;
mod nomad;
mod stranded;
mod tetris;
mod two_choices;

use longshore_core::devices::{WHOLE, share_name};
use longshore_core::scheduling::cluster::{Cluster, ResourceId};
use longshore_core::scheduling::{Cycle, MAX_NODE_SCORE, NodeId, NodeSet, ScoreRange, Scores};
use smallvec::SmallVec;

pub use e_pvm::EPvm;
pub use fits::{BestFit, FirstFit, WorstFit};
pub use nomad::{NomadBinpack, NomadSpread};
pub use stranded::StrandedResources;
pub use tetris::Tetris;
pub use two_choices::TwoChoices;

use super::gpu::GPU;
use super::preference::prefers;

/// A resource of a node, in its smallest units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Use {
    /// What pods may have; more than 0.
    there: i64,
    /// What they have.
    taken: i64,
    /// What the pod would have.
    asked: i64,
}

impl Use {
    /// The part in use, from 0 to 1.
    fn before(self) -> f64 {
        ratio(self.taken, self.there)
    }

    /// The part in use with the pod.
    fn after(self) -> f64 {
        ratio(self.taken.saturating_add(self.asked), self.there)
    }

    /// The part left with the pod.
    fn left(self) -> f64 {
        1.0 - self.after()
    }
}

#[expect(clippy::cast_precision_loss, reason = "a score needs no more")]
fn ratio(part: i64, whole: i64) -> f64 {
    (part as f64 / whole as f64).clamp(0.0, 1.0)
}

/// CPU, memory and GPUs of a node, as far as it has them.
type Uses = SmallVec<[Use; 3]>;

fn uses(cycle: Cycle<'_>, node: NodeId) -> Uses {
    let (cluster, requests) = (cycle.cluster(), cycle.shape().requests());
    let of = |resource: ResourceId| Use {
        there: at(cluster.allocatable(resource), node),
        taken: at(cluster.requested(resource), node),
        asked: requests.amount(resource),
    };
    let all = [Some(of(ResourceId::CPU)), Some(of(ResourceId::MEMORY)), gpus(cluster, of)];
    all.into_iter().flatten().filter(|it| it.there > 0).collect()
}

/// GPUs in thousandths: whole ones and parts are resources of their own.
fn gpus(cluster: &Cluster, of: impl Fn(ResourceId) -> Use) -> Option<Use> {
    let whole = of(cluster.resource(GPU)?);
    let milli = |whole: i64| whole.saturating_mul(WHOLE);
    let mut all = Use { there: milli(whole.there), taken: milli(whole.taken), asked: milli(whole.asked) };
    if let Some(share) = cluster.resource(&share_name(GPU)).map(of) {
        all.taken = all.taken.saturating_add(share.taken);
        all.asked = all.asked.saturating_add(share.asked);
    }
    Some(all)
}

fn at(column: &[i64], node: NodeId) -> i64 {
    column.get(node.index()).copied().unwrap_or(0)
}

/// The mean of what is said of each resource; 0 of none.
#[expect(clippy::cast_precision_loss, reason = "three resources at most")]
fn mean(uses: &[Use], of: impl Fn(&Use) -> f64) -> f64 {
    if uses.is_empty() { 0.0 } else { uses.iter().map(of).sum::<f64>() / uses.len() as f64 }
}

/// A part as a score from 0 to 100.
#[expect(clippy::cast_possible_truncation, reason = "that is what it is for")]
fn score(part: f64) -> i64 {
    // What is meant to be a whole number may be a little less, for parts are not exact.
    (100.0 * part.clamp(0.0, 1.0) + 1e-9) as i64
}

/// Steps of [`graded`] that make a point of score.
const POINT: i64 = 10_000;

/// A positive number by its logarithm, so that near ones can be told apart, small or large: a point is about one per cent.
#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a logarithm is a small number")]
fn graded(number: f64) -> i64 {
    (number.max(f64::MIN_POSITIVE).ln() * 100.0 * POINT as f64) as i64
}

/// The best is 100, and each begun point below it costs one.
fn normalise_graded(range: ScoreRange, nodes: &NodeSet, scores: &mut Scores) {
    for node in nodes.iter() {
        let behind = (range.max - scores.get(node) + POINT - 1) / POINT;
        scores.set(node, (MAX_NODE_SCORE - behind).max(0));
    }
}

/// Makes a policy of what scores a node by [`Uses`], by a function from 0 to 1.
macro_rules! prefers_by_use {
    ($policy:ty, $name:literal) => {
        $crate::policies::preference::prefers!($policy, $name);
        $crate::policies::preference::scores_each!($policy, |_policy, cycle| &cycle, |cycle, node| {
            let part = Self::of_uses(&$crate::policies::packing::uses(*cycle, node));
            $crate::policies::packing::score(part)
        });
    };
}
use prefers_by_use;

#[cfg(test)]
mod tests;
