//! What is particular about pods: how they begin, change and end.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use longshore_core::api::{Lease, Namespace, Node, Pod, PodDisruptionBudget};
use longshore_core::client::params::{DeleteParams, Patch, PatchParams, PostParams};
use longshore_core::client::{Api, Bind, Client, Deleted, Error, Target};
use longshore_core::clock::{Clock, VirtualClock};
use longshore_core::kind::{KindType, Subresource};
use longshore_core::store::MemoryStore;
use serde_json::{Value, json};

use super::create::field_manager;
use super::{Options, Registry};
use crate::LocalClient;

struct Cluster {
    clock: VirtualClock,
    registry: Arc<Registry>,
    client: Arc<dyn Client>,
    pods: Api<Pod>,
}

impl Cluster {
    /// With one node of 2 cores.
    async fn start() -> Self {
        let store = Arc::new(MemoryStore::new());
        let clock = VirtualClock::new();
        let registry = Registry::start(store, Arc::new(clock.clone()), Options::new(1)).await.unwrap();
        let client: Arc<dyn Client> = Arc::new(LocalClient::new(Arc::clone(&registry), "test"));
        let node = json!({ "metadata": { "name": "n" }, "status": { "allocatable": { "cpu": "2", "pods": "10" } } });
        let nodes = Api::<Node>::all(Arc::clone(&client));
        nodes.create(serde_json::from_value(node).unwrap(), &PostParams::default()).await.unwrap();
        Self { pods: Api::namespaced(Arc::clone(&client), "default"), clock, registry, client }
    }

    async fn create(&self, name: &str) -> Arc<Pod> {
        let spec = json!({ "containers": [{
            "name": "c", "image": "i", "resources": { "requests": { "cpu": "1" } },
        }] });
        let pod = serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec })).unwrap();
        self.pods.create(pod, &PostParams::default()).await.unwrap()
    }

    async fn bind(&self, pod: &str) {
        let bind = Bind { namespace: "default".into(), pod: pod.into(), node: "n".into(), ..Bind::default() };
        self.client.bind(&bind).await.unwrap();
    }

    async fn patch(&self, name: &str, subresource: Subresource, patch: Value) -> Result<Value, Error> {
        let target = Target { kind: KindType::of::<Pod>(), namespace: "default", name };
        let patch = Patch::Strategic(patch);
        let pod = self.client.patch(target, Some(subresource), &patch, &PatchParams::default()).await?;
        Ok(pod.to_value())
    }
}

#[tokio::test]
async fn a_pod_begins_pending_and_its_generation_counts_changes_of_its_spec() {
    let cluster = Cluster::start().await;
    let pod = cluster.create("a").await;
    assert_eq!(
        json!([pod.status.phase, pod.status.qos_class, pod.metadata.generation]),
        json!(["Pending", "Burstable", 1])
    );
    let status = json!({ "status": { "phase": "Running" }, "spec": { "nodeName": "elsewhere" } });
    let pod = cluster.patch("a", Subresource::Status, status).await.unwrap();
    assert_eq!(json!([pod["status"]["phase"], pod["spec"]["nodeName"]]), json!(["Running", null]));
    assert_eq!(pod["metadata"]["generation"], 1);
}

#[tokio::test]
async fn a_resize_changes_sizes_only_and_holds_what_it_waits_for() {
    let cluster = Cluster::start().await;
    cluster.create("a").await;
    cluster.bind("a").await;
    let container = |cpu: &str| {
        json!({ "spec": {
            "terminationGracePeriodSeconds": 5,
            "containers": [{ "name": "c", "image": "other", "resources": { "requests": { "cpu": cpu } } }],
        } })
    };
    let pod = cluster.patch("a", Subresource::Resize, container("1500m")).await.unwrap();
    let own = &pod["spec"]["containers"][0];
    assert_eq!(json!([own["image"], own["resources"]["requests"]["cpu"]]), json!(["i", "1500m"]));
    assert_eq!(pod["spec"]["terminationGracePeriodSeconds"], 30);
    assert_eq!(pod["metadata"]["generation"], 2);
    let holds = json!({ "status": { "containerStatuses": [{
        "name": "c", "image": "i", "imageID": "", "restartCount": 0, "ready": true,
        "allocatedResources": { "cpu": "500m" }, "resources": { "requests": { "cpu": "500m" } },
    }] } });
    cluster.patch("a", Subresource::Status, holds).await.unwrap();
    // What is too much is for the node's agent to say; what may fit one day is kept for it.
    let pod = cluster.patch("a", Subresource::Resize, container("3")).await.unwrap();
    assert_eq!(pod["spec"]["containers"][0]["resources"]["requests"]["cpu"], "3");
    cluster.create("b").await;
    let bind = Bind { namespace: "default".into(), pod: "b".into(), node: "n".into(), ..Bind::default() };
    let error = cluster.client.bind(&bind).await.unwrap_err();
    assert!(error.to_string().ends_with("it has too little cpu: the pod asks for 1, 3 of 2 are taken"), "{error}");
    let never = json!({ "status": { "conditions": [
        { "type": "PodResizePending", "status": "True", "reason": "Infeasible" },
    ] } });
    cluster.patch("a", Subresource::Status, never).await.unwrap();
    cluster.client.bind(&bind).await.unwrap();
}

#[tokio::test]
async fn a_pod_ends_at_once_or_when_its_node_has_stopped_it() {
    let cluster = Cluster::start().await;
    cluster.create("waits").await;
    assert!(matches!(cluster.pods.delete("waits", &DeleteParams::default()).await.unwrap(), Deleted::Gone(_)));
    cluster.create("runs").await;
    cluster.bind("runs").await;
    let deleted = cluster.pods.delete("runs", &DeleteParams::default()).await.unwrap();
    let Deleted::Pending(pod) = deleted else { panic!("the node has to stop it first") };
    let meta = &pod.meta().clone();
    assert_eq!(meta.deletion_grace_period_seconds, Some(30));
    assert_eq!(meta.deletion_timestamp.as_ref().unwrap().0.to_string(), "2025-01-01T00:00:30Z");
    assert_eq!(meta.generation, Some(2));
    // The period becomes shorter, never longer.
    let grace = |seconds| DeleteParams { grace_period_seconds: Some(seconds), ..DeleteParams::default() };
    for (asked, left) in [(60, 30), (5, 5)] {
        let Deleted::Pending(pod) = cluster.pods.delete("runs", &grace(asked)).await.unwrap() else {
            panic!("not yet")
        };
        assert_eq!(pod.meta().deletion_grace_period_seconds, Some(left));
    }
    assert!(matches!(cluster.pods.delete("runs", &grace(0)).await.unwrap(), Deleted::Gone(_)));
    cluster.create("done").await;
    cluster.bind("done").await;
    cluster.patch("done", Subresource::Status, json!({ "status": { "phase": "Succeeded" } })).await.unwrap();
    assert!(matches!(cluster.pods.delete("done", &DeleteParams::default()).await.unwrap(), Deleted::Gone(_)));
}

#[tokio::test]
async fn a_namespace_goes_with_its_last_finalizer() {
    let cluster = Cluster::start().await;
    let spaces = Api::<Namespace>::all(Arc::clone(&cluster.client));
    let space: Namespace = serde_json::from_value(json!({ "metadata": { "name": "space" } })).unwrap();
    spaces.create(space, &PostParams::default()).await.unwrap();
    assert!(matches!(spaces.delete("space", &DeleteParams::default()).await.unwrap(), Deleted::Pending(_)));
    let mut space = Namespace::clone(&*spaces.get("space").await.unwrap());
    space.spec.finalizers.clear();
    let unchanged = spaces.update(space.clone(), &PostParams::default()).await.unwrap();
    assert_eq!(unchanged.spec.finalizers, ["kubernetes"], "only `finalize` lets it go");
    let finalize = Some(Subresource::Finalize);
    cluster.client.update(Box::new(space), finalize, &PostParams::default()).await.unwrap();
    assert!(spaces.get_opt("space").await.unwrap().is_none());
}

fn budget(value: Value) -> PodDisruptionBudget {
    serde_json::from_value(value).unwrap()
}

#[tokio::test]
async fn an_eviction_asks_the_budget() {
    let cluster = Cluster::start().await;
    let evict = async |name: &str| {
        let target = Target { kind: KindType::of::<Pod>(), namespace: "default", name };
        cluster.registry.evict(target, &DeleteParams::default()).await
    };
    for name in ["a", "b", "c"] {
        cluster.create(name).await;
    }
    // A pod that does not run yet is nobody's loss.
    let everyone = json!({ "metadata": { "name": "all" }, "spec": { "selector": {}, "minAvailable": 1 } });
    let budgets = Api::<PodDisruptionBudget>::namespaced(Arc::clone(&cluster.client), "default");
    budgets.create(budget(everyone), &PostParams::default()).await.unwrap();
    assert!(matches!(evict("a").await.unwrap(), Deleted::Gone(_)));
    for name in ["b", "c"] {
        let ready = json!([{ "type": "Ready", "status": "True" }]);
        let status = json!({ "status": { "phase": "Running", "conditions": ready } });
        cluster.patch(name, Subresource::Status, status).await.unwrap();
    }
    let error = evict("b").await.unwrap_err();
    assert_eq!(
        (error.code(), error.to_string().as_str()),
        (429, "Cannot evict pod as it would violate the pod's disruption budget.")
    );
    let Error::Api(status) = error else { panic!("the server refused") };
    let cause = &status.details.as_ref().unwrap().causes[0];
    assert_eq!(
        (cause.reason.as_str(), cause.message.as_str()),
        ("DisruptionBudget", "The disruption budget all is still being processed by the server.")
    );
    let counted = json!({ "status": {
        "observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2,
    } });
    budgets.patch_status("all", &Patch::Merge(counted), &PatchParams::default()).await.unwrap();
    let Deleted::Gone(gone) = evict("b").await.unwrap() else { panic!("it runs nowhere") };
    let why = gone.as_any().downcast_ref::<Pod>().unwrap().status.conditions.last().cloned().unwrap();
    assert_eq!((why.type_.as_str(), why.reason.as_str()), ("DisruptionTarget", "EvictionByEvictionAPI"));
    let left = budgets.get("all").await.unwrap();
    assert_eq!((left.status.disruptions_allowed, left.status.disrupted_pods.len()), (0, 1));
    let error = evict("c").await.unwrap_err();
    let Error::Api(status) = error else { panic!("the server refused") };
    let cause = &status.details.as_ref().unwrap().causes[0];
    assert_eq!(cause.message, "The disruption budget all needs 1 healthy pods and has 2 currently");
}

/// What is noted of a renewal without looking must be what looking would have noted.
#[tokio::test]
async fn a_renewed_lease_is_owned_as_any_updated_object() {
    let cluster = Cluster::start().await;
    let leases = Api::<Lease>::namespaced(Arc::clone(&cluster.client), "kube-node-lease");
    let renew = |lease: &Lease, second| {
        let mut lease = lease.clone();
        lease.spec.renew_time = Some(MicroTime(jiff::Timestamp::from_second(second).unwrap()));
        lease
    };
    let lease: Lease =
        serde_json::from_value(json!({ "metadata": { "name": "n" }, "spec": { "holderIdentity": "n" } })).unwrap();
    let first = leases.create(renew(&lease, 1), &PostParams::default()).await.unwrap();
    cluster.clock.advance(std::time::Duration::from_secs(10));
    let second = leases.update(renew(&first, 2), &PostParams::default()).await.unwrap();
    let mut expected = renew(&first, 2);
    field_manager(KindType::of::<Lease>(), "").update(Some(&*first), &mut expected, "test", cluster.clock.now());
    assert_eq!(second.metadata.managed_fields, expected.metadata.managed_fields);
    assert_ne!(second.metadata.managed_fields, first.metadata.managed_fields, "the time of the renewal is noted");
    // Another who renews it takes the field over.
    let other = PostParams { field_manager: Some("other".to_owned()), ..PostParams::default() };
    let third = leases.update(renew(&second, 3), &other).await.unwrap();
    let owners: Vec<_> = third
        .metadata
        .managed_fields
        .iter()
        .flatten()
        .filter(|entry| entry.fields_v1.as_ref().is_some_and(|fields| !fields.0["f:spec"]["f:renewTime"].is_null()))
        .map(|entry| entry.manager.clone().unwrap())
        .collect();
    assert_eq!(owners, ["other"]);
}
