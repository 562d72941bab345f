//! Environment variables and where their values come from.

use super::for_each_container;
use crate::api::pod::{
    EnvFromSource, EnvVar, EnvVarSource, FileKeySelector, ObjectFieldSelector, PodSpec, ResourceFieldSelector,
};
use crate::downward::{convert_field_label, split_subscript};
use crate::validation::names::{
    is_config_map_key, is_dns1123_label, is_dns1123_subdomain, is_relaxed_env_var_name, validate_qualified_name,
};
use crate::validation::paths::validate_local_non_reserved_path;
use crate::validation::{ErrorList, NameRule, Path, Report};

/// Fields of the pod that a variable can hold.
const FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Resources of a container that can be told.
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const DIVISORS: [&str; 13] = ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
const ONLY_ONE: &str = "may not have more than one field specified at a time";

/// Checks variables.
pub(super) fn validate(variables: &[EnvVar], at: &Path, errors: &mut ErrorList) {
    for (index, variable) in variables.iter().enumerate() {
        let at = at.index(index);
        if variable.name.is_empty() {
            errors.required(&at.child("name"), "");
        } else {
            errors.invalid_each(&at.child("name"), &variable.name, is_relaxed_env_var_name(&variable.name));
        }
        if let Some(source) = &variable.value_from {
            validate_source(source, !variable.value.is_empty(), &at.child("valueFrom"), errors);
        }
    }
}

fn validate_source(source: &EnvVarSource, has_value: bool, at: &Path, errors: &mut ErrorList) {
    let mut sources = 0;
    if let Some(field) = &source.field_ref {
        sources += 1;
        validate_field(field, &FIELDS, &at.child("fieldRef"), errors);
    }
    if let Some(resource) = &source.resource_field_ref {
        sources += 1;
        validate_resource(resource, false, &at.child("resourceFieldRef"), errors);
    }
    if let Some(key) = &source.config_map_key_ref {
        sources += 1;
        validate_key(&key.name, &key.key, &at.child("configMapKeyRef"), errors);
    }
    if let Some(key) = &source.secret_key_ref {
        sources += 1;
        validate_key(&key.name, &key.key, &at.child("secretKeyRef"), errors);
    }
    if let Some(file) = &source.file_key_ref {
        sources += 1;
        validate_file(file, &at.child("fileKeyRef"), errors);
    }
    if sources == 0 {
        let why = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or \
                   `fileKeyRef`";
        errors.invalid(at, "", why);
    } else if has_value {
        errors.invalid(at, "", "may not be specified when `value` is not empty");
    } else if sources > 1 {
        errors.invalid(at, "", ONLY_ONE);
    }
}

fn validate_key(name: &str, key: &str, at: &Path, errors: &mut ErrorList) {
    errors.invalid_each(&at.child("name"), name, is_dns1123_subdomain(name));
    if key.is_empty() {
        errors.required(&at.child("key"), "");
    } else {
        errors.invalid_each(&at.child("key"), key, is_config_map_key(key));
    }
}

fn validate_file(file: &FileKeySelector, at: &Path, errors: &mut ErrorList) {
    if file.key.is_empty() {
        errors.required(&at.child("key"), "");
    } else {
        errors.invalid_each(&at.child("key"), &file.key, is_relaxed_env_var_name(&file.key));
    }
    if file.volume_name.is_empty() {
        errors.required(&at.child("volumeName"), "");
    } else {
        errors.invalid_each(&at.child("volumeName"), &file.volume_name, is_dns1123_label(&file.volume_name));
    }
    if file.path.is_empty() {
        errors.required(&at.child("path"), "");
    } else {
        validate_local_non_reserved_path(&file.path, &at.child("path"), errors);
    }
}

/// Files with variables must lie in an emptyDir of the pod.
pub(super) fn validate_files(spec: &PodSpec, at: &Path, errors: &mut ErrorList) {
    for_each_container(spec, at, |container, at| {
        for (index, variable) in container.env.iter().enumerate() {
            let Some(file) = variable.value_from.as_ref().and_then(|source| source.file_key_ref.as_ref()) else {
                continue;
            };
            let at = at.child("env").index(index).child("valueFrom").child("fileKeyRef").child("volumeName");
            match spec.volumes.iter().find(|volume| volume.name == file.volume_name) {
                None => errors.not_found(&at, file.volume_name.as_str()),
                Some(volume) if volume.empty_dir.is_none() => {
                    let why = "referenced volume must be of type emptyDir";
                    errors.invalid(&at, file.volume_name.as_str(), why);
                }
                Some(_) => {}
            }
        }
    });
}

/// Checks sources whose every key becomes a variable.
pub(super) fn validate_from(sources: &[EnvFromSource], at: &Path, errors: &mut ErrorList) {
    for (index, source) in sources.iter().enumerate() {
        let list = at;
        let at = at.index(index);
        if !source.prefix.is_empty() {
            errors.invalid_each(&at.child("prefix"), &source.prefix, is_relaxed_env_var_name(&source.prefix));
        }
        let names = [
            ("configMapRef", source.config_map_ref.as_ref().map(|map| &map.name)),
            ("secretRef", source.secret_ref.as_ref().map(|secret| &secret.name)),
        ];
        let mut given = 0;
        for (field, name) in names.into_iter().filter_map(|(field, name)| Some((field, name?))) {
            given += 1;
            let at = at.child(field).child("name");
            if name.is_empty() {
                errors.required(&at, "");
            } else {
                errors.invalid_each(&at, name, NameRule::DnsSubdomain.check(name, true));
            }
        }
        match given {
            0 => errors.invalid(list, "", "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => errors.invalid(list, "", ONLY_ONE),
        }
    }
}

/// Checks a reference to a field of the pod, which must be one of `allowed`.
pub(super) fn validate_field(field: &ObjectFieldSelector, allowed: &[&str], at: &Path, errors: &mut ErrorList) {
    if field.api_version.is_empty() {
        errors.required(&at.child("apiVersion"), "");
        return;
    }
    if field.field_path.is_empty() {
        errors.required(&at.child("fieldPath"), "");
        return;
    }
    let label = match convert_field_label(&field.api_version, &field.field_path) {
        Ok(label) => label,
        Err(error) => {
            let why = format!("error converting fieldPath: {error}");
            errors.invalid(&at.child("fieldPath"), field.field_path.as_str(), why);
            return;
        }
    };
    match split_subscript(&label) {
        // Keys of annotations may have upper case.
        Some(("metadata.annotations", key)) => errors.extend(validate_qualified_name(&key.to_lowercase(), at)),
        Some(("metadata.labels", key)) => errors.extend(validate_qualified_name(key, at)),
        Some((path, _)) => errors.invalid(at, path, "does not support subscript"),
        None if !allowed.contains(&label.as_str()) => {
            errors.not_supported(&at.child("fieldPath"), label.as_str(), allowed);
        }
        None => {}
    }
}

/// Checks a reference to a resource of a container; in a volume the container must be named.
pub(super) fn validate_resource(selector: &ResourceFieldSelector, in_volume: bool, at: &Path, errors: &mut ErrorList) {
    let resource = selector.resource.as_str();
    let huge_pages = ["limits.hugepages-", "requests.hugepages-"].iter().any(|prefix| resource.starts_with(prefix));
    if in_volume && selector.container_name.is_empty() {
        errors.required(&at.child("containerName"), "");
    } else if resource.is_empty() {
        errors.required(&at.child("resource"), "");
    } else if !RESOURCES.contains(&resource) && !huge_pages {
        errors.not_supported(&at.child("resource"), resource, &RESOURCES);
    }
    if selector.divisor.is_zero() {
        return;
    }
    let divisor = selector.divisor.to_string();
    let (what, allowed): (_, &[&str]) = match resource {
        "limits.cpu" | "requests.cpu" => {
            if divisor != "1m" && divisor != "1" {
                let why = "only divisor's values 1m and 1 are supported with the cpu resource";
                errors.invalid(&at.child("divisor"), resource, why);
            }
            return;
        }
        "limits.memory" | "requests.memory" => ("memory", &DIVISORS),
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => ("local ephemeral storage", &DIVISORS),
        _ if huge_pages => ("hugepages", &DIVISORS),
        _ => return,
    };
    if !allowed.contains(&divisor.as_str()) {
        let values = allowed.join(", ");
        let why = format!("only divisor's values {values} are supported with the {what} resource");
        errors.invalid(&at.child("divisor"), resource, why);
    }
}
