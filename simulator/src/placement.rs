//! The policies that can be compared, each as a profile of the scheduler.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use longshore_core::scheduling::TieBreak;
use longshore_scheduler::policies::gpu::{
    AnyDevice, Fgd, GpuBestFit, GpuClustering, GpuDotProduct, GpuPacking, Largest, Workload,
};
use longshore_scheduler::policies::{Devices, NodeAffinity, NodeResourcesFit};
use longshore_scheduler::{ExtensionPoint, Profile};

/// A policy by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Placement {
    /// Any node that can take the pod, and any GPU.
    Random,
    /// [`GpuDotProduct`].
    DotProduct,
    /// [`GpuClustering`].
    GpuClustering,
    /// [`GpuPacking`].
    GpuPacking,
    /// [`GpuBestFit`].
    BestFit,
    /// [`Fgd`], for the typical pods of the trace.
    Fgd,
}

impl Placement {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Random, Self::DotProduct, Self::GpuClustering, Self::GpuPacking, Self::BestFit, Self::Fgd];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::DotProduct => "dot-product",
            Self::GpuClustering => "gpu-clustering",
            Self::GpuPacking => "gpu-packing",
            Self::BestFit => "best-fit",
            Self::Fgd => "fgd",
        }
    }

    /// What it prefers, and what is refused by all of them: too little CPU, memory or GPU, and the wrong model.
    pub(crate) fn profile(self, largest: Largest, workload: &Arc<Workload>, seed: u64) -> Profile {
        let devices = match self {
            Self::Random => Devices::choosing(AnyDevice { seed }),
            _ => Devices::default(),
        };
        let profile = Profile::empty(self.name())
            .with(NodeResourcesFit::default())
            .without_at("NodeResourcesFit", ExtensionPoint::Score)
            .with(NodeAffinity::default())
            .without_at("NodeAffinity", ExtensionPoint::Score)
            .with(devices)
            .without_at("Devices", ExtensionPoint::Score);
        match self {
            Self::Random => profile,
            Self::DotProduct => profile.with(GpuDotProduct::new(largest)),
            Self::GpuClustering => profile.with(GpuClustering::new(largest)),
            Self::GpuPacking => profile.with(GpuPacking),
            Self::BestFit => profile.with(GpuBestFit::new(largest)),
            Self::Fgd => profile.without_at("Devices", ExtensionPoint::Reserve).with(Fgd::new(workload.clone())),
        }
    }

    /// Nodes are in an order of their own in each run, and the first of the best is taken.
    pub(crate) fn tie_break(self, seed: u64) -> TieBreak {
        match self {
            Self::Random => TieBreak::Uniform { seed },
            _ => TieBreak::First,
        }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// There is no policy of this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no policy {name:?}; there are {}", Placement::ALL.map(Placement::name).join(", "))]
pub struct UnknownPlacement {
    name: String,
}

impl FromStr for Placement {
    type Err = UnknownPlacement;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|policy| policy.name() == name)
            .ok_or_else(|| UnknownPlacement { name: name.to_owned() })
    }
}
