//! What is wrong with which field, in upstream's words (`k8s.io/apimachinery/pkg/util/validation/field`).

use std::fmt;

use serde::Serialize;
use serde_json::Value;

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
    /// The offending value as JSON; `Null` where upstream gives none.
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
