//! Choosing among a part of the nodes, as upstream does, for those who want it.

use longshore_core::scheduling::NodeId;
use longshore_core::scheduling::cluster::Cluster;
use serde::Serialize;

use super::best::Podium;

/// Fewer feasible nodes than these are never chosen from, if there are as many.
const LEAST: usize = 100;

/// How many feasible nodes are enough to choose from. Upstream's `percentageOfNodesToScore`; here something to compare with,
/// for a decision that looks at all nodes is the quicker one: what policies think of every node is kept up to date in
/// any case, and a sample is drawn from that. So the score of the best node passed over is always known.
///
/// Nodes are taken in turn, in the order in which they came, beginning behind the last one that the decision before looked at.
/// Scores are those of an exact decision: normalised over all feasible nodes, where upstream knows only its sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sampling {
    /// As upstream does unless told otherwise: 50 per cent of the nodes, less one for each 125 of them, but 5 at least.
    Adaptive,
    /// So many per cent of the nodes; more than 100 are 100.
    Percent(u8),
}

impl Sampling {
    /// How many feasible nodes are looked for among so many: the percentage of all, but 100 at least.
    pub fn nodes_to_find(self, nodes: usize) -> usize {
        let percentage = match self {
            Self::Adaptive => 50_usize.saturating_sub(nodes / 125).max(5),
            Self::Percent(percentage) => usize::from(percentage.min(100)),
        };
        (nodes * percentage / 100).max(LEAST.min(nodes))
    }
}

/// What it cost to choose from a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sampled {
    /// How many nodes were looked at, feasible or not.
    pub looked_at: usize,
    /// The total of the node that was chosen.
    pub chosen_score: i64,
    /// The total of the best node of all.
    pub best_score: i64,
}

impl Sampled {
    /// How much better the best node is than the chosen one; 0 if it was in the sample, or one as good.
    pub fn loss(self) -> i64 {
        self.best_score - self.chosen_score
    }
}

/// The best nodes of the next sample, in the order in which they were looked at. `next` is the place where it begins, and then where
/// the one after it does. At least one node must be feasible.
pub(super) fn draw(
    best: &Podium,
    best_score: i64,
    cluster: &Cluster,
    sampling: Sampling,
    next: &mut usize,
) -> (Vec<NodeId>, Sampled) {
    let wanted = sampling.nodes_to_find(cluster.node_count());
    let mut sampled = Sampled { looked_at: 0, chosen_score: i64::MIN, best_score };
    let (mut found, mut chosen) = (0, Vec::new());
    let start = if *next < cluster.width() { *next } else { 0 };
    for place in (start..cluster.width()).chain(0..start) {
        let node = NodeId::from_index(place);
        if !cluster.nodes().contains(node) {
            continue;
        }
        sampled.looked_at += 1;
        *next = place + 1;
        let Some(score) = best.score(node) else { continue };
        if score > sampled.chosen_score {
            sampled.chosen_score = score;
            chosen.clear();
        }
        if score == sampled.chosen_score {
            chosen.push(node);
        }
        found += 1;
        if found == wanted {
            break;
        }
    }
    (chosen, sampled)
}
