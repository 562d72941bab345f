//! What people and other parts are told about pods: conditions, nominations, evictions.

use std::sync::Arc;

use jiff::Timestamp;
use longshore_core::api::ConditionStatus;
use longshore_core::api::pod::Pod;
use longshore_core::api::pod::helpers::condition;
use longshore_core::client::params::{DeleteParams, Patch, PatchParams, Preconditions};
use longshore_core::client::{Api, Client};
use serde_json::{Map, Value, json};

/// Longest text of an event or condition.
const TEXT_MAX: usize = 1024;

/// Something to write about a pod. Best effort: what fails is logged, and said again after the next try.
#[derive(Debug)]
pub(super) enum Errand {
    /// The pod found no place.
    Unscheduled {
        pod: Arc<Pod>,
        reason: &'static str,
        message: String,
        /// The node where room is made for it.
        nominated: Option<String>,
    },
    /// The pod is evicted for another.
    Evict { victim: Arc<Pod>, scheduler: String },
    /// Room is no longer made for the pod.
    Unnominate { pod: Arc<Pod> },
}

impl Errand {
    pub(super) async fn run(self, client: Arc<dyn Client>, now: Timestamp) {
        let done = match &self {
            Self::Unscheduled { pod, reason, message, nominated } => {
                let patch = unscheduled(pod, reason, message, nominated.as_deref(), now);
                patch_status(&client, pod, patch).await
            }
            Self::Unnominate { pod } => patch_status(&client, pod, Some(json!({ "nominatedNodeName": null }))).await,
            Self::Evict { victim, scheduler } => evict(&client, victim, scheduler, now).await,
        };
        if let Err(error) = done {
            tracing::debug!(%error, errand = ?self, "could not be written");
        }
    }
}

type Done = Result<(), longshore_core::client::Error>;

async fn patch_status(client: &Arc<dyn Client>, pod: &Pod, status: Option<Value>) -> Done {
    let Some(status) = status else { return Ok(()) };
    let meta = &pod.metadata;
    let pods: Api<Pod> = Api::namespaced(client.clone(), meta.namespace.as_deref().unwrap_or_default());
    // The uid keeps the patch from hitting another pod of the same name.
    let patch = Patch::Strategic(json!({ "metadata": { "uid": meta.uid }, "status": status }));
    match pods.patch_status(meta.name.as_deref().unwrap_or_default(), &patch, &PatchParams::default()).await {
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        other => other.map(drop),
    }
}

/// The change of the pod's status that says why it has no node; nothing if it says so already.
fn unscheduled(pod: &Pod, reason: &str, message: &str, nominated: Option<&str>, now: Timestamp) -> Option<Value> {
    let mut status = Map::new();
    let old = condition(&pod.status, "PodScheduled");
    let says_so =
        old.is_some_and(|old| old.status == ConditionStatus::False && old.reason == reason && old.message == message);
    if !says_so {
        let since =
            old.filter(|old| old.status == ConditionStatus::False).and_then(|old| old.last_transition_time.clone());
        let since = since.map_or_else(|| seconds(now), |time| seconds(time.0));
        let condition = json!({
            "type": "PodScheduled",
            "status": "False",
            "reason": reason,
            "message": message,
            "lastTransitionTime": since,
        });
        status.insert("conditions".to_owned(), json!([condition]));
    }
    if let Some(nominated) = nominated.filter(|nominated| pod.status.nominated_node_name != *nominated) {
        status.insert("nominatedNodeName".to_owned(), nominated.into());
    }
    (!status.is_empty()).then_some(Value::Object(status))
}

async fn evict(client: &Arc<dyn Client>, victim: &Pod, scheduler: &str, now: Timestamp) -> Done {
    let condition = json!({
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "PreemptionByScheduler",
        "message": format!("{scheduler}: preempting to accommodate a higher priority pod"),
        "lastTransitionTime": seconds(now),
    });
    patch_status(client, victim, Some(json!({ "conditions": [condition] }))).await?;
    let meta = &victim.metadata;
    let pods: Api<Pod> = Api::namespaced(client.clone(), meta.namespace.as_deref().unwrap_or_default());
    let preconditions = Preconditions { uid: meta.uid.clone(), ..Preconditions::default() };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    match pods.delete(meta.name.as_deref().unwrap_or_default(), &params).await {
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        other => other.map(drop),
    }
}

fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A text that is not too long for an event, cut as upstream does.
pub(super) fn short(text: &str) -> String {
    if text.len() < TEXT_MAX {
        return text.to_owned();
    }
    const DOTS: &str = " ...";
    let end = (0..=TEXT_MAX - DOTS.len()).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}{DOTS}", &text[..end])
}
