//! The subresource `pods/log`: what a container wrote, asked from the agent of its node.

use std::sync::Arc;

use ::http::{HeaderValue, Request, Response, StatusCode, header};
use axum::body::Body;
use http_body_util::{BodyExt, Limited};
use longshore_core::api::Pod;
use longshore_core::client::params::GetParams;
use longshore_core::client::{Error, Target};

use super::Call;
use super::nodes::NodeConnector;
use crate::registry::Registry;
use crate::status;

/// How much of an agent's error is passed on.
const MAX_ERROR: usize = 50_000;

pub(super) async fn serve(
    registry: &Registry,
    nodes: Option<&Arc<dyn NodeConnector>>,
    call: &Call,
    target: Target<'_>,
) -> Result<Response<Body>, Error> {
    let query = options(call, target.name)?;
    let object = registry.get(target, &GetParams::default()).await?;
    let pod: &Pod = object.as_any().downcast_ref().ok_or_else(super::nothing_here)?;
    let container = container(pod, call.param("container"))?;
    let node = &pod.spec.node_name;
    if node.is_empty() {
        // As upstream: nothing was written yet, and nothing is said of it.
        return Ok(super::answer::respond(204, "text/plain", Body::empty()));
    }
    let path = format!("/containerLogs/{}/{}/{container}{query}", target.namespace, target.name);
    let failed = |reason: String| status::unknown(format!("Get \"{path}\" from node {node:?}: {reason}"));
    let nodes = nodes.ok_or_else(|| failed("this server has no way to reach nodes".to_owned()))?;
    let request = Request::get(path.as_str()).body(Body::empty()).map_err(status::internal)?;
    let answer = nodes.call(node, request).await.map_err(|error| failed(error.to_string()))?;
    if answer.status() == StatusCode::OK {
        let (mut head, body) = answer.into_parts();
        head.headers.clear();
        head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        head.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
        return Ok(Response::from_parts(head, body));
    }
    let code = answer.status();
    let text = match Limited::new(answer.into_body(), MAX_ERROR).collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        Err(error) => error.to_string(),
    };
    Err(match code {
        StatusCode::BAD_REQUEST => status::bad_request(text.trim_end()),
        StatusCode::NOT_FOUND => status::failure(
            404,
            "NotFound",
            format!(
                "the server could not find the requested resource ( pods/log {}): {}",
                target.name,
                text.trim_end()
            ),
        ),
        StatusCode::INTERNAL_SERVER_ERROR => status::internal(text.trim_end()),
        code => failed(format!("{code}: {}", text.trim_end())),
    })
}

/// The container meant, by upstream's rules.
pub(super) fn container<'a>(pod: &'a Pod, wanted: &'a str) -> Result<&'a str, Error> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let containers: Vec<&str> = pod.spec.containers.iter().map(|container| container.name.as_str()).collect();
    let inits: Vec<&str> = pod.spec.init_containers.iter().map(|container| container.name.as_str()).collect();
    let others: Vec<&str> = pod.spec.ephemeral_containers.iter().map(|container| container.name.as_str()).collect();
    if !wanted.is_empty() {
        if containers.iter().chain(&inits).chain(&others).any(|container| *container == wanted) {
            return Ok(wanted);
        }
        return Err(status::bad_request(format!("container {wanted} is not valid for pod {name}")));
    }
    match containers.as_slice() {
        [only] => Ok(only),
        [] => Err(status::bad_request(format!("a container name must be specified for pod {name}"))),
        many => {
            let mut text =
                format!("a container name must be specified for pod {name}, choose one of: [{}]", many.join(" "));
            for (what, names) in [("init", inits), ("ephemeral", others)] {
                if !names.is_empty() {
                    text.push_str(&format!(" or one of the {what} containers: [{}]", names.join(" ")));
                }
            }
            Err(status::bad_request(text))
        }
    }
}

/// The options as the agent takes them, checked.
fn options(call: &Call, pod: &str) -> Result<String, Error> {
    let invalid = |field: &str, value: &str, why: &str| {
        let value = if value.is_empty() { String::new() } else { format!("Invalid value: {value}: ") };
        status::failure(422, "Invalid", format!("PodLogOptions.core {pod:?} is invalid: {field}: {value}{why}"))
    };
    let mut query = String::new();
    let mut add = |name: &str, value: &str| {
        query.push(if query.is_empty() { '?' } else { '&' });
        query.push_str(&format!("{name}={value}"));
    };
    for name in ["follow", "previous", "timestamps"] {
        if call.flag(name) {
            add(name, "true");
        }
    }
    for (name, least, why) in [
        ("tailLines", 0, "must be greater than or equal to 0"),
        ("limitBytes", 1, "must be greater than 0"),
        ("sinceSeconds", 1, "must be greater than 0"),
    ] {
        let Some(text) = call.given(name) else { continue };
        let number: i64 = text.parse().map_err(|_| {
            status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax (in {name})"))
        })?;
        if number < least {
            return Err(invalid(name, &text, why));
        }
        add(name, &text);
    }
    if let Some(text) = call.given("sinceTime") {
        if call.given("sinceSeconds").is_some() {
            return Err(invalid(
                "sinceSeconds",
                "",
                "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified",
            ));
        }
        let time: jiff::Timestamp = text
            .parse()
            .map_err(|_| status::bad_request(format!("parsing time {text:?} (in sinceTime): RFC 3339 is expected")))?;
        // A plus sign would be read as a blank; UTC has none.
        add("sinceTime", &time.to_string());
    }
    Ok(query)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({ "metadata": { "name": "p" }, "spec": spec })).unwrap()
    }

    #[test]
    fn the_only_container_need_not_be_named() {
        let one = pod(json!({ "containers": [{ "name": "a" }], "initContainers": [{ "name": "i" }] }));
        assert_eq!(container(&one, "").unwrap(), "a");
        assert_eq!(container(&one, "i").unwrap(), "i");
        assert_eq!(container(&one, "x").unwrap_err().to_string(), "container x is not valid for pod p");
        let two = pod(json!({ "containers": [{ "name": "a" }, { "name": "b" }], "initContainers": [{ "name": "i" }] }));
        assert_eq!(
            container(&two, "").unwrap_err().to_string(),
            "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]"
        );
    }
}
