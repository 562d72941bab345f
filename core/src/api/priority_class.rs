//! PriorityClass: a name for a pod priority.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::SchedulingV1;
use crate::api::columns::{self, AGE, NAME, column};
use crate::api::rules;
use crate::api::wire::{self, is_default};
use crate::kind::{Column, Kind, Subresource};
use crate::validation::{ErrorList, NameRule};
use crate::{kind, string_enum};

/// A name for a pod priority.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub struct PriorityClass {
    /// Version of the API.
    #[serde(default)]
    pub api_version: SchedulingV1,
    /// Name, namespace, labels and the rest of the object's metadata.
    #[serde(default, deserialize_with = "wire::metadata")]
    pub metadata: ObjectMeta,
    /// The priority; pods with a higher one are placed first and can push out lower ones.
    #[serde(default)]
    pub value: i32,
    /// Whether pods that name no class get this one; at most one class should say so.
    #[serde(default, skip_serializing_if = "is_default")]
    pub global_default: bool,
    /// When to use the class, for people.
    #[serde(default, skip_serializing_if = "is_default")]
    pub description: String,
    /// Whether pods of the class may push out others; `PreemptLowerPriority` if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preemption_policy: Option<PreemptionPolicy>,
}

string_enum! {
    /// Whether a pod may push out pods of lower priority.
    pub enum PreemptionPolicy {
        /// It may.
        PreemptLowerPriority,
        /// It only goes ahead of them in the queue.
        Never,
    }
}

kind!(PriorityClass, "scheduling.k8s.io"/v1, "priorityclasses", singular "priorityclass", Cluster, short ["pc"], categories [], subresources []);

const COLUMNS: &[Column] = &[
    NAME,
    column("Value", "integer", "The priority of the class's pods."),
    column("Global-Default", "boolean", "Whether pods that name no class get this one."),
    AGE,
    column("PreemptionPolicy", "string", "Whether the class's pods may push out others."),
];

impl Kind for PriorityClass {
    fn set_defaults(&mut self) {
        self.preemption_policy.get_or_insert(PreemptionPolicy::PreemptLowerPriority);
    }

    fn prepare_for_create(&mut self) {
        self.metadata.generation = Some(1);
    }

    fn validate(&self) -> ErrorList {
        rules::validate(self, NameRule::DnsSubdomain)
    }

    fn validate_update(&self, old: &Self, _subresource: Option<Subresource>) -> ErrorList {
        rules::validate_update(self, old)
    }

    fn columns() -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        vec![
            columns::name(&self.metadata),
            self.value.into(),
            self.global_default.into(),
            columns::age(&self.metadata, now),
            self.preemption_policy.as_ref().map_or("", PreemptionPolicy::as_str).into(),
        ]
    }
}
