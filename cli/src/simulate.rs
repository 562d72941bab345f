//! `longshore simulate`: how full policies fill a cluster of GPUs.

use std::fmt::Display;
use std::io::IsTerminal;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use indicatif::{ProgressBar, ProgressStyle};
use longshore_core::clock::{Clock, SystemClock};
use longshore_simulator::{Estimate, Outcome, Packing, Placement, openb, sweep};
use serde_json::{Value, json};

use crate::output::say;

/// At these loads the table has a row, besides the last.
const ROWS: [u32; 6] = [50, 80, 90, 100, 110, 120];

/// Options of `simulate`.
#[derive(Debug, Args)]
#[command(
    after_help = "Nothing is started and no cluster is needed: pods arrive one after another, in virtual time, and stay. The scheduler \
                        that places them is the one of `longshore scheduler`. The same files, options and seed give the same answer."
)]
pub(crate) struct Options {
    /// Nodes: a CSV file with the columns sn, cpu_milli, memory_mib, gpu, model (Alibaba cluster-trace-gpu-v2023)
    #[arg(long, value_name = "FILE")]
    nodes: PathBuf,
    /// Pods: a CSV file with the columns name, cpu_milli, memory_mib, num_gpu, gpu_milli and, if any, gpu_spec
    #[arg(long, value_name = "FILE")]
    pods: PathBuf,
    /// Who places them
    #[arg(long, value_name = "POLICY", value_parser = policy())]
    policy: Placement,
    /// Have pods arrive that ask for so many times the GPUs there are, drawing pods again or leaving some out [default: each once]
    #[arg(long, value_name = "FACTOR")]
    tune: Option<f64>,
    /// What chance depends on: the order of pods and of nodes
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Run so many seeds, beginning with this one, and tell means
    #[arg(long, value_name = "COUNT", default_value = "1")]
    seeds: NonZeroUsize,
    /// How many runs go on at a time [default: one for each processor]
    #[arg(long, value_name = "COUNT")]
    jobs: Option<NonZeroUsize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Takes the names of all policies, and shows them in help and completion.
fn policy() -> impl TypedValueParser<Value = Placement> {
    PossibleValuesParser::new(Placement::ALL.map(Placement::name)).try_map(|name| name.parse::<Placement>())
}

/// Runs it and prints what came out.
pub(crate) fn run(options: &Options) -> ExitCode {
    match answer(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: simulate: {why}");
            ExitCode::FAILURE
        }
    }
}

fn answer(options: &Options) -> Result<(), String> {
    let told = |error: &dyn Display| error.to_string();
    let machines = openb::machines(&options.nodes).map_err(|error| told(&error))?;
    let requests = openb::requests(&options.pods).map_err(|error| told(&error))?;
    let (machines, requests) = (&machines[..], &requests[..]);
    let Options { policy: placement, tune, .. } = *options;
    let seeds = (0..options.seeds.get() as u64).map(|more| options.seed.wrapping_add(more));
    let experiments: Vec<Packing<'_>> =
        seeds.map(|seed| Packing { machines, requests, placement, tune, seed }).collect();
    let jobs = options.jobs.or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN);

    let clock = SystemClock::new();
    let outcomes = if let [one] = &experiments[..] {
        let bar = bar("pods");
        let outcome = one.run(|done, of| {
            bar.set_length(of as u64);
            bar.set_position(done as u64);
        });
        bar.finish_and_clear();
        vec![outcome.map_err(|error| told(&error))?]
    } else {
        let bar = bar("runs");
        bar.set_length(experiments.len() as u64);
        let outcomes = sweep(&experiments, jobs, |_| bar.inc(1));
        bar.finish_and_clear();
        outcomes.map_err(|error| told(&error))?
    };
    let wall = clock.elapsed().as_secs_f64();
    if options.json {
        say(value(&outcomes, wall).map_err(|error| told(&error))?);
    } else {
        print(&outcomes, wall);
    }
    Ok(())
}

fn bar(of: &'static str) -> ProgressBar {
    let bar = if std::io::stderr().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() };
    let style = ProgressStyle::with_template("  {bar:24}  {pos} of {len} {msg}, {per_sec}, {eta} to go");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.with_message(of)
}

/// What all runs say at one load.
fn at(outcomes: &[Outcome], arrived: u32) -> Option<[Estimate; 3]> {
    let points: Option<Vec<_>> =
        outcomes.iter().map(|outcome| outcome.curve.iter().find(|point| point.arrived == arrived)).collect();
    let points = points?;
    let estimate = |of: fn(&longshore_simulator::Point) -> f64| {
        let values: Vec<f64> = points.iter().map(|point| of(point)).collect();
        Estimate::of(&values)
    };
    Some([
        estimate(|point| point.allocation),
        estimate(|point| point.fragmentation_ratio),
        estimate(|point| point.fragmentation_amount),
    ])
}

/// The highest load that all runs have.
fn last(outcomes: &[Outcome]) -> u32 {
    outcomes.iter().map(|outcome| outcome.arrived_percent).min().unwrap_or(0)
}

fn value(outcomes: &[Outcome], wall: f64) -> Result<Value, serde_json::Error> {
    if let [one] = outcomes {
        let mut value = serde_json::to_value(one)?;
        value["wall_seconds"] = json!(wall);
        return Ok(value);
    }
    let last = last(outcomes);
    let curve: Vec<Value> = (0..=last)
        .filter_map(|arrived| {
            let [allocation, ratio, amount] = at(outcomes, arrived)?;
            Some(json!({
                "arrived": arrived, "allocation": allocation.mean, "fragmentation_ratio": ratio.mean,
                "fragmentation_amount": amount.mean,
            }))
        })
        .collect();
    let [allocation, ratio, _] = at(outcomes, last).unwrap_or([Estimate::of(&[]); 3]);
    let first = outcomes.first();
    Ok(json!({
        "policy": first.map(|outcome| outcome.policy),
        "seed": first.map(|outcome| outcome.seed),
        "seeds": outcomes.len(),
        "arrived_percent": last,
        "gpu_allocation_percent": allocation.mean,
        "fragmentation_percent": ratio.mean,
        "gpu_allocation": allocation,
        "fragmentation": ratio,
        "curve": curve,
        "runs": outcomes,
        "wall_seconds": wall,
    }))
}

fn print(outcomes: &[Outcome], wall: f64) {
    let Some(first) = outcomes.first() else { return };
    for outcome in outcomes {
        let Outcome { policy, seed, pods, placed, .. } = outcome;
        say(format_args!("{policy}, seed {seed}: {pods} pods arrived, {placed} found a place"));
    }
    let spread = |of: Estimate| if outcomes.len() > 1 { format!(" ± {:.2}", of.confidence) } else { String::new() };
    say(format_args!("\n{:>8}  {:>15}  {:>15}  {:>15}", "arrived", "in use", "fragments", "of what is idle"));
    let last = last(outcomes);
    for arrived in ROWS.into_iter().filter(|row| *row < last).chain([last]) {
        let Some([allocation, ratio, amount]) = at(outcomes, arrived) else { continue };
        let cell = |of: Estimate| format!("{:.2} %{}", of.mean, spread(of));
        let (used, fragments, of_idle) = (cell(allocation), cell(amount), cell(ratio));
        say(format_args!("{arrived:>6} %  {used:>15}  {fragments:>15}  {of_idle:>15}"));
    }
    let note = if outcomes.len() > 1 { "; ± is the 95 % confidence interval of the mean" } else { "" };
    say(format_args!("\nin percent of all GPUs of {}{note}; {wall:.2} s", first.policy));
}
