//! A whole control plane and one agent in this process, and what they have their pods run by.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::StreamExt;
use longshore_cluster::{ControlPlane, ControlPlaneOptions};
use longshore_core::api::{Node, ServiceAccount};
use longshore_core::client::params::WatchParams;
use longshore_core::client::{Api, Client, WatchEvent};
use longshore_core::clock::{Clock, SystemClock};
use longshore_core::kind::Kind;
use longshore_core::network::Network;
use longshore_core::runtime::Runtime;
use longshore_core::store::MemoryStore;
use longshore_network::Bridge;
use longshore_node::{NodeAgent, Options as NodeOptions};
use longshore_runtime_docker::{DockerRuntime, Options as DockerOptions};
use longshore_runtime_oci::{OciRuntime, Options as OciOptions};

use crate::{BUSYBOX, Outcome, bare, left};

/// The image of all pods: busybox alone.
pub(crate) const IMAGE: &str = "longshore.local/bench:1";
const NODE: &str = "bench";

/// Who runs the containers.
enum Kept {
    Oci(Arc<OciRuntime>),
    Docker(Arc<DockerRuntime>),
}

/// Who is to run the containers.
pub(crate) enum Wanted<'a> {
    /// runc, by Longshore's own runtime with this program's shim.
    Runc(&'a Path),
    /// The Docker Engine at this address.
    Docker(&'a str),
}

/// See the [module](self).
pub(crate) struct Place {
    pub(crate) client: Arc<dyn Client>,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) clock: Arc<SystemClock>,
    /// The program whose shims there are, if there are any.
    pub(crate) shim: Option<PathBuf>,
    directory: tempfile::TempDir,
    instance: String,
    kept: Kept,
    bridge: Bridge,
    control: ControlPlane,
}

impl Place {
    /// Starts everything and waits until the node takes pods.
    pub(crate) async fn start(wanted: Wanted<'_>) -> Outcome<Self> {
        let directory = tempfile::tempdir()?;
        let instance = format!("bn{:x}", std::process::id() & 0xffff);
        let clock = Arc::new(SystemClock::new());
        let kept = match wanted {
            Wanted::Runc(shim) => Kept::Oci(Arc::new(oci(directory.path(), shim, &instance, clock.clone()).await?)),
            Wanted::Docker(host) => {
                Kept::Docker(Arc::new(docker(host, directory.path(), &instance, clock.clone()).await?))
            }
        };
        let runtime: Arc<dyn Runtime> = match &kept {
            Kept::Oci(runtime) => runtime.clone(),
            Kept::Docker(runtime) => runtime.clone(),
        };
        let bridge = bare::bridge(directory.path(), &instance, ["10.99.0.0/21", "10.98.0.0/20"]).await?;
        let mut control =
            ControlPlane::start(Arc::new(MemoryStore::new()), clock.clone(), ControlPlaneOptions::new(1)).await?;
        let mut options = NodeOptions::new(NODE, directory.path().join("node"), 1);
        options.max_pods = 2000;
        options.addresses = vec![bridge.gateway()];
        let network = Arc::new(bridge.clone());
        let agent = NodeAgent::new(control.client("kubelet"), runtime.clone(), network, clock.clone(), options);
        control.start_node(NODE, agent);
        let client = control.client("bench");
        let shim = if let Wanted::Runc(shim) = wanted { Some(shim.to_owned()) } else { None };
        let place = Self { client, runtime, clock, shim, directory, instance, kept, bridge, control };
        place
            .until::<Node>(|node| {
                node.status.conditions.iter().any(|of| of.type_ == "Ready" && of.status.as_str() == "True")
            })
            .await?;
        place.until::<ServiceAccount>(|account| account.metadata.name.as_deref() == Some("default")).await?;
        Ok(place)
    }

    /// Ends everything; it is an error if something is left of it.
    pub(crate) async fn stop(self) -> Outcome {
        self.control.stop().await;
        match &self.kept {
            Kept::Oci(runtime) => runtime.clean_up().await?,
            Kept::Docker(runtime) => runtime.clean_up().await?,
        }
        self.bridge.clean_up().await?;
        left::nothing(&self.instance, self.directory.path())
    }

    /// Where the containers' logs are.
    pub(crate) fn logs(&self) -> PathBuf {
        self.directory.path().join("node/logs")
    }

    pub(crate) fn api<K: Kind>(&self) -> Api<K> {
        if K::INFO.namespaced { Api::namespaced(self.client.clone(), "default") } else { Api::all(self.client.clone()) }
    }

    /// Waits for an object that is as wanted.
    pub(crate) async fn until<K: Kind>(&self, wanted: impl Fn(&K) -> bool) -> Outcome {
        let mut watch = self.api::<K>().watch(&WatchParams::default(), "").await?;
        while let Some(event) = watch.next().await {
            if let WatchEvent::Added(object) | WatchEvent::Modified(object) = event?
                && wanted(&object)
            {
                return Ok(());
            }
        }
        Err(format!("the watch of {} ended", K::INFO.plural).into())
    }
}

async fn oci(directory: &Path, shim: &Path, instance: &str, clock: Arc<dyn Clock>) -> Outcome<OciRuntime> {
    let options = OciOptions {
        root: directory.join("images"),
        state: directory.join("state"),
        instance: instance.to_owned(),
        program: Some("runc".into()),
        shim: shim.to_owned(),
        registries: BTreeMap::new(),
    };
    let runtime = OciRuntime::open(options, clock)?;
    let file = longshore_runtime_oci::ImageFile { target: BUSYBOX.into(), source: BUSYBOX.into(), mode: 0o755 };
    runtime.build_image(IMAGE, vec![file], Vec::new()).await?;
    Ok(runtime)
}

async fn docker(host: &str, directory: &Path, instance: &str, clock: Arc<dyn Clock>) -> Outcome<DockerRuntime> {
    let options =
        DockerOptions { host: host.to_owned(), state: directory.join("state"), instance: instance.to_owned() };
    let runtime = DockerRuntime::open(options, clock).await?;
    let file = longshore_runtime_docker::ImageFile { target: BUSYBOX.into(), source: BUSYBOX.into(), mode: 0o755 };
    runtime.build_image(IMAGE, vec![file], Vec::new()).await?;
    Ok(runtime)
}
