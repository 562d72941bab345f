//! Many binders over two API servers on one store. Afterwards the store's whole history is replayed: at no revision does a
//! pod come to a node that has no room for it (what is resized waits for its node's agent), is a pod bound twice, or does a record differ from the pods that are there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use longshore_core::api::{Node, Pod};
use longshore_core::client::params::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use longshore_core::client::{Api, Bind, Client, Error, Target};
use longshore_core::clock::SystemClock;
use longshore_core::kind::{KindType, Subresource};
use longshore_core::store::{MemoryStore, Store, WatchEvent};
use longshore_core::testing::faults::{Faults, FaultyStore};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{Claim, Entry, PREFIX, Record};
use crate::{LocalClient, Options, Registry};

const NODES: usize = 3;
const PODS: usize = 60;

async fn client(store: Arc<dyn Store>, seed: u64) -> Arc<dyn Client> {
    let registry = Registry::start(store, Arc::new(SystemClock::new()), Options::new(seed)).await.unwrap();
    Arc::new(LocalClient::new(registry, "test"))
}

fn node(name: &str) -> Node {
    serde_json::from_value(json!({
        "metadata": { "name": name },
        "status": { "allocatable": { "cpu": "4", "memory": "4Gi", "pods": "7", "example.com/gpu-milli": "2000" } },
    }))
    .unwrap()
}

fn pod(number: usize) -> Pod {
    let port = if number.is_multiple_of(5) { json!([{ "containerPort": 80, "hostPort": 80 }]) } else { json!([]) };
    let mut requests = json!({ "cpu": format!("{}m", 300 + number % 4 * 200), "memory": "64Mi" });
    let mut limits = json!({});
    if number.is_multiple_of(2) {
        (requests["example.com/gpu-milli"], limits["example.com/gpu-milli"]) = ("500".into(), "500".into());
    }
    serde_json::from_value(json!({
        "metadata": { "name": format!("p{number}") },
        "spec": { "containers": [{
            "name": "c", "image": "i", "ports": port, "resources": { "requests": requests, "limits": limits },
        }] },
    }))
    .unwrap()
}

/// What a scheduler writes that chose this GPU.
fn told(device: usize) -> BTreeMap<String, String> {
    let told = json!({ "c": { "example.com/gpu": { format!("gpu-{device}"): 500 } } });
    [("longshore.dev/devices".to_owned(), told.to_string())].into()
}

async fn set_up(client: &Arc<dyn Client>) {
    let nodes = Api::<Node>::all(Arc::clone(client));
    for number in 0..NODES {
        nodes.create(node(&format!("n{number}")), &PostParams::default()).await.unwrap();
    }
    let pods = Api::<Pod>::namespaced(Arc::clone(client), "default");
    for number in 0..PODS {
        pods.create(pod(number), &PostParams::default()).await.unwrap();
    }
}

async fn patch(
    client: &Arc<dyn Client>,
    name: &str,
    subresource: Subresource,
    patch: &Patch<Value>,
) -> Result<(), Error> {
    let target = Target { kind: KindType::of::<Pod>(), namespace: "default", name };
    client.patch(target, Some(subresource), patch, &PatchParams::default()).await.map(drop)
}

/// Tries again as long as the outcome is unknown; what counts is what is stored in the end.
async fn insist<T, F: Future<Output = Result<T, Error>>>(mut attempt: impl FnMut() -> F) -> Result<T, Error> {
    loop {
        match attempt().await {
            Err(Error::Unavailable { .. }) => tokio::task::yield_now().await,
            outcome => return outcome,
        }
    }
}

/// One binder: places pods at random, and ends, resizes and deletes some.
async fn work(client: Arc<dyn Client>, seed: u64, bound: Arc<AtomicUsize>) {
    let mut random = Pcg64::seed_from_u64(seed);
    let pods = Api::<Pod>::namespaced(Arc::clone(&client), "default");
    for _ in 0..60 {
        let name = format!("p{}", random.random_range(0..PODS));
        let outcome = match random.random_range(0..12) {
            0 => {
                let gone = Patch::Merge(json!({ "status": { "phase": "Succeeded" } }));
                let subresource = Subresource::Status;
                insist(|| patch(&client, &name, subresource, &gone)).await
            }
            1 => {
                let params = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
                insist(|| pods.delete(&name, &params)).await.map(drop)
            }
            2 => {
                let cpu = format!("{}m", random.random_range(100..1500));
                let container = json!([{ "name": "c", "resources": { "requests": { "cpu": cpu } } }]);
                let larger = Patch::Strategic(json!({ "spec": { "containers": container } }));
                let subresource = Subresource::Resize;
                insist(|| patch(&client, &name, subresource, &larger)).await
            }
            3 => {
                let mut placed = pod(1);
                placed.metadata.name = Some(format!("placed-{seed}-{}", random.random_range(0..1_000_000)));
                placed.spec.node_name = format!("n{}", random.random_range(0..NODES));
                let params = PostParams::default();
                insist(|| pods.create(placed.clone(), &params)).await.map(drop)
            }
            _ => {
                let node = format!("n{}", random.random_range(0..NODES));
                let annotations = told(random.random_range(0..2));
                let bind = Bind { namespace: "default".into(), pod: name, node, annotations, ..Bind::default() };
                insist(|| client.bind(&bind)).await.map(|()| {
                    bound.fetch_add(1, Ordering::Relaxed);
                })
            }
        };
        if let Err(error) = outcome {
            let expected = error.is_conflict() || error.is_not_found() || error.is_already_exists();
            assert!(expected, "{error}");
        }
    }
}

/// Replays the store's history and answers how many pods were bound.
async fn audit(store: &dyn Store) -> usize {
    let end = store.status().await.unwrap().revision;
    let mut watch = store.watch("", 1).await.unwrap();
    let allocatable = node("n").status.allocatable;
    let (mut pods, mut records) = (BTreeMap::<String, (String, Option<Claim>)>::new(), BTreeMap::new());
    let (mut bound, mut reached) = (0, 0);
    let mut charged_before = BTreeMap::<String, usize>::new();
    while reached < end {
        let (revision, changes) = match watch.next().await.unwrap().unwrap() {
            WatchEvent::Progress(_) => continue,
            WatchEvent::Changes { revision, changes } => (revision, changes),
        };
        reached = revision;
        for change in changes {
            if let Some(node) = change.key.strip_prefix(PREFIX) {
                match change.value {
                    Some(value) => drop(records.insert(node.to_owned(), serde_json::from_slice(&value).unwrap())),
                    None => drop(records.remove(node)),
                }
            } else if change.key.starts_with("/registry//pods/") {
                let Some(value) = change.value else {
                    pods.remove(&change.key);
                    continue;
                };
                let pod: Pod = serde_json::from_slice(&value).unwrap();
                let claim = Claim::of(&pod);
                let before = pods.insert(change.key.clone(), (pod.spec.node_name.clone(), claim));
                if let Some((before, _)) = before
                    && before != pod.spec.node_name
                {
                    assert_eq!(before, "", "a pod never moves");
                    bound += 1;
                }
            }
        }
        let mut expected = BTreeMap::<String, Record>::new();
        for claim in pods.values().filter_map(|(_, claim)| claim.as_ref()) {
            let known = records.get(&claim.node).and_then(|record: &Record| record.pods.get(&claim.uid));
            let entry = Entry::new(claim, known.is_some_and(|entry| entry.uncharged));
            expected.entry(claim.node.clone()).or_default().pods.insert(claim.uid.clone(), entry);
        }
        let differs: Vec<_> = records.iter().filter(|(node, record)| expected.get(*node) != Some(record)).collect();
        assert!(differs.is_empty() && records.len() == expected.len(), "at revision {revision}: {differs:?}");
        charged_before.retain(|node, _| records.contains_key(node));
        for (node, record) in &records {
            let charged: Vec<_> = record.pods.values().filter(|entry| !entry.uncharged).collect();
            assert!(charged.len() as i64 <= allocatable["pods"].value(), "{node} at {revision}");
            let came = charged.len() > charged_before.insert(node.clone(), charged.len()).unwrap_or(0);
            for (resource, limit) in [("cpu", 4000), ("memory", 4 << 30)].into_iter().filter(|_| came) {
                let taken: i64 = charged.iter().filter_map(|entry| entry.charge.amounts.get(resource)).sum();
                assert!(taken <= limit, "{node} has {taken} of {resource} taken at revision {revision}");
            }
            for device in ["gpu-0", "gpu-1"] {
                let of = |entry: &&Entry| entry.charge.devices.get("example.com/gpu")?.get(device).copied();
                let taken: i64 = charged.iter().copied().filter_map(|entry| of(&entry)).sum();
                assert!(taken <= 1000, "{taken} thousandths of {node}'s {device} are taken at revision {revision}");
            }
            assert!(charged.iter().filter(|entry| !entry.charge.ports.is_empty()).count() <= 1, "{node} at {revision}");
        }
    }
    bound
}

async fn run(store: Arc<dyn Store>, clients: [Arc<dyn Client>; 2]) -> (usize, usize) {
    let bound = Arc::new(AtomicUsize::new(0));
    let mut binders = JoinSet::new();
    for seed in 0..8 {
        binders.spawn(work(Arc::clone(&clients[seed as usize % 2]), seed, Arc::clone(&bound)));
    }
    tokio::time::timeout(Duration::from_secs(60), binders.join_all()).await.expect("the binders come to an end");
    (bound.load(Ordering::Relaxed), audit(&*store).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_servers_never_overcommit_a_node() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let clients = [client(Arc::clone(&store), 1).await, client(Arc::clone(&store), 2).await];
    set_up(&clients[0]).await;
    let (acknowledged, happened) = run(store, clients).await;
    assert_eq!(acknowledged, happened, "each bind that was acknowledged happened once");
    assert!(happened > NODES, "{happened}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nor_do_they_when_the_store_fails_and_outcomes_are_unknown() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    set_up(&client(Arc::clone(&store), 3).await).await;
    let faults = Faults { delay: 0.0, ..Faults::some() };
    let faulty = |seed| Arc::new(FaultyStore::new(Arc::clone(&store), Faults::none(), seed));
    let stores = [faulty(1), faulty(2)];
    let clients = [client(stores[0].clone(), 1).await, client(stores[1].clone(), 2).await];
    stores.iter().for_each(|store| store.set_faults(faults));
    let (acknowledged, happened) = run(Arc::clone(&store), clients).await;
    assert!(happened >= acknowledged && happened > NODES, "{acknowledged} of {happened}");
    // A server that starts on what is left finds nothing to put right.
    let before = store.status().await.unwrap().revision;
    client(Arc::clone(&store), 4).await;
    assert_eq!(store.status().await.unwrap().revision, before);
}

/// What a server remembers of a record may be older than what it knows of a pod.
#[tokio::test]
async fn a_remembered_record_is_not_trusted_when_nothing_seems_to_change() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let (one, two) = (client(Arc::clone(&store), 1).await, client(Arc::clone(&store), 2).await);
    set_up(&one).await;
    let bind = |pod: &str| Bind { namespace: "default".into(), pod: pod.into(), node: "n0".into(), ..Bind::default() };
    one.bind(&bind("p1")).await.unwrap();
    two.bind(&bind("p2")).await.unwrap();
    let pods = Api::<Pod>::namespaced(one, "default");
    pods.list(&ListParams::default()).await.unwrap();
    let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    pods.delete("p2", &now).await.unwrap();
    assert_eq!(audit(&*store).await, 2);
}

#[tokio::test]
async fn a_pod_without_room_is_made_uncharged_and_charged_once_it_runs() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let client = client(Arc::clone(&store), 1).await;
    Api::<Node>::all(Arc::clone(&client)).create(node("n0"), &PostParams::default()).await.unwrap();
    let pods = Api::<Pod>::namespaced(Arc::clone(&client), "default");
    let placed = |name: &str, cpu: &str| {
        let mut placed = pod(1);
        placed.metadata.name = Some(name.to_owned());
        placed.spec.node_name = "n0".to_owned();
        placed.spec.containers[0].resources.requests.insert("cpu".to_owned(), cpu.parse().unwrap());
        placed
    };
    let record = async || -> Value {
        let value = store.get(&format!("{PREFIX}n0")).await.unwrap().value.unwrap().value;
        let record: Value = serde_json::from_slice(&value).unwrap();
        record["pods"].as_object().unwrap().values().map(|entry| json!([entry["pod"], entry["uncharged"]])).collect()
    };
    pods.create(placed("big", "5"), &PostParams::default()).await.unwrap();
    assert_eq!(record().await, json!([["default/big", true]]));
    // What is not charged takes no room.
    pods.create(placed("small", "4"), &PostParams::default()).await.unwrap();
    let status = Patch::Merge(json!({ "status": { "phase": "Running" } }));
    patch(&client, "big", Subresource::Status, &status).await.unwrap();
    let mut both = record().await;
    both.as_array_mut().unwrap().sort_by_key(ToString::to_string);
    assert_eq!(both, json!([["default/big", null], ["default/small", null]]));
    let waiting = pod(2);
    pods.create(waiting, &PostParams::default()).await.unwrap();
    let bind =
        |node: &str| Bind { namespace: "default".into(), pod: "p2".into(), node: node.into(), ..Bind::default() };
    let error = client.bind(&bind("n0")).await.unwrap_err();
    assert!(error.is_conflict());
    assert_eq!(
        error.to_string(),
        "Operation cannot be fulfilled on pods \"p2\": node \"n0\" cannot take the pod: it has too little cpu: the pod \
         asks for 700m, 9 of 4 are taken"
    );
    let error = client.bind(&bind("nowhere")).await.unwrap_err();
    assert!(error.is_conflict() && error.to_string().ends_with("it does not exist"), "{error}");
    for name in ["big", "small"] {
        let params = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        pods.delete(name, &params).await.unwrap();
    }
    assert!(store.get(&format!("{PREFIX}n0")).await.unwrap().value.is_none(), "a node without pods has no record");
    client.bind(&bind("n0")).await.unwrap();
}

/// What a server knows of a node may be out of date too; the commit compares the node.
#[tokio::test]
async fn a_node_that_shrank_or_went_takes_nothing_more() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let (one, two) = (client(Arc::clone(&store), 1).await, client(Arc::clone(&store), 2).await);
    set_up(&one).await;
    let nodes = Api::<Node>::all(Arc::clone(&one));
    let bind = |pod: &str, node: &str| Bind {
        namespace: "default".into(),
        pod: pod.into(),
        node: node.into(),
        ..Bind::default()
    };
    two.bind(&bind("p1", "n0")).await.unwrap();
    let smaller = |cpu: &str| Patch::Merge(json!({ "status": { "allocatable": { "cpu": cpu } } }));
    nodes.patch_status("n0", &smaller("1"), &PatchParams::default()).await.unwrap();
    let error = two.bind(&bind("p2", "n0")).await.unwrap_err();
    assert!(error.to_string().ends_with("the pod asks for 700m, 500m of 1 are taken"), "{error}");
    nodes.patch_status("n0", &smaller("1200m"), &PatchParams::default()).await.unwrap();
    two.bind(&bind("p2", "n0")).await.unwrap();
    nodes.delete("n1", &DeleteParams::default()).await.unwrap();
    let error = two.bind(&bind("p3", "n1")).await.unwrap_err();
    assert!(error.is_conflict() && error.to_string().ends_with("it does not exist"), "{error}");
    // A node that comes back finds the pods that are still there.
    nodes.delete("n0", &DeleteParams::default()).await.unwrap();
    nodes.create(node("n0"), &PostParams::default()).await.unwrap();
    let error = two.bind(&bind("p0", "n0")).await;
    assert!(error.is_ok(), "{error:?}");
    let Err(error) = two.bind(&bind("p5", "n0")).await else { panic!("both want port 80") };
    assert!(error.to_string().ends_with("its port 80/TCP on 0.0.0.0 is taken by pod default/p0"), "{error}");
    assert_eq!(audit(&*store).await, 3);
}
