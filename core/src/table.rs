//! Objects as a table of printer columns: the `meta.k8s.io/v1` Table that `kubectl get` asks for.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use serde_json::{Value, json};

use crate::kind::{AnyObject, Column, KindType};

/// `apiVersion` of tables.
pub const API_VERSION: &str = "meta.k8s.io/v1";

/// How much of each object its row carries besides the cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// Its metadata, as `PartialObjectMetadata`.
    #[default]
    Metadata,
    /// All of it.
    Object,
}

impl IncludeObject {
    /// The choice that the query parameter `includeObject` names; empty means metadata. `None` if there is no such
    /// choice.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "None" => Some(Self::None),
            "" | "Metadata" => Some(Self::Metadata),
            "Object" => Some(Self::Object),
            _ => None,
        }
    }

    fn of(self, object: &dyn AnyObject) -> Value {
        match self {
            Self::None => Value::Null,
            Self::Metadata => {
                json!({ "kind": "PartialObjectMetadata", "apiVersion": API_VERSION, "metadata": object.meta() })
            }
            Self::Object => object.to_value(),
        }
    }
}

/// What a table is made of besides the objects.
#[derive(Debug, Clone)]
pub struct Options {
    /// How much of each object its row carries.
    pub include: IncludeObject,
    /// Whether to name the columns. A watch names them only in its first table.
    pub headers: bool,
    /// The moment from which ages are counted.
    pub now: Timestamp,
}

/// The table of `objects`, which must all be of `kind`. `metadata` is that of the list they come from.
pub fn table<'a>(
    kind: &KindType,
    objects: impl IntoIterator<Item = &'a dyn AnyObject>,
    metadata: &ListMeta,
    options: &Options,
) -> Value {
    let rows = objects.into_iter().map(|object| row(object, options)).collect();
    let columns =
        if options.headers { (kind.columns)().iter().map(definition).collect::<Vec<_>>().into() } else { Value::Null };
    json!({
        "kind": "Table",
        "apiVersion": API_VERSION,
        "metadata": metadata,
        "columnDefinitions": columns,
        "rows": Value::Array(rows),
    })
}

fn definition(column: &Column) -> Value {
    json!({
        "name": column.name,
        "type": column.type_,
        "format": column.format,
        "description": column.description,
        "priority": column.priority,
    })
}

fn row(object: &dyn AnyObject, options: &Options) -> Value {
    json!({ "cells": object.row(options.now), "object": options.include.of(object) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api;

    fn namespace() -> Box<dyn AnyObject> {
        let kind = api::find("v1", "Namespace").unwrap();
        let metadata = json!({ "name": "a", "creationTimestamp": "1970-01-01T00:00:00Z" });
        (kind.from_value)(json!({ "metadata": metadata, "status": { "phase": "Active" } })).unwrap()
    }

    fn build(include: &str, headers: bool) -> Value {
        let object = namespace();
        let options = Options {
            include: IncludeObject::parse(include).unwrap(),
            headers,
            now: Timestamp::from_second(90).unwrap(),
        };
        let metadata = ListMeta { resource_version: Some("7".to_owned()), ..ListMeta::default() };
        table(object.kind_type(), [&*object], &metadata, &options)
    }

    #[test]
    fn rows_follow_the_columns() {
        let table = build("", true);
        assert_eq!(table["metadata"], json!({ "resourceVersion": "7" }));
        assert_eq!(table["columnDefinitions"][0]["format"], "name");
        assert_eq!(table["columnDefinitions"].as_array().unwrap().len(), 3);
        assert_eq!(table["rows"][0]["cells"], json!(["a", "Active", "90s"]));
        assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
        assert_eq!(table["rows"][0]["object"]["metadata"]["name"], "a");
    }

    #[test]
    fn rows_carry_as_much_as_asked_for() {
        assert_eq!(build("None", false)["rows"][0]["object"], Value::Null);
        assert_eq!(build("None", false)["columnDefinitions"], Value::Null);
        assert_eq!(build("Object", false)["rows"][0]["object"]["status"]["phase"], "Active");
        assert_eq!(IncludeObject::parse("Everything"), None);
    }

    #[test]
    fn every_kind_has_a_cell_for_each_column_and_one_name() {
        for kind in api::kinds() {
            let object = (kind.from_value)(json!({})).unwrap();
            let columns = (kind.columns)();
            assert_eq!(object.row(Timestamp::UNIX_EPOCH).len(), columns.len(), "{}", kind.info.kind);
            assert_eq!(columns.iter().filter(|column| column.format == "name").count(), 1, "{}", kind.info.kind);
        }
    }
}
