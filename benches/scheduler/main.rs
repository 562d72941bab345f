//! Measures the scheduler on the workloads of upstream's `scheduler_perf`:
//! `cargo bench --bench scheduler -- [--workload W] [--mode decision|whole] [--nodes N] [--threads T] [--store memory|embedded] [--verify] [--json]`.
//!
//! All nodes are looked at for every pod, with upstream's default profile. Every run checks itself: all pods are placed, once,
//! no node has more than it can take, and spreading and affinity hold. `--verify` also holds each choice against the slow
//! reference. `--threads` runs that many engines side by side, each with a cluster of its own, and adds them up.

mod checks;
mod decision;
mod whole;

use std::time::Duration;

use longshore_simulator::generate::scheduler_perf::{NODES, WORKLOADS, Workload};
use serde_json::json;

/// As in the program `longshore`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How something can fail here: with words.
pub(crate) type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

struct Options {
    workload: Option<&'static Workload>,
    modes: Vec<&'static str>,
    nodes: usize,
    threads: usize,
    store: String,
    verify: bool,
    json: bool,
}

impl Options {
    fn read() -> Outcome<Self> {
        let mut options = Self {
            workload: None,
            modes: vec!["decision", "whole"],
            nodes: NODES,
            threads: 1,
            store: "memory".into(),
            verify: false,
            json: false,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} wants a value"));
            match argument.as_str() {
                "--workload" => {
                    let name = value()?;
                    let names: Vec<&str> = WORKLOADS.iter().map(|workload| workload.name).collect();
                    let unknown = || format!("there is no workload {name}; there are: {}", names.join(", "));
                    options.workload = Some(Workload::find(&name).ok_or_else(unknown)?);
                }
                "--mode" => match value()?.as_str() {
                    "decision" => options.modes = vec!["decision"],
                    "whole" => options.modes = vec!["whole"],
                    other => return Err(format!("there is no mode {other}; there are: decision, whole").into()),
                },
                "--nodes" => options.nodes = value()?.parse()?,
                "--threads" => options.threads = value()?.parse()?,
                "--store" => options.store = value()?,
                "--verify" => options.verify = true,
                "--json" => options.json = true,
                // Cargo says so itself.
                "--bench" => {}
                other => {
                    return Err(format!("unknown argument {other}; see the head of benches/scheduler/main.rs").into());
                }
            }
        }
        if options.nodes == 0 || options.threads == 0 {
            return Err("--nodes and --threads want at least 1".into());
        }
        Ok(options)
    }
}

/// What was measured.
pub(crate) struct Measured {
    /// Pods that were placed.
    pub(crate) pods: usize,
    /// How long that took.
    pub(crate) seconds: f64,
    /// Each placement, sorted; empty if only the whole was measured.
    pub(crate) times: Vec<Duration>,
    /// Resident memory while all was there.
    pub(crate) rss_mib: f64,
}

fn main() -> Outcome {
    let options = Options::read()?;
    if !options.json {
        println!("workload                     mode       nodes     pods/s   p50 µs   p99 µs   max µs  RSS MiB");
    }
    for workload in WORKLOADS.iter().filter(|it| options.workload.is_none_or(|only| only.name == it.name)) {
        for mode in &options.modes {
            // Evicted pods end only where a node agent ends them, and there is none here.
            if *mode == "whole" && workload.preempts {
                continue;
            }
            let measured = match *mode {
                "decision" => decision::run(workload, options.nodes, options.threads, options.verify),
                _ => whole::run(workload, options.nodes, &options.store),
            };
            let measured = measured.map_err(|error| format!("{} ({mode}): {error}", workload.name))?;
            print(&options, workload, mode, &measured);
        }
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a count of pods")]
fn print(options: &Options, workload: &Workload, mode: &str, measured: &Measured) {
    let rate = measured.pods as f64 / measured.seconds;
    let at = |percent: usize| {
        let index = measured.times.len().checked_sub(1)? * percent / 100;
        Some(measured.times[index].as_secs_f64() * 1e6)
    };
    let rss = measured.rss_mib;
    if options.json {
        let verified = (options.verify && mode == "decision").then_some(true);
        let mut line = json!({
            "workload": workload.name, "mode": mode, "nodes": options.nodes, "threads": options.threads,
            "pods_per_second": rate, "p50_us": at(50), "p99_us": at(99), "max_us": at(100), "rss_mib": rss, "verified": verified,
        });
        if mode == "whole" {
            line["store"] = options.store.as_str().into();
        }
        println!("{line}");
        return;
    }
    let micros = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
    println!(
        "{:<28} {mode:<8} {:>7} {rate:>10.0} {:>8} {:>8} {:>8} {rss:>8.0}{}",
        workload.name,
        options.nodes,
        micros(at(50)),
        micros(at(99)),
        micros(at(100)),
        if options.verify && mode == "decision" { "  verified" } else { "" },
    );
}

/// Resident memory of this process in MiB; 0 if the kernel does not say.
pub(crate) fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: f64 = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0.0);
    kib / 1024.0
}
