//! Objects as JSON without `metadata.managedFields`. These are often a third of an object, and nothing to whoever compares objects or
//! looks for a field: a tree of them that is thrown away at once costs as much as the rest.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde::ser::{Error, Impossible, SerializeStruct, Serializer};
use serde_json::Value;

const METADATA: &str = "metadata";

/// An object, which has this metadata, as JSON without its managed fields.
pub(super) fn to_value<T: Serialize>(object: &T, metadata: &ObjectMeta) -> Result<Value, serde_json::Error> {
    if let Ok(value) = object.serialize(Object { inner: serde_json::value::Serializer, metadata: &unmanaged(metadata) })
    {
        return Ok(value);
    }
    // Of a kind that is no plain struct.
    let mut value = serde_json::to_value(object)?;
    if let Some(metadata) = value.get_mut(METADATA).and_then(Value::as_object_mut) {
        metadata.swap_remove("managedFields");
    }
    Ok(value)
}

/// A copy, but for the managed fields.
fn unmanaged(metadata: &ObjectMeta) -> ObjectMeta {
    let ObjectMeta {
        annotations,
        creation_timestamp,
        deletion_grace_period_seconds,
        deletion_timestamp,
        finalizers,
        generate_name,
        generation,
        labels,
        managed_fields: _,
        name,
        namespace,
        owner_references,
        resource_version,
        self_link,
        uid,
    } = metadata;
    ObjectMeta {
        annotations: annotations.clone(),
        creation_timestamp: creation_timestamp.clone(),
        deletion_grace_period_seconds: *deletion_grace_period_seconds,
        deletion_timestamp: deletion_timestamp.clone(),
        finalizers: finalizers.clone(),
        generate_name: generate_name.clone(),
        generation: *generation,
        labels: labels.clone(),
        managed_fields: None,
        name: name.clone(),
        namespace: namespace.clone(),
        owner_references: owner_references.clone(),
        resource_version: resource_version.clone(),
        self_link: self_link.clone(),
        uid: uid.clone(),
    }
}

/// Serializes a struct, with this for the field that is called `metadata`; refuses all else.
struct Object<'a, S> {
    inner: S,
    metadata: &'a ObjectMeta,
}

impl<S: SerializeStruct> SerializeStruct for Object<'_, S> {
    type Ok = S::Ok;
    type Error = S::Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), S::Error> {
        match key {
            METADATA => self.inner.serialize_field(key, self.metadata),
            _ => self.inner.serialize_field(key, value),
        }
    }

    fn end(self) -> Result<S::Ok, S::Error> {
        self.inner.end()
    }
}

macro_rules! refuse {
    ($($method:ident($($argument:ty),*) -> $answer:ty;)*) => {
        $(fn $method(self, $(_: $argument),*) -> Result<$answer, S::Error> {
            Err(S::Error::custom("not a struct"))
        })*
    };
}

impl<'a, S: Serializer> Serializer for Object<'a, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Impossible<S::Ok, S::Error>;
    type SerializeTuple = Impossible<S::Ok, S::Error>;
    type SerializeTupleStruct = Impossible<S::Ok, S::Error>;
    type SerializeTupleVariant = Impossible<S::Ok, S::Error>;
    type SerializeMap = Impossible<S::Ok, S::Error>;
    type SerializeStruct = Object<'a, S::SerializeStruct>;
    type SerializeStructVariant = Impossible<S::Ok, S::Error>;

    fn serialize_struct(self, name: &'static str, length: usize) -> Result<Self::SerializeStruct, S::Error> {
        Ok(Object { inner: self.inner.serialize_struct(name, length)?, metadata: self.metadata })
    }

    refuse! {
        serialize_bool(bool) -> S::Ok;
        serialize_i8(i8) -> S::Ok;
        serialize_i16(i16) -> S::Ok;
        serialize_i32(i32) -> S::Ok;
        serialize_i64(i64) -> S::Ok;
        serialize_u8(u8) -> S::Ok;
        serialize_u16(u16) -> S::Ok;
        serialize_u32(u32) -> S::Ok;
        serialize_u64(u64) -> S::Ok;
        serialize_f32(f32) -> S::Ok;
        serialize_f64(f64) -> S::Ok;
        serialize_char(char) -> S::Ok;
        serialize_str(&str) -> S::Ok;
        serialize_bytes(&[u8]) -> S::Ok;
        serialize_none() -> S::Ok;
        serialize_unit() -> S::Ok;
        serialize_unit_struct(&'static str) -> S::Ok;
        serialize_unit_variant(&'static str, u32, &'static str) -> S::Ok;
        serialize_seq(Option<usize>) -> Self::SerializeSeq;
        serialize_tuple(usize) -> Self::SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeTupleVariant;
        serialize_map(Option<usize>) -> Self::SerializeMap;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Self::SerializeStructVariant;
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<S::Ok, S::Error> {
        self.serialize_none()
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, _: &T) -> Result<S::Ok, S::Error> {
        self.serialize_none()
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<S::Ok, S::Error> {
        self.serialize_none()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
    use serde_json::json;

    use super::*;
    use crate::api::Pod;
    use crate::kind::AnyObject;

    #[derive(Serialize)]
    struct Flat {
        metadata: ObjectMeta,
        #[serde(flatten)]
        rest: Value,
    }

    fn metadata() -> ObjectMeta {
        let entry = ManagedFieldsEntry { manager: Some("kubectl".to_owned()), ..ManagedFieldsEntry::default() };
        ObjectMeta { name: Some("a".to_owned()), managed_fields: Some(vec![entry]), ..ObjectMeta::default() }
    }

    #[test]
    fn all_else_is_there_and_in_its_order() {
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "annotations": { "a": "b" }, "creationTimestamp": "2026-01-02T03:04:05Z", "deletionGracePeriodSeconds": 3,
                "deletionTimestamp": "2026-01-02T03:04:05Z", "finalizers": ["f"], "generateName": "g", "generation": 2,
                "labels": { "l": "m" }, "managedFields": [{ "manager": "kubectl" }], "name": "n", "namespace": "s",
                "ownerReferences": [{ "apiVersion": "v1", "kind": "Pod", "name": "o", "uid": "p" }],
                "resourceVersion": "7", "selfLink": "/", "uid": "u",
            },
            "spec": { "containers": [{ "name": "main", "image": "i" }] },
        });
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let mut whole = pod.to_value();
        assert!(whole["metadata"].as_object_mut().unwrap().shift_remove("managedFields").is_some());
        assert_eq!(pod.to_unmanaged_value().to_string(), whole.to_string());
    }

    #[test]
    fn what_is_no_plain_struct_has_none_either() {
        let flat = Flat { metadata: metadata(), rest: json!({ "spec": 1 }) };
        let expected = json!({ "metadata": { "name": "a" }, "spec": 1 });
        assert_eq!(to_value(&flat, &flat.metadata).unwrap(), expected);
        assert_eq!(to_value(&json!({ "metadata": metadata(), "spec": 1 }), &metadata()).unwrap(), expected);
    }
}
