//! The whole scheduler: pods are created through the API, queued, decided on and bound, all in one process.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::StreamExt;
use longshore_cluster::{ControlPlane, ControlPlaneOptions};
use longshore_core::api::pod::Pod;
use longshore_core::api::{Namespace, Node};
use longshore_core::client::params::{ListParams, PostParams, WatchParams};
use longshore_core::client::{Api, WatchEvent};
use longshore_core::clock::{Clock, SystemClock};
use longshore_core::store::{MemoryStore, Store};
use longshore_storage_embedded::EmbeddedStore;
use tokio::task::JoinSet;

use crate::{Measured, Outcome, resident_mib};
use longshore_simulator::generate::scheduler_perf::{Workload, pod};

/// How many pods are created at once.
const WRITERS: usize = 64;

/// Runs a workload.
pub(crate) fn run(workload: &'static Workload, nodes: usize, store: &str) -> Outcome<Measured> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let directory = tempfile::tempdir()?;
    match store {
        "memory" => runtime.block_on(measure(workload, nodes, Arc::new(MemoryStore::new()))),
        "embedded" => {
            let store =
                Arc::new(EmbeddedStore::open(directory.path(), longshore_storage_embedded::Options::default())?);
            let measured = runtime.block_on(measure(workload, nodes, store.clone()));
            runtime.block_on(store.close());
            measured
        }
        other => Err(format!("there is no store {other}; there are: memory, embedded").into()),
    }
}

async fn measure(workload: &'static Workload, nodes: usize, store: Arc<dyn Store>) -> Outcome<Measured> {
    let mut options = ControlPlaneOptions::new(1);
    options.controllers = None;
    // Nobody makes service accounts here.
    options.registry.admission = Vec::new();
    let clock = Arc::new(SystemClock::new());
    let control = ControlPlane::start(store, clock.clone(), options).await?;
    let client = control.client("bench");
    let namespaces: Api<Namespace> = Api::all(client.clone());
    if namespaces.get_opt("default").await?.is_none() {
        let namespace = serde_json::from_value(serde_json::json!({ "metadata": { "name": "default" } }))?;
        namespaces.create(namespace, &PostParams::default()).await?;
    }
    let api: Api<Node> = Api::all(client.clone());
    for index in 0..nodes {
        api.create(workload.node(index), &PostParams::default()).await?;
    }
    let pods: Api<Pod> = Api::namespaced(client, "default");
    let initial: Vec<_> =
        workload.initial_pods(nodes).map(|(name, template, index)| pod(&name, template, index)).collect();
    let fitting = initial.iter().filter(|pod| workload.fits(pod)).map(name_of).collect();
    place(&pods, initial, fitting).await?;
    let measured: Vec<_> =
        workload.measured_pods(nodes).map(|(name, template, index)| pod(&name, template, index)).collect();
    let all: BTreeSet<String> = measured.iter().map(name_of).collect();
    let begin = clock.elapsed();
    place(&pods, measured, all.clone()).await?;
    let seconds = (clock.elapsed() - begin).as_secs_f64();
    let rss_mib = resident_mib();
    control.stop().await;
    Ok(Measured { pods: all.len(), seconds, times: Vec::new(), rss_mib })
}

fn name_of(pod: &Arc<Pod>) -> String {
    pod.metadata.name.clone().unwrap_or_default()
}

/// Creates pods and waits until those of these names are bound.
async fn place(api: &Api<Pod>, pods: Vec<Arc<Pod>>, mut waited: BTreeSet<String>) -> Outcome {
    let version = api.list(&ListParams { limit: Some(1), ..ListParams::default() }).await?.resource_version;
    let mut watch = api.watch(&WatchParams::default(), &version).await?;
    let create = async {
        let mut creations = futures::stream::iter(pods)
            .map(async |pod| {
                let mut new = Arc::unwrap_or_clone(pod);
                new.metadata.uid = None;
                api.create(new, &PostParams::default()).await
            })
            .buffer_unordered(WRITERS);
        while let Some(created) = creations.next().await {
            created?;
        }
        Outcome::Ok(())
    };
    // In a task of its own: while pods are created it must not fall behind.
    let mut watcher = JoinSet::new();
    watcher.spawn(async move {
        while !waited.is_empty() {
            match watch.next().await.ok_or("the watch ended")?? {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod) if !pod.spec.node_name.is_empty() => {
                    waited.remove(&name_of(&pod));
                }
                _ => {}
            }
        }
        Outcome::Ok(())
    });
    create.await?;
    watcher.join_next().await.ok_or("nobody watches")??
}
