//! What policies have in common that go where the least is wasted by some measure: the score, and the choice of the GPU.

use longshore_core::devices::{ANNOTATION, DeviceChoice};
use longshore_core::scheduling::cluster::Cluster;
use longshore_core::scheduling::{Cycle, NodeId, Refusal, Reservation};

use super::{Demand, Left, Workload, truncated};

/// What a policy holds for wasted, as the pods that are to be expected see it.
pub(super) trait Waste {
    fn workload(&self) -> &Workload;

    /// Thousandths of GPUs, of what is left on a node with GPUs of this model.
    fn waste(&self, left: &Left, model: Option<usize>) -> f64;

    /// The node's score, and the place of the GPU that gives it to a pod that shares one: `100 · σ(waste before − waste after)`, in
    /// GPUs, truncated, where σ is the logistic function.
    fn of_node(&self, cluster: &Cluster, demand: Demand, node: NodeId) -> (i64, usize) {
        let left = Left::of(cluster, node);
        let model = self.workload().model_on(cluster, node);
        let before = self.waste(&left, model);
        let score = |after: &Left| {
            let change = (before - self.waste(after, model)) / 1000.0;
            truncated(100.0 * (1.0 / (1.0 + (-change).exp())))
        };
        if !demand.is_share() {
            return (score(&left.with_whole(demand)), 0);
        }
        let mut best = (-1, 0);
        for (place, milli) in left.gpus.iter().enumerate() {
            // GPUs of which as much is left are the same, and the first is taken.
            if *milli < demand.milli || left.gpus[..place].contains(milli) {
                continue;
            }
            let score = score(&left.with_share(demand, place));
            if score > best.0 {
                best = (score, place);
            }
        }
        (best.0.max(0), best.1)
    }

    /// Gives the pod the GPU of [`Waste::of_node`], or the first ones that are free.
    fn assign(&self, cycle: Cycle<'_>, node: NodeId, reservation: &mut Reservation) -> Result<(), Refusal> {
        let Some(pool) = cycle.cluster().devices(node).filter(|pool| pool.concerns(cycle.pod())) else { return Ok(()) };
        let demand = Demand::of(cycle);
        let milli = Left::of(cycle.cluster(), node).gpus.get(self.of_node(cycle.cluster(), demand, node).1).copied();
        let assigned = pool.assign(cycle.pod(), &FirstWith { left: milli.filter(|_| demand.is_share()) });
        let assigned = assigned.map_err(|lack| Refusal::unschedulable(format!("Insufficient {}", lack.resource)))?;
        reservation.annotations.insert(ANNOTATION.to_owned(), assigned.to_text());
        Ok(())
    }
}

/// The first device of which so much is left.
#[derive(Debug)]
struct FirstWith {
    left: Option<i64>,
}

impl DeviceChoice for FirstWith {
    fn choose(&self, left: &[(&str, i64)], _: i64) -> usize {
        left.iter().position(|(_, left)| Some(*left) == self.left).unwrap_or(0)
    }
}

/// Makes a policy that scores nodes and reserves GPUs of a [`Waste`].
macro_rules! wastes_least {
    ($policy:ty, $name:literal) => {
        $crate::policies::preference::prefers!($policy, $name, as_reserve);
        $crate::policies::preference::scores_each!(
            $policy,
            |policy, cycle| $crate::policies::gpu::Demand::of(cycle),
            |demand, node| policy.of_node(cycle.cluster(), demand, node).0
        );

        impl longshore_core::scheduling::Reserve for $policy {
            fn reserve(
                &self,
                cycle: longshore_core::scheduling::Cycle<'_>,
                node: longshore_core::scheduling::NodeId,
                reservation: &mut longshore_core::scheduling::Reservation,
            ) -> Result<(), longshore_core::scheduling::Refusal> {
                self.assign(cycle, node, reservation)
            }
        }
    };
}
pub(super) use wastes_least;
