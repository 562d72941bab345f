//! A real cluster inside a test: API server, controllers, scheduler and simulated nodes in one process, without port,
//! certificates or Docker.
//!
//! ```
//! use longshore_cluster::testing::Cluster;
//! use longshore_core::api::Pod;
//! use longshore_core::client::params::PostParams;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cluster = Cluster::start().await;
//! let pods = cluster.api::<Pod>("default");
//! let pod = serde_json::from_value(serde_json::json!({
//!     "metadata": {"name": "web"},
//!     "spec": {"containers": [{"name": "web", "image": "web:1"}]},
//! }))?;
//! pods.create(pod, &PostParams::default()).await?;
//! let pod = cluster.until("default", "web", |pod: &Pod| pod.status.phase.as_str() == "Running").await;
//! assert!(!pod.status.pod_ip.is_empty());
//! # cluster.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! What is written with kube-rs works on it unchanged: [`Cluster::kube`] is a `kube::Client`.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use longshore_apiserver::HttpService;
use longshore_core::client::params::WatchParams;
use longshore_core::client::{Api, Client, WatchEvent};
use longshore_core::clock::{Clock, SystemClock, VirtualClock};
use longshore_core::kind::Kind;
use longshore_core::store::{MemoryStore, Store};
use longshore_node::Options as NodeOptions;
use longshore_node::devices::{DevicePlugin, FakeGpus};

use crate::control_plane::{ControlPlane, ControlPlaneOptions};
use crate::machine;

/// Longest real time that [`Cluster::until`] waits.
const PATIENCE: Duration = Duration::from_secs(30);

/// Most virtual time that passes in one [`Cluster::until`]: beyond a day nothing new happens.
const VIRTUAL_PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// How often everybody gets a turn before virtual time moves on.
const TURNS: usize = 100;

/// What cluster a test needs. Made by [`Cluster::builder`].
#[derive(Debug)]
#[must_use]
pub struct Builder {
    nodes: u32,
    store: Option<Arc<dyn Store>>,
    virtual_time: bool,
    gpus: usize,
    options: ControlPlaneOptions,
}

impl Builder {
    /// How many nodes; 1 if not called. With 0 pods stay pending.
    pub fn nodes(mut self, nodes: u32) -> Self {
        self.nodes = nodes;
        self
    }

    /// Each node has so many GPUs, which pods may have in parts: [`FakeGpus`].
    pub fn gpus(mut self, count: usize) -> Self {
        self.gpus = count;
        self
    }

    /// A store that exists already, to start on what another cluster left.
    pub fn store(mut self, store: Arc<dyn Store>) -> Self {
        self.store = Some(store);
        self
    }

    /// Time that moves only while [`Cluster::until`] waits or [`Cluster::advance`] is called: an hour takes a moment.
    pub fn virtual_time(mut self) -> Self {
        self.virtual_time = true;
        self
    }

    /// No controllers: nobody but the test acts on what it creates.
    pub fn without_controllers(mut self) -> Self {
        self.options.controllers = None;
        self
    }

    /// No scheduler: for tests of one's own.
    pub fn without_scheduler(mut self) -> Self {
        self.options.scheduler = None;
        self
    }

    /// The parts of the control plane in detail.
    pub fn control_plane(mut self, change: impl FnOnce(&mut ControlPlaneOptions)) -> Self {
        change(&mut self.options);
        self
    }

    /// Starts the cluster.
    ///
    /// # Panics
    /// If the given store holds what cannot be read.
    pub async fn start(self) -> Cluster {
        let virtual_clock = self.virtual_time.then(VirtualClock::new);
        let clock: Arc<dyn Clock> = match &virtual_clock {
            Some(clock) => Arc::new(clock.clone()),
            None => Arc::new(SystemClock::new()),
        };
        let store = self.store.unwrap_or_else(|| Arc::new(MemoryStore::new()));
        let control = ControlPlane::start(store, clock.clone(), self.options).await;
        let mut control = control.unwrap_or_else(|error| panic!("{error}"));
        let directory = tempfile::tempdir().unwrap_or_else(|error| panic!("no directory for volumes: {error}"));
        for number in 1..=self.nodes {
            let range = format!("10.{}.{}.0/24", 64 + number / 256, number % 256);
            let range = range.parse().expect("numbers below 256 make a range");
            let name = format!("node-{number}");
            let mut options = NodeOptions::new(&name, directory.path().join(&name), u64::from(number));
            if self.gpus > 0 {
                let gpus = Arc::new(FakeGpus::new(self.gpus));
                options.shared_devices.insert(gpus.resource().to_owned());
                options.device_plugins.push(gpus);
            }
            let agent = machine::hollow(control.client(&name), range, &clock, options);
            control.start_node(&name, agent);
        }
        Cluster { client: control.client("test"), control, clock, virtual_clock, _directory: directory }
    }
}

/// A cluster in this process; see the [module](self). As many as one likes can live side by side.
#[derive(Debug)]
pub struct Cluster {
    client: Arc<dyn Client>,
    control: ControlPlane,
    clock: Arc<dyn Clock>,
    virtual_clock: Option<VirtualClock>,
    /// Volumes and logs.
    _directory: tempfile::TempDir,
}

impl Cluster {
    /// A cluster with one node, in real time.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// To choose what the cluster has.
    pub fn builder() -> Builder {
        Builder { nodes: 1, store: None, virtual_time: false, gpus: 0, options: ControlPlaneOptions::new(0) }
    }

    /// Longshore's client, without serialization.
    pub fn client(&self) -> &Arc<dyn Client> {
        &self.client
    }

    /// The typed front of [`Cluster::client`] for one namespace; for kinds without namespaces any text does.
    pub fn api<K: Kind>(&self, namespace: &str) -> Api<K> {
        if K::INFO.namespaced { Api::namespaced(self.client.clone(), namespace) } else { Api::all(self.client.clone()) }
    }

    /// The API over HTTP as a tower service, without a port.
    pub fn service(&self) -> HttpService {
        self.control.service()
    }

    /// A kube-rs client, whose default namespace is `default`.
    pub fn kube(&self) -> kube::Client {
        kube::Client::new(self.service(), "default")
    }

    /// The control plane.
    pub fn control_plane(&self) -> &ControlPlane {
        &self.control
    }

    /// The cluster's clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Lets everything happen that can happen now, then moves virtual time on, step by step.
    ///
    /// # Panics
    /// If the cluster was started without [`Builder::virtual_time`].
    pub async fn advance(&self, duration: Duration) {
        let clock = self.virtual_clock.as_ref().expect("the cluster was started with virtual time");
        let end = clock.elapsed() + duration;
        loop {
            turns().await;
            let sleep = clock.sleep(end.saturating_sub(clock.elapsed()));
            tokio::pin!(sleep);
            if futures::poll!(&mut sleep).is_ready() {
                return;
            }
            clock.advance_to_next();
        }
    }

    /// Waits until an object exists and is as `wanted` says, and returns it so.
    ///
    /// # Panics
    /// After 30 s, or a virtual day, with the object's last state.
    pub async fn until<K: Kind>(&self, namespace: &str, name: &str, wanted: impl Fn(&K) -> bool) -> Arc<K> {
        let api = self.api::<K>(namespace);
        let params = WatchParams { field_selector: Some(format!("metadata.name={name}")), ..WatchParams::default() };
        let start = self.clock.elapsed();
        let mut last = None;
        let watch = async {
            loop {
                let Ok(mut watch) = api.watch(&params, "").await else { continue };
                while let Some(Ok(event)) = watch.next().await {
                    match event {
                        WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                            last = Some(object.clone());
                            if wanted(&object) {
                                return object;
                            }
                        }
                        WatchEvent::Deleted(_) => last = None,
                        WatchEvent::Bookmark { .. } => {}
                    }
                }
            }
        };
        let found = match &self.virtual_clock {
            None => tokio::time::timeout(PATIENCE, watch).await.ok(),
            Some(clock) => {
                tokio::select! {
                    biased;
                    object = watch => Some(object),
                    () = async {
                        while clock.elapsed() - start < VIRTUAL_PATIENCE {
                            turns().await;
                            clock.advance_to_next();
                        }
                    } => None,
                }
            }
        };
        found.unwrap_or_else(|| panic!("{} {namespace}/{name} did not become as wanted: {last:#?}", K::INFO.kind))
    }

    /// Waits until an object is gone.
    ///
    /// # Panics
    /// As [`Cluster::until`].
    pub async fn until_gone<K: Kind>(&self, namespace: &str, name: &str) {
        let api = self.api::<K>(namespace);
        let start = self.clock.elapsed();
        loop {
            match api.get_opt(name).await {
                Ok(None) => return,
                state => {
                    let patience = if self.virtual_clock.is_some() { VIRTUAL_PATIENCE } else { PATIENCE };
                    let waited = self.clock.elapsed() - start;
                    assert!(waited < patience, "{} {namespace}/{name} is still there: {state:#?}", K::INFO.kind);
                }
            }
            match &self.virtual_clock {
                Some(clock) => {
                    turns().await;
                    clock.advance_to_next();
                }
                None => self.clock.sleep(Duration::from_millis(5)).await,
            }
        }
    }

    /// Stops everything and waits for its end. Dropping the cluster aborts it instead, which is as good in most tests.
    pub async fn stop(self) {
        self.control.stop().await;
    }
}

/// Gives every task a chance to go on.
async fn turns() {
    for _ in 0..TURNS {
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
#[path = "testing_tests.rs"]
mod tests;
