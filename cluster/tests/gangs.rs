//! Gangs in a whole cluster: of two that do not fit together one runs after the other, whoever schedules.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

use std::sync::Arc;
use std::time::Duration;

use longshore_cluster::testing::Cluster;
use longshore_core::api::pod_group::POD_GROUP_LABEL;
use longshore_core::api::{Job, Node, PodGroup};
use longshore_core::client::params::{ListParams, PostParams};
use longshore_core::kind::Kind;
use longshore_core::store::{MemoryStore, Store};
use serde_json::{Value, from_value, json};

async fn create<K: Kind>(cluster: &Cluster, value: Value) {
    let object: K = from_value(value).unwrap();
    cluster.api::<K>("default").create(object, &PostParams::default()).await.unwrap();
}

/// A job whose pods start together, each of which wants more than half a node.
async fn gang(cluster: &Cluster, name: &str, pods: u32) {
    let spec = json!({ "minMember": pods, "scheduleTimeoutSeconds": 20 });
    create::<PodGroup>(cluster, json!({ "metadata": { "name": name }, "spec": spec })).await;
    let node = cluster.until("", "node-1", |node: &Node| node.status.allocatable.contains_key("cpu")).await;
    let cpu = node.status.allocatable["cpu"].milli_value() * 6 / 10;
    let container = json!({
        "name": "c", "image": "work:1", "command": ["sleep", "30"],
        "resources": { "requests": { "cpu": format!("{cpu}m") } },
    });
    let template = json!({
        "metadata": { "labels": { POD_GROUP_LABEL: name } },
        "spec": { "restartPolicy": "Never", "containers": [container] },
    });
    let job = json!({
        "metadata": { "name": name },
        "spec": { "completions": pods, "parallelism": pods, "template": template },
    });
    create::<Job>(cluster, job).await;
}

fn has_phase(phase: &str) -> impl Fn(&PodGroup) -> bool {
    move |group| group.status.phase.as_str() == phase
}

#[tokio::test]
async fn two_gangs_of_which_one_fits_at_a_time_both_run() {
    let cluster = Cluster::builder().nodes(4).virtual_time().start().await;
    gang(&cluster, "first", 3).await;
    gang(&cluster, "second", 3).await;
    let first = cluster.until("default", "first", has_phase("Running")).await;
    assert_eq!((first.status.scheduled, first.status.running), (3, 3));
    assert_eq!(first.status.occupied_by, "default/first");
    let second = cluster.api::<PodGroup>("default").get("second").await.unwrap();
    assert_eq!((second.status.scheduled, second.status.phase.as_str()), (0, "Scheduling"));
    for name in ["first", "second"] {
        let group = cluster.until("default", name, has_phase("Finished")).await;
        assert_eq!(group.status.succeeded, 3);
    }
    cluster.stop().await;
}

#[tokio::test]
async fn a_gang_that_never_fits_leaves_the_nodes_to_others() {
    let cluster = Cluster::builder().nodes(2).virtual_time().start().await;
    gang(&cluster, "huge", 3).await;
    gang(&cluster, "small", 2).await;
    cluster.until("default", "small", has_phase("Finished")).await;
    let huge = cluster.api::<PodGroup>("default").get("huge").await.unwrap();
    assert_eq!((huge.status.scheduled, huge.status.phase.as_str()), (0, "Scheduling"));
    cluster.stop().await;
}

#[tokio::test]
async fn a_cluster_that_starts_anew_goes_on_with_the_gangs_that_waited() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let cluster = Cluster::builder().nodes(2).store(store.clone()).virtual_time().start().await;
    gang(&cluster, "first", 3).await;
    cluster.advance(Duration::from_secs(5)).await;
    let pods = cluster.api::<longshore_core::api::Pod>("default").list(&ListParams::default()).await.unwrap();
    assert_eq!(pods.items.len(), 3);
    assert!(pods.items.iter().all(|pod| pod.spec.node_name.is_empty()));
    cluster.stop().await;
    let cluster = Cluster::builder().nodes(3).store(store).virtual_time().start().await;
    cluster.until("default", "first", has_phase("Finished")).await;
    cluster.stop().await;
}
