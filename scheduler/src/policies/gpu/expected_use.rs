//! The most use of what is left.

use std::sync::Arc;

use super::gradient::{Waste, wastes_least};
use super::{Left, Workload};

/// Prefers the node, and there the GPU, where the pods that are to be expected lose the least use of what is left.
///
/// [`Fgd`](super::Fgd) holds a GPU for useful to a pod that can run on it. But beside ten cores only one of eight idle GPUs is of use to pods
/// of a GPU and eight cores, and of 900 thousandths of a GPU 500 to pods of 500. So here what counts for two thirds is FGD's measure,
/// and for one third how much GPU pods of the type would have if they came until no further one found room: as many as its
/// GPUs have place for, or as its CPU is enough for, whichever is less. Scores are as FGD's: `100 · σ(use after − use before + what the
/// pod takes)`, in GPUs, truncated.
///
/// An idea of this project; `docs/simulation.md` tells how it compares.
#[derive(Debug, Clone)]
pub struct ExpectedUse {
    workload: Arc<Workload>,
}

impl ExpectedUse {
    /// The policy for the pods that are to be expected.
    pub fn new(workload: Arc<Workload>) -> Self {
        Self { workload }
    }
}

impl Waste for ExpectedUse {
    fn workload(&self) -> &Workload {
        &self.workload
    }

    fn waste(&self, left: &Left, model: Option<usize>) -> f64 {
        left.total() as f64 - self.workload.use_of(left, model)
    }
}

wastes_least!(ExpectedUse, "ExpectedUse");
