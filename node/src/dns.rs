//! The cluster's names: from the Services and endpoints that the agent sees to what its [`Server`] serves.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use longshore_core::api::endpoint_slice::AddressType;
use longshore_core::api::pod::helpers::is_terminal;
use longshore_core::api::service::{CLUSTER_IP_NONE, ServiceType};
use longshore_core::api::{EndpointSlice, Namespace, Pod, Protocol, Service};
use longshore_core::clock::Clock;
use longshore_core::informer::{Change, Informer, ObjectKey};
use longshore_network::dns::{self, Endpoint, Metrics, Names, Port, Server, ServiceKind};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::pod::config;
use crate::proxy::SERVICE_NAME;

/// How long changes are gathered before they are served: a rollout changes many slices at once.
const GATHER: Duration = Duration::from_millis(20);
/// Index of slices by the service that they belong to.
const BY_SERVICE: &str = "service";

/// Services whose names may have changed.
#[derive(Debug, Default)]
struct Changed {
    services: Mutex<BTreeSet<ObjectKey>>,
    any: Notify,
}

impl Changed {
    fn add(&self, service: Option<ObjectKey>) {
        self.services.lock().unwrap_or_else(PoisonError::into_inner).extend(service);
        self.any.notify_one();
    }

    fn take(&self) -> BTreeSet<ObjectKey> {
        std::mem::take(&mut *self.services.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Keeps a server's names current, and runs it.
#[derive(Debug)]
pub(crate) struct Dns {
    server: Server,
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
    namespaces: Informer<Namespace>,
    /// All pods, where their names must be known.
    pods: Option<Informer<Pod>>,
    changed: Arc<Changed>,
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
        slices.add_index(BY_SERVICE, |slice| service_of(slice).iter().map(ToString::to_string).collect());
        let changed: Arc<Changed> = Arc::default();
        let of_services = changed.clone();
        services.on_change(move |change| of_services.add(Some(ObjectKey::of(&**change.object()))));
        let of_slices = changed.clone();
        slices.on_change(move |change| {
            for slice in [Some(change.object()), change.old()].into_iter().flatten() {
                of_slices.add(service_of(slice));
            }
        });
        let names = server.names();
        namespaces.on_change(move |change| {
            let name = change.object().metadata.name.as_deref().unwrap_or_default();
            names.write().set_namespace(name, change.current().is_some());
        });
        if let Some(pods) = &pods {
            let names = server.names();
            pods.on_change(move |change| set_pod(&names, &change));
        }
        Self { server, services, slices, namespaces, pods, changed }
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        self.server.metrics()
    }

    pub(crate) async fn run(self, clock: &dyn Clock, cancel: &CancellationToken) {
        let Self { server, services, slices, namespaces, pods, changed } = self;
        let names = server.names();
        let keep_current = async {
            services.synced().await;
            slices.synced().await;
            namespaces.synced().await;
            if let Some(pods) = &pods {
                pods.synced().await;
            }
            loop {
                for key in changed.take() {
                    let service = services.get(&key.namespace, &key.name);
                    let slices = slices.by_index(BY_SERVICE, &key.to_string());
                    let service = service.map(|service| named(&service, &slices));
                    names.write().set_service(&key.namespace, &key.name, service);
                }
                names.write().set_ready();
                changed.any.notified().await;
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

/// The service that a slice belongs to.
fn service_of(slice: &EndpointSlice) -> Option<ObjectKey> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    Some(ObjectKey::new(slice.metadata.namespace.as_deref().unwrap_or_default(), name))
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
