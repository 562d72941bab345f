//! What the printer columns of many kinds share.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use crate::age::human_duration;
use crate::api::PodTemplateSpec;
use crate::kind::Column;
use crate::selector;

/// The object's name.
pub(crate) const NAME: Column = Column {
    name: "Name",
    type_: "string",
    format: "name",
    description: "Name of the object, unique among its kind and in its namespace.",
    priority: 0,
};

/// Time since the object was created.
pub(crate) const AGE: Column = column("Age", "string", "Time since the object was created.");

/// A column that is always shown.
pub(crate) const fn column(name: &'static str, type_: &'static str, description: &'static str) -> Column {
    Column { name, type_, format: "", description, priority: 0 }
}

/// A column that only `-o wide` shows.
pub(crate) const fn wide(name: &'static str, type_: &'static str, description: &'static str) -> Column {
    Column { name, type_, format: "", description, priority: 1 }
}

/// The cell of [`NAME`].
pub(crate) fn name(metadata: &ObjectMeta) -> Value {
    metadata.name.as_deref().unwrap_or_default().into()
}

/// The cell of [`AGE`].
pub(crate) fn age(metadata: &ObjectMeta, now: Timestamp) -> Value {
    since(metadata.creation_timestamp.as_ref().map(|time| time.0), now).into()
}

/// Time since `time`, for people; `<unknown>` if there is none.
pub(crate) fn since(time: Option<Timestamp>, now: Timestamp) -> String {
    time.map_or_else(|| "<unknown>".to_owned(), |time| human_duration(now.duration_since(time)))
}

/// Labels as `a=1,b=2`; `<none>` if there are none.
pub(crate) fn labels(labels: &BTreeMap<String, String>) -> String {
    if labels.is_empty() { "<none>".to_owned() } else { selector::format_labels(labels) }
}

/// Names and images of a template's containers, each joined by commas.
pub(crate) fn containers(template: &PodTemplateSpec) -> (String, String) {
    let join = |texts: Vec<&str>| texts.join(",");
    let containers = &template.spec.containers;
    (
        join(containers.iter().map(|container| container.name.as_str()).collect()),
        join(containers.iter().map(|container| container.image.as_str()).collect()),
    )
}
