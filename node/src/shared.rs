//! What all parts of an agent share.

use std::sync::Arc;

use longshore_core::api::{Pod, ResourceList, Service};
use longshore_core::client::Client;
use longshore_core::clock::Clock;
use longshore_core::events::EventRecorder;
use longshore_core::informer::Informer;
use longshore_core::network::Network;
use longshore_core::runtime::{Info, Runtime};

use crate::Options;
use crate::devices::Devices;
use crate::policies::Policies;
use crate::room::Room;
use crate::tokens::Tokens;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) client: Arc<dyn Client>,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) network: Arc<dyn Network>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) options: Options,
    /// Who the runtime is; it does not change.
    pub(crate) info: Info,
    /// What the node has, without devices.
    pub(crate) capacity: ResourceList,
    /// What of it pods may use.
    pub(crate) allocatable: ResourceList,
    pub(crate) devices: Devices,
    pub(crate) room: Room,
    /// The pods of this node.
    pub(crate) pods: Informer<Pod>,
    /// Services, where the agent watches them.
    pub(crate) services: Option<Informer<Service>>,
    /// What network policies mean for them, where the agent sees to that.
    pub(crate) policies: Option<Policies>,
    /// Tokens of the pods' service accounts.
    pub(crate) tokens: Tokens,
    pub(crate) recorder: EventRecorder,
}

impl Shared {
    /// Whether containers are processes of this machine.
    pub(crate) fn is_real(&self) -> bool {
        self.info.capabilities.real
    }

    /// What the node has now and what of it pods may use, with devices.
    pub(crate) fn offer(&self) -> (ResourceList, ResourceList) {
        let (mut capacity, mut allocatable) = (self.capacity.clone(), self.allocatable.clone());
        self.devices.offer(&mut capacity, &mut allocatable);
        (capacity, allocatable)
    }
}
