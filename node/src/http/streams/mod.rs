//! `/exec/…`, `/attach/…` and `/portForward/…`: connections that go on after their request, as WebSockets.

mod channels;
mod forward;
mod spdy;
mod tunnel;
mod websocket;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::response::IntoResponse;
use longshore_core::runtime::{ContainerRef, ContainerState, ExecRequest};

use crate::shared::Shared;
use channels::{V4, V5, Wanted};
use websocket::Upgrade;

/// What is answered instead of an upgrade.
type Refusal = (StatusCode, String);

/// The query of a request: a name may come several times.
type Pairs = Query<Vec<(String, String)>>;

/// `/exec/{namespace}/{pod}/{container}?command=…`, with any of `input`, `output`, `error` and `tty`.
pub(super) async fn exec(
    State(shared): State<Arc<Shared>>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    Query(query): Pairs,
    headers: HeaderMap,
) -> Response<Body> {
    let command = query.iter().filter(|(name, _)| name == "command").map(|(_, word)| word.clone()).collect();
    let granted = async {
        let wanted = wanted(&query, true)?;
        let container = running(&shared, &namespace, &pod, &container).await?;
        let upgrade = Upgrade::asked(&headers, &[V5, V4])?;
        let request = ExecRequest { command, stdin: wanted.stdin, tty: wanted.tty };
        Ok(upgrade.grant(async move |socket, stopping| {
            let begin = shared.runtime.exec(&container, &request);
            channels::serve(socket, stopping, &*shared.clock, wanted, begin).await;
        }))
    };
    granted.await.unwrap_or_else(|refusal: Refusal| refusal.into_response())
}

/// `/attach/{namespace}/{pod}/{container}`, with any of `input`, `output`, `error` and `tty`.
pub(super) async fn attach(
    State(shared): State<Arc<Shared>>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    Query(query): Pairs,
    headers: HeaderMap,
) -> Response<Body> {
    let granted = async {
        let wanted = wanted(&query, false)?;
        let container = running(&shared, &namespace, &pod, &container).await?;
        let upgrade = Upgrade::asked(&headers, &[V5, V4])?;
        Ok(upgrade.grant(async move |socket, stopping| {
            let begin = shared.runtime.attach(&container, wanted.stdin);
            channels::serve(socket, stopping, &*shared.clock, wanted, begin).await;
        }))
    };
    granted.await.unwrap_or_else(|refusal: Refusal| refusal.into_response())
}

/// `/portForward/{namespace}/{pod}`: kubectl's tunnel, or channels for the ports of `port`.
pub(super) async fn port_forward(
    State(shared): State<Arc<Shared>>,
    Path((namespace, pod)): Path<(String, String)>,
    Query(query): Pairs,
    headers: HeaderMap,
) -> Response<Body> {
    let granted = async {
        let found = shared.pods.get(&namespace, &pod).ok_or_else(no_pod)?;
        let uid = found.metadata.uid.clone().unwrap_or_default();
        if sandbox_is_gone(&shared, &uid).await? {
            return Err((StatusCode::INTERNAL_SERVER_ERROR, format!("pod not found (\"{pod}_{namespace}\")")));
        }
        let upgrade = Upgrade::asked(&headers, &[tunnel::PROTOCOL, V4])?;
        let target = forward::Target { shared, uid, pod: format!("{namespace}/{pod}") };
        if upgrade.protocol == tunnel::PROTOCOL {
            return Ok(upgrade.grant(async move |socket, stopping| tunnel::serve(socket, stopping, &target).await));
        }
        let ports = forward::ports(&query)?;
        Ok(upgrade.grant(async move |socket, stopping| forward::serve(socket, stopping, &target, &ports).await))
    };
    granted.await.unwrap_or_else(|refusal: Refusal| refusal.into_response())
}

fn no_pod() -> Refusal {
    (StatusCode::NOT_FOUND, "pod does not exist".to_owned())
}

fn failed(error: &longshore_core::runtime::Error) -> Refusal {
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

async fn sandbox_is_gone(shared: &Shared, uid: &str) -> Result<bool, Refusal> {
    let sandbox = shared.runtime.sandbox(uid).await.map_err(|error| failed(&error))?;
    Ok(sandbox.is_none_or(|sandbox| !sandbox.ready))
}

/// What of the streams is wanted, in the names that kubelets give them.
fn wanted(query: &[(String, String)], own: bool) -> Result<Wanted, Refusal> {
    let has = |name: &str| query.iter().any(|(key, value)| key == name && matches!(value.as_str(), "1" | "true"));
    let tty = has("tty");
    // A terminal has one stream for both.
    let wanted = Wanted { stdin: has("input"), stdout: has("output"), stderr: has("error") && !tty, tty, own };
    if !(wanted.stdin || wanted.stdout || wanted.stderr) {
        return Err((StatusCode::BAD_REQUEST, "you must specify at least 1 of stdin, stdout, stderr".to_owned()));
    }
    Ok(wanted)
}

/// The attempt of a container that runs now.
async fn running(shared: &Shared, namespace: &str, pod: &str, container: &str) -> Result<ContainerRef, Refusal> {
    let pod = shared.pods.get(namespace, pod).ok_or_else(no_pod)?;
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let sandbox = shared.runtime.sandbox(uid).await.map_err(|error| failed(&error))?;
    let containers = sandbox.into_iter().flat_map(|sandbox| sandbox.containers);
    let mut running = containers.filter(|of| matches!(of.state, ContainerState::Running { .. }));
    let found = running.find(|of| of.container.name == container);
    // As upstream, which says so also of one that exists but does not run.
    let missing = || (StatusCode::INTERNAL_SERVER_ERROR, format!("container not found (\"{container}\")"));
    found.map(|of| of.container).ok_or_else(missing)
}

#[cfg(test)]
mod tests;
