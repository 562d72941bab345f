//! How few machines would do?
//!
//! Cell compaction, as Borg's authors compare policies (Verma et al., EuroSys '15, §5.1): machines are taken away until the workload no
//! longer fits, each time packing all of it anew.

use std::sync::Arc;

use longshore_core::api::Node;
use longshore_core::api::pod::Pod;
use longshore_core::scheduling::cluster::Cluster;
use longshore_scheduler::Engine;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use serde::Serialize;

use crate::arrivals::shuffle;
use crate::measures::Amounts;

/// How many times the cell's machines there may be.
const COPIES_MAX: usize = 16;

/// One trial: pods and machines are put into an order by chance, and the fewest first machines are sought on which the pods find places
/// one after another.
///
/// Which machines are taken away is left to chance, so that what is left is as mixed as the whole. A cell in which the pods do not fit is
/// put beside copies of itself first. The size is found by halving: pods fit on that many machines and not on one less. That they might fit
/// again on yet fewer, as can happen to any policy that is not perfect, is not looked for.
///
/// ```
/// use std::sync::Arc;
///
/// use longshore_simulator::openb::{Machine, Request};
/// use longshore_simulator::{Compaction, Decider, Placement};
///
/// let nodes: Vec<_> = ["a", "b", "c"]
///     .map(|name| Machine { name: name.to_owned(), milli_cpu: 4000, memory_mib: 8192, gpus: 0, model: String::new() }.node())
///     .map(Arc::new)
///     .into();
/// let pods: Vec<_> = ["p", "q", "r"]
///     .map(|name| Request { name: name.to_owned(), milli_cpu: 2000, memory_mib: 1024, gpus: 0, milli: 0, models: String::new() }.pod())
///     .map(Arc::new)
///     .into();
/// let decider = Decider::new(Placement::BestFit, nodes.iter().map(|node| &**node), pods.iter().map(|pod| &**pod));
/// let compaction = Compaction { nodes: &nodes, pods: &pods, engine: &|seed| decider.engine(seed), pending: 0.0, seed: 1 };
/// assert_eq!(compaction.run(|_| ())?.machines, 2);
/// # Ok::<(), longshore_simulator::CompactionError>(())
/// ```
#[derive(Clone, Copy)]
pub struct Compaction<'t> {
    /// The cell.
    pub nodes: &'t [Arc<Node>],
    /// The pods: all of a trace, or those that ran at some moment. Each gets another name.
    pub pods: &'t [Arc<Pod>],
    /// Who places, without nodes as yet, by seed.
    pub engine: &'t (dyn Fn(u64) -> Engine + Sync),
    /// Which part of the pods may stay without a place, from 0 to 1. Borg allows [`PENDING`], for pods that hardly any machine can take.
    pub pending: f64,
    /// Another seed is another order of pods and of machines.
    pub seed: u64,
}

/// The part of pods that Borg's authors let go without a place.
pub const PENDING: f64 = 0.002;

/// How many trials Borg's authors make; the result is what nine in ten of them do not pass.
pub const TRIALS: u32 = 11;

/// What a trial came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Compacted {
    /// By which seed.
    pub seed: u64,
    /// How many machines the cell has.
    pub cell: usize,
    /// How many the pods need; more than the cell has if it was copied.
    pub machines: usize,
    /// No choice of machines of this cell and its copies, and no policy, could do with fewer: they would have too little CPU, memory or GPU.
    pub bound: usize,
    /// Taken in this trial's order, no fewer machines have enough CPU, memory and GPU.
    pub bound_in_order: usize,
    /// How many pods there are.
    pub pods: usize,
    /// How many of them have no place.
    pub pending: usize,
}

/// Why a cell cannot be compacted.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CompactionError {
    /// There are no nodes or no pods.
    #[error("there is nothing to compact: {nodes} nodes, {pods} pods")]
    Nothing {
        /// How many nodes.
        nodes: usize,
        /// How many pods.
        pods: usize,
    },
    /// The part of pods that may stay without a place cannot be.
    #[error("the part of pods that may have no place is {0}: it must be from 0 to less than 1")]
    Pending(f64),
    /// Pods ask for more than any machine has.
    #[error("{pods} pods, {first:?} among them, fit on no machine of the cell, and only {allowed} may have no place")]
    NoPlace {
        /// How many.
        pods: usize,
        /// The name of the first.
        first: String,
        /// How many may have no place.
        allowed: usize,
    },
    /// However often the cell is copied, the pods do not fit.
    #[error("the pods do not fit on {machines} machines, {COPIES_MAX} times the cell")]
    TooMany {
        /// How many machines were tried.
        machines: usize,
    },
}

impl Compaction<'_> {
    /// Runs it; `progress` hears of every hundredth pod or so that another hundred were packed.
    ///
    /// # Errors
    /// It cannot be run, or the pods do not fit however many machines there are.
    pub fn run(&self, progress: impl Fn(u64)) -> Result<Compacted, CompactionError> {
        if self.nodes.is_empty() || self.pods.is_empty() {
            return Err(CompactionError::Nothing { nodes: self.nodes.len(), pods: self.pods.len() });
        }
        if !(0.0..1.0).contains(&self.pending) {
            return Err(CompactionError::Pending(self.pending));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is a part of how many pods there are"
        )]
        let allowed = (self.pending * self.pods.len() as f64) as usize;
        let mut rng = Pcg64::seed_from_u64(self.seed);
        let mut cell: Vec<&Arc<Node>> = self.nodes.iter().collect();
        cell.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        let mut pods: Vec<&Arc<Pod>> = self.pods.iter().collect();
        pods.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        shuffle(&mut pods, &mut rng);
        let mut trial = Trial {
            engine: self.engine,
            seed: rng.random(),
            machines: Vec::new(),
            capacities: Vec::new(),
            pods: pods.iter().enumerate().map(named).collect(),
            allowed,
            progress: &progress,
        };
        trial.grow(&cell, &mut rng);
        trial.check(&pods)?;
        let wanted = trial.least_demand();
        let (mut low, mut high) = (1, trial.machines.len());
        let mut pending = trial.pack(high);
        while pending.is_none() {
            if trial.machines.len() >= COPIES_MAX * cell.len() {
                return Err(CompactionError::TooMany { machines: trial.machines.len() });
            }
            low = high + 1;
            trial.grow(&cell, &mut rng);
            high = trial.machines.len();
            pending = trial.pack(high);
        }
        let bound_in_order = enough(&trial.capacities, wanted);
        low = low.max(bound_in_order);
        // On `high` machines they fit, on `low - 1` they do not.
        while low < high {
            let middle = low.midpoint(high);
            match trial.pack(middle) {
                Some(some) => (high, pending) = (middle, Some(some)),
                None => low = middle + 1,
            }
        }
        Ok(Compacted {
            seed: self.seed,
            cell: cell.len(),
            machines: high,
            bound: lower_bound(&trial.capacities, wanted),
            bound_in_order,
            pods: self.pods.len(),
            pending: pending.unwrap_or(0),
        })
    }
}

struct Trial<'t> {
    engine: &'t (dyn Fn(u64) -> Engine + Sync),
    seed: u64,
    /// In the order in which they are kept.
    machines: Vec<Arc<Node>>,
    capacities: Vec<Amounts>,
    pods: Vec<Arc<Pod>>,
    allowed: usize,
    progress: &'t dyn Fn(u64),
}

/// Pods of a snapshot may have the same names, and they have places that do not count here.
fn named((number, pod): (usize, &&Arc<Pod>)) -> Arc<Pod> {
    let mut pod = Pod::clone(pod);
    pod.metadata.name = Some(number.to_string());
    pod.spec.node_name = String::new();
    if let Some(annotations) = &mut pod.metadata.annotations {
        annotations.remove(longshore_core::devices::ANNOTATION);
    }
    Arc::new(pod)
}

impl Trial<'_> {
    /// The cell once more, in another order.
    fn grow(&mut self, cell: &[&Arc<Node>], rng: &mut Pcg64) {
        let copy = self.machines.len() / cell.len();
        let mut machines: Vec<Arc<Node>> = cell.iter().map(|node| (*node).clone()).collect();
        shuffle(&mut machines, rng);
        if copy > 0 {
            for machine in &mut machines {
                let name = machine.metadata.name.clone().unwrap_or_default();
                Arc::make_mut(machine).metadata.name = Some(format!("{name}-copy-{copy}"));
            }
        }
        self.capacities.extend(machines.iter().map(|node| Amounts::of_allocatable(node)));
        self.machines.extend(machines);
    }

    fn cell_of(&self, count: usize) -> Engine {
        let mut engine = (self.engine)(self.seed);
        let cluster: &mut Cluster = engine.cluster_mut();
        for machine in &self.machines[..count] {
            cluster.put_node(machine.clone());
        }
        engine
    }

    /// Refuses pods that no machine can take even when it is empty, by the names that they had.
    fn check(&self, named: &[&Arc<Pod>]) -> Result<(), CompactionError> {
        let mut empty = self.cell_of(self.machines.len());
        let mut homeless = self.pods.iter().zip(named).filter(|(pod, _)| empty.decide(pod).is_err());
        let Some((_, first)) = homeless.next() else { return Ok(()) };
        let first = first.metadata.name.clone().unwrap_or_default();
        let pods = 1 + homeless.count();
        if pods <= self.allowed {
            return Ok(());
        }
        Err(CompactionError::NoPlace { pods, first, allowed: self.allowed })
    }

    /// How many pods have no place on the first machines; `None` if more than may be.
    fn pack(&self, count: usize) -> Option<usize> {
        const TOLD: u64 = 100;
        let mut engine = self.cell_of(count);
        let (mut pending, mut told) = (0, 0);
        for pod in &self.pods {
            pending += usize::from(engine.place(pod).is_err());
            if pending > self.allowed {
                return None;
            }
            told += 1;
            if told == TOLD {
                (self.progress)(TOLD);
                told = 0;
            }
        }
        Some(pending)
    }

    /// What all pods ask for, but for those that may have no place: of each resource, the largest requests.
    fn least_demand(&self) -> Amounts {
        let asked: Vec<Amounts> = self.pods.iter().map(|pod| Amounts::of(pod)).collect();
        let without = |of: fn(&Amounts) -> i64| {
            let mut amounts: Vec<i64> = asked.iter().map(of).collect();
            amounts.sort_unstable();
            amounts[..amounts.len() - self.allowed].iter().sum()
        };
        Amounts {
            milli_cpu: without(|amounts| amounts.milli_cpu),
            memory: without(|amounts| amounts.memory),
            gpu_milli: without(|amounts| amounts.gpu_milli),
        }
    }
}

/// How many of the first machines have enough of everything.
fn enough(machines: &[Amounts], wanted: Amounts) -> usize {
    let mut sum = Amounts::default();
    let is_enough = |sum: Amounts| sum.parts().iter().zip(wanted.parts()).all(|(has, wants)| *has >= wants);
    let short = machines.iter().take_while(|machine| {
        let short = !is_enough(sum);
        sum += **machine;
        short
    });
    short.count()
}

/// No fewer machines have enough of everything, whichever they are: for each resource those that have most of it are taken first, and the
/// resource that needs most decides.
pub fn lower_bound(machines: &[Amounts], wanted: Amounts) -> usize {
    let of = |part: fn(Amounts) -> i64| {
        let mut amounts: Vec<i64> = machines.iter().map(|machine| part(*machine)).collect();
        amounts.sort_unstable_by(|a, b| b.cmp(a));
        let mut sum = 0;
        let short = amounts.into_iter().take_while(|amount| {
            let short = sum < part(wanted);
            sum += amount;
            short
        });
        short.count()
    };
    of(|amounts| amounts.milli_cpu).max(of(|amounts| amounts.memory)).max(of(|amounts| amounts.gpu_milli))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openb::{Machine, Request};
    use crate::{Decider, Placement};

    fn nodes(amounts: &[(i64, i64)]) -> Vec<Arc<Node>> {
        let node = |(place, (milli_cpu, gpus)): (usize, &(i64, i64))| {
            let (name, model) = (format!("n{place}"), "T4".to_owned());
            Arc::new(Machine { name, milli_cpu: *milli_cpu, memory_mib: 65_536, gpus: *gpus, model }.node())
        };
        amounts.iter().enumerate().map(node).collect()
    }

    fn pods(amounts: &[(i64, i64)]) -> Vec<Arc<Pod>> {
        let pod = |(place, (milli_cpu, gpus)): (usize, &(i64, i64))| {
            let (name, milli) = (format!("p{place}"), if *gpus > 0 { 1000 } else { 0 });
            let request =
                Request { name, milli_cpu: *milli_cpu, memory_mib: 1, gpus: *gpus, milli, models: String::new() };
            let mut pod = request.pod();
            pod.metadata.name = Some(request.name);
            Arc::new(pod)
        };
        amounts.iter().enumerate().map(pod).collect()
    }

    fn compact(nodes: &[Arc<Node>], pods: &[Arc<Pod>], pending: f64, seed: u64) -> Result<Compacted, CompactionError> {
        let decider = Decider::new(Placement::BestFit, nodes.iter().map(|node| &**node), pods.iter().map(|pod| &**pod));
        Compaction { nodes, pods, engine: &|seed| decider.engine(seed), pending, seed }.run(|_| ())
    }

    #[test]
    fn as_few_machines_are_kept_as_pods_fit_on() {
        let (nodes, pods) = (nodes(&[(4000, 0); 10]), pods(&[(1500, 0); 7]));
        for seed in 0..4 {
            let found = compact(&nodes, &pods, 0.0, seed).unwrap();
            // Two on each machine, though the CPU of three machines would be enough.
            assert_eq!((found.machines, found.bound, found.bound_in_order, found.pending), (4, 3, 3, 0), "{seed}");
            assert_eq!(found, compact(&nodes, &pods, 0.0, seed).unwrap());
        }
        let some = compact(&nodes, &pods, 0.15, 0).unwrap();
        assert_eq!((some.machines, some.pending), (3, 1), "one of seven may stay behind");
    }

    #[test]
    fn the_bound_is_that_of_the_scarcest() {
        let (nodes, pods) =
            (nodes(&[(4000, 2), (4000, 2), (4000, 4), (90_000, 0)]), pods(&[(1000, 2), (1000, 2), (500, 1)]));
        let found = compact(&nodes, &pods, 0.0, 3).unwrap();
        assert_eq!(found.bound, 2, "five GPUs: four and two");
        assert!((found.bound_in_order..=4).contains(&found.machines) && found.bound_in_order >= 2, "{found:?}");
    }

    #[test]
    fn a_cell_that_is_too_small_is_copied() {
        let (nodes, pods) = (nodes(&[(1000, 0), (1000, 0)]), pods(&[(1000, 0); 5]));
        let found = compact(&nodes, &pods, 0.0, 1).unwrap();
        assert_eq!((found.cell, found.machines, found.bound), (2, 5, 5));
    }

    #[test]
    fn what_cannot_be_is_told() {
        let small = nodes(&[(1000, 0)]);
        let error = compact(&small, &pods(&[(1000, 0), (2000, 0)]), 0.0, 1).unwrap_err().to_string();
        assert!(error.starts_with("1 pods, \"p1\" among them, fit on no machine"), "{error}");
        assert!(compact(&small, &pods(&[(1000, 0), (2000, 0)]), 0.5, 1).is_ok());
        assert!(matches!(
            compact(&small, &pods(&[(1000, 0); 20]), 0.0, 1),
            Err(CompactionError::TooMany { machines: 16 })
        ));
        assert!(matches!(compact(&[], &[], 0.0, 1), Err(CompactionError::Nothing { .. })));
        assert!(matches!(compact(&small, &pods(&[(1, 0)]), f64::NAN, 1), Err(CompactionError::Pending(_))));
    }
}
