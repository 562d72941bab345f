//! Experiments in which pods arrive and stay.

use std::path::{Path, PathBuf};

use longshore_core::devices::WHOLE;
use serde::Deserialize;

use super::{ExperimentError, Prepared, Progress, Watch};
use crate::measures::{Figure, Series, Unit};
use crate::openb::{self, Machine, Request};
use crate::report::{Case, Results, Run, Statistic};
use crate::{Outcome, Packing, PackingError, Placement, Point};

/// [`Packing`] by several policies.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PackingSpec {
    /// The file of nodes, with the columns of [`openb`].
    pub nodes: PathBuf,
    /// The file of pods, with the columns of [`openb`].
    pub pods: PathBuf,
    /// Who places; if nothing is said, all policies there are.
    #[serde(default = "all")]
    pub policies: Vec<Placement>,
    /// See [`Packing::tune`].
    #[serde(default)]
    pub tune: Option<f64>,
}

pub(super) fn all() -> Vec<Placement> {
    Placement::ALL.to_vec()
}

const ALLOCATED: &str = "GPU allocated";
const FRAGMENTS: &str = "GPU fragments of what is idle";

/// Its name and kinds of points, as the figures of the paper have them.
type Line = (&'static str, fn(&Point) -> f64);

const LINES: [Line; 6] = [
    (ALLOCATED, |point| point.allocation),
    ("GPUs in use, at least in part", |point| point.gpus_in_use),
    ("CPU allocated", |point| point.cpu_allocation),
    ("memory allocated", |point| point.memory_allocation),
    (FRAGMENTS, |point| point.fragmentation_ratio),
    ("GPU fragments of all", |point| point.fragmentation_amount),
];

impl PackingSpec {
    pub(super) fn resolve(&mut self, base: &Path) {
        self.nodes = base.join(&self.nodes);
        self.pods = base.join(&self.pods);
    }

    pub(super) fn prepare(&self) -> Result<Ready, ExperimentError> {
        Ok(Ready {
            spec: self.clone(),
            machines: openb::machines(&self.nodes)?,
            requests: openb::requests(&self.pods)?,
        })
    }
}

pub(super) struct Ready {
    spec: PackingSpec,
    machines: Vec<Machine>,
    requests: Vec<Request>,
}

/// What is known of files of nodes and pods.
pub(super) fn facts(nodes: &Path, machines: usize, pods: &Path, requests: usize) -> Vec<(String, String)> {
    // Not the whole path: the same experiment elsewhere shall give the same bytes.
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    vec![
        ("nodes".to_owned(), format!("{machines} of {}", name(nodes))),
        ("pods".to_owned(), format!("{requests} of {}", name(pods))),
    ]
}

impl Prepared for Ready {
    fn cases(&self) -> Vec<Case> {
        self.spec.policies.iter().map(|policy| Case::of_policy(policy.name())).collect()
    }

    fn facts(&self) -> Vec<(String, String)> {
        let mut facts = vec![("experiment".to_owned(), "packing: pods arrive one after another and stay".to_owned())];
        facts.extend(facts_of(self));
        facts
    }

    fn pods(&self) -> Option<u64> {
        let Self { spec, machines, requests } = self;
        let Some(tune) = spec.tune else { return Some(requests.len() as u64) };
        let capacity: i64 = machines.iter().map(|machine| machine.gpus * WHOLE).sum();
        let asked: i64 = requests.iter().map(Request::gpu_milli).sum();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate, for a bar")]
        Some((requests.len() as f64 * tune * capacity as f64 / asked.max(1) as f64) as u64)
    }

    fn headlines(&self) -> Vec<String> {
        headlines()
    }

    fn run(&self, case: usize, seed: u64, watch: &Watch<'_>) -> Result<Run, ExperimentError> {
        const TOLD: usize = 100;
        let Self { spec, machines, requests } = self;
        let Some(&placement) = spec.policies.get(case) else { return Err(PackingError::NoPolicy.into()) };
        let packing = Packing { machines, requests, placement, tune: spec.tune, seed };
        let outcome = packing.run(|arrived, _| {
            if arrived.is_multiple_of(TOLD) {
                watch(Progress::Pods(TOLD as u64));
            }
        })?;
        Ok(run(case, &outcome))
    }
}

fn facts_of(ready: &Ready) -> Vec<(String, String)> {
    let Ready { spec, machines, requests } = ready;
    let mut all = facts(&spec.nodes, machines.len(), &spec.pods, requests.len());
    if let Some(tune) = spec.tune {
        all.push(("load".to_owned(), format!("pods ask for {tune} times the GPUs there are")));
    }
    all
}

impl Results {
    /// Outcomes of [`Packing`], which need not be in any order.
    pub fn of_packing(name: &str, facts: Vec<(String, String)>, outcomes: &[Outcome]) -> Self {
        let mut policies: Vec<&str> = Vec::new();
        for outcome in outcomes {
            if !policies.contains(&outcome.policy.as_str()) {
                policies.push(&outcome.policy);
            }
        }
        let of_policy = |(case, policy): (usize, &&str)| {
            let of_case = outcomes.iter().filter(move |outcome| outcome.policy == *policy);
            of_case.map(move |outcome| run(case, outcome)).collect::<Vec<_>>()
        };
        Self {
            name: name.to_owned(),
            description: String::new(),
            facts,
            headlines: headlines(),
            statistic: Statistic::Mean,
            cases: policies.iter().map(|policy| Case::of_policy(policy)).collect(),
            runs: policies.iter().enumerate().flat_map(of_policy).collect(),
        }
    }
}

fn headlines() -> Vec<String> {
    vec![ALLOCATED.to_owned(), FRAGMENTS.to_owned()]
}

/// An outcome as figures and series.
fn run(case: usize, outcome: &Outcome) -> Run {
    let percent = |name: &str, value: f64| Figure::new(name, Unit::Percent, value);
    let mut figures = vec![
        Figure::new("pods arrived", Unit::Count, outcome.pods as f64),
        Figure::new("pods placed", Unit::Count, outcome.placed as f64),
        percent("GPU asked for", f64::from(outcome.arrived_percent)),
    ];
    if let Some(last) = outcome.curve.last() {
        figures.extend(LINES.iter().map(|(name, of)| percent(name, of(last))));
    }
    let kinds = outcome.fragments.iter();
    figures.extend(kinds.map(|(kind, amount)| percent(&format!("GPU fragments of all ({kind})"), *amount)));
    let series = LINES.iter().map(|(name, of)| Series {
        plot: (*name).to_owned(),
        line: String::new(),
        x: ("GPU asked for", Unit::Percent),
        unit: Unit::Percent,
        points: outcome.curve.iter().map(|point| (f64::from(point.arrived), of(point))).collect(),
    });
    Run { case, seed: outcome.seed, figures, series: series.collect() }
}
