//! The fields that a value has.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Shape, as_list, as_map, item_type, items, shape};
use crate::apply::fields::{Element, Set};
use crate::schema::{Node, Type};

/// The fields of `value`: its leaves, and the items of lists and free keys of maps themselves.
pub(in crate::apply) fn field_set(value: &Value, type_: Type<'_>) -> Set {
    visit(value, type_).1
}

/// Whether the value itself is a field of the set, and the fields below it.
fn visit(value: &Value, type_: Type<'_>) -> (bool, Set) {
    let mut set = Set::default();
    match shape(type_, Some(value)) {
        Shape::Scalar | Shape::Map(true) | Shape::List(true) => return (true, set),
        Shape::Map(false) => {
            let mut fields: Vec<(&String, &Value)> = as_map(Some(value)).into_iter().flatten().collect();
            // Inserting in order is what keeps large maps cheap.
            fields.sort_unstable_by_key(|(key, _)| *key);
            for (key, value) in fields {
                let Some((field, named)) = type_.at_key(key) else { continue };
                let element = Element::field(key);
                let (member, below) = visit(value, field);
                let empty = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
                if member || empty || !named {
                    set.insert_member(&element);
                }
                set.put_below(&element, below);
            }
        }
        Shape::List(false) => {
            let mut found: BTreeMap<Element, Vec<&Value>> = BTreeMap::new();
            for item in as_list(Some(value)).unwrap_or_default() {
                if let Ok(element) = items::element(type_, item) {
                    found.entry(element).or_default().push(item);
                }
            }
            for (element, values) in found {
                set.insert_member(&element);
                // Of items that are there twice nobody owns the inside.
                if let [value] = values[..] {
                    set.put_below(&element, visit(value, item_type(type_)).1);
                }
            }
        }
    }
    (false, set)
}

/// The set with the named fields above its members: with `a.b.c` also `a`, unless `a` is a free key of a map.
pub(in crate::apply) fn ensure_named_fields(set: &Set, type_: Option<Type<'_>>) -> Set {
    let mut members = set.members().to_vec();
    let mut children = Vec::with_capacity(set.children().len());
    for (element, below) in set.children() {
        let below_type = match (element, type_.map(|type_| (type_, type_.node()))) {
            (Element::Field(name), Some((type_, Node::Struct(_) | Node::Map(_) | Node::Any))) => {
                let found = type_.at_key(name);
                if found.is_some_and(|(_, named)| named)
                    && let Err(place) = members.binary_search(element)
                {
                    members.insert(place, element.clone());
                }
                found.map(|(field, _)| field)
            }
            (Element::Key(_), Some((type_, Node::List(_)))) => Some(item_type(type_)),
            _ => None,
        };
        children.push((element.clone(), ensure_named_fields(below, below_type)));
    }
    Set::from_parts(members, children)
}
