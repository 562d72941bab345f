//! Writing FieldsV1.

use serde_json::{Map, Value};

use super::{Element, Set};

impl Set {
    /// The set as FieldsV1: `f:` a field, `k:` an item by its keys, `v:` an item of a set, `i:` an item by place, and
    /// `.` for a field that is itself a member while others below it are too.
    pub fn to_fields_v1(&self) -> Value {
        Value::Object(self.to_object(false))
    }

    /// [`Self::to_fields_v1`] as text, byte for byte as upstream writes it.
    pub fn to_json(&self) -> String {
        self.to_fields_v1().to_string()
    }

    fn to_object(&self, include_self: bool) -> Map<String, Value> {
        let mut object = Map::with_capacity(self.members.len() + self.children.len() + 1);
        super::zip_sorted(
            &self.members,
            &self.children,
            |member, (element, _)| member.cmp(element),
            |member, child| match (member, child) {
                (member, Some((element, set))) => {
                    object.insert(key(element), Value::Object(set.to_object(member.is_some())));
                }
                (Some(member), None) => {
                    object.insert(key(member), Value::Object(Map::new()));
                }
                (None, None) => {}
            },
        );
        if include_self && !object.is_empty() {
            let rest = std::mem::take(&mut object);
            object.insert(".".to_owned(), Value::Object(Map::new()));
            object.extend(rest);
        }
        object
    }
}

fn key(element: &Element) -> String {
    match element {
        Element::Field(name) => format!("f:{name}"),
        Element::Key(keys) => {
            let keys: Map<String, Value> = keys.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
            format!("k:{}", escaped(&Value::Object(keys)))
        }
        Element::Value(value) => format!("v:{}", escaped(value)),
        Element::Index(index) => format!("i:{index}"),
    }
}

/// JSON in which Go has escaped what would be markup in HTML.
fn escaped(value: &Value) -> String {
    value.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}
