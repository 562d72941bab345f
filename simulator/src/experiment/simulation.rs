//! Experiments in which a workload is simulated in its own time.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use longshore_core::api::Node;
use longshore_core::api::pod::Pod;
use longshore_core::scheduling::cluster::Cluster;
use longshore_scheduler::Profile;
use longshore_scheduler::config::Configuration;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use super::{ExperimentError, Prepared, Progress, Watch, told, whole};
use crate::generate::Source;
use crate::measures::{Bands, Figure, Fragmentation, Measure, Measures, Unit};
use crate::observer::{Happening, Observer};
use crate::report::{Case, Run};
use crate::simulation::{Architecture, Deciders, DecisionTime, Retry, Simulation, Ties};
use crate::traces::Tally;
use crate::workload::What;
use crate::{Decider, Placement};

/// A [`Simulation`] by several policies and architectures.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SimulationSpec {
    /// What arrives.
    pub source: Source,
    /// Where its paths begin: where the experiment's file is.
    #[serde(skip)]
    pub base: PathBuf,
    /// Who places; if nothing is said, the scheduler as it is without any configuration.
    #[serde(default = "by_default")]
    pub policies: Vec<Policy>,
    /// Who decides, and how several get along, by a name of your own. If nothing is said: one scheduler that needs no time.
    #[serde(default)]
    pub architectures: BTreeMap<String, Architecture>,
    /// Seconds that each scheduler thinks about a service job, beside its time for each task: every architecture is run with each of them
    /// (the figures of Omega, EuroSys '13). If nothing is said, as the architectures say.
    #[serde(default)]
    pub service_job_times: Vec<f64>,
    /// When a job is tried again.
    #[serde(default)]
    pub retry: Retry,
    /// Whether pods make room for others of higher priority; by default they do, but where schedulers get offers.
    #[serde(default)]
    pub preemption: Option<bool>,
    /// Which of the best nodes is taken; by default any, but by policies that are compared in the literature the first.
    #[serde(default)]
    pub ties: Option<Ties>,
    /// When it ends, in seconds; if nothing is said, when nothing happens any more.
    #[serde(default)]
    pub until: Option<f64>,
    /// So many seconds are between two points of a line.
    #[serde(default = "five_minutes")]
    pub period: f64,
    /// So many rows of traces may be bad; they are left out and counted.
    #[serde(default)]
    pub bad_rows: u64,
    /// Which priorities are reported together.
    #[serde(default)]
    pub priorities: Bands,
    /// Whether fragments of GPUs are measured.
    #[serde(default)]
    pub fragmentation: bool,
    /// Whether it is played through a whole control plane, with the real controllers and hollow nodes, instead of the scheduler's engine
    /// alone. Then `until` must be said, and who decides when is not to be chosen. Needs the crate's feature `control-plane`.
    #[serde(default)]
    pub control_plane: bool,
}

/// Who places.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Policy {
    /// The scheduler's default profile.
    Default,
    /// A policy by name.
    Placement(Placement),
    /// The profiles of a file, which is a `KubeSchedulerConfiguration`.
    Configuration(PathBuf),
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Placement(placement) => placement.fmt(f),
            Self::Configuration(file) => f.write_str(&file.file_name().unwrap_or_default().to_string_lossy()),
        }
    }
}

impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "default" {
            return Ok(Self::Default);
        }
        if Path::new(&text).extension().is_some_and(|end| end == "yaml" || end == "json") {
            return Ok(Self::Configuration(text.into()));
        }
        let unknown =
            |error| D::Error::custom(format!("{error}, default, and files of a KubeSchedulerConfiguration (*.yaml)"));
        text.parse().map(Self::Placement).map_err(unknown)
    }
}

/// By a known name, or as names with the priorities from which they begin.
impl<'de> Deserialize<'de> for Bands {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Bands;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("each, google2011, google2019, or names with the priorities from which they begin")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Bands, E> {
                match text {
                    "each" => Ok(Bands::Each),
                    "google2011" => Ok(Bands::google_2011()),
                    "google2019" => Ok(Bands::google_2019()),
                    other => Err(E::invalid_value(serde::de::Unexpected::Str(other), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Bands, A::Error> {
                let mut bands: Vec<(String, i32)> = Vec::new();
                while let Some(band) = map.next_entry()? {
                    bands.push(band);
                }
                Ok(Bands::named(bands))
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

fn by_default() -> Vec<Policy> {
    vec![Policy::Default]
}

fn five_minutes() -> f64 {
    300.0
}

/// So many jobs of a workload tell what nodes and pods to expect.
const EXPECTED: usize = 10_000;

const HEADLINES: [&str; 20] = [
    "cpu allocated, mean",
    "memory allocated, mean",
    "gpu allocated, mean",
    "GPU fragments, mean",
    "wait of jobs (batch), mean",
    "wait of jobs (service), mean",
    "wait of pods (batch), mean",
    "wait of pods (service), mean",
    "slowdown of jobs (batch), mean",
    "time until pods run, mean",
    "time until pods run, p99",
    "busyness",
    "scheduler 0, busyness",
    "scheduler 1, busyness",
    "conflict fraction",
    "scheduler 0, conflict fraction",
    "scheduler 1, conflict fraction",
    "preemptions",
    "pods waiting at the end",
    "Jain's index of dominant shares, mean",
];

impl SimulationSpec {
    pub(super) fn resolve(&mut self, base: &Path) {
        base.clone_into(&mut self.base);
        self.source.act_on_objects(self.control_plane);
        for policy in &mut self.policies {
            if let Policy::Configuration(file) = policy {
                *file = base.join(&*file);
            }
        }
    }

    pub(super) fn prepare(&self, seed: u64) -> Result<Ready, ExperimentError> {
        if self.control_plane {
            whole::check(self)?;
        }
        let cases = self.variants();
        let expected = if self.fragmentation || cases.iter().any(|of| matches!(of.policy, Policy::Placement(_))) {
            Some(self.expected(seed)?)
        } else {
            None
        };
        let profiles = |policy: &Policy| match policy {
            Policy::Configuration(file) => {
                let text = std::fs::read_to_string(file)
                    .map_err(|source| ExperimentError::Read { file: file.clone(), source })?;
                let read = Configuration::from_yaml(&text);
                let read =
                    read.map_err(|error| ExperimentError::Workload(format!("{}: {error}", file.display()).into()))?;
                Ok(read.with_gangs().with_devices().profiles)
            }
            // What a cluster runs by default knows devices.
            _ if self.control_plane => Ok(Configuration::default().with_devices().profiles),
            _ => Ok(vec![Profile::default_scheduler()]),
        };
        let profiles = cases.iter().map(|of| profiles(&of.policy)).collect::<Result<_, ExperimentError>>()?;
        Ok(Ready { spec: self.clone(), cases, profiles, expected })
    }

    /// Policies, architectures and times, each with each.
    fn variants(&self) -> Vec<Variant> {
        let unnamed = BTreeMap::from([(String::new(), Architecture::default())]);
        let architectures = if self.architectures.is_empty() { &unnamed } else { &self.architectures };
        let times: Vec<Option<f64>> = match &self.service_job_times[..] {
            [] => vec![None],
            times => times.iter().copied().map(Some).collect(),
        };
        let mut all = Vec::new();
        for policy in &self.policies {
            for (name, architecture) in architectures {
                for time in &times {
                    let mut architecture = architecture.clone();
                    if let Some(time) = time {
                        set_service_job_time(&mut architecture, *time);
                    }
                    all.push(Variant { policy: policy.clone(), name: name.clone(), architecture, time: *time });
                }
            }
        }
        all
    }

    /// The nodes and pods that come first.
    fn expected(&self, seed: u64) -> Result<Expected, ExperimentError> {
        let mut expected = Expected::default();
        let tally = Tally::with_limit(self.bad_rows);
        for event in self.source.events(&self.base, seed, &tally).map_err(told)? {
            match event.map_err(told)?.what {
                What::Node(node) => expected.nodes.push(node),
                What::Job(job) => {
                    expected.jobs += 1;
                    for task in &job.tasks {
                        // A job of a million equal pods shall not hide the others.
                        let count = usize::try_from(task.count).unwrap_or(EXPECTED).min(EXPECTED);
                        expected.pods.extend(std::iter::repeat_n(task.pod.clone(), count));
                    }
                }
                _ => {}
            }
            if expected.jobs == EXPECTED {
                break;
            }
        }
        Ok(expected)
    }
}

fn set_service_job_time(architecture: &mut Architecture, seconds: f64) {
    let per_job_wanted = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO);
    let set = |time: &mut DecisionTime| {
        if let DecisionTime::Modelled { per_job, .. } = time {
            *per_job = per_job_wanted;
        }
    };
    match architecture {
        Architecture::Monolithic { decisions } => set(&mut decisions.service),
        Architecture::SharedState { schedulers, .. } | Architecture::TwoLevel { frameworks: schedulers } => {
            schedulers.iter_mut().for_each(|scheduler| set(&mut scheduler.decisions.service));
        }
    }
}

#[derive(Default)]
struct Expected {
    nodes: Vec<Arc<Node>>,
    pods: Vec<Arc<Pod>>,
    jobs: usize,
}

impl Expected {
    fn decider(&self, placement: Placement) -> Decider {
        Decider::new(placement, self.nodes.iter().map(|node| &**node), self.pods.iter().map(|pod| &**pod))
    }
}

struct Variant {
    policy: Policy,
    name: String,
    architecture: Architecture,
    time: Option<f64>,
}

pub(super) struct Ready {
    spec: SimulationSpec,
    cases: Vec<Variant>,
    /// Of those policies that have any without knowing what to expect.
    profiles: Vec<Vec<Profile>>,
    expected: Option<Expected>,
}

impl Prepared for Ready {
    fn cases(&self) -> Vec<Case> {
        let case = |variant: &Variant| {
            let mut case = Case::of_policy(&variant.policy.to_string());
            if !self.spec.architectures.is_empty() {
                case = case.with("architecture", variant.name.as_str());
            }
            match variant.time {
                Some(time) => case.with("time for a service job, s", time),
                None => case,
            }
        };
        self.cases.iter().map(case).collect()
    }

    fn facts(&self) -> Vec<(String, String)> {
        let mut facts = vec![("experiment".to_owned(), "simulation: a workload in its own time".to_owned())];
        facts.push(("source".to_owned(), self.spec.source.name()));
        if self.spec.control_plane {
            facts.push(("through".to_owned(), "a whole control plane and hollow nodes".to_owned()));
        }
        if let Some(until) = self.spec.until {
            facts.push(("until".to_owned(), format!("{} h", until / 3600.0)));
        }
        facts
    }

    fn headlines(&self) -> Vec<String> {
        HEADLINES.map(str::to_owned).into()
    }

    fn run(&self, case: usize, seed: u64, watch: &Watch<'_>) -> Result<Run, ExperimentError> {
        let Self { spec, cases, profiles, expected } = self;
        let (Some(variant), Some(profiles)) = (cases.get(case), profiles.get(case)) else {
            return Err(ExperimentError::Workload("there is no such case".into()));
        };
        let seconds = |seconds: f64| Duration::try_from_secs_f64(seconds).map_err(told);
        let (until, period) = (spec.until.map(seconds).transpose()?, seconds(spec.period)?);
        let mut measures = Measures::standard(&spec.priorities, period);
        let (profiles, ties) = match (&variant.policy, expected) {
            (Policy::Placement(placement), Some(expected)) => {
                let ties = if *placement == Placement::Random { Ties::Random } else { Ties::First };
                (vec![expected.decider(*placement).profile(seed)], ties)
            }
            _ => (profiles.clone(), Ties::default()),
        };
        if let (true, Some(expected)) = (spec.fragmentation, expected) {
            measures = measures.with(Fragmentation::new(expected.decider(Placement::Fgd).workload().clone(), period));
        }
        let ties = spec.ties.unwrap_or(ties);
        let tally = Tally::with_limit(spec.bad_rows);
        let events = spec.source.events(&spec.base, seed, &tally).map_err(told)?;
        let mut looking = Looking { measures, watch, pods: 0 };
        let (end, waiting, more) = if spec.control_plane {
            whole::run(profiles, ties, seed, until.unwrap_or_default(), events, &mut looking)?
        } else {
            let simulation = spec.simulation(variant, ties, seed);
            let ended = simulation.run(Deciders::from(profiles), events, until, &mut looking).map_err(told)?;
            (ended.at, ended.waiting, Vec::new())
        };
        let measures = looking.measures;
        let mut figures = measures.figures(end);
        figures.extend(more);
        figures.push(Figure::new("pods waiting at the end", Unit::Count, waiting as f64));
        if spec.bad_rows > 0 {
            figures.push(Figure::new("bad rows left out", Unit::Count, tally.bad_rows() as f64));
        }
        Ok(Run { case, seed, figures, series: measures.series(end) })
    }
}

impl SimulationSpec {
    fn simulation(&self, variant: &Variant, ties: Ties, seed: u64) -> Simulation {
        let two_level = matches!(variant.architecture, Architecture::TwoLevel { .. });
        Simulation {
            architecture: variant.architecture.clone(),
            retry: self.retry,
            preemption: self.preemption.unwrap_or(!two_level),
            ties,
            seed,
        }
    }
}

/// Measures, and tells how far it is.
struct Looking<'w> {
    measures: Measures,
    watch: &'w Watch<'w>,
    pods: u64,
}

impl Observer for Looking<'_> {
    fn hear(&mut self, at: Duration, what: &Happening<'_>, cluster: &Cluster) {
        const TOLD: u64 = 100;
        self.measures.hear(at, what, cluster);
        if let Happening::Attempt(attempt) = what {
            self.pods += u64::from(attempt.placed) + u64::from(attempt.refused);
            if self.pods >= TOLD {
                (self.watch)(Progress::Pods(std::mem::take(&mut self.pods)));
            }
        }
    }
}
