//! Whether a configuration fits its schema.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::Value;

use super::{item_type, items};
use crate::apply::fields::{Element, quoted};
use crate::go_format::plain as go_plain;
use crate::schema::{ListKind, Node, Scalar, Type};

/// Checks a configuration that is to be applied.
///
/// # Errors
/// All that is wrong, in upstream's words.
pub(in crate::apply) fn validate(value: &Value, type_: Type<'_>) -> Result<(), String> {
    let mut errors = Vec::new();
    visit(value, type_, "", &mut errors);
    match &errors[..] {
        [] => Ok(()),
        [only] => Err(only.clone()),
        all => Err(all.iter().fold("errors:".to_owned(), |text, error| format!("{text}\n  {error}"))),
    }
}

fn visit(value: &Value, type_: Type<'_>, path: &str, errors: &mut Vec<String>) {
    if value.is_null() {
        return;
    }
    let mut wrong = |text: String| errors.push(if path.is_empty() { text } else { format!("{path}: {text}") });
    match type_.node() {
        Node::Any => {}
        Node::Scalar(scalar) => {
            if let Some(text) = scalar_error(*scalar, value) {
                wrong(text);
            }
        }
        Node::Struct(_) | Node::Map(_) => {
            let Value::Object(fields) = value else {
                return wrong(format!("expected map, got &{{{}}}", go_plain(value)));
            };
            for (key, value) in fields {
                let Some((field, _)) = type_.at_key(key) else {
                    errors.push(format!("{path}.{key}: field not declared in schema"));
                    return;
                };
                visit(value, field, &format!("{path}.{key}"), errors);
            }
        }
        Node::List(list) => {
            let Value::Array(values) = value else {
                return wrong(format!("expected list, got &{{{}}}", go_plain(value)));
            };
            let mut seen = BTreeSet::new();
            for (index, item) in values.iter().enumerate() {
                let element = if list.kind == ListKind::Atomic {
                    Element::Index(i64::try_from(index).unwrap_or(i64::MAX))
                } else {
                    match items::element(type_, item) {
                        Ok(element) => element,
                        Err(error) => {
                            errors.push(format!("{path}: element {index}: {error}"));
                            return;
                        }
                    }
                };
                if !seen.insert(element.clone()) {
                    errors.push(format!("{path}: duplicate entries for key {element}"));
                }
                visit(item, item_type(type_), &format!("{path}{element}"), errors);
            }
        }
    }
}

fn scalar_error(scalar: Scalar, value: &Value) -> Option<String> {
    match scalar {
        scalar if scalar.is_untyped() => {
            let text = || format!("expected untyped, got &{{{}}}", go_plain(value));
            (value.is_object() || value.is_array()).then(text)
        }
        Scalar::String | Scalar::Bytes if !value.is_string() => {
            Some(format!("expected string, got &value.valueUnstructured{{Value:{}}}", go_sharp(value)))
        }
        Scalar::Int32 | Scalar::Int64 | Scalar::Float if !value.is_number() => {
            Some("expected numeric (int or float), got *value.valueUnstructured".to_owned())
        }
        Scalar::Bool if !value.is_boolean() => Some(format!("expected boolean, got &{{{}}}", go_plain(value))),
        _ => None,
    }
}

/// As Go's `%#v` prints it.
fn go_sharp(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::String(text) => quoted(text),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(go_sharp).collect();
            format!("[]interface {{}}{{{}}}", items.join(", "))
        }
        Value::Object(fields) => {
            let mut keys: Vec<&String> = fields.keys().collect();
            keys.sort_unstable();
            let mut text = "map[string]interface {}{".to_owned();
            for (index, key) in keys.into_iter().enumerate() {
                let comma = if index > 0 { ", " } else { "" };
                write!(text, "{comma}{}:{}", quoted(key), go_sharp(&fields[key]))
                    .expect("writing to a string does not fail");
            }
            text + "}"
        }
        scalar => go_plain(scalar),
    }
}
