//! Ranges of addresses as users give them: of one family, or one of each.

use std::fmt;
use std::str::FromStr;

use ipnet::IpNet;

/// One range of addresses, or one of each family, the primary first; written as `10.96.0.0/16` or `10.96.0.0/16,fd00::/112`.
///
/// ```
/// use longshore_core::network::Ranges;
///
/// let both: Ranges = "10.96.0.9/16,fd00::/112".parse()?;
/// assert_eq!(both.to_string(), "10.96.0.0/16,fd00::/112");
/// assert!("10.96.0.0/16,10.97.0.0/16".parse::<Ranges>().is_err());
/// # Ok::<(), longshore_core::network::ParseRangesError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranges {
    primary: IpNet,
    secondary: Option<IpNet>,
}

/// Why a text is no ranges of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseRangesError {
    /// A part of it is no range.
    #[error("cannot read range {0:?}: write it as 10.96.0.0/16 or fd00::/112")]
    Range(String),
    /// Two ranges of one family.
    #[error("{0} and {1} are of one family: give one range, or one of IPv4 and one of IPv6")]
    OneFamily(IpNet, IpNet),
    /// More than two ranges.
    #[error("{0:?} has more than two ranges: give one of IPv4 and one of IPv6")]
    TooMany(String),
}

impl Ranges {
    /// One range, or one of each family.
    ///
    /// # Errors
    /// [`ParseRangesError::OneFamily`].
    pub fn new(primary: IpNet, secondary: Option<IpNet>) -> Result<Self, ParseRangesError> {
        let (primary, secondary) = (primary.trunc(), secondary.map(|range| range.trunc()));
        match secondary {
            Some(other) if is_v6(&other) == is_v6(&primary) => Err(ParseRangesError::OneFamily(primary, other)),
            _ => Ok(Self { primary, secondary }),
        }
    }

    /// The range of the family that comes first.
    pub fn primary(&self) -> IpNet {
        self.primary
    }

    /// All ranges, the primary first.
    pub fn iter(&self) -> impl Iterator<Item = IpNet> + use<> {
        [self.primary].into_iter().chain(self.secondary)
    }

    /// Whether there is a range of each family.
    pub fn is_dual(&self) -> bool {
        self.secondary.is_some()
    }

    /// A range of these and one of the others that have an address in common.
    pub fn overlap(&self, others: &Self) -> Option<(IpNet, IpNet)> {
        let pairs = self.iter().flat_map(|own| others.iter().map(move |other| (own, other)));
        pairs.into_iter().find(|(own, other)| own.contains(other) || other.contains(own))
    }
}

fn is_v6(range: &IpNet) -> bool {
    range.addr().is_ipv6()
}

impl From<IpNet> for Ranges {
    fn from(range: IpNet) -> Self {
        Self { primary: range.trunc(), secondary: None }
    }
}

impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.primary.fmt(f)?;
        self.secondary.iter().try_for_each(|range| write!(f, ",{range}"))
    }
}

impl FromStr for Ranges {
    type Err = ParseRangesError;

    fn from_str(text: &str) -> Result<Self, ParseRangesError> {
        let range = |text: &str| text.parse::<IpNet>().map_err(|_| ParseRangesError::Range(text.to_owned()));
        match text.split(',').map(str::trim).collect::<Vec<_>>().as_slice() {
            [only] => Ok(range(only)?.into()),
            [first, second] => Self::new(range(first)?, Some(range(second)?)),
            _ => Err(ParseRangesError::TooMany(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(text: &str) -> Ranges {
        text.parse().unwrap()
    }

    #[test]
    fn one_range_or_one_of_each_family_is_read() {
        for (text, shown, dual) in [
            ("10.96.3.4/16", "10.96.0.0/16", false),
            ("fd00::5/112", "fd00::/112", false),
            ("fd00::/64, 10.0.0.0/8", "fd00::/64,10.0.0.0/8", true),
        ] {
            assert_eq!((ranges(text).to_string().as_str(), ranges(text).is_dual()), (shown, dual));
        }
        for (text, complaint) in [
            ("", "cannot read range \"\""),
            ("10.96.0.0", "cannot read range \"10.96.0.0\""),
            ("10.96.0.0/16,", "cannot read range \"\""),
            ("10.96.0.0/33", "cannot read range"),
            ("10.96.0.0/16,10.97.0.0/16", "10.96.0.0/16 and 10.97.0.0/16 are of one family"),
            ("fd00::/64,fd01::/64", "are of one family"),
            ("10.0.0.0/8,fd00::/64,fd01::/64", "more than two ranges"),
        ] {
            let error = text.parse::<Ranges>().unwrap_err().to_string();
            assert!(error.contains(complaint), "{text}: {error}");
        }
    }

    #[test]
    fn an_overlap_is_found_within_a_family() {
        let pods = ranges("10.0.0.0/16,fd00::/56");
        assert_eq!(pods.overlap(&ranges("10.96.0.0/16,fd01::/112")), None);
        let found = pods.overlap(&ranges("10.96.0.0/16,fd00:0:0:7::/112")).map(|(own, other)| format!("{own} {other}"));
        assert_eq!(found.as_deref(), Some("fd00::/56 fd00:0:0:7::/112"));
    }
}
