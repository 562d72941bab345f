//! Taking a document apart by the schema: names what is unknown, repeated or of a wrong type, and turns nulls and
//! empty metadata into what Go's decoder makes of them.

use std::fmt::Write;

use rustc_hash::FxHashSet;
use serde_json::{Map, Value, json};

use super::MAX_FINDINGS;
use super::tree::Tree;
use crate::schema::{Node, Scalar, Struct, Type};

/// A document in the form that typed decoding takes.
#[derive(Debug)]
pub(super) struct Normal {
    pub(super) value: Value,
    /// Unknown and repeated fields, in the order found.
    pub(super) findings: Vec<String>,
}

/// The error names the first value of a wrong type.
pub(super) fn normalize(tree: Tree, root: Type<'_>) -> Result<Normal, String> {
    let mut walker =
        Walker { path: Vec::new(), structs: Vec::new(), findings: Vec::new(), seen: FxHashSet::default(), wrong: None };
    let value = walker.value(tree, root).unwrap_or_else(|| json!({}));
    match walker.wrong {
        Some(text) => Err(text),
        None => Ok(Normal { value, findings: walker.findings }),
    }
}

enum Step {
    Field(String),
    /// A key of a map, which errors of a wrong type do not name.
    Key(String),
    Index(usize),
}

struct Walker {
    path: Vec<Step>,
    /// Names of the structs that contain the place.
    structs: Vec<Box<str>>,
    findings: Vec<String>,
    seen: FxHashSet<String>,
    /// The first value of a wrong type.
    wrong: Option<String>,
}

impl Walker {
    fn place(&self, last: &str) -> String {
        let mut place = String::new();
        for step in &self.path {
            match step {
                Step::Field(name) | Step::Key(name) if place.is_empty() => place.push_str(name),
                Step::Field(name) | Step::Key(name) => {
                    write!(place, ".{name}").expect("writing to a string does not fail")
                }
                Step::Index(index) => write!(place, "[{index}]").expect("writing to a string does not fail"),
            }
        }
        if place.is_empty() { last.to_owned() } else { format!("{place}.{last}") }
    }

    fn find(&mut self, what: &str, key: &str) {
        if self.findings.len() < MAX_FINDINGS {
            let finding = format!("{what} field {:?}", self.place(key));
            if self.seen.insert(finding.clone()) {
                self.findings.push(finding);
            }
        }
    }

    fn wrong(&mut self, text: String) {
        self.wrong.get_or_insert(text);
    }

    fn wrong_type(&mut self, found: &str, wanted: &str) {
        let fields: Vec<&str> = self
            .path
            .iter()
            .filter_map(|step| match step {
                Step::Field(name) => Some(name.as_str()),
                Step::Key(_) | Step::Index(_) => None,
            })
            .collect();
        let target = match self.structs.last() {
            Some(name) => format!("struct field {name}.{}", fields.join(".")),
            None => "value".to_owned(),
        };
        self.wrong(format!("json: cannot unmarshal {found} into Go {target} of type {wanted}"));
    }

    /// The value to decode, or `None` for what counts as not given.
    fn value(&mut self, tree: Tree, type_: Type<'_>) -> Option<Value> {
        if let Tree::Scalar(Value::Null) = tree {
            return None;
        }
        match (type_.node(), tree) {
            (Node::Any, tree) => Some(tree.into_value()),
            (Node::Scalar(scalar), Tree::Scalar(value)) => self.scalar(*scalar, value),
            (Node::Struct(object), Tree::Object(fields)) => Some(self.object(object, fields, type_)),
            (Node::Map(map), Tree::Object(fields)) => {
                let value_type = type_.of_values(map);
                let mut values = Map::with_capacity(fields.len());
                for (key, tree) in fields {
                    self.path.push(Step::Key(key.clone()));
                    let value = self.value(tree, value_type).unwrap_or_else(|| zero(value_type));
                    self.path.pop();
                    if values.contains_key(&key) {
                        self.find("duplicate", &key);
                    }
                    values.insert(key, value);
                }
                Some(Value::Object(values))
            }
            (Node::List(list), Tree::List(items)) => {
                let item_type = type_.of_items(list);
                let items = items.into_iter().enumerate().map(|(index, tree)| {
                    self.path.push(Step::Index(index));
                    let item = self.value(tree, item_type).unwrap_or_else(|| zero(item_type));
                    self.path.pop();
                    item
                });
                Some(Value::Array(items.collect()))
            }
            (node, tree) => {
                self.wrong_type(tree.kind(), &go_type(node, type_));
                None
            }
        }
    }

    fn object(&mut self, object: &Struct, fields: Vec<(String, Tree)>, type_: Type<'_>) -> Value {
        let mut values = Map::with_capacity(fields.len());
        let mut seen: FxHashSet<String> = FxHashSet::default();
        for (key, tree) in fields {
            let Some(field) = object.field(&key) else {
                self.find("unknown", &key);
                continue;
            };
            if !seen.insert(key.clone()) {
                self.find("duplicate", &key);
            }
            self.structs.push(object.name.clone());
            self.path.push(Step::Field(key.clone()));
            let value = self.value(tree, type_.of_field(field));
            self.path.pop();
            self.structs.pop();
            let Some(value) = value else { continue };
            if &*object.name == "ObjectMeta" && key != "managedFields" && is_left_out(&key, &value) {
                continue;
            }
            // Go decodes a repeated object into the first one.
            match (values.get_mut(&key), value) {
                (Some(Value::Object(first)), Value::Object(second)) => first.extend(second),
                (_, value) => {
                    values.insert(key, value);
                }
            }
        }
        Value::Object(values)
    }

    fn scalar(&mut self, scalar: Scalar, value: Value) -> Option<Value> {
        let fits = match (scalar, &value) {
            (Scalar::String | Scalar::Bytes, Value::String(_)) | (Scalar::Bool, Value::Bool(_)) => true,
            (Scalar::Int32 | Scalar::Int64, Value::Number(number)) => {
                let whole = number.as_i64();
                let fits = whole.is_some_and(|whole| scalar == Scalar::Int64 || i32::try_from(whole).is_ok());
                if !fits {
                    self.wrong_type(&format!("number {number}"), scalar.go_kind());
                    return None;
                }
                true
            }
            (Scalar::Float, Value::Number(_)) => true,
            (Scalar::Time, Value::String(text)) => {
                if let Err(error) = check_time(text) {
                    self.wrong(error);
                    return None;
                }
                true
            }
            (Scalar::IntOrString | Scalar::Quantity, Value::String(_)) | (Scalar::Quantity, Value::Number(_)) => true,
            (Scalar::IntOrString, Value::Number(number)) => {
                number.as_i64().is_some_and(|whole| i32::try_from(whole).is_ok())
            }
            _ => false,
        };
        if fits {
            return Some(value);
        }
        let found = super::json_kind(&value);
        match scalar {
            Scalar::IntOrString => self.wrong(format!("json: cannot unmarshal {found} into Go value of type int32")),
            Scalar::Time => self.wrong(format!("json: cannot unmarshal {found} into Go value of type string")),
            Scalar::Quantity => self.wrong(
                "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
                    .to_owned(),
            ),
            Scalar::Bytes => self.wrong_type(found, "[]uint8"),
            _ => self.wrong_type(found, scalar.go_kind()),
        }
        None
    }
}

/// What null stands for where a value must be.
fn zero(type_: Type<'_>) -> Value {
    match type_.node() {
        Node::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::Float | Scalar::IntOrString) => json!(0),
        Node::Scalar(Scalar::Bool) => json!(false),
        Node::Scalar(Scalar::Quantity) => json!("0"),
        Node::Scalar(Scalar::String | Scalar::Bytes) => json!(""),
        Node::Scalar(Scalar::Time) | Node::Any => Value::Null,
        Node::Struct(_) | Node::Map(_) => json!({}),
        Node::List(_) => json!([]),
    }
}

/// Whether Go would leave the field of ObjectMeta out when it prints it.
fn is_left_out(key: &str, value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Number(number) => key == "generation" && number.as_i64() == Some(0),
        _ => false,
    }
}

/// The Go type's name, as errors print it.
fn go_type(node: &Node, type_: Type<'_>) -> String {
    match node {
        Node::Struct(object) => format!("v1.{}", object.name),
        Node::Map(map) => format!("map[string]{}", go_type(type_.of_values(map).node(), type_.of_values(map))),
        Node::List(list) => format!("[]{}", go_type(type_.of_items(list).node(), type_.of_items(list))),
        Node::Scalar(Scalar::Bytes) => "[]uint8".to_owned(),
        Node::Scalar(Scalar::Time) => "v1.Time".to_owned(),
        Node::Scalar(Scalar::Quantity) => "resource.Quantity".to_owned(),
        Node::Scalar(Scalar::IntOrString) => "intstr.IntOrString".to_owned(),
        Node::Scalar(scalar) => scalar.go_kind().to_owned(),
        Node::Any => "interface {}".to_owned(),
    }
}

/// Checks RFC 3339 as Go's `time.Parse` does; the error is in its words.
pub(super) fn check_time(text: &str) -> Result<(), String> {
    let failed = |rest: &str, wanted: &str| {
        format!("parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {rest:?} as {wanted:?}")
    };
    let mut rest = text;
    let parts = [
        ("2006", 4),
        ("-", 0),
        ("01", 2),
        ("-", 0),
        ("02", 2),
        ("T", 0),
        ("15", 2),
        (":", 0),
        ("04", 2),
        (":", 0),
        ("05", 2),
    ];
    let mut numbers = Vec::with_capacity(6);
    for (wanted, digits) in parts {
        if digits == 0 {
            rest = rest.strip_prefix(wanted).ok_or_else(|| failed(rest, wanted))?;
            continue;
        }
        let number = rest.get(..digits).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        numbers.push(number.and_then(|number| number.parse::<u32>().ok()).ok_or_else(|| failed(rest, wanted))?);
        rest = &rest[digits..];
    }
    if let Some(fraction) = rest.strip_prefix(['.', ',']) {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        if digits > 0 {
            rest = &fraction[digits..];
        }
    }
    let zone = rest.as_bytes();
    let is_offset = zone.len() == 6
        && matches!(zone[0], b'+' | b'-')
        && zone[3] == b':'
        && [1, 2, 4, 5].iter().all(|&index| zone[index].is_ascii_digit());
    if rest != "Z" && !is_offset {
        let extra = rest.strip_prefix('Z');
        return Err(match extra {
            Some(extra) => format!("parsing time {text:?}: extra text: {extra:?}"),
            None => failed(rest, "Z07:00"),
        });
    }
    let [year, month, day, hour, minute, second] = numbers[..] else { return Err(failed(text, "2006")) };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let checks = [
        ((1..=12).contains(&month), "month"),
        ((1..=days).contains(&day), "day"),
        (hour < 24, "hour"),
        (minute < 60, "minute"),
        (second < 60, "second"),
    ];
    match checks.iter().find(|(fits, _)| !fits) {
        Some((_, what)) => Err(format!("parsing time {text:?}: {what} out of range")),
        None => Ok(()),
    }
}
