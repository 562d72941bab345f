//! Families `validation` and `validation_update`: what is wrong with a new object, or with a change of one.

use longshore_core::api::Binding;
use longshore_core::decode::{FieldValidation, Format, decode};
use longshore_core::kind::{AnyObject, Subresource};
use longshore_core::status::{self, GroupResource};
use longshore_core::validation::Error;
use serde_json::{Value, json};

use super::kinds;
use super::names::field_errors;

/// What the library says of one new object.
pub(crate) fn run(input: &Value) -> Value {
    let object = &input["object"];
    if object["kind"] == "Binding" {
        return match serde_json::from_value::<Binding>(object.clone()) {
            Ok(binding) => outcome(object, &binding.validate()),
            Err(error) => json!({ "undecoded": error.to_string() }),
        };
    }
    match read(object) {
        Ok(new) => outcome(object, &new.validate()),
        Err(error) => json!({ "undecoded": error }),
    }
}

/// What the library says of one change.
pub(crate) fn run_update(input: &Value) -> Value {
    let subresource = match input["subresource"].as_str().unwrap_or_default() {
        "status" => Some(Subresource::Status),
        "resize" => Some(Subresource::Resize),
        "ephemeralcontainers" => Some(Subresource::EphemeralContainers),
        "finalize" => Some(Subresource::Finalize),
        _ => None,
    };
    match (read(&input["old"]), read(&input["new"])) {
        (Ok(old), Ok(new)) => outcome(&input["new"], &new.validate_update(&*old, subresource)),
        (Err(error), _) | (_, Err(error)) => json!({ "undecoded": error }),
    }
}

fn read(object: &Value) -> Result<Box<dyn AnyObject>, String> {
    let name = |field: &str| object[field].as_str().unwrap_or_default();
    let kind = kinds::find(name("apiVersion"), name("kind")).ok_or_else(|| format!("no kind {}", name("kind")))?;
    let decoded = decode(kind, object.to_string().as_bytes(), Format::Json, FieldValidation::Ignore);
    let mut object = decoded.map_err(|error| error.to_string())?.object;
    object.set_defaults();
    object.normalize();
    Ok(object)
}

/// The errors, and the status that a client would get.
fn outcome(object: &Value, errors: &[Error]) -> Value {
    let mut out = json!({ "valid": errors.is_empty(), "errors": field_errors(errors) });
    if !errors.is_empty() {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let kind = GroupResource { group: "", resource: object["kind"].as_str().unwrap_or_default() };
        out["status"] = status::to_value(&status::invalid(kind, name, errors));
        // What every status says of itself is not in the vectors.
        if let Some(fields) = out["status"].as_object_mut() {
            fields.retain(|name, _| name != "kind" && name != "apiVersion");
        }
    }
    out
}

/// Where upstream shows the difference of two Go structs, only what stands before it counts.
pub(crate) fn same(found: &Value, expected: &Value) -> bool {
    if expected["goDiff"] != true {
        return found == expected;
    }
    let mut expected = expected.clone();
    if let Some(fields) = expected.as_object_mut() {
        fields.remove("goDiff");
    }
    without_diffs(found) == without_diffs(&expected)
}

fn without_diffs(value: &Value) -> Value {
    match value {
        Value::String(text) => cut(text).into(),
        Value::Array(items) => items.iter().map(without_diffs).collect(),
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(name, value)| (name.clone(), without_diffs(value))).collect())
        }
        other => other.clone(),
    }
}

/// A text up to the first difference in it.
fn cut(text: &str) -> &str {
    text.split("\n@@").next().unwrap_or_default()
}
