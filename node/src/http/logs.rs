//! `/containerLogs/…`: what a container wrote, as `kubectl logs` asks for it.

use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use longshore_core::api::Pod;
use longshore_core::api::pod::ContainerStatus;
use longshore_core::runtime::ContainerRef;
use serde::Deserialize;

use super::tail::{self, Selection};
use crate::pod::config::find_container;
use crate::shared::Shared;

/// The query of a request, in the names of upstream's PodLogOptions.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct LogQuery {
    follow: Option<String>,
    previous: Option<String>,
    timestamps: Option<String>,
    tail_lines: Option<i64>,
    since_seconds: Option<i64>,
    since_time: Option<Timestamp>,
    limit_bytes: Option<i64>,
}

type Refusal = (StatusCode, String);

pub(super) async fn container_logs(
    State(shared): State<Arc<Shared>>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    Query(query): Query<LogQuery>,
) -> Response {
    match open(&shared, &namespace, &pod, &container, &query) {
        Ok((log, selection)) => {
            let body = Body::from_stream(tail::stream(shared, log, selection));
            ([(header::CONTENT_TYPE, "text/plain")], body).into_response()
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// A log and the container that writes it.
#[derive(Debug, Clone)]
pub(super) struct Log {
    pub(super) path: PathBuf,
    pub(super) container: ContainerRef,
}

fn open(
    shared: &Shared,
    namespace: &str,
    name: &str,
    container: &str,
    query: &LogQuery,
) -> Result<(Log, Selection), Refusal> {
    let selection = selection(query, shared.clock.now())?;
    let Some(pod) = shared.pods.get(namespace, name) else {
        return Err((StatusCode::NOT_FOUND, format!("pod \"{name}\" does not exist on this node")));
    };
    if find_container(&pod, container).is_none() {
        let message = format!("container {container} is not valid for pod {name}");
        return Err((StatusCode::BAD_REQUEST, message));
    }
    let attempt = attempt(&pod, container, is_true(&query.previous))?;
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let directory = shared.options.pod_log_dir(namespace, name, &uid);
    let path = directory.join(container).join(format!("{attempt}.log"));
    Ok((Log { path, container: ContainerRef { pod_uid: uid, name: container.to_owned(), attempt } }, selection))
}

/// Which attempt's log is meant: the one that runs, or the last that ran.
fn attempt(pod: &Pod, container: &str, previous: bool) -> Result<u32, Refusal> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let of = &pod.status;
    let statuses = [&of.container_statuses, &of.init_container_statuses, &of.ephemeral_container_statuses];
    let status = statuses.into_iter().flatten().find(|status| status.name == container).cloned().unwrap_or_default();
    let count = u32::try_from(status.restart_count).unwrap_or(0);
    let refuse = |message: String| Err((StatusCode::BAD_REQUEST, message));
    let ended_before = status.last_state.terminated.is_some();
    // While a container waits to be restarted, its last attempt is both the last and the previous.
    let waits = status.state.running.is_none() && status.state.terminated.is_none();
    match (waits, ended_before) {
        (true, true) => Ok(count),
        (true, false) => refuse(waiting_message(&status, container, name)),
        (false, true) if previous => Ok(count.saturating_sub(1)),
        (false, false) if previous => {
            refuse(format!("previous terminated container \"{container}\" in pod \"{name}\" not found"))
        }
        (false, _) => Ok(count),
    }
}

fn waiting_message(status: &ContainerStatus, container: &str, pod: &str) -> String {
    let reason = status.state.waiting.as_ref().map_or("", |waiting| waiting.reason.as_str());
    let why = match reason {
        "ErrImagePull" => "image can't be pulled",
        "ImagePullBackOff" => "trying and failing to pull image",
        "" => "ContainerCreating",
        other => other,
    };
    format!("container \"{container}\" in pod \"{pod}\" is waiting to start: {why}")
}

fn selection(query: &LogQuery, now: Timestamp) -> Result<Selection, Refusal> {
    let refuse = |field: &str, rule: &str| (StatusCode::UNPROCESSABLE_ENTITY, format!("{field}: must be {rule}"));
    let unsigned = |value: i64, least: i64| u64::try_from(value).ok().filter(|_| value >= least);
    let tail = query.tail_lines.map(|lines| unsigned(lines, 0).ok_or_else(|| refuse("tailLines", "0 or more")));
    let limit = query.limit_bytes.map(|bytes| unsigned(bytes, 1).ok_or_else(|| refuse("limitBytes", "1 or more")));
    let since = match (query.since_seconds, query.since_time) {
        (Some(_), Some(_)) => return Err(refuse("sinceSeconds", "absent where sinceTime is given")),
        (Some(seconds), None) if seconds < 1 => return Err(refuse("sinceSeconds", "1 or more")),
        (Some(seconds), None) => now.checked_sub(SignedDuration::from_secs(seconds)).ok(),
        (None, time) => time,
    };
    Ok(Selection {
        follow: is_true(&query.follow),
        timestamps: is_true(&query.timestamps),
        tail: tail.transpose()?,
        limit: limit.transpose()?,
        since,
    })
}

/// Go's reading of a flag in a query: present and not a word for no.
fn is_true(flag: &Option<String>) -> bool {
    flag.as_deref().is_some_and(|text| !matches!(text, "0" | "false" | "False" | "FALSE" | "f" | "F"))
}
