//! The downward API: what a container may learn about its pod, as text.

use std::collections::BTreeMap;

use crate::api::pod::{Container, Pod, ResourceFieldSelector};
use crate::api::resources::ResourceList;
use crate::go_format;
use crate::quantity::{Format, Quantity};
use crate::validation::names::is_qualified_name;

/// Why a field cannot be told to a container.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The path names no field that is told.
    #[error("unsupported fieldPath: {0}")]
    UnsupportedFieldPath(String),
    /// A key in brackets stands behind a field that is no map.
    #[error("fieldPath {0:?} does not support subscript")]
    NoSubscript(String),
    /// The key in brackets cannot be that of a label or annotation.
    #[error("invalid key subscript in {path}: {reasons}")]
    InvalidKey {
        /// The whole path.
        path: String,
        /// What is wrong with the key.
        reasons: String,
    },
    /// The pod has no container of this name.
    #[error("container {0} not found")]
    NoContainer(String),
    /// The resource is none of those that are told.
    #[error("unsupported container resource : {0}")]
    UnsupportedResource(String),
    /// Only version `v1` of the pod's API has field labels.
    #[error("unsupported pod version: {0}")]
    UnsupportedVersion(String),
    /// The label names no field that a container may ask for.
    #[error("field label not supported: {0}")]
    UnsupportedLabel(String),
    /// The label has a key in brackets but its field is no map.
    #[error("field label does not support subscript: {0}")]
    LabelWithSubscript(String),
}

/// Splits `metadata.labels['key']` into the path and the key; `None` if there is no key in brackets.
pub fn split_subscript(path: &str) -> Option<(&str, &str)> {
    let (path, key) = path.strip_suffix("']")?.split_once("['")?;
    (!path.is_empty()).then_some((path, key))
}

/// The field of a pod's metadata that `field_path` names, as text.
///
/// Fields of `spec` and `status` are not here: what a pod's addresses or node are, only its node knows in time.
///
/// # Errors
///
/// The path is not one of those that metadata has, or its key is malformed.
pub fn field(pod: &Pod, field_path: &str) -> Result<String, Error> {
    let metadata = &pod.metadata;
    if let Some((path, key)) = split_subscript(field_path) {
        let (map, rule_applies_to) = match path {
            // Keys of annotations may have upper case in their prefix.
            "metadata.annotations" => (&metadata.annotations, key.to_lowercase()),
            "metadata.labels" => (&metadata.labels, key.to_owned()),
            _ => return Err(Error::NoSubscript(field_path.to_owned())),
        };
        let wrong = is_qualified_name(&rule_applies_to);
        if !wrong.is_empty() {
            return Err(Error::InvalidKey { path: field_path.to_owned(), reasons: wrong.join(";") });
        }
        return Ok(map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default());
    }
    match field_path {
        "metadata.annotations" => Ok(metadata.annotations.as_ref().map(lines).unwrap_or_default()),
        "metadata.labels" => Ok(metadata.labels.as_ref().map(lines).unwrap_or_default()),
        "metadata.name" => Ok(metadata.name.clone().unwrap_or_default()),
        "metadata.namespace" => Ok(metadata.namespace.clone().unwrap_or_default()),
        "metadata.uid" => Ok(metadata.uid.clone().unwrap_or_default()),
        _ => Err(Error::UnsupportedFieldPath(field_path.to_owned())),
    }
}

/// The present name of a field that `label` of the pod's API `version` means.
///
/// # Errors
///
/// A container may not ask for this field.
pub fn convert_field_label(version: &str, label: &str) -> Result<String, Error> {
    if version != "v1" {
        return Err(Error::UnsupportedVersion(version.to_owned()));
    }
    if let Some((path, _)) = split_subscript(label) {
        return match path {
            "metadata.annotations" | "metadata.labels" => Ok(label.to_owned()),
            _ => Err(Error::LabelWithSubscript(label.to_owned())),
        };
    }
    match label {
        "metadata.annotations"
        | "metadata.labels"
        | "metadata.name"
        | "metadata.namespace"
        | "metadata.uid"
        | "spec.nodeName"
        | "spec.restartPolicy"
        | "spec.serviceAccountName"
        | "spec.schedulerName"
        | "status.phase"
        | "status.hostIP"
        | "status.hostIPs"
        | "status.podIP"
        | "status.podIPs" => Ok(label.to_owned()),
        "spec.host" => Ok("spec.nodeName".to_owned()),
        _ => Err(Error::UnsupportedLabel(label.to_owned())),
    }
}

/// An amount of a container's resources, in units of the selector's divisor, rounded up. A container without a limit
/// may use what the node can give to pods.
///
/// # Errors
///
/// There is no such container, or no such resource.
pub fn resource(
    pod: &Pod,
    container: &str,
    selector: &ResourceFieldSelector,
    allocatable: &ResourceList,
) -> Result<String, Error> {
    let spec = &pod.spec;
    let found = spec.containers.iter().chain(&spec.init_containers).find(|of| of.name == container);
    let container = found.ok_or_else(|| Error::NoContainer(container.to_owned()))?;
    let name = selector.resource.as_str();
    let amount = match name.split_once('.') {
        Some(("limits", resource @ ("cpu" | "memory" | "ephemeral-storage"))) => {
            limit(container, resource, allocatable)
        }
        Some(("requests", resource @ ("cpu" | "memory" | "ephemeral-storage"))) => {
            container.resources.requests.get(resource)
        }
        Some(("limits", resource)) if resource.starts_with("hugepages-") => container.resources.limits.get(resource),
        Some(("requests", resource)) if resource.starts_with("hugepages-") => {
            container.resources.requests.get(resource)
        }
        _ => return Err(Error::UnsupportedResource(name.to_owned())),
    };
    let amount = amount.cloned().unwrap_or_default();
    let divisor =
        if selector.divisor.is_zero() { Quantity::from_value(1, Format::DecimalSi) } else { selector.divisor.clone() };
    let units = if name.ends_with(".cpu") {
        (amount.milli_value() as f64 / divisor.milli_value() as f64).ceil()
    } else {
        (amount.value() as f64 / divisor.value() as f64).ceil()
    };
    Ok((units as i64).to_string())
}

fn limit<'a>(container: &'a Container, resource: &str, allocatable: &'a ResourceList) -> Option<&'a Quantity> {
    let own = container.resources.limits.get(resource);
    own.filter(|limit| !limit.is_zero()).or_else(|| allocatable.get(resource)).or(own)
}

/// A map as lines of `key="value"`, the value quoted as Go does.
fn lines(map: &BTreeMap<String, String>) -> String {
    map.iter().map(|(key, value)| format!("{key}={}", go_format::quote(value))).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_brackets_are_split_off() {
        assert_eq!(split_subscript("metadata.labels['a']"), Some(("metadata.labels", "a")));
        assert_eq!(split_subscript("['a']"), None);
        assert_eq!(split_subscript("metadata.labels['a'"), None);
    }
}
