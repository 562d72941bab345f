//! What services may say, in upstream's words and order.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::update;
use super::{
    CLUSTER_IP_NONE, IpFamilyPolicy, Service, ServiceAffinity, ServiceExternalTrafficPolicy,
    ServiceInternalTrafficPolicy, ServicePort, ServiceSpec, ServiceType, SessionAffinityConfig,
};
use crate::api::pod::validation::{validate_port, validate_port_number, validate_protocol};
use crate::api::rules;
use crate::validation::addresses::{
    is_dual_stack, parse_legacy_ip, validate_legacy_cidr, validate_legacy_ip, validate_non_special_ip,
};
use crate::validation::names::{is_dns1123_label, is_dns1123_subdomain, validate_qualified_name};
use crate::validation::{ErrorList, NameRule, Path, Report, go_value, json, validate_labels};

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];
const FAMILY_POLICIES: [&str; 3] = ["PreferDualStack", "RequireDualStack", "SingleStack"];
const DISTRIBUTIONS: [&str; 3] = ["PreferClose", "PreferSameZone", "PreferSameNode"];
const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";
const TOPOLOGY_HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const ONLY_LOAD_BALANCER: &str = "may only be used when `type` is 'LoadBalancer'";
/// Longest time that a client stays with one pod, in seconds.
const AFFINITY_SECONDS_MAX: i32 = 86_400;

impl Service {
    /// Whether the service is only a name for its pods' addresses.
    pub(super) fn is_headless(&self) -> bool {
        matches!(self.spec.cluster_ips.as_slice(), [only] if only == CLUSTER_IP_NONE)
    }
}

/// Checks a new service.
pub(super) fn validate(service: &Service) -> ErrorList {
    let mut errors = rules::validate(service, NameRule::Dns1035Label);
    validate_content(service, &mut errors);
    errors
}

/// What holds for services, new or changed, besides the rules for metadata of all kinds.
pub(super) fn validate_content(service: &Service, errors: &mut ErrorList) {
    let (spec, at) = (&service.spec, Path::new("spec"));
    validate_topology_annotations(service, errors);
    if spec.ports.is_empty() && !service.is_headless() && spec.type_ != ServiceType::ExternalName {
        errors.required(&at.child("ports"), "");
    }
    validate_type(service, &at, errors);
    let mut names = BTreeSet::new();
    for (index, port) in spec.ports.iter().enumerate() {
        let several = spec.ports.len() > 1;
        validate_service_port(port, several, &mut names, &at.child("ports").index(index), errors);
    }
    errors.extend(validate_labels(&spec.selector, &at.child("selector")));
    validate_affinity(spec, &at, errors);
    validate_cluster_ips(service, errors);
    for (index, ip) in spec.external_ips.iter().enumerate() {
        let at = at.child("externalIPs").index(index);
        match parse_legacy_ip(ip) {
            None => validate_legacy_ip(ip, &at, errors),
            Some(_) => validate_non_special_ip(ip, &at, errors),
        }
    }
    match &spec.type_ {
        ServiceType::Unset => errors.required(&at.child("type"), ""),
        ServiceType::Other(other) => errors.not_supported(&at.child("type"), other.as_ref(), &TYPES),
        _ => {}
    }
    validate_port_numbers(spec, &at.child("ports"), errors);
    validate_source_ranges(service, &at, errors);
    validate_load_balancer(spec, &at, errors);
    update::validate_load_balancer_class(None, service, errors);
    validate_external_traffic(service, &at, errors);
    validate_internal_traffic(spec, &at, errors);
}

fn validate_topology_annotations(service: &Service, errors: &mut ErrorList) {
    let Some(annotations) = &service.metadata.annotations else { return };
    if let (Some(mode), Some(hints)) = (annotations.get(TOPOLOGY_MODE), annotations.get(TOPOLOGY_HINTS))
        && mode != hints
    {
        let at = Path::new("metadata").child("annotations").key(TOPOLOGY_MODE);
        let why = format!("must match annotations[{TOPOLOGY_HINTS}] when both are specified");
        errors.invalid(&at, mode.as_str(), why);
    }
}

fn validate_type(service: &Service, at: &Path, errors: &mut ErrorList) {
    let spec = &service.spec;
    match &spec.type_ {
        ServiceType::LoadBalancer | ServiceType::NodePort if service.is_headless() => {
            let why = format!("may not be set to 'None' for {} services", spec.type_);
            errors.invalid(&at.child("clusterIPs").index(0), CLUSTER_IP_NONE, why);
        }
        ServiceType::ExternalName => {
            let set = [
                ("clusterIPs", !spec.cluster_ips.is_empty()),
                ("ipFamilies", !spec.ip_families.is_empty()),
                ("ipFamilyPolicy", spec.ip_family_policy.is_some()),
            ];
            for (field, _) in set.into_iter().filter(|(_, set)| *set) {
                errors.forbidden(&at.child(field), "may not be set for ExternalName services");
            }
            let name = spec.external_name.strip_suffix('.').unwrap_or(&spec.external_name);
            if name.is_empty() {
                errors.required(&at.child("externalName"), "");
            } else {
                errors.invalid_each(&at.child("externalName"), name, is_dns1123_subdomain(name));
            }
        }
        _ => {}
    }
}

fn validate_service_port<'s>(
    port: &'s ServicePort,
    several: bool,
    names: &mut BTreeSet<&'s str>,
    at: &Path,
    errors: &mut ErrorList,
) {
    let name = port.name.as_str();
    if !name.is_empty() {
        errors.invalid_each(&at.child("name"), name, is_dns1123_label(name));
        if !names.insert(name) {
            errors.duplicate(&at.child("name"), name);
        }
    } else if several {
        errors.required(&at.child("name"), "");
    }
    validate_port_number(port.port, &at.child("port"), errors);
    validate_protocol(&port.protocol, &at.child("protocol"), errors);
    validate_port(&port.target_port, &at.child("targetPort"), errors);
    if let Some(protocol) = &port.app_protocol {
        errors.extend(validate_qualified_name(protocol, &at.child("appProtocol")));
    }
}

fn validate_affinity(spec: &ServiceSpec, at: &Path, errors: &mut ErrorList) {
    let config = at.child("sessionAffinityConfig");
    match &spec.session_affinity {
        ServiceAffinity::Unset => errors.required(&at.child("sessionAffinity"), ""),
        ServiceAffinity::Other(other) => {
            errors.not_supported(&at.child("sessionAffinity"), other.as_ref(), ServiceAffinity::ALL);
        }
        ServiceAffinity::ClientIP => validate_client_ip(spec.session_affinity_config.as_ref(), &config, errors),
        ServiceAffinity::None if spec.session_affinity_config.is_some() => {
            errors.forbidden(&config, "must not be set when session affinity is None");
        }
        ServiceAffinity::None => {}
    }
}

fn validate_client_ip(config: Option<&SessionAffinityConfig>, at: &Path, errors: &mut ErrorList) {
    const NEEDED: &str = "when session affinity type is ClientIP";
    let client = at.child("clientIP");
    let timeout = client.child("timeoutSeconds");
    match config.map(|config| config.client_ip.as_ref().map(|client| client.timeout_seconds)) {
        None => errors.required(at, NEEDED),
        Some(None) => errors.required(&client, NEEDED),
        Some(Some(None)) => errors.required(&timeout, NEEDED),
        Some(Some(Some(seconds))) if !(1..=AFFINITY_SECONDS_MAX).contains(&seconds) => {
            let why = format!("must be greater than 0 and less than {AFFINITY_SECONDS_MAX}");
            errors.invalid(&timeout, seconds, why);
        }
        Some(Some(Some(_))) => {}
    }
}

/// Checks addresses and families, alone and against each other.
pub(super) fn validate_cluster_ips(service: &Service, errors: &mut ErrorList) {
    let (spec, at) = (&service.spec, Path::new("spec"));
    if spec.type_ == ServiceType::ExternalName {
        return;
    }
    let (ips, at_ips) = (&spec.cluster_ips, at.child("clusterIPs"));
    match (spec.cluster_ip.as_str(), ips.first()) {
        ("", Some(_)) => errors.invalid(&at_ips, json(ips), "must be empty when `clusterIP` is not specified"),
        ("", None) => {}
        (_, None) => errors.required(&at_ips, ""),
        (ip, Some(first)) if first != ip => errors.invalid(&at_ips, json(ips), "first value must match `clusterIP`"),
        (_, Some(_)) => {}
    }
    for (index, family) in spec.ip_families.iter().enumerate() {
        let at = at.child("ipFamilies").index(index);
        if !FAMILIES.contains(&family.as_str()) {
            errors.not_supported(&at, family.as_str(), &FAMILIES);
        }
        if spec.ip_families[..index].contains(family) {
            errors.duplicate(&at, family.as_str());
        }
    }
    if let Some(policy) = spec.ip_family_policy.as_ref().filter(|policy| !IpFamilyPolicy::is_known(policy)) {
        errors.not_supported(&at.child("ipFamilyPolicy"), policy.as_str(), &FAMILY_POLICIES);
    }
    let before = errors.len();
    for (index, ip) in ips.iter().enumerate() {
        if index > 0 || ip != CLUSTER_IP_NONE {
            validate_legacy_ip(ip, &at_ips.index(index), errors);
        } else if ips.len() > 1 {
            errors.invalid(&at_ips, json(ips), "'None' must be the first and only value");
        }
    }
    let wrong = errors.len() > before;
    if ips.len() > 2 {
        errors.invalid(&at_ips, json(ips), "may only hold up to 2 values");
    }
    if wrong {
        return;
    }
    let parsed: Vec<IpAddr> = ips.iter().filter_map(|ip| parse_legacy_ip(ip)).collect();
    if ips.len() > 1 && !is_dual_stack(&parsed) {
        errors.invalid(&at_ips, json(ips), "may specify no more than one IP for each IP family");
    }
    if service.is_headless() {
        return;
    }
    for (index, (ip, family)) in parsed.iter().zip(&spec.ip_families).enumerate() {
        let fits = match family.as_str() {
            "IPv4" => ip.is_ipv4(),
            "IPv6" => ip.is_ipv6(),
            _ => true,
        };
        if !fits {
            let why = format!("expected an {family} value as indicated by `ipFamilies[{index}]`");
            errors.invalid(&at_ips.index(index), ips[index].as_str(), why);
        }
    }
}

/// Refuses ports of nodes where there can be none, and ports that are there twice.
fn validate_port_numbers(spec: &ServiceSpec, at: &Path, errors: &mut ErrorList) {
    if spec.type_ == ServiceType::ClusterIP {
        for (index, _) in spec.ports.iter().enumerate().filter(|(_, port)| port.node_port != 0) {
            let at = at.index(index).child("nodePort");
            errors.forbidden(&at, "may not be used when `type` is 'ClusterIP'");
        }
    }
    for (index, port) in spec.ports.iter().enumerate().filter(|(_, port)| port.node_port != 0) {
        let same = |of: &ServicePort| (&of.protocol, of.node_port) == (&port.protocol, port.node_port);
        if spec.ports[..index].iter().any(same) {
            errors.duplicate(&at.index(index).child("nodePort"), port.node_port);
        }
    }
    for (index, port) in spec.ports.iter().enumerate() {
        let same = |of: &ServicePort| (&of.protocol, of.port) == (&port.protocol, port.port);
        if spec.ports[..index].iter().any(same) {
            let key = ServicePort { protocol: port.protocol.clone(), port: port.port, ..ServicePort::default() };
            errors.duplicate(&at.index(index), go_value(&key));
        }
    }
}

fn validate_source_ranges(service: &Service, at: &Path, errors: &mut ErrorList) {
    let (spec, balanced) = (&service.spec, service.spec.type_ == ServiceType::LoadBalancer);
    if !spec.load_balancer_source_ranges.is_empty() {
        // The capital letter is upstream's.
        let at = at.child("LoadBalancerSourceRanges");
        if !balanced {
            errors.forbidden(&at, ONLY_LOAD_BALANCER);
        }
        for (index, range) in spec.load_balancer_source_ranges.iter().enumerate() {
            validate_legacy_cidr(range.trim(), &at.index(index), errors);
        }
    } else if let Some(ranges) = service.metadata.annotations.as_ref().and_then(|all| all.get(SOURCE_RANGES)) {
        let at = Path::new("metadata").child("annotations").key(SOURCE_RANGES);
        if !balanced {
            errors.forbidden(&at, ONLY_LOAD_BALANCER);
        }
        for range in ranges.trim().split(',').filter(|_| !ranges.trim().is_empty()) {
            validate_legacy_cidr(range.trim(), &at, errors);
        }
    }
}

fn validate_load_balancer(spec: &ServiceSpec, at: &Path, errors: &mut ErrorList) {
    match (spec.type_ == ServiceType::LoadBalancer, spec.allocate_load_balancer_node_ports) {
        (false, Some(_)) => errors.forbidden(&at.child("allocateLoadBalancerNodePorts"), ONLY_LOAD_BALANCER),
        (true, None) => errors.required(&Path::new("allocateLoadBalancerNodePorts"), ""),
        _ => {}
    }
}

/// Whether traffic from outside the cluster reaches the service.
fn is_external(service: &Service) -> bool {
    let spec = &service.spec;
    match spec.type_ {
        ServiceType::LoadBalancer | ServiceType::NodePort => true,
        ServiceType::ClusterIP => !spec.external_ips.is_empty(),
        _ => false,
    }
}

/// Whether nodes must say if they have pods of the service.
pub(super) fn needs_health_check(service: &Service) -> bool {
    service.spec.type_ == ServiceType::LoadBalancer
        && service.spec.external_traffic_policy == ServiceExternalTrafficPolicy::Local
}

fn validate_external_traffic(service: &Service, at: &Path, errors: &mut ErrorList) {
    let (spec, policy) = (&service.spec, &service.spec.external_traffic_policy);
    let at_policy = at.child("externalTrafficPolicy");
    if !is_external(service) {
        if !policy.is_unset() {
            let why = "may only be set for externally-accessible services";
            errors.invalid(&at_policy, policy.as_str(), why);
        }
    } else if policy.is_unset() {
        errors.required(&at_policy, "");
    } else if !policy.is_known() {
        errors.not_supported(&at_policy, policy.as_str(), ServiceExternalTrafficPolicy::ALL);
    }
    let (port, at) = (spec.health_check_node_port, at.child("healthCheckNodePort"));
    match (needs_health_check(service), port) {
        (false, 0) => {}
        (false, port) => {
            let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errors.invalid(&at, port, why);
        }
        (true, 0) => errors.required(&at, ""),
        (true, port) => validate_port_number(port, &at, errors),
    }
}

fn validate_internal_traffic(spec: &ServiceSpec, at: &Path, errors: &mut ErrorList) {
    let at_policy = at.child("internalTrafficPolicy");
    let usual = [ServiceType::NodePort, ServiceType::LoadBalancer, ServiceType::ClusterIP];
    match &spec.internal_traffic_policy {
        None if usual.contains(&spec.type_) => errors.required(&at_policy, ""),
        Some(policy) if !policy.is_known() => {
            errors.not_supported(&at_policy, policy.as_str(), ServiceInternalTrafficPolicy::ALL);
        }
        _ => {}
    }
    if let Some(wish) = spec.traffic_distribution.as_deref().filter(|wish| !DISTRIBUTIONS.contains(wish)) {
        errors.not_supported(&at.child("trafficDistribution"), wish, &DISTRIBUTIONS);
    }
}
