//! A Linux bridge with a veth pair for every pod, and Services through nftables.
//!
//! # How packets go
//!
//! A pod has its address alone (`/32`, `/128`) and one way out: the bridge's own address. So everything that pods send passes
//! the node's routing, also from pod to pod on one node; Services and policies work whether or not the module `br_netfilter` is
//! loaded. Frames that a pod sends to another by itself, such as to a link-local address, are dropped.
//!
//! With a range of each family every pod has an address of each, and Services are served in both. IPv6 is served by a table of its
//! own, made by the same code.
//!
//! # What is made on the host
//!
//! The bridge `ls<id>-br`, an interface `ls<id>-<n>` a pod, the nftables tables `ip longshore-<instance>`, `bridge
//! longshore-<instance>` and, with a range of IPv6, `ip6 longshore-<instance>`, routes to Services and to other nodes' pods, two rules
//! in `DOCKER-USER` if Docker is there. `<id>` is the instance's name, or six characters computed from it if it is longer. Interfaces carry `longshore-<instance>` as
//! their alias: one that does not is never touched. `net.ipv4.ip_forward` (and `net.ipv6.conf.all.forwarding`, if there is a range
//! of IPv6) is set and stays set, since others may rely on it by then; an interface that takes router advertisements goes on taking
//! them (`accept_ra` becomes 2).
//!
//! # Limits
//!
//! Node ports do not answer at `::1`, as the kernel takes no answers to it from elsewhere. Peers are reached by addresses of the
//! family of their node's address. A Service of UDP whose backend goes away loses what a client sends from the same port within
//! the kernel's half a minute of memory for it.

mod host;
mod pods;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use ipnet::IpNet;
use longshore_core::network::{Attach, Attached, Error, Network, Peer, Policy, ServicePort};
use longshore_core::runtime::PodRef;

use crate::netlink::failed;
use host::{Host, State};
pub(crate) use pods::{check_uid, may_make_interfaces};

/// What a [`Bridge`] is made from.
#[derive(Debug, Clone)]
pub struct Options {
    /// What tells this cluster from others on the machine: letters, digits, `-` and `.`.
    pub instance: String,
    /// Directory of the network's records.
    pub state: PathBuf,
    /// Addresses for this node's pods, a range a family, the primary first; the first address of each is the bridge's own.
    pub pods: Vec<IpNet>,
    /// Addresses of all nodes' pods; traffic to them keeps its pod's address. This node's and its peers' are always in it.
    pub cluster: Vec<IpNet>,
    /// Addresses of Services.
    pub services: Vec<IpNet>,
    /// Largest packet in bytes; `None` for that of the interface with the default route.
    pub mtu: Option<u32>,
}

/// The pod network of one node. See the [module's documentation](self).
///
/// Opening it again, in this or another process, finds what was attached and served. Clones share it.
#[derive(Debug, Clone)]
pub struct Bridge {
    host: Arc<Host>,
    state: Arc<Mutex<State>>,
}

impl Bridge {
    /// Makes the bridge or finds it, puts right what a crash left half-made, and forgets pods whose interface is gone.
    ///
    /// # Errors
    /// [`Error::Missing`] without root or `nft`; [`Error::Failed`] if an address range is in use on this machine
    /// (see [`crate::ranges::free`]), two are of one family, or the kernel refuses something.
    pub async fn open(options: Options) -> Result<Self, Error> {
        blocking(|| {
            let host = Host::new(options)?;
            let mut state = State::read(&host)?;
            host.set_up(&mut state)?;
            Ok(Self { host: Arc::new(host), state: Arc::new(Mutex::new(state)) })
        })
        .await
    }

    /// Removes everything of an instance from the node, without opening it: also if its ranges are in use by now.
    /// Instances that are unknown or gone are none.
    ///
    /// # Errors
    /// [`Error::Missing`] without root or `nft`, [`Error::Failed`] naming what is left; doing it again is safe.
    pub async fn purge(instance: &str, state: PathBuf) -> Result<(), Error> {
        let instance = instance.to_owned();
        blocking(move || host::purge(&instance, &state)).await
    }

    /// The bridge's address, at which pods reach their node; the primary one.
    pub fn gateway(&self) -> IpAddr {
        self.host.gateway()
    }

    /// The bridge's name.
    pub fn interface(&self) -> &str {
        &self.host.names.bridge
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Host, &mut State) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (host, state) = (self.host.clone(), self.state.clone());
        // On a thread of its own, a step that was begun is ended, also if nobody waits for it any more.
        blocking(move || work(&host, &mut state.lock().unwrap_or_else(PoisonError::into_inner))).await
    }
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(failed("run a step")(error)))
}

#[async_trait]
impl Network for Bridge {
    async fn attach(&self, request: &Attach) -> Result<Attached, Error> {
        let request = request.clone();
        self.with(move |host, state| pods::attach(host, state, &request)).await
    }

    async fn detach(&self, pod: &PodRef) -> Result<(), Error> {
        let uid = pod.uid.clone();
        self.with(move |host, state| pods::detach(host, state, &uid)).await
    }

    async fn attached(&self) -> Result<Vec<Attached>, Error> {
        self.with(|_, state| Ok(state.pods.values().map(pods::Record::attached).collect())).await
    }

    async fn set_services(&self, services: &[ServicePort]) -> Result<(), Error> {
        let services = services.to_vec();
        self.with(move |host, state| host.set_services(state, services)).await
    }

    async fn set_policies(&self, policies: &[Policy]) -> Result<(), Error> {
        let policies = policies.to_vec();
        self.with(move |host, state| host.set_policies(state, policies)).await
    }

    async fn set_peers(&self, peers: &[Peer]) -> Result<(), Error> {
        let peers = peers.to_vec();
        self.with(move |host, state| host.set_peers(state, peers)).await
    }

    async fn repair(&self) -> Result<(), Error> {
        self.with(|host, state| host.repair(state)).await
    }

    async fn clean_up(&self) -> Result<(), Error> {
        self.with(|host, state| host.clean_up(state)).await
    }
}
