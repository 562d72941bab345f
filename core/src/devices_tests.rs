//! Who gets which device, by cases.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::*;
use crate::kind::Kind;
use crate::scheduling::Cluster;

const GPU: &str = "longshore.dev/gpu";

/// A pod of containers and init containers (those named `init…` and `side…`), each with its requests.
fn pod(containers: &[(&str, Value)]) -> Pod {
    let [mut init, mut main] = [Vec::new(), Vec::new()];
    for (name, requests) in containers {
        let requests: BTreeMap<String, Value> =
            requests.as_object().unwrap().iter().map(|(key, value)| (format!("{GPU}{key}"), value.clone())).collect();
        let mut container = json!({ "name": name, "resources": { "requests": requests } });
        if name.starts_with("side") {
            container["restartPolicy"] = "Always".into();
        }
        let list = if name.starts_with("main") { &mut main } else { &mut init };
        list.push(container);
    }
    serde_json::from_value(json!({ "spec": { "containers": main, "initContainers": init } })).unwrap()
}

fn annotated(mut pod: Pod, value: Value) -> Pod {
    pod.metadata.annotations = Some([(ANNOTATION.to_owned(), value.to_string())].into());
    pod
}

/// A node whose devices `a`, `b`, … have so much left.
fn pool(left: &[i64]) -> Pool {
    let names = ["a", "b", "c", "d"];
    let mut pool = Pool::new([(GPU, names[..left.len()].iter().copied())]);
    let taken = names.iter().zip(left).map(|(name, left)| ((*name).to_owned(), WHOLE - left)).collect();
    pool.take(&[(GPU.to_owned(), taken)].into_iter().collect());
    pool
}

fn assigned(left: &[i64], pod: &Pod) -> String {
    match pool(left).assign(pod, &BestFit) {
        Ok(assignment) => {
            let mut told = pod.clone();
            told.metadata.annotations = Some([(ANNOTATION.to_owned(), assignment.to_text())].into());
            let known = Assignment::of(&told).filter(|known| *known == assignment);
            assert!(known.is_some() || assignment.is_empty(), "what is chosen is what was asked for: {assignment:?}");
            assignment.to_text().replace(GPU, "gpu").replace('"', "")
        }
        Err(lack) => {
            format!("{} {} of {}{}", lack.resource, lack.asked, lack.available, if lack.never { "!" } else { "" })
        }
    }
}

/// What is left of each device, a pod's containers, and what they get.
type Case<'a> = (&'a [i64], &'a [(&'a str, Value)], &'a str);

#[test]
fn devices_are_chosen_by_what_is_left_of_each() {
    let half = || json!({ "-milli": "500" });
    let cases: &[Case<'_>] = &[
        (&[1000], &[("main", json!({}))], "{}"),
        (&[1000, 500, 700], &[("main", half())], "{main:{gpu:{b:500}}}"),
        // The first of those that are alike.
        (&[1000, 1000], &[("main", half())], "{main:{gpu:{a:500}}}"),
        // 800 are left, but nowhere 500.
        (&[400, 400], &[("main", half())], "longshore.dev/gpu-milli 500 of 0"),
        (&[1000], &[("main", json!({ "-milli": "1001" }))], "longshore.dev/gpu-milli 1001 of 0!"),
        (&[999, 1000, 1000], &[("main", json!({ "": "2" }))], "{main:{gpu:{b:1000,c:1000}}}"),
        (&[999, 1000], &[("main", json!({ "": "2" }))], "longshore.dev/gpu 2 of 1"),
        (&[1000], &[("main", json!({ "": "2" }))], "longshore.dev/gpu 2 of 1!"),
        // A share beside a whole device is of another.
        (&[1000, 1000], &[("main", json!({ "": "1", "-milli": "1" }))], "{main:{gpu:{a:1000,b:1}}}"),
        (&[1000, 1000], &[("main", json!({ "": "1", "-milli": "1000" }))], "{main:{gpu:{a:1000,b:1000}}}"),
        // Two containers may share one; large shares go first.
        (&[1000], &[("main1", half()), ("main2", half())], "{main1:{gpu:{a:500}},main2:{gpu:{a:500}}}"),
        (
            &[1000, 400],
            &[("main1", json!({ "-milli": "300" })), ("main2", json!({ "-milli": "400" })), ("main3", half())],
            "{main1:{gpu:{a:300}},main2:{gpu:{b:400}},main3:{gpu:{a:500}}}",
        ),
        // Init containers have what the others will have.
        (&[500, 1000], &[("init", half()), ("main", json!({ "": "1" }))], "{init:{gpu:{b:500}},main:{gpu:{b:1000}}}"),
        (
            &[1000, 1000],
            &[("init", json!({ "": "2" })), ("main", json!({ "": "1" }))],
            "{init:{gpu:{a:1000,b:1000}},main:{gpu:{a:1000}}}",
        ),
        // A sidecar is there all the time.
        (&[1000], &[("side", half()), ("init", json!({ "": "1" })), ("main", json!({}))], "longshore.dev/gpu 1 of 0"),
        (&[-500, 500], &[("main", half())], "{main:{gpu:{b:500}}}"),
    ];
    for (left, containers, expected) in cases {
        assert_eq!(assigned(left, &pod(containers)), *expected, "{left:?} {containers:?}");
    }
}

#[test]
fn a_pod_takes_what_its_containers_take_at_the_same_time() {
    let half = || json!({ "-milli": "500" });
    let containers = [("side", half()), ("init1", half()), ("init2", json!({ "": "1" })), ("main", half())];
    let given = json!({
        "side": { GPU: { "a": 500 } }, "init1": { GPU: { "a": 500 } }, "init2": { GPU: { "b": 1000 } },
        "main": { GPU: { "b": 500 } },
    });
    let pod = annotated(pod(&containers), given);
    let charge = Assignment::of(&pod).unwrap().charge(&pod);
    assert_eq!(serde_json::to_value(&charge).unwrap(), json!({ GPU: { "a": 1000, "b": 1000 } }));
    assert!(pool(&[1000, 1000]).has(&charge) && !pool(&[1000, 999]).has(&charge) && !pool(&[1000]).has(&charge));
}

#[test]
fn an_annotation_gives_nobody_more_than_was_asked_for() {
    let asks = || pod(&[("main", json!({ "": "1", "-milli": "500" }))]);
    let right = json!({ "main": { GPU: { "a": 1000, "b": 500 } } });
    assert!(Assignment::of(&annotated(asks(), right.clone())).is_some());
    assert!(Assignment::of(&asks()).is_none());
    let wrong = [
        json!({ "main": { GPU: { "a": 1000 } } }),
        json!({ "main": { GPU: { "a": 1000, "b": 1000 } } }),
        json!({ "main": { GPU: { "a": 1000, "b": 500, "c": 500 } } }),
        json!({ "main": { GPU: { "a": 1500 } } }),
        json!({ "main": { GPU: { "a": -500, "b": 2000 } } }),
        json!({ "other": { GPU: { "a": 1000, "b": 500 } } }),
        json!({ "main": { "example.com/gpu": { "a": 1000 } } }),
        json!({}),
        json!("text"),
        json!({ "main": { GPU: { "a": "1000", "b": 500 } } }),
    ];
    for value in wrong {
        assert!(Assignment::of(&annotated(asks(), value.clone())).is_none(), "{value}");
    }
    let idle = pod(&[("main", json!({}))]);
    assert!(Assignment::of(&annotated(idle, right)).is_none());
}

#[test]
fn what_is_left_follows_from_the_annotations_of_node_and_pods() {
    let node = |text: &str| -> Node {
        serde_json::from_value(json!({ "metadata": { "annotations": { ANNOTATION: text } } })).unwrap()
    };
    let pool = Pool::of(&node(r#"{"longshore.dev/gpu":["a","b"]}"#)).unwrap();
    assert_eq!(pool.to_text(), r#"{"longshore.dev/gpu":["a","b"]}"#);
    for text in ["", "{}", "[]", r#"{"longshore.dev/gpu":"a"}"#] {
        assert!(Pool::of(&node(text)).is_none(), "{text}");
    }
    let half = || pod(&[("main", json!({ "-milli": "500" }))]);
    let on = |device: &str| annotated(half(), json!({ "main": { GPU: { device: 500 } } }));
    // One device is not there, and one pod was not told: it is counted where it would be put.
    let pods = [half(), on("b"), on("gone"), pod(&[("main", json!({}))])];
    let mut cluster = Cluster::new();
    let mut two = node(r#"{"longshore.dev/gpu":["a","b"]}"#);
    two.metadata.name = Some("two".to_owned());
    let id = cluster.put_node(Arc::new(two));
    for (pod, name) in pods.into_iter().zip(["p", "q", "r", "s"]) {
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..pod.metadata };
        cluster.place(Arc::new(Pod { metadata, ..pod }), id);
    }
    let left = |cluster: &Cluster| -> Vec<i64> {
        cluster.devices(id).unwrap().left_of(GPU).unwrap().values().copied().collect()
    };
    assert_eq!(left(&cluster), [1000, 0]);
    cluster.remove_pod("", "q");
    assert_eq!(left(&cluster), [500, 1000]);
}

#[test]
fn a_placed_pod_keeps_its_devices() {
    let told = |device: &str| {
        let told = json!({ "main": { GPU: { device: 500 } } });
        let mut pod = annotated(pod(&[("main", json!({ "-milli": "500" }))]), told);
        pod.metadata.name = Some("p".to_owned());
        pod
    };
    let forbids = |new: &Pod, old: &Pod| {
        let errors = new.validate_update(old, None);
        errors.iter().any(|error| error.to_string().contains("may not change which devices a placed pod has"))
    };
    let placed = |mut pod: Pod| {
        pod.spec.node_name = "n".to_owned();
        pod
    };
    assert!(!forbids(&told("b"), &told("a")));
    assert!(forbids(&placed(told("b")), &placed(told("a"))));
    let mut without = placed(told("a"));
    without.metadata.annotations = None;
    assert!(forbids(&without, &placed(told("a"))) && !forbids(&placed(told("a")), &without));
}
