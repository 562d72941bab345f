//! What the write rules of many kinds share.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use crate::kind::Described;
use crate::validation::{Error, ErrorList, ErrorType, Path};

/// Keeps the old generation, or moves it on by one if the desired state changed.
pub(crate) fn set_generation(metadata: &mut ObjectMeta, old: &ObjectMeta, changed: bool) {
    metadata.generation = if changed { Some(old.generation.unwrap_or_default() + 1) } else { old.generation };
}

/// Checks what every new object needs: a name (or a prefix to make one from), and a namespace where the kind has one.
pub(crate) fn validate<K: Described>(object: &K) -> ErrorList {
    let (metadata, path) = (object.meta(), Path::new("metadata"));
    let given = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    let mut errors = ErrorList::new();
    if !given(&metadata.name) && !given(&metadata.generate_name) {
        errors.push(required(&path.child("name"), "name or generateName is required"));
    }
    if K::INFO.namespaced && !given(&metadata.namespace) {
        errors.push(required(&path.child("namespace"), ""));
    }
    errors
}

/// Checks what no update may change: name, namespace and UID.
pub(crate) fn validate_update<K: Described>(object: &K, old: &K) -> ErrorList {
    let (new, old, path) = (object.meta(), old.meta(), Path::new("metadata"));
    [("name", &new.name, &old.name), ("namespace", &new.namespace, &old.namespace), ("uid", &new.uid, &old.uid)]
        .into_iter()
        .filter(|(_, new, old)| new != old)
        .map(|(field, new, _)| Error {
            type_: ErrorType::FieldValueInvalid,
            field: path.child(field).to_string(),
            bad_value: new.clone().unwrap_or_default().into(),
            detail: "field is immutable".to_owned(),
        })
        .collect()
}

fn required(path: &Path, detail: &str) -> Error {
    Error {
        type_: ErrorType::FieldValueRequired,
        field: path.to_string(),
        bad_value: Value::Null,
        detail: detail.to_owned(),
    }
}
