use longshore_core::api::{Deployment, EndpointSlice, Job, Node, Pod, Service};
use longshore_core::client::params::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::*;
use crate::readiness::readiness;

async fn create<K: Kind>(cluster: &Cluster, value: serde_json::Value) {
    let object = serde_json::from_value(value).unwrap();
    cluster.api::<K>("default").create(object, &PostParams::default()).await.unwrap();
}

fn deployment(replicas: i32) -> serde_json::Value {
    json!({
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "web:1", "ports": [{"name": "http", "containerPort": 80}]}]},
            },
        },
    })
}

#[tokio::test]
async fn a_deployment_runs_behind_its_service() {
    let cluster = Cluster::builder().nodes(3).virtual_time().start().await;
    create::<Deployment>(&cluster, deployment(3)).await;
    let service = json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}});
    create::<Service>(&cluster, service).await;
    cluster.until("default", "web", |it: &Deployment| readiness(it).ready).await;
    cluster.advance(Duration::from_secs(5)).await;
    let slices = cluster.api::<EndpointSlice>("default").list(&ListParams::default()).await.unwrap();
    let ready = slices.items.iter().filter(|slice| slice.metadata.name.as_deref().unwrap().starts_with("web"));
    assert_eq!(ready.flat_map(|slice| &slice.endpoints).count(), 3);
    let patch = Patch::Merge(json!({"spec": {"replicas": 1}}));
    cluster.api::<Deployment>("default").patch("web", &patch, &PatchParams::default()).await.unwrap();
    cluster.until("default", "web", |it: &Deployment| it.status.replicas == 1).await;
    cluster.api::<Deployment>("default").delete("web", &DeleteParams::default()).await.unwrap();
    cluster.until_gone::<Deployment>("default", "web").await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_job_of_an_hour_takes_a_moment() {
    let cluster = Cluster::builder().virtual_time().start().await;
    let job = json!({
        "metadata": {"name": "slow"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "a", "command": ["sleep", "3600"]}]}}},
    });
    create::<Job>(&cluster, job).await;
    let start = cluster.clock().elapsed();
    cluster.until("default", "slow", |it: &Job| readiness(it).ready).await;
    assert!(cluster.clock().elapsed() - start >= Duration::from_secs(3600));
}

#[tokio::test]
async fn without_nodes_a_pod_waits_and_says_why() {
    let cluster = Cluster::builder().nodes(0).start().await;
    create::<Pod>(&cluster, json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "a", "image": "a"}]}}))
        .await;
    let unscheduled =
        |pod: &Pod| pod.status.conditions.iter().any(|it| it.type_ == "PodScheduled" && it.reason == "Unschedulable");
    cluster.until("default", "a", unscheduled).await;
    assert!(cluster.api::<Node>("").list(&ListParams::default()).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn many_clusters_live_side_by_side() {
    let clusters = futures::future::join_all((0..8).map(|_| Cluster::start())).await;
    for cluster in &clusters {
        cluster.until("", "node-1", |it: &Node| readiness(it).ready).await;
    }
}

#[tokio::test]
async fn a_cluster_explains_where_pods_go_and_counts_what_it_does() {
    let cluster = Cluster::builder().nodes(2).start().await;
    let pod = |name: &str, cpu: &str| {
        json!({"metadata": {"name": name}, "spec": {"containers": [
            {"name": "a", "image": "a", "resources": {"requests": {"cpu": cpu}}}
        ]}})
    };
    create::<Pod>(&cluster, pod("large", "1000")).await;
    create::<Pod>(&cluster, pod("small", "100m")).await;
    cluster.until("default", "small", |pod: &Pod| !pod.spec.node_name.is_empty()).await;
    let refused = |pod: &Pod| pod.status.conditions.iter().any(|it| it.reason == "Unschedulable");
    cluster.until("default", "large", refused).await;
    let ask = async |pod: &str, accept: &str| {
        let path = format!("/api/v1/namespaces/default/pods/{pod}/explain");
        let request = http::Request::get(path).header("accept", accept).body(Vec::new()).unwrap();
        cluster.kube().request_text(request).await
    };
    let large: serde_json::Value = serde_json::from_str(&ask("large", "application/json").await.unwrap()).unwrap();
    assert_eq!(large["message"], "0/2 nodes are available: 2 Insufficient cpu.");
    assert_eq!(large["remedies"][0]["nodes"], 2);
    assert_eq!(large["decisions"][0]["verdict"], "refused");
    let small = ask("small", "text/plain").await.unwrap();
    assert!(small.contains("2 of 2 nodes can take the pod.") && small.contains("placed on node-"), "{small}");
    let missing = ask("nobody", "*/*").await.unwrap_err().to_string();
    assert!(missing.contains("pods \"nobody\" not found"), "{missing}");
    let metrics = http::Request::get("/metrics").body(Vec::new()).unwrap();
    let metrics = cluster.kube().request_text(metrics).await.unwrap();
    let placed = r#"scheduler_schedule_attempts_total{result="scheduled",profile="default-scheduler"} 1"#;
    assert!(metrics.contains(placed) && metrics.contains("workqueue_depth"), "{metrics}");
    cluster.stop().await;
}

#[tokio::test]
async fn without_a_scheduler_nobody_explains() {
    let cluster = Cluster::builder().without_scheduler().start().await;
    create::<Pod>(&cluster, json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "a", "image": "a"}]}}))
        .await;
    let request = http::Request::get("/api/v1/namespaces/default/pods/a/explain").body(Vec::new()).unwrap();
    let error = cluster.kube().request_text(request).await.unwrap_err().to_string();
    assert!(error.contains("without a scheduler"), "{error}");
    cluster.stop().await;
}

/// Two halves are one GPU, however the pods' other requests would be spread.
#[tokio::test]
async fn pods_with_and_without_gpus_find_their_places() {
    let cluster = Cluster::builder().nodes(2).gpus(1).virtual_time().start().await;
    for node in ["node-1", "node-2"] {
        let has =
            |node: &Node| node.status.allocatable.get("longshore.dev/gpu-milli").is_some_and(|it| it.value() == 1000);
        cluster.until("", node, has).await;
    }
    let pod = |name: &str, resource: &str, amount: &str| {
        let amounts = json!({resource: amount});
        json!({"metadata": {"name": name}, "spec": {"containers": [
            {"name": "main", "image": "web", "resources": {"requests": amounts, "limits": amounts}},
        ]}})
    };
    let mut places = Vec::new();
    for (name, resource, amount) in [
        ("half-1", "longshore.dev/gpu-milli", "500"),
        ("plain", "cpu", "1"),
        ("half-2", "longshore.dev/gpu-milli", "500"),
        ("half-3", "longshore.dev/gpu-milli", "600"),
    ] {
        create::<Pod>(&cluster, pod(name, resource, amount)).await;
        let running = cluster.until("default", name, |it: &Pod| it.status.phase.as_str() == "Running").await;
        let told = running.metadata.annotations.clone().unwrap_or_default();
        places.push((running.spec.node_name.clone(), told.get("longshore.dev/devices").cloned()));
    }
    let half = Some(r#"{"main":{"longshore.dev/gpu":{"gpu-0":500}}}"#.to_owned());
    assert_eq!(places[0], places[2], "both halves are of one GPU");
    assert_eq!((&places[0].1, &places[1].1), (&half, &None));
    assert_ne!(places[3].0, places[0].0);
    // 400 thousandths are left, of one GPU.
    create::<Pod>(&cluster, pod("whole", "longshore.dev/gpu", "1")).await;
    let waits = |it: &Pod| it.status.conditions.iter().any(|condition| condition.reason == "Unschedulable");
    let waiting = cluster.until("default", "whole", waits).await;
    let message = &waiting.status.conditions[0].message;
    assert!(message.starts_with("0/2 nodes are available: 2 Insufficient longshore.dev/gpu."), "{message}");
    let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    cluster.api::<Pod>("default").delete("half-3", &now).await.unwrap();
    let whole = cluster.until("default", "whole", |it: &Pod| it.status.phase.as_str() == "Running").await;
    assert_eq!(whole.spec.node_name, places[3].0);
    cluster.stop().await;
}
