//! What quotas may say, and what of them may change, in upstream's words.

use std::collections::BTreeSet;

use super::{ResourceQuota, ResourceQuotaSpec, ScopeSelector};
use crate::api::{ResourceList, rules};
use crate::validation::resources::{is_standard_quota, validate_quota_resource_name, validate_resource_quantity};
use crate::validation::{ErrorList, FIELD_IMMUTABLE, NameRule, Path, Report, go_value, json};

const UNSUPPORTED: &str = "unsupported scope";
const UNSUPPORTED_RESOURCE: &str = "unsupported scope applied to resource";
const CONFLICTING: &str = "conflicting scopes";
const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];
/// Scopes that exclude each other.
const CONFLICTS: [[&str; 2]; 2] = [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];
/// Resources of pods that scopes other than `BestEffort` can bound.
const OF_PODS: [&str; 7] = ["pods", "cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];

/// Checks a new quota.
pub(super) fn validate(quota: &ResourceQuota) -> ErrorList {
    let mut errors = rules::validate(quota, NameRule::DnsSubdomain);
    validate_spec(&quota.spec, &Path::new("spec"), &mut errors);
    validate_status(quota, &mut errors);
    errors
}

fn validate_amounts(amounts: &ResourceList, at: &Path, errors: &mut ErrorList) {
    for (name, amount) in amounts {
        let at = at.key(name);
        validate_quota_resource_name(name, &at, errors);
        validate_resource_quantity(name, amount, &at, errors);
    }
}

fn validate_status(quota: &ResourceQuota, errors: &mut ErrorList) {
    let at = Path::new("status");
    validate_amounts(&quota.status.hard, &at.child("hard"), errors);
    validate_amounts(&quota.status.used, &at.child("used"), errors);
}

fn validate_spec(spec: &ResourceQuotaSpec, at: &Path, errors: &mut ErrorList) {
    validate_amounts(&spec.hard, &at.child("hard"), errors);
    validate_scopes(spec, &at.child("scopes"), errors);
    if let Some(selector) = &spec.scope_selector {
        validate_selector(spec, selector, &at.child("scopeSelector").child("matchExpressions"), errors);
    }
}

/// Whether a scope can bound a resource.
fn bounds(scope: &str, resource: &str) -> bool {
    match scope {
        "BestEffort" => resource == "pods",
        "Terminating" | "NotTerminating" | "NotBestEffort" | "PriorityClass" | "CrossNamespacePodAffinity" => {
            OF_PODS.contains(&resource)
        }
        "VolumeAttributesClass" => matches!(resource, "persistentvolumeclaims" | "requests.storage"),
        _ => true,
    }
}

/// For how many of the resources a scope makes no sense.
fn unbounded(spec: &ResourceQuotaSpec, scope: &str) -> usize {
    spec.hard.keys().filter(|name| is_standard_quota(name) && !bounds(scope, name)).count()
}

fn conflicts(scopes: &BTreeSet<&str>) -> usize {
    CONFLICTS.iter().filter(|pair| pair.iter().all(|scope| scopes.contains(scope))).count()
}

fn validate_scopes(spec: &ResourceQuotaSpec, at: &Path, errors: &mut ErrorList) {
    let shown = || json(&spec.scopes);
    for scope in &spec.scopes {
        if !SCOPES.contains(&scope.as_str()) {
            errors.invalid(at, shown(), UNSUPPORTED);
        }
        for _ in 0..unbounded(spec, scope) {
            errors.invalid(at, shown(), UNSUPPORTED_RESOURCE);
        }
    }
    for _ in 0..conflicts(&spec.scopes.iter().map(String::as_str).collect()) {
        errors.invalid(at, shown(), CONFLICTING);
    }
}

fn validate_selector(spec: &ResourceQuotaSpec, selector: &ScopeSelector, at: &Path, errors: &mut ErrorList) {
    let mut scopes = BTreeSet::new();
    for requirement in &selector.match_expressions {
        let (scope, operator) = (requirement.scope_name.as_str(), requirement.operator.as_str());
        if !SCOPES.contains(&scope) {
            errors.invalid(&at.child("scopeName"), scope, UNSUPPORTED);
        }
        for _ in 0..unbounded(spec, scope) {
            errors.invalid(at, go_value(selector), UNSUPPORTED_RESOURCE);
        }
        let has_values = matches!(scope, "PriorityClass" | "VolumeAttributesClass") || !SCOPES.contains(&scope);
        if !has_values && operator != "Exists" {
            let why = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, \
                       ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or \
                       ResourceQuotaScopeCrossNamespacePodAffinity";
            errors.invalid(&at.child("operator"), operator, why);
        }
        let values = at.child("values");
        match operator {
            "In" | "NotIn" if requirement.values.is_empty() => {
                let why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.required(&values, why);
            }
            "Exists" | "DoesNotExist" if !requirement.values.is_empty() => {
                let why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.invalid(&values, json(&requirement.values), why);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.invalid(&at.child("operator"), other, "not a valid selector operator"),
        }
        scopes.insert(scope);
    }
    for _ in 0..conflicts(&scopes) {
        errors.invalid(at, json(&spec.scopes), CONFLICTING);
    }
}

/// Checks an update through the quota's own path.
pub(super) fn validate_update(new: &ResourceQuota, old: &ResourceQuota) -> ErrorList {
    let mut errors = rules::validate_update(new, old);
    validate_spec(&new.spec, &Path::new("spec"), &mut errors);
    let set = |quota: &ResourceQuota| quota.spec.scopes.iter().cloned().collect::<BTreeSet<String>>();
    if set(new) != set(old) {
        errors.invalid(&Path::new("spec").child("scopes"), json(&new.spec.scopes), FIELD_IMMUTABLE);
    }
    errors
}

/// Checks an update through `status`.
pub(super) fn validate_status_update(new: &ResourceQuota, old: &ResourceQuota) -> ErrorList {
    let mut errors = rules::validate_update(new, old);
    rules::require_resource_version(new, &mut errors);
    validate_status(new, &mut errors);
    errors
}
