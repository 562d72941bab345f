use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde_json::json;

use super::{ListKind, Node, Scalar, Schema, Type, from_json_schema};

#[derive(JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "only its schema is of interest")]
struct Thing {
    metadata: ObjectMeta,
    count: Option<i32>,
    inner: Option<Box<Inner>>,
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    selector: BTreeMap<String, String>,
    #[schemars(extend(
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["name"],
        "x-kubernetes-patch-merge-key" = "name",
        "x-kubernetes-patch-strategy" = "merge,retainKeys"
    ))]
    items: Option<Vec<Inner>>,
    free: serde_json::Value,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is of interest")]
struct Inner {
    name: String,
    #[schemars(extend("default" = "TCP"))]
    protocol: String,
    nested: Option<Box<Inner>>,
}

fn schema() -> Schema {
    let schema = schemars::generate::SchemaSettings::default().into_generator().into_root_schema_for::<Thing>();
    from_json_schema("Thing", schema.as_value())
}

fn at<'s>(type_: Type<'s>, path: &[&str]) -> Type<'s> {
    path.iter().fold(type_, |type_, key| match type_.node() {
        Node::List(list) if *key == "[]" => type_.of_items(list),
        _ => type_.at_key(key).unwrap().0,
    })
}

#[test]
fn options_references_and_recursion_are_resolved() {
    let schema = schema();
    let root = schema.root();
    assert!(matches!(at(root, &["count"]).node(), Node::Scalar(Scalar::Int32)));
    assert!(matches!(at(root, &["metadata", "creationTimestamp"]).node(), Node::Scalar(Scalar::Time)));
    assert!(matches!(at(root, &["free"]).node(), Node::Any));
    let inner = at(root, &["inner"]);
    assert!(matches!(inner.node(), Node::Struct(object) if &*object.name == "Inner"));
    assert!(at(inner, &["nested", "nested"]) == inner && at(root, &["items", "[]"]) == inner);
    assert!(root.at_key("kind").is_some() && root.at_key("nonesuch").is_none());
}

#[test]
fn extensions_say_how_to_merge() {
    let schema = schema();
    let root = schema.root();
    assert!(matches!(at(root, &["selector"]).node(), Node::Map(map) if map.atomic));
    let list = |path: &[&str]| match at(root, path).node() {
        Node::List(list) => list.kind.clone(),
        other => panic!("{other:?} is not a list"),
    };
    assert_eq!(list(&["items"]), ListKind::Map(vec!["name".into()]));
    assert_eq!(list(&["metadata", "finalizers"]), ListKind::Set);
    assert_eq!(list(&["metadata", "managedFields"]), ListKind::Atomic);
    let Node::Struct(object) = root.node() else { panic!("not a struct") };
    let patch = &object.field("items").unwrap().patch;
    assert!(patch.merge && patch.retain_keys && !patch.replace && &*patch.merge_key == "name");
    let Node::Struct(inner) = at(root, &["inner"]).node() else { panic!("not a struct") };
    assert_eq!(inner.field("protocol").unwrap().key_default, Some(json!("TCP")));
    assert!(inner.field_like("NAME").is_some());
}
