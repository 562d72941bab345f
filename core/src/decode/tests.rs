use serde_json::json;

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DecodeError, FieldValidation, Format, decode, type_meta};
use crate::api::V1;
use crate::kind::{Column, Kind, KindType, Subresource};
use crate::validation::ErrorList;

/// A small kind.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub(crate) struct Note {
    #[serde(default)]
    api_version: V1,
    #[serde(default)]
    metadata: ObjectMeta,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    immutable: Option<bool>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    data: BTreeMap<String, String>,
}

crate::kind!(Note, v1, "notes", singular "note", Namespaced, short [], categories [], subresources []);

impl Kind for Note {
    fn validate(&self) -> ErrorList {
        Vec::new()
    }
    fn validate_update(&self, _: &Self, _: Option<Subresource>) -> ErrorList {
        Vec::new()
    }
    fn columns() -> &'static [Column] {
        &[]
    }
    fn row(&self, _: Timestamp) -> Vec<serde_json::Value> {
        Vec::new()
    }
}

fn read(text: &str, validation: FieldValidation) -> Result<super::Decoded, DecodeError> {
    decode(KindType::of::<Note>(), text.as_bytes(), Format::Json, validation)
}

#[test]
fn plain_documents_are_read_as_they_stand() {
    let text = r#"{"apiVersion":"v1","kind":"Note","metadata":{"name":"a"},"data":{"a":"1"}}"#;
    let decoded = read(text, FieldValidation::Strict).unwrap();
    assert_eq!(decoded.object.to_value(), serde_json::from_str::<serde_json::Value>(text).unwrap());
    assert!(decoded.warnings.is_empty());
}

#[test]
fn unknown_and_repeated_fields() {
    let text = r#"{"kind":"Note","foo":1,"metadata":{"name":"a","labels":{"x":"1","x":"2"}},"data":{}}"#;
    let error = read(text, FieldValidation::Strict).unwrap_err();
    let expected = r#"strict decoding error: unknown field "foo", duplicate field "metadata.labels.x""#;
    assert_eq!(error.to_string(), expected);
    let kind = KindType::of::<Note>();
    let message = format!(r#"Note in version "v1" cannot be handled as a Note: {expected}"#);
    assert_eq!(error.message(kind, text.as_bytes()), message);
    let decoded = read(text, FieldValidation::Warn).unwrap();
    assert_eq!(decoded.warnings, [r#"unknown field "foo""#, r#"duplicate field "metadata.labels.x""#]);
    assert_eq!(decoded.object.to_value()["metadata"]["labels"], json!({"x": "2"}));
    assert!(read(text, FieldValidation::Ignore).unwrap().warnings.is_empty());
}

#[test]
fn nulls_and_empty_metadata_become_what_go_makes_of_them() {
    let text =
        r#"{"metadata":{"name":"a","namespace":"","labels":{},"finalizers":[]},"data":{"a":null},"immutable":null}"#;
    let decoded = read(text, FieldValidation::Strict).unwrap();
    let expected = json!({"apiVersion": "v1", "kind": "Note", "metadata": {"name": "a"}, "data": {"a": ""}});
    assert_eq!(decoded.object.to_value(), expected);
}

#[test]
fn errors_have_gos_words() {
    let error = |text| read(text, FieldValidation::Warn).unwrap_err().to_string();
    let wrong = "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.name of type string";
    assert_eq!(error(r#"{"metadata":{"name":5}}"#), wrong);
    assert_eq!(
        error("{\"a\":1,}"),
        "couldn't get version/kind; json parse error: invalid character '}' looking for beginning of object key string"
    );
    assert_eq!(error(""), "couldn't get version/kind; json parse error: unexpected end of JSON input");
    assert!(
        error(r#"{"metadata":{"creationTimestamp":"yesterday"}}"#).ends_with(r#"cannot parse "yesterday" as "2006""#)
    );
    assert!(matches!(read(r#"{"kind":"Pod"}"#, FieldValidation::Warn), Err(DecodeError::NotRegistered(_))));
}

#[test]
fn deep_documents_are_refused() {
    let text = format!("{}{}", r#"{"data":"#.repeat(20_000), "1".to_owned() + &"}".repeat(20_000));
    let error = read(&text, FieldValidation::Warn).unwrap_err().to_string();
    assert_eq!(error, "couldn't get version/kind; json parse error: exceeded max depth");
    let yaml = "[".repeat(100_000);
    assert!(decode(KindType::of::<Note>(), yaml.as_bytes(), Format::Yaml, FieldValidation::Warn).is_err());
}

#[test]
fn yaml_follows_version_1_1() {
    let text = "apiVersion: v1\nkind: Note\nimmutable: yes\nmetadata: {name: a, generation: 0o17}\ndata:\n  a: \"1\"\n  a: |\n    x\n";
    let decoded = decode(KindType::of::<Note>(), text.as_bytes(), Format::Yaml, FieldValidation::Warn).unwrap();
    assert_eq!(decoded.object.to_value()["immutable"], true);
    assert_eq!(decoded.object.to_value()["metadata"]["generation"], 15);
    assert_eq!(decoded.object.to_value()["data"]["a"], "x\n");
    assert_eq!(decoded.warnings, ["yaml: unmarshal errors:\n  line 7: key \"a\" already set in map"]);
}

#[test]
fn aliases_cannot_nest_without_end() {
    let mut text = "a0: &a0 []\n".to_owned();
    for level in 1..300 {
        text += &format!("a{level}: &a{level} [*a{}]\n", level - 1);
    }
    assert_eq!(type_meta(text.as_bytes(), Format::Yaml).unwrap_err().to_string(), "yaml: exceeded max depth");
}

#[test]
fn aliases_cannot_blow_up() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let items = vec![format!("*a{}", level - 1); 10].join(", ");
        text += &format!("a{level}: &a{level} [{items}]\n");
    }
    let error = type_meta(text.as_bytes(), Format::Yaml).unwrap_err().to_string();
    assert_eq!(error, "yaml: document contains excessive aliasing");
}
