//! What runs: the registry over a store in memory, the controllers, a scheduler, and agents of hollow nodes.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};
use longshore_apiserver::{LocalClient, Options as RegistryOptions, Registry};
use longshore_controllers::{ControllerManager, Options as ControllerOptions};
use longshore_core::api::{Event, Node};
use longshore_core::client::Client;
use longshore_core::clock::{Clock, VirtualClock};
use longshore_core::devices::share_name;
use longshore_core::kind::KindType;
use longshore_core::store::{HistoryLimits, MemoryStore};
use longshore_node::devices::{DevicePlugin, FakeGpus};
use longshore_node::{NodeAgent, Options as NodeOptions};
use longshore_runtime_simulated::{Options as RuntimeOptions, SimulatedNetwork, SimulatedRuntime};
use longshore_scheduler::{Options as SchedulerOptions, Scheduler};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::ControlPlaneError;

/// So many nodes have ranges of their own in 10.0.0.0/8.
const NODES_MAX: usize = 1 << 16;

/// All that runs. Dropping it ends it.
pub(super) struct Parts {
    registry: Arc<Registry>,
    clock: VirtualClock,
    seed: u64,
    running: JoinSet<&'static str>,
    machines: BTreeMap<String, Machine>,
}

/// A node's hardware, which stays when its agent is started anew.
struct Machine {
    number: usize,
    runtime: SimulatedRuntime,
    network: Arc<SimulatedNetwork>,
    agent: Option<AbortHandle>,
}

impl Parts {
    /// Starts everything but nodes.
    pub(super) async fn start(
        clock: &VirtualClock,
        scheduler: SchedulerOptions,
        seed: u64,
    ) -> Result<Self, ControlPlaneError> {
        let failed = |part: &'static str, reason: String| ControlPlaneError::Part { part, reason };
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let store = MemoryStore::with_clock(shared.clone(), HistoryLimits::default());
        let mut options = RegistryOptions::new(seed);
        // A third of all writes would be of events, which nobody reads.
        options.kinds.retain(|kind| *kind != KindType::of::<Event>());
        // No container calls the API, so nobody needs an account that a manifest names.
        options.admission.retain(|rule| rule.name() != "ServiceAccount");
        let kinds = options.kinds.clone();
        let registry = Registry::start(Arc::new(store), shared.clone(), options).await;
        let registry = registry.map_err(|error| failed("the API server", error.to_string()))?;
        let mut parts =
            Self { registry, clock: clock.clone(), seed, running: JoinSet::new(), machines: BTreeMap::new() };
        let options = ControllerOptions { seed: seed.wrapping_add(1), kinds, ..ControllerOptions::default() };
        let controllers = ControllerManager::new(parts.client("controller-manager"), shared.clone(), options);
        parts.running.spawn(async move {
            controllers.run(CancellationToken::new()).await;
            "the controllers"
        });
        let scheduler = Scheduler::new(parts.client("scheduler"), shared, scheduler);
        let scheduler = scheduler.map_err(|error| failed("the scheduler", error.to_string()))?;
        parts.running.spawn(async move {
            scheduler.run(CancellationToken::new()).await;
            "the scheduler"
        });
        Ok(parts)
    }

    /// A way to the registry, for whoever calls himself so.
    pub(super) fn client(&self, manager: &str) -> Arc<dyn Client> {
        Arc::new(LocalClient::new(self.registry.clone(), manager))
    }

    /// Waits until a part ends that should not.
    pub(super) async fn broken(&mut self) -> ControlPlaneError {
        loop {
            let (part, reason) = match self.running.join_next().await {
                Some(Ok(part)) => (part, "it has ended".to_owned()),
                // An agent that was ended.
                Some(Err(error)) if error.is_cancelled() => continue,
                Some(Err(error)) => ("a task", error.to_string()),
                None => std::future::pending().await,
            };
            return ControlPlaneError::Part { part, reason };
        }
    }

    /// Starts a node's agent, which offers what the node says; in place of the one before, whose pods it finds.
    pub(super) fn start_node(&mut self, node: &Node) -> Result<(), ControlPlaneError> {
        let name = node.metadata.name.clone().unwrap_or_default();
        let number = self.machines.len();
        let machine = match self.machines.get_mut(&name) {
            Some(machine) => machine,
            None if number == NODES_MAX => return Err(ControlPlaneError::TooManyNodes(NODES_MAX)),
            None => self.machines.entry(name.clone()).or_insert(Machine::new(number, &self.clock)),
        };
        if let Some(before) = machine.agent.take() {
            before.abort();
        }
        let seed = self.seed.wrapping_add(2 + machine.number as u64);
        let (runtime, network) = (Arc::new(machine.runtime.clone()), machine.network.clone());
        let options = options(node, name.clone(), machine.range(), seed);
        let client: Arc<dyn Client> = Arc::new(LocalClient::new(self.registry.clone(), &name));
        let agent = NodeAgent::new(client, runtime, network, Arc::new(self.clock.clone()), options);
        machine.agent = Some(self.running.spawn(async move {
            agent.run(CancellationToken::new()).await;
            "a node's agent"
        }));
        Ok(())
    }

    /// A node is gone from one moment to the next, with all that ran there. Whoever starts it again finds an empty machine.
    pub(super) fn lose_node(&mut self, name: &str) {
        if let Some(machine) = self.machines.get_mut(name) {
            if let Some(agent) = machine.agent.take() {
                agent.abort();
            }
            *machine = Machine::new(machine.number, &self.clock);
        }
    }
}

impl Machine {
    fn new(number: usize, clock: &VirtualClock) -> Self {
        let runtime = SimulatedRuntime::new(Arc::new(clock.clone()), RuntimeOptions::default());
        let network = Arc::new(SimulatedNetwork::new(range(number)));
        Self { number, runtime, network, agent: None }
    }

    fn range(&self) -> IpNet {
        range(self.number)
    }
}

/// The addresses of a node's pods.
fn range(number: usize) -> IpNet {
    let [_, _, high, low] = u32::try_from(number).unwrap_or_default().to_be_bytes();
    Ipv4Net::new_assert(Ipv4Addr::new(10, high, low, 0), 24).into()
}

/// An agent that offers what the node has.
fn options(node: &Node, name: String, range: IpNet, seed: u64) -> NodeOptions {
    // Nothing is written there: its containers are not real.
    let mut options = NodeOptions::new(name, "/nonexistent", seed);
    options.addresses = range.hosts().take(1).collect();
    options.pod_cidrs = vec![range.to_string()];
    options.labels = node.metadata.labels.clone().unwrap_or_default();
    let has = if node.status.allocatable.is_empty() { &node.status.capacity } else { &node.status.allocatable };
    options.capacity.clone_from(has);
    if let Some(pods) = options.capacity.get("pods") {
        options.max_pods = u32::try_from(pods.value()).unwrap_or(u32::MAX);
    }
    let plugin = FakeGpus::new(0);
    let gpu = plugin.resource().to_owned();
    if let Some(count) = options.capacity.remove(&gpu).and_then(|count| usize::try_from(count.value()).ok()) {
        options.capacity.remove(&share_name(&gpu));
        options.device_plugins.push(Arc::new(FakeGpus::new(count)));
        options.shared_devices.insert(gpu);
    }
    options
}
