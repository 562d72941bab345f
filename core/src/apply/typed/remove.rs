//! Taking fields out of a value.

use serde_json::{Map, Value};

use super::{Shape, field_type, item_type, items, shape};
use crate::apply::fields::{Element, Set};
use crate::schema::Type;

/// `value` without the fields of `set`. What becomes empty is null.
pub(in crate::apply) fn remove(value: &Value, set: &Set, type_: Type<'_>) -> Value {
    match (shape(type_, Some(value)), value) {
        (Shape::Map(false), Value::Object(fields)) => {
            let mut kept = Map::with_capacity(fields.len());
            for (key, value) in fields {
                let element = Element::field(key);
                if set.has_member(&element) {
                    continue;
                }
                kept.insert(key.clone(), inner(value, set, &element, field_type(type_, key)));
            }
            if kept.is_empty() { Value::Null } else { Value::Object(kept) }
        }
        (Shape::List(false), Value::Array(list)) => {
            let mut kept = Vec::with_capacity(list.len());
            for item in list {
                match items::element(type_, item) {
                    Ok(element) if set.has_member(&element) => {}
                    Ok(element) => kept.push(inner(item, set, &element, Some(item_type(type_)))),
                    Err(_) => kept.push(item.clone()),
                }
            }
            if kept.is_empty() { Value::Null } else { Value::Array(kept) }
        }
        (Shape::Scalar, value) => value.clone(),
        _ => Value::Null,
    }
}

fn inner(value: &Value, set: &Set, element: &Element, type_: Option<Type<'_>>) -> Value {
    match (set.below(element).filter(|set| !set.is_empty()), type_) {
        (Some(below), Some(type_)) => remove(value, below, type_),
        _ => value.clone(),
    }
}
