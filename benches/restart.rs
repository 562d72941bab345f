//! Measures what a large cluster's state costs: `cargo bench --bench restart -- [--nodes 5000] [--pods 150000] [--json]`.
//!
//! - `engine`: memory and time of the scheduler's engine once it knows all nodes and pods.
//! - `restart`: a control plane is started over an embedded store that holds all of them; the time from the start of the
//!   process to the first pod bound is what its users wait.
//!
//! Each part runs in a process of its own, so that its memory is its own.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use longshore_cluster::{ControlPlane, ControlPlaneOptions};
use longshore_core::api::pod::Pod;
use longshore_core::api::{Namespace, Node};
use longshore_core::client::params::{ListParams, PostParams, WatchParams};
use longshore_core::client::{Api, WatchEvent};
use longshore_core::clock::{Clock, SystemClock};
use longshore_core::scheduling::TieBreak;
use longshore_scheduler::{Engine, Profile};
use longshore_storage_embedded::EmbeddedStore;
use serde_json::{Value, json};

/// As in the program `longshore`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How many objects are written at once.
const WRITERS: usize = 256;

struct Options {
    nodes: usize,
    pods: usize,
    json: bool,
    /// What a child does, and where.
    part: Option<(String, String)>,
}

fn main() -> Outcome {
    let options = read_options()?;
    if let Some((part, directory)) = &options.part {
        match part.as_str() {
            "engine" => println!("{}", engine(&options)),
            _ => runtime()?.block_on(restart(directory.as_ref()))?,
        }
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let clock = SystemClock::new();
    let before = clock.elapsed();
    runtime()?.block_on(fill(directory.path(), &options))?;
    eprintln!(
        "{} nodes and {} pods written in {:.1} s",
        options.nodes,
        options.pods,
        seconds(clock.elapsed() - before)
    );
    for part in ["engine", "restart"] {
        let mut figures = child(&options, part, directory.path(), &clock)?;
        figures["part"] = part.into();
        figures["nodes"] = options.nodes.into();
        figures["pods"] = options.pods.into();
        if options.json {
            println!("{figures}");
        } else {
            println!("{}", serde_json::to_string_pretty(&figures)?);
        }
    }
    Ok(())
}

fn read_options() -> Outcome<Options> {
    let mut options = Options { nodes: 5000, pods: 150_000, json: false, part: None };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} wants a value"));
        match argument.as_str() {
            "--nodes" => options.nodes = value()?.parse()?,
            "--pods" => options.pods = value()?.parse()?,
            "--json" => options.json = true,
            "--part" => options.part = Some((value()?, value()?)),
            // Cargo says so itself.
            "--bench" => {}
            other => return Err(format!("unknown argument {other}: there are --nodes N, --pods N and --json").into()),
        }
    }
    if options.nodes == 0 || options.pods > options.nodes * 35 {
        return Err("a node takes 35 of these pods".into());
    }
    Ok(options)
}

fn runtime() -> Outcome<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// Runs a part in a process of its own, and answers its figures with the seconds that the whole process took.
fn child(options: &Options, part: &str, directory: &Path, clock: &SystemClock) -> Outcome<Value> {
    let begin = clock.elapsed();
    let mut process = Command::new(std::env::current_exe()?)
        .args(["--nodes", &options.nodes.to_string(), "--pods", &options.pods.to_string(), "--part", part])
        .arg(directory)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = String::new();
    if let Some(mut output) = process.stdout.take() {
        output.read_to_string(&mut said)?;
    }
    if !process.wait()?.success() {
        return Err(format!("the part {part} failed").into());
    }
    let mut figures: Value = serde_json::from_str(&said)?;
    figures["process_seconds"] = seconds(clock.elapsed() - begin).into();
    Ok(figures)
}

/// What the engine costs that knows everything.
fn engine(options: &Options) -> Value {
    let clock = SystemClock::new();
    let start = resident();
    let nodes: Vec<Arc<Node>> = (0..options.nodes).map(|index| Arc::new(node(index))).collect();
    let pods: Vec<Arc<Pod>> = (0..options.pods)
        .map(|index| {
            let mut pod = pod(index);
            pod.spec.node_name = format!("node-{}", index % options.nodes);
            Arc::new(pod)
        })
        .collect();
    let decoded = resident();
    let before = clock.elapsed();
    let mut engine = Engine::new(Profile::default_scheduler(), TieBreak::First);
    for node in nodes {
        engine.cluster_mut().put_node(node);
    }
    for pod in pods {
        engine.cluster_mut().put_pod(pod);
    }
    let loaded = clock.elapsed() - before;
    let before = clock.elapsed();
    let placed = engine.decide(&pod(options.pods)).is_ok();
    let first = clock.elapsed() - before;
    json!({
        "placed": placed, "load_seconds": seconds(loaded), "first_decision_ms": seconds(first) * 1e3,
        "engine_mib": mib(resident() - decoded), "objects_mib": mib(decoded - start),
    })
}

/// Writes all nodes and pods to a new store, as the API would have.
async fn fill(directory: &Path, options: &Options) -> Outcome {
    let store = Arc::new(EmbeddedStore::open(directory, longshore_storage_embedded::Options::default())?);
    let control = start(store.clone(), false).await?;
    let client = control.client("bench");
    let namespaces: Api<Namespace> = Api::all(client.clone());
    if namespaces.get_opt("default").await?.is_none() {
        let namespace = serde_json::from_value(json!({ "metadata": { "name": "default" } }))?;
        namespaces.create(namespace, &PostParams::default()).await?;
    }
    let (nodes, pods): (Api<Node>, Api<Pod>) = (Api::all(client.clone()), Api::namespaced(client, "default"));
    let params = PostParams::default();
    let mut made = futures::stream::iter(0..options.nodes)
        .map(|index| nodes.create(node(index), &params))
        .buffer_unordered(WRITERS);
    while let Some(made) = made.next().await {
        made?;
    }
    let mut made = futures::stream::iter(0..options.pods)
        .map(|index| {
            let mut pod = pod(index);
            pod.spec.node_name = format!("node-{}", index % options.nodes);
            pods.create(pod, &params)
        })
        .buffer_unordered(WRITERS);
    while let Some(made) = made.next().await {
        made?;
    }
    control.stop().await;
    store.close().await;
    Ok(())
}

/// Starts a control plane over what is there, and waits until it has bound one pod more.
async fn restart(directory: &Path) -> Outcome {
    let clock = SystemClock::new();
    let store = Arc::new(EmbeddedStore::open(directory, longshore_storage_embedded::Options::default())?);
    let opened = clock.elapsed();
    let control = start(store.clone(), true).await?;
    let served = clock.elapsed();
    let pods: Api<Pod> = Api::namespaced(control.client("bench"), "default");
    let version = pods.list(&ListParams { limit: Some(1), ..ListParams::default() }).await?.resource_version;
    let mut watch = pods.watch(&WatchParams::default(), &version).await?;
    let mut new = pod(0);
    new.metadata.name = Some("first".into());
    pods.create(new, &PostParams::default()).await?;
    let bound = loop {
        match watch.next().await.ok_or("the watch ended")?? {
            WatchEvent::Modified(pod) if !pod.spec.node_name.is_empty() => break clock.elapsed(),
            _ => {}
        }
    };
    println!(
        "{}",
        json!({
            "open_seconds": seconds(opened), "serve_seconds": seconds(served), "first_bind_seconds": seconds(bound),
            "rss_mib": mib(resident()),
        })
    );
    // What a clean stop takes is nobody's wait here; the store has what was acknowledged.
    std::process::exit(0);
}

async fn start(store: Arc<EmbeddedStore>, schedules: bool) -> Outcome<ControlPlane> {
    let mut options = ControlPlaneOptions::new(1);
    options.controllers = None;
    // Nobody makes service accounts here.
    options.registry.admission = Vec::new();
    if !schedules {
        options.scheduler = None;
    }
    Ok(ControlPlane::start(store, Arc::new(SystemClock::new()), options).await?)
}

fn node(index: usize) -> Node {
    let name = format!("node-{index}");
    object(json!({
        "metadata": { "name": name, "labels": {
            "kubernetes.io/hostname": name, "topology.kubernetes.io/zone": format!("zone{}", index % 3),
        } },
        "status": { "capacity": { "cpu": "4", "memory": "32Gi", "pods": "110" },
            "allocatable": { "cpu": "4", "memory": "32Gi", "pods": "110" },
            "conditions": [{ "type": "Ready", "status": "True" }] },
    }))
}

/// One of a hundred applications' pods, as small as upstream's.
fn pod(index: usize) -> Pod {
    object(json!({
        "metadata": { "name": format!("pod-{index}"), "namespace": "default", "labels": { "app": format!("app-{}", index % 100) } },
        "spec": { "containers": [{ "name": "pause", "image": "pause:3",
            "resources": { "requests": { "cpu": "100m", "memory": "500Mi" } } }] },
    }))
}

fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("templates are well-formed")
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

/// Resident memory of this process in KiB; 0 if the kernel does not say.
fn resident() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

#[expect(clippy::cast_precision_loss, reason = "a figure to be read")]
fn mib(kib: i64) -> f64 {
    kib as f64 / 1024.0
}
