//! Networks that make nothing on the node.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use longshore_core::network::{Attach, Attached, Error, Network, Peer, Policy, ServicePort};
use longshore_core::runtime::PodRef;

/// Who is attached. Nothing of it is on the node, so it is known only as long as this lives; clones share it.
#[derive(Debug, Clone, Default)]
struct Pods(Arc<Mutex<BTreeMap<String, Attached>>>);

impl Pods {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Attached>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attach(&self, pod: &PodRef, addresses: &[IpAddr]) -> Attached {
        let attached = Attached { pod: pod.clone(), addresses: addresses.to_vec() };
        self.lock().entry(pod.uid.clone()).or_insert(attached).clone()
    }
}

/// Every pod uses the node's network and has its addresses, as with `hostNetwork: true`. Services are not served, policies not enforced.
#[derive(Debug, Clone)]
pub struct HostNetwork {
    addresses: Vec<IpAddr>,
    pods: Pods,
}

impl HostNetwork {
    /// The network of a node with these addresses, the primary first.
    pub fn new(addresses: Vec<IpAddr>) -> Self {
        Self { addresses, pods: Pods::default() }
    }
}

/// No pod has an address, only its own loopback: for runtimes without real processes, and for work that needs no network.
/// Services are not served, policies not enforced.
#[derive(Debug, Clone, Default)]
pub struct NoNetwork {
    pods: Pods,
}

impl NoNetwork {
    /// No network.
    pub fn new() -> Self {
        Self::default()
    }
}

impl HostNetwork {
    async fn connect(&self, _: &Attach) -> Result<&[IpAddr], Error> {
        Ok(&self.addresses)
    }
}

impl NoNetwork {
    async fn connect(&self, request: &Attach) -> Result<&[IpAddr], Error> {
        let namespace = request.network_namespace.clone();
        // A runtime without namespaces has none to name.
        if !namespace.as_os_str().is_empty() {
            crate::bridge::blocking(move || crate::netlink::loopback(&namespace)).await?;
        }
        Ok(&[])
    }
}

macro_rules! plain_network {
    ($type:ty) => {
        #[async_trait]
        impl Network for $type {
            async fn attach(&self, request: &Attach) -> Result<Attached, Error> {
                let addresses = self.connect(request).await?;
                Ok(self.pods.attach(&request.pod, addresses))
            }

            async fn detach(&self, pod: &PodRef) -> Result<(), Error> {
                self.pods.lock().remove(&pod.uid);
                Ok(())
            }

            async fn attached(&self) -> Result<Vec<Attached>, Error> {
                Ok(self.pods.lock().values().cloned().collect())
            }

            async fn set_services(&self, _services: &[ServicePort]) -> Result<(), Error> {
                Ok(())
            }

            async fn set_policies(&self, _policies: &[Policy]) -> Result<(), Error> {
                Ok(())
            }

            fn enforces_policies(&self) -> bool {
                false
            }

            async fn set_peers(&self, _peers: &[Peer]) -> Result<(), Error> {
                Ok(())
            }

            async fn repair(&self) -> Result<(), Error> {
                Ok(())
            }

            async fn clean_up(&self) -> Result<(), Error> {
                self.pods.lock().clear();
                Ok(())
            }
        }
    };
}

plain_network!(HostNetwork);
plain_network!(NoNetwork);
