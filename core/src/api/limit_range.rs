//! LimitRange: bounds and defaults for the resources of a namespace's objects.

mod validation;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::columns::{self, NAME, column};
use crate::api::resources;
use crate::api::rules;
use crate::api::wire::{self, is_default};
use crate::api::{ResourceList, V1};
use crate::kind::{Column, Kind, Subresource};
use crate::validation::{ErrorList, NameRule};
use crate::{kind, string_enum};

/// Bounds and defaults for the resources of single objects in a namespace.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub struct LimitRange {
    /// Version of the API.
    #[serde(default)]
    pub api_version: V1,
    /// Name, namespace, labels and the rest of the object's metadata.
    #[serde(default, deserialize_with = "wire::metadata")]
    pub metadata: ObjectMeta,
    /// The bounds.
    #[serde(default)]
    pub spec: LimitRangeSpec,
}

/// Bounds for the resources of single objects.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LimitRangeSpec {
    /// Bounds by kind of consumer.
    #[serde(default, serialize_with = "wire::empty_as_null", deserialize_with = "wire::null_as_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub limits: Vec<LimitRangeItem>,
}

/// Bounds for one kind of consumer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LimitRangeItem {
    /// What the bounds are for.
    #[serde(default)]
    pub type_: LimitType,
    /// The most that may be used.
    #[serde(default, skip_serializing_if = "is_default")]
    pub max: ResourceList,
    /// The least that must be used.
    #[serde(default, skip_serializing_if = "is_default")]
    pub min: ResourceList,
    /// Limits of containers that name none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub default: ResourceList,
    /// Requests of containers that name none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub default_request: ResourceList,
    /// How many times its request a limit may be.
    #[serde(default, skip_serializing_if = "is_default")]
    pub max_limit_request_ratio: ResourceList,
}

string_enum! {
    /// What bounds are for.
    pub enum LimitType {
        /// A whole pod.
        Pod,
        /// Each container.
        Container,
        /// A volume claim.
        PersistentVolumeClaim,
    }
}

kind!(LimitRange, v1, "limitranges", singular "limitrange", Namespaced, short ["limits"], categories [], subresources []);

const COLUMNS: &[Column] = &[NAME, column("Created At", "date", "When the object was created.")];

impl LimitRangeItem {
    /// Containers' default limit falls back to the maximum, their default request to that limit, then to the minimum.
    fn set_defaults(&mut self) {
        fn fill(into: &mut ResourceList, from: &ResourceList) {
            for (name, amount) in from {
                into.entry(name.clone()).or_insert_with(|| amount.clone());
            }
        }
        if self.type_ == LimitType::Container {
            fill(&mut self.default, &self.max);
            fill(&mut self.default_request, &self.default);
            fill(&mut self.default_request, &self.min);
        }
        let lists = [
            &mut self.max,
            &mut self.min,
            &mut self.default,
            &mut self.default_request,
            &mut self.max_limit_request_ratio,
        ];
        lists.into_iter().for_each(resources::round_up);
    }
}

impl Kind for LimitRange {
    fn set_defaults(&mut self) {
        self.spec.limits.iter_mut().for_each(LimitRangeItem::set_defaults);
    }

    fn validate(&self) -> ErrorList {
        let mut errors = rules::validate(self, NameRule::DnsSubdomain);
        validation::validate_spec(&self.spec, &mut errors);
        errors
    }

    fn validate_update(&self, old: &Self, _subresource: Option<Subresource>) -> ErrorList {
        let mut errors = rules::validate_update(self, old);
        validation::validate_spec(&self.spec, &mut errors);
        errors
    }

    fn columns() -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, _now: Timestamp) -> Vec<Value> {
        let created = self.metadata.creation_timestamp.as_ref();
        vec![columns::name(&self.metadata), serde_json::json!(created)]
    }
}
