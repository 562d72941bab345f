//! The fields that say which address families a service has, as upstream fills and checks them.

use std::net::IpAddr;

use longshore_core::api::Service;
use longshore_core::api::service::IpFamilyPolicy;
use longshore_core::client::Error;
use longshore_core::kind::Described;
use longshore_core::validation::{self, ErrorList, Path};
use serde_json::json;

use super::range::{ServiceRanges, family_of};
use super::{is_external_name, is_headless};
use crate::status;

/// Fills `ipFamilyPolicy` and `ipFamilies` for a cluster of these ranges, and refuses what it cannot have.
pub(super) fn complete(service: &mut Service, old: Option<&Service>, ranges: &ServiceRanges) -> Result<(), Error> {
    if is_external_name(service) || old.is_some_and(|old| keeps_preference(service, old)) {
        return Ok(());
    }
    let selects_itself = is_headless(service) && service.spec.selector.is_empty();
    if service.spec.ip_family_policy.is_none() {
        let before = old.and_then(|old| old.spec.ip_family_policy.clone());
        let new = if selects_itself { IpFamilyPolicy::RequireDualStack } else { IpFamilyPolicy::SingleStack };
        service.spec.ip_family_policy = Some(before.unwrap_or(new));
    }
    refused(service, &service.validate_cluster_ips())?;
    let mut errors = ErrorList::new();
    if let Some(old) = old {
        release(service, old, &mut errors);
    }
    check_policy(service, &mut errors);
    infer(service, ranges, &mut errors);
    refused(service, &errors)?;
    // The endpoints of a service that selects itself are somebody else's affair: it may have any families, whatever the cluster has.
    if !selects_itself {
        check_cluster(service, ranges, &mut errors);
        refused(service, &errors)?;
    }
    let families = &mut service.spec.ip_families;
    if families.is_empty() {
        families.push(ranges.primary().family().to_owned());
    }
    if families.len() == 1
        && service.spec.ip_family_policy != Some(IpFamilyPolicy::SingleStack)
        && (selects_itself || ranges.is_dual())
    {
        let other = if families[0] == "IPv4" { "IPv6" } else { "IPv4" };
        families.push(other.to_owned());
    }
    Ok(())
}

fn refused(service: &Service, errors: &ErrorList) -> Result<(), Error> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(status::invalid(&Service::INFO, service.metadata.name.as_deref().unwrap_or_default(), errors))
}

/// Whether a service that would like both families, and says nothing new of them, is left as it is: it gets no second address and loses
/// none only because its cluster has one family more or less by now.
fn keeps_preference(service: &Service, old: &Service) -> bool {
    let prefers = |policy: &Option<IpFamilyPolicy>| *policy == Some(IpFamilyPolicy::PreferDualStack);
    service.spec.type_ == old.spec.type_
        && prefers(&service.spec.ip_family_policy)
        && (old.spec.ip_family_policy.is_none() || prefers(&old.spec.ip_family_policy))
        && service.spec.cluster_ips == old.spec.cluster_ips
        && service.spec.ip_families == old.spec.ip_families
}

fn bad_policy(service: &Service, detail: &str) -> validation::Error {
    validation::Error::invalid(&Path::new("spec").child("ipFamilyPolicy"), json!(service.spec.ip_family_policy), detail)
}

/// One family means one of each: two that did not change are cut to one. Any other policy lets go of nothing.
fn release(service: &mut Service, old: &Service, errors: &mut ErrorList) {
    let (before, now) = (&old.spec, &mut service.spec);
    if now.ip_family_policy == Some(IpFamilyPolicy::SingleStack) {
        if before.cluster_ips == now.cluster_ips {
            now.cluster_ips.truncate(1);
        }
        if before.ip_families == now.ip_families {
            now.ip_families.truncate(1);
        }
        return;
    }
    // Who gives none says nothing.
    let fewer = |now: &[String], before: &[String]| !now.is_empty() && now.len() < before.len();
    let less = [
        (fewer(&now.cluster_ips, &before.cluster_ips), "cluster IP"),
        (fewer(&now.ip_families, &before.ip_families), "IP family"),
    ];
    for (_, what) in less.into_iter().filter(|(less, _)| *less) {
        errors.push(bad_policy(service, &format!("must be 'SingleStack' to release the secondary {what}")));
    }
}

fn check_policy(service: &Service, errors: &mut ErrorList) {
    if service.spec.ip_family_policy != Some(IpFamilyPolicy::SingleStack) {
        return;
    }
    let two =
        [(service.spec.cluster_ips.len() == 2, "cluster IPs"), (service.spec.ip_families.len() == 2, "IP families")];
    for (_, what) in two.into_iter().filter(|(two, _)| *two) {
        let detail = format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified");
        errors.push(bad_policy(service, &detail));
    }
}

/// An address says its family.
fn infer(service: &mut Service, ranges: &ServiceRanges, errors: &mut ErrorList) {
    for (index, address) in service.spec.cluster_ips.iter().enumerate() {
        let Ok(address) = address.parse::<IpAddr>() else { return };
        if index < service.spec.ip_families.len() {
            continue;
        }
        let own = family_of(address);
        if ranges.of_family(own).is_some() {
            service.spec.ip_families.push(own.to_owned());
        } else {
            let path = Path::new("spec").child("clusterIPs").index(index);
            let detail = format!("{own} is not configured on this cluster");
            errors.push(validation::Error::invalid(&path, json!(service.spec.cluster_ips), detail));
        }
    }
}

/// What is asked for must be there.
fn check_cluster(service: &Service, ranges: &ServiceRanges, errors: &mut ErrorList) {
    if service.spec.ip_family_policy == Some(IpFamilyPolicy::RequireDualStack) && !ranges.is_dual() {
        errors.push(bad_policy(service, "this cluster is not configured for dual-stack services"));
    }
    let families = service.spec.ip_families.iter().enumerate();
    for (index, family) in families.filter(|(_, family)| ranges.of_family(family).is_none()) {
        let path = Path::new("spec").child("ipFamilies").index(index);
        errors.push(validation::Error::invalid(&path, json!(family), "not configured on this cluster"));
    }
}
