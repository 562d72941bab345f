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
use crate::validation::{ErrorList, NameRule, Path, Report};
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

/// What the names of Kubernetes' own classes begin with.
const SYSTEM_PREFIX: &str = "system-";
/// Kubernetes' own classes and their values.
const SYSTEM_CLASSES: [(&str, i32); 2] =
    [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];
/// The highest value of other classes.
const HIGHEST_USER_VALUE: i32 = 1_000_000_000;

impl PriorityClass {
    /// Compares with Kubernetes' own class of this name.
    fn check_system_class(&self, name: &str) -> Result<(), String> {
        let Some((_, value)) = SYSTEM_CLASSES.into_iter().find(|(known, _)| *known == name) else {
            return Err(format!("{name} is not a known system priority class"));
        };
        if self.value != value {
            return Err(format!("value of {name} PriorityClass must be {value}"));
        }
        if self.global_default {
            return Err(format!("globalDefault of {name} PriorityClass must be false"));
        }
        Ok(())
    }
}

impl Kind for PriorityClass {
    fn set_defaults(&mut self) {
        self.preemption_policy.get_or_insert(PreemptionPolicy::PreemptLowerPriority);
    }

    fn prepare_for_create(&mut self) {
        self.metadata.generation = Some(1);
    }

    fn validate(&self) -> ErrorList {
        let mut errors = rules::validate(self, NameRule::DnsSubdomain);
        if let Some(name) = self.metadata.name.as_deref().filter(|name| name.starts_with(SYSTEM_PREFIX)) {
            if let Err(why) = self.check_system_class(name) {
                let own =
                    format!("priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only");
                errors.forbidden(&Path::new("metadata").child("name"), format!("{own}. error: {why}"));
            }
        } else if self.value > HIGHEST_USER_VALUE {
            let why = format!("maximum allowed value of a user defined priority is {HIGHEST_USER_VALUE}");
            errors.forbidden(&Path::new("value"), why);
        }
        let at = Path::new("preemptionPolicy");
        match &self.preemption_policy {
            None => errors.required(&at, ""),
            Some(policy) if policy.is_unset() => errors.required(&at, ""),
            Some(policy) if !policy.is_known() => {
                errors.not_supported(&at, policy.as_str(), PreemptionPolicy::ALL);
            }
            Some(_) => {}
        }
        errors
    }

    fn validate_update(&self, old: &Self, _subresource: Option<Subresource>) -> ErrorList {
        let mut errors = rules::validate_update(self, old);
        if self.value != old.value {
            errors.forbidden(&Path::new("value"), "may not be changed in an update.");
        }
        errors.immutable(&Path::new("preemptionPolicy"), &self.preemption_policy, &old.preemption_policy);
        errors
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
