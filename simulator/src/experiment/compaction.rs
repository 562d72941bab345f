//! Experiments that ask how few machines would do.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use longshore_core::api::Node;
use longshore_core::api::pod::Pod;
use serde::Deserialize;

use super::packing::{all, facts};
use super::{ExperimentError, Prepared, Progress, Watch};
use crate::measures::{Figure, Unit};
use crate::openb::{self, Machine, Request};
use crate::report::{Case, Run, Statistic};
use crate::{Compaction, CompactionError, Decider, PENDING, Placement};

/// [`Compaction`] by several policies; the number of seeds is that of trials, [`TRIALS`](crate::TRIALS) if nothing is said.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CompactionSpec {
    /// The file of nodes, with the columns of [`openb`].
    pub nodes: PathBuf,
    /// The file of pods, with the columns of [`openb`].
    pub pods: PathBuf,
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
        self.nodes = base.join(&self.nodes);
        self.pods = base.join(&self.pods);
    }

    pub(super) fn prepare(&self) -> Result<Ready, ExperimentError> {
        let machines = openb::machines(&self.nodes)?;
        let requests = openb::requests(&self.pods)?;
        let nodes: Vec<Arc<Node>> = machines.iter().map(Machine::node).map(Arc::new).collect();
        let pod = |request: &Request| {
            let mut pod = request.pod();
            pod.metadata.name = Some(request.name.clone());
            Arc::new(pod)
        };
        let pods: Vec<Arc<Pod>> = requests.iter().map(pod).collect();
        let decider = |placement: &Placement| {
            Decider::new(*placement, nodes.iter().map(|node| &**node), pods.iter().map(|pod| &**pod))
        };
        let deciders = self.policies.iter().map(decider).collect();
        Ok(Ready { spec: self.clone(), nodes, pods, deciders })
    }
}

pub(super) struct Ready {
    spec: CompactionSpec,
    nodes: Vec<Arc<Node>>,
    pods: Vec<Arc<Pod>>,
    deciders: Vec<Decider>,
}

impl Prepared for Ready {
    fn cases(&self) -> Vec<Case> {
        self.spec.policies.iter().map(|policy| Case::of_policy(policy.name())).collect()
    }

    fn facts(&self) -> Vec<(String, String)> {
        let Self { spec, nodes, pods, .. } = self;
        let what = "compaction: the fewest machines on which the pods fit, by trials (Borg, EuroSys '15)";
        let mut all = vec![("experiment".to_owned(), what.to_owned())];
        all.extend(facts(&spec.nodes, nodes.len(), &spec.pods, pods.len()));
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
        let Self { spec, nodes, pods, deciders } = self;
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
