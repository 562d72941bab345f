//! What metadata every object must have, and what of it an update may change, in upstream's words
//! (`k8s.io/apimachinery/pkg/api/validation`).

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde::Serialize;
use serde_json::Value;

use super::names::{
    is_dns1035_label, is_dns1123_label, is_dns1123_subdomain, is_qualified_name, is_valid_label_value,
    mask_trailing_dash, validate_field_manager, validate_qualified_name,
};
use super::{Error, ErrorList, Path, go_quote};

/// Most bytes that all annotations of an object may have together.
const ANNOTATIONS_MAX: usize = 256 * 1024;
const IMMUTABLE: &str = "field is immutable";

/// What the name of a kind's objects may look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameRule {
    /// A domain name.
    DnsSubdomain,
    /// One label of a domain name.
    DnsLabel,
    /// A label that starts with a letter.
    Dns1035Label,
    /// A segment of a URL path.
    PathSegment,
}

impl NameRule {
    /// What is wrong with a name, or with a prefix for generated names.
    pub fn check(self, name: &str, prefix: bool) -> Vec<String> {
        let name = if prefix && self != Self::PathSegment { mask_trailing_dash(name) } else { name.to_owned() };
        match self {
            Self::DnsSubdomain => is_dns1123_subdomain(&name),
            Self::DnsLabel => is_dns1123_label(&name),
            Self::Dns1035Label => is_dns1035_label(&name),
            Self::PathSegment => path_segment(&name, prefix),
        }
    }
}

fn path_segment(name: &str, prefix: bool) -> Vec<String> {
    if !prefix && matches!(name, "." | "..") {
        return vec![format!("may not be '{name}'")];
    }
    ["/", "%"].iter().filter(|bad| name.contains(**bad)).map(|bad| format!("may not contain '{bad}'")).collect()
}

fn text(field: &Option<String>) -> &str {
    field.as_deref().unwrap_or_default()
}

fn json(value: impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// Checks the metadata of a new object. `path` is usually `metadata`.
pub fn validate_object_meta(meta: &ObjectMeta, namespaced: bool, rule: NameRule, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let (name, prefix, namespace) = (text(&meta.name), text(&meta.generate_name), text(&meta.namespace));
    if !prefix.is_empty() {
        let at = path.child("generateName");
        errors.extend(rule.check(prefix, true).into_iter().map(|message| Error::invalid(&at, prefix, message)));
    }
    if name.is_empty() {
        if prefix.is_empty() {
            errors.push(Error::required(&path.child("name"), "name or generateName is required"));
        }
    } else {
        let at = path.child("name");
        errors.extend(rule.check(name, false).into_iter().map(|message| Error::invalid(&at, name, message)));
    }
    let at = path.child("namespace");
    match (namespaced, namespace.is_empty()) {
        (true, true) => errors.push(Error::required(&at, "")),
        (true, false) => {
            errors
                .extend(is_dns1123_label(namespace).into_iter().map(|message| Error::invalid(&at, namespace, message)));
        }
        (false, false) => errors.push(Error::forbidden(&at, "not allowed on this type")),
        (false, true) => {}
    }
    errors.extend(validate_accessor(meta, path));
    errors
}

/// What creation and update have in common.
fn validate_accessor(meta: &ObjectMeta, path: &Path) -> ErrorList {
    let mut errors = non_negative(meta.generation.unwrap_or_default(), &path.child("generation"));
    if let Some(labels) = &meta.labels {
        errors.extend(validate_labels(labels, &path.child("labels")));
    }
    if let Some(annotations) = &meta.annotations {
        errors.extend(validate_annotations(annotations, &path.child("annotations")));
    }
    errors
        .extend(validate_owners(meta.owner_references.as_deref().unwrap_or_default(), &path.child("ownerReferences")));
    let finalizers = meta.finalizers.as_deref().unwrap_or_default();
    errors.extend(validate_finalizers(finalizers, &path.child("finalizers")));
    errors.extend(validate_managed_fields(meta, &path.child("managedFields")));
    errors
}

fn non_negative(value: i64, path: &Path) -> ErrorList {
    if value < 0 {
        return vec![Error::invalid(path, value, "must be greater than or equal to 0")];
    }
    ErrorList::new()
}

/// Checks keys and values of labels.
pub fn validate_labels(labels: &BTreeMap<String, String>, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for (key, value) in labels {
        errors.extend(validate_qualified_name(key, path));
        errors.extend(
            is_valid_label_value(value).into_iter().map(|message| Error::invalid(path, value.as_str(), message)),
        );
    }
    errors
}

/// Checks keys and the whole size of annotations. The case of keys does not matter.
pub fn validate_annotations(annotations: &BTreeMap<String, String>, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for key in annotations.keys() {
        let messages = is_qualified_name(&key.to_lowercase());
        errors.extend(messages.into_iter().map(|message| Error::invalid(path, key.as_str(), message)));
    }
    let size: usize = annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
    if size > ANNOTATIONS_MAX {
        errors.push(Error::too_long(path, ANNOTATIONS_MAX as i64));
    }
    errors
}

fn validate_owners(owners: &[OwnerReference], path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut controller: Option<&OwnerReference> = None;
    for owner in owners {
        errors.extend(validate_owner(owner, path));
        if owner.controller != Some(true) {
            continue;
        }
        match controller {
            Some(first) => errors.push(Error::invalid(
                path,
                json(owners),
                format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {}/{} and {}/{}",
                    first.kind, first.name, owner.kind, owner.name
                ),
            )),
            None => controller = Some(owner),
        }
    }
    errors
}

fn validate_owner(owner: &OwnerReference, path: &Path) -> ErrorList {
    let (group, version) = owner.api_version.split_once('/').unwrap_or(("", &owner.api_version));
    let mut errors = ErrorList::new();
    if version.is_empty() {
        errors.push(Error::invalid(&path.child("apiVersion"), owner.api_version.as_str(), "version must not be empty"));
    }
    for (field, value) in [("kind", &owner.kind), ("name", &owner.name), ("uid", &owner.uid)] {
        if value.is_empty() {
            errors.push(Error::invalid(&path.child(field), "", "must not be empty"));
        }
    }
    if group.is_empty() && version == "v1" && owner.kind == "Event" {
        errors.push(Error::invalid(path, json(owner), "/v1, Kind=Event is disallowed from being an owner"));
    }
    errors
}

fn validate_finalizers(finalizers: &[String], path: &Path) -> ErrorList {
    let mut errors: ErrorList = finalizers.iter().flat_map(|name| validate_qualified_name(name, path)).collect();
    let has = |wanted: &str| finalizers.iter().any(|name| name == wanted);
    if has("orphan") && has("foregroundDeletion") {
        let why = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(Error::invalid(path, json(finalizers), why));
    }
    errors
}

fn validate_managed_fields(meta: &ObjectMeta, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for (index, entry) in meta.managed_fields.iter().flatten().enumerate() {
        let at = path.index(index);
        let operation = text(&entry.operation);
        if !matches!(operation, "Apply" | "Update") {
            errors.push(Error::invalid(&at.child("operation"), operation, "must be `Apply` or `Update`"));
        }
        let fields_type = text(&entry.fields_type);
        if !fields_type.is_empty() && fields_type != "FieldsV1" {
            errors.push(Error::invalid(&at.child("fieldsType"), fields_type, "must be `FieldsV1`"));
        }
        errors.extend(validate_field_manager(text(&entry.manager), &at.child("manager")));
        if text(&entry.subresource).len() > 256 {
            errors.push(Error::too_long(&at.child("subresource"), 256));
        }
    }
    errors
}

/// Finalizers without a domain that the core kinds know.
const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];

/// Checks that a finalizer without a domain is one of the few that are known.
pub(crate) fn validate_kube_finalizer(name: &str, path: &Path, errors: &mut ErrorList) {
    if !name.contains('/') && !STANDARD_FINALIZERS.contains(&name) {
        let why = "name is neither a standard finalizer name nor is it fully qualified";
        errors.push(Error::invalid(path, name, why));
    }
}

/// As [`validate_kube_finalizer`], for all finalizers of an object.
pub(crate) fn validate_kube_finalizers(meta: &ObjectMeta, path: &Path, errors: &mut ErrorList) {
    for (index, name) in meta.finalizers.iter().flatten().enumerate() {
        validate_kube_finalizer(name, &path.child("finalizers").index(index), errors);
    }
}

/// Checks the metadata of a template, of which only labels and annotations count.
pub(crate) fn validate_template_object_meta(meta: &ObjectMeta, path: &Path, errors: &mut ErrorList) {
    if let Some(annotations) = &meta.annotations {
        errors.extend(validate_annotations(annotations, &path.child("annotations")));
    }
    if let Some(labels) = &meta.labels {
        errors.extend(validate_labels(labels, &path.child("labels")));
    }
    let given = |field: &Option<String>| !text(field).is_empty();
    let set = [
        ("name", given(&meta.name)),
        ("generateName", given(&meta.generate_name)),
        ("namespace", given(&meta.namespace)),
        ("selfLink", given(&meta.self_link)),
        ("uID", given(&meta.uid)),
        ("resourceVersion", given(&meta.resource_version)),
        ("generation", meta.generation.is_some_and(|generation| generation != 0)),
        ("creationTimestamp", meta.creation_timestamp.is_some()),
        ("deletionTimestamp", meta.deletion_timestamp.is_some()),
        ("deletionGracePeriodSeconds", meta.deletion_grace_period_seconds.is_some()),
        ("ownerReferences", meta.owner_references.is_some()),
        ("finalizers", meta.finalizers.is_some()),
        ("managedFields", meta.managed_fields.is_some()),
    ];
    for (field, _) in set.into_iter().filter(|(_, set)| *set) {
        errors.push(Error::forbidden(&path.child(field), "cannot be set"));
    }
}

/// Checks what an update does to metadata.
pub fn validate_object_meta_update(new: &ObjectMeta, old: &ObjectMeta, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if let Some(error) = no_new_finalizers(new, old, path) {
        errors.push(error);
    }
    let mut immutable = |field: &str, same: bool, value: Value| {
        if !same {
            errors.push(Error::invalid(&path.child(field), value, IMMUTABLE));
        }
    };
    immutable("name", text(&new.name) == text(&old.name), text(&new.name).into());
    immutable("namespace", text(&new.namespace) == text(&old.namespace), text(&new.namespace).into());
    immutable("uid", text(&new.uid) == text(&old.uid), text(&new.uid).into());
    immutable("creationTimestamp", new.creation_timestamp == old.creation_timestamp, json(&new.creation_timestamp));
    immutable("deletionTimestamp", new.deletion_timestamp == old.deletion_timestamp, json(&new.deletion_timestamp));
    let grace = new.deletion_grace_period_seconds;
    immutable("deletionGracePeriodSeconds", grace == old.deletion_grace_period_seconds, json(grace));
    if text(&new.resource_version).is_empty() {
        errors.push(Error::invalid(&path.child("resourceVersion"), "", "must be specified for an update"));
    }
    let generation = new.generation.unwrap_or_default();
    if generation < old.generation.unwrap_or_default() {
        errors.push(Error::invalid(&path.child("generation"), generation, "must not be decremented"));
    }
    errors.extend(validate_accessor(new, path));
    errors
}

fn no_new_finalizers(new: &ObjectMeta, old: &ObjectMeta, path: &Path) -> Option<Error> {
    new.deletion_timestamp.as_ref()?;
    old.deletion_timestamp.as_ref()?;
    let before = old.finalizers.as_deref().unwrap_or_default();
    let mut added: Vec<&String> = new.finalizers.iter().flatten().filter(|name| !before.contains(name)).collect();
    added.sort();
    added.dedup();
    if added.is_empty() {
        return None;
    }
    let added: Vec<String> = added.into_iter().map(|name| go_quote(name)).collect();
    let why = "no new finalizers can be added if the object is being deleted, found new finalizers";
    Some(Error::forbidden(&path.child("finalizers"), format!("{why} []string{{{}}}", added.join(", "))))
}
