//! GPUs, whole and in parts, as the engine hands them out.

use std::sync::Arc;

use longshore_core::api::Node;
use longshore_core::scheduling::TieBreak;
use serde_json::{Value, json};

use super::*;
use crate::{Engine, Profile};

const GPU: &str = "longshore.dev/gpu";

fn node(name: &str, gpus: &[&str]) -> Arc<Node> {
    let milli = gpus.len() * 1000;
    Arc::new(
        serde_json::from_value(json!({
            "metadata": { "name": name, "annotations": { ANNOTATION: json!({ GPU: gpus }).to_string() } },
            "status": { "allocatable": {
                "cpu": "64", "memory": "64Gi", "pods": "110", GPU: gpus.len().to_string(),
                "longshore.dev/gpu-milli": milli.to_string(),
            } },
        }))
        .unwrap(),
    )
}

fn pod(name: &str, requests: Value) -> Arc<Pod> {
    Arc::new(
        serde_json::from_value(json!({
            "metadata": { "name": name, "namespace": "default", "uid": name },
            "spec": { "containers": [{ "name": "c", "resources": { "requests": requests } }] },
        }))
        .unwrap(),
    )
}

fn share(name: &str, milli: u32) -> Arc<Pod> {
    pod(name, json!({ "longshore.dev/gpu-milli": milli.to_string() }))
}

fn whole(name: &str, gpus: u32) -> Arc<Pod> {
    pod(name, json!({ GPU: gpus.to_string() }))
}

fn engine(nodes: &[(&str, &[&str])]) -> Engine {
    let mut engine = Engine::new(Profile::default_scheduler().with_weight(Devices::default(), 2), TieBreak::ByName);
    for (name, gpus) in nodes {
        engine.cluster_mut().put_node(node(name, gpus));
    }
    engine
}

/// The node, and the devices of the container.
fn place(engine: &mut Engine, pod: &Arc<Pod>) -> Result<String, String> {
    let placement = engine.place(pod).map_err(|error| error.to_string())?;
    let told: Value = serde_json::from_str(placement.annotations.get(ANNOTATION).map_or("{}", String::as_str)).unwrap();
    Ok(format!("{} {}", placement.node, told["c"][GPU]).replace('"', ""))
}

#[test]
fn shares_are_of_one_device_and_whole_devices_stay_free() {
    let mut engine = engine(&[("a", &["g0", "g1"]), ("b", &["g0", "g1"])]);
    let cases = [
        (share("p1", 500), Ok("a {g0:500}")),
        // Upstream's scores would spread them.
        (share("p2", 500), Ok("a {g0:500}")),
        (share("p3", 400), Ok("a {g1:400}")),
        (whole("p4", 2), Ok("b {g0:1000,g1:1000}")),
        (share("p5", 600), Ok("a {g1:600}")),
        (whole("p6", 1), Err("0/2 nodes are available: 2 Insufficient longshore.dev/gpu.")),
        (share("p7", 1), Err("0/2 nodes are available: 2 Insufficient longshore.dev/gpu-milli.")),
        (pod("p8", json!({ "cpu": "1" })), Ok("b null")),
    ];
    for (pod, expected) in cases {
        let name = pod.metadata.name.clone().unwrap();
        let expected = expected.map(str::to_owned);
        let got = place(&mut engine, &pod).map_err(|error| error.split(" preemption:").next().unwrap().to_owned());
        assert_eq!(got, expected.map_err(str::to_owned), "{name}");
    }
    assert!(engine.unplace("default", "p4"));
    assert_eq!(place(&mut engine, &whole("p6", 1)).unwrap(), "b {g0:1000}");
}

#[test]
fn what_is_left_here_and_there_is_not_one_device() {
    let mut engine = engine(&[("a", &["g0", "g1"])]);
    for name in ["p1", "p2"] {
        place(&mut engine, &share(name, 600)).unwrap();
    }
    // 800 thousandths are left, by the sum.
    let why = place(&mut engine, &share("p3", 500)).unwrap_err();
    assert!(why.starts_with("0/1 nodes are available: 1 Insufficient longshore.dev/gpu-milli."), "{why}");
    assert_eq!(place(&mut engine, &share("p4", 400)).unwrap(), "a {g0:400}");
    let why = place(&mut engine, &share("p5", 1001)).unwrap_err();
    assert!(why.contains("1 Insufficient longshore.dev/gpu-milli"), "{why}");
}

#[test]
fn a_restart_counts_what_annotations_say_and_what_nobody_was_told() {
    let mut engine = engine(&[("a", &["g0", "g1"])]);
    let bound = |pod: Arc<Pod>, device: Option<&str>| {
        let mut pod = Pod::clone(&pod);
        pod.spec.node_name = "a".to_owned();
        let told = |device: &str| json!({ "c": { GPU: { device: 700 } } }).to_string();
        pod.metadata.annotations = device.map(|device| [(ANNOTATION.to_owned(), told(device))].into());
        Arc::new(pod)
    };
    engine.cluster_mut().put_pod(bound(share("p1", 700), Some("g1")));
    // Bound by somebody who knows nothing of devices; the node will put it where there is room.
    engine.cluster_mut().put_pod(bound(share("p2", 700), None));
    assert_eq!(place(&mut engine, &share("p3", 300)).unwrap(), "a {g0:300}");
    engine.cluster_mut().put_node(node("a", &["g0", "g1", "g2"]));
    assert_eq!(place(&mut engine, &share("p4", 500)).unwrap(), "a {g2:500}");
}

#[test]
fn nodes_that_do_not_share_are_left_to_the_sums() {
    let mut engine = engine(&[]);
    let mut plain = Node::clone(&node("a", &["g0"]));
    plain.metadata.annotations = None;
    engine.cluster_mut().put_node(Arc::new(plain));
    assert_eq!(place(&mut engine, &whole("p1", 1)).unwrap(), "a null");
    assert!(place(&mut engine, &whole("p2", 1)).is_err());
}
