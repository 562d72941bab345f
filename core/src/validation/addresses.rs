//! Which addresses may stand where.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::names::is_valid_ip_for_legacy_field;
use super::{ErrorList, Path, Report};

/// An address as the older fields take it: leading zeros, which mean nothing, and mapped addresses included.
pub(crate) fn parse_legacy_ip(text: &str) -> Option<IpAddr> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(ip.to_canonical());
    }
    let parts: Vec<&str> = text.split('.').collect();
    let number = |part: &&str| part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse::<u8>().ok())?;
    match parts.iter().map(number).collect::<Option<Vec<u8>>>()?[..] {
        [a, b, c, d] => Some(Ipv4Addr::new(a, b, c, d).into()),
        _ => None,
    }
}

/// An address range as the older fields take it: leading zeros and bits behind the prefix included.
pub(crate) fn parse_legacy_cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = text.split_once('/')?;
    let ip = parse_legacy_ip(address)?;
    let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    let length = digits.then(|| length.parse::<u8>().ok())??;
    let bits = if address.contains(':') { 128 } else { 32 };
    (length <= bits).then_some((ip, length))
}

/// An address range as the older fields of objects take it, such as `ipBlock` of a policy: with leading zeros, bits behind the
/// prefix, and IPv4 mapped into IPv6. Whoever acts on such a field must read it as validation did.
///
/// ```
/// use longshore_core::validation::parse_legacy_net;
/// assert_eq!(parse_legacy_net("010.0.0.9/008"), "10.0.0.0/8".parse().ok());
/// assert_eq!(parse_legacy_net("::ffff:10.0.0.0/104"), "10.0.0.0/8".parse().ok());
/// assert_eq!(parse_legacy_net("10.0.0.0"), None);
/// ```
pub fn parse_legacy_net(text: &str) -> Option<IpNet> {
    let (ip, length) = parse_legacy_cidr(text)?;
    let mapped = ip.is_ipv4() && text.contains(':');
    let length = if mapped { length.checked_sub(96)? } else { length };
    IpNet::new(ip, length).ok().map(|net| net.trunc())
}

/// Checks an address range in one of the older fields.
pub(crate) fn validate_legacy_cidr(text: &str, at: &Path, errors: &mut ErrorList) {
    if parse_legacy_cidr(text).is_none() {
        errors.invalid(at, text, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
    }
}

/// Refuses addresses that make no sense for others to connect to.
pub(crate) fn validate_non_special_ip(text: &str, at: &Path, errors: &mut ErrorList) {
    let Some(ip) = parse_legacy_ip(text) else {
        errors.invalid(at, text, "must be a valid IP address");
        return;
    };
    if ip.is_unspecified() {
        errors.invalid(at, text, format!("may not be unspecified ({text})"));
    }
    if ip.is_loopback() {
        errors.invalid(at, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    let (link_local, link_local_multicast) = match ip {
        IpAddr::V4(ip) => (ip.is_link_local(), ip.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(ip) => (ip.is_unicast_link_local(), ip.segments()[0] & 0xff0f == 0xff02),
    };
    if link_local {
        errors.invalid(at, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if link_local_multicast {
        errors.invalid(at, text, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}

/// Whether addresses are of both families.
pub(crate) fn is_dual_stack<'a>(addresses: impl IntoIterator<Item = &'a IpAddr>) -> bool {
    let (mut v4, mut v6) = (false, false);
    for ip in addresses {
        v4 |= ip.is_ipv4();
        v6 |= ip.is_ipv6();
    }
    v4 && v6
}

/// Checks a list of addresses, such as those of a pod: at most one a family, none twice. `shown` is what errors print of the
/// list and of its items.
pub(crate) fn validate_dual_stack_ips(
    ips: &[&str],
    at: &Path,
    shown: impl Fn(Option<usize>) -> serde_json::Value,
    errors: &mut ErrorList,
) {
    if ips.len() < 2 {
        return;
    }
    let parsed: Vec<Option<IpAddr>> = ips.iter().map(|ip| parse_legacy_ip(ip)).collect();
    if let Some(index) = parsed.iter().position(Option::is_none) {
        let why = format!("failed to check for dual stack with error:invalid IP[{index}]: {}", ips[index]);
        errors.push(super::Error::internal(at, why));
    }
    let all_read = parsed.iter().all(Option::is_some);
    if !all_read || !is_dual_stack(parsed.iter().flatten()) || ips.len() > 2 {
        errors.invalid(at, shown(None), "may specify no more than one IP for each IP family");
    }
    for (index, ip) in ips.iter().enumerate() {
        if ips[..index].contains(ip) {
            errors.duplicate(&at.index(index), shown(Some(index)));
        }
    }
}

/// Checks an address in one of the older fields.
pub(crate) fn validate_legacy_ip(text: &str, at: &Path, errors: &mut ErrorList) {
    errors.extend(is_valid_ip_for_legacy_field(at, text));
}
