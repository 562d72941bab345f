//! How quick the simulator is: a million pods on ten thousand nodes, arriving in jobs by a Poisson process at three quarters of what the
//! nodes have, placed by the default profile.
//!
//! `cargo bench --features simulator --bench simulate`, with `-- --pods` and `--nodes` for other sizes.

use std::convert::Infallible;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use longshore::core::api::Node;
use longshore::core::api::pod::Pod;
use longshore::core::clock::{Clock, SystemClock};
use longshore::core::scheduling::cluster::Cluster;
use longshore::simulator::observer::{Happening, Observer};
use longshore::simulator::simulation::{Architecture, DecisionTime, DecisionTimes, Simulation};
use longshore::simulator::workload::{Class, Event, Job, Task, What};
use longshore_scheduler::Profile;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Cores of a node.
const CORES: f64 = 32.0;
/// Cores, GiB of memory, and of a hundred jobs how many are of this shape.
const SHAPES: [(u32, u32, u32); 4] = [(1, 2, 50), (2, 8, 25), (4, 8, 15), (8, 32, 10)];
/// Pods of a job and seconds of a pod, in the mean.
const PODS: f64 = 10.0;
const SECONDS: f64 = 600.0;

#[derive(Debug, Parser)]
struct Options {
    /// How many pods arrive, about
    #[arg(long, default_value_t = 1_000_000)]
    pods: u64,
    /// How many nodes there are
    #[arg(long, default_value_t = 10_000)]
    nodes: u32,
    /// How much arrives, as a part of what there is
    #[arg(long, default_value_t = 0.75)]
    load: f64,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    /// As cargo passes it on
    #[arg(long, hide = true)]
    bench: bool,
}

struct Workload {
    templates: Vec<Arc<Pod>>,
    /// Seconds between two jobs, in the mean.
    between: f64,
    rng: Pcg64,
    at: f64,
    left: u64,
    number: u64,
}

impl Workload {
    fn new(options: &Options) -> Self {
        let template = |(cores, gib, _): (u32, u32, u32)| -> Pod {
            let requests = json!({ "cpu": cores.to_string(), "memory": format!("{gib}Gi") });
            serde_json::from_value(json!({
                "metadata": { "namespace": "default", "labels": { "app": "job" } },
                "spec": { "containers": [{ "name": "main", "image": "job", "resources": { "requests": requests } }] },
            }))
            .expect("the pod is well formed")
        };
        let cores: f64 = SHAPES.iter().map(|(cores, _, share)| f64::from(cores * share) / 100.0).sum();
        let pods_per_second = options.load * f64::from(options.nodes) * CORES / (cores * SECONDS);
        Self {
            templates: SHAPES.map(template).map(Arc::new).to_vec(),
            between: PODS / pods_per_second,
            rng: Pcg64::seed_from_u64(42),
            at: 0.0,
            left: options.pods,
            number: 0,
        }
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.rng.random::<f64>()).ln()
    }
}

impl Iterator for Workload {
    type Item = Result<Event, Infallible>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        self.at += self.exponential(self.between);
        self.number += 1;
        let mut hundred = self.rng.random_range(0..100);
        let shape = SHAPES.iter().position(|(.., share)| {
            let is_it = hundred < *share;
            hundred = hundred.saturating_sub(*share);
            is_it
        });
        let count = self.rng.random_range(1..=2 * PODS as u64 - 1).min(self.left);
        self.left -= count;
        let duration = Duration::from_secs_f64(self.exponential(SECONDS));
        let pod = self.templates[shape.unwrap_or(0)].clone();
        let job = Job {
            name: format!("job{}", self.number).into(),
            user: "bench".into(),
            class: Class::Batch,
            gang: false,
            tasks: vec![Task { pod, count: u32::try_from(count).unwrap_or(1), duration: Some(duration) }],
        };
        Some(Ok(Event { at: Duration::from_secs_f64(self.at), what: What::Job(job) }))
    }
}

#[derive(Default)]
struct Counter {
    placed: u64,
    refused: u64,
    most: usize,
}

impl Observer for Counter {
    fn hear(&mut self, _: Duration, what: &Happening<'_>, cluster: &Cluster) {
        if let Happening::Attempt(attempt) = what {
            self.placed += u64::from(attempt.placed);
            self.refused += u64::from(attempt.refused);
            self.most = self.most.max(cluster.pod_count());
        }
    }
}

fn nodes(count: u32) -> impl Iterator<Item = Result<Event, Infallible>> {
    (0..count).map(|number| {
        let node: Node = serde_json::from_value(json!({
            "metadata": { "name": format!("node{number:05}"), "labels": { "topology.kubernetes.io/zone": format!("z{}", number % 3) } },
            "status": { "allocatable": { "cpu": CORES.to_string(), "memory": "128Gi", "pods": "110" } },
        }))
        .expect("the node is well formed");
        Ok(Event { at: Duration::ZERO, what: What::Node(Arc::new(node)) })
    })
}

/// MiB at most.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).map_or(0, |kib| kib / 1024)
}

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let options = Options::parse();
    let time = DecisionTime::Modelled { per_job: Duration::from_micros(500), per_task: Duration::from_micros(50) };
    let architecture = Architecture::Monolithic { decisions: DecisionTimes::all(time) };
    let simulation = Simulation { architecture, ..Simulation::default() };
    let mut counter = Counter::default();
    let clock = SystemClock::new();
    let begin = clock.elapsed();
    let events = nodes(options.nodes).chain(Workload::new(&options));
    let ended = simulation.run(Profile::default_scheduler(), events, None, &mut counter)?;
    let seconds = (clock.elapsed() - begin).as_secs_f64();
    let memory = peak_memory();
    let per_second = counter.placed as f64 / seconds;
    if options.json {
        let line = json!({
            "nodes": options.nodes, "pods": counter.placed, "load": options.load, "refusals": counter.refused,
            "virtual_seconds": ended.at.as_secs_f64(), "most_at_once": counter.most,
            "seconds": seconds, "pods_per_second": per_second, "peak_mib": memory,
        });
        println!("{line}");
    } else {
        println!(
            "{} pods on {} nodes, at most {} at once, {} refusals, {:.0} s of virtual time: {seconds:.1} s, {per_second:.0} pods/s, at most {memory} MiB",
            counter.placed,
            options.nodes,
            counter.most,
            counter.refused,
            ended.at.as_secs_f64(),
        );
    }
    let all = counter.placed == options.pods && ended.waiting == 0 && ended.running == 0;
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
