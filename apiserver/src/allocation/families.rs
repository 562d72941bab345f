//! The fields that say which address families a service has, in a cluster that has one.

use std::net::IpAddr;

use longshore_core::api::Service;
use longshore_core::api::service::IpFamilyPolicy;
use longshore_core::client::Error;
use longshore_core::kind::Described;
use longshore_core::validation::{self, ErrorList, Path};
use serde_json::json;

use super::range::family_of;
use super::{is_external_name, is_headless};
use crate::status;

/// Fills `ipFamilyPolicy` and `ipFamilies` as upstream does for a cluster of this family, and refuses what it cannot have.
pub(super) fn complete(service: &mut Service, old: Option<&Service>, family: &'static str) -> Result<(), Error> {
    if is_external_name(service) {
        return Ok(());
    }
    let selects_itself = is_headless(service) && service.spec.selector.is_empty();
    if service.spec.ip_family_policy.is_none() {
        let before = old.and_then(|old| old.spec.ip_family_policy.clone());
        let new = if selects_itself { IpFamilyPolicy::RequireDualStack } else { IpFamilyPolicy::SingleStack };
        service.spec.ip_family_policy = Some(before.unwrap_or(new));
    }
    let mut errors = ErrorList::new();
    narrow(service, old, &mut errors);
    infer(service, family, &mut errors);
    if errors.is_empty() {
        if selects_itself {
            // Its endpoints are somebody else's affair: it may have any families, whatever the cluster has.
            complete_headless(service, family);
        } else {
            check(service, family, &mut errors);
            if service.spec.ip_families.is_empty() {
                service.spec.ip_families.push(family.to_owned());
            }
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(status::invalid(&Service::INFO, service.metadata.name.as_deref().unwrap_or_default(), &errors))
}

fn policy(service: &Service) -> IpFamilyPolicy {
    service.spec.ip_family_policy.clone().unwrap_or(IpFamilyPolicy::SingleStack)
}

fn policy_path() -> Path {
    Path::new("spec").child("ipFamilyPolicy")
}

fn bad_policy(service: &Service, detail: &str) -> validation::Error {
    validation::Error::invalid(&policy_path(), json!(service.spec.ip_family_policy), detail)
}

/// One family means one of each; two that did not change are cut to one.
fn narrow(service: &mut Service, old: Option<&Service>, errors: &mut ErrorList) {
    if policy(service) != IpFamilyPolicy::SingleStack {
        return;
    }
    if let Some(old) = old {
        if old.spec.cluster_ips == service.spec.cluster_ips {
            service.spec.cluster_ips.truncate(1);
        }
        if old.spec.ip_families == service.spec.ip_families {
            service.spec.ip_families.truncate(1);
        }
    }
    let detail = "must be 'RequireDualStack' or 'PreferDualStack' when multiple";
    if service.spec.cluster_ips.len() == 2 {
        errors.push(bad_policy(service, &format!("{detail} cluster IPs are specified")));
    }
    if service.spec.ip_families.len() == 2 {
        errors.push(bad_policy(service, &format!("{detail} IP families are specified")));
    }
}

/// An address says its family.
fn infer(service: &mut Service, family: &'static str, errors: &mut ErrorList) {
    for (index, address) in service.spec.cluster_ips.iter().enumerate() {
        let Ok(address) = address.parse::<IpAddr>() else { return };
        if index < service.spec.ip_families.len() {
            continue;
        }
        let own = family_of(address);
        if own == family {
            service.spec.ip_families.push(own.to_owned());
        } else {
            let path = Path::new("spec").child("clusterIPs").index(index);
            let detail = format!("{own} is not configured on this cluster");
            errors.push(validation::Error::invalid(&path, json!(service.spec.cluster_ips), detail));
        }
    }
}

fn complete_headless(service: &mut Service, family: &'static str) {
    if service.spec.ip_families.is_empty() {
        service.spec.ip_families.push(family.to_owned());
    }
    if service.spec.ip_families.len() < 2 && policy(service) != IpFamilyPolicy::SingleStack {
        let other = if service.spec.ip_families[0] == "IPv4" { "IPv6" } else { "IPv4" };
        service.spec.ip_families.push(other.to_owned());
    }
}

fn check(service: &Service, family: &'static str, errors: &mut ErrorList) {
    if policy(service) == IpFamilyPolicy::RequireDualStack {
        errors.push(bad_policy(service, "this cluster is not configured for dual-stack services"));
    }
    for (index, own) in service.spec.ip_families.iter().enumerate().filter(|(_, own)| *own != family) {
        let path = Path::new("spec").child("ipFamilies").index(index);
        errors.push(validation::Error::invalid(&path, json!(own), "not configured on this cluster"));
    }
}
