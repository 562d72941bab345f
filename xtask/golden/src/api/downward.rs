//! Family `downward`: fields and amounts that containers learn about their pod.

use longshore_core::api::ResourceList;
use longshore_core::api::pod::{Pod, ResourceFieldSelector};
use longshore_core::downward;
use serde_json::{Value, json};

use super::read;

/// What the library makes of one vector's input.
pub(crate) fn run(input: &Value) -> Value {
    let pod: Pod = read(&input["pod"]);
    if input["op"] == "resourceFieldRef" {
        let selector: ResourceFieldSelector = read(&input["selector"]);
        let allocatable: ResourceList = read(&input["nodeAllocatable"]);
        let container = input["container"].as_str().unwrap_or_default();
        return match downward::resource(&pod, container, &selector, &allocatable) {
            Ok(value) => json!({ "value": value }),
            Err(error) => json!({ "error": error.to_string() }),
        };
    }
    let path = input["fieldPath"].as_str().unwrap_or_default();
    let split = downward::split_subscript(path);
    let (head, key) = split.unwrap_or((path, ""));
    let mut out = json!({ "split": [head, key, split.is_some()] });
    match downward::field(&pod, path) {
        Ok(value) => out["value"] = value.into(),
        Err(error) => out["error"] = error.to_string().into(),
    }
    match downward::convert_field_label("v1", path) {
        Ok(label) => out["convertedLabel"] = label.into(),
        Err(error) => out["convertError"] = error.to_string().into(),
    }
    out
}
