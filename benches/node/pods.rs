//! Pods of a whole control plane and one agent, in this process.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use longshore_cluster::{ControlPlane, ControlPlaneOptions};
use longshore_core::api::{Node, Pod, ServiceAccount};
use longshore_core::client::params::{DeleteParams, PostParams, WatchParams};
use longshore_core::client::{Api, Client, WatchEvent};
use longshore_core::clock::{Clock, SystemClock};
use longshore_core::kind::Kind;
use longshore_core::network::Network;
use longshore_core::runtime::{ContainerRef, ExecRequest, Output, Runtime};
use longshore_core::store::MemoryStore;
use longshore_node::{NodeAgent, Options as NodeOptions};
use longshore_runtime_oci::{ImageFile, OciRuntime, Options as RuntimeOptions};
use serde_json::{from_value, json};

use crate::{BUSYBOX, Outcome, bare};

const IMAGE: &str = "longshore.local/bench:1";
const NODE: &str = "bench";

pub(crate) struct Measured {
    pub(crate) starts: Vec<Duration>,
    pub(crate) execs: Vec<Duration>,
    pub(crate) crowd: Crowd,
}

pub(crate) struct Crowd {
    /// Until all ran.
    pub(crate) running: Duration,
    /// Until all were gone.
    pub(crate) gone: Duration,
    /// Private memory of a shim, the mean.
    pub(crate) shim_kib: u64,
    /// By how much this process, which is the control plane too, grew.
    pub(crate) agent_kib: u64,
}

/// The parts that a crowd of pods needs.
struct Place {
    client: Arc<dyn Client>,
    runtime: Arc<OciRuntime>,
    clock: Arc<SystemClock>,
}

pub(crate) async fn measure(pods: usize, rounds: usize) -> Outcome<Measured> {
    let directory = tempfile::tempdir()?;
    let instance = format!("bn{:x}", std::process::id() & 0xffff);
    let clock = Arc::new(SystemClock::new());
    let runtime = Arc::new(open(directory.path(), &instance, clock.clone())?);
    let bridge = bare::bridge(directory.path(), &instance).await?;
    let mut control =
        ControlPlane::start(Arc::new(MemoryStore::new()), clock.clone(), ControlPlaneOptions::new(1)).await?;
    let mut options = NodeOptions::new(NODE, directory.path().join("node"), 1);
    options.max_pods = 2000;
    options.addresses = vec![bridge.gateway()];
    let network = Arc::new(bridge.clone());
    let agent = NodeAgent::new(control.client("kubelet"), runtime.clone(), network, clock.clone(), options);
    control.start_node(NODE, agent);
    let place = Place { client: control.client("bench"), runtime, clock };
    let measured = place.measure(pods, rounds).await;
    control.stop().await;
    place.runtime.clean_up().await?;
    bridge.clean_up().await?;
    measured
}

fn open(directory: &Path, instance: &str, clock: Arc<dyn Clock>) -> Outcome<OciRuntime> {
    let options = RuntimeOptions {
        root: directory.join("images"),
        state: directory.join("state"),
        instance: instance.to_owned(),
        program: Some("runc".into()),
        shim: std::env::current_exe()?,
        registries: BTreeMap::new(),
    };
    Ok(OciRuntime::open(options, clock)?)
}

fn pod(name: &str) -> Outcome<Pod> {
    Ok(from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "main", "image": IMAGE, "command": [BUSYBOX, "sleep", "1000000"],
                "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}},
            }],
        },
    }))?)
}

impl Place {
    fn api<K: Kind>(&self) -> Api<K> {
        if K::INFO.namespaced { Api::namespaced(self.client.clone(), "default") } else { Api::all(self.client.clone()) }
    }

    async fn measure(&self, pods: usize, rounds: usize) -> Outcome<Measured> {
        let file = ImageFile { target: BUSYBOX.into(), source: BUSYBOX.into(), mode: 0o755 };
        self.runtime.build_image(IMAGE, vec![file], Vec::new()).await?;
        self.until::<Node>(|node| {
            node.status.conditions.iter().any(|of| of.type_ == "Ready" && of.status.as_str() == "True")
        })
        .await?;
        self.until::<ServiceAccount>(|account| account.metadata.name.as_deref() == Some("default")).await?;
        let (mut starts, mut execs) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            let name = format!("one-{round}");
            starts.push(self.run(std::slice::from_ref(&name)).await?);
            execs.push(self.exec(&name).await?);
            self.delete(std::slice::from_ref(&name)).await?;
        }
        let names: Vec<String> = (0..pods).map(|number| format!("crowd-{number}")).collect();
        let before = resident("self", "VmRSS:");
        let running = self.run(&names).await?;
        let agent_kib = resident("self", "VmRSS:").saturating_sub(before);
        let shim_kib = shims();
        let begin = self.clock.elapsed();
        self.delete(&names).await?;
        // The object may go a moment before the last of what the node had of it.
        while !self.runtime.list().await?.is_empty() {
            self.clock.sleep(Duration::from_millis(2)).await;
        }
        let gone = self.clock.elapsed() - begin;
        Ok(Measured { starts, execs, crowd: Crowd { running, gone, shim_kib, agent_kib } })
    }

    /// Waits for an object that is as wanted.
    async fn until<K: Kind>(&self, wanted: impl Fn(&K) -> bool) -> Outcome {
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

    /// Creates pods at once and answers how long it takes until a watcher has seen all of them run.
    async fn run(&self, names: &[String]) -> Outcome<Duration> {
        let api = self.api::<Pod>();
        let mut watch = api.watch(&WatchParams::default(), "").await?;
        let begin = self.clock.elapsed();
        let creating = async {
            for name in names {
                api.create(pod(name)?, &PostParams::default()).await?;
            }
            Outcome::Ok(())
        };
        let mut waiting: BTreeMap<&str, ()> = names.iter().map(|name| (name.as_str(), ())).collect();
        let watching = async {
            while !waiting.is_empty() {
                let Some(event) = watch.next().await else { return Err("the watch of pods ended".into()) };
                let (WatchEvent::Added(pod) | WatchEvent::Modified(pod)) = event? else { continue };
                match pod.status.phase.as_str() {
                    "Running" => drop(waiting.remove(pod.metadata.name.as_deref().unwrap_or_default())),
                    "Failed" => return Err(format!("a pod failed: {:?}", pod.status).into()),
                    _ => {}
                }
            }
            Outcome::Ok(self.clock.elapsed())
        };
        let ((), end) = tokio::try_join!(creating, watching)?;
        Ok(end - begin)
    }

    /// Deletes pods at once and waits until none is there.
    async fn delete(&self, names: &[String]) -> Outcome {
        let api = self.api::<Pod>();
        let mut watch = api.watch(&WatchParams::default(), "").await?;
        let deleting = async {
            for name in names {
                api.delete(name, &DeleteParams::default()).await?;
            }
            Outcome::Ok(())
        };
        let watching = async {
            let mut left = names.len();
            while left > 0 {
                let Some(event) = watch.next().await else { return Err("the watch of pods ended".into()) };
                left -= usize::from(matches!(event?, WatchEvent::Deleted(_)));
            }
            Outcome::Ok(())
        };
        tokio::try_join!(deleting, watching)?;
        Ok(())
    }

    async fn exec(&self, pod: &str) -> Outcome<Duration> {
        let uid = self.api::<Pod>().get(pod).await?.metadata.uid.clone().unwrap_or_default();
        let container = ContainerRef { pod_uid: uid, name: "main".into(), attempt: 0 };
        let command = vec![BUSYBOX.to_owned(), "true".to_owned()];
        let begin = self.clock.elapsed();
        let request = ExecRequest { command, stdin: false, tty: false };
        let mut session = self.runtime.exec(&container, &request).await?;
        while let Some(output) = session.output.next().await {
            match output? {
                Output::Exit(0) => return Ok(self.clock.elapsed() - begin),
                Output::Exit(code) => return Err(format!("the command ended with {code}").into()),
                _ => {}
            }
        }
        Err("the command has no end".into())
    }
}

/// A line of a process's status, in KiB.
fn resident(process: &str, field: &str) -> u64 {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{process}/{file}")).unwrap_or_default();
    let text = if field.starts_with("Vm") { read("status") } else { read("smaps_rollup") };
    let line = text.lines().find(|line| line.starts_with(field)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// What a shim has for itself, the mean of this program's.
fn shims() -> u64 {
    let own = std::env::current_exe().unwrap_or_default().display().to_string();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let sizes: Vec<u64> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|pid| {
            let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            command.starts_with(&format!("{own}\0shim\0serve"))
        })
        .map(|pid| resident(&pid, "Private_Dirty:") + resident(&pid, "Private_Clean:"))
        .collect();
    sizes.iter().sum::<u64>() / (sizes.len().max(1) as u64)
}
