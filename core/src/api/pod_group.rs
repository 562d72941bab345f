//! PodGroup: pods that are of use only together, in the shape of the scheduler-plugins project's CRD.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::columns::{self, AGE, NAME, column};
use crate::api::pod::Pod;
use crate::api::resources::{ResourceList, round_up};
use crate::api::rules;
use crate::api::wire::{self, SchedulingXV1alpha1, is_default};
use crate::kind::{Column, Kind, Subresource};
use crate::validation::{ErrorList, NameRule, Path, Report};
use crate::{kind, string_enum};

/// Label of a pod that names its group, which is in the pod's namespace.
pub const POD_GROUP_LABEL: &str = "scheduling.x-k8s.io/pod-group";

/// Pods that are of use only together: all get a node, or none does.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub struct PodGroup {
    /// Version of the API.
    #[serde(default)]
    pub api_version: SchedulingXV1alpha1,
    /// Name, namespace, labels and the rest of the object's metadata.
    #[serde(default, deserialize_with = "wire::metadata")]
    pub metadata: ObjectMeta,
    /// What the group needs.
    #[serde(default)]
    pub spec: PodGroupSpec,
    /// How far it is.
    #[serde(default)]
    pub status: PodGroupStatus,
}

/// What a group of pods needs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodGroupSpec {
    /// How many pods must have a node before any of them starts; 1 if unset.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(range(min = 1))]
    pub min_member: i32,
    /// What must be free in the whole cluster before any pod of the group is given a node.
    #[serde(default, skip_serializing_if = "is_default")]
    pub min_resources: ResourceList,
    /// How many seconds nodes are held for pods of a group that is not complete; the scheduler's default if unset or 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule_timeout_seconds: Option<i32>,
}

/// How far a group of pods is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodGroupStatus {
    /// How far the group is, in one word.
    #[serde(default, skip_serializing_if = "is_default")]
    pub phase: PodGroupPhase,
    /// The owners of the group's pods, each as `namespace/name`, joined by commas.
    #[serde(default, skip_serializing_if = "is_default")]
    pub occupied_by: String,
    /// How many pods have a node and have not ended.
    #[serde(default, skip_serializing_if = "is_default")]
    pub scheduled: i32,
    /// How many pods run.
    #[serde(default, skip_serializing_if = "is_default")]
    pub running: i32,
    /// How many pods ended well.
    #[serde(default, skip_serializing_if = "is_default")]
    pub succeeded: i32,
    /// How many pods failed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub failed: i32,
    /// When there were enough pods to begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule_start_time: Option<Time>,
}

string_enum! {
    /// How far a group of pods is.
    pub enum PodGroupPhase {
        /// There are fewer pods than must start together.
        Pending,
        /// There are enough pods; they wait for nodes.
        Scheduling,
        /// Enough pods have nodes, but not enough of them run yet.
        Scheduled,
        /// Enough pods run or ended well.
        Running,
        /// Enough pods ended well.
        Finished,
        /// Some pod failed, and no more are to come.
        Failed,
        /// Nothing is known.
        Unknown,
    }
}

kind!(PodGroup, "scheduling.x-k8s.io"/v1alpha1, "podgroups", singular "podgroup", Namespaced, short ["pg", "pgs"], categories [], subresources [Status]);

const COLUMNS: &[Column] = &[
    NAME,
    column("Phase", "string", "How far the group is."),
    column("MinMember", "integer", "How many pods start together."),
    column("Running", "integer", "How many pods run."),
    column("Succeeded", "integer", "How many pods ended well."),
    column("Failed", "integer", "How many pods failed."),
    AGE,
];

/// The name of the group that the pod says it belongs to.
pub fn group_of(pod: &Pod) -> Option<&str> {
    let name = pod.metadata.labels.as_ref()?.get(POD_GROUP_LABEL)?;
    Some(name.as_str()).filter(|name| !name.is_empty())
}

impl PodGroup {
    /// How many pods must have a node before any of them starts; at least 1.
    pub fn min_member(&self) -> usize {
        usize::try_from(self.spec.min_member).unwrap_or(0).max(1)
    }
}

impl PodGroupSpec {
    fn validate(&self, at: &Path, errors: &mut ErrorList) {
        let least = |at: &Path, least: i32| format!("{at} in body should be greater than or equal to {least}");
        let members = at.child("minMember");
        if self.min_member < 1 {
            errors.invalid(&members, self.min_member, least(&members, 1));
        }
        for (name, amount) in &self.min_resources {
            if amount.value() < 0 {
                let at = at.child("minResources").key(name);
                errors.invalid(&at, amount.to_string(), "must be greater than or equal to 0");
            }
        }
        let timeout = at.child("scheduleTimeoutSeconds");
        if let Some(seconds) = self.schedule_timeout_seconds.filter(|seconds| *seconds < 0) {
            errors.invalid(&timeout, seconds, least(&timeout, 0));
        }
    }
}

impl Kind for PodGroup {
    fn set_defaults(&mut self) {
        if self.spec.min_member == 0 {
            self.spec.min_member = 1;
        }
        round_up(&mut self.spec.min_resources);
    }

    fn prepare_for_create(&mut self) {
        self.status = PodGroupStatus::default();
        self.metadata.generation = Some(1);
    }

    fn prepare_for_update(&mut self, old: &Self, subresource: Option<Subresource>) {
        match subresource {
            None => self.status = old.status.clone(),
            Some(_) => self.spec = old.spec.clone(),
        }
        rules::set_generation(&mut self.metadata, &old.metadata, self.spec != old.spec);
    }

    fn validate(&self) -> ErrorList {
        let mut errors = rules::validate(self, NameRule::DnsSubdomain);
        self.spec.validate(&Path::new("spec"), &mut errors);
        errors
    }

    fn validate_update(&self, old: &Self, subresource: Option<Subresource>) -> ErrorList {
        let mut errors = rules::validate_update(self, old);
        if subresource.is_none() {
            self.spec.validate(&Path::new("spec"), &mut errors);
        } else if let PodGroupPhase::Other(phase) = &self.status.phase {
            let known = ["Failed", "Finished", "Pending", "Running", "Scheduled", "Scheduling", "Unknown"];
            errors.not_supported(&Path::new("status").child("phase"), &**phase, &known);
        }
        errors
    }

    fn columns() -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        vec![
            columns::name(&self.metadata),
            self.status.phase.as_str().into(),
            self.spec.min_member.into(),
            self.status.running.into(),
            self.status.succeeded.into(),
            self.status.failed.into(),
            columns::age(&self.metadata, now),
        ]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn group(spec: Value) -> PodGroup {
        let mut group: PodGroup =
            serde_json::from_value(json!({ "metadata": { "name": "g", "namespace": "ns" }, "spec": spec })).unwrap();
        Kind::set_defaults(&mut group);
        group
    }

    #[test]
    fn a_group_says_how_many_pods_must_start_together() {
        assert_eq!(group(json!({})).min_member(), 1);
        let whole = json!({ "minMember": 3, "minResources": { "cpu": "1500m" }, "scheduleTimeoutSeconds": 20 });
        let whole_group = group(whole.clone());
        assert!(Kind::validate(&whole_group).is_empty());
        assert_eq!(serde_json::to_value(&whole_group).unwrap()["spec"], whole);
    }

    #[test]
    fn wrong_numbers_are_refused() {
        let wrong = group(json!({ "minMember": -1, "minResources": { "cpu": "-1" }, "scheduleTimeoutSeconds": -5 }));
        let errors: Vec<String> = Kind::validate(&wrong).iter().map(crate::validation::Error::message).collect();
        assert_eq!(
            errors,
            [
                "spec.minMember: Invalid value: -1: spec.minMember in body should be greater than or equal to 1",
                "spec.minResources[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
                "spec.scheduleTimeoutSeconds: Invalid value: -5: spec.scheduleTimeoutSeconds in body should be greater \
                 than or equal to 0",
            ]
        );
    }

    #[test]
    fn status_and_spec_are_changed_apart() {
        let old = group(json!({ "minMember": 2 }));
        let mut new = old.clone();
        new.spec.min_member = 3;
        new.status.phase = PodGroupPhase::Running;
        let mut status = new.clone();
        Kind::prepare_for_update(&mut status, &old, Some(Subresource::Status));
        assert_eq!((status.spec.min_member, status.status.phase.as_str()), (2, "Running"));
        Kind::prepare_for_update(&mut new, &old, None);
        assert_eq!((new.spec.min_member, new.status.phase.as_str()), (3, ""));
    }

    #[test]
    fn a_pod_names_its_group_by_a_label() {
        let mut pod = Pod::default();
        assert_eq!(group_of(&pod), None);
        pod.metadata.labels = Some([(POD_GROUP_LABEL.to_owned(), "g".to_owned())].into());
        assert_eq!(group_of(&pod), Some("g"));
    }
}
