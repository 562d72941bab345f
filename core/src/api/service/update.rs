//! What of a service may change, in upstream's words.

use super::validation::{needs_health_check, validate_content};
use super::{IpFamilyPolicy, Service, ServiceSpec, ServiceType};
use crate::api::rules;
use crate::validation::addresses::{parse_legacy_ip, validate_legacy_ip};
use crate::validation::names::{is_dns1123_subdomain, validate_qualified_name};
use crate::validation::{ErrorList, Path, Report, json};

const NOT_ONCE_SET: &str = "may not change once set";

/// Checks an update through the service's own path.
pub(super) fn validate_update(new: &Service, old: &Service) -> ErrorList {
    let mut errors = rules::validate_update(new, old);
    let external = |service: &Service| service.spec.type_ == ServiceType::ExternalName;
    if !external(new) && !external(old) {
        validate_cluster_ips(new, old, &mut errors);
        validate_families(new, old, &mut errors);
    }
    validate_load_balancer_class(Some(old), new, &mut errors);
    let port = |service: &Service| service.spec.health_check_node_port;
    if needs_health_check(old) && needs_health_check(new) && port(old) != port(new) {
        errors.forbidden(&Path::new("spec").child("healthCheckNodePort"), "field is immutable");
    }
    validate_content(new, &mut errors);
    errors
}

/// The first address stays; a second may come, or go if one family is asked for.
fn validate_cluster_ips(new: &Service, old: &Service, errors: &mut ErrorList) {
    if new.is_headless() && old.is_headless() {
        return;
    }
    let (now, before) = (&new.spec.cluster_ips, &old.spec.cluster_ips);
    let at = Path::new("spec").child("clusterIPs");
    if now.len() == before.len() {
        for (index, _) in now.iter().zip(before).enumerate().filter(|(_, (now, before))| now != before) {
            errors.invalid(&at.index(index), json(now), NOT_ONCE_SET);
        }
        return;
    }
    if now.is_empty() {
        errors.invalid(&at.index(0), json(now), "primary clusterIP can not be unset");
    }
    if let (Some(first), Some(was)) = (now.first(), before.first())
        && first != was
    {
        errors.invalid(&at.index(0), json(now), NOT_ONCE_SET);
    }
    if before.len() > now.len() && now.len() == 1 {
        require_single_stack(&new.spec, "secondary clusterIP", errors);
    }
}

/// Likewise for families; a headless service may change them.
fn validate_families(new: &Service, old: &Service, errors: &mut ErrorList) {
    if new.is_headless() || old.is_headless() {
        return;
    }
    let (now, before) = (&new.spec.ip_families, &old.spec.ip_families);
    // Upstream always names the first, and sometimes shows the addresses.
    let at = Path::new("spec").child("ipFamilies").index(0);
    if now.len() == before.len() {
        for _ in now.iter().zip(before).filter(|(now, before)| now != before) {
            errors.invalid(&at, json(now), NOT_ONCE_SET);
        }
        return;
    }
    if before.len() > now.len() && new.spec.cluster_ips.is_empty() {
        errors.invalid(&at, json(now), "primary ipFamily can not be unset");
    }
    if let (Some(first), Some(was)) = (now.first(), before.first())
        && first != was
    {
        errors.invalid(&at, json(&new.spec.cluster_ips), NOT_ONCE_SET);
    }
    if before.len() > now.len() && now.len() == 1 {
        require_single_stack(&new.spec, "secondary ipFamily", errors);
    }
}

fn require_single_stack(spec: &ServiceSpec, released: &str, errors: &mut ErrorList) {
    if spec.ip_family_policy != Some(IpFamilyPolicy::SingleStack) {
        let at = Path::new("spec").child("ipFamilyPolicy");
        let policy = spec.ip_family_policy.as_ref().map(|policy| policy.as_str().to_owned());
        errors.invalid(&at, policy, format!("must be set to 'SingleStack' when releasing the {released}"));
    }
}

/// Checks who makes the load balancer, of a new service or a changed one.
pub(super) fn validate_load_balancer_class(old: Option<&Service>, new: &Service, errors: &mut ErrorList) {
    let (class, at) = (&new.spec.load_balancer_class, Path::new("spec").child("loadBalancerClass"));
    let balanced = |service: &Service| service.spec.type_ == ServiceType::LoadBalancer;
    if let Some(old) = old
        && balanced(old)
        && balanced(new)
        && old.spec.load_balancer_class != *class
    {
        errors.invalid(&at, class.clone(), NOT_ONCE_SET);
    }
    match class {
        Some(class) if balanced(new) => errors.extend(validate_qualified_name(class, &at)),
        Some(_) => errors.forbidden(&at, "may only be used when `type` is 'LoadBalancer'"),
        None => {}
    }
}

/// Checks an update through `status`.
pub(super) fn validate_status_update(new: &Service, old: &Service) -> ErrorList {
    let mut errors = rules::validate_update(new, old);
    let at = Path::new("status").child("loadBalancer").child("ingress");
    let points = &new.status.load_balancer.ingress;
    if new.spec.type_ != ServiceType::LoadBalancer && !points.is_empty() {
        errors.forbidden(&at, "may only be used when `spec.type` is 'LoadBalancer'");
        return errors;
    }
    for (index, point) in points.iter().enumerate() {
        let at = at.index(index);
        let (ip, mode) = (point.ip.as_str(), at.child("ipMode"));
        if !ip.is_empty() {
            validate_legacy_ip(ip, &at.child("ip"), &mut errors);
        }
        match point.ip_mode.as_deref() {
            None if !ip.is_empty() => errors.required(&mode, "must be specified when `ip` is set"),
            Some(_) if ip.is_empty() => errors.forbidden(&mode, "may not be specified when `ip` is not set"),
            Some(other) if !matches!(other, "VIP" | "Proxy") => {
                errors.not_supported(&mode, other, &["Proxy", "VIP"]);
            }
            _ => {}
        }
        let name = point.hostname.as_str();
        if !name.is_empty() {
            errors.invalid_each(&at.child("hostname"), name, is_dns1123_subdomain(name));
            if parse_legacy_ip(name).is_some() {
                errors.invalid(&at.child("hostname"), name, "must be a DNS name, not an IP address");
            }
        }
    }
    errors
}
