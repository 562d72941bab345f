//! Names and amounts of resources, in upstream's words.

use super::names::is_qualified_name;
use super::{ErrorList, Path, Report};
use crate::quantity::Quantity;

/// Resources that a quota can bound, besides huge pages and those with a domain.
const QUOTA: [&str; 19] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services",
    "services.nodeports",
    "services.loadbalancers",
];

/// Resources that are counted.
const COUNTED: [&str; 9] = [
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

/// Whether a resource is huge pages of some size.
pub(crate) fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

fn is_quota_huge_page(name: &str) -> bool {
    is_huge_page(name) || name.starts_with("requests.hugepages-")
}

/// Whether a resource is one of Kubernetes' own.
pub(crate) fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Whether a resource is one that devices on a node offer.
fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.") && is_qualified_name(&format!("requests.{name}")).is_empty()
}

/// Whether a limit may be above the request.
pub(crate) fn is_overcommit_allowed(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

/// Whether amounts of a resource are whole numbers.
fn is_integer(name: &str) -> bool {
    COUNTED.contains(&name) || is_extended(name)
}

/// Whether a quota can bound a resource, as far as its name has no domain.
pub(crate) fn is_standard_quota(name: &str) -> bool {
    QUOTA.contains(&name) || is_quota_huge_page(name)
}

/// Checks the name of a resource.
pub(crate) fn validate_resource_name(name: &str, at: &Path, errors: &mut ErrorList) {
    let wrong = is_qualified_name(name);
    let standard = is_standard_quota(name) || name == "storage" || name.contains('/');
    if wrong.is_empty() && !standard {
        errors.invalid(at, name, "must be a standard resource type or fully qualified");
    }
    errors.invalid_each(at, name, wrong);
}

/// Checks the name of a resource that a container asks for.
pub(crate) fn validate_container_resource_name(name: &str, at: &Path, errors: &mut ErrorList) {
    validate_resource_name(name, at, errors);
    if !name.contains('/') {
        if !matches!(name, "cpu" | "memory" | "ephemeral-storage") && !is_huge_page(name) {
            errors.invalid(at, name, "must be a standard resource for containers");
        }
    } else if !is_native(name) && !is_extended(name) {
        errors.invalid(at, name, "doesn't follow extended resource name standard");
    }
}

/// Checks the name of a resource that a pod as a whole asks for.
pub(crate) fn validate_pod_resource_name(name: &str, at: &Path, errors: &mut ErrorList) {
    let before = errors.len();
    validate_resource_name(name, at, errors);
    if errors.len() == before && !matches!(name, "cpu" | "memory") && !is_huge_page(name) {
        errors.not_supported(at, name, &["cpu", "hugepages-", "memory"]);
    }
}

/// Checks the name of a resource that a quota bounds.
pub(crate) fn validate_quota_resource_name(name: &str, at: &Path, errors: &mut ErrorList) {
    validate_resource_name(name, at, errors);
    if !name.contains('/') && !is_standard_quota(name) {
        errors.invalid(at, name, "must be a standard resource for quota");
    }
}

/// Checks an amount: not below zero, and a whole number where the resource is counted.
pub(crate) fn validate_resource_quantity(name: &str, amount: &Quantity, at: &Path, errors: &mut ErrorList) {
    if amount.sign() < 0 {
        errors.invalid(at, amount.to_string(), "must be greater than or equal to 0");
    }
    if is_integer(name) && amount.milli_value() % 1000 != 0 {
        errors.invalid(at, amount.to_string(), "must be an integer");
    }
}

/// Checks an amount of which only whole units count.
pub(crate) fn validate_basic_quantity(amount: &Quantity, at: &Path, errors: &mut ErrorList) {
    if amount.value() < 0 {
        errors.invalid(at, amount.value(), "must be a valid resource quantity");
    }
}

/// Checks that an amount is above zero.
pub(crate) fn validate_positive_quantity(amount: &Quantity, at: &Path, errors: &mut ErrorList) {
    if amount.sign() <= 0 {
        errors.invalid(at, amount.to_string(), "must be greater than zero");
    }
}

/// Whether an amount of huge pages is a multiple of their size.
pub(crate) fn is_whole_huge_pages(name: &str, amount: &Quantity) -> bool {
    let size: Option<Quantity> = name.strip_prefix("hugepages-").and_then(|size| size.parse().ok());
    size.is_some_and(|size| size.sign() > 0 && size.milli_value() % 1000 == 0 && amount.value() % size.value() == 0)
}
