//! Policies for clusters of GPUs on the trace that they are compared on, beside what the authors of FGD published: five workloads, six
//! policies, ten seeds, at every load that is published. `--json` prints one object a line.
//!
//! The peer is the authors' simulator, a modified kube-scheduler: about 29 minutes for one run on two cores (recorded, not run here).

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use longshore::core::clock::{Clock, SystemClock};
use longshore::simulator::{Estimate, Outcome, Packing, Placement, Point, openb, sweep};
use serde_json::json;

const WORKLOADS: [&str; 5] = ["default", "cpu050", "gpushare40", "gpuspec33", "multigpu20"];

/// The names of policies as published.
const POLICIES: [(&str, Placement); 6] = [
    ("01-Random", Placement::Random),
    ("02-DotProd", Placement::DotProduct),
    ("03-GpuClustering", Placement::GpuClustering),
    ("04-GpuPacking", Placement::GpuPacking),
    ("05-BestFit", Placement::BestFit),
    ("06-FGD", Placement::Fgd),
];

/// The published seeds.
const SEEDS: std::ops::Range<u64> = 42..52;

/// So far may a mean be away, in percent, or two published deviations, whichever is more.
const AWAY_MAX: f64 = 0.3;

#[derive(Debug, Parser)]
struct Options {
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    /// As cargo passes it on
    #[arg(long, hide = true)]
    bench: bool,
}

/// What was published: by workload, policy, measure and load, the mean and the deviation.
type Published = BTreeMap<(String, String), Vec<(String, u32, f64, f64)>>;

type Outcomes<T> = Result<T, Box<dyn std::error::Error>>;

fn published(file: &Path) -> Outcomes<Published> {
    let mut published = Published::new();
    for line in std::fs::read_to_string(file)?.lines().skip(1) {
        let [workload, policy, measure, arrived, _, mean, deviation] =
            line.split(',').collect::<Vec<_>>()[..].try_into()?;
        let workload = workload.trim_start_matches("openb_pod_list_").to_owned();
        let row = (measure.to_owned(), arrived.parse()?, mean.parse()?, deviation.parse()?);
        published.entry((workload, policy.to_owned())).or_default().push(row);
    }
    Ok(published)
}

fn of(measure: &str, point: &Point) -> f64 {
    match measure {
        "alloc_ratio_pct" => point.allocation,
        "frag_ratio_pct" => point.fragmentation_ratio,
        _ => point.fragmentation_amount,
    }
}

fn mean(outcomes: &[Outcome], measure: &str, arrived: u32) -> f64 {
    let points = outcomes.iter().flat_map(|outcome| &outcome.curve).filter(|point| point.arrived == arrived);
    let values: Vec<f64> = points.map(|point| of(measure, point)).collect();
    Estimate::of(&values).mean
}

fn main() -> Outcomes<ExitCode> {
    let options = Options::parse();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("simulator/testdata/openb");
    let published = published(&directory.join("published.csv"))?;
    let machines = openb::machines(&directory.join("nodes.csv"))?;
    let clock = SystemClock::new();
    let one = openb::requests(&directory.join("default.csv"))?;
    let start = clock.elapsed();
    Packing { machines: &machines, requests: &one, placement: Placement::Fgd, tune: Some(1.3), seed: 42 }
        .run(|_, _| ())?;
    let one_run = (clock.elapsed() - start).as_secs_f64();

    let start = clock.elapsed();
    let (mut compared, mut off) = (0_u32, 0_u32);
    for workload in WORKLOADS {
        let requests = openb::requests(&directory.join(format!("{workload}.csv")))?;
        for (name, placement) in POLICIES {
            let experiments: Vec<Packing<'_>> = SEEDS
                .map(|seed| Packing { machines: &machines, requests: &requests, placement, tune: Some(1.3), seed })
                .collect();
            let outcomes =
                sweep(&experiments, std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN), |_| ())?;
            for (measure, arrived, expected, deviation) in &published[&(workload.to_owned(), name.to_owned())] {
                let found = mean(&outcomes, measure, *arrived);
                let is_off = (found - expected).abs() > AWAY_MAX.max(2.0 * deviation);
                compared += 1;
                off += u32::from(is_off);
                if options.json {
                    println!(
                        "{}",
                        json!({
                            "workload": workload, "policy": placement.name(), "measure": measure, "arrived": arrived,
                            "mean": found, "published": expected, "deviation": deviation, "off": is_off,
                        })
                    );
                } else if is_off || (measure == "alloc_ratio_pct" && *arrived == 130) {
                    let mark = if is_off { "  OFF" } else { "" };
                    println!(
                        "{workload:12} {:16} {measure} at {arrived} %: {found:7.3}, published {expected:7.3} ± {deviation:.3}{mark}",
                        placement.name()
                    );
                }
            }
        }
    }
    let table = (clock.elapsed() - start).as_secs_f64();
    if options.json {
        println!("{}", json!({ "compared": compared, "off": off, "one_run_seconds": one_run, "table_seconds": table }));
    } else {
        println!(
            "{compared} means compared, {off} off; one run of FGD {one_run:.3} s (the peer: about 29 minutes, recorded), all 300 runs {table:.1} s"
        );
    }
    Ok(if off == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
