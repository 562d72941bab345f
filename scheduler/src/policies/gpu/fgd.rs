//! Fragmentation gradient descent.

use std::sync::Arc;

use longshore_core::api::pod::Pod;
use longshore_core::devices::{ANNOTATION, DeviceChoice};
use longshore_core::scheduling::cluster::Cluster;
use longshore_core::scheduling::{
    ClusterEvent, Cycle, NodeId, NodeSet, Policy, Reach, Refusal, Reservation, Reserve, Score, Scores, State,
};

use super::{Demand, Left, Workload, truncated};

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

    /// The node's score, and the place of the GPU that gives it to a pod that shares one.
    fn of_node(&self, cluster: &Cluster, demand: Demand, node: NodeId) -> (i64, usize) {
        let left = Left::of(cluster, node);
        let model = self.workload.model_on(cluster, node);
        let before = self.workload.of(&left, model).total();
        let score = |after: &Left| {
            let change = (before - self.workload.of(after, model).total()) / 1000.0;
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
}

impl Policy for Fgd {
    fn name(&self) -> &str {
        "Fgd"
    }

    fn may_help(&self, _: &Pod, _: &ClusterEvent<'_>) -> bool {
        false
    }

    fn as_score(&self) -> Option<&dyn Score> {
        Some(self)
    }

    fn as_reserve(&self) -> Option<&dyn Reserve> {
        Some(self)
    }
}

impl Score for Fgd {
    fn score(&self, cycle: Cycle<'_>, _: &State, nodes: &NodeSet, scores: &mut Scores) {
        let demand = Demand::of(cycle);
        for node in nodes.iter() {
            scores.add(node, self.of_node(cycle.cluster(), demand, node).0);
        }
    }

    fn reach(&self) -> Reach {
        Reach::Node
    }
}

impl Reserve for Fgd {
    fn reserve(&self, cycle: Cycle<'_>, node: NodeId, reservation: &mut Reservation) -> Result<(), Refusal> {
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
