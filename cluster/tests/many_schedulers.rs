//! Eight whole schedulers at once, none of which leads, over one API server or two on one store: no node is ever overcommitted,
//! and every pod is bound exactly once.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use longshore_cluster::{ControlPlane, ControlPlaneOptions};
use longshore_core::api::{Node, Pod};
use longshore_core::client::params::{ListParams, PostParams, WatchParams};
use longshore_core::client::{Api, WatchEvent};
use longshore_core::clock::{Clock, SystemClock};
use longshore_core::scheduling::TieBreak;
use longshore_core::store::{MemoryStore, Store};
use longshore_scheduler::{Options, Scheduler};
use serde_json::{from_value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const SCHEDULERS: u64 = 8;
const NODES: usize = 30;
/// What fits on a node; there are just as many pods as fit on all.
const ROOM: usize = 10;

async fn api_server(store: &Arc<dyn Store>, clock: &Arc<dyn Clock>, seed: u64) -> ControlPlane {
    let mut options = ControlPlaneOptions::new(seed);
    (options.controllers, options.scheduler) = (None, None);
    options.registry.admission = Vec::new();
    ControlPlane::start(store.clone(), clock.clone(), options).await.unwrap()
}

async fn run(servers: u64) {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let mut planes = Vec::new();
    for seed in 0..servers {
        planes.push(api_server(&store, &clock, seed).await);
    }
    let client = planes[0].client("test");
    for index in 0..NODES {
        let node = json!({ "metadata": { "name": format!("n{index}") },
            "status": { "allocatable": { "cpu": "1", "memory": "1Gi", "pods": "110" } } });
        Api::<Node>::all(client.clone()).create(from_value(node).unwrap(), &PostParams::default()).await.unwrap();
    }
    let pods: Api<Pod> = Api::namespaced(client, "default");
    let version = pods.list(&ListParams::default()).await.unwrap().resource_version;
    let mut watch = pods.watch(&WatchParams::default(), &version).await.unwrap();
    let cancel = CancellationToken::new();
    let mut schedulers = JoinSet::new();
    for seed in 0..SCHEDULERS {
        let client = planes[(seed % servers) as usize].client(&format!("scheduler-{seed}"));
        let options = Options { tie_break: TieBreak::Uniform { seed }, seed, ..Options::default() };
        let scheduler = Scheduler::new(client, clock.clone(), options).unwrap();
        schedulers.spawn(scheduler.run(cancel.clone()));
    }
    for index in 0..NODES * ROOM {
        let pod = json!({ "metadata": { "name": format!("p{index}") }, "spec": { "containers": [{ "name": "c", "image": "c",
            "resources": { "requests": { "cpu": "100m", "memory": "1Mi" } } }] } });
        pods.create(from_value(pod).unwrap(), &PostParams::default()).await.unwrap();
    }
    // Every state that any pod ever had goes by here, so a pod that changed its node would be seen.
    let mut node_of: BTreeMap<String, String> = BTreeMap::new();
    let mut on: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let all_bound = async {
        while node_of.len() < NODES * ROOM {
            let (WatchEvent::Added(pod) | WatchEvent::Modified(pod)) = watch.next().await.unwrap().unwrap() else {
                continue;
            };
            let (name, node) = (pod.metadata.name.clone().unwrap(), pod.spec.node_name.clone());
            if node.is_empty() {
                assert!(!node_of.contains_key(&name), "{name} lost its node");
                continue;
            }
            let first = node_of.entry(name.clone()).or_insert_with(|| node.clone());
            assert_eq!(*first, node, "{name} was bound twice");
            let there = on.entry(node.clone()).or_default();
            there.insert(name);
            assert!(there.len() <= ROOM, "{node} has {} pods", there.len());
        }
    };
    tokio::time::timeout(Duration::from_secs(120), all_bound).await.expect("all pods are bound");
    assert!(on.values().all(|pods| pods.len() == ROOM));
    cancel.cancel();
    schedulers.join_all().await;
    for plane in planes {
        plane.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_one_server() {
    run(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_two_servers_on_one_store() {
    run(2).await;
}
