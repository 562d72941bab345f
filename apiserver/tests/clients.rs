//! What a client promises, checked on the local client and on the remote one over the HTTP service.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

use std::sync::Arc;

use futures::StreamExt;
use longshore_apiserver::http::LocalNodes;
use longshore_apiserver::{HttpService, LocalClient, Options, Registry};
use longshore_client::RemoteClient;
use longshore_core::api::ConfigMap;
use longshore_core::client::params::{
    DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, WatchParams,
};
use longshore_core::client::{Api, Client, Deleted, WatchEvent};
use longshore_core::clock::VirtualClock;
use longshore_core::store::MemoryStore;
use serde_json::json;

async fn registry() -> Arc<Registry> {
    let store = Arc::new(MemoryStore::new());
    Registry::start(store, Arc::new(VirtualClock::new()), Options::new(1)).await.unwrap()
}

fn map(name: &str) -> ConfigMap {
    let mut map = ConfigMap { data: [("key".into(), "1".into())].into(), ..ConfigMap::default() };
    map.metadata.name = Some(name.to_owned());
    map
}

async fn suite(client: Arc<dyn Client>) {
    let maps = Api::<ConfigMap>::namespaced(client, "default");
    let start = maps.list(&ListParams::default()).await.unwrap().resource_version;
    let mut watch = maps.watch(&WatchParams::default(), &start).await.unwrap();

    let first = maps.create(map("a"), &PostParams::default()).await.unwrap();
    assert!(maps.create(map("a"), &PostParams::default()).await.unwrap_err().is_already_exists());
    let mut second = ConfigMap::clone(&first);
    second.data.insert("key".into(), "2".into());
    let second = maps.update(second, &PostParams::default()).await.unwrap();
    let error = maps.update(ConfigMap::clone(&first), &PostParams::default()).await.unwrap_err();
    assert!(error.is_conflict(), "{error}");
    let patch = Patch::Merge(json!({"data": {"more": "3"}}));
    let third = maps.patch("a", &patch, &PatchParams::default()).await.unwrap();
    assert_eq!(third.data.len(), 2);
    assert_eq!(*maps.get("a").await.unwrap(), *third);

    maps.create(map("b"), &PostParams::default()).await.unwrap();
    let page = maps.list(&ListParams::default().limit(1)).await.unwrap();
    assert_eq!(page.items.len(), 1);
    let token = page.continue_token.unwrap();
    let rest = maps.list(&ListParams::default().continue_token(&token)).await.unwrap();
    assert_eq!(rest.items[0].metadata.name.as_deref(), Some("b"));

    let stale = Preconditions { uid: None, resource_version: second.metadata.resource_version.clone() };
    let error = maps.delete("a", &DeleteParams::default().preconditions(stale)).await.unwrap_err();
    assert!(error.is_conflict(), "{error}");
    assert!(matches!(maps.delete("a", &DeleteParams::default()).await.unwrap(), Deleted::Gone(_)));
    assert!(maps.get("a").await.unwrap_err().is_not_found());

    let mut seen = Vec::new();
    while seen.len() < 5 {
        match watch.next().await.unwrap().unwrap() {
            WatchEvent::Added(object) => seen.push(("added", object)),
            WatchEvent::Modified(object) => seen.push(("modified", object)),
            WatchEvent::Deleted(object) => seen.push(("deleted", object)),
            WatchEvent::Bookmark { .. } => {}
        }
    }
    let types: Vec<_> = seen.iter().map(|(type_, _)| *type_).collect();
    assert_eq!(types, ["added", "modified", "modified", "added", "deleted"]);
}

#[tokio::test]
async fn the_local_client_keeps_the_contract() {
    suite(Arc::new(LocalClient::new(registry().await, "test"))).await;
}

#[tokio::test]
async fn the_remote_client_keeps_the_contract() {
    let service = HttpService::new(registry().await);
    suite(Arc::new(RemoteClient::new(kube::Client::new(service, "default")))).await;
}

/// What users of kube-rs do, on the service without a port.
#[tokio::test]
async fn kube_applies_scales_watches_and_reads_logs() {
    use k8s_openapi::api::apps::v1::Deployment;
    use k8s_openapi::api::core::v1::Pod;
    use kube::runtime::{WatchStreamExt, watcher};

    let nodes = LocalNodes::new();
    nodes.insert(
        "n1",
        tower::service_fn(|request: http::Request<axum::body::Body>| async move {
            Ok(http::Response::new(axum::body::Body::from(format!("{}\n", request.uri()))))
        }),
    );
    let service = HttpService::new(registry().await).with_nodes(Arc::new(nodes));
    let client = kube::Client::new(service, "default");

    let deployments = kube::Api::<Deployment>::default_namespaced(client.clone());
    let web = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
        "spec": {
            "replicas": 2,
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "c", "image": "i" }] },
            },
        },
    });
    let me = PatchParams::apply("me");
    let applied = deployments.patch("web", &me, &Patch::Apply(&web)).await.unwrap();
    assert_eq!(applied.spec.unwrap().replicas, Some(2));
    let mut other = web.clone();
    other["spec"]["replicas"] = 3.into();
    let error = deployments.patch("web", &PatchParams::apply("other"), &Patch::Apply(&other)).await.unwrap_err();
    assert!(matches!(&error, kube::Error::Api(status) if status.code == 409), "{error}");
    let scale = deployments.get_scale("web").await.unwrap();
    assert_eq!(scale.status.unwrap().selector.as_deref(), Some("app=web"));
    let patch = Patch::Merge(json!({ "spec": { "replicas": 5 } }));
    deployments.patch_scale("web", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(deployments.get("web").await.unwrap().spec.unwrap().replicas, Some(5));
    let metadata = deployments.list_metadata(&ListParams::default()).await.unwrap();
    assert_eq!(metadata.items[0].metadata.name.as_deref(), Some("web"));

    let pods = kube::Api::<Pod>::default_namespaced(client.clone());
    let mut seen =
        std::pin::pin!(watcher(pods.clone(), watcher::Config::default().streaming_lists()).applied_objects());
    let pod = json!({
        "metadata": { "name": "p" }, "spec": { "nodeName": "n1", "containers": [{ "name": "c", "image": "i" }] },
    });
    let pod: Pod = serde_json::from_value(pod).unwrap();
    let (created, first) = tokio::join!(async { pods.create(&PostParams::default(), &pod).await }, seen.next());
    assert_eq!(first.unwrap().unwrap().metadata.uid, created.unwrap().metadata.uid);
    let text = pods.logs("p", &kube::api::LogParams { tail_lines: Some(2), ..Default::default() }).await.unwrap();
    assert_eq!(text, "/containerLogs/default/p/c?tailLines=2\n");
    assert!(client.list_api_groups().await.unwrap().groups.iter().any(|group| group.name == "apps"));
    assert_eq!(client.apiserver_version().await.unwrap().minor, "35");
}
