//! The policies' scores against those worked out by hand from the published rules.

use std::sync::Arc;

use longshore_core::api::{Node, Pod};
use longshore_core::devices::{ANNOTATION, Assignment};
use longshore_core::scheduling::{Policy, TieBreak};
use serde_json::{Value, json};

use super::*;
use crate::policies::{Devices, NodeResourcesFit};
use crate::{Engine, ExtensionPoint, Profile};

const LARGEST: Largest = Largest { milli_cpu: 128_000, gpu_milli: 8000 };

fn node(name: &str, cpu: i64, gpus: usize, model: &str) -> Arc<Node> {
    let names: Vec<String> = (0..gpus).map(|gpu| format!("gpu-{gpu}")).collect();
    let value = json!({
        "metadata": {
            "name": name, "labels": { GPU_MODEL: model }, "annotations": { ANNOTATION: json!({ GPU: names }).to_string() },
        },
        "status": { "allocatable": {
            "cpu": cpu.to_string(), "memory": "256Gi", "pods": "1001", GPU: gpus.to_string(),
            share_name(GPU): (gpus * 1000).to_string(),
        } },
    });
    Arc::new(serde_json::from_value(value).unwrap())
}

/// A pod with so many cores and GPUs, or thousandths of one.
fn pod(name: &str, cpu: &str, gpus: i64, milli: i64) -> Arc<Pod> {
    let mut requests = json!({ "cpu": cpu });
    match (gpus, milli) {
        (0, _) => {}
        (_, 1000) => requests[GPU] = Value::from(gpus.to_string()),
        _ => requests[share_name(GPU)] = Value::from(milli.to_string()),
    }
    let value = json!({
        "metadata": { "name": name, "namespace": "default", "uid": name },
        "spec": { "containers": [{ "name": "c", "resources": { "requests": requests } }] },
    });
    Arc::new(serde_json::from_value(value).unwrap())
}

fn engine(policy: impl Policy, nodes: &[Arc<Node>]) -> Engine {
    let profile = Profile::empty("gpu")
        .with(NodeResourcesFit::default())
        .without_at("NodeResourcesFit", ExtensionPoint::Score)
        .with(Devices::default())
        .without_at("Devices", ExtensionPoint::Score)
        .with(policy);
    let mut engine = Engine::new(profile, TieBreak::First);
    for node in nodes {
        engine.cluster_mut().put_node(node.clone());
    }
    engine
}

fn gpu_of(engine: &Engine, name: &str) -> String {
    let placed = engine.cluster().find_pod("default", name).unwrap();
    let assignment = Assignment::of(placed.pod()).unwrap();
    let (_, amounts) = assignment.container("c").next().unwrap();
    let names: Vec<&str> = amounts.keys().map(String::as_str).collect();
    names.join(" ")
}

/// What each of these pods, placed one after another, scores where it is placed.
fn scores(engine: &mut Engine, pods: &[Arc<Pod>]) -> Vec<(String, i64)> {
    let place = |pod: &Arc<Pod>| engine.place(pod).map(|placement| (placement.node, placement.score)).unwrap();
    pods.iter().map(place).collect()
}

#[test]
fn best_fit_leaves_the_least() {
    let nodes = [node("a", 64, 2, ""), node("b", 32, 1, ""), node("c", 128, 8, "")];
    let pods = [pod("p", "8", 1, 500), pod("q", "16", 2, 1000), pod("r", "1", 0, 0)];
    let expected = [("b".to_owned(), 87), ("a".to_owned(), 81), ("b".to_owned(), 87)];
    assert_eq!(scores(&mut engine(GpuBestFit::new(LARGEST), &nodes), &pods), expected);
}

#[test]
fn the_smallest_product_wins() {
    let nodes = [node("a", 64, 2, ""), node("b", 128, 8, "")];
    let pods = [pod("p", "64", 1, 1000), pod("q", "64", 1, 1000)];
    // 1 - ½ (½·½ + ¼·⅛), and 1 - ½ (1·½ + 1·⅛).
    let expected = [("a".to_owned(), 85), ("b".to_owned(), 68)];
    assert_eq!(scores(&mut engine(GpuDotProduct::new(LARGEST), &nodes), &pods), expected);
}

#[test]
fn packing_takes_used_gpus_first_then_used_nodes() {
    let nodes = [node("a", 64, 8, ""), node("b", 64, 2, "")];
    let pods = [
        pod("p", "1", 1, 600),
        pod("q", "1", 1, 400),
        pod("r", "1", 1, 500),
        pod("s", "1", 2, 1000),
        pod("t", "1", 0, 0),
    ];
    let expected = [("b", 31), ("b", 96), ("b", 49), ("a", 25), ("a", 0)];
    let expected = expected.map(|(node, score)| (node.to_owned(), score));
    assert_eq!(scores(&mut engine(GpuPacking, &nodes), &pods), expected);
}

#[test]
fn clustering_keeps_kinds_apart() {
    let nodes = [node("a", 64, 8, ""), node("b", 64, 8, "")];
    let pods = [pod("p", "1", 1, 500), pod("q", "1", 2, 1000), pod("r", "1", 1, 500), pod("s", "1", 2, 1000)];
    let expected = [("a", 25), ("b", 25), ("a", 76), ("b", 81)];
    let expected = expected.map(|(node, score)| (node.to_owned(), score));
    assert_eq!(scores(&mut engine(GpuClustering::new(LARGEST), &nodes), &pods), expected);
}

#[test]
fn any_device_means_each_about_as_often() {
    let left = [("a", 1000), ("b", 900), ("c", 800), ("d", 700)];
    let mut counts = [0_u32; 4];
    for seed in 0..400 {
        counts[longshore_core::devices::DeviceChoice::choose(&AnyDevice { seed }, &left, 500)] += 1;
    }
    assert!(counts.iter().all(|count| (60..140).contains(count)), "{counts:?}");
    assert_eq!(longshore_core::devices::DeviceChoice::choose(&AnyDevice { seed: 7 }, &left, WHOLE), 0);
}

fn kind(milli_cpu: i64, gpus: i64, milli: i64, models: &str) -> PodType {
    PodType { milli_cpu, milli, gpus, models: models.to_owned() }
}

#[test]
fn typical_pods_are_the_most_frequent() {
    let (often, also, rare) = (kind(1000, 1, 500, ""), kind(2000, 1, 500, ""), kind(9000, 8, 1000, "T4"));
    let pods = [vec![rare; 5], vec![often.clone(); 47], vec![also.clone(); 48]].concat();
    let expected = Workload::new([(also, 48.0 / 95.0), (often, 47.0 / 95.0)]);
    assert_eq!(Workload::typical(pods), expected);
    assert!(Workload::typical([]).is_empty());
}

#[test]
fn fragments_are_parted_by_what_is_missing() {
    let of = |pod: PodType| Workload::new([(pod, 1.0)]).fragments(4000, &[300, 1000, 600], Some("T4"));
    let all = 1900.0;
    assert_eq!(of(kind(4000, 0, 0, "P100")), Fragments { no_gpu: all, ..Fragments::default() });
    assert_eq!(of(kind(4001, 0, 0, "")), Fragments { no_gpu_lacks_cpu: all, ..Fragments::default() });
    assert_eq!(of(kind(1, 1, 500, "P100|G2")), Fragments { no_access: all, ..Fragments::default() });
    assert_eq!(of(kind(9000, 1, 500, "P100|T4")), Fragments { lacks_cpu: all, ..Fragments::default() });
    assert_eq!(of(kind(9000, 2, 1000, "")), Fragments { lacks_both: all, ..Fragments::default() });
    assert_eq!(of(kind(1, 2, 1000, "")), Fragments { lacks_gpu: all, ..Fragments::default() });
    let fits = of(kind(1, 1, 500, ""));
    assert_eq!(fits, Fragments { lacks_gpu: 300.0, satisfied: 1600.0, ..Fragments::default() });
    assert!((fits.total() - 300.0).abs() < 1e-9);
}

#[test]
fn fgd_fills_the_gap_that_nobody_else_could() {
    // What is to come needs 700 thousandths or a whole GPU.
    let workload = Workload::new([(kind(1000, 1, 700, ""), 0.5), (kind(1000, 1, 1000, ""), 0.5)]);
    let mut engine = engine(Fgd::new(Arc::new(workload)), &[node("a", 64, 2, ""), node("b", 64, 1, "")]);
    // 700 of 1000 leave 300 for nobody: 650 fragments less would be in vain anywhere.
    engine.place(&pod("p", "1", 1, 700)).unwrap();
    assert_eq!(gpu_of(&engine, "p"), "gpu-0");
    let into_the_gap = engine.place(&pod("q", "1", 1, 300)).unwrap();
    assert_eq!((into_the_gap.node.as_str(), gpu_of(&engine, "q").as_str()), ("a", "gpu-0"));
    // σ(0.3) of a hundred.
    assert_eq!(into_the_gap.score, 57);
    let indifferent = engine.place(&pod("r", "1", 0, 0)).unwrap();
    assert_eq!((indifferent.node.as_str(), indifferent.score), ("a", 50));
    let whole = engine.place(&pod("s", "1", 1, 1000)).unwrap();
    assert_eq!((whole.node.as_str(), gpu_of(&engine, "s").as_str()), ("a", "gpu-1"));
}

#[test]
fn use_is_by_whole_pods_and_by_what_cpu_is_left() {
    let of = |pod: PodType, milli_cpu: i64| {
        let left = Left { milli_cpu, gpus: [1000, 900, 300].into_iter().collect() };
        Workload::new([(pod, 0.5)]).use_of(&left, None)
    };
    let close = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-9, "{found}, not {expected}");
    // FGD's 1900, and four pods of 400 thousandths: two on each GPU.
    close(of(kind(1000, 1, 400, ""), 64_000), 0.5 * (2.0 * 1900.0 + 1600.0) / 3.0);
    // CPU for two and a half of them.
    close(of(kind(1000, 1, 400, ""), 2500), 0.5 * (2.0 * 1900.0 + 1000.0) / 3.0);
    close(of(kind(0, 1, 400, ""), 0), 0.5 * (2.0 * 1900.0 + 1600.0) / 3.0);
    close(of(kind(1000, 1, 1000, ""), 64_000), 0.5 * (2.0 * 1000.0 + 1000.0) / 3.0);
    for none in [kind(1000, 2, 1000, ""), kind(65_000, 1, 400, ""), kind(1, 0, 0, ""), kind(1, 1, 400, "T4")] {
        close(of(none, 64_000), 0.0);
    }
}

#[test]
fn expected_use_keeps_cpu_beside_gpus() {
    // Each GPU wants eight cores with it.
    let workload = Arc::new(Workload::new([(kind(8000, 1, 1000, ""), 1.0)]));
    let nodes = [node("a", 16, 2, ""), node("b", 64, 2, "")];
    // FGD sees no difference before a node has less than eight cores; here half of a's GPUs would be of no use.
    let fgd = scores(&mut engine(Fgd::new(workload.clone()), &nodes), &[pod("p", "8", 0, 0)]);
    assert_eq!(fgd, [("a".to_owned(), 50)]);
    // At a one third of one GPU would be lost, at b nothing.
    let mut engine = engine(ExpectedUse::new(workload), &nodes);
    assert_eq!(scores(&mut engine, &[pod("p", "8", 0, 0)]), [("b".to_owned(), 50)]);
    let explained = engine.explain(&pod("q", "8", 0, 0)).unwrap().feasible;
    let of_a = explained.iter().find(|node| node.node == "a").unwrap();
    // σ(−⅓) of a hundred.
    assert_eq!(of_a.total, 41);
}

/// What is remembered must be what is worked out anew, for each policy here, while pods come and go.
#[test]
fn all_policies_agree_with_the_reference() {
    let workload = Arc::new(Workload::new([(kind(4000, 1, 500, ""), 0.6), (kind(8000, 2, 1000, "T4"), 0.4)]));
    let nodes = [node("a", 64, 2, "T4"), node("b", 32, 4, "P100"), node("c", 16, 1, "T4")];
    let pods = [pod("p", "4", 1, 500), pod("q", "8", 2, 1000), pod("r", "2", 0, 0), pod("s", "4", 1, 300)];
    let engines = [
        engine(Fgd::new(workload.clone()), &nodes),
        engine(ExpectedUse::new(workload), &nodes),
        engine(GpuBestFit::new(LARGEST), &nodes),
        engine(GpuDotProduct::new(LARGEST), &nodes),
        engine(GpuClustering::new(LARGEST), &nodes),
        engine(GpuPacking, &nodes),
    ];
    for mut engine in engines {
        crate::engine::testing::agrees_with_reference(&mut engine, &pods);
    }
}
