use std::collections::{BTreeMap, BTreeSet};

use longshore_core::{api, openapi};
use serde_json::json;

use super::*;

/// A field that holds bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2, u8::try_from(bytes.len()).unwrap()];
    out.extend(bytes);
    out
}

fn document(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let type_meta = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
    [MAGIC.to_vec(), field(1, &type_meta), field(2, raw)].concat()
}

#[test]
fn a_document_becomes_json() {
    // As `kubectl create ns foo` sends it.
    let bytes = document(
        "v1",
        "Namespace",
        b"\x0a\x13\x0a\x03foo\x12\x00\x1a\x00\x22\x00*\x002\x008\x00B\x00\x12\x00\x1a\x02\x0a\x00",
    );
    let read = decode(&bytes).unwrap();
    let expected = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {
            "name": "foo", "generateName": "", "namespace": "", "selfLink": "", "uid": "", "resourceVersion": "",
            "generation": 0,
        },
        "spec": {}, "status": { "phase": "" },
    });
    assert_eq!(read, Document { value: expected, findings: Vec::new() });
}

#[test]
fn maps_bytes_and_unknown_fields() {
    let entry = [field(1, b"key"), field(2, b"\xff\x00")].concat();
    let bytes = document("v1", "Secret", &[field(2, &entry), field(3, b"Opaque"), field(15, b"new")].concat());
    let read = decode(&bytes).unwrap();
    assert_eq!(read.value["data"], json!({ "key": "/wA=" }));
    assert_eq!(read.findings, ["unknown field number 15 of core/v1.Secret"]);
}

#[test]
fn special_messages() {
    let mut decoder = Decoder { table: Table::get(), findings: Vec::new() };
    let mut value = |type_, bytes: &[u8]| decoder.value("a", type_, Wire::Bytes(bytes)).unwrap();
    assert_eq!(value(Type::Quantity, &field(1, b"100m")), Some("100m".into()));
    assert_eq!(value(Type::IntOrString, b"\x08\x00\x10\x50\x1a\x00"), Some(80.into()));
    assert_eq!(value(Type::IntOrString, b"\x08\x01\x10\x00\x1a\x0325%"), Some("25%".into()));
    assert_eq!(value(Type::Time { digits: 0 }, b""), None);
    assert_eq!(value(Type::Time { digits: 0 }, b"\x08\x01\x10\x00"), Some("1970-01-01T00:00:01Z".into()));
    assert_eq!(value(Type::Time { digits: 6 }, b"\x08\x01\x10\xe8\x07"), Some("1970-01-01T00:00:01.000001Z".into()));
}

#[test]
fn what_is_cut_off_anywhere_is_refused_or_read_as_less() {
    let entry = [field(1, b"key"), field(2, b"value")].concat();
    let bytes = document("v1", "ConfigMap", &field(2, &entry));
    assert_eq!(decode(&bytes).unwrap().value["data"]["key"], "value");
    for end in 0..bytes.len() {
        // Never a panic; a document whose object is cut off whole has none of its fields.
        if let Ok(read) = decode(&bytes[..end]) {
            assert_eq!(read.value.get("data"), None, "{end}");
        }
    }
    assert_eq!(decode(b"{}"), Err(Error::NoDocument));
    assert!(matches!(decode(&document("v1", "Nothing", b"")), Err(Error::UnknownKind(_))));
}

/// The fields of a message by name, those of inlined messages among them.
fn fields(message: &'static Message) -> BTreeMap<&'static str, Type> {
    let table = Table::get();
    let mut all = BTreeMap::new();
    for field in &message.fields {
        match (field.label, field.type_) {
            (Label::Inline, Type::Message(inner)) => all.extend(fields(table.message(inner))),
            (_, type_) => {
                all.insert(field.name, type_);
            }
        }
    }
    all
}

/// Walks schema and messages side by side and notes the properties that have no number.
fn walk(
    document: &Value,
    schema: &Value,
    message: &'static Message,
    seen: &mut BTreeSet<&str>,
    missing: &mut Vec<String>,
) {
    if !seen.insert(message.name) {
        return;
    }
    let fields = fields(message);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let Some(type_) = fields.get(name.as_str()) else {
            if !["apiVersion", "kind"].contains(&name.as_str()) {
                missing.push(format!("{}.{name}", message.name));
            }
            continue;
        };
        let inner = [&property["items"], &property["additionalProperties"], property];
        let inner = inner.into_iter().find(|inner| inner.is_object()).unwrap();
        let target = inner["$ref"].as_str().or_else(|| inner["allOf"][0]["$ref"].as_str());
        if let (Type::Message(place), Some(target)) = (type_, target) {
            let schema = &document["components"]["schemas"][target.rsplit('/').next().unwrap()];
            walk(document, schema, Table::get().message(*place), seen, missing);
        }
    }
}

#[test]
fn every_field_of_every_kind_has_a_number() {
    let (mut seen, mut missing) = (BTreeSet::new(), Vec::new());
    for document in openapi::documents(api::kinds()) {
        let document: Value = serde_json::from_slice(&document.body).unwrap();
        for schema in document["components"]["schemas"].as_object().unwrap().values() {
            let kind = &schema["x-kubernetes-group-version-kind"][0];
            let Some(name) = kind["kind"].as_str() else { continue };
            let (group, version) = (kind["group"].as_str().unwrap(), kind["version"].as_str().unwrap());
            let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
            match Table::get().find(&api_version, name) {
                Some(message) => walk(&document, schema, message, &mut seen, &mut missing),
                // Upstream serves these as custom resources, which have no protobuf.
                None if group.ends_with(".x-k8s.io") => {}
                None => missing.push(name.to_owned()),
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
    assert!(seen.len() > 200, "only {} messages were compared", seen.len());
}
