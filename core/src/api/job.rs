//! Job: pods that run to completion.

mod policies;
mod validation;

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::columns::{self, AGE, NAME, column, wide};
use crate::api::rules;
use crate::api::wire::{self, is_default};
use crate::api::{BatchV1, ConditionStatus, PodTemplateSpec};
use crate::kind::{Column, Kind, Subresource};
use crate::selector::LabelSelector;
use crate::validation::ErrorList;
use crate::{kind, string_enum};

/// Pods that run to completion.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub struct Job {
    /// Version of the API.
    #[serde(default)]
    pub api_version: BatchV1,
    /// Name, namespace, labels and the rest of the object's metadata.
    #[serde(default, deserialize_with = "wire::metadata")]
    pub metadata: ObjectMeta,
    /// What is wanted.
    #[serde(default)]
    pub spec: JobSpec,
    /// What was observed.
    #[serde(default)]
    pub status: JobStatus,
}

/// What should run, how often and how parallel.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobSpec {
    /// How many pods may run at once; 1 if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<i32>,
    /// How many pods must succeed; unset together with a set `parallelism` means that one success ends the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completions: Option<i32>,
    /// After how many seconds the job is stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_deadline_seconds: Option<i64>,
    /// What failed pods mean for the job, by exit code or condition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_failure_policy: Option<PodFailurePolicy>,
    /// When an indexed job counts as done before all of it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success_policy: Option<SuccessPolicy>,
    /// How many failures are borne; 6 if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff_limit: Option<i32>,
    /// How many failures of one index are borne.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff_limit_per_index: Option<i32>,
    /// How many indexes may fail before the job does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_failed_indexes: Option<i32>,
    /// Labels of the pods that count; made by the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// Whether the author takes care of `selector`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manual_selector: Option<bool>,
    /// What the pods look like.
    #[serde(default)]
    pub template: PodTemplateSpec,
    /// How many seconds after its end the job is deleted; never if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds_after_finished: Option<i32>,
    /// Whether every pod has an index; `NonIndexed` if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_mode: Option<CompletionMode>,
    /// Whether no pods should run for now; false if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// When a failing pod is replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_replacement_policy: Option<PodReplacementPolicy>,
    /// Which controller takes care of the job, if not the usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_by: Option<String>,
}

/// What failed pods mean for a job; the first rule that matches counts.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodFailurePolicy {
    /// The rules, at most 20.
    #[serde(default, serialize_with = "wire::empty_as_null", deserialize_with = "wire::null_as_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub rules: Vec<PodFailurePolicyRule>,
}

/// What some failed pods mean for a job.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodFailurePolicyRule {
    /// `FailJob`, `FailIndex`, `Ignore` or `Count`.
    #[serde(default)]
    pub action: String,
    /// Exit codes that match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_exit_codes: Option<PodFailurePolicyOnExitCodesRequirement>,
    /// Pod conditions, one of which must match.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub on_pod_conditions: Vec<PodFailurePolicyOnPodConditionsPattern>,
}

/// Exit codes that match.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodFailurePolicyOnExitCodesRequirement {
    /// The container; any if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_name: Option<String>,
    /// `In` or `NotIn`.
    #[serde(default)]
    pub operator: String,
    /// The exit codes; 0 may not be listed for `In`.
    #[serde(default, serialize_with = "wire::empty_as_null", deserialize_with = "wire::null_as_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub values: Vec<i32>,
}

/// A pod condition that matches.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodFailurePolicyOnPodConditionsPattern {
    /// Type of the condition.
    #[serde(default)]
    pub type_: String,
    /// Its status; `True` if unset.
    #[serde(default)]
    pub status: ConditionStatus,
}

/// When an indexed job counts as done; one rule is enough.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SuccessPolicy {
    /// The rules, at most 20.
    #[serde(default, serialize_with = "wire::empty_as_null", deserialize_with = "wire::null_as_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub rules: Vec<SuccessPolicyRule>,
}

/// When an indexed job counts as done.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SuccessPolicyRule {
    /// Indexes that must have succeeded, such as `1,3-5`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeded_indexes: Option<String>,
    /// How many of them are enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeded_count: Option<i32>,
}

/// What was observed of a job.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobStatus {
    /// How the job ended, and what else was observed.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-patch-merge-key" = "type", "x-kubernetes-patch-strategy" = "merge", "x-kubernetes-list-type" = "atomic"))]
    pub conditions: Vec<JobCondition>,
    /// When it began, or was resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When it succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// How many pods are pending or running and do not terminate.
    #[serde(default, skip_serializing_if = "is_default")]
    pub active: i32,
    /// How many pods succeeded.
    #[serde(default, skip_serializing_if = "is_default")]
    pub succeeded: i32,
    /// How many pods failed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub failed: i32,
    /// How many pods are on their way out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminating: Option<i32>,
    /// Indexes that succeeded, such as `1,3-5`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub completed_indexes: String,
    /// Indexes that failed, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_indexes: Option<String>,
    /// Pods that ended but are not in the counts yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncounted_terminated_pods: Option<UncountedTerminatedPods>,
    /// How many of the active pods are ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<i32>,
}

/// Pods that ended but are not in the counts yet.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UncountedTerminatedPods {
    /// UIDs of those that succeeded.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub succeeded: Vec<String>,
    /// UIDs of those that failed.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub failed: Vec<String>,
}

/// One observation about the object.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobCondition {
    /// What is observed.
    #[serde(default)]
    pub type_: String,
    /// Whether it holds.
    #[serde(default)]
    pub status: ConditionStatus,
    /// When it was last looked at.
    #[serde(default)]
    pub last_probe_time: Option<Time>,
    /// When `status` last changed.
    #[serde(default)]
    pub last_transition_time: Option<Time>,
    /// Why, in one CamelCase word.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reason: String,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "is_default")]
    pub message: String,
}

/// What jobs made by another object look like.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobTemplateSpec {
    /// Labels and annotations of the jobs.
    #[serde(default, deserialize_with = "wire::metadata")]
    pub metadata: ObjectMeta,
    /// What they do.
    #[serde(default)]
    pub spec: JobSpec,
}

string_enum! {
    /// Whether every pod of a job has an index.
    pub enum CompletionMode {
        /// All pods are alike.
        NonIndexed,
        /// Each completion has an index, from 0 up.
        Indexed,
    }
}

string_enum! {
    /// When a failing pod is replaced.
    pub enum PodReplacementPolicy {
        /// As soon as it terminates.
        TerminatingOrFailed,
        /// When it has ended.
        Failed,
    }
}

kind!(Job, "batch"/v1, "jobs", singular "job", Namespaced, short [], categories ["all"], subresources [Status]);

/// Label that carries the UID of a pod's job.
pub const CONTROLLER_UID_LABEL: &str = "batch.kubernetes.io/controller-uid";
/// Label that carries the name of a pod's job.
pub const JOB_NAME_LABEL: &str = "batch.kubernetes.io/job-name";

const COLUMNS: &[Column] = &[
    NAME,
    column("Status", "string", "Whether the job runs, and how it ended."),
    column("Completions", "string", "How many pods succeeded, of how many wanted."),
    column("Duration", "string", "How long the job has run."),
    AGE,
    wide("Containers", "string", "Names of the template's containers."),
    wide("Images", "string", "Images of the template's containers."),
    wide("Selector", "string", "Labels of the pods that belong to the object."),
];

impl JobSpec {
    /// See [`Kind::set_defaults`]. What a job inherits from its template's labels is not part of this.
    pub(crate) fn set_defaults(&mut self) {
        self.template.set_defaults();
        if self.parallelism.is_none() && self.completions.is_none() {
            self.completions = Some(1);
        }
        self.parallelism.get_or_insert(1);
        let limit = if self.backoff_limit_per_index.is_some() { i32::MAX } else { 6 };
        self.backoff_limit.get_or_insert(limit);
        self.completion_mode.get_or_insert(CompletionMode::NonIndexed);
        self.suspend.get_or_insert(false);
        self.manual_selector.get_or_insert(false);
        let rules = self.pod_failure_policy.iter_mut().flat_map(|policy| &mut policy.rules);
        for pattern in rules.flat_map(|rule| &mut rule.on_pod_conditions) {
            if pattern.status.is_unset() {
                pattern.status = ConditionStatus::True;
            }
        }
        let replacement = match self.pod_failure_policy {
            Some(_) => PodReplacementPolicy::Failed,
            None => PodReplacementPolicy::TerminatingOrFailed,
        };
        self.pod_replacement_policy.get_or_insert(replacement);
    }
}

impl Job {
    /// Selects the job's pods by its UID, unless the author takes care of that. Needs name and UID to be given.
    fn generate_selector(&mut self) {
        if self.spec.manual_selector == Some(true) {
            return;
        }
        let name = self.metadata.name.clone().unwrap_or_default();
        let uid = self.metadata.uid.clone().unwrap_or_default();
        let labels = self.spec.template.metadata.labels.get_or_insert_default();
        for (key, value) in
            [("job-name", &name), (JOB_NAME_LABEL, &name), ("controller-uid", &uid), (CONTROLLER_UID_LABEL, &uid)]
        {
            // A value that is already there and wrong is for validation to refuse.
            labels.entry(key.to_owned()).or_insert_with(|| value.clone());
        }
        let selected = &mut self.spec.selector.get_or_insert_default().match_labels;
        selected.entry(CONTROLLER_UID_LABEL.to_owned()).or_insert(uid);
    }

    fn has(&self, condition: &str) -> bool {
        self.status.conditions.iter().any(|of| of.type_ == condition && of.status == ConditionStatus::True)
    }

    fn status_cell(&self) -> &'static str {
        let terminating = self.metadata.deletion_timestamp.is_some();
        match () {
            () if self.has("Complete") => "Complete",
            () if self.has("Failed") => "Failed",
            () if terminating => "Terminating",
            () if self.has("Suspended") => "Suspended",
            () if self.has("FailureTarget") => "FailureTarget",
            () if self.has("SuccessCriteriaMet") => "SuccessCriteriaMet",
            () => "Running",
        }
    }

    fn completions_cell(&self) -> String {
        let succeeded = self.status.succeeded;
        match (self.spec.completions, self.spec.parallelism.unwrap_or_default()) {
            (Some(wanted), _) => format!("{succeeded}/{wanted}"),
            (None, parallelism @ 2..) => format!("{succeeded}/1 of {parallelism}"),
            (None, _) => format!("{succeeded}/1"),
        }
    }

    fn duration_cell(&self, now: Timestamp) -> String {
        let Some(start) = &self.status.start_time else { return String::new() };
        let end = self.status.completion_time.as_ref().map_or(now, |time| time.0);
        crate::age::human_duration(end.duration_since(start.0))
    }
}

impl Kind for Job {
    fn set_defaults(&mut self) {
        self.spec.set_defaults();
        if self.metadata.labels.as_ref().is_none_or(BTreeMap::is_empty) {
            self.metadata.labels = self.spec.template.metadata.labels.clone().filter(|labels| !labels.is_empty());
        }
    }

    fn normalize(&mut self) {
        self.spec.template.normalize();
    }

    fn prepare_for_create(&mut self) {
        self.status = JobStatus::default();
        self.metadata.generation = Some(1);
        self.generate_selector();
    }

    fn prepare_for_update(&mut self, old: &Self, subresource: Option<Subresource>) {
        match subresource {
            Some(Subresource::Status) => {
                self.spec = old.spec.clone();
            }
            _ => self.status = old.status.clone(),
        }
        rules::set_generation(&mut self.metadata, &old.metadata, self.spec != old.spec);
    }

    fn validate(&self) -> ErrorList {
        validation::validate(self)
    }

    fn validate_update(&self, old: &Self, subresource: Option<Subresource>) -> ErrorList {
        match subresource {
            Some(Subresource::Status) => validation::validate_status_update(self, old),
            _ => validation::validate_update(self, old),
        }
    }

    fn columns() -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, now: Timestamp) -> Vec<Value> {
        let (containers, images) = columns::containers(&self.spec.template);
        vec![
            columns::name(&self.metadata),
            self.status_cell().into(),
            self.completions_cell().into(),
            self.duration_cell(now).into(),
            columns::age(&self.metadata, now),
            containers.into(),
            images.into(),
            LabelSelector::format(self.spec.selector.as_ref()).into(),
        ]
    }

    fn field(&self, label: &str) -> Option<String> {
        (label == "status.successful").then(|| self.status.succeeded.to_string())
    }

    fn selectable_fields() -> &'static [&'static str] {
        &["status.successful"]
    }
}
