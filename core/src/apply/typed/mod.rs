//! What a schema makes of a value: which fields it has, how it differs from another, how two merge.

mod compare;
mod extract;
mod field_set;
mod items;
mod merge;
mod remove;
mod validate;

use serde_json::{Map, Value};

use super::fields::Element;
use crate::schema::{Node, Type};

pub(super) use compare::{Comparison, compare};
pub(super) use extract::extract;
pub(super) use field_set::{ensure_named_fields, field_set};
pub(super) use merge::merge;
pub(super) use remove::remove;
pub(super) use validate::validate;

/// What a value is by its schema. Where the schema leaves it open, the value decides.
enum Shape {
    Scalar,
    /// An object; whether it is one value.
    Map(bool),
    /// A list; whether it is one value.
    List(bool),
}

fn shape(type_: Type<'_>, value: Option<&Value>) -> Shape {
    match type_.node() {
        Node::Scalar(_) => Shape::Scalar,
        Node::Struct(object) => Shape::Map(object.atomic),
        Node::Map(map) => Shape::Map(map.atomic),
        Node::List(list) => Shape::List(list.kind == crate::schema::ListKind::Atomic),
        Node::Any => match value {
            Some(Value::Object(_)) => Shape::Map(false),
            Some(Value::Array(_)) => Shape::List(true),
            _ => Shape::Scalar,
        },
    }
}

/// The object, if it is one; a null or a value of another type counts as none.
fn as_map(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object)
}

fn as_list(value: Option<&Value>) -> Option<&[Value]> {
    value.and_then(Value::as_array).map(Vec::as_slice)
}

/// The type of what stands at `key`; a key that the schema lacks takes anything.
fn field_type<'s>(type_: Type<'s>, key: &str) -> Option<Type<'s>> {
    type_.at_key(key).map(|(field, _)| field)
}

fn item_type(type_: Type<'_>) -> Type<'_> {
    match type_.node() {
        Node::List(list) => type_.of_items(list),
        _ => type_,
    }
}

fn below(path: &mut Vec<Element>, element: Element, visit: impl FnOnce(&mut Vec<Element>)) {
    path.push(element);
    visit(path);
    path.pop();
}
