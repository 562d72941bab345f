//! The columns against a plain recount, after random events.

use std::borrow::Cow;
use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use serde_json::json;

use super::*;
use crate::api::pod::Pod;
use crate::devices::{ANNOTATION, Assignment, BestFit, Pool};

fn node(name: &str, cpu: u32, zone: &str) -> Arc<Node> {
    let value = json!({
        "metadata": {
            "name": name, "labels": { "zone": zone },
            "annotations": { ANNOTATION: json!({ "x.io/gpu": &["a", "b", "c", "d"][..(cpu % 5) as usize] }).to_string() },
        },
        "spec": { "taints": [{ "key": "zone", "value": zone, "effect": "NoSchedule" }] },
        "status": { "allocatable": { "cpu": cpu.to_string(), "x.io/gpu": "4", "pods": "10" } },
    });
    Arc::new(serde_json::from_value(value).unwrap())
}

fn pod(name: &str, node: &str, milli: u32) -> Arc<Pod> {
    let told = json!({ "c": { "x.io/gpu": { ["a", "b", "c", "d"][milli as usize % 4]: 1000 } } }).to_string();
    let annotations = if milli.is_multiple_of(2) { json!({ ANNOTATION: told }) } else { json!({}) };
    let value = json!({
        "metadata": { "name": name, "namespace": "default", "annotations": annotations },
        "spec": { "nodeName": node, "priority": milli % 3, "containers": [{
            "name": "c", "image": "i", "ports": [{ "containerPort": 80, "hostPort": 1000 + milli }],
            "resources": { "requests": { "cpu": format!("{milli}m"), "x.io/gpu": "1" } },
        }] },
    });
    Arc::new(serde_json::from_value(value).unwrap())
}

/// Everything that follows from the nodes and pods, recounted.
fn check(cluster: &Cluster) {
    let gpu = cluster.resource("x.io/gpu");
    for id in cluster.nodes().iter() {
        let (mut milli, mut gpus, mut count, mut memory) = (0, 0, 0, 0);
        for pod in cluster.pods_on(id) {
            assert_eq!(pod.node(), Some(id));
            milli += pod.requests().amount(ResourceId::CPU);
            gpus += gpu.map_or(0, |gpu| pod.requests().amount(gpu));
            memory += pod.requests().nonzero_memory();
            count += 1;
        }
        assert_eq!(at(cluster.requested(ResourceId::CPU), id), milli);
        assert_eq!(gpu.map_or(0, |gpu| at(cluster.requested(gpu), id)), gpus);
        assert_eq!(cluster.pod_counts()[id.index()], count);
        assert_eq!(at(cluster.nonzero_memory(), id), memory);
        assert_eq!(cluster.ports_of(id).len(), usize::try_from(count).unwrap());
        assert_eq!(cluster.nodes_with_ports().contains(id), count > 0);
        let object = cluster.node(id).unwrap();
        let devices = Pool::of(object).map(|mut pool| {
            let pods = || cluster.pods_on(id).map(|placed| &**placed.pod());
            for pod in pods() {
                Assignment::of(pod).iter().for_each(|told| pool.take(&told.charge(pod)));
            }
            for pod in pods().filter(|pod| Assignment::of(pod).is_none()) {
                let assigned = pool.assign(pod, &BestFit);
                assigned.iter().for_each(|assigned| pool.take(&assigned.charge(pod)));
            }
            pool
        });
        assert_eq!(cluster.devices(id).map(Cow::into_owned), devices);
        let zone = cluster.label("zone").unwrap();
        assert_eq!(zone.text(zone.value(id).unwrap()), object.metadata.labels.as_ref().unwrap()["zone"]);
        assert_eq!(cluster.taints_of(id).len(), 1);
        let cpu = object.status.allocatable["cpu"].milli_value();
        assert_eq!(at(cluster.allocatable(ResourceId::CPU), id), cpu);
    }
    let with_taint: usize = cluster.taints().map(|(_, _, nodes)| nodes.len()).sum();
    assert_eq!(with_taint, cluster.node_count());
    let lowest = cluster.placed_pods().map(|(_, pod)| pod.shape().priority()).min();
    assert_eq!(cluster.lowest_priority(), lowest);
}

#[test]
fn columns_equal_a_recount_after_random_events() {
    let mut rng = Pcg64::seed_from_u64(7);
    let mut cluster = Cluster::new();
    for step in 0..3000 {
        let name = format!("n{}", rng.random_range(0..12));
        let pod_name = format!("p{}", rng.random_range(0..40));
        match rng.random_range(0..10) {
            0 | 1 => {
                cluster.put_node(node(&name, rng.random_range(1..9), ["a", "b", "c"][step % 3]));
            }
            2 => {
                cluster.remove_node(&name);
            }
            3..=7 => cluster.put_pod(pod(&pod_name, &name, rng.random_range(1..20))),
            8 => drop(cluster.remove_pod("default", &pod_name)),
            _ => {
                if let Some(id) = cluster.node_id(&name) {
                    cluster.place(pod(&pod_name, "", 3), id);
                }
            }
        }
        check(&cluster);
    }
}

#[test]
fn pods_that_come_before_their_node_are_there_when_it_comes() {
    let mut cluster = Cluster::new();
    cluster.put_pod(pod("early", "n", 100));
    assert_eq!(cluster.find_pod("default", "early").unwrap().node(), None);
    let id = cluster.put_node(node("n", 4, "a"));
    assert_eq!(cluster.requested(ResourceId::CPU)[id.index()], 100);
    cluster.remove_node("n");
    let other = cluster.put_node(node("m", 4, "a"));
    assert_eq!(other, id, "places are used again");
    assert_eq!(cluster.requested(ResourceId::CPU)[id.index()], 0);
    let id = cluster.put_node(node("n", 4, "a"));
    assert_eq!(cluster.requested(ResourceId::CPU)[id.index()], 100);
}

#[test]
fn placed_pods_of_one_template_share_a_shape() {
    let mut cluster = Cluster::new();
    for index in 0..20 {
        cluster.put_node(node(&format!("n{index}"), 4, "a"));
        cluster.put_pod(pod(&format!("p{index}"), &format!("n{index}"), 5));
    }
    let shapes: BTreeSet<_> = cluster.placed_pods().map(|(_, pod)| pod.shape().id()).collect();
    assert_eq!(shapes.len(), 1);
    // The same pod as it waited, before it had a node.
    assert!(shapes.contains(&cluster.shape(&pod("waiting", "", 5)).id()));
}

#[test]
fn a_pod_that_ended_or_lost_its_node_takes_nothing() {
    let mut cluster = Cluster::new();
    let id = cluster.put_node(node("n", 4, "a"));
    cluster.put_pod(pod("a", "n", 100));
    let mut ended = Pod::clone(&pod("a", "n", 100));
    ended.status.phase = crate::api::pod::PodPhase::Succeeded;
    cluster.put_pod(Arc::new(ended));
    assert_eq!((cluster.requested(ResourceId::CPU)[id.index()], cluster.pod_count()), (0, 0));
}
