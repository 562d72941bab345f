//! The smallest JSON merge patch (RFC 7386) between two values.

use serde_json::{Map, Value};

/// What turns `old` into `new` when merged into it; `None` if they are equal. Lists are replaced whole. Neither value
/// has nulls that mean something.
pub(crate) fn merge_patch(old: &Value, new: &Value) -> Option<Value> {
    if old == new {
        return None;
    }
    let (Value::Object(old), Value::Object(new)) = (old, new) else { return Some(new.clone()) };
    let mut patch = Map::new();
    for (key, value) in new {
        match old.get(key) {
            Some(before) => {
                if let Some(change) = merge_patch(before, value) {
                    patch.insert(key.clone(), change);
                }
            }
            None => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    Some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_differs_is_in_the_patch() {
        let old = json!({"a": 1, "b": {"c": 1, "d": 2}, "e": [1, 2], "f": "gone"});
        let new = json!({"a": 1, "b": {"c": 1, "d": 3}, "e": [2], "g": true});
        assert_eq!(merge_patch(&old, &new), Some(json!({"b": {"d": 3}, "e": [2], "g": true, "f": null})));
        assert_eq!(merge_patch(&old, &old), None);
    }
}
