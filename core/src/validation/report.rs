//! The words in which rules say what is wrong.

use serde::Serialize;
use serde_json::Value;

use super::{Error, ErrorList, Path};
use crate::selector::LabelSelector;

/// Short forms for adding to the list of what is wrong. Named as upstream's constructors of field errors.
pub(crate) trait Report {
    /// A value is missing.
    fn required(&mut self, at: &Path, detail: impl Into<String>);
    /// A value is malformed.
    fn invalid(&mut self, at: &Path, value: impl Into<Value>, detail: impl Into<String>);
    /// A text is malformed in each of these ways.
    fn invalid_each(&mut self, at: &Path, value: &str, details: Vec<String>);
    /// A value is none of those allowed.
    fn not_supported(&mut self, at: &Path, value: impl Into<Value>, allowed: &[&str]);
    /// A value may not be used here.
    fn forbidden(&mut self, at: &Path, detail: impl Into<String>);
    /// A value is there twice.
    fn duplicate(&mut self, at: &Path, value: impl Into<Value>);
    /// What the value names does not exist.
    fn not_found(&mut self, at: &Path, value: impl Into<Value>);
    /// A value is longer than `max` bytes.
    fn too_long(&mut self, at: &Path, max: usize);
    /// There are more than `max` items.
    fn too_many(&mut self, at: &Path, actual: usize, max: usize);
    /// A number is below zero.
    fn non_negative(&mut self, at: &Path, value: impl Into<i64>);
    /// A value is not what it was, and may not change. `value` is the new one.
    fn immutable<T: PartialEq + Serialize>(&mut self, at: &Path, new: &T, old: &T);
}

impl Report for ErrorList {
    fn required(&mut self, at: &Path, detail: impl Into<String>) {
        self.push(Error::required(at, detail));
    }

    fn invalid(&mut self, at: &Path, value: impl Into<Value>, detail: impl Into<String>) {
        self.push(Error::invalid(at, value, detail));
    }

    fn invalid_each(&mut self, at: &Path, value: &str, details: Vec<String>) {
        self.extend(details.into_iter().map(|detail| Error::invalid(at, value, detail)));
    }

    fn not_supported(&mut self, at: &Path, value: impl Into<Value>, allowed: &[&str]) {
        self.push(Error::not_supported(at, value, allowed));
    }

    fn forbidden(&mut self, at: &Path, detail: impl Into<String>) {
        self.push(Error::forbidden(at, detail));
    }

    fn duplicate(&mut self, at: &Path, value: impl Into<Value>) {
        self.push(Error::duplicate(at, value));
    }

    fn not_found(&mut self, at: &Path, value: impl Into<Value>) {
        self.push(Error::not_found(at, value));
    }

    fn too_long(&mut self, at: &Path, max: usize) {
        self.push(Error::too_long(at, i64::try_from(max).unwrap_or(i64::MAX)));
    }

    fn too_many(&mut self, at: &Path, actual: usize, max: usize) {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.push(Error::too_many(at, count(actual), count(max)));
    }

    fn non_negative(&mut self, at: &Path, value: impl Into<i64>) {
        let value = value.into();
        if value < 0 {
            self.invalid(at, value, "must be greater than or equal to 0");
        }
    }

    fn immutable<T: PartialEq + Serialize>(&mut self, at: &Path, new: &T, old: &T) {
        if new != old {
            self.invalid(at, json(new), FIELD_IMMUTABLE);
        }
    }
}

/// What is said of a field that changed and may not.
pub(crate) const FIELD_IMMUTABLE: &str = "field is immutable";

/// A value as JSON in errors, where a list or map without content is nothing, as in Go.
pub(crate) fn json(value: impl Serialize) -> Value {
    match serde_json::to_value(value).unwrap_or_default() {
        Value::Array(items) if items.is_empty() => Value::Null,
        Value::Object(fields) if fields.is_empty() => Value::Null,
        value => value,
    }
}

/// Checks a label selector; one that is not given is right.
pub(crate) fn validate_label_selector(selector: Option<&LabelSelector>, at: &Path, errors: &mut ErrorList) {
    errors.extend(selector.map(|selector| selector.validate(at)).unwrap_or_default());
}
