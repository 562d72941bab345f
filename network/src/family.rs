//! The two kinds of addresses: nearly everything is the same for both but its name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// A kind of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    pub(crate) fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    pub(crate) fn has(self, address: IpAddr) -> bool {
        Self::of(address) == self
    }

    /// The ranges of this family, without what their hosts' bits say.
    pub(crate) fn ranges(self, ranges: &[IpNet]) -> Vec<IpNet> {
        ranges.iter().filter(|range| self.has(range.addr())).map(IpNet::trunc).collect()
    }

    /// What `nft` calls it: a table's family, and what stands before `saddr`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }

    /// What `nft` calls its addresses.
    pub(crate) fn type_(self) -> &'static str {
        match self {
            Self::V4 => "ipv4_addr",
            Self::V6 => "ipv6_addr",
        }
    }

    /// How many bits an address has.
    pub(crate) fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    /// The range of all addresses.
    pub(crate) fn everything(self) -> IpNet {
        let first = match self {
            Self::V4 => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            Self::V6 => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        };
        IpNet::new_assert(first, 0)
    }
}
