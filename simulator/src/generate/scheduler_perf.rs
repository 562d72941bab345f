//! The workloads of upstream's `scheduler_perf`: the same templates of nodes and pods, the same numbers.

use std::sync::Arc;
use std::time::Duration;

use longshore_core::api::Node;
use longshore_core::api::pod::Pod;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::traces::{Events, TraceError};
use crate::workload::{Class, Event, Job, Task, What};

/// Nodes that measurements are compared at.
pub const NODES: usize = 5000;

const ZONE: &str = "topology.kubernetes.io/zone";
const HOST: &str = "kubernetes.io/hostname";

/// One of the workloads as events: all nodes and the pods that are there before arrive at moment 0, each pod as a job of its own; the
/// measured pods after them, all at once or at a rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SchedulerPerf {
    /// Its name, as [`WORKLOADS`] has it.
    pub workload: String,
    /// How many nodes.
    #[serde(default = "nodes")]
    pub nodes: usize,
    /// How far measured pods are apart; the first comes this long after the beginning.
    #[serde(default)]
    pub gap_seconds: f64,
}

fn nodes() -> usize {
    NODES
}

impl SchedulerPerf {
    pub(crate) fn events(&self) -> Result<Events, TraceError> {
        let wrong = |reason: String| TraceError::Setting { what: "schedulerPerf", reason };
        let workload = Workload::find(&self.workload).ok_or_else(|| {
            let names: Vec<&str> = WORKLOADS.iter().map(|workload| workload.name).collect();
            wrong(format!("there is no workload {}; there are: {}", self.workload, names.join(", ")))
        })?;
        if !(0.0..=1e6).contains(&self.gap_seconds) {
            return Err(wrong(format!("gapSeconds is {}: it must be from 0 to a million", self.gap_seconds)));
        }
        let (count, gap) = (self.nodes, Duration::from_secs_f64(self.gap_seconds));
        let nodes = (0..count).map(|index| What::Node(Arc::new(workload.node(index))));
        let before = nodes.chain(workload.initial_pods(count).map(job)).map(|what| (Duration::ZERO, what));
        let moments = std::iter::successors(Some(gap), move |at| Some(at.saturating_add(gap)));
        let measured = moments.zip(workload.measured_pods(count).map(job));
        Ok(Box::new(before.chain(measured).map(|(at, what)| Ok(Event { at, what }))))
    }
}

fn job((name, template, index): (String, Template, usize)) -> What {
    let mut pod = Pod::clone(&pod(&name, template, index));
    // It gets them when it is placed.
    (pod.metadata.name, pod.metadata.uid) = (None, None);
    let tasks = vec![Task { pod: Arc::new(pod), count: 1, duration: None }];
    What::Job(Job { name: name.into(), user: "".into(), class: Class::Service, gang: false, tasks })
}

/// A workload: pods that are there before, and pods whose placing is measured.
#[derive(Debug)]
pub struct Workload {
    /// The name, as upstream's.
    pub name: &'static str,
    /// What comes before, in order.
    pub initial: &'static [(Template, usize)],
    /// What is measured.
    pub measured: (Template, usize),
    /// Zones that nodes are spread over; 0 for nodes without a zone.
    pub zones: usize,
    /// Whether measured pods evict others.
    pub preempts: bool,
}

/// What a pod is, by its number.
pub type Template = fn(usize) -> Value;

macro_rules! workload {
    ($name:literal, zones $zones:literal, before [$(($template:expr, $count:literal)),*], measured ($measured:expr, $number:literal)$(, preempts $preempts:literal)?) => {
        Workload {
            name: $name,
            initial: &[$(($template, $count)),*],
            measured: ($measured, $number),
            zones: $zones,
            preempts: false $(|| $preempts)?,
        }
    };
}

/// All workloads.
pub const WORKLOADS: &[Workload] = &[
    workload!("SchedulingBasic", zones 0, before [(default, 1000)], measured (default, 10_000)),
    workload!("NodeAffinity", zones 1, before [(node_affinity, 5000)], measured (node_affinity, 1000)),
    workload!("TopologySpreading", zones 3, before [(default, 5000)], measured (spread_required, 2000)),
    workload!("PreferredTopologySpreading", zones 3, before [(default, 5000)], measured (spread_preferred, 2000)),
    workload!("PodAntiAffinity", zones 0, before [(pod_anti_affinity, 1000)], measured (pod_anti_affinity, 1000)),
    workload!("PodAffinity", zones 1, before [(pod_affinity, 5000)], measured (pod_affinity, 1000)),
    workload!("PreferredPodAffinity", zones 0, before [(preferred_affinity, 5000)], measured (preferred_affinity, 1000)),
    workload!("PreferredPodAntiAffinity", zones 0, before [(preferred_anti_affinity, 5000)], measured (preferred_anti_affinity, 1000)),
    workload!("MixedSchedulingBasePod", zones 1, before [(default, 2000), (pod_affinity, 2000), (pod_anti_affinity, 2000),
        (preferred_affinity, 2000), (preferred_anti_affinity, 2000)], measured (default, 1000)),
    workload!("Unschedulable", zones 0, before [(too_large, 200)], measured (default, 5000)),
    workload!("PreemptionBasic", zones 0, before [(low_priority, 20_000)], measured (high_priority, 5000), preempts true),
    workload!("AllDifferent", zones 3, before [], measured (different, 2000)),
];

impl Workload {
    /// The workload of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        WORKLOADS.iter().find(|workload| workload.name == name)
    }

    /// The pods that are there before: name, template, number.
    pub fn initial_pods(&self, nodes: usize) -> impl Iterator<Item = (String, Template, usize)> {
        self.initial.iter().enumerate().flat_map(move |(kind, (template, count))| {
            (0..self.scaled(*count, nodes)).map(move |index| (format!("initial-{kind}-{index}"), *template, index))
        })
    }

    /// The pods that are measured: name, template, number.
    pub fn measured_pods(&self, nodes: usize) -> impl Iterator<Item = (String, Template, usize)> {
        let (template, count) = self.measured;
        (0..self.scaled(count, nodes)).map(move |index| (format!("pod-{index}"), template, index))
    }

    /// Whether the pod fits on an empty node.
    pub fn fits(&self, pod: &Pod) -> bool {
        let cpu = pod.spec.containers.iter().filter_map(|container| container.resources.requests.get("cpu"));
        cpu.map(longshore_core::quantity::Quantity::milli_value).sum::<i64>() <= 4000
    }

    /// How many of `count` pods belong to a cluster of this many nodes, where their number goes with the nodes'.
    fn scaled(&self, count: usize, nodes: usize) -> usize {
        // Four pods of low priority fill a node, each of high priority takes the place of all of them.
        if self.preempts { count * nodes / NODES } else { count }
    }

    /// The nodes: 4 CPU, 32 Gi, 110 pods.
    pub fn node(&self, index: usize) -> Node {
        let name = format!("node-{index}");
        let mut labels = json!({ HOST: name });
        if self.zones > 0 {
            labels[ZONE] = format!("zone{}", 1 + index % self.zones).into();
        }
        object(json!({
            "metadata": { "name": name, "labels": labels },
            "status": { "capacity": { "cpu": "4", "memory": "32Gi", "pods": "110" },
                "allocatable": { "cpu": "4", "memory": "32Gi", "pods": "110" },
                "conditions": [{ "type": "Ready", "status": "True" }] },
        }))
    }
}

/// A pod of a template.
pub fn pod(name: &str, template: Template, index: usize) -> Arc<Pod> {
    let mut value = template(index);
    value["metadata"]["name"] = name.into();
    value["metadata"]["namespace"] = "default".into();
    value["metadata"]["uid"] = name.into();
    Arc::new(object(value))
}

fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("templates are well-formed")
}

fn with(labels: Value, requests: Value, spec: Value) -> Value {
    let mut value = json!({
        "metadata": { "labels": labels },
        "spec": { "containers": [{ "name": "pause", "image": "pause:3", "resources": { "requests": requests } }] },
    });
    if let (Some(all), Value::Object(spec)) = (value["spec"].as_object_mut(), spec) {
        all.extend(spec);
    }
    value
}

fn small(labels: Value, spec: Value) -> Value {
    with(labels, json!({ "cpu": "100m", "memory": "500Mi" }), spec)
}

fn default(_: usize) -> Value {
    small(json!({}), json!({}))
}

fn node_affinity(_: usize) -> Value {
    let expression = json!({ "key": ZONE, "operator": "In", "values": ["zone1", "zone2"] });
    let terms = json!({ "nodeSelectorTerms": [{ "matchExpressions": [expression] }] });
    small(
        json!({}),
        json!({ "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": terms } } }),
    )
}

fn spread(action: &str) -> Value {
    let constraint = json!({ "maxSkew": 5, "topologyKey": ZONE, "whenUnsatisfiable": action,
        "labelSelector": { "matchLabels": { "color": "blue" } } });
    small(json!({ "color": "blue" }), json!({ "topologySpreadConstraints": [constraint] }))
}

fn spread_required(_: usize) -> Value {
    spread("DoNotSchedule")
}

fn spread_preferred(_: usize) -> Value {
    spread("ScheduleAnyway")
}

fn near(color: &str, key: &str) -> Value {
    json!({ "labelSelector": { "matchLabels": { "color": color } }, "topologyKey": key })
}

fn pod_affinity(_: usize) -> Value {
    let terms = json!([near("blue", ZONE)]);
    let affinity = json!({ "podAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": terms } });
    small(json!({ "color": "blue" }), json!({ "affinity": affinity }))
}

fn pod_anti_affinity(_: usize) -> Value {
    let terms = json!([near("green", HOST)]);
    let affinity = json!({ "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": terms } });
    small(json!({ "color": "green", "name": "test" }), json!({ "affinity": affinity }))
}

fn preferred(kind: &str, color: &str) -> Value {
    let terms = json!([{ "weight": 1, "podAffinityTerm": near(color, HOST) }]);
    let affinity = json!({ kind: { "preferredDuringSchedulingIgnoredDuringExecution": terms } });
    small(json!({ "color": color }), json!({ "affinity": affinity }))
}

fn preferred_affinity(_: usize) -> Value {
    preferred("podAffinity", "red")
}

fn preferred_anti_affinity(_: usize) -> Value {
    preferred("podAntiAffinity", "yellow")
}

fn too_large(_: usize) -> Value {
    with(json!({}), json!({ "cpu": "9", "memory": "500Mi" }), json!({}))
}

fn low_priority(_: usize) -> Value {
    with(json!({}), json!({ "cpu": "900m", "memory": "500Mi" }), json!({ "priority": 0 }))
}

fn high_priority(_: usize) -> Value {
    with(json!({}), json!({ "cpu": "3000m", "memory": "500Mi" }), json!({ "priority": 10 }))
}

/// Every pod another shape; the numbers come from a fixed sequence.
fn different(index: usize) -> Value {
    let mut state = index as u64 + 1;
    let mut below = |most: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % most
    };
    let requests = json!({ "cpu": format!("{}m", 1 + below(400)), "memory": format!("{}Ki", 1024 + below(1 << 20)) });
    let labels = json!({ "app": format!("app-{}", below(1 << 30)), "tier": format!("tier-{}", below(10)) });
    let selector = match below(4) {
        0 => json!({ "nodeSelector": { ZONE: format!("zone{}", 1 + below(3)) } }),
        1 => {
            json!({ "affinity": { "nodeAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [{ "weight": 1 + below(100),
            "preference": { "matchExpressions": [{ "key": ZONE, "operator": "In", "values": [format!("zone{}", 1 + below(3))] }] } }] } } })
        }
        _ => json!({}),
    };
    with(labels, requests, selector)
}
