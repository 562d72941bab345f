//! Finds address ranges that nothing on the machine uses.

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};
use longshore_core::network::Error;

use crate::netlink;

/// Every IPv4 range that the machine has a route to or an address in; default routes are none.
///
/// # Errors
/// [`Error::Failed`] if the kernel does not answer.
pub async fn taken() -> Result<Vec<IpNet>, Error> {
    crate::bridge::blocking(|| {
        netlink::run(async |netlink| {
            let addresses = netlink.addresses().await?.into_iter().map(|(_, net)| IpNet::from(net.trunc()));
            Ok(addresses.chain(netlink.routes().await?.into_iter().map(|route| route.destination)).collect())
        })
    })
    .await
}

/// The first range of `prefix` bits in one of `candidates` that touches none of `taken`.
///
/// ```
/// use longshore_network::ranges;
///
/// let taken = ["10.42.0.0/24".parse()?, "10.42.1.7/32".parse()?];
/// assert_eq!(ranges::free(&["10.42.0.0/16".parse()?], 24, &taken), Some("10.42.2.0/24".parse()?));
/// assert_eq!(ranges::free(&["10.42.1.0/24".parse()?], 24, &taken), None);
/// # Ok::<(), ipnet::AddrParseError>(())
/// ```
pub fn free(candidates: &[IpNet], prefix: u8, taken: &[IpNet]) -> Option<IpNet> {
    candidates.iter().find_map(|candidate| {
        let mut subnets = candidate.subnets(prefix.max(candidate.prefix_len())).ok()?;
        subnets.find(|subnet| !taken.iter().any(|taken| overlap(subnet, taken)))
    })
}

/// Whether two ranges have an address in common.
pub fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// The IPv4 part of ranges: all that [`crate::Bridge`] serves.
pub(crate) fn v4(ranges: &[IpNet]) -> Vec<Ipv4Net> {
    let v4 = |range: &IpNet| match range {
        IpNet::V4(range) => Some(range.trunc()),
        IpNet::V6(_) => None,
    };
    ranges.iter().filter_map(v4).collect()
}

/// The address that many after a range's first; `None` if it is outside, or the last (the broadcast address).
pub(crate) fn nth(range: Ipv4Net, n: u32) -> Option<Ipv4Addr> {
    let address = Ipv4Addr::from(u32::from(range.network()).checked_add(n)?);
    (range.contains(&address) && address != range.broadcast()).then_some(address)
}
