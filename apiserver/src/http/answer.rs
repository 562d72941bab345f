//! Answers: objects, lists, tables and errors.

use ::http::{HeaderValue, Response, header};
use axum::body::Body;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use longshore_core::client::{DynList, Error, Status};
use longshore_core::kind::{AnyObject, DynObject, KindType};
use longshore_core::table;
use serde_json::{Value, json};

use crate::registry::Warnings;

pub(super) fn text(text: &'static str) -> Response<Body> {
    respond(200, "text/plain; charset=utf-8", Body::from(text))
}

pub(super) fn json(code: u16, value: &Value) -> Response<Body> {
    respond(code, "application/json", Body::from(value.to_string()))
}

pub(super) fn respond(code: u16, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = ::http::StatusCode::from_u16(code).unwrap_or(::http::StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// The error as the API's Status.
pub(super) fn status(error: &Error) -> (u16, Value) {
    let (status, code) = match error {
        Error::Api(status) => ((**status).clone(), status.code),
        other => {
            let message = format!("the server is currently unable to handle the request: {other}");
            (Status::failure(&message, "ServiceUnavailable"), 503)
        }
    };
    let mut value = longshore_core::status::to_value(&status);
    value["code"] = code.into();
    (code, value)
}

pub(super) fn error(error: &Error) -> Response<Body> {
    let (code, value) = status(error);
    let mut response = json(code, &value);
    if let Error::Api(status) = error
        && let Some(seconds) = status.details.as_ref().map(|details| details.retry_after_seconds).filter(|s| *s > 0)
        && let Ok(value) = HeaderValue::from_str(&seconds.to_string())
    {
        response.headers_mut().insert(header::RETRY_AFTER, value);
    }
    response
}

/// How the client wants to see objects.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shape {
    Object,
    Table(table::IncludeObject),
}

impl Shape {
    /// What `Accept` asks for; `None` if it cannot be had.
    pub(super) fn negotiate(accept: &str, include: &str) -> Option<Self> {
        if accept.is_empty() {
            return Some(Self::Object);
        }
        for wanted in accept.split(',') {
            let mut parts = wanted.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            if !matches!(media, "application/json" | "application/*" | "*/*") {
                continue;
            }
            match parts.find_map(|part| part.strip_prefix("as=")) {
                None => return Some(Self::Object),
                Some("Table") => return Some(Self::Table(table::IncludeObject::parse(include).unwrap_or_default())),
                Some(_) => {}
            }
        }
        None
    }
}

pub(super) fn table(
    kind: &KindType,
    objects: &[DynObject],
    metadata: &ListMeta,
    include: table::IncludeObject,
    headers: bool,
    now: jiff::Timestamp,
) -> Value {
    let options = table::Options { include, headers, now };
    table::table(kind, objects.iter().map(|object| &**object as &dyn AnyObject), metadata, &options)
}

pub(super) fn object(
    code: u16,
    object: &DynObject,
    shape: &Shape,
    warnings: &Warnings,
    now: jiff::Timestamp,
) -> Response<Body> {
    let mut response = match shape {
        Shape::Object => respond(code, "application/json", Body::from(object.to_vec())),
        Shape::Table(include) => {
            let metadata = ListMeta { resource_version: object.meta().resource_version.clone(), ..ListMeta::default() };
            json(code, &table(object.kind_type(), std::slice::from_ref(object), &metadata, *include, true, now))
        }
    };
    warn(&mut response, warnings);
    response
}

fn warn(response: &mut Response<Body>, warnings: &Warnings) {
    for warning in warnings {
        let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}

pub(super) fn list(kind: &KindType, list: &DynList, shape: &Shape, now: jiff::Timestamp) -> Response<Body> {
    let metadata = ListMeta {
        resource_version: Some(list.resource_version.clone()),
        continue_: list.continue_token.clone(),
        remaining_item_count: list.remaining,
        ..ListMeta::default()
    };
    if let Shape::Table(include) = shape {
        return json(200, &table(kind, &list.items, &metadata, *include, true, now));
    }
    let mut text = format!(
        r#"{{"kind":"{}List","apiVersion":"{}","metadata":{},"items":["#,
        kind.info.kind,
        kind.info.api_version(),
        json!(metadata)
    )
    .into_bytes();
    for (at, object) in list.items.iter().enumerate() {
        if at > 0 {
            text.push(b',');
        }
        text.extend(object.to_vec());
    }
    text.extend(b"]}");
    respond(200, "application/json", Body::from(text))
}
