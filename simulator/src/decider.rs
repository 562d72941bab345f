//! Engines that place by a policy, for whatever nodes and pods there are.

use std::sync::Arc;

use longshore_core::api::Node;
use longshore_core::api::pod::Pod;
use longshore_scheduler::policies::gpu::{Largest, Workload};
use longshore_scheduler::{Engine, Profile};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

use crate::measures::Amounts;
use crate::{Placement, objects};

/// A policy that knows which nodes it is for and which pods to expect.
#[derive(Debug, Clone)]
pub struct Decider {
    placement: Placement,
    largest: Largest,
    workload: Arc<Workload>,
}

impl Decider {
    /// For nodes like these and pods like these.
    pub fn new<'o>(
        placement: Placement,
        nodes: impl IntoIterator<Item = &'o Node>,
        pods: impl IntoIterator<Item = &'o Pod>,
    ) -> Self {
        let mut largest = Largest { milli_cpu: 0, gpu_milli: 0 };
        for node in nodes {
            let Amounts { milli_cpu, gpu_milli, .. } = Amounts::of_allocatable(node);
            largest.milli_cpu = largest.milli_cpu.max(milli_cpu);
            largest.gpu_milli = largest.gpu_milli.max(gpu_milli);
        }
        let workload = Arc::new(Workload::typical(pods.into_iter().map(objects::pod_type)));
        Self { placement, largest, workload }
    }

    /// The pods to expect.
    pub fn workload(&self) -> &Arc<Workload> {
        &self.workload
    }

    /// An engine without nodes; what it draws by chance depends on the seed.
    pub fn engine(&self, seed: u64) -> Engine {
        let tie_break = self.placement.tie_break(Pcg64::seed_from_u64(seed.wrapping_add(1)).random());
        Engine::new(self.profile(seed), tie_break)
    }

    /// The same as a profile.
    pub fn profile(&self, seed: u64) -> Profile {
        self.placement.profile(self.largest, &self.workload, Pcg64::seed_from_u64(seed).random())
    }
}
