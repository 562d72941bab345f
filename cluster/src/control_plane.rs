//! The parts of a control plane over one store, in this process.

use std::net::IpAddr;
use std::sync::Arc;

use longshore_apiserver::http::{LocalNodes, NodeConnector};
use longshore_apiserver::{HttpService, LocalClient, Options as RegistryOptions, Registry};
use longshore_controllers::{ControllerManager, Options as ControllerOptions};
use longshore_core::client::Client;
use longshore_core::clock::Clock;
use longshore_core::store::Store;
use longshore_node::NodeAgent;
use longshore_scheduler::{Options as SchedulerOptions, Scheduler};

use crate::Error;
use crate::parts::Parts;

/// What a control plane is made of.
#[derive(Debug)]
pub struct ControlPlaneOptions {
    /// How the registry is set up; its seed is everybody's.
    pub registry: RegistryOptions,
    /// The seed of everything that chooses at random.
    pub seed: u64,
    /// How the scheduler decides; `None` for no scheduler.
    pub scheduler: Option<SchedulerOptions>,
    /// What the controllers do; `None` for no controllers.
    pub controllers: Option<ControllerOptions>,
}

/// An API server, controllers and a scheduler in one process, which talk to each other without serialization.
///
/// Dropping it aborts what runs; [`ControlPlane::stop`] lets it end well.
#[derive(Debug)]
pub struct ControlPlane {
    registry: Arc<Registry>,
    clock: Arc<dyn Clock>,
    nodes: LocalNodes,
    parts: Parts,
}
