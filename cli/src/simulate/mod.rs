//! `longshore simulate`: workloads replayed through the scheduler, in virtual time.

mod direct;
mod experiment;
mod interrupt;
mod progress;

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use longshore_simulator::Placement;
use longshore_simulator::report::Report;

/// Options of `simulate`.
#[derive(Debug, Args)]
#[command(
    override_usage = "longshore simulate [OPTIONS] EXPERIMENT.yaml\n       longshore simulate [OPTIONS] --nodes FILE --pods FILE --policy POLICY",
    after_help = "Nothing is started and no cluster is needed: time is virtual, and the scheduler is the one of `longshore scheduler`. \
                  The same files, options and seed give the same answer, whatever --jobs is."
)]
pub(crate) struct Options {
    /// What to run, by which policies and how often; paths in it are relative to it
    #[arg(value_name = "EXPERIMENT.yaml", conflicts_with_all = ["nodes", "pods", "policy", "policy_command", "tune"])]
    experiment: Option<PathBuf>,
    /// Without an experiment: nodes, a CSV file with the columns sn, cpu_milli, memory_mib, gpu, model (Alibaba cluster-trace-gpu-v2023)
    #[arg(long, value_name = "FILE", required_unless_present = "experiment")]
    nodes: Option<PathBuf>,
    /// Pods: a CSV file with the columns name, cpu_milli, memory_mib, num_gpu, gpu_milli and, if any, gpu_spec
    #[arg(long, value_name = "FILE", required_unless_present = "experiment")]
    pods: Option<PathBuf>,
    /// Who places them
    #[arg(long, value_name = "POLICY", value_parser = policy(), required_unless_present_any = ["experiment", "policy_command"])]
    policy: Option<Placement>,
    /// Have a program place them: it is asked in JSON on its standard input, and answers a line each (docs/simulation.md)
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["policy", "jobs"])]
    policy_command: Option<String>,
    /// How long that program has for an answer, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "60", requires = "policy_command")]
    policy_timeout: NonZeroU32,
    /// Have pods arrive that ask for so many times the GPUs there are, drawing pods again or leaving some out [default: each once]
    #[arg(long, value_name = "FACTOR")]
    tune: Option<f64>,
    /// What chance depends on [default: what the experiment says, else 42]
    #[arg(long)]
    seed: Option<u64>,
    /// Run so many seeds, beginning with this one, and tell means [default: what the experiment says, else 1]
    #[arg(long, value_name = "COUNT")]
    seeds: Option<NonZeroU32>,
    /// How many runs go on at a time [default: one for each processor]
    #[arg(long, value_name = "COUNT")]
    jobs: Option<NonZeroUsize>,
    /// Write a report into this directory: report.html to open in a browser, its plots as SVG, its tables as CSV and Parquet
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Only say whether the experiment and the files that it names can be used
    #[arg(long, requires = "experiment")]
    check: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What kept it from an answer, as it is told.
type Told = Box<dyn std::error::Error>;

impl Options {
    fn jobs(&self) -> NonZeroUsize {
        self.jobs.or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN)
    }

    fn write(&self, report: &Report<'_>, out: &Path) -> Result<(), Told> {
        let _whole = interrupt::held_off();
        report.write(out)?;
        if !self.json {
            eprintln!("wrote {}", out.join("report.html").display());
        }
        Ok(())
    }
}

/// Takes the names of all policies, and shows them in help and completion.
fn policy() -> impl TypedValueParser<Value = Placement> {
    PossibleValuesParser::new(Placement::ALL.map(Placement::name)).try_map(|name| name.parse::<Placement>())
}

/// Runs it and prints what came out.
pub(crate) fn run(options: &Options) -> ExitCode {
    let done = interrupt::listen().map_err(Told::from).and_then(|()| match options {
        Options { experiment: Some(file), .. } => experiment::run(options, file),
        Options { nodes: Some(nodes), pods: Some(pods), .. } => direct::run(options, nodes, pods),
        _ => Err("give an experiment, or --nodes, --pods and --policy".into()),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: simulate: {why}");
            ExitCode::FAILURE
        }
    }
}
