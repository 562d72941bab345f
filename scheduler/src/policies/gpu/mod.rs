//! Policies for clusters of GPUs from the literature and one of our own, each in a file. They prefer nodes, and some choose the device;
//! what fits is a matter of [`NodeResourcesFit`](super::NodeResourcesFit) and [`Devices`](super::Devices).
//!
//! A node says which devices it has as [`longshore_core::devices`] tells, so the same policies serve a live cluster and a simulated
//! one. Scores are whole numbers from 0 to 100, truncated as the programs of the papers truncate them: ties are frequent, and a
//! profile should break them in a fixed order of nodes ([`TieBreak::First`](longshore_core::scheduling::TieBreak)).

mod any_device;
mod best_fit;
mod clustering;
mod dot_product;
mod expected_use;
mod fgd;
mod fragmentation;
mod gradient;
mod packing;

use longshore_core::devices::{WHOLE, share_name};
use longshore_core::scheduling::cluster::{Cluster, ResourceId};
use longshore_core::scheduling::{Cycle, NodeId, Requests};
use smallvec::SmallVec;

pub use any_device::AnyDevice;
pub use best_fit::GpuBestFit;
pub use clustering::GpuClustering;
pub use dot_product::GpuDotProduct;
pub use expected_use::ExpectedUse;
pub use fgd::Fgd;
pub use fragmentation::{Fragments, PodType, Workload};
pub use packing::GpuPacking;

/// The resource that these policies look at.
pub const GPU: &str = "longshore.dev/gpu";

/// The label by which a node tells of which model its GPUs are.
pub const GPU_MODEL: &str = "gpu-model";

/// The most that any node of the cluster has, by which amounts are made comparable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Largest {
    /// CPU in thousandths of a core.
    pub milli_cpu: i64,
    /// All GPUs of a node together, in thousandths.
    pub gpu_milli: i64,
}

impl Largest {
    fn cpu(self, milli: i64) -> f64 {
        ratio(milli, self.milli_cpu)
    }

    fn gpu(self, milli: i64) -> f64 {
        ratio(milli, self.gpu_milli)
    }
}

#[expect(clippy::cast_precision_loss, reason = "amounts of one node are far below 2^52")]
fn ratio(part: i64, whole: i64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// The whole part of a number that is not far from 0 to 100.
#[expect(clippy::cast_possible_truncation, reason = "that is what it is for")]
fn truncated(score: f64) -> i64 {
    score as i64
}

/// What a pod asks for, of which GPUs are given: one of them in part, or some as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Demand {
    milli_cpu: i64,
    gpus: i64,
    /// Of each, in thousandths.
    milli: i64,
}

impl Demand {
    fn of(cycle: Cycle<'_>) -> Self {
        Self::by(cycle.shape().requests(), cycle.cluster())
    }

    fn by(requests: &Requests, cluster: &Cluster) -> Self {
        let amount = |name: &str| cluster.resource(name).map_or(0, |resource| requests.amount(resource));
        let (whole, share) = (amount(GPU), amount(&share_name(GPU)));
        let (gpus, milli) = match (whole, share) {
            (0, 0) => (0, 0),
            (0, share) => (1, share),
            (whole, _) => (whole, WHOLE),
        };
        Self { milli_cpu: requests.amount(ResourceId::CPU), gpus, milli }
    }

    fn total(self) -> i64 {
        self.gpus * self.milli
    }

    fn is_share(self) -> bool {
        self.gpus == 1 && self.milli < WHOLE
    }
}

/// What a node has left.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Left {
    milli_cpu: i64,
    /// Thousandths of each GPU, in the order of their names.
    gpus: SmallVec<[i64; 8]>,
}

impl Left {
    fn of(cluster: &Cluster, node: NodeId) -> Self {
        let at = |column: &[i64]| column.get(node.index()).copied().unwrap_or(0);
        let milli_cpu = at(cluster.allocatable(ResourceId::CPU)) - at(cluster.requested(ResourceId::CPU));
        let devices = cluster.devices(node);
        let gpus = devices.as_deref().and_then(|pool| pool.left_of(GPU));
        Self { milli_cpu, gpus: gpus.into_iter().flatten().map(|(_, left)| *left).collect() }
    }

    fn total(&self) -> i64 {
        self.gpus.iter().sum()
    }

    /// With a pod more, which has whole GPUs: the first that are free. Pods without any take none.
    fn with_whole(&self, demand: Demand) -> Self {
        let mut after = self.clone();
        after.milli_cpu -= demand.milli_cpu;
        let free = after.gpus.iter_mut().filter(|left| **left == WHOLE);
        free.take(usize::try_from(demand.gpus).unwrap_or(0)).for_each(|left| *left = 0);
        after
    }

    /// With a pod more, which has a part of the GPU at this place.
    fn with_share(&self, demand: Demand, place: usize) -> Self {
        let mut after = self.clone();
        after.milli_cpu -= demand.milli_cpu;
        after.gpus[place] -= demand.milli;
        after
    }
}

/// Makes a policy of what scores a node by the pod's [`Demand`].
macro_rules! scores_nodes {
    ($policy:ty, $name:literal) => {
        $crate::policies::preference::prefers!($policy, $name);
        $crate::policies::preference::scores_each!(
            $policy,
            |policy, cycle| $crate::policies::gpu::Demand::of(cycle),
            |demand, node| policy.of_node(cycle, demand, node)
        );
    };
}
use scores_nodes;

#[cfg(test)]
mod tests;
