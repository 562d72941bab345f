//! What an update of a service keeps that it does not mention, and what it drops that its new type has no use for.

use std::collections::{BTreeMap, BTreeSet};

use longshore_core::api::Service;
use longshore_core::api::service::{ServiceExternalTrafficPolicy, ServiceType};

use super::{has_node_ports, is_external_name, needs_health_check};

/// Prepares a service for validation, as upstream's strategy does: clients may leave out what they were given, and change the
/// type without clearing what went with the old one.
pub(crate) fn prepare(old: Option<&Service>, new: &mut Service) {
    if let Some(old) = old {
        keep(old, new);
    }
    normalize(old, new);
    if let Some(old) = old {
        drop_useless(old, new);
    }
}

fn keep(old: &Service, new: &mut Service) {
    if !is_external_name(old) && !is_external_name(new) {
        if new.spec.cluster_ip.is_empty() {
            new.spec.cluster_ip.clone_from(&old.spec.cluster_ip);
        }
        if new.spec.cluster_ips.is_empty() && new.spec.cluster_ip == old.spec.cluster_ip {
            new.spec.cluster_ips.clone_from(&old.spec.cluster_ips);
        }
    }
    if has_node_ports(old) && has_node_ports(new) {
        let known: BTreeMap<&str, i32> =
            old.spec.ports.iter().map(|port| (port.name.as_str(), port.node_port)).collect();
        let mut used: BTreeSet<i32> = node_ports(old).intersection(&node_ports(new)).copied().collect();
        for port in new.spec.ports.iter_mut().filter(|port| port.node_port == 0) {
            // A port's name is what stays when everything else of it changes.
            if let Some(before) = known.get(port.name.as_str())
                && used.insert(*before)
            {
                port.node_port = *before;
            }
        }
    }
    if needs_health_check(old) && needs_health_check(new) && new.spec.health_check_node_port == 0 {
        new.spec.health_check_node_port = old.spec.health_check_node_port;
    }
}

fn node_ports(service: &Service) -> BTreeSet<i32> {
    service.spec.ports.iter().map(|port| port.node_port).collect()
}

/// `clusterIP` and `clusterIPs` say the same; who knows only the first may change it.
fn normalize(old: Option<&Service>, new: &mut Service) {
    let spec = &mut new.spec;
    let first = || vec![spec.cluster_ip.clone()];
    let Some(old) = old else {
        if !spec.cluster_ip.is_empty() && spec.cluster_ips.is_empty() {
            spec.cluster_ips = first();
        }
        return;
    };
    if old.spec.cluster_ip == spec.cluster_ip || old.spec.cluster_ips != spec.cluster_ips {
        return;
    }
    spec.cluster_ips = if spec.cluster_ip.is_empty() { Vec::new() } else { first() };
}

fn drop_useless(old: &Service, new: &mut Service) {
    let (was, is) = (old.spec.type_ == ServiceType::LoadBalancer, new.spec.type_ == ServiceType::LoadBalancer);
    if !is_external_name(old) && is_external_name(new) {
        if old.spec.cluster_ip == new.spec.cluster_ip && old.spec.cluster_ips == new.spec.cluster_ips {
            new.spec.cluster_ip.clear();
            new.spec.cluster_ips.clear();
        }
        if old.spec.ip_families == new.spec.ip_families {
            new.spec.ip_families.clear();
        }
        if old.spec.ip_family_policy == new.spec.ip_family_policy {
            new.spec.ip_family_policy = None;
        }
    }
    if has_node_ports(old) && !has_node_ports(new) && node_ports(old) == node_ports(new) {
        new.spec.ports.iter_mut().for_each(|port| port.node_port = 0);
    }
    if needs_health_check(old)
        && !needs_health_check(new)
        && old.spec.health_check_node_port == new.spec.health_check_node_port
    {
        new.spec.health_check_node_port = 0;
    }
    if was && !is {
        if old.spec.allocate_load_balancer_node_ports == new.spec.allocate_load_balancer_node_ports {
            new.spec.allocate_load_balancer_node_ports = None;
        }
        if old.spec.load_balancer_class == new.spec.load_balancer_class {
            new.spec.load_balancer_class = None;
        }
    }
    if takes_outside_traffic(old)
        && !takes_outside_traffic(new)
        && old.spec.external_traffic_policy == new.spec.external_traffic_policy
    {
        new.spec.external_traffic_policy = ServiceExternalTrafficPolicy::Unset;
    }
    if !is {
        new.status.load_balancer = Default::default();
    }
}

fn takes_outside_traffic(service: &Service) -> bool {
    has_node_ports(service) || (service.spec.type_ == ServiceType::ClusterIP && !service.spec.external_ips.is_empty())
}
