//! Experiments that ask how few machines would do.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use longshore_core::api::Node;
use longshore_core::api::pod::Pod;
use serde::Deserialize;

use super::packing::{all, facts};
use super::{ExperimentError, Prepared, Progress, Watch, told};
use crate::generate::Source;
use crate::measures::{Figure, Unit};
use crate::openb::{self, Machine, Request};
use crate::report::{Case, Run, Statistic};
use crate::traces::Tally;
use crate::workload::Alive;
use crate::{Compaction, CompactionError, Decider, PENDING, Placement};

/// [`Compaction`] by several policies; the number of seeds is that of trials, [`TRIALS`](crate::TRIALS) if nothing is said.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CompactionSpec {
    /// The file of nodes, with the columns of [`openb`]; else `source`.
    #[serde(default)]
    pub nodes: Option<PathBuf>,
    /// The file of pods, with the columns of [`openb`].
    #[serde(default)]
    pub pods: Option<PathBuf>,
    /// Instead of two files, a workload: what it has `at` a moment ([`Alive`]).
    #[serde(default)]
    pub source: Option<Source>,
    /// Where its paths begin: where the experiment's file is.
    #[serde(skip)]
    pub base: PathBuf,
    /// The moment, in seconds.
    #[serde(default)]
    pub at: Option<f64>,
    /// So many rows of traces may be bad; they are left out.
    #[serde(default)]
    pub bad_rows: u64,
    /// Who places; if nothing is said, all policies there are.
    #[serde(default = "all")]
    pub policies: Vec<Placement>,
    /// See [`Compaction::pending`].
    #[serde(default = "pending")]
    pub pending: f64,
}

fn pending() -> f64 {
    PENDING
}

const MACHINES: &str = "machines needed";
const PART: &str = "machines needed of the cell";

impl CompactionSpec {
    pub(super) fn resolve(&mut self, base: &Path) {
        for file in [&mut self.nodes, &mut self.pods].into_iter().flatten() {
            *file = base.join(&*file);
        }
        base.clone_into(&mut self.base);
    }

    /// The cell and its pods, and what is said of them.
    fn cell(&self, seed: u64) -> Result<(Alive, Vec<(String, String)>), ExperimentError> {
        let Self { nodes, pods, source, base, at, bad_rows, .. } = self;
        match (nodes, pods, source, at) {
            (Some(nodes), Some(pods), None, None) => {
                let alive = read(nodes, pods)?;
                let said = facts(nodes, alive.nodes.len(), pods, alive.pods.len());
                Ok((alive, said))
            }
            (None, None, Some(source), Some(at)) => {
                let moment = Duration::try_from_secs_f64(*at).map_err(told)?;
                let events = source.events(base, seed, &Tally::with_limit(*bad_rows)).map_err(told)?;
                let alive = Alive::at(moment, events).map_err(told)?;
                let counts = format!("{} machines and {} pods at {at} s", alive.nodes.len(), alive.pods.len());
                Ok((alive, vec![("source".to_owned(), source.name()), ("alive".to_owned(), counts)]))
            }
            _ => Err(ExperimentError::Workload("compaction: give either nodes and pods, or source and at".into())),
        }
    }

    pub(super) fn prepare(&self, seed: u64) -> Result<Ready, ExperimentError> {
        let (Alive { nodes, pods }, said) = self.cell(seed)?;
        let decider = |placement: &Placement| {
            Decider::new(*placement, nodes.iter().map(|node| &**node), pods.iter().map(|pod| &**pod))
        };
        let deciders = self.policies.iter().map(decider).collect();
        Ok(Ready { spec: self.clone(), nodes, pods, deciders, said })
    }
}

/// Two files as a cell.
fn read(nodes: &Path, pods: &Path) -> Result<Alive, ExperimentError> {
    let (machines, requests) = (openb::machines(nodes)?, openb::requests(pods)?);
    let pod = |request: &Request| {
        let mut pod = request.pod();
        pod.metadata.name = Some(request.name.clone());
        Arc::new(pod)
    };
    let nodes = machines.iter().map(Machine::node).map(Arc::new).collect();
    Ok(Alive { nodes, pods: requests.iter().map(pod).collect() })
}

pub(super) struct Ready {
    spec: CompactionSpec,
    nodes: Vec<Arc<Node>>,
    pods: Vec<Arc<Pod>>,
    deciders: Vec<Decider>,
    said: Vec<(String, String)>,
}

impl Prepared for Ready {
    fn cases(&self) -> Vec<Case> {
        self.spec.policies.iter().map(|policy| Case::of_policy(policy.name())).collect()
    }

    fn facts(&self) -> Vec<(String, String)> {
        let Self { spec, said, .. } = self;
        let what = "compaction: the fewest machines on which the pods fit, by trials (Borg, EuroSys '15)";
        let mut all = vec![("experiment".to_owned(), what.to_owned())];
        all.extend(said.iter().cloned());
        all.push(("may have no place".to_owned(), format!("{} % of the pods", 100.0 * spec.pending)));
        all
    }

    fn headlines(&self) -> Vec<String> {
        vec![MACHINES.to_owned(), PART.to_owned()]
    }

    fn statistic(&self) -> Statistic {
        Statistic::NinetiethPercentile
    }

    fn run(&self, case: usize, seed: u64, watch: &Watch<'_>) -> Result<Run, ExperimentError> {
        let Self { spec, nodes, pods, deciders, .. } = self;
        let policy = spec.policies.get(case).map_or("none", |policy| policy.name());
        let failed = |source: CompactionError| ExperimentError::Compaction { policy, seed, source };
        let Some(decider) = deciders.get(case) else {
            return Err(failed(CompactionError::Nothing { nodes: nodes.len(), pods: pods.len() }));
        };
        let engine = |seed: u64| decider.engine(seed);
        let compaction = Compaction { nodes, pods, engine: &engine, pending: spec.pending, seed };
        let found = compaction.run(|pods| watch(Progress::Pods(pods))).map_err(failed)?;
        let count = |name: &str, count: usize| Figure::new(name, Unit::Count, count as f64);
        let percent = |of: usize| 100.0 * found.machines as f64 / of.max(1) as f64;
        let figures = vec![
            count("machines of the cell", found.cell),
            count(MACHINES, found.machines),
            Figure::new(PART, Unit::Percent, percent(found.cell)),
            count("lower bound", found.bound),
            Figure::new("machines needed of the lower bound", Unit::Percent, percent(found.bound)),
            count("lower bound in the order of the trial", found.bound_in_order),
            count("pods without a place", found.pending),
        ];
        Ok(Run { case, seed, figures, series: Vec::new() })
    }
}
