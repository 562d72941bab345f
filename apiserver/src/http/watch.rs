//! Watches as a stream of JSON lines.

use std::sync::Arc;
use std::time::Duration;

use ::http::Response;
use axum::body::Body;
use bytes::Bytes;
use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use longshore_core::client::params::WatchParams;
use longshore_core::client::{Error, Scope, WatchEvent};
use longshore_core::kind::{DynObject, KindType};
use longshore_core::table;
use serde_json::{Value, json};

use super::answer::{self, Shape};
use crate::registry::Registry;

/// How long a watch lasts whose client does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// How often a watch that asks for it is told how far it is.
const BOOKMARKS: Duration = Duration::from_secs(60);

/// Sends every change until the client's time is up.
pub(super) async fn serve(
    registry: Arc<Registry>,
    scope: Scope<'_>,
    params: &WatchParams,
    version: &str,
    shape: Shape,
) -> Result<Response<Body>, Error> {
    let kind = scope.kind;
    let watch = if params.bookmarks {
        registry.watch_with_bookmarks(scope, params, version, BOOKMARKS).await
    } else {
        registry.watch(scope, params, version).await
    };
    let events = match watch {
        Ok(events) => events,
        // As upstream: that a version is too old is the watch's first event, not the answer's code.
        Err(error) if error.is_expired() => futures::stream::iter([Err(error)]).boxed(),
        Err(error) => return Err(error),
    };
    let clock = Arc::clone(registry.clock());
    let timeout = params.timeout.map_or(DEFAULT_TIMEOUT, |seconds| Duration::from_secs(seconds.into()));
    let end = {
        let clock = Arc::clone(&clock);
        async move { clock.sleep(timeout).await }
    };
    let mut headers = true;
    let lines = events.take_until(Box::pin(end)).map(move |event| {
        let mut line = match event {
            Ok(event) => {
                let (type_, object) = render(kind, event, &shape, headers, clock.now());
                headers = false;
                json!({ "type": type_, "object": object })
            }
            Err(error) => json!({ "type": "ERROR", "object": answer::status(&error).1 }),
        }
        .to_string();
        line.push('\n');
        Ok::<_, std::convert::Infallible>(Bytes::from(line))
    });
    Ok(answer::respond(200, "application/json", Body::from_stream(lines)))
}

/// A bookmark for who watches tables: its one row has no cells, and its object carries the version.
fn bookmark_table(metadata: &Value) -> Value {
    json!({
        "kind": "Table", "apiVersion": table::API_VERSION, "columnDefinitions": null,
        "metadata": { "resourceVersion": metadata["resourceVersion"] },
        "rows": [{
            "cells": [],
            "object": { "kind": "PartialObjectMetadata", "apiVersion": table::API_VERSION, "metadata": metadata },
        }],
    })
}

fn render(
    kind: &KindType,
    event: WatchEvent<DynObject>,
    shape: &Shape,
    headers: bool,
    now: jiff::Timestamp,
) -> (&'static str, Value) {
    let (type_, object) = match event {
        WatchEvent::Added(object) => ("ADDED", object),
        WatchEvent::Modified(object) => ("MODIFIED", object),
        WatchEvent::Deleted(object) => ("DELETED", object),
        WatchEvent::Bookmark { resource_version, initial_events_end } => {
            let mut metadata = json!({ "resourceVersion": resource_version, "creationTimestamp": null });
            if initial_events_end {
                metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
            }
            let (name, version) = match shape {
                Shape::Object => (kind.info.kind, kind.info.api_version()),
                Shape::Metadata => ("PartialObjectMetadata", table::API_VERSION.to_owned()),
                Shape::Table(_) => return ("BOOKMARK", bookmark_table(&metadata)),
            };
            return ("BOOKMARK", json!({ "kind": name, "apiVersion": version, "metadata": metadata }));
        }
    };
    match shape {
        Shape::Object => (type_, object.to_value()),
        Shape::Metadata => (type_, answer::metadata(&object)),
        Shape::Table(include) => {
            let metadata = ListMeta { resource_version: object.meta().resource_version.clone(), ..ListMeta::default() };
            (type_, answer::table(kind, &[object], &metadata, *include, headers, now))
        }
    }
}
