//! Services with their EndpointSlices, for whoever works something out of each: only those that changed are looked at.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use longshore_core::api::{EndpointSlice, Service};
use longshore_core::informer::{Informer, ObjectKey};
use tokio::sync::Notify;

/// Label of a slice: the service that it belongs to.
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Index of slices by the service that they belong to.
const BY_SERVICE: &str = "service";

/// Both kinds, of which somebody keeps the caches current, and what changed of them.
#[derive(Debug)]
pub(crate) struct Services {
    pub(crate) services: Informer<Service>,
    pub(crate) slices: Informer<EndpointSlice>,
    changed: Arc<Changed>,
}

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
}

impl Services {
    /// To begin with, all that are known have changed.
    pub(crate) fn new(services: Informer<Service>, slices: Informer<EndpointSlice>) -> Self {
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
        Self { services, slices, changed }
    }

    /// Waits until all there are have been seen.
    pub(crate) async fn synced(&self) {
        self.services.synced().await;
        self.slices.synced().await;
    }

    /// Waits until one has changed since it was [taken](Self::take).
    pub(crate) async fn changed(&self) {
        self.changed.any.notified().await;
    }

    /// Those that changed since this was last asked, in themselves or in their slices.
    pub(crate) fn take(&self) -> BTreeSet<ObjectKey> {
        std::mem::take(&mut *self.changed.services.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A service and its slices, if it is there.
    pub(crate) fn get(&self, key: &ObjectKey) -> Option<(Arc<Service>, Vec<Arc<EndpointSlice>>)> {
        let service = self.services.get(&key.namespace, &key.name)?;
        Some((service, self.slices.by_index(BY_SERVICE, &key.to_string())))
    }
}

/// The service that a slice belongs to.
fn service_of(slice: &EndpointSlice) -> Option<ObjectKey> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    Some(ObjectKey::new(slice.metadata.namespace.as_deref().unwrap_or_default(), name))
}
