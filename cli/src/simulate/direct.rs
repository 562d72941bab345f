//! One policy on two files of a trace, without a file of an experiment.

use std::path::Path;
use std::time::Duration;

use longshore_simulator::report::{Report, Results};
use longshore_simulator::{Estimate, Outcome, Packing, Placement, openb, sweep};
use serde_json::{Value, json};

use super::progress::{Bar, Counted};
use super::{Options, Told};
use crate::output::say;

/// At these loads the table has a row, besides the last.
const ROWS: [u32; 6] = [50, 80, 90, 100, 110, 120];

/// The seed of whoever does not say one.
const SEED: u64 = 42;

/// Runs it and prints what came out.
pub(super) fn run(options: &Options, nodes: &Path, pods: &Path) -> Result<(), Told> {
    let machines = openb::machines(nodes)?;
    let requests = openb::requests(pods)?;
    let (machines, requests) = (&machines[..], &requests[..]);
    let (tune, first) = (options.tune, options.seed.unwrap_or(SEED));
    // Where a program chooses, this is not asked.
    let placement = options.policy.unwrap_or(Placement::Random);
    let count = options.seeds.map_or(1, |count| u64::from(count.get()));
    let experiments: Vec<Packing<'_>> = (0..count)
        .map(|more| Packing { machines, requests, placement, tune, seed: first.wrapping_add(more) })
        .collect();
    let bar = Bar::new();
    let outcomes = if let Some(command) = &options.policy_command {
        let patience = Duration::from_secs(options.policy_timeout.get().into());
        // One after another: such a program may well use the whole machine.
        let run = |experiment: &Packing<'_>| {
            experiment.run_by_program(command, patience, |done, of| bar.at(Counted::Pods, done as u64, of as u64))
        };
        experiments.iter().map(run).collect::<Result<Vec<_>, _>>()?
    } else if let [one] = &experiments[..] {
        vec![one.run(|done, of| bar.at(Counted::Pods, done as u64, of as u64))?]
    } else {
        bar.at(Counted::Runs, 0, experiments.len() as u64);
        sweep(&experiments, options.jobs(), |_| bar.one_more())?
    };
    let wall = bar.finish();
    if let Some(out) = &options.out {
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let facts = vec![("nodes".to_owned(), name(nodes)), ("pods".to_owned(), name(pods))];
        let results = Results::of_packing(&format!("{} on {}", outcomes[0].policy, name(pods)), facts, &outcomes);
        options.write(&Report::of(&results), out)?;
    }
    if options.json {
        say(value(&outcomes, wall)?);
    } else {
        print(&outcomes, wall);
    }
    Ok(())
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
        "policy": first.map(|outcome| &outcome.policy),
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
