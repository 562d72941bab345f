//! CronJob: jobs by the clock. A plain type: Longshore does not serve it yet.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::wire::{self, is_default};
use crate::api::{BatchV1, JobTemplateSpec, ObjectReference};
use crate::kind;

/// Jobs that are made by the clock.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub struct CronJob {
    /// Version of the API.
    #[serde(default)]
    pub api_version: BatchV1,
    /// Name, namespace, labels and the rest of the object's metadata.
    #[serde(default, deserialize_with = "wire::metadata")]
    pub metadata: ObjectMeta,
    /// What is wanted.
    #[serde(default)]
    pub spec: CronJobSpec,
    /// What was observed.
    #[serde(default)]
    pub status: CronJobStatus,
}

/// Which jobs are made, and when.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CronJobSpec {
    /// When, in cron's five fields.
    #[serde(default)]
    pub schedule: String,
    /// Time zone of the schedule; that of the controller if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// How many seconds late a job may still start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starting_deadline_seconds: Option<i64>,
    /// What happens if the last job still runs: `Allow` (if unset), `Forbid` or `Replace`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub concurrency_policy: String,
    /// Whether no jobs are made for now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// What the jobs look like.
    #[serde(default)]
    pub job_template: JobTemplateSpec,
    /// How many jobs that succeeded are kept; 3 if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub successful_jobs_history_limit: Option<i32>,
    /// How many jobs that failed are kept; 1 if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_jobs_history_limit: Option<i32>,
}

/// What was observed of a cron job.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CronJobStatus {
    /// Jobs that run now.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub active: Vec<ObjectReference>,
    /// When a job was last made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_schedule_time: Option<Time>,
    /// When a job last succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_successful_time: Option<Time>,
}

kind!(CronJob, "batch"/v1, "cronjobs", singular "cronjob", Namespaced, short ["cj"], categories ["all"], subresources [Status]);
