use serde_json::{Value, json};

use super::{PatchError, apply_json_patch, apply_merge_patch, apply_strategic, create_three_way, create_two_way};
use crate::schema::{Schema, from_json_schema};

fn schema() -> Schema {
    let map = |key: &str| json!({"x-kubernetes-patch-strategy": "merge", "x-kubernetes-patch-merge-key": key});
    let list = |key: &str, items: Value| {
        let mut list = json!({"type": "array", "items": items});
        list.as_object_mut().unwrap().extend(map(key).as_object().unwrap().clone());
        list
    };
    let schema = json!({
        "type": "object",
        "properties": {
            "spec": {"$ref": "#/$defs/Spec"},
            "finalizers": {"type": "array", "items": {"type": "string"}, "x-kubernetes-patch-strategy": "merge"},
        },
        "$defs": {
            "Spec": {"type": "object", "properties": {
                "containers": list("name", json!({"$ref": "#/$defs/Container"})),
                "tolerations": {"type": "array", "items": {"type": "object", "properties": {"key": {"type": "string"}}}},
            }},
            "Container": {"type": "object", "properties": {
                "name": {"type": "string"}, "image": {"type": "string"},
                "ports": list("containerPort", json!({"type": "object", "properties": {"containerPort": {"type": "integer"}}})),
            }},
        },
    });
    from_json_schema("Thing", &schema)
}

#[test]
fn strategic_merges_lists_by_key() {
    let original =
        json!({"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b"}], "tolerations": [{"key": "x"}]}});
    let patch = json!({"spec": {"containers": [{"name": "b", "$patch": "delete"}, {"name": "a", "image": "2"}, {"name": "c"}],
        "tolerations": [{"key": "y"}]}});
    let expected =
        json!({"spec": {"containers": [{"name": "a", "image": "2"}, {"name": "c"}], "tolerations": [{"key": "y"}]}});
    assert_eq!(apply_strategic(original, patch, &schema()).unwrap(), expected);
}

#[test]
fn strategic_keeps_to_the_order_given() {
    let original = json!({"finalizers": ["a", "b", "c"]});
    let patch = json!({"$setElementOrder/finalizers": ["c", "d", "a"], "$deleteFromPrimitiveList/finalizers": ["b"], "finalizers": ["d"]});
    let expected = json!({"finalizers": ["c", "d", "a"]});
    assert_eq!(apply_strategic(original, patch, &schema()).unwrap(), expected);
}

#[test]
fn strategic_needs_the_key() {
    let original = json!({"spec": {"containers": [{"name": "a"}]}});
    let error = apply_strategic(original, json!({"spec": {"containers": [{"image": "x"}]}}), &schema()).unwrap_err();
    assert_eq!(error.to_string(), "map: map[image:x] does not contain declared merge key: name");
}

#[test]
fn a_diff_applied_gives_the_target() {
    let from = json!({"finalizers": ["a", "b"], "spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b"}]}});
    let to = json!({"finalizers": ["c", "a"], "spec": {"containers": [{"name": "c"}, {"name": "a", "image": "2"}]}});
    let patch = create_two_way(&from, &to, &schema()).unwrap();
    assert_eq!(apply_strategic(from, patch, &schema()).unwrap(), to);
}

#[test]
fn three_way_keeps_what_others_did() {
    let last = json!({"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b"}]}});
    let modified = json!({"spec": {"containers": [{"name": "a", "image": "2"}]}});
    let current = json!({"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b"}, {"name": "theirs"}]}});
    let patch = create_three_way(&last, &modified, &current, &schema(), true).unwrap();
    let expected = json!({"spec": {"containers": [{"name": "a", "image": "2"}, {"name": "theirs"}]}});
    assert_eq!(apply_strategic(current.clone(), patch, &schema()).unwrap(), expected);
    let theirs = json!({"spec": {"containers": [{"name": "a", "image": "3"}]}});
    let error = create_three_way(&last, &modified, &theirs, &schema(), false).unwrap_err();
    assert!(matches!(error, PatchError::Conflict(_)), "{error}");
}

#[test]
fn merge_patch_deletes_by_null() {
    let document = json!({"a": {"b": 1, "c": 2}, "l": [1]});
    let patch = json!({"a": {"b": null, "d": {"e": null}}, "l": {"x": null}});
    assert_eq!(apply_merge_patch(document, &patch).unwrap(), json!({"a": {"c": 2, "d": {}}, "l": {}}));
    assert_eq!(apply_merge_patch(json!({}), &Value::Null).unwrap_err().to_string(), "Invalid JSON Patch");
}

#[test]
fn json_patch_operations() {
    let document = json!({"a": 1, "b": [1, 2, 3], "c": {"e/f": 2}});
    let patch = json!([
        {"op": "test", "path": "/a", "value": 1}, {"op": "add", "path": "/b/-1", "value": 4},
        {"op": "remove", "path": "/c/e~1f"}, {"op": "move", "from": "/a", "path": "/c/a"}, {"op": "copy", "from": "/b/0", "path": "/b/-"},
    ]);
    assert_eq!(apply_json_patch(document.clone(), &patch).unwrap(), json!({"b": [1, 2, 3, 4, 1], "c": {"a": 1}}));
    let error = |operation: Value| apply_json_patch(document.clone(), &json!([operation])).unwrap_err();
    let failed = error(json!({"op": "test", "path": "/a", "value": 2}));
    assert_eq!(failed, PatchError::TestFailed("testing value /a failed: test failed".into()));
    let missing = error(json!({"op": "add", "path": "/q/r", "value": 1}));
    assert_eq!(missing.to_string(), r#"add operation does not apply: doc is missing path: "/q/r": missing value"#);
    let index = error(json!({"op": "remove", "path": "/b/9"}));
    let text = "error in remove for path: '/b/9': Unable to access invalid index: 9: invalid index referenced";
    assert_eq!(index.to_string(), text);
}

#[test]
fn copies_cannot_blow_up() {
    let double = json!({"op": "copy", "from": "/a", "path": "/a/-"});
    let patch = Value::Array(vec![double; 60]);
    let error = apply_json_patch(json!({"a": ["x".repeat(10_000)]}), &patch).unwrap_err().to_string();
    assert!(error.starts_with("Unable to complete the copy, the accumulated size increase of copy is"), "{error}");
}

#[test]
fn moves_cannot_nest_without_end() {
    let nest = [
        json!({"op": "add", "path": "/b", "value": {}}),
        json!({"op": "move", "from": "/a", "path": "/b/a"}),
        json!({"op": "move", "from": "/b", "path": "/a"}),
    ];
    let patch: Vec<Value> = nest.iter().cycle().take(6_000).cloned().collect();
    let error = apply_json_patch(json!({"a": 1}), &Value::Array(patch)).unwrap_err();
    assert_eq!(error.to_string(), "exceeded max depth");
    let swaps = [json!({"op": "move", "from": "/a", "path": "/b"}), json!({"op": "move", "from": "/b", "path": "/a"})];
    let patch: Vec<Value> = swaps.iter().cycle().take(6_000).cloned().collect();
    assert_eq!(apply_json_patch(json!({"a": 1}), &Value::Array(patch)).unwrap(), json!({"a": 1}));
}

#[test]
fn large_patches_take_no_quadratic_time() {
    let keys = || (0..10_000).map(|index| (format!("k{index}"), json!("v")));
    let nulls: serde_json::Map<String, Value> = keys().map(|(key, _)| (key, Value::Null)).collect();
    let all = Value::Object(keys().collect());
    assert_eq!(apply_merge_patch(all.clone(), &Value::Object(nulls.clone())).unwrap(), json!({}));
    let labels = from_json_schema(
        "Thing",
        &json!({"type": "object", "properties": {"labels": {"type": "object",
        "additionalProperties": {"type": "string"}}}}),
    );
    let patched = apply_strategic(json!({"labels": all}), json!({"labels": nulls}), &labels).unwrap();
    assert_eq!(patched, json!({"labels": {}}));
    let items: Vec<Value> = (0..5_000).rev().map(|index| json!(format!("f{index}"))).collect();
    let twice: Vec<Value> = items.iter().chain(&items).cloned().collect();
    let merged = apply_strategic(json!({"finalizers": items}), json!({"finalizers": twice}), &schema()).unwrap();
    assert_eq!(merged["finalizers"].as_array().map(Vec::len), Some(5_000));
}
