//! The subresource `scale`: autoscaling/v1 Scale, whatever the workload.

use std::sync::Arc;

use ::http::Response;
use axum::body::Body;
use longshore_core::age::human_duration;
use longshore_core::api::Scale;
use longshore_core::client::{Error, Target};
use longshore_core::table;
use serde_json::{Value, json};

use super::answer::{self, Shape};
use super::{Call, options};
use crate::registry::Registry;
use crate::status;

pub(super) async fn serve(
    registry: &Arc<Registry>,
    call: &Call,
    target: Target<'_>,
    shape: &Shape,
) -> Result<Response<Body>, Error> {
    let scale = match call.method.as_str() {
        "GET" | "HEAD" => registry.scale(target).await?,
        "PUT" => {
            let value = options::value(call)?;
            let scale: Scale = serde_json::from_value(value).map_err(|error| status::bad_request(error.to_string()))?;
            registry.update_scale(target, &scale, &options::post_params(call)?).await?
        }
        "PATCH" => {
            let patch = options::patch_body(call)?;
            registry.patch_scale(target, &patch, &options::patch_params(call, &patch)?).await?
        }
        _ => return Err(super::not_allowed()),
    };
    let now = registry.clock().now();
    Ok(answer::json(
        200,
        &match shape {
            Shape::Object => json!(scale),
            Shape::Table(include) => table(&scale, *include, now),
            Shape::Metadata => {
                json!({ "kind": "PartialObjectMetadata", "apiVersion": table::API_VERSION, "metadata": scale.metadata })
            }
        },
    ))
}

fn table(scale: &Scale, include: table::IncludeObject, now: jiff::Timestamp) -> Value {
    let columns = [
        ("Name", "string", "name", "Name of the workload."),
        ("Desired", "integer", "", "The number of replicas wanted."),
        ("Available", "integer", "", "The number of replicas observed."),
        ("Age", "string", "", "How long ago the workload was created."),
    ];
    let columns = columns.map(|(name, type_, format, description)| {
        json!({ "name": name, "type": type_, "format": format, "description": description, "priority": 0 })
    });
    let created = scale.metadata.creation_timestamp.as_ref();
    let age = created.map_or_else(|| "<unknown>".to_owned(), |created| human_duration(now.duration_since(created.0)));
    let object = match include {
        table::IncludeObject::None => Value::Null,
        table::IncludeObject::Object => json!(scale),
        table::IncludeObject::Metadata => {
            json!({ "kind": "PartialObjectMetadata", "apiVersion": table::API_VERSION, "metadata": scale.metadata })
        }
    };
    json!({
        "kind": "Table",
        "apiVersion": table::API_VERSION,
        "metadata": { "resourceVersion": scale.metadata.resource_version },
        "columnDefinitions": columns,
        "rows": [{
            "cells": [scale.metadata.name, scale.spec.replicas, scale.status.replicas, age],
            "object": object,
        }],
    })
}
