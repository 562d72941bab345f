//! The agent: its parts put together.

use std::sync::Arc;

use longshore_core::api::{EndpointSlice, Namespace, NetworkPolicy, Node, Pod, Service};
use longshore_core::client::Client;
use longshore_core::clock::Clock;
use longshore_core::events::{EventWriter, events};
use longshore_core::informer::{Informer, Selection};
use longshore_core::network::Network;
use longshore_core::runtime::Runtime;
use longshore_network::dns::{PodNames, Server};
use tokio_util::sync::CancellationToken;

use crate::devices::Devices;
use crate::dns::Dns;
use crate::http::NodeService;
use crate::peers::Peers;
use crate::policies::Policies;
use crate::provisioner::Provisioner;
use crate::proxy::Proxy;
use crate::register::{self, Reporter};
use crate::room::Room;
use crate::shared::Shared;
use crate::tokens::Tokens;
use crate::{Options, image_gc, lease, pods};

/// The agent of one node; see the [crate](crate).
#[derive(Debug)]
pub struct NodeAgent {
    shared: Arc<Shared>,
    reporter: Reporter,
    proxy: Option<(Proxy, Peers)>,
    provisioner: Option<Provisioner>,
    dns: Option<Dns>,
    events: EventWriter,
}

impl NodeAgent {
    /// An agent that does nothing until [`NodeAgent::run`].
    pub fn new(
        client: Arc<dyn Client>,
        runtime: Arc<dyn Runtime>,
        network: Arc<dyn Network>,
        clock: Arc<dyn Clock>,
        options: Options,
    ) -> Self {
        let info = runtime.info();
        let (recorder, writer) = events(client.clone(), clock.clone(), "kubelet", &options.node_name, options.seed);
        let (capacity, allocatable) = register::resources(&options, info.capabilities.real);
        let selection = Selection::field("spec.nodeName", &options.node_name);
        let pods = Informer::new(client.clone(), clock.clone(), selection, options.seed);
        let proxy = options.proxy.unwrap_or(info.capabilities.real).then(|| {
            let all = Selection::default;
            let services: Informer<Service> = Informer::new(client.clone(), clock.clone(), all(), options.seed ^ 1);
            let slices: Informer<EndpointSlice> = Informer::new(client.clone(), clock.clone(), all(), options.seed ^ 2);
            let nodes: Informer<Node> = Informer::new(client.clone(), clock.clone(), all(), options.seed ^ 3);
            (Proxy::new(services, slices, nodes.clone(), &options.node_name), Peers::new(nodes))
        });
        let policies = proxy.as_ref().filter(|_| network.enforces_policies()).map(|_| {
            let all = Selection::default;
            let policies: Informer<NetworkPolicy> =
                Informer::new(client.clone(), clock.clone(), all(), options.seed ^ 6);
            let pods: Informer<Pod> = Informer::new(client.clone(), clock.clone(), all(), options.seed ^ 7);
            let namespaces: Informer<Namespace> = Informer::new(client.clone(), clock.clone(), all(), options.seed ^ 8);
            Policies::new(policies, pods, namespaces)
        });
        let provisioner = options.provision.unwrap_or(info.capabilities.real).then(|| {
            let all = Selection::default;
            let claims = Informer::new(client.clone(), clock.clone(), all(), options.seed ^ 4);
            Provisioner::new(claims, Informer::new(client.clone(), clock.clone(), all(), options.seed ^ 5))
        });
        let shared = Shared {
            services: proxy.as_ref().map(|(proxy, _)| proxy.informers().0.clone()),
            tokens: Tokens::new(client.clone(), clock.clone()),
            client,
            runtime,
            network,
            clock,
            options,
            info,
            capacity,
            allocatable,
            devices: Devices::default(),
            room: Room::default(),
            pods,
            policies,
            recorder,
        };
        Self { shared: Arc::new(shared), reporter: Reporter::default(), proxy, provisioner, dns: None, events: writer }
    }

    /// Serves the cluster's names to the node's pods: what they send to port 53 of the [`Options::cluster_dns`] addresses
    /// goes to this server, unless the cluster has a Service there with endpoints of its own. Does nothing for an agent that
    /// does not programme Services.
    #[must_use]
    pub fn with_dns(mut self, server: Server) -> Self {
        let Some((proxy, _)) = &mut self.proxy else { return self };
        let Shared { client, clock, options, .. } = &*self.shared;
        let all = Selection::default;
        let namespaces: Informer<Namespace> = Informer::new(client.clone(), clock.clone(), all(), options.seed ^ 4);
        let pods = (server.pod_names() == PodNames::Verified)
            .then(|| Informer::<Pod>::new(client.clone(), clock.clone(), all(), options.seed ^ 5));
        proxy.serve_dns(&options.cluster_dns, server.address());
        let (services, slices) = proxy.informers();
        let (services, slices) = (services.clone(), slices.clone());
        self.dns = Some(Dns::new(server, services, slices, namespaces, pods));
        self
    }

    /// Name of the node.
    pub fn name(&self) -> &str {
        &self.shared.options.node_name
    }

    /// The agent's HTTP service: what a Kubernetes API server asks of a node.
    pub fn service(&self) -> NodeService {
        NodeService::new(self.shared.clone(), self.dns.as_ref().map(|dns| dns.metrics().clone()))
    }

    /// Runs the node until cancelled. Pods go on running after that; another agent on the same node takes them over.
    /// Everything that this future started has ended when it returns.
    pub async fn run(self, cancel: CancellationToken) {
        let Self { shared, reporter, proxy, provisioner, dns, events } = self;
        let shared = &shared;
        let proxy = async {
            if let Some((proxy, peers)) = &proxy {
                let policies = async {
                    if let Some(policies) = &shared.policies {
                        policies.run(shared, &cancel).await;
                    }
                };
                tokio::join!(proxy.run(shared, &cancel), peers.run(shared, &cancel), policies);
            }
        };
        let provisioner = async {
            if let Some(provisioner) = &provisioner {
                provisioner.run(shared, &cancel).await;
            }
        };
        let dns = async {
            if let Some(dns) = dns {
                dns.run(&*shared.clock, &cancel).await;
            }
        };
        tokio::join!(
            shared.pods.run(cancel.clone()),
            reporter.run(shared, &cancel),
            lease::run(shared, &reporter, &cancel),
            pods::run(shared, &reporter, &cancel),
            image_gc::run(shared, &cancel),
            shared.devices.run(shared, &reporter, &cancel),
            proxy,
            provisioner,
            dns,
            events.run(cancel.clone()),
        );
    }
}

#[cfg(test)]
#[path = "crash_point_tests.rs"]
mod crash_point_tests;
#[cfg(test)]
#[path = "agent_fault_tests.rs"]
mod fault_tests;
#[cfg(test)]
#[path = "agent_tests.rs"]
mod tests;
