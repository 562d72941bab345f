//! A pod network that only gives out addresses.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use ipnet::IpNet;
use longshore_core::network::{Attach, Attached, Error, Network, Peer, Policy, Ranges, ServicePort};
use longshore_core::runtime::PodRef;

/// Gives each pod an address of a range, or one of each family, and connects nothing, so that status, endpoints and DNS look as they
/// would.
/// Clones share the addresses.
#[derive(Debug, Clone)]
pub struct SimulatedNetwork {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    ranges: Ranges,
    pods: BTreeMap<String, Attached>,
    services: Vec<ServicePort>,
}

impl SimulatedNetwork {
    /// A network of these addresses; the first host address of each family is left for the node.
    pub fn new(ranges: impl Into<Ranges>) -> Self {
        let state = State { ranges: ranges.into(), pods: BTreeMap::new(), services: Vec::new() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// The addresses that are left for the node, one of each family.
    pub fn node_addresses(&self) -> Vec<IpAddr> {
        self.lock().ranges.iter().filter_map(|range| hosts(range).next()).collect()
    }

    /// The table that the proxy was last told to serve.
    pub fn services(&self) -> Vec<ServicePort> {
        self.lock().services.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Addresses that somebody can have: of IPv6 the first is that of whoever routes to the range.
fn hosts(range: IpNet) -> impl Iterator<Item = IpAddr> {
    range.hosts().filter(move |address| *address != range.network())
}

#[async_trait]
impl Network for SimulatedNetwork {
    async fn attach(&self, request: &Attach) -> Result<Attached, Error> {
        let mut state = self.lock();
        if let Some(attached) = state.pods.get(&request.pod.uid) {
            return Ok(attached.clone());
        }
        let used: std::collections::BTreeSet<IpAddr> =
            state.pods.values().flat_map(|attached| attached.addresses.iter().copied()).collect();
        let free = |range: IpNet| hosts(range).skip(1).find(|address| !used.contains(address));
        let addresses: Option<Vec<IpAddr>> = state.ranges.iter().map(free).collect();
        let full = || Error::NoAddress { range: state.ranges.to_string(), used: state.pods.len() };
        let attached = Attached { pod: request.pod.clone(), addresses: addresses.ok_or_else(full)? };
        state.pods.insert(request.pod.uid.clone(), attached.clone());
        Ok(attached)
    }

    async fn detach(&self, pod: &PodRef) -> Result<(), Error> {
        self.lock().pods.remove(&pod.uid);
        Ok(())
    }

    async fn attached(&self) -> Result<Vec<Attached>, Error> {
        Ok(self.lock().pods.values().cloned().collect())
    }

    async fn set_services(&self, services: &[ServicePort]) -> Result<(), Error> {
        self.lock().services = services.to_vec();
        Ok(())
    }

    async fn set_policies(&self, _policies: &[Policy]) -> Result<(), Error> {
        Ok(())
    }

    async fn set_peers(&self, _peers: &[Peer]) -> Result<(), Error> {
        Ok(())
    }

    async fn repair(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn clean_up(&self) -> Result<(), Error> {
        let mut state = self.lock();
        state.pods.clear();
        state.services.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str) -> Attach {
        let pod = PodRef { namespace: "ns".into(), name: name.into(), uid: name.into() };
        Attach { pod, network_namespace: "/".into(), host_ports: Vec::new() }
    }

    #[tokio::test]
    async fn addresses_are_given_kept_and_freed() {
        let network = SimulatedNetwork::new("10.0.0.0/29".parse::<Ranges>().unwrap());
        let first = network.attach(&pod("a")).await.unwrap();
        assert_eq!(first.addresses, ["10.0.0.2".parse::<IpAddr>().unwrap()]);
        assert_eq!(network.attach(&pod("a")).await.unwrap(), first);
        for name in ["b", "c", "d", "e"] {
            network.attach(&pod(name)).await.unwrap();
        }
        let full = network.attach(&pod("f")).await.unwrap_err();
        assert_eq!(full, Error::NoAddress { range: "10.0.0.0/29".into(), used: 5 });
        network.detach(&first.pod).await.unwrap();
        assert_eq!(network.attach(&pod("f")).await.unwrap().addresses, first.addresses);
    }

    #[tokio::test]
    async fn a_pod_has_an_address_of_each_family() {
        let network = SimulatedNetwork::new("10.0.0.0/30,fd00::/64".parse::<Ranges>().unwrap());
        let both: [IpAddr; 2] = ["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        assert_eq!(network.attach(&pod("a")).await.unwrap().addresses, both);
        let node: [IpAddr; 2] = ["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        assert_eq!(network.node_addresses(), node);
        let full = network.attach(&pod("b")).await.unwrap_err();
        assert_eq!(full, Error::NoAddress { range: "10.0.0.0/30,fd00::/64".into(), used: 1 });
    }
}
