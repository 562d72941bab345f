//! What endpoints may say, in upstream's words.

use super::{EndpointAddress, EndpointPort, EndpointSubset};
use crate::api::pod::validation::{validate_port_number, validate_protocol};
use crate::validation::addresses::{validate_legacy_ip, validate_non_special_ip};
use crate::validation::names::{is_dns1123_label, is_dns1123_subdomain, validate_qualified_name};
use crate::validation::{ErrorList, Path, Report};

/// Checks groups of addresses that offer the same ports.
pub(super) fn validate_subsets(subsets: &[EndpointSubset], at: &Path, errors: &mut ErrorList) {
    for (index, subset) in subsets.iter().enumerate() {
        let at = at.index(index);
        let lists = [("addresses", &subset.addresses), ("notReadyAddresses", &subset.not_ready_addresses)];
        if lists.iter().all(|(_, addresses)| addresses.is_empty()) {
            errors.required(&at, "must specify `addresses` or `notReadyAddresses`");
        }
        for (list, addresses) in lists {
            for (index, address) in addresses.iter().enumerate() {
                validate_address(address, &at.child(list).index(index), errors);
            }
        }
        for (index, port) in subset.ports.iter().enumerate() {
            validate_endpoint_port(port, subset.ports.len() > 1, &at.child("ports").index(index), errors);
        }
    }
}

fn validate_address(address: &EndpointAddress, at: &Path, errors: &mut ErrorList) {
    validate_legacy_ip(&address.ip, &at.child("ip"), errors);
    if !address.hostname.is_empty() {
        errors.invalid_each(&at.child("hostname"), &address.hostname, is_dns1123_label(&address.hostname));
    }
    if let Some(node) = &address.node_name {
        errors.invalid_each(&at.child("nodeName"), node, is_dns1123_subdomain(node));
    }
    validate_non_special_ip(&address.ip, &at.child("ip"), errors);
}

fn validate_endpoint_port(port: &EndpointPort, several: bool, at: &Path, errors: &mut ErrorList) {
    if !port.name.is_empty() {
        errors.invalid_each(&at.child("name"), &port.name, is_dns1123_label(&port.name));
    } else if several {
        errors.required(&at.child("name"), "");
    }
    validate_port_number(port.port, &at.child("port"), errors);
    validate_protocol(&port.protocol, &at.child("protocol"), errors);
    if let Some(protocol) = &port.app_protocol {
        errors.extend(validate_qualified_name(protocol, &at.child("appProtocol")));
    }
}
