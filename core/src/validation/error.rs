//! What is wrong with which field, in upstream's words (`k8s.io/apimachinery/pkg/util/validation/field`).

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::go_format::{self, quote as go_quote};

/// All that is wrong with an object, in the order found.
pub type ErrorList = Vec<Error>;

/// What is wrong with a field, as the `reason` of a status cause names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum ErrorType {
    /// Something the value names does not exist.
    FieldValueNotFound,
    /// A value is missing.
    FieldValueRequired,
    /// A value that must be unique is there twice.
    FieldValueDuplicate,
    /// A value is malformed.
    FieldValueInvalid,
    /// A value is not one of those allowed.
    FieldValueNotSupported,
    /// A value is well-formed but may not be used here.
    FieldValueForbidden,
    /// A value is too long.
    FieldValueTooLong,
    /// A list or map has too many items.
    FieldValueTooMany,
    /// Something broke while checking.
    InternalError,
    /// A value has the wrong type.
    FieldValueTypeInvalid,
}

/// One thing that is wrong with one field.
#[derive(Debug, Clone, PartialEq)]
pub struct Error {
    /// What is wrong.
    pub type_: ErrorType,
    /// Path of the field, such as `spec.containers[0].name`.
    pub field: String,
    /// The offending value as JSON; `Null` for what is not given, as lists and maps without content.
    pub bad_value: Value,
    /// What to do about it.
    pub detail: String,
}

/// The place of a field in an object. Cheap to extend; printed as upstream does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Path(String);

impl Path {
    /// A path that starts with `name`.
    pub fn new(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The field `name` below this one.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() { Self::new(name) } else { Self(format!("{}.{name}", self.0)) }
    }

    /// The item at `index` of a list.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// The value at `key` of a map.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error {
    fn new(type_: ErrorType, field: &Path, bad_value: Value, detail: impl Into<String>) -> Self {
        Self { type_, field: field.to_string(), bad_value, detail: detail.into() }
    }

    /// Something the value names does not exist.
    pub fn not_found(field: &Path, value: impl Into<Value>) -> Self {
        Self::new(ErrorType::FieldValueNotFound, field, value.into(), "")
    }

    /// The value is missing; `detail` may be empty.
    pub fn required(field: &Path, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::FieldValueRequired, field, Value::String(String::new()), detail)
    }

    /// The value is there twice.
    pub fn duplicate(field: &Path, value: impl Into<Value>) -> Self {
        Self::new(ErrorType::FieldValueDuplicate, field, value.into(), "")
    }

    /// The value is malformed; `detail` says what is right.
    pub fn invalid(field: &Path, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::FieldValueInvalid, field, value.into(), detail)
    }

    /// The value has the wrong type.
    pub fn type_invalid(field: &Path, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::FieldValueTypeInvalid, field, value.into(), detail)
    }

    /// The value is none of those allowed, which are listed in the order given.
    pub fn not_supported(field: &Path, value: impl Into<Value>, allowed: &[&str]) -> Self {
        let allowed: Vec<String> = allowed.iter().map(|text| go_quote(text)).collect();
        let detail =
            if allowed.is_empty() { String::new() } else { format!("supported values: {}", allowed.join(", ")) };
        Self::new(ErrorType::FieldValueNotSupported, field, value.into(), detail)
    }

    /// The value may not be used here.
    pub fn forbidden(field: &Path, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::FieldValueForbidden, field, Value::String(String::new()), detail)
    }

    /// The value is longer than `max` bytes; it is not repeated in the message.
    pub fn too_long(field: &Path, max: i64) -> Self {
        let detail = match max {
            i64::MIN..=-1 => "value is too long".to_owned(),
            1 => "may not be more than 1 byte".to_owned(),
            max => format!("may not be more than {max} bytes"),
        };
        Self::new(ErrorType::FieldValueTooLong, field, "<value omitted>".into(), detail)
    }

    /// A list or map of `actual` items where `max` are allowed. A negative number is one that is not known.
    pub fn too_many(field: &Path, actual: i64, max: i64) -> Self {
        let detail = match max {
            i64::MIN..=-1 => "has too many items".to_owned(),
            1 => "must have at most 1 item".to_owned(),
            max => format!("must have at most {max} items"),
        };
        let actual = if actual < 0 { omitted() } else { actual.into() };
        Self::new(ErrorType::FieldValueTooMany, field, actual, detail)
    }

    /// Something broke while checking.
    pub fn internal(field: &Path, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::InternalError, field, Value::Null, detail)
    }

    /// The whole message: field, what is wrong, the value where it helps, and the detail.
    pub fn message(&self) -> String {
        format!("{}: {}", self.field, self.body())
    }

    /// The message without the field, as a status cause has it.
    pub fn body(&self) -> String {
        let kind = self.type_.describe();
        let mut body = match self.type_ {
            ErrorType::FieldValueRequired
            | ErrorType::FieldValueForbidden
            | ErrorType::FieldValueTooLong
            | ErrorType::InternalError => kind.to_owned(),
            ErrorType::FieldValueInvalid if self.bad_value == "" && self.detail.is_empty() => kind.to_owned(),
            ErrorType::FieldValueTooMany if self.bad_value == omitted() => kind.to_owned(),
            _ => format!("{kind}: {}", go_print(&self.bad_value)),
        };
        if !self.detail.is_empty() {
            body.push_str(": ");
            body.push_str(&self.detail);
        }
        body
    }
}

impl ErrorType {
    /// What is wrong, in upstream's words.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::FieldValueNotFound => "Not found",
            Self::FieldValueRequired => "Required value",
            Self::FieldValueDuplicate => "Duplicate value",
            Self::FieldValueInvalid | Self::FieldValueTypeInvalid => "Invalid value",
            Self::FieldValueNotSupported => "Unsupported value",
            Self::FieldValueForbidden => "Forbidden",
            Self::FieldValueTooLong => "Too long",
            Self::FieldValueTooMany => "Too many",
            Self::InternalError => "Internal error",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message())
    }
}

/// A value as upstream's messages have it.
fn go_print(value: &Value) -> String {
    match value {
        Value::String(text) => go_quote(text),
        Value::Number(number) => go_format::float(number),
        // Go's JSON is safe to stand in HTML.
        value => value.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026"),
    }
}

/// What upstream puts in place of a value that it does not repeat.
fn omitted() -> Value {
    Value::Object(serde_json::Map::new())
}

/// All errors in one message, each said once; in brackets if there are several.
pub fn aggregate(errors: &[Error]) -> String {
    join_once(errors.iter().map(Error::message))
}

/// Messages as upstream's aggregate prints them: each once, in brackets if there are several.
pub(crate) fn join_once(messages: impl IntoIterator<Item = String>) -> String {
    let mut once: Vec<String> = Vec::new();
    for message in messages {
        if !once.contains(&message) {
            once.push(message);
        }
    }
    match once.as_slice() {
        [only] => only.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}
