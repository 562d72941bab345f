//! Scores against those worked out by hand.

use std::sync::Arc;

use longshore_core::api::{Node, Pod};
use longshore_core::scheduling::{Policy, TieBreak};
use serde_json::{Value, json};

use super::*;
use crate::policies::NodeResourcesFit;
use crate::{Engine, ExtensionPoint, Profile};

/// Cores, GiB and GPUs.
fn node(name: &str, cpu: u32, memory: u32, gpus: u32) -> Arc<Node> {
    let mut allocatable = json!({ "cpu": cpu.to_string(), "memory": format!("{memory}Gi"), "pods": "110" });
    if gpus > 0 {
        allocatable[GPU] = gpus.to_string().into();
        allocatable[share_name(GPU)] = (gpus * 1000).to_string().into();
    }
    let value = json!({ "metadata": { "name": name }, "status": { "allocatable": allocatable } });
    Arc::new(serde_json::from_value(value).unwrap())
}

fn pod(name: &str, requests: &Value) -> Arc<Pod> {
    let value = json!({
        "metadata": { "name": name, "namespace": "default", "uid": name },
        "spec": { "containers": [{ "name": "c", "resources": { "requests": requests } }] },
    });
    Arc::new(serde_json::from_value(value).unwrap())
}

/// Cores and GiB.
fn asking(name: &str, cpu: u32, memory: u32) -> Arc<Pod> {
    pod(name, &json!({ "cpu": cpu.to_string(), "memory": format!("{memory}Gi") }))
}

fn engine(policy: impl Policy, nodes: &[Arc<Node>]) -> Engine {
    let profile = Profile::empty("packing")
        .with(NodeResourcesFit::default())
        .without_at("NodeResourcesFit", ExtensionPoint::Score)
        .with(policy);
    let mut engine = Engine::new(profile, TieBreak::First);
    for node in nodes {
        engine.cluster_mut().put_node(node.clone());
    }
    engine
}

/// What each node that can take the pod scores, by name.
fn scores(engine: &mut Engine, pod: &Arc<Pod>) -> Vec<(String, i64)> {
    let of_nodes = engine.explain(pod).unwrap().feasible;
    let mut scores: Vec<_> = of_nodes.into_iter().map(|of_node| (of_node.node, of_node.total)).collect();
    scores.sort();
    scores
}

fn named<const N: usize>(scores: [(&str, i64); N]) -> Vec<(String, i64)> {
    scores.map(|(node, score)| (node.to_owned(), score)).to_vec()
}

/// `a` has half of its CPU and a quarter of its memory in use, `b` is idle and as large, `c` is idle and small.
fn three(policy: impl Policy) -> Engine {
    let mut engine = engine(policy, &[node("a", 16, 64, 0), node("b", 16, 64, 0), node("c", 4, 8, 0)]);
    let first = pod("first", &json!({ "cpu": "8", "memory": "16Gi" }));
    let on_a = engine.cluster().node_id("a").unwrap();
    engine.cluster_mut().place(first, on_a);
    engine
}

#[test]
fn fits_are_first_best_and_worst() {
    let pod = asking("p", 4, 4);
    assert_eq!(scores(&mut three(FirstFit), &pod), named([("a", 100), ("b", 0), ("c", 0)]));
    assert_eq!(scores(&mut three(FirstFit), &asking("q", 10, 1)), named([("b", 100)]), "the first that can take it");
    // ½ (¾ + 20/64), ½ (¼ + 1/16), ½ (1 + ½).
    assert_eq!(scores(&mut three(BestFit), &pod), named([("a", 53), ("b", 15), ("c", 75)]));
    assert_eq!(scores(&mut three(WorstFit), &pod), named([("a", 46), ("b", 84), ("c", 25)]));
}

#[test]
fn gpus_count_where_a_node_has_them_whole_or_in_part() {
    let nodes = [node("a", 10, 10, 0), node("b", 10, 10, 2)];
    let mut engine = engine(BestFit, &nodes);
    let on_b = engine.cluster().node_id("b").unwrap();
    engine.cluster_mut().place(pod("first", &json!({ GPU: "1" })), on_b);
    // A tenth of CPU and memory; of the GPUs one is taken, and a half of the other asked for.
    let share = pod("p", &json!({ "cpu": "1", "memory": "1Gi", share_name(GPU): "500" }));
    assert_eq!(scores(&mut engine, &share), named([("b", 31)]));
    assert_eq!(scores(&mut engine, &asking("q", 1, 1)), named([("a", 10), ("b", 23)]));
}

#[test]
fn nomads_scores_are_powers_of_ten() {
    let pod = asking("p", 4, 4);
    // a: 20 − (10^¼ + 10^(44/64)) = 20 − (1.778 + 4.870) = 13.352; b: 20 − (10^¾ + 10^(60/64)) = 20 − (5.623 + 8.660);
    // c: 20 − (1 + 10^½) = 15.838; each of 18.
    assert_eq!(scores(&mut three(NomadBinpack), &pod), named([("a", 74), ("b", 31), ("c", 87)]));
    // 4.648, 12.283, 2.162 of 18.
    assert_eq!(scores(&mut three(NomadSpread), &pod), named([("a", 25), ("b", 68), ("c", 12)]));
    let full = [node("f", 4, 4, 0)];
    assert_eq!(scores(&mut engine(NomadBinpack, &full), &asking("p", 4, 4)), named([("f", 100)]));
    assert_eq!(scores(&mut engine(NomadSpread, &full), &asking("p", 4, 4)), named([("f", 0)]));
}

#[test]
fn what_frees_stranded_memory_is_preferred() {
    // a: nothing stranded beyond the ½ and ¾ left: ⅛. With 4 cores and 4 GiB more: ¼ and 11/16: 7/32.
    // So ½ · 17/32 + ¼ (1 − 3/32) = 0.4922. b: 0 before, ¾ and 15/16: 3/32; ½ · 5/32 + ¼ (1 − 3/32) = 0.3047.
    // c: 0 before, 0 and ½: ¼; ½ · ¾ + ¼ · ¾ = 0.5625.
    let mut engine = three(StrandedResources);
    assert_eq!(scores(&mut engine, &asking("p", 4, 4)), named([("a", 49), ("b", 30), ("c", 56)]));
    // a: ½ left of each before, now 7/16 and ¼: 3/32; ½ · 21/32 + ¼ (1 + 1/32) = 0.5859.
    // b: 15/16 and ½: 7/32; ½ · 9/32 + ¼ (1 − 7/32) = 0.3359.
    assert_eq!(scores(&mut engine, &asking("q", 1, 32)), named([("a", 58), ("b", 33)]));
}

#[test]
fn cost_grows_by_a_power_of_the_part_in_use() {
    // Of three nodes, what the parts of CPU and memory cost with the pod and without.
    let power = |part: f64| 3_f64.powf(part);
    let a = power(0.75) - power(0.5) + power(0.3125) - power(0.25);
    let b = power(0.25) - 1.0 + power(0.0625) - 1.0;
    let c = 3.0 - 1.0 + power(0.5) - 1.0;
    assert!(b < a && a < c, "{a} {b} {c}");
    let points = |cost: f64| 100 - (100.0 * (cost / b).ln()).ceil() as i64;
    let expected = [("a", points(a)), ("b", 100), ("c", points(c).max(0))];
    assert_eq!(scores(&mut three(EPvm), &asking("p", 4, 4)), named(expected));
    assert_eq!(expected[0].1, 49, "66 % dearer, which is 51 begun per cents by the logarithm");
    assert_eq!(scores(&mut three(EPvm), &pod("n", &json!({}))), named([("a", 100), ("b", 100), ("c", 100)]));
}

#[test]
fn the_largest_product_of_asked_and_left_wins() {
    // a: ¼ · ½ + 1/16 · ¾ = 0.1719; b: ¼ + 1/16 = 0.3125; c: 1 + ½.
    let far = |product: f64| (100.0 * (1.5 / product).ln()).ceil() as i64;
    assert!(far(0.3125) > 100);
    assert_eq!(scores(&mut three(Tetris), &asking("p", 4, 4)), named([("a", 0), ("b", 0), ("c", 100)]));
    // Nearly alike: b is idle, and at a there is half of the CPU and ¾ of the memory: ⅛ · ½ + ⅝ · ¾ against ⅛ + ⅝.
    let a = 100 - (100.0 * (0.75_f64 / 0.53125).ln()).ceil() as i64;
    assert_eq!(scores(&mut three(Tetris), &asking("q", 2, 40)), named([("a", a), ("b", 100)]));
}

#[test]
fn the_better_of_two_is_taken_and_each_is_looked_at_as_often() {
    let nodes: Vec<Arc<Node>> = (0..10).map(|place| node(&format!("n{place}"), 100, 100, 0)).collect();
    let mut engine = engine(TwoChoices { seed: 7 }, &nodes);
    let full = engine.cluster().node_id("n3").unwrap();
    engine.cluster_mut().place(asking("first", 50, 50), full);
    let mut counts = [0_u32; 10];
    for pod in 0..1000 {
        let chosen = engine.decide(&asking(&format!("p{pod}"), 1, 1)).unwrap();
        counts[chosen.id.index()] += 1;
    }
    assert_eq!(counts[3], 0, "the other is always less in use");
    assert!(counts.iter().enumerate().all(|(node, count)| node == 3 || (70..160).contains(count)), "{counts:?}");
    let again = engine.decide(&asking("p5", 1, 1)).unwrap().id;
    assert_eq!(again, engine.decide(&asking("p5", 1, 1)).unwrap().id, "the same pod, the same choice");
}

#[test]
fn two_choices_keep_the_fullest_node_near_the_mean() {
    let fullest = |policy: TwoChoices, pods: usize| {
        let nodes: Vec<Arc<Node>> = (0..50).map(|place| node(&format!("n{place}"), 100, 100, 0)).collect();
        let mut engine = engine(policy, &nodes);
        (0..pods).for_each(|pod| drop(engine.place(&asking(&format!("p{pod}"), 1, 1)).unwrap()));
        let counts = engine.cluster().pod_counts();
        counts.iter().copied().max().unwrap()
    };
    // One choice would have 20 at about the fullest: the mean and three times its root and more.
    let fullest = fullest(TwoChoices { seed: 1 }, 500);
    assert!((10..=13).contains(&fullest), "{fullest}");
}

#[test]
fn a_lone_node_is_no_trouble_and_neither_is_none() {
    let mut one = engine(TwoChoices { seed: 1 }, &[node("a", 4, 4, 0)]);
    assert_eq!(scores(&mut one, &asking("p", 1, 1)), named([("a", 100)]));
    assert!(engine(TwoChoices { seed: 1 }, &[]).decide(&asking("p", 1, 1)).is_err());
    assert_eq!(scores(&mut engine(EPvm, &[node("a", 4, 4, 0)]), &asking("p", 1, 1)), named([("a", 100)]));
    assert_eq!(
        scores(&mut engine(BestFit, &[node("a", 0, 4, 0)]), &pod("p", &json!({ "memory": "1Gi" }))),
        named([("a", 25)])
    );
}

/// What is remembered must be what is worked out anew, for each policy here, while pods come and go.
#[test]
fn all_policies_agree_with_the_reference() {
    let nodes = [node("a", 16, 64, 0), node("b", 8, 8, 2), node("c", 4, 16, 0)];
    let pods = [
        asking("p", 1, 4),
        asking("q", 2, 1),
        pod("r", &json!({ "cpu": "1", share_name(GPU): "500" })),
        pod("s", &json!({})),
    ];
    let engines = [
        engine(FirstFit, &nodes),
        engine(BestFit, &nodes),
        engine(WorstFit, &nodes),
        engine(NomadBinpack, &nodes),
        engine(NomadSpread, &nodes),
        engine(StrandedResources, &nodes),
        engine(EPvm, &nodes),
        engine(Tetris, &nodes),
        engine(TwoChoices { seed: 3 }, &nodes),
    ];
    for mut engine in engines {
        crate::engine::testing::agrees_with_reference(&mut engine, &pods);
    }
}
