//! The pod network and the service proxy of one node.
//!
//! # Contract
//!
//! 1. **Attach is idempotent.** Attaching a pod that is attached returns the addresses it has.
//! 2. **Detach frees.** After [`Network::detach`] nothing of the pod is left on the node and its address can be given
//!    again; detaching an unknown pod succeeds, also when its network namespace is gone.
//! 3. **State is on the node.** [`Network::attached`] finds what an earlier process attached.
//! 4. **Services and policies are replaced as a whole.** [`Network::set_services`] and [`Network::set_policies`] take the full
//!    table; the implementation changes only what differs, in one step: traffic sees the old table or the new one. Connections
//!    that are open stay open.
//! 5. **Names that are global to the host** carry the instance's id, so that clusters on one machine keep apart and
//!    [`Network::clean_up`] removes its own and nothing else.
//! 6. **Policies are judged where pods are.** Traffic is judged with the addresses that it has between two pods, after a
//!    Service led it to one of them. A pod always reaches itself, and its node always reaches it. A network that leaves policies
//!    to somebody else says so in its documentation.

mod ranges;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use async_trait::async_trait;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::runtime::PodRef;

pub use ranges::{ParseRangesError, Ranges};

/// What a pod needs to be connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attach {
    /// The pod.
    pub pod: PodRef,
    /// Its network namespace.
    pub network_namespace: PathBuf,
    /// Container ports to open on the node.
    pub host_ports: Vec<HostPort>,
}

/// A port of the node that leads to a pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HostPort {
    /// Protocol.
    pub protocol: Protocol,
    /// Address of the node; `None` for all.
    pub host_ip: Option<IpAddr>,
    /// Port on the node.
    pub host_port: u16,
    /// Port in the pod.
    pub container_port: u16,
}

/// A connected pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// The pod.
    pub pod: PodRef,
    /// Its addresses, the primary first.
    pub addresses: Vec<IpAddr>,
}

/// Transport protocols of services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// Where a service sends its traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Backend {
    /// Address of the pod.
    pub address: IpAddr,
    /// Port of the pod.
    pub port: u16,
    /// Whether the pod is on this node.
    pub local: bool,
    /// Whether it is on its way out and takes only what must stay on this node, which has no better one.
    pub fallback: bool,
}

/// One port of one service, resolved to addresses: all that a proxy needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePort {
    /// `namespace/name:port`, for comments and messages.
    pub name: String,
    /// Protocol.
    pub protocol: Protocol,
    /// Addresses at which the service answers: cluster IPs and external IPs. Of a family of which there is none, nothing is
    /// served.
    pub addresses: Vec<IpAddr>,
    /// Addresses of load balancers that pass traffic on without changing where it goes.
    pub balancers: Vec<IpAddr>,
    /// Who may use `balancers`; everybody if empty.
    pub balancer_sources: Vec<IpNet>,
    /// Port at those addresses.
    pub port: u16,
    /// Port at which every node answers, if any.
    pub node_port: Option<u16>,
    /// For how many seconds a client stays with one backend; `None` for no affinity.
    pub affinity_seconds: Option<u32>,
    /// Whether traffic from this node's pods goes to local backends only.
    pub internal_local: bool,
    /// Whether traffic from outside goes to local backends only, keeping the client's address.
    pub external_local: bool,
    /// Backends, sorted. None means that connections are refused; none on this node, where traffic must stay on it, that they
    /// are dropped.
    pub backends: Vec<Backend>,
}

/// A network policy, resolved to addresses: what it means for the pods of this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// `namespace/name`.
    pub name: String,
    /// Addresses of this node's pods that it is about, sorted. What reaches them, or what they reach, must be allowed by one of
    /// the policies that say something about that direction.
    pub pods: Vec<IpAddr>,
    /// What may reach them; `None` if the policy is not about that. An empty list allows nothing.
    pub ingress: Option<Vec<Allowed>>,
    /// What they may reach; `None` if the policy is not about that.
    pub egress: Option<Vec<Allowed>>,
}

/// Traffic that a policy allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowed {
    /// The policy's pods that it is about; `None` for all. Ports of one name may have other numbers in other pods.
    pub pods: Option<Vec<IpAddr>>,
    /// The other end; `None` for anybody.
    pub others: Option<Others>,
    /// Ports of the receiving end; `None` for all, and for what has no ports.
    pub ports: Option<Vec<PortRange>>,
}

/// The other end of traffic: any of these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Others {
    /// Addresses of pods, sorted.
    pub pods: Vec<IpAddr>,
    /// Ranges of addresses.
    pub blocks: Vec<Block>,
}

/// A range of addresses without some parts of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// The range.
    pub range: IpNet,
    /// The parts.
    pub except: Vec<IpNet>,
}

/// Ports of a protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortRange {
    /// Protocol.
    pub protocol: Protocol,
    /// First port.
    pub first: u16,
    /// Last port.
    pub last: u16,
}

/// The way to another node's pods.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// Name of the node.
    pub node: String,
    /// Address of the node.
    pub address: IpAddr,
    /// Addresses of its pods.
    pub pods: Vec<IpNet>,
}

/// What can go wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No address is free.
    #[error("no address left in {range}: {used} are in use")]
    NoAddress {
        /// The node's range.
        range: String,
        /// Addresses given out.
        used: usize,
    },
    /// Something that must be there is not, such as the `nft` program or a right.
    #[error("{what} is missing: {remedy}")]
    Missing {
        /// What is missing.
        what: String,
        /// What to do.
        remedy: String,
    },
    /// An operation failed.
    #[error("{operation} failed: {reason}")]
    Failed {
        /// What was tried, on what.
        operation: String,
        /// What happened.
        reason: String,
    },
}

/// Connects the pods of one node. See the [module's contract](self).
#[async_trait]
pub trait Network: fmt::Debug + Send + Sync + 'static {
    /// Connects a pod's network namespace and gives it addresses.
    ///
    /// # Errors
    /// [`Error::NoAddress`], [`Error::Failed`]; after an error nothing of the attempt is left.
    async fn attach(&self, request: &Attach) -> Result<Attached, Error>;

    /// Disconnects a pod and frees its addresses.
    ///
    /// # Errors
    /// [`Error::Failed`]; an unknown pod is none.
    async fn detach(&self, pod: &PodRef) -> Result<(), Error>;

    /// Every pod that is attached.
    ///
    /// # Errors
    /// [`Error::Failed`].
    async fn attached(&self) -> Result<Vec<Attached>, Error>;

    /// Makes the proxy serve exactly this table, which is sorted by name.
    ///
    /// # Errors
    /// [`Error::Failed`]; the old table then stays.
    async fn set_services(&self, services: &[ServicePort]) -> Result<(), Error>;

    /// Makes exactly these policies hold for this node's pods. They are sorted by name.
    ///
    /// # Errors
    /// [`Error::Failed`]; the old ones then stay.
    async fn set_policies(&self, policies: &[Policy]) -> Result<(), Error>;

    /// Whether policies mean anything to this network; if not, nobody need work them out.
    fn enforces_policies(&self) -> bool {
        true
    }

    /// Makes exactly these nodes' pods reachable.
    ///
    /// # Errors
    /// [`Error::Failed`].
    async fn set_peers(&self, peers: &[Peer]) -> Result<(), Error>;

    /// Puts back what somebody else may have removed from the host (rules, links). Called now and then.
    ///
    /// # Errors
    /// [`Error::Failed`].
    async fn repair(&self) -> Result<(), Error>;

    /// Removes everything of this instance from the node.
    ///
    /// # Errors
    /// [`Error::Failed`] naming what is left.
    async fn clean_up(&self) -> Result<(), Error>;
}
