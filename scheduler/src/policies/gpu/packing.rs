//! GPUs before nodes, partly used before free.

use longshore_core::devices::WHOLE;
use longshore_core::scheduling::{Cycle, NodeId};

use super::{Demand, Left};

/// Packs pods onto GPUs that are partly used, then onto free GPUs of nodes in use, and only then onto idle nodes.
///
/// MLaaS in the wild (Weng et al., NSDI '22), as the experiments of FGD (USENIX ATC '23) score it: at least 50 where no free GPU is
/// taken, 33 to 49 on a node in use, at most 32 on an idle one. Pods without GPUs go anywhere.
#[derive(Debug, Clone, Copy, Default)]
pub struct GpuPacking;

impl GpuPacking {
    fn of_node(&self, cycle: Cycle<'_>, demand: Demand, node: NodeId) -> i64 {
        if demand.gpus == 0 {
            return 0;
        }
        let mut left = Left::of(cycle.cluster(), node).gpus;
        let count = left.len() as i64;
        if left.iter().all(|left| *left == WHOLE) {
            return (33 - count).max(count);
        }
        left.retain(|left| *left >= demand.milli);
        left.sort_unstable();
        left.truncate(usize::try_from(demand.gpus).unwrap_or(usize::MAX));
        let free = left.iter().filter(|left| **left == WHOLE).count() as i64;
        if free > 0 {
            return (50 - free).max(33);
        }
        let used: i64 = left.iter().map(|left| 100 * left / WHOLE).sum();
        (100 - used / 10).max(50)
    }
}

super::scores_nodes!(GpuPacking, "GpuPacking");
