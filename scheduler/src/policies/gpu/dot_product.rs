//! The dot product of what is asked for and what is left.

use longshore_core::scheduling::{Cycle, NodeId};

use super::{Demand, Largest, Left, truncated};

/// Prefers the node where what is left and what the pod asks for have the smallest dot product, CPU and GPU in parts of the largest
/// node's.
///
/// As the experiments of FGD (Weng et al., USENIX ATC '23) run it. They cite Tetris (Grandl et al., SIGCOMM '14), whose heuristic
/// prefers the largest product.
#[derive(Debug, Clone, Copy)]
pub struct GpuDotProduct {
    largest: Largest,
}

impl GpuDotProduct {
    /// The policy in a cluster whose largest node has this.
    pub fn new(largest: Largest) -> Self {
        Self { largest }
    }

    fn of_node(&self, cycle: Cycle<'_>, demand: Demand, node: NodeId) -> i64 {
        let (largest, left) = (self.largest, Left::of(cycle.cluster(), node));
        let product = largest.cpu(left.milli_cpu) * largest.cpu(demand.milli_cpu)
            + largest.gpu(left.total()) * largest.gpu(demand.total());
        truncated(100.0 * (1.0 - 0.5 * product))
    }
}

super::scores_nodes!(GpuDotProduct, "GpuDotProduct");
