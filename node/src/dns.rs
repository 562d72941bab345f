//! The cluster's names: from the Services and endpoints that the agent sees to what its [`Server`] serves.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use longshore_core::api::endpoint_slice::AddressType;
use longshore_core::api::pod::helpers::is_terminal;
use longshore_core::api::service::{CLUSTER_IP_NONE, ServiceType};
use longshore_core::api::{EndpointSlice, Namespace, Pod, Protocol, Service};
use longshore_core::clock::Clock;
use longshore_core::informer::{Change, Informer};
use longshore_network::dns::{self, Endpoint, Metrics, Names, Port, Server, ServiceKind};
use tokio_util::sync::CancellationToken;

use crate::pod::config;
use crate::services::Services;

/// How long changes are gathered before they are served: a rollout changes many slices at once.
const GATHER: Duration = Duration::from_millis(20);

/// Keeps a server's names current, and runs it.
#[derive(Debug)]
pub(crate) struct Dns {
    server: Server,
    services: Services,
    namespaces: Informer<Namespace>,
    /// All pods, where their names must be known.
    pods: Option<Informer<Pod>>,
}

impl Dns {
    /// Of `services` and `slices` somebody else keeps the caches current.
    pub(crate) fn new(
        server: Server,
        services: Informer<Service>,
        slices: Informer<EndpointSlice>,
        namespaces: Informer<Namespace>,
        pods: Option<Informer<Pod>>,
    ) -> Self {
        let services = Services::new(services, slices);
        let names = server.names();
        namespaces.on_change(move |change| {
            let name = change.object().metadata.name.as_deref().unwrap_or_default();
            names.write().set_namespace(name, change.current().is_some());
        });
        if let Some(pods) = &pods {
            let names = server.names();
            pods.on_change(move |change| set_pod(&names, &change));
        }
        Self { server, services, namespaces, pods }
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        self.server.metrics()
    }

    pub(crate) async fn run(self, clock: &dyn Clock, cancel: &CancellationToken) {
        let Self { server, services, namespaces, pods } = self;
        let names = server.names();
        let keep_current = async {
            services.synced().await;
            namespaces.synced().await;
            if let Some(pods) = &pods {
                pods.synced().await;
            }
            loop {
                for key in services.take() {
                    let service = services.get(&key).map(|(service, slices)| named(&service, &slices));
                    names.write().set_service(&key.namespace, &key.name, service);
                }
                names.write().set_ready();
                services.changed().await;
                clock.sleep(GATHER).await;
            }
        };
        let watch_pods = async {
            if let Some(pods) = &pods {
                pods.run(cancel.clone()).await;
            }
        };
        tokio::join!(
            server.run(cancel.clone()),
            namespaces.run(cancel.clone()),
            watch_pods,
            cancel.run_until_cancelled(keep_current),
        );
    }
}

/// What a service's name stands for.
fn named(service: &Service, slices: &[Arc<EndpointSlice>]) -> dns::Service {
    let spec = &service.spec;
    let kind = if spec.type_ == ServiceType::ExternalName {
        ServiceKind::External { name: spec.external_name.clone() }
    } else if spec.cluster_ip.is_empty() || spec.cluster_ip == CLUSTER_IP_NONE {
        ServiceKind::Headless
    } else {
        let all = if spec.cluster_ips.is_empty() { std::slice::from_ref(&spec.cluster_ip) } else { &spec.cluster_ips };
        let ports = spec.ports.iter().filter_map(|of| port(&of.name, &of.protocol, of.port)).collect();
        ServiceKind::Cluster { addresses: all.iter().filter_map(|text| text.parse().ok()).collect(), ports }
    };
    dns::Service { kind, endpoints: endpoints(slices) }
}

/// The ready endpoints, each once with all its ports: a slice has those that have the same numbers for all ports.
fn endpoints(slices: &[Arc<EndpointSlice>]) -> Vec<Endpoint> {
    let mut endpoints: BTreeMap<(IpAddr, Option<String>), BTreeSet<Port>> = BTreeMap::new();
    for slice in slices.iter().filter(|slice| slice.address_type != AddressType::Fqdn) {
        let ports = slice.ports.iter().filter_map(|of| {
            let protocol = of.protocol.clone().unwrap_or(Protocol::Tcp);
            port(of.name.as_deref().unwrap_or_default(), &protocol, of.port?)
        });
        let ports: Vec<Port> = ports.collect();
        for endpoint in slice.endpoints.iter().filter(|endpoint| endpoint.conditions.ready != Some(false)) {
            let Some(address) = endpoint.addresses.first().and_then(|text| text.parse().ok()) else { continue };
            let hostname = endpoint.hostname.clone().filter(|name| !name.is_empty());
            endpoints.entry((address, hostname)).or_default().extend(ports.iter().cloned());
        }
    }
    let endpoint = |((address, hostname), ports): ((IpAddr, Option<String>), BTreeSet<Port>)| Endpoint {
        address,
        hostname,
        ports: ports.into_iter().collect(),
    };
    endpoints.into_iter().map(endpoint).collect()
}

fn port(name: &str, protocol: &Protocol, number: i32) -> Option<Port> {
    Some(Port { name: name.to_owned(), protocol: config::protocol(protocol), number: u16::try_from(number).ok()? })
}

fn set_pod(names: &Names, change: &Change<Arc<Pod>>) {
    // One that has ended leaves its address to the next.
    let addresses = |pod: &Arc<Pod>| -> Vec<IpAddr> {
        let addresses = pod.status.pod_ips.iter().filter(|_| !is_terminal(pod));
        addresses.filter_map(|of| of.ip.parse().ok()).collect()
    };
    let namespace = change.object().metadata.namespace.as_deref().unwrap_or_default();
    let mut zone = names.write();
    for address in change.current().into_iter().flat_map(addresses) {
        zone.add_pod(namespace, address);
    }
    for address in change.old().into_iter().flat_map(addresses) {
        zone.remove_pod(namespace, address);
    }
}

#[cfg(test)]
#[path = "dns_tests.rs"]
mod tests;
