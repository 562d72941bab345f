//! The engine as an embedder uses it: tie-breaks, devices, gangs, reasons, and the fast path against the slow one.

mod devices;
mod reference;
mod remedies;
mod sample;
mod what_if;

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_core::api::Node;
use longshore_core::scheduling::{Code, Refusal, per_node};
use serde_json::{Value, json};

use super::*;
use crate::policies::{NodeResourcesFit, Strategy};

pub(super) fn node(name: &str, cpu: &str) -> Arc<Node> {
    node_with(name, cpu, json!({}), json!([]))
}

pub(super) fn node_with(name: &str, cpu: &str, labels: Value, taints: Value) -> Arc<Node> {
    let value = json!({
        "metadata": { "name": name, "labels": labels },
        "spec": { "taints": taints },
        "status": { "allocatable": { "cpu": cpu, "memory": "32Gi", "pods": "110" } },
    });
    Arc::new(serde_json::from_value(value).unwrap())
}

pub(super) fn pod(name: &str, spec: Value) -> Arc<Pod> {
    let mut value = json!({
        "metadata": { "name": name, "namespace": "default", "uid": name },
        "spec": { "containers": [{ "name": "c", "resources": { "requests": { "cpu": "100m", "memory": "500Mi" } } }] },
    });
    value["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    Arc::new(serde_json::from_value(value).unwrap())
}

pub(super) fn asking(name: &str, cpu: &str) -> Arc<Pod> {
    pod(name, json!({ "containers": [{ "name": "c", "resources": { "requests": { "cpu": cpu } } }] }))
}

fn engine_of(profile: Profile, tie_break: TieBreak, nodes: &[&str]) -> Engine {
    let mut engine = Engine::new(profile, tie_break);
    for name in nodes {
        engine.cluster_mut().put_node(node(name, "4"));
    }
    engine
}

/// Scores that differ by less than the truncation are equal.
fn truncated() -> Profile {
    let tenths = per_node::score("Tenths", |_, node| {
        let shade: i64 = node.name()[1..].parse().unwrap_or(0);
        100 - shade / 3
    });
    Profile::empty("p").with(tenths)
}

#[test]
fn equal_scores_after_truncation_are_broken_as_the_caller_says() {
    // Nodes 0 to 2 tie, as shade / 3 is 0 for them.
    let names = ["n4", "n2", "n0", "n1", "n3"];
    let choose = |tie_break| engine_of(truncated(), tie_break, &names).decide(&asking("p", "1")).unwrap().node;
    assert_eq!(choose(TieBreak::ByName), "n0");
    assert_eq!(choose(TieBreak::First), "n2");
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut engine = engine_of(truncated(), TieBreak::Uniform { seed: 1 }, &names);
    let first: Vec<String> = (0..3000).map(|_| engine.decide(&asking("p", "1")).unwrap().node).collect();
    for name in &first {
        *counts.entry(name.clone()).or_default() += 1;
    }
    assert_eq!(counts.keys().collect::<Vec<_>>(), ["n0", "n1", "n2"]);
    assert!(counts.values().all(|count| (900..1100).contains(count)), "uniform: {counts:?}");
    let mut again = engine_of(truncated(), TieBreak::Uniform { seed: 1 }, &names);
    let second: Vec<String> = (0..3000).map(|_| again.decide(&asking("p", "1")).unwrap().node).collect();
    assert_eq!(first, second, "the same seed gives the same choices");
}

#[test]
fn every_node_says_who_refused_it_and_why() {
    let mut engine = Engine::new(Profile::default_scheduler(), TieBreak::ByName);
    let taint = json!([{ "key": "k", "value": "v", "effect": "NoSchedule" }]);
    let zone = json!({ "zone": "a" });
    engine.cluster_mut().put_node(node_with("full", "100m", zone.clone(), json!([])));
    engine.cluster_mut().put_node(node_with("small", "1", zone.clone(), json!([])));
    engine.cluster_mut().put_node(node_with("tainted", "4", zone, taint));
    engine.cluster_mut().put_node(node("elsewhere", "4"));
    let mut cordoned = Node::clone(&node("cordoned", "4"));
    cordoned.spec.unschedulable = true;
    engine.cluster_mut().put_node(Arc::new(cordoned));
    engine.place(&pod("first", json!({ "nodeSelector": { "zone": "a" } }))).unwrap();

    let spec = json!({
        "nodeSelector": { "zone": "a" },
        "containers": [{ "name": "c", "resources": { "requests": { "cpu": "1" } } }],
    });
    let pod = pod("second", spec);
    let Err(Unplaced::Refused(diagnosis)) = engine.decide(&pod) else { panic!("no node fits") };
    let found: BTreeMap<&str, (&str, Code, String)> = (diagnosis.refusals(engine.cluster()))
        .map(|(node, policy, refusal)| (node, (policy, refusal.code, refusal.to_string())))
        .collect();
    let (may, never) = (Code::Unschedulable, Code::UnschedulableAndUnresolvable);
    let affinity = "node(s) didn't match Pod's node affinity/selector".to_owned();
    let expected = BTreeMap::from([
        ("cordoned", ("NodeUnschedulable", never, "node(s) were unschedulable".to_owned())),
        ("elsewhere", ("NodeAffinity", never, affinity)),
        ("full", ("NodeResourcesFit", never, "Insufficient cpu".to_owned())),
        ("small", ("NodeResourcesFit", may, "Insufficient cpu".to_owned())),
        ("tainted", ("TaintToleration", never, "node(s) had untolerated taint(s)".to_owned())),
    ]);
    assert_eq!(found, expected);
    let text = "0/5 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) had untolerated \
                taint(s), 1 node(s) were unschedulable, 2 Insufficient cpu.";
    assert_eq!(diagnosis.to_string(), text);
}

#[test]
fn a_gang_is_placed_whole_or_not_at_all() {
    let mut engine = engine_of(Profile::default_scheduler(), TieBreak::ByName, &["a", "b"]);
    let gang: Vec<Arc<Pod>> = (0..5).map(|index| asking(&format!("g{index}"), "2")).collect();
    let refused = engine.place_all(&gang).unwrap_err();
    assert_eq!(refused.index, 4, "two nodes of four cores hold four pods of two");
    assert_eq!(engine.cluster().pod_count(), 0, "nothing is left behind");
    engine.cluster_mut().put_node(node("c", "4"));
    assert_eq!(engine.place_all(&gang).unwrap().len(), 5);
    assert_eq!(engine.cluster().pod_count(), 5);
}

#[test]
fn a_policy_of_ones_own_takes_part() {
    let picky = per_node::filter("Picky", |_, node| {
        if node.name() == "a" { Err(Refusal::unschedulable("node(s) were not liked")) } else { Ok(()) }
    });
    let mut engine = engine_of(Profile::default_scheduler().with(picky), TieBreak::ByName, &["a", "b"]);
    assert_eq!(engine.place(&asking("p", "1")).unwrap().node, "b");
    engine.cluster_mut().remove_node("b");
    let why = engine.decide(&asking("q", "1")).unwrap_err().to_string();
    assert_eq!(why, "0/1 nodes are available: 1 node(s) were not liked.");
}

#[test]
fn pods_without_a_place_say_so_when_there_are_no_nodes() {
    let mut engine = Engine::new(Profile::default_scheduler(), TieBreak::First);
    assert_eq!(engine.decide(&asking("p", "1")).unwrap_err().to_string(), "no nodes available to schedule pods");
}

#[test]
fn a_fork_leaves_the_engine_alone() {
    let mut engine = engine_of(Profile::default_scheduler(), TieBreak::ByName, &["a"]);
    let mut copy = engine.fork(TieBreak::ByName);
    copy.place(&asking("p", "4")).unwrap();
    assert!(copy.decide(&asking("q", "1")).is_err());
    assert_eq!(engine.place(&asking("q", "1")).unwrap().node, "a");
}

#[test]
fn room_for_a_nominated_pod_is_kept_from_lesser_ones() {
    let mut engine = engine_of(Profile::default_scheduler(), TieBreak::ByName, &["a"]);
    let mut important = Pod::clone(&asking("important", "3"));
    important.spec.priority = Some(10);
    important.status.nominated_node_name = "a".to_owned();
    let important = Arc::new(important);
    let id = engine.cluster().node_id("a").unwrap();
    assert!(engine.decide(&asking("p", "2")).is_ok());
    engine.cluster_mut().nominate(important.clone(), id);
    assert!(engine.decide(&asking("p", "2")).is_err());
    assert!(engine.decide(&asking("p", "1")).is_ok());
    assert_eq!(engine.decide(&important).unwrap().node, "a", "it does not stand in its own way");
    engine.cluster_mut().clear_nomination("default", "important");
    assert!(engine.decide(&asking("p", "2")).is_ok());
}

#[test]
fn a_node_without_room_gets_it_by_evicting_the_least() {
    let mut engine = engine_of(Profile::default_scheduler(), TieBreak::ByName, &["a", "b"]);
    for (name, node, cpu, priority) in
        [("a1", "a", "3", 5), ("a2", "a", "1", 1), ("b1", "b", "2", 1), ("b2", "b", "2", 9)]
    {
        let mut placed = Pod::clone(&asking(name, cpu));
        placed.spec.priority = Some(priority);
        placed.spec.node_name = node.to_owned();
        engine.cluster_mut().put_pod(Arc::new(placed));
    }
    let mut important = Pod::clone(&asking("important", "2"));
    important.spec.priority = Some(100);
    let Err(Unplaced::Refused(diagnosis)) = engine.decide(&important) else { panic!("both nodes are full") };
    let way = engine.post_filter(&important, &diagnosis).nomination.unwrap();
    assert_eq!(engine.cluster().name(way.node), "b");
    let victims: Vec<_> = way.victims.iter().map(|pod| pod.metadata.name.as_deref().unwrap()).collect();
    assert_eq!(victims, ["b1"]);
    assert_eq!(engine.cluster().pod_count(), 4, "nobody was evicted yet");
}

#[test]
fn nodes_are_packed_or_spread_as_the_strategy_says() {
    let choose = |strategy| {
        let profile = Profile::empty("p").with(NodeResourcesFit::new(strategy));
        let mut engine = engine_of(profile, TieBreak::ByName, &["full", "empty"]);
        let mut there = Pod::clone(&asking("there", "2"));
        there.spec.node_name = "full".to_owned();
        engine.cluster_mut().put_pod(Arc::new(there));
        engine.decide(&asking("p", "1")).unwrap().node
    };
    assert_eq!(choose(Strategy::least_allocated()), "empty");
    assert_eq!(choose(Strategy::most_allocated()), "full");
}

#[test]
fn the_explanation_of_a_pod_that_fits_lists_scores_that_add_up() {
    let mut engine = engine_of(Profile::default_scheduler(), TieBreak::ByName, &["a", "b"]);
    let explanation = engine.explain(&asking("p", "1")).unwrap();
    assert_eq!(explanation.best, ["a", "b"]);
    for node in &explanation.feasible {
        let sum: i64 = node.scores.iter().map(|score| score.weight * score.score).sum();
        assert_eq!(sum, node.total);
    }
    assert!(explanation.refused.is_empty() && explanation.message.is_empty());
}
