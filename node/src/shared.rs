//! What all parts of an agent share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use longshore_core::api::{Pod, ResourceList, Service};
use longshore_core::client::Client;
use longshore_core::clock::Clock;
use longshore_core::events::EventRecorder;
use longshore_core::informer::Informer;
use longshore_core::network::Network;
use longshore_core::runtime::{Error, Info, Runtime, Sandbox};
use tokio::sync::Mutex;

use crate::Options;
use crate::devices::Devices;
use crate::policies::Policies;

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
    /// The pods of this node.
    pub(crate) pods: Informer<Pod>,
    /// Services, where the agent watches them.
    pub(crate) services: Option<Informer<Service>>,
    /// What network policies mean for them, where the agent sees to that.
    pub(crate) policies: Option<Policies>,
    pub(crate) recorder: EventRecorder,
    pub(crate) sandboxes: Sandboxes,
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

/// What the runtime lists, read anew only when something may have changed: many pods that look at the same time
/// share one listing.
#[derive(Debug)]
pub(crate) struct Sandboxes {
    runtime: Arc<dyn Runtime>,
    /// Counts what may have changed the runtime's state.
    changes: AtomicU64,
    /// The last listing and the count before it was made.
    listed: Mutex<(Option<u64>, BTreeMap<String, Sandbox>)>,
}

impl Sandboxes {
    pub(crate) fn new(runtime: Arc<dyn Runtime>) -> Self {
        Self { runtime, changes: AtomicU64::new(0), listed: Mutex::default() }
    }

    /// Something happened: what was listed before is old.
    pub(crate) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
    }

    /// The sandbox of a pod, as it was at a moment not before the call.
    pub(crate) async fn get(&self, uid: &str) -> Result<Option<Sandbox>, Error> {
        self.look(|sandboxes| sandboxes.get(uid).cloned()).await
    }

    /// All sandboxes.
    pub(crate) async fn all(&self) -> Result<Vec<Sandbox>, Error> {
        self.look(|sandboxes| sandboxes.values().cloned().collect()).await
    }

    async fn look<T>(&self, look: impl FnOnce(&BTreeMap<String, Sandbox>) -> T) -> Result<T, Error> {
        let mut listed = self.listed.lock().await;
        let changes = self.changes.load(Ordering::SeqCst);
        if listed.0 != Some(changes) {
            let sandboxes = self.runtime.list().await?;
            let by_uid = sandboxes.into_iter().map(|sandbox| (sandbox.pod.uid.clone(), sandbox)).collect();
            *listed = (Some(changes), by_uid);
        }
        Ok(look(&listed.1))
    }
}
