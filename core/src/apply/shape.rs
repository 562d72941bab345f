//! What a new object's fields are, remembered by the object's shape.
//!
//! Most objects are made from few templates, and events all look alike. Which fields such an object sets depends on which there are,
//! on what the items of its lists are told apart by, and on nothing else.

use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, Time};
use rustc_hash::FxHashMap;

use super::FieldManager;
use crate::kind::{AnyObject, KindType};

/// How many shapes are remembered before all are forgotten.
const SHAPES_MAX: usize = 512;

/// The longest shape that is remembered, in bytes. What is longer is rarely made twice.
const SHAPE_MAX: usize = 16 << 10;

/// The entries of objects that were created, by their shape.
#[derive(Debug, Default)]
pub struct Shapes(Mutex<FxHashMap<Vec<u8>, Option<ManagedFieldsEntry>>>);

impl Shapes {
    /// Sets `metadata.managedFields` of an object that `manager` creates as [`FieldManager::update`] does, which is asked only about
    /// shapes that are not known. `fields` makes the field manager of the kind, always the same one.
    pub fn create(
        &self,
        kind: &'static KindType,
        fields: impl FnOnce() -> FieldManager,
        new: &mut dyn AnyObject,
        (manager, now): (&str, Timestamp),
    ) {
        if new.meta().managed_fields.is_some() {
            return fields().update(None, new, manager, now);
        }
        let mut shape = [&kind.info.api_version(), kind.info.kind, manager, ""].join("\0").into_bytes();
        add_shape(&new.to_vec(), &mut shape);
        if shape.len() > SHAPE_MAX {
            return fields().update(None, new, manager, now);
        }
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&shape).cloned();
        let entry = known.unwrap_or_else(|| {
            fields().update(None, new, manager, now);
            let entry = new.meta_mut().managed_fields.take().and_then(|mut entries| entries.pop());
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= SHAPES_MAX {
                known.clear();
            }
            known.insert(shape, entry.clone());
            entry
        });
        new.meta_mut().managed_fields = entry.map(|entry| vec![ManagedFieldsEntry { time: Some(Time(now)), ..entry }]);
    }
}

/// Adds the shape of an object, given as compact JSON: the JSON without the texts outside lists, as far as they are not empty.
///
/// All else stays. A number or an empty text may be what an empty object has too, and then its field is not set.
fn add_shape(json: &[u8], shape: &mut Vec<u8>) {
    let (mut lists, mut at) = (0_usize, 0);
    while let Some(&byte) = json.get(at) {
        let end = match byte {
            b'"' => at + text_length(&json[at..]),
            _ => at + 1,
        };
        match byte {
            b'[' => lists += 1,
            b']' => lists -= 1,
            _ => {}
        }
        let is_value = at > 0 && json[at - 1] == b':';
        if byte == b'"' && is_value && lists == 0 && end - at > 2 {
            shape.push(b'"');
        } else {
            shape.extend_from_slice(&json[at..end]);
        }
        at = end;
    }
}

/// How long the text is that a JSON text starts with, quotation marks included.
fn text_length(json: &[u8]) -> usize {
    let mut escaped = false;
    let end = json.iter().skip(1).position(|byte| {
        let ends = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    });
    end.map_or(json.len(), |end| end + 2)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::Event;
    use crate::api::pod::Pod;
    use crate::apply::fields::Set;
    use crate::kind::Kind;

    #[test]
    fn a_shape_lacks_texts_but_not_what_decides_about_fields() {
        let json =
            br#"{"a":"x\"]:","b":"","c":{"d\"":"y\\"},"e":[{"f":"z"},["w"]],"g":-1.5,"h":"v","i":true,"j":null}"#;
        let mut shape = Vec::new();
        add_shape(json, &mut shape);
        assert_eq!(
            String::from_utf8(shape).unwrap(),
            r#"{"a":","b":"","c":{"d\"":"},"e":[{"f":"z"},["w"]],"g":-1.5,"h":","i":true,"j":null}"#
        );
    }

    fn agree<K: Kind>(shapes: &Shapes, object: K, manager: &str) {
        let kind = KindType::of::<K>();
        let fields = || FieldManager::new(kind, "", Set::of_fields(&[&["status"]]));
        let now = Timestamp::from_second(7).unwrap();
        let (mut remembered, mut worked_out) = (object.clone(), object);
        shapes.create(kind, fields, &mut remembered, (manager, now));
        fields().update(None, &mut worked_out, manager, now);
        assert_eq!(AnyObject::meta(&remembered).managed_fields, AnyObject::meta(&worked_out).managed_fields);
    }

    #[test]
    fn what_is_remembered_equals_what_is_worked_out() {
        const TEXTS: [&str; 6] = ["", "a", "b", "\"]:", "\\", "\u{e9}["];
        let shapes = Shapes::default();
        for round in 0..600_usize {
            let text = |place: usize| TEXTS[round * (2 * place + 1) / (place + 3) % TEXTS.len()];
            let manager = if round % 7 == 0 { "x" } else { "kubectl" };
            let pod: Pod = serde_json::from_value(json!({
                "metadata": { "name": text(0), "labels": { "app": text(1), text(2): "z" }, "finalizers": [text(3)] },
                "spec": { "nodeName": text(4), "hostNetwork": round % 2 == 0, "priority": round % 3,
                    "containers": [{ "name": text(5), "image": text(6), "env": [{ "name": text(7), "value": text(8) }] }] },
                "status": { "message": text(2) },
            }))
            .unwrap();
            agree(&shapes, pod, manager);
            let event: Event = serde_json::from_value(json!({
                "metadata": { "name": text(0), "annotations": { text(1): text(2) } },
                "involvedObject": { "kind": "Pod", "name": text(3), "fieldPath": text(4) },
                "reason": text(5), "message": text(6), "type": text(7), "count": round % 2,
            }))
            .unwrap();
            agree(&shapes, event, manager);
        }
        assert!(shapes.0.lock().unwrap().len() < 600, "some were remembered");
    }
}
