//! Ranges of addresses and ports.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;
use longshore_core::network::{ParseRangesError, Ranges};

/// Most addresses of a range that are used; more would only make a search for a free one slow.
const SIZE_MAX: u64 = 1 << 20;

/// A range of addresses, written as `10.96.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRange {
    network: IpAddr,
    prefix: u8,
}

/// Why a text is no range of addresses or ports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot read range {text:?}: {reason}")]
pub struct ParseRangeError {
    text: String,
    reason: &'static str,
}

impl AddressRange {
    /// `10.96.0.0/16`, of which upstream's installers use a part too.
    pub const DEFAULT: Self = Self { network: IpAddr::V4(Ipv4Addr::new(10, 96, 0, 0)), prefix: 16 };

    /// How many addresses can be given: all but the network's own and, for IPv4, the broadcast address.
    pub fn size(&self) -> u64 {
        let (bits, unusable) = match self.network {
            IpAddr::V4(_) => (32 - self.prefix, 2),
            IpAddr::V6(_) => (128 - self.prefix, 1),
        };
        1u64.checked_shl(bits.into()).unwrap_or(u64::MAX).saturating_sub(unusable).min(SIZE_MAX)
    }

    /// The address at a place: 1 is the first that can be given, [`AddressRange::size`] the last.
    pub fn at(&self, place: u64) -> IpAddr {
        match self.network {
            IpAddr::V4(network) => {
                Ipv4Addr::from(network.to_bits().wrapping_add(u32::try_from(place).unwrap_or(u32::MAX))).into()
            }
            IpAddr::V6(network) => Ipv6Addr::from(network.to_bits().wrapping_add(u128::from(place))).into(),
        }
    }

    /// The place of an address; `None` if it cannot be given.
    pub fn place(&self, address: IpAddr) -> Option<u64> {
        let distance = match (self.network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => u128::from(address.to_bits().checked_sub(network.to_bits())?),
            (IpAddr::V6(network), IpAddr::V6(address)) => address.to_bits().checked_sub(network.to_bits())?,
            _ => return None,
        };
        u64::try_from(distance).ok().filter(|place| (1..=self.size()).contains(place))
    }

    /// `IPv4` or `IPv6`.
    pub fn family(&self) -> &'static str {
        family_of(self.network)
    }
}

/// `IPv4` or `IPv6`.
pub(super) fn family_of(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl TryFrom<IpNet> for AddressRange {
    type Error = ParseRangeError;

    fn try_from(range: IpNet) -> Result<Self, ParseRangeError> {
        let bits = if range.addr().is_ipv4() { 32 } else { 128 };
        if range.prefix_len() + 2 > bits {
            return Err(ParseRangeError { text: range.to_string(), reason: "it has no room for two addresses" });
        }
        Ok(Self { network: range.network(), prefix: range.prefix_len() })
    }
}

impl FromStr for AddressRange {
    type Err = ParseRangeError;

    fn from_str(text: &str) -> Result<Self, ParseRangeError> {
        let refuse = |reason| ParseRangeError { text: text.to_owned(), reason };
        let (network, prefix) = text.split_once('/').ok_or_else(|| refuse("it has no /, as in 10.96.0.0/16"))?;
        let network: IpAddr = network.parse().map_err(|_| refuse("what stands before the / is no address"))?;
        let prefix: u8 = prefix.parse().map_err(|_| refuse("what stands after the / is no number"))?;
        let range = IpNet::new(network, prefix).map_err(|_| refuse("it has no room for two addresses"))?;
        range.try_into()
    }
}

/// Addresses of Services: one range, or one of each family, of which the first is the primary; written as `10.96.0.0/16` or
/// `10.96.0.0/16,fd00::/112`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceRanges {
    primary: AddressRange,
    secondary: Option<AddressRange>,
}

/// Why a text is no ranges of Services.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub enum ParseServiceRangesError {
    /// It is no ranges at all.
    Ranges(#[from] ParseRangesError),
    /// A range is too small.
    Range(#[from] ParseRangeError),
}

impl ServiceRanges {
    /// [`AddressRange::DEFAULT`] alone.
    pub const DEFAULT: Self = Self { primary: AddressRange::DEFAULT, secondary: None };

    /// The range of the family that Services have which do not ask for another.
    pub fn primary(&self) -> AddressRange {
        self.primary
    }

    /// All ranges, the primary first.
    pub fn iter(&self) -> impl Iterator<Item = AddressRange> + use<> {
        [self.primary].into_iter().chain(self.secondary)
    }

    /// Whether there is a range of each family.
    pub fn is_dual(&self) -> bool {
        self.secondary.is_some()
    }

    /// The range of a family, `IPv4` or `IPv6`; `None` if Services cannot have that.
    pub fn of_family(&self, family: &str) -> Option<AddressRange> {
        self.iter().find(|range| range.family() == family)
    }
}

impl From<AddressRange> for ServiceRanges {
    fn from(range: AddressRange) -> Self {
        Self { primary: range, secondary: None }
    }
}

impl fmt::Display for ServiceRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.primary.fmt(f)?;
        self.secondary.iter().try_for_each(|range| write!(f, ",{range}"))
    }
}

impl FromStr for ServiceRanges {
    type Err = ParseServiceRangesError;

    fn from_str(text: &str) -> Result<Self, ParseServiceRangesError> {
        let ranges: Ranges = text.parse()?;
        let mut ranges = ranges.iter().map(AddressRange::try_from);
        let primary = ranges.next().transpose()?.unwrap_or(AddressRange::DEFAULT);
        Ok(Self { primary, secondary: ranges.next().transpose()? })
    }
}

/// A range of ports, written as `30000-32767`; both ends belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// `30000-32767`.
    pub const DEFAULT: Self = Self { first: 30000, last: 32767 };

    /// Whether a port is of the range.
    pub fn contains(&self, port: i32) -> bool {
        (i32::from(self.first)..=i32::from(self.last)).contains(&port)
    }

    /// How many ports there are.
    pub fn size(&self) -> u64 {
        u64::from(self.last - self.first) + 1
    }

    /// The port at a place: 0 is the first.
    pub fn at(&self, offset: u64) -> i32 {
        i32::from(self.first) + i32::try_from(offset).unwrap_or(0)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for PortRange {
    type Err = ParseRangeError;

    fn from_str(text: &str) -> Result<Self, ParseRangeError> {
        let refuse = |reason| ParseRangeError { text: text.to_owned(), reason };
        let (first, last) = text.split_once('-').ok_or_else(|| refuse("it has no -, as in 30000-32767"))?;
        let port = |text: &str| text.parse::<u16>().map_err(|_| refuse("a port is a number from 1 to 65535"));
        let (first, last) = (port(first)?, port(last)?);
        if first == 0 || first > last {
            return Err(refuse("it does not begin with the smaller of two ports"));
        }
        Ok(Self { first, last })
    }
}
