//! ControllerRevision: a snapshot of a workload's template.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::AppsV1;
use crate::api::columns::{self, AGE, NAME, column};
use crate::api::rules;
use crate::api::wire;
use crate::kind;
use crate::kind::{Column, Kind, Subresource};
use crate::validation::{ErrorList, NameRule, Path, Report};

/// A snapshot of the state that a controller rolls out; never changes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub struct ControllerRevision {
    /// Version of the API.
    #[serde(default)]
    pub api_version: AppsV1,
    /// Name, namespace, labels and the rest of the object's metadata.
    #[serde(default, deserialize_with = "wire::metadata")]
    pub metadata: ObjectMeta,
    /// The state itself, in a form only the owner understands.
    #[serde(default)]
    pub data: RawObject,
    /// Number of the snapshot; higher is newer.
    #[serde(default)]
    pub revision: i64,
}

kind!(ControllerRevision, "apps"/v1, "controllerrevisions", singular "controllerrevision", Namespaced, short [], categories [], subresources []);

/// A JSON object of any shape, kept as given; `null` if unset.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RawObject(pub Value);

impl JsonSchema for RawObject {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RawExtension".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
    }
}

const COLUMNS: &[Column] = &[
    NAME,
    column("Controller", "string", "Controller of the object."),
    column("Revision", "string", "Number of the snapshot."),
    AGE,
];

impl Kind for ControllerRevision {
    fn validate(&self) -> ErrorList {
        let mut errors = rules::validate(self, NameRule::DnsSubdomain);
        if self.data.0.is_null() {
            errors.required(&Path::new("data"), "data is mandatory");
        }
        errors.non_negative(&Path::new("revision"), self.revision);
        errors
    }

    fn validate_update(&self, old: &Self, _subresource: Option<Subresource>) -> ErrorList {
        let mut errors = rules::validate_update(self, old);
        errors.extend(self.validate());
        errors.immutable(&Path::new("data"), &self.data, &old.data);
        errors
    }

    fn columns() -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let owners = self.metadata.owner_references.iter().flatten();
        let controller = owners.into_iter().find(|owner| owner.controller == Some(true)).map(|owner| {
            let group = owner.api_version.split_once('/').map_or(String::new(), |(group, _)| format!(".{group}"));
            format!("{}/{}", format!("{}{group}", owner.kind).to_lowercase(), owner.name)
        });
        vec![
            columns::name(&self.metadata),
            controller.unwrap_or_else(|| "<none>".to_owned()).into(),
            self.revision.into(),
            columns::age(&self.metadata, now),
        ]
    }
}
