//! JSON merge patch (RFC 7386) as evanphx/json-patch v4 applies it.

use serde_json::{Map, Value};

use super::PatchError;

/// Applies a JSON merge patch: objects are merged key by key, `null` deletes, anything else replaces.
///
/// Where the document has no object to merge into, nulls are dropped from what the patch puts there, in lists too.
///
/// # Errors
/// [`PatchError::Malformed`] if the patch is neither an object nor a list, or the document is `null`.
pub fn apply_merge_patch(document: Value, patch: &Value) -> Result<Value, PatchError> {
    if document.is_null() {
        return Err(PatchError::malformed("Invalid JSON Document"));
    }
    match (document, patch) {
        (Value::Object(mut fields), Value::Object(patch)) => {
            merge(&mut fields, patch);
            Ok(Value::Object(fields))
        }
        (_, Value::Object(_) | Value::Array(_)) => Ok(pruned(patch)),
        _ => Err(PatchError::malformed("Invalid JSON Patch")),
    }
}

fn merge(fields: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (key, change) in patch {
        if change.is_null() {
            fields.swap_remove(key);
            continue;
        }
        match (fields.get_mut(key), change) {
            (Some(Value::Object(inner)), Value::Object(change)) => merge(inner, change),
            (Some(current @ Value::Object(_)), _) => *current = change.clone(),
            (Some(current), _) => *current = pruned(change),
            (None, _) => {
                fields.insert(key.clone(), pruned(change));
            }
        }
    }
}

/// The value without any null inside.
fn pruned(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(key, value)| (key.clone(), pruned(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().filter(|item| !item.is_null()).map(pruned).collect()),
        scalar => scalar.clone(),
    }
}
