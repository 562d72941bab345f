//! Fences: writes that a leader makes, and what became of its lease meanwhile.

use std::sync::Arc;

use longshore_core::api::{ConfigMap, Lease, Pod};
use longshore_core::client::params::{DeleteParams, Patch, PatchParams, PostParams};
use longshore_core::client::{Api, Bind, Client, Error};
use longshore_core::clock::VirtualClock;
use longshore_core::leader::Fence;
use longshore_core::store::{MemoryStore, Store};
use serde_json::json;

use super::{Options, Registry};
use crate::{HttpService, LocalClient};

struct Cluster {
    client: Arc<dyn Client>,
    /// Of another server over the same store.
    other: Arc<dyn Client>,
    service: HttpService,
}

async fn cluster() -> Cluster {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let start = async |seed| {
        Registry::start(Arc::clone(&store), Arc::new(VirtualClock::new()), Options::new(seed)).await.unwrap()
    };
    let (one, two) = (start(1).await, start(2).await);
    let client = |registry: &Arc<Registry>| Arc::new(LocalClient::new(Arc::clone(registry), "test"));
    Cluster { client: client(&one), other: client(&two), service: HttpService::new(one) }
}

fn fence(holder: &str, transitions: i32) -> Arc<Fence> {
    Arc::new(Fence { namespace: "kube-system".into(), name: "test".into(), holder: holder.into(), transitions })
}

fn leases(client: &Arc<dyn Client>) -> Api<Lease> {
    Api::namespaced(Arc::clone(client), "kube-system")
}

/// Puts the lease as somebody's election would.
async fn lead(client: &Arc<dyn Client>, holder: &str, transitions: i32) {
    let mut lease = Lease::default();
    lease.metadata.name = Some("test".into());
    lease.metadata.namespace = Some("kube-system".into());
    lease.spec.holder_identity = Some(holder.into());
    lease.spec.lease_duration_seconds = Some(15);
    lease.spec.lease_transitions = Some(transitions);
    match leases(client).create(lease.clone(), &PostParams::default()).await {
        Err(error) if error.is_already_exists() => {
            drop(leases(client).update(lease, &Default::default()).await.unwrap())
        }
        created => drop(created.unwrap()),
    }
}

async fn renew(client: &Arc<dyn Client>, round: u32) {
    let time = format!("2026-01-01T00:00:{round:02}.000000Z");
    let patch = Patch::Merge(json!({ "spec": { "renewTime": time } }));
    leases(client).patch("test", &patch, &PatchParams::default()).await.unwrap();
}

fn map(name: &str) -> ConfigMap {
    let mut map = ConfigMap::default();
    map.metadata.name = Some(name.into());
    map.metadata.namespace = Some("default".into());
    map
}

async fn create(client: &Arc<dyn Client>, name: &str) -> Result<(), Error> {
    let maps: Api<ConfigMap> = Api::namespaced(Arc::clone(client), "default");
    maps.create(map(name), &PostParams::default()).await.map(drop)
}

/// What is written by whoever leads in this term.
async fn during<T>(fence: &Arc<Fence>, write: impl Future<Output = T>) -> T {
    Arc::clone(fence).guard(write).await
}

#[tokio::test]
async fn every_kind_of_write_is_refused_once_another_leads() {
    let Cluster { client, .. } = cluster().await;
    lead(&client, "a", 3).await;
    create(&client, "old").await.unwrap();
    let pod = json!({ "metadata": { "name": "p" }, "spec": { "containers": [{ "name": "c", "image": "i" }] } });
    let pods: Api<Pod> = Api::namespaced(Arc::clone(&client), "default");
    pods.create(serde_json::from_value(pod).unwrap(), &PostParams::default()).await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(Arc::clone(&client), "default");
    lead(&client, "b", 4).await;
    let bind = Bind { namespace: "default".into(), pod: "p".into(), node: "n".into(), ..Bind::default() };
    let patch = Patch::Merge(json!({ "data": { "a": "b" } }));
    let late = async {
        let mut changed = map("old");
        changed.data.insert("a".into(), "b".into());
        [
            create(&client, "new").await,
            maps.update(changed, &PostParams::default()).await.map(drop),
            maps.patch("old", &patch, &PatchParams::default()).await.map(drop),
            maps.delete("old", &DeleteParams::default()).await.map(drop),
            pods.delete("p", &DeleteParams::default()).await.map(drop),
            client.bind(&bind).await,
        ]
    };
    for (at, outcome) in during(&fence("a", 3), late).await.into_iter().enumerate() {
        let error = outcome.unwrap_err();
        assert!(error.is_fenced() && error.code() == 409, "write {at}: {error:?}");
    }
    let error = during(&fence("a", 3), create(&client, "new")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the write came after its leader's term (lease kube-system/test of \"a\", transition 3): \"b\" leads, since transition 4"
    );
    assert_eq!(maps.list(&Default::default()).await.unwrap().items[0].data.len(), 0);
    // Reads are nobody's term, and whoever leads now is not held up.
    during(&fence("a", 3), maps.get("old")).await.unwrap();
    during(&fence("b", 4), create(&client, "new")).await.unwrap();
}

#[tokio::test]
async fn a_lease_that_is_handed_back_deleted_or_held_in_another_term_ends_the_term() {
    let Cluster { client, .. } = cluster().await;
    let late = async |why: &str| {
        let error = during(&fence("a", 3), create(&client, "x")).await.unwrap_err();
        assert!(error.is_fenced() && error.to_string().ends_with(why), "{error}");
    };
    late("it is gone").await;
    lead(&client, "a", 5).await;
    late("\"a\" leads, since transition 5").await;
    lead(&client, "", 3).await;
    late("nobody leads, after transition 3").await;
    lead(&client, "a", 3).await;
    during(&fence("a", 3), create(&client, "x")).await.unwrap();
    leases(&client).delete("test", &DeleteParams::default()).await.unwrap();
    late("it is gone").await;
}

#[tokio::test]
async fn a_renewal_in_between_refuses_nothing() {
    let Cluster { client, other, .. } = cluster().await;
    lead(&client, "a", 3).await;
    for round in 0..30 {
        // The other server's cache has not been told yet when its leader writes, so its first comparison is lost.
        renew(&client, round).await;
        during(&fence("a", 3), create(&other, &format!("m{round}"))).await.unwrap();
        renew(&client, round + 30).await;
        let maps: Api<ConfigMap> = Api::namespaced(Arc::clone(&other), "default");
        let patch = Patch::Merge(json!({ "data": { "a": "b" } }));
        during(&fence("a", 3), maps.patch(&format!("m{round}"), &patch, &PatchParams::default())).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_whose_cache_knows_only_the_earlier_leader_refuses_it_and_serves_the_present_one() {
    let Cluster { client, other, .. } = cluster().await;
    lead(&client, "a", 3).await;
    during(&fence("a", 3), create(&other, "x")).await.unwrap();
    lead(&client, "b", 4).await;
    assert!(during(&fence("a", 3), create(&other, "y")).await.unwrap_err().is_fenced());
    lead(&client, "c", 5).await;
    during(&fence("c", 5), create(&other, "y")).await.unwrap();
}

#[tokio::test]
async fn fences_come_over_http_and_one_that_is_malformed_is_refused() {
    let Cluster { client, service, .. } = cluster().await;
    lead(&client, "a", 3).await;
    let post = async |fence: &[u8], name: &str| {
        let body = serde_json::to_vec(&map(name)).unwrap();
        let request = http::Request::post("/api/v1/namespaces/default/configmaps").header(Fence::HEADER, fence);
        let request = request.body(http_body_util::Full::new(bytes::Bytes::from(body))).unwrap();
        tower::ServiceExt::oneshot(service.clone(), request).await.unwrap().status().as_u16()
    };
    assert_eq!(post(&fence("a", 3).to_header(), "x").await, 201);
    assert_eq!(post(&fence("a", 2).to_header(), "y").await, 409);
    assert_eq!(post(b"a", "y").await, 400);
}
