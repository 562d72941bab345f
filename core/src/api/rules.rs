//! What the write rules of many kinds share.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::kind::Described;
use crate::validation::{
    ErrorList, NameRule, Path, Report, validate_kube_finalizers, validate_object_meta, validate_object_meta_update,
};

/// Keeps the old generation, or moves it on by one if the desired state changed.
pub(crate) fn set_generation(metadata: &mut ObjectMeta, old: &ObjectMeta, changed: bool) {
    metadata.generation = if changed { Some(old.generation.unwrap_or_default() + 1) } else { old.generation };
}

/// Checks the metadata of a new object; `rule` says what the kind's names may look like.
pub(crate) fn validate<K: Described>(object: &K, rule: NameRule) -> ErrorList {
    let (metadata, path) = (object.meta(), Path::new("metadata"));
    let mut errors = validate_object_meta(metadata, K::INFO.namespaced, rule, &path);
    validate_kube_finalizers(metadata, &path, &mut errors);
    errors
}

/// Checks what an update does to metadata.
pub(crate) fn validate_update<K: Described>(object: &K, old: &K) -> ErrorList {
    let (metadata, path) = (object.meta(), Path::new("metadata"));
    let mut errors = validate_object_meta_update(metadata, old.meta(), &path);
    validate_kube_finalizers(metadata, &path, &mut errors);
    errors
}

/// Checks that an update names the version it is based on, as some kinds demand for their status a second time.
pub(crate) fn require_resource_version<K: Described>(object: &K, errors: &mut ErrorList) {
    if object.meta().resource_version.as_deref().unwrap_or_default().is_empty() {
        errors.required(&Path::new("resourceVersion"), "");
    }
}
