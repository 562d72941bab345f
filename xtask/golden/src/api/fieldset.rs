//! Family `fieldset`: sets of fields and FieldsV1.

use longshore_core::apply::fields::Set;
use serde_json::{Value, json};

/// What the library makes of one vector's input.
pub(crate) fn run(input: &Value) -> Value {
    if let Some(fields) = input.get("fieldsV1") {
        return match Set::from_fields_v1(fields) {
            Ok(set) => json!({ "json": set.to_fields_v1(), "paths": paths(&set) }),
            Err(error) => json!({ "error": error.to_string() }),
        };
    }
    let read = |name: &str| Set::from_fields_v1(&input[name]);
    let (a, b) = match (read("a"), read("b")) {
        (Ok(a), Ok(b)) => (a, b),
        (Err(error), _) | (_, Err(error)) => return json!({ "error": error.to_string() }),
    };
    let intersection = a.intersection(&b);
    json!({
        "aPaths": paths(&a),
        "aText": a.to_json(),
        "union": a.union(&b).to_fields_v1(),
        "intersection": intersection.to_fields_v1(),
        "difference": a.difference(&b).to_fields_v1(),
        "recursiveDifference": a.recursive_difference(&b).to_fields_v1(),
        "leaves": a.leaves().to_fields_v1(),
        "equals": a == b,
        "size": a.size(),
        "empty": intersection.is_empty(),
    })
}

fn paths(set: &Set) -> Vec<String> {
    set.paths().iter().map(ToString::to_string).collect()
}
