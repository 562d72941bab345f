//! The subresources `pods/exec`, `pods/attach` and `pods/portforward`: who may is decided here, and the connection is the
//! node's agent's.

use std::fmt::Write;
use std::sync::Arc;

use ::http::{Request, Response, StatusCode, header};
use axum::body::Body;
use http_body_util::{BodyExt, Limited};
use longshore_core::api::Pod;
use longshore_core::client::params::GetParams;
use longshore_core::client::{Error, Target};
use longshore_core::kind::Subresource;

use super::nodes::NodeConnector;
use super::{Call, answer, log};
use crate::registry::Registry;
use crate::status;

/// How much of an agent's refusal is passed on.
const MAX_ERROR: usize = 50_000;

/// What of a request the agent is told, so that it can grant an upgrade.
const UPGRADE: [header::HeaderName; 5] = [
    header::CONNECTION,
    header::UPGRADE,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_VERSION,
    header::SEC_WEBSOCKET_PROTOCOL,
];

pub(super) async fn serve(
    registry: &Registry,
    nodes: Option<&Arc<dyn NodeConnector>>,
    call: &Call,
    target: Target<'_>,
    what: Subresource,
) -> Result<Response<Body>, Error> {
    let object = registry.get(target, &GetParams::default()).await?;
    let pod: &Pod = object.as_any().downcast_ref().ok_or_else(super::nothing_here)?;
    let path = path(call, target, what, pod)?;
    let node = &pod.spec.node_name;
    if node.is_empty() {
        return Err(status::bad_request(format!("pod {} does not have a host assigned", target.name)));
    }
    if !call.headers.contains_key(header::UPGRADE) {
        return Err(status::bad_request("Upgrade request required"));
    }
    let failed = |reason: String| status::internal(format!("error dialing backend: {reason}"));
    let nodes = nodes.ok_or_else(|| failed("this server has no way to reach nodes".to_owned()))?;
    let mut request = Request::get(path).body(Body::empty()).map_err(status::internal)?;
    for name in UPGRADE {
        for value in call.headers.get_all(&name) {
            request.headers_mut().append(name.clone(), value.clone());
        }
    }
    let answer = nodes.call(node, request).await.map_err(|error| failed(error.to_string()))?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(answer);
    }
    let code = answer.status().as_u16();
    let text = match Limited::new(answer.into_body(), MAX_ERROR).collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        Err(error) => error.to_string(),
    };
    if text.contains(": ") {
        // To kubectl that would be YAML, and a Status that says nothing.
        return Err(status::internal(text));
    }
    // As upstream, the agent's words: clients show them.
    Ok(answer::respond(code, "text/plain; charset=utf-8", Body::from(text)))
}

/// The agent's path for a request, with what is asked for in its own names.
fn path(call: &Call, target: Target<'_>, what: Subresource, pod: &Pod) -> Result<String, Error> {
    let (namespace, name) = (target.namespace, target.name);
    let mut path = match what {
        Subresource::PortForward => format!("/portForward/{namespace}/{name}?"),
        _ => {
            let container = log::container(pod, call.param("container"))?;
            let verb = if what == Subresource::Exec { "exec" } else { "attach" };
            format!("/{verb}/{namespace}/{name}/{container}?")
        }
    };
    for (key, value) in &call.query {
        let key = match key.as_str() {
            "stdin" => "input",
            "stdout" => "output",
            "stderr" => "error",
            "ports" => "port",
            same @ ("command" | "tty") => same,
            _ => continue,
        };
        let value = match key {
            "command" | "port" => value,
            _ if super::is_true(value) => "1",
            _ => continue,
        };
        path.push_str(key);
        path.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_') {
                path.push(char::from(byte));
            } else {
                // A text takes whatever is written.
                let _ = write!(path, "%{byte:02X}");
            }
        }
        path.push('&');
    }
    path.pop();
    Ok(path)
}
