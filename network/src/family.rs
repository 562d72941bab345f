//! The two kinds of addresses: nearly everything is the same for both but its name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use ipnet::IpNet;
use longshore_core::network::Error;

/// What a kernel that speaks IPv6 has, whether or not an interface has an address of it.
const SIGN: &str = "/proc/net/if_inet6";

/// Whether the kernel speaks IPv6.
///
/// # Errors
/// [`Error::Missing`] if not; says what to do.
pub fn has_ipv6() -> Result<(), Error> {
    has_ipv6_by(Path::new(SIGN))
}

fn has_ipv6_by(sign: &Path) -> Result<(), Error> {
    if sign.exists() {
        return Ok(());
    }
    let remedy =
        "boot without ipv6.disable=1, or load the module ipv6; or leave out --dual-stack and ranges of IPv6".to_owned();
    Err(Error::Missing { what: "IPv6 in this machine's kernel".to_owned(), remedy })
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_ipv6_says_what_to_do() {
        assert!(has_ipv6_by(Path::new("/proc/net")).is_ok());
        let error = has_ipv6_by(Path::new("/no/such/sign")).unwrap_err().to_string();
        assert!(
            error.starts_with("IPv6 in this machine's kernel is missing") && error.contains("ipv6.disable=1"),
            "{error}"
        );
    }
}
