//! Pods of one kind together.

use std::collections::BTreeSet;

use longshore_core::scheduling::{Cycle, NodeId};

use super::{Demand, Largest, Left, ratio, truncated};

/// Puts pods that ask for as many GPUs next to each other, and apart from others: all who share GPUs are one kind, and so are all
/// who ask for two whole ones.
///
/// Gandiva (Xiao et al., OSDI '18), as the experiments of FGD (Weng et al., USENIX ATC '23) score it: 75 for a node of this kind alone,
/// 50 for one of this kind among others, 25 for one without pods on its GPUs, and up to 25 more the less is left of its GPUs. Pods
/// without GPUs go anywhere.
#[derive(Debug, Clone, Copy)]
pub struct GpuClustering {
    largest: Largest,
}

impl GpuClustering {
    /// The policy in a cluster whose largest node has this.
    pub fn new(largest: Largest) -> Self {
        Self { largest }
    }

    fn of_node(&self, cycle: Cycle<'_>, demand: Demand, node: NodeId) -> i64 {
        let Some(own) = kind(demand) else { return 0 };
        let kinds: BTreeSet<i64> = (cycle.node(node).pods())
            .filter_map(|placed| kind(Demand::by(placed.requests(), cycle.cluster())))
            .collect();
        let all = self.largest.gpu_milli;
        let used = truncated(25.0 * ratio(all - Left::of(cycle.cluster(), node).total(), all));
        used + match (kinds.contains(&own), kinds.len()) {
            (true, 1) => 75,
            (true, _) => 50,
            (false, 0) => 25,
            (false, _) => 0,
        }
    }
}

/// How many whole GPUs, 0 for a part of one; `None` without any.
fn kind(demand: Demand) -> Option<i64> {
    match demand.gpus {
        0 => None,
        _ if demand.is_share() => Some(0),
        gpus => Some(gpus),
    }
}

super::scores_nodes!(GpuClustering, "GpuClustering");
