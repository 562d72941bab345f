//! What identifies the items of a list.

use serde_json::Value;

use super::item_type;
use crate::apply::fields::Element;
use crate::schema::{ListKind, Node, Type};

/// The element that selects an item of a list that is not atomic. The error is upstream's.
pub(super) fn element(list: Type<'_>, item: &Value) -> Result<Element, String> {
    let Node::List(node) = list.node() else { return Err("not a list".to_owned()) };
    let keys = match &node.kind {
        ListKind::Map(keys) if !keys.is_empty() => keys,
        _ => return set_element(item),
    };
    let fields = match item {
        Value::Object(fields) => fields,
        Value::Null => return Err("associative list with keys may not have a null element".to_owned()),
        _ => return Err("associative list with keys may not have non-map elements".to_owned()),
    };
    let defaults = match item_type(list).node() {
        Node::Struct(object) => Some(object),
        _ => None,
    };
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        let default = || defaults.and_then(|object| object.field(key)).and_then(|field| field.key_default.as_ref());
        match fields.get(&**key).or_else(default) {
            Some(value) => found.push((key.clone(), value.clone())),
            None => {
                let text = "associative list with keys has an element that omits key field";
                return Err(format!("{text} {key:?} (and doesn't have default value)"));
            }
        }
    }
    found.sort_by(|left, right| left.0.cmp(&right.0));
    Ok(Element::Key(found))
}

fn set_element(item: &Value) -> Result<Element, String> {
    match item {
        Value::Object(_) => Err("associative list without keys has an element that's a map type".to_owned()),
        Value::Array(_) => Err("not supported: associative list with lists as elements".to_owned()),
        Value::Null => Err("associative list without keys has an element that's an explicit null".to_owned()),
        scalar => Ok(Element::Value(scalar.clone())),
    }
}
