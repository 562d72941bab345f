//! A world for tests: one node's agent over a server in memory and simulated containers, in virtual time.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use longshore_core::api::pod::ContainerStatus;
use longshore_core::api::{Event, Node, Pod};
use longshore_core::client::params::PostParams;
use longshore_core::client::{Api, Client, Target};
use longshore_core::clock::{Clock, VirtualClock};
use longshore_core::kind::{Kind, KindType};
use longshore_core::network::{Attach, Attached, Error, Network, Peer, Policy, ServicePort};
use longshore_core::runtime::{PodRef, Runtime};
use longshore_core::testing::client::FakeServer;
use longshore_runtime_simulated::{Options as RuntimeOptions, SimulatedRuntime};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{NodeAgent, Options};

/// A network that gives addresses out and remembers what it was told.
#[derive(Debug, Default)]
pub(crate) struct FakeNetwork {
    pub(crate) pods: Mutex<BTreeMap<String, Attached>>,
    pub(crate) services: Mutex<Vec<ServicePort>>,
    pub(crate) policies: Mutex<Vec<Policy>>,
    next: Mutex<u8>,
}

#[async_trait]
impl Network for FakeNetwork {
    async fn attach(&self, request: &Attach) -> Result<Attached, Error> {
        let mut pods = self.pods.lock().unwrap();
        let attached = pods.entry(request.pod.uid.clone()).or_insert_with(|| {
            let mut next = self.next.lock().unwrap();
            *next += 1;
            let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, *next));
            Attached { pod: request.pod.clone(), addresses: vec![address] }
        });
        Ok(attached.clone())
    }

    async fn detach(&self, pod: &PodRef) -> Result<(), Error> {
        self.pods.lock().unwrap().remove(&pod.uid);
        Ok(())
    }

    async fn attached(&self) -> Result<Vec<Attached>, Error> {
        Ok(self.pods.lock().unwrap().values().cloned().collect())
    }

    async fn set_services(&self, services: &[ServicePort]) -> Result<(), Error> {
        *self.services.lock().unwrap() = services.to_vec();
        Ok(())
    }

    async fn set_policies(&self, policies: &[Policy]) -> Result<(), Error> {
        *self.policies.lock().unwrap() = policies.to_vec();
        Ok(())
    }

    async fn set_peers(&self, _: &[Peer]) -> Result<(), Error> {
        Ok(())
    }

    async fn repair(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn clean_up(&self) -> Result<(), Error> {
        Ok(())
    }
}

pub(crate) struct World {
    pub(crate) clock: VirtualClock,
    pub(crate) server: FakeServer,
    pub(crate) runtime: Arc<SimulatedRuntime>,
    pub(crate) network: Arc<FakeNetwork>,
    pub(crate) options: Options,
}

impl World {
    pub(crate) fn new() -> Self {
        let clock = VirtualClock::new();
        let server = FakeServer::new(Arc::new(clock.clone()), 7);
        let runtime = SimulatedRuntime::new(Arc::new(clock.clone()), RuntimeOptions::default());
        let mut options = Options::new("n1", "/nowhere", 3);
        options.addresses = vec![IpAddr::V4(Ipv4Addr::new(192, 168, 0, 1))];
        options.capacity = quantities(&[("cpu", "4"), ("memory", "8Gi")]);
        Self { clock, server, runtime: Arc::new(runtime), network: Arc::default(), options }
    }

    pub(crate) fn client(&self) -> Arc<dyn Client> {
        Arc::new(self.server.clone())
    }

    pub(crate) fn api<K: Kind>(&self) -> Api<K> {
        Api::namespaced(self.client(), "ns")
    }

    pub(crate) fn agent_with(&self, runtime: Arc<dyn Runtime>) -> NodeAgent {
        NodeAgent::new(self.client(), runtime, self.network.clone(), Arc::new(self.clock.clone()), self.options.clone())
    }

    pub(crate) fn agent(&self) -> NodeAgent {
        self.agent_with(self.runtime.clone())
    }

    /// Runs an agent while `test` runs; then its process dies on the spot, whatever it was doing.
    pub(crate) async fn with<T>(&self, test: impl Future<Output = T>) -> T {
        self.with_agent(self.agent(), test).await
    }

    pub(crate) async fn with_agent<T>(&self, agent: NodeAgent, test: impl Future<Output = T>) -> T {
        let cancel = CancellationToken::new();
        let process = agent.run(cancel.clone());
        tokio::pin!(test);
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(process);
        let result = test.await;
        tasks.shutdown().await;
        result
    }

    /// Lets everybody do what can be done without time passing.
    pub(crate) async fn settle(&self) {
        let mut writes = self.server.writes();
        let mut quiet = 0;
        while quiet < 60 {
            tokio::task::yield_now().await;
            let now = self.server.writes();
            quiet = if now == writes { quiet + 1 } else { 0 };
            writes = now;
        }
    }

    /// Lets time pass until something holds.
    pub(crate) async fn until<T>(&self, what: &str, mut holds: impl FnMut() -> Option<T>) -> T {
        for _ in 0..2000 {
            self.settle().await;
            if let Some(found) = holds() {
                return found;
            }
            self.clock.advance_to_next();
        }
        panic!("never came: {what}");
    }

    /// Lets this much time pass, moment by moment.
    pub(crate) async fn pass(&self, duration: Duration) {
        let end = self.clock.elapsed() + duration;
        loop {
            self.settle().await;
            let left = end.saturating_sub(self.clock.elapsed());
            if left.is_zero() {
                return;
            }
            self.clock.advance(left.min(Duration::from_millis(500)));
        }
    }

    pub(crate) async fn create(&self, pod: Pod) -> Arc<Pod> {
        self.api::<Pod>().create(pod, &PostParams::default()).await.unwrap()
    }

    pub(crate) fn pod(&self, name: &str) -> Option<Pod> {
        let pods = self.server.objects(KindType::of::<Pod>());
        let found = pods.iter().find(|pod| pod.meta().name.as_deref() == Some(name))?;
        found.as_any().downcast_ref::<Pod>().cloned()
    }

    pub(crate) fn node(&self) -> Node {
        let nodes = self.server.objects(KindType::of::<Node>());
        nodes[0].as_any().downcast_ref::<Node>().cloned().unwrap()
    }

    /// Marks a pod as being deleted, as the real server does at a graceful deletion.
    pub(crate) fn delete(&self, name: &str, grace: i64) {
        let target = Target { kind: KindType::of::<Pod>(), namespace: "ns", name };
        let at = self.clock.now() + Duration::from_secs(u64::try_from(grace).unwrap());
        self.server.modify(target, |pod| {
            pod.meta_mut().deletion_timestamp = Some(Time(at));
            pod.meta_mut().deletion_grace_period_seconds = Some(grace);
        });
    }

    /// Reasons of the events so far, in the order in which they came.
    pub(crate) fn messages(&self) -> Vec<String> {
        let events = self.server.objects(KindType::of::<Event>());
        let events = events.iter().filter_map(|event| event.as_any().downcast_ref::<Event>());
        events.map(|event| event.message.clone()).collect()
    }

    pub(crate) fn reasons(&self) -> Vec<String> {
        let mut events: Vec<Event> = (self.server.objects(KindType::of::<Event>()).iter())
            .filter_map(|event| event.as_any().downcast_ref::<Event>().cloned())
            .collect();
        events.sort_by_key(|event| {
            event.metadata.resource_version.as_ref().and_then(|version| version.parse::<u64>().ok())
        });
        events.into_iter().map(|event| event.reason).collect()
    }
}

/// A pod on the node with one container.
pub(crate) fn pod(name: &str, spec: Value) -> Pod {
    let mut value = json!({
        "metadata": {"name": name, "namespace": "ns"},
        "spec": {"nodeName": "n1", "restartPolicy": "Always", "containers": [{"name": "main", "image": "web"}]},
    });
    let given = spec.as_object().cloned().unwrap_or_default();
    for (key, field) in given {
        value["spec"][key] = field;
    }
    serde_json::from_value(value).unwrap()
}

pub(crate) fn annotated(mut pod: Pod, annotations: &[(&str, &str)]) -> Pod {
    let annotations =
        annotations.iter().map(|(key, value)| (format!("simulated.longshore.dev/{key}"), (*value).into()));
    pod.metadata.annotations = Some(annotations.collect());
    pod
}

pub(crate) fn status<'a>(pod: &'a Pod, name: &str) -> &'a ContainerStatus {
    let statuses = pod.status.container_statuses.iter().chain(&pod.status.init_container_statuses);
    statuses.into_iter().find(|status| status.name == name).unwrap()
}

/// The state of a container in one word: its reason, or `Running`.
pub(crate) fn state(pod: &Pod, name: &str) -> String {
    let state = &status(pod, name).state;
    match (&state.waiting, &state.running, &state.terminated) {
        (Some(waiting), ..) => waiting.reason.clone(),
        (_, Some(_), _) => "Running".to_owned(),
        (.., Some(terminated)) => terminated.reason.clone(),
        _ => String::new(),
    }
}

pub(crate) fn condition(pod: &Pod, type_: &str) -> String {
    let found = pod.status.conditions.iter().find(|condition| condition.type_ == type_);
    found.map(|condition| condition.status.to_string()).unwrap_or_default()
}

pub(crate) fn quantities(of: &[(&str, &str)]) -> longshore_core::api::ResourceList {
    of.iter().map(|(name, amount)| ((*name).to_owned(), amount.parse().unwrap())).collect()
}

/// An empty file that goes with its directory.
pub(crate) fn file() -> (tempfile::TempDir, File) {
    let directory = tempfile::tempdir().unwrap();
    let file = File::options().read(true).write(true).create(true).truncate(true).open(directory.path().join("f"));
    (directory, file.unwrap())
}
