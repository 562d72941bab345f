//! Family `patch`: JSON patch, JSON merge patch and strategic merge patch.

use longshore_core::patch::{
    JsonPatch, PatchError, apply_merge_patch, apply_strategic, create_three_way, create_two_way,
};
use longshore_core::schema::Schema;
use serde_json::{Value, json};

use super::kinds;

/// What the library makes of one vector's input.
pub(crate) fn run(input: &Value) -> Value {
    let schema = || kinds::schema(input["kind"].as_str().unwrap_or_default());
    match input["op"].as_str().unwrap_or_default() {
        "jsonPatch" => json_patch(input),
        "jsonMerge" => json_merge(input),
        op => match schema() {
            None => json!({ "error": format!("no schema of kind {}", input["kind"]) }),
            Some(schema) => match op {
                "strategicMerge" => result(strategic(input, schema), "result"),
                "twoWay" => two_way(input, schema),
                "threeWay" => three_way(input, schema),
                other => json!({ "error": format!("unknown op {other}") }),
            },
        },
    }
}

/// A document of a vector; `None` if it is not JSON.
fn document(value: &Value) -> Option<Value> {
    match value.get("$rawText").and_then(Value::as_str) {
        Some(text) => serde_json::from_str(text).ok(),
        None => Some(value.clone()),
    }
}

fn result(outcome: Result<Value, PatchError>, name: &str) -> Value {
    match outcome {
        Ok(value) => json!({ name: value }),
        Err(error) => json!({ "error": error.to_string() }),
    }
}

fn json_patch(input: &Value) -> Value {
    let (Some(original), Some(patch)) = (document(&input["original"]), document(&input["patch"])) else {
        return json!({ "error": "not JSON" });
    };
    let (stage, error) = match JsonPatch::decode(&patch) {
        Err(error) => ("decode", error),
        Ok(patch) => match patch.apply(original) {
            Ok(value) => return json!({ "result": value }),
            Err(error) => ("apply", error),
        },
    };
    json!({ "error": error.to_string(), "stage": stage })
}

fn json_merge(input: &Value) -> Value {
    let Some(original) = document(&input["original"]) else { return json!({ "error": "Invalid JSON Document" }) };
    let Some(patch) = document(&input["patch"]) else { return json!({ "error": "Invalid JSON Patch" }) };
    result(apply_merge_patch(original, &patch), "result")
}

fn strategic(input: &Value, schema: &Schema) -> Result<Value, PatchError> {
    let read =
        |name: &str| document(&input[name]).ok_or_else(|| PatchError::Malformed("invalid JSON document".to_owned()));
    apply_strategic(read("original")?, read("patch")?, schema)
}

fn two_way(input: &Value, schema: &Schema) -> Value {
    let patch = match create_two_way(&input["original"], &input["modified"], schema) {
        Ok(patch) => patch,
        Err(error) => return json!({ "error": error.to_string() }),
    };
    applied(patch, &input["original"], schema)
}

fn three_way(input: &Value, schema: &Schema) -> Value {
    let overwrite = input["overwrite"].as_bool().unwrap_or_default();
    let (last, modified, current) = (&input["lastApplied"], &input["modified"], &input["current"]);
    match create_three_way(last, modified, current, schema, overwrite) {
        Ok(patch) => applied(patch, current, schema),
        Err(error) => json!({ "error": error.to_string() }),
    }
}

fn applied(patch: Value, to: &Value, schema: &Schema) -> Value {
    match apply_strategic(to.clone(), patch.clone(), schema) {
        Ok(value) => json!({ "patch": patch, "applied": value }),
        Err(error) => json!({ "patch": patch, "applyError": error.to_string() }),
    }
}
