//! Fragmentation gradient descent.

use std::sync::Arc;

use super::gradient::{Waste, wastes_least};
use super::{Left, Workload};

/// Prefers the node, and there the GPU, whose fragmentation grows the least, as a given workload sees it.
///
/// Beware of Fragmentation (Weng et al., USENIX ATC '23), as its program scores: `100 · σ(fragments before − fragments after)`, in
/// GPUs, truncated, where σ is the logistic function. The paper takes the exact minimum.
#[derive(Debug, Clone)]
pub struct Fgd {
    workload: Arc<Workload>,
}

impl Fgd {
    /// The policy for the pods that are to be expected.
    pub fn new(workload: Arc<Workload>) -> Self {
        Self { workload }
    }
}

impl Waste for Fgd {
    fn workload(&self) -> &Workload {
        &self.workload
    }

    fn waste(&self, left: &Left, model: Option<usize>) -> f64 {
        self.workload.of(left, model).total()
    }
}

wastes_least!(Fgd, "Fgd");
