//! What endpoint slices may say, in upstream's words.

use std::collections::BTreeSet;

use super::{AddressType, Endpoint, EndpointHints, EndpointPort, EndpointSlice};
use crate::api::pod::validation::PROTOCOLS;
use crate::api::rules;
use crate::validation::addresses::{parse_legacy_ip, validate_non_special_ip};
use crate::validation::names::{
    is_dns1123_label, is_dns1123_subdomain, is_fully_qualified_domain_name, is_qualified_name, validate_qualified_name,
};
use crate::validation::{ErrorList, NameRule, Path, Report, TextCheck, validate_labels};

const ADDRESS_TYPES: [&str; 3] = ["FQDN", "IPv4", "IPv6"];
const ENDPOINTS_MAX: usize = 1000;
const ADDRESSES_MAX: usize = 100;
const PORTS_MAX: usize = 20_000;
const TOPOLOGY_LABELS_MAX: usize = 16;
const HINTS_MAX: usize = 8;

/// Checks a new slice.
pub(super) fn validate(slice: &EndpointSlice) -> ErrorList {
    let mut errors = rules::validate(slice, NameRule::DnsSubdomain);
    validate_content(slice, &mut errors);
    errors
}

/// Checks an update.
pub(super) fn validate_update(new: &EndpointSlice, old: &EndpointSlice) -> ErrorList {
    let mut errors = rules::validate_update(new, old);
    validate_content(new, &mut errors);
    errors.immutable(&Path::new("addressType"), &new.address_type, &old.address_type);
    errors
}

fn validate_content(slice: &EndpointSlice, errors: &mut ErrorList) {
    let type_ = Path::new("addressType");
    if slice.address_type.is_unset() {
        errors.required(&type_, "");
    } else if !slice.address_type.is_known() {
        errors.not_supported(&type_, slice.address_type.as_str(), &ADDRESS_TYPES);
    }
    let at = Path::new("endpoints");
    if slice.endpoints.len() > ENDPOINTS_MAX {
        errors.too_many(&at, slice.endpoints.len(), ENDPOINTS_MAX);
    } else {
        for (index, endpoint) in slice.endpoints.iter().enumerate() {
            validate_endpoint(endpoint, &slice.address_type, &at.index(index), errors);
        }
    }
    let at = Path::new("ports");
    if slice.ports.len() > PORTS_MAX {
        errors.too_many(&at, slice.ports.len(), PORTS_MAX);
        return;
    }
    let mut names = BTreeSet::new();
    for (index, port) in slice.ports.iter().enumerate() {
        validate_port(port, &mut names, &at.index(index), errors);
    }
}

fn validate_endpoint(endpoint: &Endpoint, type_: &AddressType, at: &Path, errors: &mut ErrorList) {
    let addresses = at.child("addresses");
    if endpoint.addresses.is_empty() {
        errors.required(&addresses, "must contain at least 1 address");
    } else if endpoint.addresses.len() > ADDRESSES_MAX {
        errors.too_many(&addresses, endpoint.addresses.len(), ADDRESSES_MAX);
    }
    for (index, address) in endpoint.addresses.iter().enumerate() {
        validate_address(address, type_, &addresses.index(index), errors);
    }
    if let Some(node) = &endpoint.node_name {
        errors.invalid_each(&at.child("nodeName"), node, is_dns1123_subdomain(node));
    }
    let topology = at.child("deprecatedTopology");
    if endpoint.deprecated_topology.len() > TOPOLOGY_LABELS_MAX {
        errors.too_many(&topology, endpoint.deprecated_topology.len(), TOPOLOGY_LABELS_MAX);
    }
    errors.extend(validate_labels(&endpoint.deprecated_topology, &topology));
    if let Some(name) = &endpoint.hostname {
        errors.invalid_each(&at.child("hostname"), name, is_dns1123_label(name));
    }
    if let Some(hints) = &endpoint.hints {
        validate_hints(hints, &at.child("hints"), errors);
    }
}

fn validate_address(address: &str, type_: &AddressType, at: &Path, errors: &mut ErrorList) {
    let ip = parse_legacy_ip(address);
    match type_ {
        AddressType::IPv4 | AddressType::IPv6 => {
            let v4 = *type_ == AddressType::IPv4;
            // What has a colon is an IPv6 address, even if it stands for an IPv4 one.
            if ip.is_none() || address.contains(':') == v4 {
                errors.invalid(at, address, format!("must be a valid {type_} address"));
            }
            validate_non_special_ip(address, at, errors);
        }
        AddressType::Fqdn => errors.extend(is_fully_qualified_domain_name(at, address)),
        AddressType::Unset | AddressType::Other(_) => {}
    }
}

fn validate_hints(hints: &EndpointHints, at: &Path, errors: &mut ErrorList) {
    let zones: Vec<&str> = hints.for_zones.iter().map(|zone| zone.name.as_str()).collect();
    let nodes: Vec<&str> = hints.for_nodes.iter().map(|node| node.name.as_str()).collect();
    let lists: [(&str, Vec<&str>, TextCheck); 2] =
        [("forZones", zones, is_qualified_name), ("forNodes", nodes, is_dns1123_subdomain)];
    for (list, names, rule) in lists {
        let at = at.child(list);
        if names.len() > HINTS_MAX {
            errors.too_many(&at, names.len(), HINTS_MAX);
            continue;
        }
        for (index, name) in names.iter().enumerate() {
            let at = at.index(index).child("name");
            if names[..index].contains(name) {
                errors.duplicate(&at, *name);
            }
            errors.invalid_each(&at, name, rule(name));
        }
    }
}

fn validate_port<'s>(port: &'s EndpointPort, names: &mut BTreeSet<&'s str>, at: &Path, errors: &mut ErrorList) {
    let name = port.name.as_deref().unwrap_or_default();
    if !name.is_empty() {
        errors.invalid_each(&at.child("name"), name, is_dns1123_label(name));
    }
    if !names.insert(name) {
        errors.duplicate(&at.child("name"), name);
    }
    match &port.protocol {
        None => errors.required(&at.child("protocol"), ""),
        Some(protocol) if !protocol.is_known() => {
            errors.not_supported(&at.child("protocol"), protocol.as_str(), &PROTOCOLS);
        }
        Some(_) => {}
    }
    if let Some(protocol) = &port.app_protocol {
        errors.extend(validate_qualified_name(protocol, &at.child("appProtocol")));
    }
}
