//! Pods arrive one after another and stay: how full does a cluster of GPUs get?

use std::sync::Arc;

use longshore_core::api::pod::Pod;
use longshore_core::devices::WHOLE;
use longshore_core::scheduling::NodeId;
use longshore_scheduler::Engine;
use longshore_scheduler::policies::gpu::{Largest, Workload};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use serde::Serialize;

use crate::arrivals::{arrivals, shuffle};
use crate::curve::{Curve, Row};
use crate::openb::{Machine, Request};
use crate::{Placement, Point, objects};

/// The experiment of FGD (Weng et al., USENIX ATC '23): all pods of a trace arrive in random order, each when the one before has its
/// place or was refused; who is refused does not come again, and nobody leaves.
///
/// ```
/// use longshore_simulator::{Packing, Placement};
/// use longshore_simulator::openb::{Machine, Request};
///
/// let machine = |name: &str| Machine {
///     name: name.to_owned(), milli_cpu: 64_000, memory_mib: 262_144, gpus: 2, model: "T4".to_owned(),
/// };
/// let request = |name: &str| Request {
///     name: name.to_owned(), milli_cpu: 4000, memory_mib: 8192, gpus: 1, milli: 500, models: String::new(),
/// };
/// let (machines, requests) = ([machine("a"), machine("b")], [request("p"), request("q"), request("r")]);
/// let packing = Packing { machines: &machines, requests: &requests, placement: Placement::Fgd, tune: None, seed: 42 };
/// let outcome = packing.run(|_, _| ())?;
/// assert_eq!((outcome.pods, outcome.placed), (3, 3));
/// assert_eq!((outcome.arrived_percent, outcome.gpu_allocation_percent), (38, 37.5));
/// # Ok::<(), longshore_simulator::PackingError>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Packing<'t> {
    /// The nodes.
    pub machines: &'t [Machine],
    /// The pods.
    pub requests: &'t [Request],
    /// Who decides.
    pub placement: Placement,
    /// How much GPU arrives, as a multiple of what there is: pods of the trace are drawn again, or left out. `None`: each pod of the
    /// trace arrives once.
    pub tune: Option<f64>,
    /// Another seed is another order of pods and of nodes.
    pub seed: u64,
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// Who decided.
    pub policy: &'static str,
    /// By which seed.
    pub seed: u64,
    /// How many pods arrived.
    pub pods: usize,
    /// How many found a place.
    pub placed: usize,
    /// The highest load at which anything was recorded, at most 130: GPUs asked for in percent of those there are.
    pub arrived_percent: u32,
    /// GPUs in use at that load, in percent of all: [`Point::allocation`].
    pub gpu_allocation_percent: f64,
    /// Fragments at that load, in percent of the GPUs not in use: [`Point::fragmentation_ratio`].
    pub fragmentation_percent: f64,
    /// The same at each load.
    pub curve: Vec<Point>,
}

/// Why an experiment cannot be run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PackingError {
    /// No node has a GPU, so that nothing can be measured in parts of them.
    #[error("no node has a GPU: there is nothing to measure allocation by")]
    NoGpus,
    /// The tuning cannot be.
    #[error("the load to tune to is {0}: it must be more than 0 and at most 100 (times what the cluster has)")]
    Tune(f64),
}

impl Packing<'_> {
    /// Runs it; `progress` hears of each arrival how many there were, and of how many.
    ///
    /// # Errors
    /// There is nothing to run it on.
    pub fn run(self, mut progress: impl FnMut(usize, usize)) -> Result<Outcome, PackingError> {
        let capacity = self.machines.iter().map(gpu_milli).sum();
        if capacity == 0 {
            return Err(PackingError::NoGpus);
        }
        let mut rng = Pcg64::seed_from_u64(self.seed);
        let order = arrivals(self.requests, self.target(capacity)?, &mut rng);
        let workload = Arc::new(Workload::typical(self.requests.iter().map(Request::pod_type)));
        let mut engine = self.engine(&workload, &mut rng);
        let mut fragments = Vec::new();
        let mut total = 0.0;
        let nodes: Vec<NodeId> = engine.cluster().nodes().iter().collect();
        for node in nodes {
            let of_node = workload.fragments_on(engine.cluster(), node).total();
            fragments.resize(node.index() + 1, 0.0);
            fragments[node.index()] = of_node;
            total += of_node;
        }
        let templates: Vec<Pod> = self.requests.iter().map(objects::pod).collect();
        let mut curve = Curve::new(capacity);
        let (mut arrived, mut used, mut placed) = (0, 0, 0);
        for (number, &place) in order.iter().enumerate() {
            let request = &self.requests[place];
            arrived += request.gpu_milli();
            let mut pod = templates[place].clone();
            pod.metadata.name = Some(number.to_string());
            if let Ok(placement) = engine.place(&Arc::new(pod)) {
                placed += 1;
                used += request.gpu_milli();
                let of_node = &mut fragments[placement.id.index()];
                total -= *of_node;
                *of_node = workload.fragments_on(engine.cluster(), placement.id).total();
                total += *of_node;
            }
            curve.add(Row { arrived, used, fragments: total });
            progress(number + 1, order.len());
        }
        let points = curve.points();
        let last = points.last().copied();
        Ok(Outcome {
            policy: self.placement.name(),
            seed: self.seed,
            pods: order.len(),
            placed,
            arrived_percent: curve.last(),
            gpu_allocation_percent: last.map_or(0.0, |point| point.allocation),
            fragmentation_percent: last.map_or(0.0, |point| point.fragmentation_ratio),
            curve: points,
        })
    }

    fn target(&self, capacity: i64) -> Result<Option<i64>, PackingError> {
        let Some(tune) = self.tune else { return Ok(None) };
        if !(tune > 0.0 && tune <= 100.0) {
            return Err(PackingError::Tune(tune));
        }
        #[expect(clippy::cast_possible_truncation, reason = "it is a hundred times the cluster at most")]
        Ok(Some((tune * capacity as f64).round() as i64))
    }

    /// The scheduler with its nodes, in an order of this run's own.
    fn engine(&self, workload: &Arc<Workload>, rng: &mut Pcg64) -> Engine {
        let largest = Largest {
            milli_cpu: self.machines.iter().map(|machine| machine.milli_cpu).max().unwrap_or(0),
            gpu_milli: self.machines.iter().map(gpu_milli).max().unwrap_or(0),
        };
        let mut machines: Vec<&Machine> = self.machines.iter().collect();
        machines.sort_by(|a, b| a.name.cmp(&b.name));
        shuffle(&mut machines, rng);
        let profile = self.placement.profile(largest, workload, rng.random());
        let mut engine = Engine::new(profile, self.placement.tie_break(rng.random()));
        for machine in machines {
            engine.cluster_mut().put_node(Arc::new(objects::node(machine)));
        }
        engine
    }
}

fn gpu_milli(machine: &Machine) -> i64 {
    machine.gpus * WHOLE
}
