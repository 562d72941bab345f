//! The parts of a control plane over one store, in this process.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use http::{Request, Response};
use longshore_apiserver::admission::{Unsupported, built_in};
use longshore_apiserver::http::{LocalNodes, NodeConnector, NodeError, RemoteNodes};
use longshore_apiserver::token::TokenIssuer;
use longshore_apiserver::{HttpService, LocalClient, Options as RegistryOptions, Registry, ServiceRanges};
use longshore_controllers::Options as ControllerOptions;
use longshore_core::client::Client;
use longshore_core::clock::Clock;
use longshore_core::leader::LeaderConfig;
use longshore_core::network::Ranges;
use longshore_core::store::Store;
use longshore_node::NodeAgent;
use longshore_scheduler::config::Configuration;
use longshore_scheduler::{Options as SchedulerOptions, Scheduler, SchedulerHandle};
use prometheus_client::registry::Registry as MetricsRegistry;

use crate::Error;
use crate::explain::LocalExplainer;
use crate::leading::{self, LEASES, LeaderOptions};
use crate::parts::Parts;
use crate::process::ProcessMetrics;

/// What a control plane is made of.
#[derive(Debug)]
pub struct ControlPlaneOptions {
    /// How the registry is set up.
    pub registry: RegistryOptions,
    /// How the scheduler decides; `None` for no scheduler.
    pub scheduler: Option<SchedulerOptions>,
    /// What the controllers do; `None` for no controllers.
    pub controllers: Option<ControllerOptions>,
    /// How a leader is elected among the controllers of several control planes over one store; `None` where there is only this one.
    /// For the schedulers their own options say it.
    pub leader: Option<LeaderConfig>,
}

impl ControlPlaneOptions {
    /// Everything as it is by default, with this seed for all that is chosen at random. The scheduler has upstream's default
    /// profile, and honours pod groups and shared devices besides.
    pub fn new(seed: u64) -> Self {
        let profiles = Configuration::default().with_gangs().with_devices().profiles;
        Self {
            registry: RegistryOptions::new(seed),
            scheduler: Some(SchedulerOptions { profiles, seed: seed.wrapping_add(1), ..SchedulerOptions::default() }),
            controllers: Some(ControllerOptions { seed: seed.wrapping_add(2), ..ControllerOptions::default() }),
            leader: None,
        }
    }

    /// Has the controllers and the scheduler work only while they lead among those of several control planes over one store.
    /// `identity` tells this one from the others; a process that is started again may have that of the one before, and leads at once.
    ///
    /// # Errors
    /// [`Error::Part`] if two could lead by these timings.
    pub fn elected(mut self, identity: &str, timings: LeaderOptions) -> Result<Self, Error> {
        let config = |name| timings.apply(LeaderConfig::new(LEASES, name, identity));
        self.leader = Some(config(leading::CONTROLLERS)?);
        if let Some(scheduler) = &mut self.scheduler {
            scheduler.leader = Some(config(leading::SCHEDULER)?);
        }
        Ok(self)
    }

    /// Gives Services addresses of this range, or of one of each family.
    #[must_use]
    pub fn service_ranges(mut self, ranges: impl Into<ServiceRanges>) -> Self {
        self.registry.service_addresses = ranges.into();
        self
    }

    /// Gives every node that brings none ranges of `cluster` for its pods, none of which is in `services`.
    #[must_use]
    pub fn node_ranges(mut self, cluster: Option<Ranges>, services: Option<Ranges>) -> Self {
        if let Some(controllers) = &mut self.controllers {
            (controllers.cluster_cidr, controllers.service_cidr) = (cluster, services);
        }
        self
    }

    /// How long a node may be silent before it counts as lost; `None` leaves it as it is.
    #[must_use]
    pub fn node_monitor_grace_period(mut self, period: Option<Duration>) -> Self {
        if let (Some(controllers), Some(period)) = (&mut self.controllers, period) {
            controllers.node_monitor_grace_period = period;
        }
        self
    }

    /// What is done about fields that nothing acts on yet and that it would be unsafe to ignore.
    #[must_use]
    pub fn unsupported(mut self, unsupported: Unsupported) -> Self {
        self.registry.admission = built_in(unsupported);
        self
    }

    /// Has pods placed as a configuration says. There is one scheduler, so none is elected.
    #[must_use]
    pub fn scheduler_configuration(mut self, configuration: Configuration) -> Self {
        if let Some(options) = &mut self.scheduler {
            *options = SchedulerOptions { seed: options.seed, ..configuration.options() };
        }
        self
    }

    /// Makes tokens of service accounts, and has admission mount them into pods, which also needs [`ControlPlaneOptions::root_ca`].
    #[must_use]
    pub fn tokens(mut self, tokens: TokenIssuer) -> Self {
        self.registry.tokens = Some(Arc::new(tokens));
        self
    }

    /// Publishes this certificate (PEM) in every namespace.
    #[must_use]
    pub fn root_ca(mut self, certificate: &str) -> Self {
        if let Some(controllers) = &mut self.controllers {
            controllers.root_ca = Some(certificate.to_owned());
        }
        self
    }
}

/// An API server, controllers and a scheduler in one process, which talk to each other without serialization.
///
/// Dropping it aborts what runs; [`ControlPlane::stop`] lets it end well.
pub struct ControlPlane {
    registry: Arc<Registry>,
    service: HttpService,
    nodes: LocalNodes,
    scheduler: Option<SchedulerHandle>,
    parts: Parts,
}

impl fmt::Debug for ControlPlane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlPlane").field("parts", &self.parts).finish_non_exhaustive()
    }
}

impl ControlPlane {
    /// Reads the store and starts everything.
    ///
    /// # Errors
    /// [`Error::Part`] if the store cannot be read.
    pub async fn start(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        options: ControlPlaneOptions,
    ) -> Result<Self, Error> {
        let registry = Registry::start(store, clock.clone(), options.registry)
            .await
            .map_err(|error| Error::Part { part: "registry", reason: error.to_string() })?;
        let nodes = LocalNodes::new();
        let service = HttpService::new(registry.clone()).with_nodes(Arc::new(nodes.clone()));
        let mut control = Self { registry, service, nodes, scheduler: None, parts: Parts::default() };
        let mut metrics = MetricsRegistry::default();
        metrics.register_collector(Box::new(ProcessMetrics));
        let leader = options.leader;
        if let Some(options) = options.controllers {
            options.metrics.register(&mut metrics);
            let (client, clock) = (control.client("controller-manager"), clock.clone());
            control.parts.start("controllers", |cancel| async move {
                leading::controllers(client, clock, &options, leader, cancel).await;
                Ok(())
            });
        }
        if let Some(mut options) = options.scheduler {
            options.metrics.get_or_insert_default().register(&mut metrics);
            let scheduler = Scheduler::new(control.client("scheduler"), clock, options)
                .map_err(|error| Error::Part { part: "scheduler", reason: error.to_string() })?;
            let handle = scheduler.handle();
            control.service = control.service.with_explainer(Arc::new(LocalExplainer(handle.clone())));
            control.scheduler = Some(handle);
            control.parts.start("scheduler", |cancel| async move {
                scheduler.run(cancel).await;
                Ok(())
            });
        }
        control.service = control.service.with_metrics(Arc::new(metrics));
        Ok(control)
    }

    /// A client that calls the registry directly; `manager` is noted as the owner of the fields that it writes.
    pub fn client(&self, manager: &str) -> Arc<dyn Client> {
        Arc::new(LocalClient::new(self.registry.clone(), manager))
    }

    /// The API over HTTP, without a port; whoever calls it may do everything.
    pub fn service(&self) -> HttpService {
        self.service.clone()
    }

    /// The registry.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// A way to ask the scheduler what it decided, why, and what would be; `None` if there is none.
    pub fn scheduler(&self) -> Option<&SchedulerHandle> {
        self.scheduler.as_ref()
    }

    /// Has agents that are not in this process reached so. Before [`ControlPlane::service`], which gives out what is there by then.
    pub(crate) fn reach_other_nodes(&mut self, remote: RemoteNodes) {
        let nodes = NearAndFar { near: self.nodes.clone(), far: remote };
        self.service = self.service.clone().with_nodes(Arc::new(nodes));
    }

    /// Runs a node's agent in this process; it ends with the control plane, before it.
    pub fn start_node(&mut self, name: &str, agent: NodeAgent) {
        self.nodes.insert(name, agent.service());
        self.parts.start("node", |cancel| async move {
            agent.run(cancel).await;
            Ok(())
        });
    }

    /// Waits until a part ends although nobody asked it to, and says which and why.
    pub(crate) async fn broken(&mut self) -> (&'static str, String) {
        self.parts.broken().await
    }

    /// Stops everything and waits for its end. The store stays open.
    pub async fn stop(self) {
        self.parts.stop().await;
        self.registry.stop().await;
    }
}

/// Agents in this process, and those of machines that joined.
#[derive(Debug)]
struct NearAndFar {
    near: LocalNodes,
    far: RemoteNodes,
}

#[async_trait]
impl NodeConnector for NearAndFar {
    async fn call(&self, node: &str, request: Request<Body>) -> Result<Response<Body>, NodeError> {
        if self.near.has(node) { self.near.call(node, request).await } else { self.far.call(node, request).await }
    }
}
