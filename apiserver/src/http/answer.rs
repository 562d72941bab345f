//! Answers: objects, lists, tables and errors.

use std::io::Write;

use ::http::{HeaderValue, Response, header};
use axum::body::Body;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::BodyExt;
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
    /// Only the metadata.
    Metadata,
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
                Some("PartialObjectMetadata" | "PartialObjectMetadataList") => return Some(Self::Metadata),
                Some("Table") => return Some(Self::Table(table::IncludeObject::parse(include).unwrap_or_default())),
                Some(_) => {}
            }
        }
        None
    }
}

/// An object's metadata in the shape of a partial object.
pub(super) fn metadata(object: &DynObject) -> Value {
    json!({ "kind": "PartialObjectMetadata", "apiVersion": table::API_VERSION, "metadata": object.meta() })
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
        Shape::Metadata => json(code, &metadata(object)),
        Shape::Table(include) => {
            let metadata = ListMeta { resource_version: object.meta().resource_version.clone(), ..ListMeta::default() };
            json(code, &table(object.kind_type(), std::slice::from_ref(object), &metadata, *include, true, now))
        }
    };
    warn(&mut response, warnings);
    response
}

/// Answers above this size are worth compressing, as upstream finds.
const GZIP_ABOVE: u64 = 128 * 1024;

pub(super) fn takes_gzip(headers: &::http::HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        name.trim().eq_ignore_ascii_case("gzip") && !matches!(weight.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000")
    })
}

/// Compresses an answer that is whole and large.
pub(super) async fn gzip(response: Response<Body>) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    let large = http_body::Body::size_hint(&body).exact().is_some_and(|size| size > GZIP_ABOVE);
    if !large {
        return Response::from_parts(head, body);
    }
    let bytes = match body.collect().await {
        Ok(bytes) => bytes.to_bytes(),
        Err(error) => return self::error(&crate::status::internal(error)),
    };
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    match encoder.write_all(&bytes).and_then(|()| encoder.finish()) {
        Ok(compressed) => {
            head.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            head.headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
            Response::from_parts(head, Body::from(compressed))
        }
        // A vector takes everything; were it not so, the plain text would do.
        Err(_) => Response::from_parts(head, Body::from(bytes)),
    }
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
    let list_metadata = ListMeta {
        resource_version: Some(list.resource_version.clone()),
        continue_: list.continue_token.clone(),
        remaining_item_count: list.remaining,
        ..ListMeta::default()
    };
    if let Shape::Table(include) = shape {
        return json(200, &table(kind, &list.items, &list_metadata, *include, true, now));
    }
    let partial = *shape == Shape::Metadata;
    let (name, version) = if partial {
        ("PartialObjectMetadata", table::API_VERSION.to_owned())
    } else {
        (kind.info.kind, kind.info.api_version())
    };
    let list_metadata = json!(list_metadata);
    let mut text =
        format!(r#"{{"kind":"{name}List","apiVersion":"{version}","metadata":{list_metadata},"items":["#).into_bytes();
    for (at, object) in list.items.iter().enumerate() {
        if at > 0 {
            text.push(b',');
        }
        if partial {
            text.extend(metadata(object).to_string().into_bytes());
        } else {
            text.extend(object.to_vec());
        }
    }
    text.extend(b"]}");
    respond(200, "application/json", Body::from(text))
}
