//! What runs in the processes: an API server, a scheduler, controllers, a node's agent.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use longshore_apiserver::{Options as RegistryOptions, Registry};
use longshore_controllers::{ControllerManager, Options as ControllerOptions, Settings};
use longshore_core::api::Event;
use longshore_core::client::Client;
use longshore_core::clock::Clock;
use longshore_core::kind::KindType;
use longshore_core::leader::{LeaderConfig, LeaderTimings};
use longshore_core::store::Store;
use longshore_node::{NodeAgent, Options as NodeOptions};
use longshore_runtime_simulated::{Options as RuntimeOptions, SimulatedNetwork, SimulatedRuntime};
use longshore_scheduler::{Options as SchedulerOptions, Scheduler};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::wire::Job;

/// Name of the schedulers' lease.
pub const SCHEDULER: &str = "kube-scheduler";

/// Name of the controllers' lease.
pub const CONTROLLERS: &str = "kube-controller-manager";

/// Quicker than upstream's, as faults are.
const LEASES: LeaderTimings = LeaderTimings {
    lease_duration: Duration::from_secs(5),
    renew_deadline: Duration::from_secs(4),
    retry_period: Duration::from_secs(2),
};

/// The controllers of what the workload creates, and of nodes.
const ROLES: [&str; 8] = [
    "deployment",
    "replicaset",
    "statefulset",
    "job",
    "garbage_collector",
    "node_lifecycle",
    "taint_eviction",
    "pod_garbage_collector",
];

/// How long a node may be silent, and how often it is heard of.
const NODE_GRACE: Duration = Duration::from_secs(9);
const NODE_RENEWAL: Duration = Duration::from_secs(4);

/// What a node has.
const NODE_CAPACITY: [(&str, &str); 4] =
    [("cpu", "1500m"), ("memory", "8Gi"), ("ephemeral-storage", "64Gi"), ("pods", "20")];

/// Between tries of a server to read the store.
const START_AGAIN: Duration = Duration::from_millis(500);

/// An API server.
pub async fn server(
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    seed: u64,
    mut requests: mpsc::UnboundedReceiver<Job>,
) {
    // A short window, to fall out of.
    let mut options = RegistryOptions::new(seed);
    options.window = 64;
    // A third of all writes would be of events, about which nothing is promised.
    options.kinds.retain(|kind| *kind != KindType::of::<Event>());
    let registry = loop {
        match Registry::start(store.clone(), clock.clone(), options.clone()).await {
            Ok(registry) => break registry,
            Err(error) => tracing::debug!(%error, "cannot start"),
        }
        clock.sleep(START_AGAIN).await;
    };
    let mut work = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(_) = work.join_next() => {}
            request = requests.recv() => match request {
                Some(request) => drop(work.spawn(request(registry.clone()))),
                None => return,
            },
        }
    }
}

fn elected(name: &str, identity: &str) -> LeaderConfig {
    LeaderConfig::new("kube-system", name, identity).with_timings(LEASES)
}

/// A scheduler, which places pods while it leads.
pub async fn scheduler(client: Arc<dyn Client>, clock: Arc<dyn Clock>, identity: String, seed: u64) {
    let leader = Some(elected(SCHEDULER, &identity));
    let options = SchedulerOptions { leader, seed, ..SchedulerOptions::default() };
    match Scheduler::new(client, clock, options) {
        Ok(scheduler) => scheduler.run(CancellationToken::new()).await,
        Err(error) => panic!("the default profile: {error}"),
    }
}

/// Controllers, which act while they lead.
pub async fn controllers(
    client: Arc<dyn Client>,
    clock: Arc<dyn Clock>,
    identity: String,
    seed: u64,
    kinds: Vec<&'static KindType>,
) {
    let options = ControllerOptions {
        settings: Settings { workers: 2, ..Settings::default() },
        only: Some(ROLES.map(str::to_owned).to_vec()),
        kinds,
        node_monitor_grace_period: NODE_GRACE,
        seed,
        ..ControllerOptions::default()
    };
    let leader = elected(CONTROLLERS, &identity);
    ControllerManager::run_elected(client, clock, &options, leader, CancellationToken::new()).await;
}

/// What stays of a node when its agent's process ends.
#[derive(Debug, Clone)]
pub struct Machine {
    name: String,
    range: IpNet,
    runtime: SimulatedRuntime,
    network: Arc<SimulatedNetwork>,
}

impl Machine {
    /// A machine that nothing runs on.
    pub fn new(number: usize, clock: Arc<dyn Clock>) -> Self {
        let range =
            IpNet::from(ipnet::Ipv4Net::new_assert([10, 64, u8::try_from(number).unwrap_or(u8::MAX), 0].into(), 24));
        let runtime = SimulatedRuntime::new(clock, RuntimeOptions::default());
        Self { name: format!("node-{number}"), range, runtime, network: Arc::new(SimulatedNetwork::new(range)) }
    }

    /// Its agent.
    pub async fn agent(self, client: Arc<dyn Client>, clock: Arc<dyn Clock>, seed: u64) {
        // Nothing is written there: its containers are not real.
        let mut options = NodeOptions::new(self.name, "/nonexistent", seed);
        options.addresses = self.range.hosts().take(1).collect();
        options.pod_cidrs = vec![self.range.to_string()];
        options.capacity =
            NODE_CAPACITY.iter().filter_map(|(name, text)| Some(((*name).to_owned(), text.parse().ok()?))).collect();
        (options.lease_interval, options.lease_duration) = (NODE_RENEWAL, NODE_GRACE);
        let agent = NodeAgent::new(client, Arc::new(self.runtime), self.network, clock, options);
        agent.run(CancellationToken::new()).await;
    }
}
