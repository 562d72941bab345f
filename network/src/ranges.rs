//! Finds address ranges that nothing on the machine uses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use longshore_core::network::Error;

use crate::netlink;

/// Every range that the machine has a route to or an address in; default routes are none.
///
/// # Errors
/// [`Error::Failed`] if the kernel does not answer.
pub async fn taken() -> Result<Vec<IpNet>, Error> {
    crate::bridge::blocking(|| {
        netlink::run(async |netlink| {
            let addresses = netlink.addresses().await?.into_iter().map(|(_, net)| net.trunc());
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

/// The address that many after a range's first; `None` if it is outside, or the last (IPv4's broadcast address).
pub(crate) fn nth(range: IpNet, n: u32) -> Option<IpAddr> {
    let address = match range.network() {
        IpAddr::V4(first) => IpAddr::from(Ipv4Addr::from(u32::from(first).checked_add(n)?)),
        IpAddr::V6(first) => IpAddr::from(Ipv6Addr::from(u128::from(first).checked_add(n.into())?)),
    };
    (range.contains(&address) && address != range.broadcast()).then_some(address)
}

/// How many addresses one is after its range's first.
pub(crate) fn place(range: IpNet, address: IpAddr) -> Option<u32> {
    match (range.network(), address) {
        (IpAddr::V4(first), IpAddr::V4(address)) => u32::from(address).checked_sub(first.into()),
        (IpAddr::V6(first), IpAddr::V6(address)) => u128::from(address).checked_sub(first.into())?.try_into().ok(),
        _ => None,
    }
}
