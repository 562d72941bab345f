//! A document as it stands in the text, with repeated keys.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};

use super::TypeMeta;
use super::go_json::check_syntax;

/// JSON or YAML as it was written.
#[derive(Debug, Clone)]
pub(super) enum Tree {
    Scalar(Value),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

/// A document, and what was found wrong while reading it that does not stop the reader.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) tree: Tree,
    pub(super) findings: Vec<String>,
}

/// Reads JSON; the error is in Go's words.
pub(super) fn parse_json(text: &str) -> Result<Read, String> {
    match serde_json::from_str(text) {
        Ok(tree) => Ok(Read { tree, findings: Vec::new() }),
        Err(error) => {
            check_syntax(text.as_bytes())?;
            // The syntax is right: the document is nested too deep, or has a number that no float can hold.
            let too_deep = error.to_string().contains("recursion limit");
            Err(if too_deep { "exceeded max depth".to_owned() } else { error.to_string() })
        }
    }
}

impl Tree {
    pub(super) fn from_value(value: Value) -> Self {
        match value {
            Value::Array(items) => Self::List(items.into_iter().map(Self::from_value).collect()),
            Value::Object(fields) => {
                Self::Object(fields.into_iter().map(|(key, value)| (key, Self::from_value(value))).collect())
            }
            scalar => Self::Scalar(scalar),
        }
    }

    /// The value as Go's decoder takes it: of a repeated key the last.
    pub(super) fn into_value(self) -> Value {
        match self {
            Self::Scalar(value) => value,
            Self::List(items) => Value::Array(items.into_iter().map(Self::into_value).collect()),
            Self::Object(fields) => {
                Value::Object(fields.into_iter().map(|(key, tree)| (key, tree.into_value())).collect())
            }
        }
    }

    /// How deep lists and objects are nested.
    pub(super) fn height(&self) -> usize {
        match self {
            Self::Scalar(_) => 0,
            Self::List(items) => 1 + items.iter().map(Self::height).max().unwrap_or_default(),
            Self::Object(fields) => 1 + fields.iter().map(|(_, tree)| tree.height()).max().unwrap_or_default(),
        }
    }

    /// The JSON type as Go's errors name it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Scalar(value) => super::json_kind(value),
            Self::List(_) => "array",
            Self::Object(_) => "object",
        }
    }

    /// What the document says it is; the error is in Go's words.
    pub(super) fn type_meta(&self) -> Result<TypeMeta, String> {
        let fields = match self {
            Self::Object(fields) => fields,
            Self::Scalar(Value::Null) => return Ok(TypeMeta::default()),
            other => {
                return Err(format!(
                    "json: cannot unmarshal {} into Go value of type struct {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; \
                     Kind string \"json:\\\"kind,omitempty\\\"\" }}",
                    other.kind()
                ));
            }
        };
        let mut meta = TypeMeta::default();
        for (key, value) in fields {
            let place = match key.as_str() {
                "apiVersion" => &mut meta.api_version,
                "kind" => &mut meta.kind,
                _ => continue,
            };
            match value {
                Self::Scalar(Value::String(text)) => place.clone_from(text),
                Self::Scalar(Value::Null) => {}
                other => {
                    let kind = other.kind();
                    return Err(format!("json: cannot unmarshal {kind} into Go struct field .{key} of type string"));
                }
            }
        }
        Ok(meta)
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::Number(value.into())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::Number(value.into())))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Scalar(Number::from_f64(value).map_or(Value::Null, Value::Number)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Scalar(Value::String(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
        let mut fields = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            fields.push(entry);
        }
        Ok(Tree::Object(fields))
    }
}
