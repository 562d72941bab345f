//! What volume claims may say, and what of them may change, in upstream's words.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{
    BETA_STORAGE_CLASS, PersistentVolumeAccessMode, PersistentVolumeClaim, PersistentVolumeClaimPhase,
    PersistentVolumeClaimSpec,
};
use crate::api::rules;
use crate::quantity::Quantity;
use crate::validation::names::{is_dns1123_label, is_dns1123_subdomain, is_qualified_name};
use crate::validation::resources::{
    is_native, validate_basic_quantity, validate_positive_quantity, validate_resource_quantity,
};
use crate::validation::{ErrorList, NameRule, Path, Report, diff, validate_label_selector};

/// Ways to use a volume, sorted.
pub(crate) const ACCESS_MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
/// What a volume looks like, sorted.
pub(crate) const VOLUME_MODES: [&str; 2] = ["Block", "Filesystem"];
const STORAGE: &str = "storage";
/// How far a resize can be, sorted.
const RESIZE_STATUSES: [&str; 5] = [
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
];

/// Checks a new claim.
pub(super) fn validate(claim: &PersistentVolumeClaim) -> ErrorList {
    let mut errors = rules::validate(claim, NameRule::DnsSubdomain);
    validate_spec(&claim.spec, &Path::new("spec"), &mut errors);
    errors
}

/// Checks ways to use a volume.
pub(crate) fn validate_access_modes(modes: &[PersistentVolumeAccessMode], at: &Path, errors: &mut ErrorList) {
    for mode in modes.iter().filter(|mode| !mode.is_known()) {
        errors.not_supported(at, mode.as_str(), &ACCESS_MODES);
    }
    let one_pod = |mode: &PersistentVolumeAccessMode| *mode == PersistentVolumeAccessMode::ReadWriteOncePod;
    if modes.iter().any(one_pod) && modes.iter().any(|mode| mode.is_known() && !one_pod(mode)) {
        errors.forbidden(at, "may not use ReadWriteOncePod with other access modes");
    }
}

/// Checks what is claimed.
pub(crate) fn validate_spec(spec: &PersistentVolumeClaimSpec, at: &Path, errors: &mut ErrorList) {
    if spec.access_modes.is_empty() {
        errors.required(&at.child("accessModes"), "at least 1 access mode is required");
    }
    validate_label_selector(spec.selector.as_ref(), &at.child("selector"), errors);
    validate_access_modes(&spec.access_modes, &at.child("accessModes"), errors);
    let storage = at.child("resources").key(STORAGE);
    match spec.resources.requests.get(STORAGE) {
        None => errors.required(&storage, ""),
        Some(amount) if amount.sign() <= 0 => validate_positive_quantity(amount, &storage, errors),
        Some(amount) => validate_resource_quantity(STORAGE, amount, &storage, errors),
    }
    let class = |class: &Option<String>, at: &Path, errors: &mut ErrorList| {
        if let Some(class) = class.as_deref().filter(|class| !class.is_empty()) {
            errors.invalid_each(at, class, is_dns1123_subdomain(class));
        }
    };
    class(&spec.storage_class_name, &at.child("storageClassName"), errors);
    if let Some(mode) = spec.volume_mode.as_ref().filter(|mode| !mode.is_known()) {
        errors.not_supported(&at.child("volumeMode"), mode.as_str(), &VOLUME_MODES);
    }
    validate_sources(spec, at, errors);
    class(&spec.volume_attributes_class_name, &at.child("volumeAttributesClassName"), errors);
}

fn validate_sources(spec: &PersistentVolumeClaimSpec, at: &Path, errors: &mut ErrorList) {
    if let Some(source) = &spec.data_source {
        let source = (source.api_group.as_deref(), source.kind.as_str(), source.name.as_str());
        validate_source(source, &at.child("dataSource"), errors);
    }
    let namespace = spec.data_source_ref.as_ref().and_then(|source| source.namespace.as_deref()).unwrap_or_default();
    if let Some(source) = &spec.data_source_ref {
        let at = at.child("dataSourceRef");
        validate_source((source.api_group.as_deref(), &source.kind, &source.name), &at, errors);
        if !namespace.is_empty() {
            errors.invalid_each(&at.child("namespace"), namespace, is_dns1123_label(namespace));
        }
    }
    let Some(source) = &spec.data_source else { return };
    // The value is a place in the object, which Go's JSON shows as a struct without fields.
    let place = || serde_json::json!({});
    if !namespace.is_empty() {
        errors.invalid(at, place(), "may not be specified when dataSourceRef.namespace is specified");
    } else if let Some(other) = &spec.data_source_ref
        && (&source.api_group, &source.kind, &source.name) != (&other.api_group, &other.kind, &other.name)
    {
        errors.invalid(at, place(), "must match dataSourceRef");
    }
}

fn validate_source((group, kind, name): (Option<&str>, &str, &str), at: &Path, errors: &mut ErrorList) {
    let group = group.unwrap_or_default();
    if name.is_empty() {
        errors.required(&at.child("name"), "");
    }
    if kind.is_empty() {
        errors.required(&at.child("kind"), "");
    }
    if group.is_empty() && kind != "PersistentVolumeClaim" {
        errors.invalid(at, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup");
    }
    if !group.is_empty() {
        errors.invalid_each(&at.child("apiGroup"), group, is_dns1123_subdomain(group));
    }
}

/// The storage class that the annotation names.
fn beta_class(metadata: &ObjectMeta) -> Option<&str> {
    metadata.annotations.as_ref()?.get(BETA_STORAGE_CLASS).map(String::as_str)
}

/// Checks an update through the claim's own path: the claim itself, then what changed and the claim once more.
pub(super) fn validate_update(new: &PersistentVolumeClaim, old: &PersistentVolumeClaim) -> ErrorList {
    let mut errors = validate(new);
    errors.extend(rules::validate_update(new, old));
    errors.extend(validate(new));
    let at = Path::new("spec");
    let (mut now, mut before) = (new.spec.clone(), old.spec.clone());
    if before.volume_name.is_empty() {
        before.volume_name.clone_from(&now.volume_name);
    }
    put_back_class(new, old, &mut now, &mut errors);
    if new.status.phase == PersistentVolumeClaimPhase::Bound {
        if !now.resources.requests.is_empty() {
            let size = old.spec.resources.requests.get(STORAGE).cloned().unwrap_or_default();
            now.resources.requests.insert(STORAGE.to_owned(), size);
        }
        if now.volume_attributes_class_name.is_some() {
            now.volume_attributes_class_name.clone_from(&before.volume_attributes_class_name);
        }
    }
    if now != before {
        let why =
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        errors.forbidden(&at, format!("{why}\n{}", diff(&before, &now)));
    }
    let none = Quantity::default();
    let size = |of: &PersistentVolumeClaim| of.spec.resources.requests.get(STORAGE).cloned().unwrap_or_default();
    // A claim may shrink to what its volume already has, to recover from growing that failed.
    if size(new) < size(old) && size(new) <= *old.status.capacity.get(STORAGE).unwrap_or(&none) {
        let at = at.child("resources").child("requests").child(STORAGE);
        errors.forbidden(&at, "field can not be less than status.capacity");
    }
    errors.immutable(&Path::new("volumeMode"), &new.spec.volume_mode, &old.spec.volume_mode);
    let attributes = at.child("volumeAttributesClassName");
    match (&old.spec.volume_attributes_class_name, &new.spec.volume_attributes_class_name) {
        (Some(_), None) => errors.forbidden(&attributes, "update from non-nil value to nil is forbidden"),
        (Some(before), Some(now)) if now.is_empty() && !before.is_empty() => {
            errors.forbidden(&attributes, "update from non-nil value to an empty string is forbidden");
        }
        _ => {}
    }
    errors
}

/// The class may move from the annotation to the field, and be given where there was none.
fn put_back_class(
    new: &PersistentVolumeClaim,
    old: &PersistentVolumeClaim,
    now: &mut PersistentVolumeClaimSpec,
    errors: &mut ErrorList,
) {
    let (annotated, annotates) = (beta_class(&old.metadata), beta_class(&new.metadata));
    let (before, class) = (&old.spec.storage_class_name, new.spec.storage_class_name.as_deref());
    let moved = annotated.is_some() && before.is_none() && class == annotated;
    if moved && annotates.is_none_or(|annotates| Some(annotates) == annotated) {
        now.storage_class_name = None;
        return;
    }
    if annotated.unwrap_or_default() != annotates.unwrap_or_default() {
        let at = Path::new("metadata").child("annotations").child(BETA_STORAGE_CLASS);
        errors.invalid(&at, annotates.unwrap_or_default(), crate::validation::FIELD_IMMUTABLE);
    }
    if before.is_none() && class.is_some() && (annotated.is_none() || class == annotated) {
        now.storage_class_name = None;
    }
}

/// Checks an update through `status`.
pub(super) fn validate_status_update(new: &PersistentVolumeClaim, old: &PersistentVolumeClaim) -> ErrorList {
    let mut errors = rules::validate_update(new, old);
    rules::require_resource_version(new, &mut errors);
    if new.spec.access_modes.is_empty() {
        // The capital letter is upstream's.
        errors.required(&Path::new("Spec").child("accessModes"), "");
    }
    let at = Path::new("status");
    for (name, amount) in &new.status.capacity {
        validate_basic_quantity(amount, &at.child("capacity").key(name), &mut errors);
    }
    let statuses = at.child("allocatedResourceStatuses");
    for (name, status) in &new.status.allocated_resource_statuses {
        validate_resource_key(name, &statuses, &mut errors);
        if !RESIZE_STATUSES.contains(&status.as_str()) {
            errors.not_supported(&statuses, name.as_str(), &RESIZE_STATUSES);
        }
    }
    let allocated = at.child("allocatedResources");
    for (name, amount) in &new.status.allocated_resources {
        if !validate_resource_key(name, &allocated, &mut errors) {
            continue;
        }
        let at = allocated.key(name);
        if amount.value() < 0 {
            validate_basic_quantity(amount, &at, &mut errors);
        } else {
            validate_resource_quantity(STORAGE, amount, &at, &mut errors);
        }
    }
    errors
}

/// Of Kubernetes' own resources only storage can be resized. Says whether the name is right.
fn validate_resource_key(name: &str, at: &Path, errors: &mut ErrorList) -> bool {
    let wrong = is_qualified_name(name);
    let right = wrong.is_empty();
    errors.invalid_each(at, name, wrong);
    if right && is_native(name) && name != STORAGE {
        errors.not_supported(at, name, &[STORAGE]);
        return false;
    }
    right
}
