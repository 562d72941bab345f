//! Lease: who leads, and since when it was last heard of.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::CoordinationV1;
use crate::api::columns::{self, AGE, NAME, column};
use crate::api::rules;
use crate::api::wire;
use crate::kind;
use crate::kind::{Column, Kind, Subresource};
use crate::validation::names::validate_qualified_name;
use crate::validation::{ErrorList, NameRule, Path, Report};

/// A claim that lapses unless it is renewed: leader election and node heartbeats.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub struct Lease {
    /// Version of the API.
    #[serde(default)]
    pub api_version: CoordinationV1,
    /// Name, namespace, labels and the rest of the object's metadata.
    #[serde(default, deserialize_with = "wire::metadata")]
    pub metadata: ObjectMeta,
    /// The claim.
    #[serde(default)]
    pub spec: LeaseSpec,
}

/// A claim that lapses unless it is renewed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaseSpec {
    /// Who holds the lease; unset or empty if nobody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder_identity: Option<String>,
    /// How many seconds after `renewTime` others may take it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_duration_seconds: Option<i32>,
    /// When the holder got it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acquire_time: Option<MicroTime>,
    /// When the holder last renewed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_time: Option<MicroTime>,
    /// How often it changed hands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_transitions: Option<i32>,
    /// How a leader is picked, for coordinated election.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<String>,
    /// To whom the holder should yield.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_holder: Option<String>,
}

kind!(Lease, "coordination.k8s.io"/v1, "leases", singular "lease", Namespaced, short [], categories [], subresources []);

const COLUMNS: &[Column] = &[NAME, column("Holder", "string", "Who holds the lease."), AGE];

/// Kubernetes' own way to pick a leader.
const OWN_STRATEGY: &str = "OldestEmulationVersion";

impl LeaseSpec {
    fn validate(&self, at: &Path, errors: &mut ErrorList) {
        if let Some(seconds) = self.lease_duration_seconds.filter(|seconds| *seconds <= 0) {
            errors.invalid(&at.child("leaseDurationSeconds"), seconds, "must be greater than 0");
        }
        if let Some(times) = self.lease_transitions.filter(|times| *times < 0) {
            errors.invalid(&at.child("leaseTransitions"), times, "must be greater than or equal to 0");
        }
        if let Some(strategy) = &self.strategy {
            let at = at.child("strategy");
            if strategy.contains('/') {
                errors.extend(validate_qualified_name(strategy, &at));
            } else if strategy != OWN_STRATEGY {
                // Upstream repeats the field's name.
                errors.not_supported(&at.child("strategy"), strategy.as_str(), &[OWN_STRATEGY]);
            }
        }
        let preferred = self.preferred_holder.as_deref().unwrap_or_default();
        if !preferred.is_empty() && self.strategy.as_deref().unwrap_or_default().is_empty() {
            errors.forbidden(&at.child("preferredHolder"), "may only be specified if `strategy` is defined");
        }
    }
}

impl Kind for Lease {
    fn validate(&self) -> ErrorList {
        let mut errors = rules::validate(self, NameRule::DnsSubdomain);
        self.spec.validate(&Path::new("spec"), &mut errors);
        errors
    }

    fn validate_update(&self, old: &Self, _subresource: Option<Subresource>) -> ErrorList {
        let mut errors = rules::validate_update(self, old);
        self.spec.validate(&Path::new("spec"), &mut errors);
        errors
    }

    fn columns() -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let holder = self.spec.holder_identity.as_deref().unwrap_or_default();
        vec![columns::name(&self.metadata), holder.into(), columns::age(&self.metadata, now)]
    }
}
