//! Pods arrive one after another and stay: how full does a cluster of GPUs get?

use std::sync::Arc;
use std::time::Duration;

use longshore_core::devices::WHOLE;
use longshore_core::scheduling::cluster::Cluster;
use longshore_core::scheduling::{NodeId, TieBreak};
use longshore_scheduler::policies::gpu::{Fragments, GPU, Largest, Workload};
use longshore_scheduler::{Engine, Profile};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use serde::Serialize;

use crate::arrivals::{arrivals, shuffle};
use crate::curve::{Curve, Row};
use crate::external::{External, ExternalError, Program};
use crate::measures::{Amounts, FRAGMENT_KINDS as KINDS, fragments_by_kind as kinds_of};
use crate::openb::{Machine, Request};
use crate::{Placement, Point, objects, what_fits};

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
    pub policy: String,
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
    /// Fragments at the end by kind, in percent of all GPUs.
    pub fragments: Vec<(&'static str, f64)>,
    /// What was so at each load.
    pub curve: Vec<Point>,
}

/// Why an experiment cannot be run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PackingError {
    /// No node has a GPU, so that nothing can be measured in parts of them.
    #[error("no node has a GPU: there is nothing to measure allocation by")]
    NoGpus,
    /// There is nobody to place.
    #[error("there is no policy to place by")]
    NoPolicy,
    /// The tuning cannot be.
    #[error("the load to tune to is {0}: it must be more than 0 and at most 100 (times what the cluster has)")]
    Tune(f64),
    /// Another program was to choose.
    #[error(transparent)]
    External(#[from] ExternalError),
}

impl Packing<'_> {
    /// Runs it; `progress` hears of each arrival how many there were, and of how many.
    ///
    /// # Errors
    /// There is nothing to run it on.
    pub fn run(self, progress: impl FnMut(usize, usize)) -> Result<Outcome, PackingError> {
        let placement = self.placement;
        let profile = |largest, workload: &_, seed| placement.profile(largest, workload, seed);
        self.fill(profile, |seed| placement.tie_break(seed), progress)
    }

    /// Runs it with a profile of one's own instead of [`Packing::placement`], which is made of what the largest node has, the typical pods
    /// and a seed. Nodes are in an order of this run's own, and the first of the best is taken. [`what_fits`](crate::what_fits) is a
    /// profile to begin with.
    ///
    /// # Errors
    /// As [`Packing::run`].
    pub fn run_with(
        self,
        profile: impl FnOnce(Largest, &Arc<Workload>, u64) -> Profile,
        progress: impl FnMut(usize, usize),
    ) -> Result<Outcome, PackingError> {
        self.fill(profile, |_| TieBreak::First, progress)
    }

    /// Runs it with a program that chooses instead of [`Packing::placement`]; it is started for this run, greeted with its seed, and has so
    /// long for each answer. See [`external`](crate::external).
    ///
    /// # Errors
    /// As [`Packing::run`]; also [`PackingError::External`].
    pub fn run_by_program(
        self,
        command: &str,
        patience: Duration,
        progress: impl FnMut(usize, usize),
    ) -> Result<Outcome, PackingError> {
        let external = External::new(Program::start(command, self.seed, patience)?);
        let outcome = self.run_with(|_, _, _| what_fits("external").with(external.clone()), progress)?;
        external.failure().map_or(Ok(outcome), |failure| Err(failure.into()))
    }

    fn fill(
        self,
        profile: impl FnOnce(Largest, &Arc<Workload>, u64) -> Profile,
        tie_break: impl FnOnce(u64) -> TieBreak,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Outcome, PackingError> {
        let capacity = self.machines.iter().map(gpu_milli).sum();
        if capacity == 0 {
            return Err(PackingError::NoGpus);
        }
        let mut rng = Pcg64::seed_from_u64(self.seed);
        let order = arrivals(self.requests, self.target(capacity)?, &mut rng);
        let workload = Arc::new(Workload::typical(self.requests.iter().map(Request::pod_type)));
        let mut engine = self.engine(&workload, &mut rng, profile, tie_break);
        let policy = engine.profiles().next().map_or_else(String::new, |profile| profile.name().to_owned());
        let mut nodes: Vec<OfNode> = Vec::new();
        let mut total = 0.0;
        for node in engine.cluster().nodes().iter() {
            let of_node = OfNode::on(engine.cluster(), node, &workload);
            total += of_node.fragments.total();
            nodes.resize(node.index() + 1, OfNode::default());
            nodes[node.index()] = of_node;
        }
        let mut curve = Curve::new(self.machines.iter().map(all).sum());
        let (mut arrived, mut placed, mut touched, mut used) = (0, 0, 0, Amounts::default());
        for (number, &place) in order.iter().enumerate() {
            let request = &self.requests[place];
            arrived += request.gpu_milli();
            let mut pod = objects::pod(request);
            pod.metadata.name = Some(number.to_string());
            let pod = Arc::new(pod);
            if let Ok(placement) = engine.place(&pod) {
                placed += 1;
                used += asked(request);
                let of_node = &mut nodes[placement.id.index()];
                total -= of_node.fragments.total();
                touched -= of_node.touched;
                *of_node = OfNode::on(engine.cluster(), placement.id, &workload);
                total += of_node.fragments.total();
                touched += of_node.touched;
            }
            curve.add(Row { arrived, used, fragments: total, touched });
            progress(number + 1, order.len());
        }
        let points = curve.points();
        let last = points.last().copied();
        Ok(Outcome {
            policy,
            seed: self.seed,
            pods: order.len(),
            placed,
            arrived_percent: curve.last(),
            gpu_allocation_percent: last.map_or(0.0, |point| point.allocation),
            fragmentation_percent: last.map_or(0.0, |point| point.fragmentation_ratio),
            fragments: by_kind(&nodes, capacity),
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
    fn engine(
        &self,
        workload: &Arc<Workload>,
        rng: &mut Pcg64,
        profile: impl FnOnce(Largest, &Arc<Workload>, u64) -> Profile,
        tie_break: impl FnOnce(u64) -> TieBreak,
    ) -> Engine {
        let largest = Largest {
            milli_cpu: self.machines.iter().map(|machine| machine.milli_cpu).max().unwrap_or(0),
            gpu_milli: self.machines.iter().map(gpu_milli).max().unwrap_or(0),
        };
        let mut machines: Vec<&Machine> = self.machines.iter().collect();
        machines.sort_by(|a, b| a.name.cmp(&b.name));
        shuffle(&mut machines, rng);
        let profile = profile(largest, workload, rng.random());
        let mut engine = Engine::new(profile, tie_break(rng.random()));
        for machine in machines {
            engine.cluster_mut().put_node(Arc::new(objects::node(machine)));
        }
        engine
    }
}

/// What is kept of a node from pod to pod.
#[derive(Debug, Clone, Copy, Default)]
struct OfNode {
    fragments: Fragments,
    /// GPUs of which any part is in use.
    touched: i64,
}

impl OfNode {
    fn on(cluster: &Cluster, node: NodeId, workload: &Workload) -> Self {
        let devices = cluster.devices(node);
        let left = devices.as_deref().and_then(|pool| pool.left_of(GPU));
        let touched = left.into_iter().flatten().filter(|(_, left)| **left < WHOLE).count() as i64;
        Self { fragments: workload.fragments_on(cluster, node), touched }
    }
}

/// In percent of all GPUs.
fn by_kind(nodes: &[OfNode], capacity: i64) -> Vec<(&'static str, f64)> {
    let kinds = KINDS.into_iter().enumerate();
    let amount = |kind: usize| nodes.iter().map(|of| kinds_of(&of.fragments)[kind]).sum::<f64>();
    kinds.map(|(kind, name)| (name, 100.0 * amount(kind) / capacity as f64)).collect()
}

fn all(machine: &Machine) -> Amounts {
    Amounts { milli_cpu: machine.milli_cpu, memory: machine.memory_mib << 20, gpu_milli: gpu_milli(machine) }
}

fn asked(request: &Request) -> Amounts {
    let Request { milli_cpu, memory_mib, .. } = *request;
    Amounts { milli_cpu, memory: memory_mib << 20, gpu_milli: request.gpu_milli() }
}

fn gpu_milli(machine: &Machine) -> i64 {
    machine.gpus * WHOLE
}
