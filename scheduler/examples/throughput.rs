//! How many pods the engine places a second: `cargo run --release -p longshore-scheduler --example throughput -- [NODES]`.
//!
//! Decisions only, on one thread, over all nodes, with upstream's default profile and templates of upstream's
//! `scheduler_perf` (node: 4 CPU, 32 Gi, 110 pods; pod: 100m, 500Mi). Each pod is a value of its own, placed one at a time.

use std::sync::Arc;
use std::time::Duration;

use longshore_core::api::Node;
use longshore_core::api::pod::Pod;
use longshore_core::clock::{Clock, SystemClock};
use longshore_core::scheduling::TieBreak;
use longshore_scheduler::{Engine, Profile};
use serde_json::{Value, json};

/// A workload: what its pods are, besides the default template, and how many come before and while it is measured.
struct Workload {
    name: &'static str,
    spec: fn(usize) -> Value,
    initial: usize,
    measured: usize,
}

const ZONE: &str = "topology.kubernetes.io/zone";

const WORKLOADS: &[Workload] = &[
    Workload { name: "SchedulingBasic", spec: |_| json!({}), initial: 1000, measured: 10_000 },
    Workload { name: "NodeAffinity", spec: node_affinity, initial: 5000, measured: 1000 },
    Workload { name: "TopologySpreading", spec: |_| spread("DoNotSchedule"), initial: 5000, measured: 2000 },
    Workload { name: "PreferredTopologySpreading", spec: |_| spread("ScheduleAnyway"), initial: 5000, measured: 2000 },
    Workload { name: "PodAntiAffinity", spec: |_| anti_affinity(), initial: 1000, measured: 1000 },
    Workload { name: "AllDifferent", spec: different, initial: 0, measured: 2000 },
];

fn node_affinity(_: usize) -> Value {
    let expression = json!({ "key": ZONE, "operator": "In", "values": ["zone1", "zone2"] });
    json!({ "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{ "matchExpressions": [expression] }],
    } } } })
}

fn spread(action: &str) -> Value {
    json!({ "topologySpreadConstraints": [{
        "maxSkew": 5, "topologyKey": ZONE, "whenUnsatisfiable": action,
        "labelSelector": { "matchLabels": { "color": "blue" } },
    }] })
}

fn anti_affinity() -> Value {
    json!({ "affinity": { "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [{
        "labelSelector": { "matchLabels": { "color": "blue" } }, "topologyKey": "kubernetes.io/hostname",
    }] } } })
}

fn different(index: usize) -> Value {
    let requests = json!({ "cpu": format!("{}m", 1 + index % 97), "memory": format!("{}Mi", 1 + index) });
    json!({ "containers": [{ "name": "c", "resources": { "requests": requests } }] })
}

fn node(index: usize) -> Arc<Node> {
    let name = format!("node-{index}");
    let zone = format!("zone{}", index % 3);
    let value = json!({
        "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name, ZONE: zone } },
        "status": { "allocatable": { "cpu": "4", "memory": "32Gi", "pods": "110" } },
    });
    Arc::new(serde_json::from_value(value).expect("a node"))
}

fn pod(name: String, extra: Value) -> Arc<Pod> {
    let mut value = json!({
        "metadata": { "name": name, "namespace": "default", "uid": name, "labels": { "color": "blue" } },
        "spec": { "containers": [{ "name": "c", "resources": { "requests": { "cpu": "100m", "memory": "500Mi" } } }] },
    });
    if let (Some(spec), Value::Object(extra)) = (value["spec"].as_object_mut(), extra) {
        spec.extend(extra);
    }
    Arc::new(serde_json::from_value(value).expect("a pod"))
}

fn main() {
    let nodes: usize = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(5000);
    let clock = SystemClock::new();
    println!("{:<28} {:>7} {:>12} {:>9} {:>9}", "workload", "nodes", "pods/s", "p50 µs", "p99 µs");
    for workload in WORKLOADS {
        let mut engine = Engine::new(Profile::default_scheduler(), TieBreak::Uniform { seed: 1 });
        for index in 0..nodes {
            engine.cluster_mut().put_node(node(index));
        }
        for index in 0..workload.initial {
            let _ = engine.place(&pod(format!("initial-{index}"), (workload.spec)(index)));
        }
        let pods: Vec<_> =
            (0..workload.measured).map(|index| pod(format!("pod-{index}"), (workload.spec)(index))).collect();
        let mut times: Vec<Duration> = Vec::with_capacity(pods.len());
        let mut placed = 0;
        let begin = clock.elapsed();
        for pod in &pods {
            let start = clock.elapsed();
            placed += usize::from(engine.place(pod).is_ok());
            times.push(clock.elapsed() - start);
        }
        let seconds = (clock.elapsed() - begin).as_secs_f64();
        times.sort_unstable();
        let micros = |part: usize| times[times.len() * part / 100].as_secs_f64() * 1e6;
        #[expect(clippy::cast_precision_loss, reason = "a count of pods")]
        let rate = placed as f64 / seconds;
        println!("{:<28} {nodes:>7} {rate:>12.0} {:>9.1} {:>9.1}", workload.name, micros(50), micros(99));
        assert_eq!(placed, workload.measured, "every pod of {} finds a place", workload.name);
    }
}
