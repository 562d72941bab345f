//! Experiments as files: what is run, by which policies, how often; and what it came to.
//!
//! A file is YAML. It has one of `packing`, `compaction` and `simulation`, and may say how it is called and by which seeds it is run:
//!
//! ```
//! use std::num::NonZeroUsize;
//! use std::path::Path;
//!
//! use longshore_simulator::experiment::Experiment;
//! use longshore_simulator::report::Report;
//! # let directory = tempfile::tempdir()?;
//! # std::fs::write(directory.path().join("nodes.csv"), "sn,cpu_milli,memory_mib,gpu,model\na,64000,262144,2,T4\n")?;
//! # std::fs::write(directory.path().join("pods.csv"), "name,cpu_milli,memory_mib,num_gpu,gpu_milli\np,4000,8192,1,500\n")?;
//!
//! let text = "
//! name: two policies
//! seeds: 3
//! packing:
//!   nodes: nodes.csv
//!   pods: pods.csv
//!   policies: [random, fgd]
//!   tune: 1.3
//! ";
//! let experiment = Experiment::parse(text, &directory.path().join("two.yaml"))?;
//! let results = experiment.run(NonZeroUsize::MIN, &|_| ())?;
//! assert_eq!((results.cases.len(), results.runs.len()), (2, 6));
//! Report::of(&results).write(&directory.path().join("out"))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod compaction;
mod file;
mod packing;
mod simulation;
mod whole;

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;

pub use compaction::CompactionSpec;
pub use packing::PackingSpec;
pub use simulation::{Policy, SimulationSpec};

use crate::report::{Case, Results, Run, Statistic};
use crate::{CompactionError, PackingError, in_parallel, openb};

/// An experiment.
#[derive(Debug, Clone, PartialEq)]
pub struct Experiment {
    /// Its name.
    pub name: String,
    /// What it is about; may be empty.
    pub description: String,
    /// The first seed; the others follow it one by one.
    pub seed: u64,
    /// By how many seeds each case is run.
    pub seeds: u32,
    /// What is run.
    pub kind: Kind,
}

/// What can be run.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Kind {
    /// Pods arrive one after another and stay: [`Packing`](crate::Packing).
    Packing(PackingSpec),
    /// How few machines would do: [`Compaction`](crate::Compaction).
    Compaction(Box<CompactionSpec>),
    /// A workload in its own time: [`Simulation`](crate::simulation::Simulation).
    Simulation(Box<SimulationSpec>),
}

/// How far an experiment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// So many runs there will be.
    Begun {
        /// How many.
        runs: usize,
        /// About how many pods schedulers will be asked about in all of them, if that is known.
        pods: Option<u64>,
    },
    /// Schedulers were asked about so many pods more.
    Pods(u64),
    /// A run has ended.
    Ended,
}

/// Hears how far an experiment is, from several threads.
pub type Watch<'w> = dyn Fn(Progress) + Sync + 'w;

/// Why an experiment cannot be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExperimentError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", .file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file says what cannot be.
    #[error("{}:{place}{reason}", .file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// The place in it, where one is to blame.
        place: Place,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// A file that it names cannot be used.
    #[error(transparent)]
    Trace(#[from] openb::Error),
    /// Its packing cannot be run.
    #[error(transparent)]
    Packing(#[from] PackingError),
    /// Its compaction cannot be run.
    #[error("policy {policy}, seed {seed}: {source}")]
    Compaction {
        /// Who placed.
        policy: &'static str,
        /// By which seed.
        seed: u64,
        /// Why.
        source: CompactionError,
    },
    /// Its workload cannot be read or simulated.
    #[error("{}", chain(&**.0))]
    Workload(Box<dyn std::error::Error + Send + Sync>),
}

/// An error and what it comes from.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

fn told(error: impl std::error::Error + Send + Sync + 'static) -> ExperimentError {
    ExperimentError::Workload(error.into())
}

/// A line and a column, both from 1; 0 if it is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// The line.
    pub line: u64,
    /// The column.
    pub column: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 { f.write_str(" ") } else { write!(f, "{}:{}: ", self.line, self.column) }
    }
}

/// A kind of experiment that is ready to be run: all files are read.
trait Prepared: Sync {
    fn cases(&self) -> Vec<Case>;

    fn facts(&self) -> Vec<(String, String)>;

    /// About how many pods a run asks about, if that is known.
    fn pods(&self) -> Option<u64> {
        None
    }

    /// The figures that matter most.
    fn headlines(&self) -> Vec<String>;

    fn statistic(&self) -> Statistic {
        Statistic::Mean
    }

    fn run(&self, case: usize, seed: u64, watch: &Watch<'_>) -> Result<Run, ExperimentError>;
}

impl Experiment {
    /// Runs every case by every seed, as many at a time as `jobs` says. The results are the same whatever that is.
    ///
    /// # Errors
    /// A file cannot be used, or a run cannot be made: the first, in the order of cases and seeds.
    pub fn run(&self, jobs: NonZeroUsize, watch: &Watch<'_>) -> Result<Results, ExperimentError> {
        let prepared = self.prepare()?;
        let cases = prepared.cases();
        let seeds: Vec<u64> = (0..u64::from(self.seeds)).map(|more| self.seed.wrapping_add(more)).collect();
        let items: Vec<(usize, u64)> =
            (0..cases.len()).flat_map(|case| seeds.iter().map(move |seed| (case, *seed))).collect();
        watch(Progress::Begun { runs: items.len(), pods: prepared.pods().map(|pods| pods * items.len() as u64) });
        let runs = in_parallel(&items, jobs, |(case, seed)| {
            let run = prepared.run(*case, *seed, watch)?;
            watch(Progress::Ended);
            Ok::<Run, ExperimentError>(run)
        })?;
        let last = self.seed.wrapping_add(u64::from(self.seeds).saturating_sub(1));
        let mut facts = prepared.facts();
        facts.push(match self.seeds {
            1 => ("seed".to_owned(), self.seed.to_string()),
            count => ("seeds".to_owned(), format!("{count}, from {} to {last}", self.seed)),
        });
        Ok(Results {
            name: self.name.clone(),
            description: self.description.clone(),
            facts,
            headlines: prepared.headlines(),
            statistic: prepared.statistic(),
            cases,
            runs,
        })
    }

    /// Reads what the experiment names, and runs nothing.
    ///
    /// # Errors
    /// A file cannot be used.
    pub fn check(&self) -> Result<(), ExperimentError> {
        self.prepare().map(drop)
    }

    fn prepare(&self) -> Result<Box<dyn Prepared>, ExperimentError> {
        Ok(match &self.kind {
            Kind::Packing(spec) => Box::new(spec.prepare()?),
            Kind::Compaction(spec) => Box::new(spec.prepare(self.seed)?),
            Kind::Simulation(spec) => Box::new(spec.prepare(self.seed)?),
        })
    }
}
