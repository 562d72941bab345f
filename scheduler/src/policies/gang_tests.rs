use std::sync::Arc;

use longshore_core::api::pod_group::POD_GROUP_LABEL;
use longshore_core::scheduling::TieBreak;
use serde_json::json;

use super::*;
use crate::{Engine, Profile};

fn pod(name: &str, group: Option<&str>) -> Arc<Pod> {
    let labels = group.map(|group| json!({ POD_GROUP_LABEL: group }));
    let value = json!({
        "metadata": { "name": name, "namespace": "ns", "labels": labels },
        "spec": { "containers": [{ "name": "c", "resources": { "requests": { "cpu": "1" } } }] },
    });
    Arc::new(serde_json::from_value(value).unwrap())
}

fn group(spec: &serde_json::Value) -> Arc<PodGroup> {
    let value = json!({ "metadata": { "name": "g", "namespace": "ns" }, "spec": spec });
    Arc::new(serde_json::from_value(value).unwrap())
}

fn engine(cpu: &str) -> Engine {
    let mut engine = Engine::new(Profile::default_scheduler().with(Gang::default()), TieBreak::First);
    let allocatable = json!({ "cpu": cpu, "memory": "1Gi", "pods": "10" });
    let node = json!({ "metadata": { "name": "n" }, "status": { "allocatable": allocatable } });
    engine.cluster_mut().put_node(Arc::new(serde_json::from_value(node).unwrap()));
    engine
}

fn refusal(engine: &mut Engine, pod: &Pod) -> Option<String> {
    engine.decide(pod).err().map(|why| why.to_string())
}

#[test]
fn a_pod_is_refused_until_its_group_and_enough_pods_are_there() {
    let mut engine = engine("4");
    let (first, second) = (pod("a", Some("g")), pod("b", Some("g")));
    engine.cluster_mut().put_member(&first);
    assert!(refusal(&mut engine, &first).unwrap().contains("pod group g does not exist"));
    engine.cluster_mut().put_object(group(&json!({ "minMember": 2 })));
    assert!(refusal(&mut engine, &first).unwrap().contains("pod group g has 1 of 2 pods"));
    engine.cluster_mut().put_member(&second);
    // What the engine remembers of pods of this shape follows each time.
    for _ in 0..3 {
        assert_eq!(refusal(&mut engine, &first), None);
    }
    engine.cluster_mut().remove_member(&second);
    assert!(refusal(&mut engine, &first).is_some());
    assert_eq!(refusal(&mut engine, &pod("c", None)), None, "others are no concern of it");
}

#[test]
fn a_group_begins_only_if_all_that_it_needs_is_free_and_then_goes_on() {
    let mut engine = engine("3");
    let (first, second) = (pod("a", Some("g")), pod("b", Some("g")));
    engine.cluster_mut().put_object(group(&json!({ "minMember": 2, "minResources": { "cpu": "3" } })));
    for pod in [&first, &second] {
        engine.cluster_mut().put_member(pod);
    }
    engine.place(&pod("other", None)).unwrap();
    let why = refusal(&mut engine, &first).unwrap();
    assert!(why.contains("pod group g needs 3 of cpu, of which 2 are free"), "{why}");
    engine.unplace("ns", "other");
    engine.place(&first).unwrap();
    engine.place(&second).unwrap();
}

#[test]
fn a_group_goes_on_while_enough_pods_may_find_a_node() {
    let mut engine = engine("9");
    engine.cluster_mut().put_object(group(&json!({ "minMember": 3 })));
    let pods = ["a", "b", "c", "d"].map(|name| pod(name, Some("g")));
    for pod in &pods {
        engine.cluster_mut().put_member(pod);
    }
    engine.place(&pods[0]).unwrap();
    let shape = engine.cluster_mut().shape(&pods[1]);
    let ask = |left: usize| Gang::default().go_on(Cycle::new(&pods[1], &shape, engine.cluster()), left);
    assert!(ask(2).is_ok());
    let why = ask(1).unwrap_err().to_string();
    assert_eq!(why, "pod group g does not fit as a whole: 1 of 3 pods found a node");
}

#[test]
fn only_news_of_its_own_group_or_of_room_help() {
    let pod = pod("a", Some("g"));
    let kind = KindType::of::<PodGroup>();
    let (own, mut other) = (group(&json!({})), PodGroup::clone(&group(&json!({}))));
    other.metadata.name = Some("h".to_owned());
    let helps = |event: &ClusterEvent<'_>| Gang::default().may_help(&pod, event);
    assert!(helps(&ClusterEvent::ObjectChanged { kind, object: &*own }));
    assert!(!helps(&ClusterEvent::ObjectChanged { kind, object: &other }));
    assert!(helps(&ClusterEvent::PodRemoved(&pod)));
    assert!(!helps(&ClusterEvent::NamespaceChanged));
}
