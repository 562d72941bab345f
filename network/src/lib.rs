//! Pod networks and the service proxy of a node: implementations of [`longshore_core::network::Network`].
//!
//! - [`Bridge`]: an address of its own for every pod, Services through nftables.
//! - [`Cni`]: whatever CNI plugins make, Services as with the bridge.
//! - [`HostNetwork`]: every pod has the node's addresses.
//! - [`NoNetwork`]: no pod has any.
//!
//! [`dns`] serves the names of Services and pods.
//!
//! [`ranges`] finds address ranges that nothing on the machine uses yet, [`has_ipv6`] whether the kernel speaks IPv6.

pub mod bridge;
pub mod cni;
mod disk;
pub mod dns;
mod docker;
mod family;
mod names;
mod netlink;
mod nft;
mod plain;
pub mod ranges;

pub use bridge::{Bridge, Options};
pub use cni::Cni;
pub use family::has_ipv6;
pub use plain::{HostNetwork, NoNetwork};
