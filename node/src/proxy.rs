//! The service proxy: Services and their endpoints, resolved to what [`Network::set_services`] takes.
//!
//! [`Network::set_services`]: longshore_core::network::Network::set_services

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use longshore_core::api::endpoint_slice::{AddressType, Endpoint};
use longshore_core::api::service::{
    CLUSTER_IP_NONE, ServiceAffinity, ServiceExternalTrafficPolicy, ServiceInternalTrafficPolicy, ServiceType,
};
use longshore_core::api::{EndpointSlice, Node, Protocol, Service, service};
use longshore_core::informer::{Informer, ObjectKey};
use longshore_core::network::{self, Backend, ServicePort};
use longshore_core::validation::parse_legacy_net;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::pod::config;
use crate::services::Services;
use crate::shared::Shared;
use crate::topology::{self, Here};

/// How long changes are gathered before the table is set: a rollout changes many slices at once.
const GATHER: Duration = Duration::from_millis(20);
/// Wait before trying again after the network refused a table.
const RETRY: Duration = Duration::from_secs(1);
/// Time between repairs of what others may have removed from the host.
const REPAIR: Duration = Duration::from_secs(60);
/// The port of DNS, and what its two ports are called where no Service has them.
const DNS_PORT: u16 = 53;
const DNS_PORTS: [(&str, network::Protocol); 2] =
    [("dns", network::Protocol::Udp), ("dns-tcp", network::Protocol::Tcp)];
/// How long a client stays with a backend where a service wants affinity and does not say, in seconds.
const AFFINITY_DEFAULT: i32 = 10_800;

/// Keeps the network's table of services current.
#[derive(Debug)]
pub(crate) struct Proxy {
    services: Services,
    /// For this node's zone; somebody else runs it.
    nodes: Informer<Node>,
    /// Addresses of the cluster's DNS, and where it is on this node.
    dns: Option<(Vec<IpAddr>, SocketAddr)>,
    moved: Arc<Notify>,
}

impl Proxy {
    pub(crate) fn new(
        services: Informer<Service>,
        slices: Informer<EndpointSlice>,
        nodes: Informer<Node>,
        node: &str,
    ) -> Self {
        let moved = Arc::new(Notify::new());
        let (of_zone, own) = (moved.clone(), node.to_owned());
        nodes.on_change(move |change| {
            let zone = |node: Option<&Arc<Node>>| node.and_then(|node| topology::zone(node)).map(str::to_owned);
            let is_own = change.object().metadata.name.as_ref() == Some(&own);
            if is_own && zone(change.old()) != zone(change.current()) {
                of_zone.notify_one();
            }
        });
        Self { services: Services::new(services, slices), nodes, dns: None, moved }
    }

    /// What it keeps current of the cluster.
    pub(crate) fn informers(&self) -> (&Informer<Service>, &Informer<EndpointSlice>) {
        (&self.services.services, &self.services.slices)
    }

    /// Has what is sent to port 53 of these addresses answered by this node's own server.
    pub(crate) fn serve_dns(&mut self, addresses: &[IpAddr], server: SocketAddr) {
        self.dns = Some((addresses.to_vec(), server));
    }

    pub(crate) async fn run(&self, shared: &Shared, cancel: &CancellationToken) {
        let (services, slices) = self.informers();
        let work = cancel.run_until_cancelled(self.keep_current(shared));
        tokio::join!(services.run(cancel.clone()), slices.run(cancel.clone()), work);
    }

    async fn keep_current(&self, shared: &Shared) {
        self.services.synced().await;
        let (mut table, mut set) = (Table::default(), None);
        loop {
            let own = self.nodes.get("", &shared.options.node_name);
            let here = Here { node: &shared.options.node_name, zone: own.as_deref().and_then(topology::zone) };
            table.update(&self.services, &here);
            let mut ports = table.ports();
            if let Some((addresses, server)) = &self.dns {
                add_dns(&mut ports, addresses, *server);
            }
            if set.as_ref() != Some(&ports) {
                match shared.network.set_services(&ports).await {
                    Ok(()) => set = Some(ports),
                    Err(error) => {
                        tracing::warn!(%error, "cannot set the table of services, trying again");
                        shared.clock.sleep(RETRY).await;
                        continue;
                    }
                }
            }
            tokio::select! {
                biased;
                () = self.services.changed() => shared.clock.sleep(GATHER).await,
                () = self.moved.notified() => {}
                () = shared.clock.sleep(REPAIR), if shared.is_real() => {
                    if let Err(error) = shared.network.repair().await {
                        tracing::warn!(%error, "cannot repair the network");
                    }
                }
            }
        }
    }
}

/// What is served, service by service: only those that changed are worked out again.
#[derive(Debug, Default)]
struct Table {
    services: BTreeMap<ObjectKey, Vec<ServicePort>>,
    /// The node's zone, on which every service may depend.
    zone: Option<String>,
}

impl Table {
    fn update(&mut self, services: &Services, here: &Here<'_>) {
        let mut changed = services.take();
        if self.zone.as_deref() != here.zone {
            self.zone = here.zone.map(str::to_owned);
            changed.extend(services.services.list().iter().map(|service| ObjectKey::of(&**service)));
        }
        for key in changed {
            let found = services.get(&key);
            match found.map(|(service, slices)| of_service(&service, &topology::near(slices, here), here.node)) {
                Some(ports) => drop(self.services.insert(key, ports)),
                None => drop(self.services.remove(&key)),
            }
        }
    }

    /// All ports, sorted by name.
    fn ports(&self) -> Vec<ServicePort> {
        let mut ports: Vec<ServicePort> = self.services.values().flatten().cloned().collect();
        ports.sort_by(|a, b| a.name.cmp(&b.name));
        ports
    }
}

/// Every port of a service that has an address, with its backends, on the node `node`.
///
/// Ready endpoints take traffic; if a port has none, those that are on their way out but still serve do.
fn of_service(service: &Service, slices: &[Arc<EndpointSlice>], node: &str) -> Vec<ServicePort> {
    let addresses = addresses(service);
    if service.spec.type_ == ServiceType::ExternalName || addresses.is_empty() {
        return Vec::new();
    }
    service.spec.ports.iter().filter_map(|port| resolve(service, port, &addresses, slices, node)).collect()
}

/// Sends what goes to the cluster's DNS to a server on this node, whether or not there is a Service that says so: names are
/// resolved from the first moment on, and when the API server is away. A Service there whose endpoints serve keeps them,
/// so that who wants another server in the cluster can have it.
fn add_dns(ports: &mut Vec<ServicePort>, addresses: &[IpAddr], server: SocketAddr) {
    for (name, protocol) in DNS_PORTS {
        let is_here = |port: &ServicePort| {
            (port.port, port.protocol) == (DNS_PORT, protocol)
                && port.addresses.iter().any(|address| addresses.contains(address))
        };
        let backends = vec![Backend { address: server.ip(), port: server.port(), local: true, fallback: false }];
        match ports.iter_mut().find(|port| is_here(port)) {
            Some(port) if port.backends.is_empty() => port.backends = backends,
            Some(_) => {}
            None => ports.push(ServicePort {
                name: format!("node/{name}"),
                protocol,
                addresses: addresses.to_vec(),
                balancers: Vec::new(),
                balancer_sources: Vec::new(),
                port: DNS_PORT,
                node_port: None,
                affinity_seconds: None,
                internal_local: false,
                external_local: false,
                backends,
            }),
        }
    }
    ports.sort_by(|a, b| a.name.cmp(&b.name));
}

fn resolve(
    service: &Service,
    port: &service::ServicePort,
    addresses: &[IpAddr],
    slices: &[Arc<EndpointSlice>],
    node: &str,
) -> Option<ServicePort> {
    let spec = &service.spec;
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    let label = if port.name.is_empty() { port.port.to_string() } else { port.name.clone() };
    let has_node_port = matches!(spec.type_, ServiceType::NodePort | ServiceType::LoadBalancer);
    let from_outside = has_node_port || !spec.external_ips.is_empty();
    let affinity = (spec.session_affinity == ServiceAffinity::ClientIP).then(|| {
        let given = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref()?.timeout_seconds);
        u32::try_from(given.unwrap_or(AFFINITY_DEFAULT)).unwrap_or(0)
    });
    let internal_local = spec.internal_traffic_policy == Some(ServiceInternalTrafficPolicy::Local);
    let external_local = from_outside && spec.external_traffic_policy == ServiceExternalTrafficPolicy::Local;
    // A range that cannot be read must not let in everybody.
    let sources = spec.load_balancer_source_ranges.iter().map(|text| parse_legacy_net(text.trim()));
    let sources: Option<Vec<_>> = sources.collect();
    let balancers = if sources.is_some() { balancers(service, addresses) } else { Vec::new() };
    let candidates = candidates(port, addresses, slices, node);
    Some(ServicePort {
        name: format!("{}/{}:{label}", part(&service.metadata.namespace), part(&service.metadata.name)),
        protocol: config::protocol(&port.protocol),
        addresses: addresses.to_vec(),
        balancers,
        balancer_sources: sources.unwrap_or_default(),
        port: u16::try_from(port.port).ok()?,
        node_port: has_node_port.then(|| u16::try_from(port.node_port).ok()).flatten().filter(|port| *port > 0),
        affinity_seconds: affinity,
        internal_local,
        external_local,
        backends: choose(&candidates, internal_local || external_local),
    })
}

/// Cluster IPs and external IPs.
fn addresses(service: &Service) -> Vec<IpAddr> {
    let spec = &service.spec;
    if spec.cluster_ip.is_empty() || spec.cluster_ip == CLUSTER_IP_NONE {
        return Vec::new();
    }
    let cluster = if spec.cluster_ips.is_empty() { std::slice::from_ref(&spec.cluster_ip) } else { &spec.cluster_ips };
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in cluster.iter().chain(&spec.external_ips).filter_map(|text| text.parse().ok()) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

/// Addresses of load balancers that leave the address where it is; the others send to the node's ports.
fn balancers(service: &Service, others: &[IpAddr]) -> Vec<IpAddr> {
    if service.spec.type_ != ServiceType::LoadBalancer {
        return Vec::new();
    }
    let points = service.status.load_balancer.ingress.iter();
    let kept = points.filter(|point| point.ip_mode.as_deref() != Some("Proxy"));
    kept.filter_map(|point| point.ip.parse().ok()).filter(|address| !others.contains(address)).collect()
}

struct Candidate {
    backend: Backend,
    ready: bool,
    /// On its way out, and still able to answer.
    leaving: bool,
}

fn candidates(
    port: &service::ServicePort,
    addresses: &[IpAddr],
    slices: &[Arc<EndpointSlice>],
    node: &str,
) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    for slice in slices.iter().filter(|slice| slice.address_type != AddressType::Fqdn) {
        // The slice has the target's number, whatever name the service gives it.
        let number = slice.ports.iter().find(|of_slice| {
            let protocol = of_slice.protocol.clone().unwrap_or(Protocol::Tcp);
            of_slice.name.as_deref().unwrap_or_default() == port.name
                && config::protocol(&protocol) == config::protocol(&port.protocol)
        });
        let Some(number) = number.and_then(|port| u16::try_from(port.port?).ok()) else { continue };
        for endpoint in &slice.endpoints {
            let Some(address) = endpoint.addresses.first().and_then(|text| text.parse::<IpAddr>().ok()) else {
                continue;
            };
            if addresses.iter().any(|own| own.is_ipv4() == address.is_ipv4()) {
                candidates.push(candidate(endpoint, address, number, node));
            }
        }
    }
    candidates
}

fn candidate(endpoint: &Endpoint, address: IpAddr, port: u16, node: &str) -> Candidate {
    let conditions = &endpoint.conditions;
    let ready = conditions.ready != Some(false);
    let serving = conditions.serving.unwrap_or(ready);
    Candidate {
        backend: Backend { address, port, local: endpoint.node_name.as_deref() == Some(node), fallback: false },
        ready,
        leaving: serving && conditions.terminating == Some(true),
    }
}

/// The backends that take traffic, for each family as if there were no other. Where some traffic stays on the node, a node
/// whose own pods are all on their way out uses them for it as long as they serve.
fn choose(candidates: &[Candidate], stays_local: bool) -> Vec<Backend> {
    let mut backends = Vec::new();
    for v4 in [true, false] {
        let family = || candidates.iter().filter(move |candidate| candidate.backend.address.is_ipv4() == v4);
        let any_ready = family().any(|candidate| candidate.ready);
        let local_ready = family().any(|candidate| candidate.ready && candidate.backend.local);
        backends.extend(family().filter_map(|candidate| {
            let backend = candidate.backend;
            if candidate.ready || (candidate.leaving && !any_ready) {
                return Some(backend);
            }
            let needed = stays_local && backend.local && !local_ready;
            (candidate.leaving && needed).then_some(Backend { fallback: true, ..backend })
        }));
    }
    backends.sort();
    // Two slices may name one endpoint while it moves between them.
    backends.dedup_by_key(|backend| (backend.address, backend.port));
    backends
}

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;
