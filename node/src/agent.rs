//! The agent: its parts put together.

use std::sync::Arc;

use longshore_core::api::{EndpointSlice, Node, Service};
use longshore_core::client::Client;
use longshore_core::clock::Clock;
use longshore_core::events::{EventWriter, events};
use longshore_core::informer::{Informer, Selection};
use longshore_core::network::Network;
use longshore_core::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::devices::Devices;
use crate::http::NodeService;
use crate::peers::Peers;
use crate::provisioner::Provisioner;
use crate::proxy::Proxy;
use crate::register::{self, Reporter};
use crate::shared::{Sandboxes, Shared};
use crate::{Options, image_gc, lease, pods};

/// The agent of one node; see the [crate](crate).
#[derive(Debug)]
pub struct NodeAgent {
    shared: Arc<Shared>,
    reporter: Reporter,
    proxy: Option<(Proxy, Peers)>,
    provisioner: Option<Provisioner>,
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
            (Proxy::new(services, slices), Peers::new(nodes))
        });
        let provisioner = options.provision.unwrap_or(info.capabilities.real).then(|| {
            let all = Selection::default;
            let claims = Informer::new(client.clone(), clock.clone(), all(), options.seed ^ 4);
            Provisioner::new(claims, Informer::new(client.clone(), clock.clone(), all(), options.seed ^ 5))
        });
        let shared = Shared {
            services: proxy.as_ref().map(|(proxy, _)| proxy.services.clone()),
            sandboxes: Sandboxes::new(runtime.clone()),
            client,
            runtime,
            network,
            clock,
            options,
            info,
            capacity,
            allocatable,
            devices: Devices::default(),
            pods,
            recorder,
        };
        Self { shared: Arc::new(shared), reporter: Reporter::default(), proxy, provisioner, events: writer }
    }

    /// Name of the node.
    pub fn name(&self) -> &str {
        &self.shared.options.node_name
    }

    /// The agent's HTTP service: what a Kubernetes API server asks of a node.
    pub fn service(&self) -> NodeService {
        NodeService::new(self.shared.clone())
    }

    /// Runs the node until cancelled. Pods go on running after that; another agent on the same node takes them over.
    /// Everything that this future started has ended when it returns.
    pub async fn run(self, cancel: CancellationToken) {
        let shared = &self.shared;
        let proxy = async {
            if let Some((proxy, peers)) = &self.proxy {
                tokio::join!(proxy.run(shared, &cancel), peers.run(shared, &cancel));
            }
        };
        let provisioner = async {
            if let Some(provisioner) = &self.provisioner {
                provisioner.run(shared, &cancel).await;
            }
        };
        tokio::join!(
            shared.pods.run(cancel.clone()),
            self.reporter.run(shared, &cancel),
            lease::run(shared, &self.reporter, &cancel),
            pods::run(shared, &self.reporter, &cancel),
            image_gc::run(shared, &cancel),
            shared.devices.run(shared, &self.reporter, &cancel),
            proxy,
            provisioner,
            self.events.run(cancel.clone()),
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
