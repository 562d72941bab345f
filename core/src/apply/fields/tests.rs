use serde_json::json;

use super::{Element, Set};

#[test]
fn reads_and_writes() {
    let fields = json!({"f:spec": {".": {}, "k:{\"name\":\"a\"}": {"f:image": {}}, "v:5": {}, "i:0": {}}});
    let set = Set::from_fields_v1(&fields).unwrap();
    assert_eq!(set.size(), 4);
    assert_eq!(set.to_fields_v1(), fields);
    assert!(set.has(&[Element::field("spec")]));
    let paths: Vec<String> = set.paths().iter().map(ToString::to_string).collect();
    assert_eq!(paths, [".spec", ".spec[=5]", ".spec[0]", ".spec[name=\"a\"].image"]);
}

#[test]
fn algebra() {
    let set = |fields| Set::from_fields_v1(&fields).unwrap();
    let left = set(json!({"f:a": {".": {}, "f:b": {}}, "f:c": {}}));
    let right = set(json!({"f:a": {}, "f:d": {}}));
    assert_eq!(left.union(&right), set(json!({"f:a": {".": {}, "f:b": {}}, "f:c": {}, "f:d": {}})));
    assert_eq!(left.intersection(&right), set(json!({"f:a": {}})));
    assert_eq!(left.difference(&right), set(json!({"f:a": {"f:b": {}}, "f:c": {}})));
    assert_eq!(left.recursive_difference(&right), set(json!({"f:c": {}})));
    assert_eq!(left.leaves(), set(json!({"f:a": {"f:b": {}}, "f:c": {}})));
}

#[test]
fn says_what_is_malformed() {
    let error = |fields| Set::from_fields_v1(&fields).unwrap_err().to_string();
    assert!(error(json!({"v:": {}})).starts_with("parsing key as path element: Read: unexpected value type: 0"));
    assert!(error(json!({"i:x": {}})).contains("strconv.Atoi: parsing \"x\": invalid syntax"));
    assert!(error(json!([])).starts_with("ReadMapCB: expect { or n, but found ["));
    assert_eq!(Set::from_fields_v1(&json!({"x:later": {}})).unwrap(), Set::default());
}
