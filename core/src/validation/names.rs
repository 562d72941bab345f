//! What names, keys, ports and addresses may look like, in upstream's words
//! (`k8s.io/apimachinery/pkg/util/validation`). Each rule answers with what is wrong; nothing means valid.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Error, ErrorList, Path};
use crate::go_format;

/// Longest label of a domain name, in bytes.
pub const LABEL_MAX: usize = 63;
/// Longest domain name, in bytes.
pub const SUBDOMAIN_MAX: usize = 253;

const LABEL_HINT: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and \
     end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN_HINT: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and \
     must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const WILDCARD_HINT: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must \
     consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', \
     regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const DNS1035_HINT: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
     character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is \
     '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED_HINT: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
     alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
     '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE_HINT: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and \
     must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for \
     validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const C_IDENTIFIER_HINT: &str = "a valid C identifier must start with alphabetic character or '_', followed by a string of \
     alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is \
     '[A-Za-z_][A-Za-z0-9_]*')";
const PERCENT_HINT: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex \
     used for validation is '[0-9]+%')";
const HTTP_HEADER_HINT: &str = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex \
     used for validation is '[-A-Za-z0-9]+')";
const ENV_VAR_HINT: &str = "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and \
     must not start with a digit (e.g. 'my.env-name',  or 'MY_ENV.NAME',  or 'MyEnvName1', regex used for validation is \
     '[-._a-zA-Z][-._a-zA-Z0-9]*')";
const RELAXED_ENV_VAR_HINT: &str =
    "a valid environment variable name must consist only of printable ASCII characters other than '='";
const CONFIG_MAP_KEY_HINT: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  \
     or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const NON_EMPTY: &str = "must be non-empty";

fn too_long(what: &str, max: usize) -> String {
    format!("must be no more than {max} {what}")
}

fn edges(text: &str, edge: impl Fn(u8) -> bool, inner: impl Fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|byte| edge(*byte))
        && bytes.last().is_some_and(|byte| edge(*byte))
        && bytes.iter().all(|byte| edge(*byte) || inner(*byte))
}

fn lower(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn label_shaped(text: &str) -> bool {
    edges(text, lower, |byte| byte == b'-')
}

fn subdomain_shaped(text: &str) -> bool {
    text.split('.').all(label_shaped)
}

fn qualified_shaped(text: &str) -> bool {
    edges(text, |byte| byte.is_ascii_alphanumeric(), |byte| b"-_.".contains(&byte))
}

fn when(wrong: bool, message: &str) -> Vec<String> {
    if wrong { vec![message.to_owned()] } else { Vec::new() }
}

/// A label of a domain name: what most names inside objects are.
pub fn is_dns1123_label(text: &str) -> Vec<String> {
    let mut errors = when(text.len() > LABEL_MAX, &too_long("characters", LABEL_MAX));
    if !label_shaped(text) {
        let hint = if subdomain_shaped(text) { "must not contain dots" } else { LABEL_HINT };
        errors.push(hint.to_owned());
    }
    errors
}

/// A domain name: what the names of most objects are.
pub fn is_dns1123_subdomain(text: &str) -> Vec<String> {
    let mut errors = when(text.len() > SUBDOMAIN_MAX, &too_long("characters", SUBDOMAIN_MAX));
    errors.extend(when(!subdomain_shaped(text), SUBDOMAIN_HINT));
    errors
}

/// A domain name whose first label is `*`.
pub fn is_wildcard_dns1123_subdomain(text: &str) -> Vec<String> {
    let mut errors = when(text.len() > SUBDOMAIN_MAX, &too_long("characters", SUBDOMAIN_MAX));
    errors.extend(when(!text.strip_prefix("*.").is_some_and(subdomain_shaped), WILDCARD_HINT));
    errors
}

/// A label that starts with a letter: the name of a service.
pub fn is_dns1035_label(text: &str) -> Vec<String> {
    let mut errors = when(text.len() > LABEL_MAX, &too_long("characters", LABEL_MAX));
    let shaped = label_shaped(text) && text.starts_with(|c: char| c.is_ascii_lowercase());
    errors.extend(when(!shaped, DNS1035_HINT));
    errors
}

/// A key of a label or an annotation: a name with an optional domain before a slash.
pub fn is_qualified_name(text: &str) -> Vec<String> {
    let mut errors = Vec::new();
    let parts: Vec<&str> = text.split('/').collect();
    let name = match parts[..] {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                errors.push(format!("prefix part {NON_EMPTY}"));
            } else {
                if prefix.len() > SUBDOMAIN_MAX {
                    errors.push(format!("prefix part {}", too_long("bytes", SUBDOMAIN_MAX)));
                }
                if !subdomain_shaped(prefix) {
                    errors.push(format!("prefix part {SUBDOMAIN_HINT}"));
                }
            }
            name
        }
        _ => {
            let hint = QUALIFIED_HINT;
            return vec![format!(
                "a valid label key {hint} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        errors.push(format!("name part {NON_EMPTY}"));
    } else if name.len() > LABEL_MAX {
        errors.push(format!("name part {}", too_long("bytes", LABEL_MAX)));
    }
    errors.extend(when(!qualified_shaped(name), &format!("name part {QUALIFIED_HINT}")));
    errors
}

/// The value of a label; may be empty.
pub fn is_valid_label_value(text: &str) -> Vec<String> {
    let mut errors = when(text.len() > LABEL_MAX, &too_long("bytes", LABEL_MAX));
    errors.extend(when(!text.is_empty() && !qualified_shaped(text), LABEL_VALUE_HINT));
    errors
}

/// An identifier of the C language.
pub fn is_c_identifier(text: &str) -> Vec<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let valid = text.starts_with(|c| word(c) && !c.is_ascii_digit()) && text.chars().all(word);
    when(!valid, C_IDENTIFIER_HINT)
}

/// Digits and a percent sign.
pub fn is_valid_percent(text: &str) -> Vec<String> {
    let digits = text.strip_suffix('%').unwrap_or_default();
    when(digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()), PERCENT_HINT)
}

/// The name of an HTTP header.
pub fn is_http_header_name(text: &str) -> Vec<String> {
    when(text.is_empty() || !text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), HTTP_HEADER_HINT)
}

fn key_shaped(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

fn no_dots(text: &str) -> Vec<String> {
    match text {
        "." | ".." => vec![format!("must not be '{text}'")],
        _ => when(text.starts_with(".."), "must not start with '..'"),
    }
}

/// The name of an environment variable, by the strict rule.
pub fn is_env_var_name(text: &str) -> Vec<String> {
    let mut errors = when(!key_shaped(text) || text.starts_with(|c: char| c.is_ascii_digit()), ENV_VAR_HINT);
    errors.extend(no_dots(text));
    errors
}

/// The name of an environment variable, by the rule in force.
pub fn is_relaxed_env_var_name(text: &str) -> Vec<String> {
    if text.is_empty() {
        return vec![format!("environment variable name {NON_EMPTY}")];
    }
    when(!text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'='), RELAXED_ENV_VAR_HINT)
}

/// A key of a config map or a secret: it becomes a file's name.
pub fn is_config_map_key(text: &str) -> Vec<String> {
    let mut errors = when(text.len() > SUBDOMAIN_MAX, &too_long("characters", SUBDOMAIN_MAX));
    errors.extend(when(!key_shaped(text), CONFIG_MAP_KEY_HINT));
    errors.extend(no_dots(text));
    errors
}

/// The name of a container's port.
pub fn is_valid_port_name(text: &str) -> Vec<String> {
    let mut errors = when(text.len() > 15, &too_long("characters", 15));
    let shaped = !text.is_empty() && text.bytes().all(|byte| lower(byte) || byte == b'-');
    errors.extend(when(!shaped, "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"));
    errors.extend(when(!text.contains(|c: char| c.is_ascii_lowercase()), "must contain at least one letter (a-z)"));
    errors.extend(when(text.contains("--"), "must not contain consecutive hyphens"));
    errors.extend(when(text.starts_with('-') || text.ends_with('-'), "must not begin or end with a hyphen"));
    errors
}

/// The number of a port.
pub fn is_valid_port_num(port: i64) -> Vec<String> {
    when(!(1..=65535).contains(&port), "must be between 1 and 65535, inclusive")
}

/// The name that a prefix for generated names stands for: a trailing hyphen is no fault.
pub fn mask_trailing_dash(text: &str) -> String {
    match text.strip_suffix('-') {
        // Upstream puts a letter in place of the last two bytes.
        Some(rest) if !rest.is_empty() => {
            let end = rest.char_indices().next_back().map_or(0, |(at, _)| at);
            format!("{}a", &rest[..end])
        }
        _ => text.to_owned(),
    }
}

fn invalid(path: &Path, text: &str, messages: Vec<String>) -> ErrorList {
    messages.into_iter().map(|message| Error::invalid(path, text, message)).collect()
}

/// All messages in one error.
fn joined(path: &Path, text: &str, messages: &[String]) -> ErrorList {
    if messages.is_empty() { ErrorList::new() } else { vec![Error::invalid(path, text, messages.join(","))] }
}

/// A key with an optional domain, as a field error.
pub fn validate_qualified_name(text: &str, path: &Path) -> ErrorList {
    invalid(path, text, is_qualified_name(text))
}

/// A domain of at least two labels.
pub fn is_fully_qualified_domain_name(path: &Path, text: &str) -> ErrorList {
    if text.is_empty() {
        return vec![Error::required(path, "")];
    }
    let text_without_end = text.strip_suffix('.').unwrap_or(text);
    let errors = joined(path, text_without_end, &is_dns1123_subdomain(text_without_end));
    if !errors.is_empty() {
        return errors;
    }
    let labels: Vec<&str> = text_without_end.split('.').collect();
    if labels.len() < 2 {
        return vec![Error::invalid(
            path,
            text_without_end,
            "should be a domain with at least two segments separated by dots",
        )];
    }
    labels
        .into_iter()
        .map(|label| joined(path, label, &is_dns1123_label(label)))
        .find(|errors| !errors.is_empty())
        .unwrap_or_default()
}

/// A domain of at least three labels.
pub fn is_fully_qualified_name(path: &Path, text: &str) -> ErrorList {
    if text.is_empty() {
        return vec![Error::required(path, "")];
    }
    let errors = joined(path, text, &is_dns1123_subdomain(text));
    if errors.is_empty() && text.split('.').count() < 3 {
        return vec![Error::invalid(path, text, "should be a domain with at least three segments separated by dots")];
    }
    errors
}

/// A name with a domain before a slash.
pub fn is_domain_prefixed_key(path: &Path, text: &str) -> ErrorList {
    if text.is_empty() {
        return vec![Error::required(path, "")];
    }
    let mut errors = invalid(path, text, is_qualified_name(text));
    if errors.is_empty() && text.split('/').count() != 2 {
        errors.push(Error::invalid(path, text, "must be a domain-prefixed key (such as \"acme.io/foo\")"));
    }
    errors
}

/// A path with a domain before its first slash.
pub fn is_domain_prefixed_path(path: &Path, text: &str) -> ErrorList {
    if text.is_empty() {
        return vec![Error::required(path, "")];
    }
    let Some((domain, rest)) = text.split_once('/').filter(|(domain, rest)| !domain.is_empty() && !rest.is_empty())
    else {
        return vec![Error::invalid(path, text, "must be a domain-prefixed path (such as \"acme.io/foo\")")];
    };
    let mut errors = invalid(path, domain, is_dns1123_subdomain(domain));
    let allowed = |c: char| c.is_ascii_alphanumeric() || "/-._~%!$&'()*+,;=:".contains(c);
    if !rest.chars().all(allowed) {
        errors.push(Error::invalid(
            path,
            rest,
            "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')",
        ));
    }
    errors
}

/// Longest name of a signer: two domains, a label, and the signs between them.
const SIGNER_MAX: usize = 2 * SUBDOMAIN_MAX + LABEL_MAX + 2;

/// The name of a signer of certificates: a domain and a path, as long as a domain and two names at most.
pub fn validate_signer_name(text: &str, path: &Path) -> ErrorList {
    if text.is_empty() {
        return vec![Error::required(path, "")];
    }
    let parts: Vec<&str> = text.split('/').collect();
    let [domain, name] = parts[..] else {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return vec![Error::invalid(path, text, why)];
    };
    let mut errors = ErrorList::new();
    if domain.len() > SUBDOMAIN_MAX {
        errors.push(Error::too_long(path, SUBDOMAIN_MAX as i64));
    }
    let labels: Vec<&str> = domain.split('.').collect();
    // Only the first bad label is told.
    let first_bad = |labels: &[&str], check: fn(&str) -> Vec<String>, whole: &str| -> ErrorList {
        let mut checked = labels.iter().map(|label| (super::go_quote(label), check(label)));
        let (quoted, wrong) = checked.find(|(_, wrong)| !wrong.is_empty()).unwrap_or_default();
        wrong.iter().map(|why| Error::invalid(path, whole, format!("validating label {quoted}: {why}"))).collect()
    };
    errors.extend(first_bad(&labels, is_dns1123_label, domain));
    if labels.len() < 2 {
        let why = "should be a domain with at least two segments separated by dots";
        errors.push(Error::invalid(path, domain, why));
    }
    let segments: Vec<&str> = name.split('.').collect();
    errors.extend(first_bad(&segments, is_dns1123_subdomain, name));
    if text.len() > SIGNER_MAX {
        errors.push(Error::too_long(path, SIGNER_MAX as i64));
    }
    errors
}

/// A finalizer, or a name that may become one.
pub fn validate_finalizer_name(text: &str, path: &Path) -> ErrorList {
    validate_qualified_name(text, path)
}

/// An address as Go's `netip` reads it: no leading zeros. Zones are not for the API.
fn strict_ip(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

/// An address as the oldest readers take it: numbers may have leading zeros, which change nothing.
fn sloppy_ip(text: &str) -> Option<IpAddr> {
    if !text.contains(':') {
        return sloppy_ipv4(text).map(IpAddr::V4);
    }
    let group = |group: &str| -> Option<String> {
        if group.contains('.') {
            return Some(sloppy_ipv4(group)?.to_string());
        }
        let digits = group.trim_start_matches('0');
        Some(if digits.is_empty() && !group.is_empty() { "0" } else { digits }.to_owned())
    };
    let groups: Vec<String> = text.split(':').map(group).collect::<Option<_>>()?;
    groups.join(":").parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

fn sloppy_ipv4(text: &str) -> Option<Ipv4Addr> {
    let number = |part: &str| -> Option<u8> {
        let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        digits
            .then(|| part.trim_start_matches('0'))
            .and_then(|part| if part.is_empty() { Some(0) } else { part.parse().ok() })
    };
    let parts: Vec<u8> = text.split('.').map(number).collect::<Option<_>>()?;
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(parts).ok()?))
}

const IP_HINT: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

/// An address in its canonical form.
pub fn is_valid_ip(path: &Path, text: &str) -> ErrorList {
    let wrong = match (sloppy_ip(text), strict_ip(text)) {
        (None, _) => IP_HINT.to_owned(),
        (Some(_), None) => "must not have leading 0s".to_owned(),
        (_, Some(IpAddr::V6(ip))) if ip.to_ipv4_mapped().is_some() => {
            "must not be an IPv4-mapped IPv6 address".to_owned()
        }
        (_, Some(ip)) if ip.to_string() != text => format!("must be in canonical form (\"{ip}\")"),
        _ => return ErrorList::new(),
    };
    vec![Error::invalid(path, text, wrong)]
}

/// An address as the older fields take it: leading zeros and mapped addresses included.
pub fn is_valid_ip_for_legacy_field(path: &Path, text: &str) -> ErrorList {
    if sloppy_ip(text).is_some() { ErrorList::new() } else { vec![Error::invalid(path, text, IP_HINT)] }
}

/// An address range in its canonical form.
pub fn is_valid_cidr(path: &Path, text: &str) -> ErrorList {
    let wrong = match (sloppy_cidr(text), strict_cidr(text)) {
        (false, _) => "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)".to_owned(),
        (true, None) => "must not have leading 0s in IP or prefix length".to_owned(),
        (true, Some(ipnet::IpNet::V6(net))) if net.addr().to_ipv4_mapped().is_some() => {
            "must not have an IPv4-mapped IPv6 address".to_owned()
        }
        (true, Some(net)) if net.addr() != net.network() => {
            "must not have bits set beyond the prefix length".to_owned()
        }
        (true, Some(net)) if net.to_string() != text => format!("must be in canonical form (\"{net}\")"),
        _ => return ErrorList::new(),
    };
    vec![Error::invalid(path, text, wrong)]
}

fn sloppy_cidr(text: &str) -> bool {
    let Some((ip, length)) = text.split_once('/') else { return false };
    let most = match sloppy_ip(ip) {
        Some(IpAddr::V4(_)) => 32,
        Some(IpAddr::V6(_)) => 128,
        None => return false,
    };
    let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    let length = length.trim_start_matches('0');
    digits && (length.is_empty() || length.parse::<u8>().is_ok_and(|length| length <= most))
}

fn strict_cidr(text: &str) -> Option<ipnet::IpNet> {
    let (_, length) = text.split_once('/')?;
    if length.len() > 1 && length.starts_with('0') {
        return None;
    }
    text.parse().ok()
}

/// Who manages fields, in managed fields and requests.
pub fn validate_field_manager(text: &str, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if text.len() > 128 {
        errors.push(Error::too_long(path, 128));
    }
    let unprintable = text.char_indices().filter(|(_, c)| !go_format::is_printable(*c));
    let refuse = |(at, c): (usize, char)| {
        let why = format!("invalid character U+{:04X} (at position {at})", u32::from(c));
        Error::invalid(path, text, why)
    };
    errors.extend(unprintable.map(refuse));
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert!(is_dns1123_subdomain("a.b-c.d").is_empty());
        assert_eq!(is_dns1123_label("a.b"), ["must not contain dots"]);
        assert_eq!(is_dns1123_subdomain("A").len(), 1);
        assert!(is_qualified_name("example.com/x_y").is_empty());
        assert_eq!(is_qualified_name("/x"), ["prefix part must be non-empty"]);
        assert_eq!(is_valid_port_num(65536).len(), 1);
    }

    #[test]
    fn addresses_are_canonical() {
        let path = Path::new("f");
        let ip = |text| is_valid_ip(&path, text).first().map(|error| error.detail.clone()).unwrap_or_default();
        assert_eq!(ip("010.0.0.1"), "must not have leading 0s");
        assert_eq!(ip("00001::1"), "must not have leading 0s");
        assert_eq!(ip("::ffff:1.2.3.4"), "must not be an IPv4-mapped IPv6 address");
        assert_eq!(ip("2001:DB8::1"), "must be in canonical form (\"2001:db8::1\")");
        assert_eq!((ip("fe80::1%eth0"), ip("1.2.3.4")), (IP_HINT.to_owned(), String::new()));
        let cidr = |text| is_valid_cidr(&path, text).first().map(|error| error.detail.clone()).unwrap_or_default();
        assert_eq!(cidr("10.0.0.1/8"), "must not have bits set beyond the prefix length");
        assert_eq!(cidr("10.0.0.0/08"), "must not have leading 0s in IP or prefix length");
        assert!(cidr("10.0.0.0/33").starts_with("must be a valid CIDR value"));
        assert_eq!(cidr("2001:db8::/32"), "");
    }

    #[test]
    fn a_prefix_may_end_with_a_hyphen() {
        assert!(is_dns1123_label(&mask_trailing_dash("web-")).is_empty());
        assert!(!is_dns1123_label(&mask_trailing_dash("-")).is_empty());
    }
}
