//! The policies that can be compared, each as a profile of the scheduler.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use longshore_core::scheduling::TieBreak;
use longshore_scheduler::policies::gpu::{
    AnyDevice, ExpectedUse, Fgd, GpuBestFit, GpuClustering, GpuDotProduct, GpuPacking, Largest, Workload,
};
use longshore_scheduler::policies::packing::{
    BestFit, EPvm, FirstFit, NomadBinpack, NomadSpread, StrandedResources, Tetris, TwoChoices, WorstFit,
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
    /// [`ExpectedUse`], for the typical pods of the trace.
    ExpectedUse,
    /// [`FirstFit`].
    FirstFit,
    /// [`BestFit`](longshore_scheduler::policies::packing::BestFit) over all resources of a node.
    VectorBestFit,
    /// [`WorstFit`].
    WorstFit,
    /// [`Tetris`].
    Tetris,
    /// [`EPvm`].
    EPvm,
    /// [`StrandedResources`].
    StrandedResources,
    /// [`NomadBinpack`].
    NomadBinpack,
    /// [`NomadSpread`].
    NomadSpread,
    /// [`TwoChoices`].
    TwoChoices,
    /// Upstream's default profile, with GPUs of which parts can be had.
    Kubernetes,
}

impl Placement {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::Random,
        Self::DotProduct,
        Self::GpuClustering,
        Self::GpuPacking,
        Self::BestFit,
        Self::Fgd,
        Self::ExpectedUse,
        Self::FirstFit,
        Self::VectorBestFit,
        Self::WorstFit,
        Self::Tetris,
        Self::EPvm,
        Self::StrandedResources,
        Self::NomadBinpack,
        Self::NomadSpread,
        Self::TwoChoices,
        Self::Kubernetes,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::DotProduct => "dot-product",
            Self::GpuClustering => "gpu-clustering",
            Self::GpuPacking => "gpu-packing",
            Self::BestFit => "best-fit",
            Self::Fgd => "fgd",
            Self::ExpectedUse => "expected-use",
            Self::FirstFit => "first-fit",
            Self::VectorBestFit => "vector-best-fit",
            Self::WorstFit => "worst-fit",
            Self::Tetris => "tetris",
            Self::EPvm => "e-pvm",
            Self::StrandedResources => "stranded-resources",
            Self::NomadBinpack => "nomad-binpack",
            Self::NomadSpread => "nomad-spread",
            Self::TwoChoices => "two-choices",
            Self::Kubernetes => "kubernetes",
        }
    }

    /// The policy as a profile, for a cluster whose largest node has this, and where these pods are to be expected (for the policies that
    /// ask; there may be none). What it does by chance depends on the seed.
    pub fn profile(self, largest: Largest, workload: &Arc<Workload>, seed: u64) -> Profile {
        let profile = what_fits(self.name());
        let chooses_devices = |profile: Profile| profile.without_at("Devices", ExtensionPoint::Reserve);
        match self {
            Self::Random => {
                profile.with(Devices::choosing(AnyDevice { seed })).without_at("Devices", ExtensionPoint::Score)
            }
            Self::DotProduct => profile.with(GpuDotProduct::new(largest)),
            Self::GpuClustering => profile.with(GpuClustering::new(largest)),
            Self::GpuPacking => profile.with(GpuPacking),
            Self::BestFit => profile.with(GpuBestFit::new(largest)),
            Self::Fgd => chooses_devices(profile).with(Fgd::new(workload.clone())),
            Self::ExpectedUse => chooses_devices(profile).with(ExpectedUse::new(workload.clone())),
            Self::FirstFit => profile.with(FirstFit),
            Self::VectorBestFit => profile.with(BestFit),
            Self::WorstFit => profile.with(WorstFit),
            Self::Tetris => profile.with(Tetris),
            Self::EPvm => profile.with(EPvm),
            Self::StrandedResources => profile.with(StrandedResources),
            Self::NomadBinpack => profile.with(NomadBinpack),
            Self::NomadSpread => profile.with(NomadSpread),
            Self::TwoChoices => profile.with(TwoChoices { seed }),
            Self::Kubernetes => Profile::default_scheduler()
                .named(self.name())
                .with(Devices::default())
                .without_at("Devices", ExtensionPoint::Score),
        }
    }

    /// Nodes are in an order of their own in each run, and the first of the best is taken; where the original draws, so do we.
    pub fn tie_break(self, seed: u64) -> TieBreak {
        match self {
            Self::Random | Self::Kubernetes => TieBreak::Uniform { seed },
            _ => TieBreak::First,
        }
    }
}

/// A profile that prefers nothing, to which a policy is added: it refuses nodes with too little CPU, memory or GPU, and those that the pod's
/// node affinity excludes, such as a wrong model of GPU. Of the GPUs of a node the fullest that fits is given.
pub fn what_fits(name: &str) -> Profile {
    Profile::empty(name)
        .with(NodeResourcesFit::default())
        .without_at("NodeResourcesFit", ExtensionPoint::Score)
        .with(NodeAffinity::default())
        .without_at("NodeAffinity", ExtensionPoint::Score)
        .with(Devices::default())
        .without_at("Devices", ExtensionPoint::Score)
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
