//! Network policies: the cluster's policies, pods and namespaces, resolved to what [`Network::set_policies`] takes.
//!
//! Of a cluster without policies nothing is watched but these; the first one has the agent watch all pods and namespaces.
//!
//! A pod is isolated before its containers start: what selects it holds at its addresses before the cluster is told these.
//!
//! [`Network::set_policies`]: longshore_core::network::Network::set_policies

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use longshore_core::api::network_policy::{NetworkPolicyPeer, NetworkPolicyPort, PolicyType};
use longshore_core::api::pod::PodIP;
use longshore_core::api::pod::helpers::is_terminal;
use longshore_core::api::{Namespace, NetworkPolicy, Pod};
use longshore_core::clock::Clock;
use longshore_core::informer::Informer;
use longshore_core::int_or_string::IntOrString;
use longshore_core::network::{Allowed, Block, Others, Policy, PortRange};
use longshore_core::selector::{LabelSelector, Selector};
use longshore_core::validation::parse_legacy_net;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::pod::config;
use crate::shared::Shared;

/// How long changes are gathered before policies are set.
const GATHER: Duration = Duration::from_millis(20);
/// How long the start of a pod waits for its policies before it is tried again.
const ISOLATION_MAX: Duration = Duration::from_secs(10);
/// Wait before trying again after the network refused.
const RETRY: Duration = Duration::from_secs(1);

/// Keeps the network's policies current.
#[derive(Debug)]
pub(crate) struct Policies {
    policies: Informer<NetworkPolicy>,
    pods: Informer<Pod>,
    namespaces: Informer<Namespace>,
    changed: Arc<Notify>,
    /// Pods of this node that have addresses, by uid: the cluster may not know these yet, or not know the pods any more.
    attached: Mutex<BTreeMap<String, Arc<Pod>>>,
    /// How often somebody asked for policies to be worked out anew.
    asked: AtomicU64,
    /// Policies hold as they were when it was asked for so often.
    held: watch::Sender<u64>,
}

impl Policies {
    pub(crate) fn new(policies: Informer<NetworkPolicy>, pods: Informer<Pod>, namespaces: Informer<Namespace>) -> Self {
        let changed = Arc::new(Notify::new());
        let (of_policies, of_pods, of_namespaces) = (changed.clone(), changed.clone(), changed.clone());
        policies.on_change(move |_| of_policies.notify_one());
        pods.on_change(move |change| {
            if facts(change.old()) != facts(change.current()) {
                of_pods.notify_one();
            }
        });
        namespaces.on_change(move |change| {
            let labels = |of: Option<&Arc<Namespace>>| of.map(|of| of.metadata.labels.clone());
            if labels(change.old()) != labels(change.current()) {
                of_namespaces.notify_one();
            }
        });
        let (attached, asked, held) = (Mutex::default(), AtomicU64::default(), watch::Sender::default());
        Self { policies, pods, namespaces, changed, attached, asked, held }
    }

    /// Waits until the policies that select a pod of this node hold at its addresses; answers whether they do, for it does not
    /// wait long.
    pub(crate) async fn isolate(&self, pod: &Pod, addresses: &[IpAddr], clock: &dyn Clock) -> bool {
        let held = async {
            self.policies.synced().await;
            self.attach(pod, addresses);
            if self.policies.list().is_empty() {
                return;
            }
            let mine = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
            self.changed.notify_one();
            // The sender lives as long as this.
            let _ = self.held.subscribe().wait_for(|held| *held >= mine).await;
        };
        tokio::select! {
            biased;
            () = held => true,
            () = clock.sleep(ISOLATION_MAX) => false,
        }
    }

    fn attach(&self, pod: &Pod, addresses: &[IpAddr]) {
        let mut known = pod.clone();
        known.status.pod_ips = addresses.iter().map(|address| PodIP { ip: address.to_string() }).collect();
        known.status.pod_ip = addresses.first().map(ToString::to_string).unwrap_or_default();
        self.attached().insert(uid(pod).to_owned(), Arc::new(known));
    }

    /// A pod of this node has no addresses any more.
    pub(crate) fn forget(&self, uid: &str) {
        self.attached().remove(uid);
    }

    fn attached(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Pod>>> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All pods with the addresses that this node knows, also those that the cluster has forgotten while they are still being
    /// stopped.
    fn current_pods(&self) -> Vec<Arc<Pod>> {
        let mut pods = self.pods.list();
        let mut attached = self.attached();
        let mut forgotten: BTreeSet<String> = attached.keys().cloned().collect();
        for pod in &mut pods {
            let Some(known) = attached.get_mut(uid(pod)) else { continue };
            forgotten.remove(uid(pod));
            if pod.status.pod_ips == known.status.pod_ips {
                *known = pod.clone();
            } else {
                let mut told = (**pod).clone();
                told.status.pod_ips.clone_from(&known.status.pod_ips);
                told.status.pod_ip.clone_from(&known.status.pod_ip);
                *pod = Arc::new(told);
            }
        }
        pods.extend(forgotten.iter().filter_map(|uid| attached.get(uid)).cloned());
        pods
    }

    pub(crate) async fn run(&self, shared: &Shared, cancel: &CancellationToken) {
        let others = async {
            cancel.run_until_cancelled(self.first_policy()).await;
            tokio::join!(self.pods.run(cancel.clone()), self.namespaces.run(cancel.clone()));
        };
        let work = cancel.run_until_cancelled(self.keep_current(shared));
        tokio::join!(self.policies.run(cancel.clone()), others, work);
    }

    async fn first_policy(&self) {
        self.policies.synced().await;
        let some = Arc::new(Notify::new());
        let notify = some.clone();
        self.policies.on_change(move |_| notify.notify_one());
        while self.policies.list().is_empty() {
            some.notified().await;
        }
    }

    async fn keep_current(&self, shared: &Shared) {
        self.policies.synced().await;
        let mut set = None;
        loop {
            let asked = self.asked.load(Ordering::SeqCst);
            let mut wanted = Vec::new();
            let objects = self.policies.list();
            if !objects.is_empty() {
                self.pods.synced().await;
                self.namespaces.synced().await;
                wanted = policies(&objects, &self.current_pods(), &self.namespaces.list(), &shared.options.node_name);
            }
            if set.as_ref() != Some(&wanted) {
                match shared.network.set_policies(&wanted).await {
                    Ok(()) => set = Some(wanted),
                    Err(error) => {
                        tracing::warn!(%error, "cannot set network policies, trying again");
                        shared.clock.sleep(RETRY).await;
                        continue;
                    }
                }
            }
            self.held.send_replace(asked);
            self.changed.notified().await;
            shared.clock.sleep(GATHER).await;
        }
    }
}

/// What policies ask of a pod.
fn facts(pod: Option<&Arc<Pod>>) -> Option<impl PartialEq> {
    pod.map(|pod| {
        let Pod { metadata, spec, status, .. } = &**pod;
        let place = (spec.node_name.clone(), spec.host_network, is_terminal(pod));
        (metadata.labels.clone(), status.pod_ips.clone(), status.pod_ip.clone(), place)
    })
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// What the cluster's policies mean for the pods of the node `node`, sorted by name: those alone that select one of them.
///
/// Pods of the node's own network are no pods here, as upstream leaves open what policies mean for them.
pub fn policies(
    policies: &[Arc<NetworkPolicy>],
    pods: &[Arc<Pod>],
    namespaces: &[Arc<Namespace>],
    node: &str,
) -> Vec<Policy> {
    let world = World::new(pods, namespaces);
    let mut resolved: Vec<Policy> = policies.iter().filter_map(|policy| resolve(policy, &world, node)).collect();
    resolved.sort_by(|a, b| a.name.cmp(&b.name));
    resolved
}

/// A pod that has an address of its own.
#[derive(Debug, Clone)]
struct Peer<'a> {
    pod: &'a Pod,
    addresses: Vec<IpAddr>,
}

/// Whom policies can be about.
#[derive(Debug)]
struct World<'a> {
    /// By namespace.
    pods: BTreeMap<&'a str, Vec<Peer<'a>>>,
    namespaces: &'a [Arc<Namespace>],
}

impl<'a> World<'a> {
    fn new(pods: &'a [Arc<Pod>], namespaces: &'a [Arc<Namespace>]) -> Self {
        let mut by_namespace: BTreeMap<&str, Vec<Peer<'_>>> = BTreeMap::new();
        for pod in pods.iter().filter(|pod| !pod.spec.host_network && !is_terminal(pod)) {
            let status = &pod.status;
            let texts = status.pod_ips.iter().map(|ip| &ip.ip).chain([&status.pod_ip]);
            let mut addresses: Vec<IpAddr> = texts.filter_map(|text| text.parse().ok()).collect();
            addresses.sort();
            addresses.dedup();
            if !addresses.is_empty() {
                let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
                by_namespace.entry(namespace).or_default().push(Peer { pod, addresses });
            }
        }
        Self { pods: by_namespace, namespaces }
    }

    /// The pods of a namespace that have these labels.
    fn select(&self, namespace: &str, selector: &LabelSelector) -> Vec<&Peer<'a>> {
        let selector = compile(selector);
        let pods = self.pods.get(namespace).into_iter().flatten();
        pods.filter(|peer| selector.matches_optional(peer.pod.metadata.labels.as_ref())).collect()
    }

    /// The pods that a policy of this namespace means by a peer.
    fn peers(&self, namespace: &str, peer: &NetworkPolicyPeer) -> Vec<&Peer<'a>> {
        let everybody = LabelSelector::default();
        let pods = peer.pod_selector.as_ref().unwrap_or(&everybody);
        match (&peer.namespace_selector, &peer.pod_selector) {
            (None, None) => Vec::new(),
            (None, Some(pods)) => self.select(namespace, pods),
            (Some(selector), _) => {
                let selector = compile(selector);
                let of = self.namespaces.iter().filter(|of| selector.matches_optional(of.metadata.labels.as_ref()));
                of.flat_map(|of| self.select(of.metadata.name.as_deref().unwrap_or_default(), pods)).collect()
            }
        }
    }
}

/// What validation let through compiles; anything else selects nothing.
fn compile(selector: &LabelSelector) -> Selector {
    selector.compile().unwrap_or_else(|_| Selector::nothing())
}

fn addresses<'a>(peers: impl IntoIterator<Item = &'a &'a Peer<'a>>) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = peers.into_iter().flat_map(|peer| peer.addresses.iter().copied()).collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

fn resolve(policy: &NetworkPolicy, world: &World<'_>, node: &str) -> Option<Policy> {
    let namespace = policy.metadata.namespace.as_deref().unwrap_or_default();
    let name = policy.metadata.name.as_deref().unwrap_or_default();
    let spec = &policy.spec;
    let mut own = world.select(namespace, &spec.pod_selector);
    own.retain(|peer| peer.pod.spec.node_name == node);
    if own.is_empty() {
        return None;
    }
    let ingress = spec.policy_types.contains(&PolicyType::Ingress).then(|| {
        let rules = spec.ingress.iter().flat_map(|rule| {
            let others = others(&rule.from, namespace, world);
            // A name is that of a port of the policy's own pods.
            let mut allowed = Vec::new();
            for (pods, ports) in by_name(&rule.ports, &own) {
                let others =
                    others.as_ref().map(|(pods, blocks)| Others { pods: addresses(pods), blocks: blocks.clone() });
                allowed.push(Allowed { pods, others, ports });
            }
            allowed
        });
        rules.collect()
    });
    let egress = spec.policy_types.contains(&PolicyType::Egress).then(|| {
        let rules = spec.egress.iter().flat_map(|rule| {
            // A name is that of a port of whoever is reached; whoever is not known as a pod has none.
            let others = others(&rule.to, namespace, world);
            let has_names = rule.ports.iter().any(|port| matches!(port.port, Some(IntOrString::String(_))));
            let everybody: Vec<&Peer<'_>> = world.pods.values().flatten().filter(|_| has_names).collect();
            let reached = others.as_ref().map_or(&everybody, |(pods, _)| pods);
            let mut allowed = Vec::new();
            for (named, ports) in by_name(&rule.ports, reached) {
                let others = match (named, &others) {
                    (Some(pods), _) => Some(Others { pods, blocks: Vec::new() }),
                    (None, Some((pods, blocks))) => Some(Others { pods: addresses(pods), blocks: blocks.clone() }),
                    (None, None) => None,
                };
                allowed.push(Allowed { pods: None, others, ports });
            }
            allowed
        });
        rules.collect()
    });
    Some(Policy { name: format!("{namespace}/{name}"), pods: addresses(&own), ingress, egress })
}

/// The other ends that a rule names; `None` for anybody.
fn others<'w, 'a>(
    peers: &[NetworkPolicyPeer],
    namespace: &str,
    world: &'w World<'a>,
) -> Option<(Vec<&'w Peer<'a>>, Vec<Block>)> {
    if peers.is_empty() {
        return None;
    }
    let block = |peer: &NetworkPolicyPeer| {
        let block = peer.ip_block.as_ref()?;
        // What cannot be read must not allow more than was meant.
        let except = block.except.iter().map(|text| parse_legacy_net(text)).collect::<Option<Vec<IpNet>>>()?;
        Some(Block { range: parse_legacy_net(&block.cidr)?, except })
    };
    let pods = peers.iter().flat_map(|peer| world.peers(namespace, peer)).collect();
    Some((pods, peers.iter().filter_map(block).collect()))
}

/// Ports, and the receivers that they are about.
type Ports = (Option<Vec<IpAddr>>, Option<Vec<PortRange>>);

/// The ports that a rule names: numbers are the same for all receivers (`None`), a name stands for a number of its own in each.
fn by_name(ports: &[NetworkPolicyPort], receivers: &[&Peer<'_>]) -> Vec<Ports> {
    if ports.is_empty() {
        return vec![(None, None)];
    }
    let (mut numbers, mut named) = (Vec::new(), BTreeMap::<PortRange, Vec<IpAddr>>::new());
    for port in ports {
        let protocol = config::protocol(port.protocol.as_ref().unwrap_or(&longshore_core::api::Protocol::Tcp));
        match &port.port {
            None => numbers.push(PortRange { protocol, first: 0, last: u16::MAX }),
            Some(IntOrString::Int(first)) => {
                let last = port.end_port.unwrap_or(*first);
                if let (Ok(first), Ok(last)) = (u16::try_from(*first), u16::try_from(last)) {
                    numbers.push(PortRange { protocol, first, last });
                }
            }
            Some(IntOrString::String(name)) => {
                for receiver in receivers {
                    let containers = receiver.pod.spec.containers.iter().chain(&receiver.pod.spec.init_containers);
                    let found = containers
                        .flat_map(|container| &container.ports)
                        .find(|of| of.name == *name && config::protocol(&of.protocol) == protocol);
                    if let Some(number) = found.and_then(|port| u16::try_from(port.container_port).ok()) {
                        let range = PortRange { protocol, first: number, last: number };
                        named.entry(range).or_default().extend(&receiver.addresses);
                    }
                }
            }
        }
    }
    let mut all: Vec<Ports> = Vec::new();
    if !numbers.is_empty() {
        all.push((None, Some(numbers)));
    }
    for (range, mut addresses) in named {
        addresses.sort();
        addresses.dedup();
        all.push((Some(addresses), Some(vec![range])));
    }
    all
}

#[cfg(test)]
#[path = "policies_tests.rs"]
mod tests;
