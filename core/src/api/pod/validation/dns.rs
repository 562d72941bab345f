//! How a pod looks names up.

use crate::api::pod::{DnsPolicy, PodDNSConfig, PodSpec};
use crate::validation::addresses::validate_legacy_ip;
use crate::validation::names::SUBDOMAIN_MAX;
use crate::validation::{ErrorList, Path, Report};

// The C library's own limits.
const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_LIST_MAX: usize = 2048;

const HINT: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and \
     must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
     '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')";

/// Checks how names are looked up.
pub(super) fn validate(spec: &PodSpec, at: &Path, errors: &mut ErrorList) {
    let config = spec.dns_config.as_deref();
    if spec.dns_policy == DnsPolicy::None {
        if config.is_none() {
            errors.required(at, "must provide `dnsConfig` when `dnsPolicy` is None");
            return;
        }
        if config.is_some_and(|config| config.nameservers.is_empty()) {
            let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.required(&at.child("nameservers"), why);
            return;
        }
    }
    if let Some(config) = config {
        validate_config(config, at, errors);
    }
}

fn validate_config(config: &PodDNSConfig, at: &Path, errors: &mut ErrorList) {
    let (servers, searches) = (at.child("nameservers"), at.child("searches"));
    if config.nameservers.len() > NAMESERVERS_MAX {
        let why = format!("must not have more than {NAMESERVERS_MAX} nameservers");
        errors.invalid(&servers, config.nameservers.clone(), why);
    }
    for (index, server) in config.nameservers.iter().enumerate() {
        validate_legacy_ip(server, &servers.index(index), errors);
    }
    if config.searches.len() > SEARCHES_MAX {
        let why = format!("must not have more than {SEARCHES_MAX} search paths");
        errors.invalid(&searches, config.searches.clone(), why);
    }
    if config.searches.join(" ").len() > SEARCH_LIST_MAX {
        let why = format!("must not have more than {SEARCH_LIST_MAX} characters (including spaces) in the search list");
        errors.invalid(&searches, config.searches.clone(), why);
    }
    for (index, search) in config.searches.iter().enumerate().filter(|(_, search)| *search != ".") {
        let search = search.strip_suffix('.').unwrap_or(search);
        errors.invalid_each(&searches.index(index), search, wrong_with_search(search));
    }
    for (index, option) in config.options.iter().enumerate() {
        if option.name.is_empty() {
            errors.required(&at.child("options").index(index), "must not be empty");
        }
    }
}

/// What is wrong with a domain whose labels may have underscores.
fn wrong_with_search(domain: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if domain.len() > SUBDOMAIN_MAX {
        wrong.push(format!("must be no more than {SUBDOMAIN_MAX} characters"));
    }
    let edge = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let label = |label: &str| {
        let bytes = label.strip_prefix('_').unwrap_or(label).as_bytes();
        bytes.first().is_some_and(edge)
            && bytes.last().is_some_and(edge)
            && bytes.iter().all(|byte| edge(byte) || matches!(byte, b'-' | b'_'))
    };
    if !domain.split('.').all(label) {
        wrong.push(HINT.to_owned());
    }
    wrong
}
