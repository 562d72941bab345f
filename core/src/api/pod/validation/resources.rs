//! Resources of containers and pods, and claims of devices.

use std::collections::{BTreeMap, BTreeSet};

use super::containers::Context;
use crate::api::ResourceList;
use crate::api::pod::helpers::{ResourceOptions, pod_requests};
use crate::api::pod::{Pod, PodResourceClaim, ResourceClaim, ResourceRequirements};
use crate::validation::names::{is_dns1123_label, is_dns1123_subdomain};
use crate::validation::resources::{
    is_huge_page, is_overcommit_allowed, is_whole_huge_pages, validate_container_resource_name,
    validate_pod_resource_name, validate_resource_quantity,
};
use crate::validation::{Error, ErrorList, Path, Report, go_value};

/// A check of a resource's name.
type NameCheck = fn(&str, &Path, &mut ErrorList);

/// Checks the resources of a container. `claims` are the names of the pod's claims.
pub(super) fn validate_container(
    resources: &ResourceRequirements,
    claims: &BTreeSet<&str>,
    at: &Path,
    errors: &mut ErrorList,
) {
    validate(resources, validate_container_resource_name, claims, at, errors);
}

/// Checks what running a pod costs beside its containers. Upstream reads it as limits and says so.
pub(super) fn validate_overhead(overhead: &ResourceList, at: &Path, errors: &mut ErrorList) {
    let resources = ResourceRequirements { limits: overhead.clone(), ..ResourceRequirements::default() };
    validate_container(&resources, &BTreeSet::new(), at, errors);
}

fn validate(
    resources: &ResourceRequirements,
    name_check: NameCheck,
    claims: &BTreeSet<&str>,
    at: &Path,
    errors: &mut ErrorList,
) {
    let (limits, requests) = (at.child("limits"), at.child("requests"));
    for (name, limit) in &resources.limits {
        let at = limits.key(name);
        name_check(name, &at, errors);
        validate_resource_quantity(name, limit, &at, errors);
        validate_huge_pages(name, limit, &at, errors);
    }
    for (name, request) in &resources.requests {
        let at = requests.key(name);
        name_check(name, &at, errors);
        validate_resource_quantity(name, request, &at, errors);
        match resources.limits.get(name) {
            Some(limit) if request != limit && !is_overcommit_allowed(name) => {
                errors.invalid(&requests, request.to_string(), format!("must be equal to {name} limit of {limit}"));
            }
            Some(limit) if request > limit => {
                let why = format!("must be less than or equal to {name} limit of {limit}");
                errors.invalid(&requests, request.to_string(), why);
            }
            Some(_) => {}
            None if !is_overcommit_allowed(name) => {
                errors.required(&limits, "Limit must be set for non overcommitable resources");
            }
            None => {}
        }
        validate_huge_pages(name, request, &at, errors);
    }
    let mut all = resources.limits.keys().chain(resources.requests.keys());
    if all.clone().any(|name| is_huge_page(name)) && !all.any(|name| matches!(name.as_str(), "cpu" | "memory")) {
        errors.forbidden(at, "HugePages require cpu or memory");
    }
    validate_claim_names(&resources.claims, claims, &at.child("claims"), errors);
}

fn validate_huge_pages(name: &str, amount: &crate::quantity::Quantity, at: &Path, errors: &mut ErrorList) {
    if is_huge_page(name) && !is_whole_huge_pages(name, amount) {
        errors.invalid(at, amount.to_string(), format!("{amount} is not positive integer multiple of {name}"));
    }
}

/// Checks a container's uses of the pod's claims.
fn validate_claim_names(uses: &[ResourceClaim], claims: &BTreeSet<&str>, at: &Path, errors: &mut ErrorList) {
    // Keys are `claim` for all of a claim, `claim/request` for a part of it.
    let mut used: BTreeSet<String> = BTreeSet::new();
    for (index, claim) in uses.iter().enumerate() {
        let (at, name, request) = (at.index(index), claim.name.as_str(), claim.request.as_str());
        if name.is_empty() {
            errors.required(&at, "");
            continue;
        }
        if used.contains(name) {
            errors.duplicate(&at, name);
        } else if request.is_empty() {
            let prefix = format!("{name}/");
            for _ in used.iter().filter(|key| key.starts_with(&prefix)) {
                errors.duplicate(&at, name);
            }
            used.insert(name.to_owned());
        } else {
            errors.invalid_each(&at.child("request"), request, is_dns1123_label(request));
            let key = format!("{name}/{request}");
            if used.contains(&key) {
                errors.duplicate(&at, key.as_str());
            }
            used.insert(key);
        }
        if !claims.contains(name) {
            let known = match claims.iter().copied().collect::<Vec<_>>() {
                none if none.is_empty() => " which is empty".to_owned(),
                some => format!(": {}", some.join(", ")),
            };
            let detail = format!("must be one of the names in pod.spec.resourceClaims{known}");
            errors.push(Error { detail, ..Error::not_found(&at, name) });
        }
    }
}

/// Checks the pod's claims of devices.
pub(super) fn validate_claims(claims: &[PodResourceClaim], at: &Path, errors: &mut ErrorList) {
    let mut names = BTreeSet::new();
    for (index, claim) in claims.iter().enumerate() {
        let at = at.index(index);
        let name = claim.name.as_str();
        if name.is_empty() {
            errors.required(&at.child("name"), "");
        } else if names.contains(name) {
            errors.duplicate(&at.child("name"), name);
        } else {
            errors.invalid_each(&at.child("name"), name, is_dns1123_label(name));
            names.insert(name);
        }
        let sources = [
            ("resourceClaimName", &claim.resource_claim_name),
            ("resourceClaimTemplateName", &claim.resource_claim_template_name),
        ];
        match sources.iter().filter(|(_, source)| source.is_some()).count() {
            0 => {
                let why = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
                errors.invalid(&at, go_value(claim), why);
            }
            1 => {}
            _ => {
                let why = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
                errors.invalid(&at, go_value(claim), why);
            }
        }
        for (field, source) in sources {
            if let Some(source) = source {
                errors.invalid_each(&at.child(field), source, is_dns1123_subdomain(source));
            }
        }
    }
}

/// Checks the resources of the pod as a whole, alone and against those of its containers.
pub(super) fn validate_pod_level(context: &Context<'_>, at: &Path, errors: &mut ErrorList) {
    let spec = context.spec;
    let Some(resources) = &spec.resources else { return };
    if !resources.claims.is_empty() {
        errors.forbidden(&at.child("claims"), "claims cannot be set for Resources at pod-level");
    }
    validate(resources, validate_pod_resource_name, &context.claims, at, errors);

    let options = ResourceOptions { skip_pod_level: true, exclude_overhead: true, ..ResourceOptions::default() };
    let pod = Pod { spec: spec.clone(), ..Pod::default() };
    for (name, sum) in pod_requests(&pod, options) {
        if let Some(own) = resources.requests.get(&name).filter(|own| sum > **own) {
            let why = format!("must be greater than or equal to aggregate container requests of {sum}");
            errors.invalid(&at.child("requests").key(&name), own.to_string(), why);
        }
    }
    for (index, container) in spec.containers.iter().enumerate() {
        let limits: &BTreeMap<_, _> = &container.resources.limits;
        for (name, limit) in limits {
            if let Some(most) = resources.limits.get(name).filter(|most| limit > most) {
                let at = at.child("containers").index(index).key(name).child("limits");
                errors.invalid(&at, limit.to_string(), format!("must be less than or equal to pod limits of {most}"));
            }
        }
    }
}
