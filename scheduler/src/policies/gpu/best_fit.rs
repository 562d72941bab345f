//! Best fit over CPU and GPU.

use longshore_core::scheduling::{Cycle, NodeId};

use super::{Demand, Largest, Left, truncated};

/// Prefers the node of which the least would be left: half CPU, half GPU, each in parts of the largest node's.
///
/// As the experiments of FGD (Weng et al., USENIX ATC '23) run it: `100 · (1 − (½ · cpu left + ½ · gpu left))`, truncated.
#[derive(Debug, Clone, Copy)]
pub struct GpuBestFit {
    largest: Largest,
}

impl GpuBestFit {
    /// The policy in a cluster whose largest node has this.
    pub fn new(largest: Largest) -> Self {
        Self { largest }
    }

    fn of_node(&self, cycle: Cycle<'_>, demand: Demand, node: NodeId) -> i64 {
        let left = Left::of(cycle.cluster(), node);
        let cpu = self.largest.cpu(left.milli_cpu - demand.milli_cpu);
        let gpu = self.largest.gpu(left.total() - demand.total());
        truncated(100.0 * (1.0 - (0.5 * cpu + 0.5 * gpu)))
    }
}

super::scores_nodes!(GpuBestFit, "GpuBestFit");
