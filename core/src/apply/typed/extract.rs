//! The part of a value that a set names.

use serde_json::{Map, Value};

use super::{Shape, field_type, item_type, items, shape};
use crate::apply::fields::{Element, Set};
use crate::schema::{ListKind, Node, Type};

/// The fields of `value` that are in `set`, with the keys of the list items on the way; `None` if there are none.
pub(in crate::apply) fn extract(value: &Value, set: &Set, type_: Type<'_>) -> Option<Value> {
    match (shape(type_, Some(value)), value) {
        (Shape::Map(false), Value::Object(fields)) => {
            let mut kept = Map::new();
            for (key, value) in fields {
                let element = Element::field(key);
                let below = set.below(&element).filter(|set| !set.is_empty());
                match (below, field_type(type_, key)) {
                    (Some(below), Some(field)) => {
                        kept.extend(extract(value, below, field).map(|value| (key.clone(), value)))
                    }
                    (None, _) if set.has_member(&element) => {
                        kept.insert(key.clone(), value.clone());
                    }
                    _ => {}
                }
            }
            if kept.is_empty() { None } else { Some(Value::Object(kept)) }
        }
        (Shape::List(false), Value::Array(list)) => {
            let kept: Vec<Value> = list.iter().filter_map(|item| extract_item(item, set, type_)).collect();
            if kept.is_empty() { None } else { Some(Value::Array(kept)) }
        }
        (_, value) => Some(value.clone()),
    }
}

fn extract_item(item: &Value, set: &Set, list: Type<'_>) -> Option<Value> {
    let element = items::element(list, item).ok()?;
    let below = set.below(&element).filter(|set| !set.is_empty());
    if below.is_none() && !set.has_member(&element) {
        return None;
    }
    let (Node::List(node), Value::Object(fields)) = (list.node(), item) else { return Some(item.clone()) };
    let mut kept = match below.and_then(|below| extract(item, below, item_type(list))) {
        Some(Value::Object(kept)) => kept,
        _ => Map::new(),
    };
    if let ListKind::Map(keys) = &node.kind {
        for key in keys {
            kept.extend(fields.get_key_value(&**key).map(|(key, value)| (key.clone(), value.clone())));
        }
    }
    Some(Value::Object(kept))
}
