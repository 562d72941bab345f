//! Event: a report that something happened to an object.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::columns::{self, NAME, column, wide};
use crate::api::rules;
use crate::api::wire::{self, is_default};
use crate::api::{ObjectReference, V1};
use crate::kind;
use crate::kind::{Column, Kind, Subresource};
use crate::validation::names::validate_qualified_name;
use crate::validation::{ErrorList, NameRule, Path, Report};

/// A report that something happened to an object. Kept for a limited time and only as a help for people.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub struct Event {
    /// Version of the API.
    #[serde(default)]
    pub api_version: V1,
    /// Name, namespace, labels and the rest of the object's metadata.
    #[serde(default, deserialize_with = "wire::metadata")]
    pub metadata: ObjectMeta,
    /// The object that the event is about.
    #[serde(default)]
    pub involved_object: ObjectReference,
    /// Why, in one CamelCase word that programs can compare.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reason: String,
    /// What happened, for people.
    #[serde(default, skip_serializing_if = "is_default")]
    pub message: String,
    /// Who reports it, in the older form.
    #[serde(default)]
    pub source: EventSource,
    /// When it was first seen.
    #[serde(default)]
    pub first_timestamp: Option<Time>,
    /// When it was last seen.
    #[serde(default)]
    pub last_timestamp: Option<Time>,
    /// How often it was seen.
    #[serde(default, skip_serializing_if = "is_default")]
    pub count: i32,
    /// `Normal` or `Warning`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub type_: String,
    /// When it was first seen, in the newer form.
    #[serde(default)]
    pub event_time: Option<MicroTime>,
    /// How it goes on, if it happens again and again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<EventSeries>,
    /// What was done or failed, in the newer form.
    #[serde(default, skip_serializing_if = "is_default")]
    pub action: String,
    /// A second object that plays a part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub related: Option<ObjectReference>,
    /// Who reports it, such as `kubernetes.io/kubelet`.
    #[serde(default)]
    pub reporting_component: String,
    /// Which instance of the reporter, such as a node's name.
    #[serde(default)]
    pub reporting_instance: String,
}

/// Who reports an event.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventSource {
    /// The part of the system.
    #[serde(default, skip_serializing_if = "is_default")]
    pub component: String,
    /// The node it runs on.
    #[serde(default, skip_serializing_if = "is_default")]
    pub host: String,
}

/// An event that happens again and again.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventSeries {
    /// How often so far.
    #[serde(default, skip_serializing_if = "is_default")]
    pub count: i32,
    /// When it was last seen.
    #[serde(default)]
    pub last_observed_time: Option<MicroTime>,
}

kind!(Event, v1, "events", singular "event", Namespaced, short ["ev"], categories [], subresources []);

const COLUMNS: &[Column] = &[
    column("Last Seen", "string", "Time since the event was last seen."),
    column("Type", "string", "Normal or Warning."),
    column("Reason", "string", "Why, in one word."),
    column("Object", "string", "The object that the event is about."),
    wide("Subobject", "string", "The part of the object that the event is about."),
    wide("Source", "string", "Who reports it."),
    column("Message", "string", "What happened."),
    wide("First Seen", "string", "Time since the event was first seen."),
    wide("Count", "string", "How often it was seen."),
    Column { priority: 1, ..NAME },
];

impl Event {
    fn object_cell(&self) -> String {
        let kind = self.involved_object.kind.to_lowercase();
        if self.involved_object.name.is_empty() { kind } else { format!("{kind}/{}", self.involved_object.name) }
    }

    fn source_cell(&self) -> String {
        let component = first_given(&self.source.component, &self.reporting_component);
        match first_given(&self.source.host, &self.reporting_instance) {
            "" => component.to_owned(),
            instance => format!("{component}, {instance}"),
        }
    }
}

/// Longest words and text of events in the newer form, in bytes.
const WORD_MAX: usize = 128;
const MESSAGE_MAX: usize = 1024;

impl Event {
    /// An event stands in the namespace of its object, or in a namespace of the system if its object is in none. Events in the
    /// newer form, which have an `eventTime`, must say more.
    fn validate_content(&self, errors: &mut ErrorList) {
        let own = self.metadata.namespace.as_deref().unwrap_or_default();
        let object = self.involved_object.namespace.as_str();
        let fits = match (object, &self.event_time) {
            ("", None) => matches!(own, "" | "default"),
            ("", Some(_)) => matches!(own, "default" | "kube-system"),
            (object, _) => object == own,
        };
        if !fits {
            let at = Path::new("involvedObject").child("namespace");
            errors.invalid(&at, object, "does not match event.namespace");
        }
        if self.event_time.is_none() {
            return;
        }
        let component = Path::new("reportingComponent");
        if self.reporting_component.is_empty() {
            errors.required(&component, "");
        }
        errors.extend(validate_qualified_name(&self.reporting_component, &component));
        let words =
            [("reportingInstance", &self.reporting_instance), ("action", &self.action), ("reason", &self.reason)];
        for (field, word) in words {
            if word.is_empty() {
                errors.required(&Path::new(field), "");
            }
            if word.len() > WORD_MAX {
                errors.invalid(&Path::new(field), "", format!("can have at most {WORD_MAX} characters"));
            }
        }
        if self.message.len() > MESSAGE_MAX {
            errors.invalid(&Path::new("message"), "", format!("can have at most {MESSAGE_MAX} characters"));
        }
    }
}

fn first_given<'a>(one: &'a str, other: &'a str) -> &'a str {
    if one.is_empty() { other } else { one }
}

impl Kind for Event {
    fn validate(&self) -> ErrorList {
        let mut errors = rules::validate(self, NameRule::PathSegment);
        self.validate_content(&mut errors);
        errors
    }

    fn validate_update(&self, old: &Self, _subresource: Option<Subresource>) -> ErrorList {
        let mut errors = rules::validate_update(self, old);
        self.validate_content(&mut errors);
        errors
    }

    fn columns() -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let since = |time: Option<Timestamp>| columns::since(time, now);
        let first = match &self.first_timestamp {
            Some(time) => since(Some(time.0)),
            None => since(self.event_time.as_ref().map(|time| time.0)),
        };
        let (last, count) = match &self.series {
            Some(series) => (since(series.last_observed_time.as_ref().map(|time| time.0)), series.count),
            None => {
                let last = self.last_timestamp.as_ref().map_or_else(|| first.clone(), |time| since(Some(time.0)));
                (last, self.count.max(i32::from(self.count == 0)))
            }
        };
        vec![
            last.into(),
            self.type_.as_str().into(),
            self.reason.as_str().into(),
            self.object_cell().into(),
            self.involved_object.field_path.as_str().into(),
            self.source_cell().into(),
            self.message.trim().into(),
            first.into(),
            count.into(),
            columns::name(&self.metadata),
        ]
    }

    fn field(&self, label: &str) -> Option<String> {
        let object = &self.involved_object;
        let value = match label {
            "involvedObject.kind" => &object.kind,
            "involvedObject.namespace" => &object.namespace,
            "involvedObject.name" => &object.name,
            "involvedObject.uid" => &object.uid,
            "involvedObject.apiVersion" => &object.api_version,
            "involvedObject.resourceVersion" => &object.resource_version,
            "involvedObject.fieldPath" => &object.field_path,
            "reason" => &self.reason,
            "reportingComponent" => &self.reporting_component,
            "source" => return Some(first_given(&self.source.component, &self.reporting_component).to_owned()),
            "type" => &self.type_,
            _ => return None,
        };
        Some(value.clone())
    }

    fn selectable_fields() -> &'static [&'static str] {
        &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ]
    }
}
