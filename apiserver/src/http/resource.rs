//! The verbs on objects.

use std::sync::Arc;

use ::http::{Method, Response};
use axum::body::Body;
use kube_core::response::StatusSummary;
use longshore_core::client::params::{GetParams, WatchParams};
use longshore_core::client::{Bind, Deleted, Error, Scope, Target};
use longshore_core::decode::Decoded;
use longshore_core::kind::{DynObject, KindType, Subresource};
use serde_json::{Value, json};

use super::answer::{self, Shape};
use super::options::{delete_params, dry_run, list_params, patch_body, patch_params, post_params, watch_params};
use super::path::Resource;
use super::{Call, Shared, authorization, explain, log, not_allowed, options, scale, streams, token, watch};
use crate::registry::{PatchBody, Registry, Warnings};
use crate::status;

pub(super) async fn serve(shared: &Shared, call: Call, route: Resource) -> Result<Response<Body>, Error> {
    if explain::is_asked(&route) {
        return explain::serve(shared, &call, &route).await;
    }
    let registry = &shared.registry;
    let shape = Shape::negotiate(&call.accept, call.param("includeObject")).ok_or_else(|| {
        let offered = "application/json;as=Table;v=v1;g=meta.k8s.io, application/json";
        status::failure(406, "NotAcceptable", format!("only the following media types are accepted: {offered}"))
    })?;
    let Some(name) = route.name.as_deref() else { return collection(Arc::clone(registry), call, &route, shape).await };
    let kind = route.kind;
    let target = Target { kind, namespace: route.namespace.as_deref().unwrap_or_default(), name };
    let subresource = match route.subresource.as_deref() {
        None => None,
        Some(text) => Some(
            kind.info
                .subresources
                .iter()
                .copied()
                .find(|known| known.as_str() == text)
                .ok_or_else(super::nothing_here)?,
        ),
    };
    let now = registry.clock().now();
    let reply =
        |code: u16, object: &DynObject, warnings: &Warnings| answer::object(code, object, &shape, warnings, now);
    match (call.method.as_str(), subresource) {
        ("POST", Some(Subresource::Binding)) => bind(registry, &call, target).await,
        ("POST", Some(Subresource::Eviction)) => {
            let options = options::value(&call)?["deleteOptions"].take();
            registry.evict(target, &options::delete_params_of(&call, options)?).await?;
            Ok(created())
        }
        ("POST", Some(Subresource::Token)) => token::serve(registry, &call, target).await,
        ("GET", Some(Subresource::Log)) => log::serve(registry, shared.nodes.as_ref(), &call, target).await,
        ("GET" | "POST", Some(part @ (Subresource::Exec | Subresource::Attach | Subresource::PortForward))) => {
            streams::serve(registry, shared.nodes.as_ref(), &call, target, part).await
        }
        (_, Some(Subresource::Scale)) => scale::serve(registry, &call, target, &shape).await,
        ("GET" | "HEAD", None | Some(Subresource::Status)) if call.flag("watch") => {
            let fields = format!("metadata.name={name}");
            let params = WatchParams { field_selector: Some(fields), ..watch_params(&call)? };
            let scope = Scope { kind, namespace: route.namespace.as_deref() };
            watch::serve(Arc::clone(registry), scope, &params, call.param("resourceVersion"), shape.clone()).await
        }
        ("GET" | "HEAD", None | Some(Subresource::Status | Subresource::Resize | Subresource::EphemeralContainers)) => {
            let params = GetParams { resource_version: call.given("resourceVersion") };
            let object = registry.get(target, &params).await?;
            authorization::check_seen(&call.identity, &object)?;
            Ok(reply(200, &object, &Warnings::new()))
        }
        (
            "PUT",
            None
            | Some(
                Subresource::Status
                | Subresource::Resize
                | Subresource::EphemeralContainers
                | Subresource::Finalize
                | Subresource::Approval,
            ),
        ) => {
            let mut decoded = options::object(&call, kind)?;
            place(&mut decoded, &route, Some(name))?;
            authorization::check_grant(registry, &call.identity, &*decoded.object)?;
            if subresource == Some(Subresource::Approval) {
                authorization::check_part(registry, &call.identity, &route)?;
            }
            let (object, mut warnings) = registry.update(decoded.object, subresource, &post_params(&call)?).await?;
            warnings.splice(0..0, decoded.warnings);
            Ok(reply(200, &object, &warnings))
        }
        (
            "PATCH",
            None
            | Some(Subresource::Status | Subresource::Resize | Subresource::EphemeralContainers | Subresource::Approval),
        ) => {
            let mut patch = patch_body(&call)?;
            authorization::note_requester_of_patch(&call.identity, kind, &mut patch);
            authorization::check_part(registry, &call.identity, &route)?;
            let applies = matches!(patch, PatchBody::Apply(_));
            let is_new = applies && registry.get(target, &GetParams::default()).await.is_err();
            if is_new {
                authorization::check_applies_new(registry, &call.identity, &route)?;
            }
            let (object, warnings) = registry.patch(target, subresource, &patch, &patch_params(&call, &patch)?).await?;
            Ok(reply(if is_new { 201 } else { 200 }, &object, &warnings))
        }
        ("DELETE", None) => match registry.delete(target, &delete_params(&call)?).await? {
            Deleted::Pending(object) => Ok(reply(200, &object, &Warnings::new())),
            // As upstream: of a pod the last state is returned, else a success that names the object.
            Deleted::Gone(object) if kind.info.kind == "Pod" => Ok(reply(200, &object, &Warnings::new())),
            Deleted::Gone(object) => Ok(answer::json(200, &success(kind, &object))),
        },
        _ => Err(not_allowed()),
    }
}

async fn collection(
    registry: Arc<Registry>,
    call: Call,
    route: &Resource,
    shape: Shape,
) -> Result<Response<Body>, Error> {
    let kind = route.kind;
    let scope = Scope { kind, namespace: route.namespace.as_deref() };
    let now = registry.clock().now();
    match call.method {
        Method::GET | Method::HEAD if call.flag("watch") => {
            let params = watch_params(&call)?;
            watch::serve(registry, scope, &params, call.param("resourceVersion"), shape).await
        }
        Method::GET | Method::HEAD => {
            let list = registry.list(scope, &list_params(&call)?).await?;
            Ok(answer::list(kind, &list, &shape, now))
        }
        Method::POST if kind.info.namespaced && route.namespace.is_none() => Err(not_allowed()),
        Method::POST => {
            let mut decoded = options::object(&call, kind)?;
            place(&mut decoded, route, None)?;
            authorization::note_requester(&call.identity, &mut *decoded.object);
            authorization::check_grant(&registry, &call.identity, &*decoded.object)?;
            let (object, mut warnings) = registry.create(decoded.object, &post_params(&call)?).await?;
            warnings.splice(0..0, decoded.warnings);
            Ok(answer::object(201, &object, &shape, &warnings, now))
        }
        Method::DELETE if kind.info.namespaced && route.namespace.is_none() => Err(not_allowed()),
        Method::DELETE => {
            let params = delete_params(&call)?;
            let list = registry.list(scope, &list_params(&call)?).await?;
            for object in &list.items {
                let meta = object.meta();
                let (namespace, name) =
                    (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
                match registry.delete(Target { kind, namespace, name }, &params).await {
                    Err(error) if !error.is_not_found() => return Err(error),
                    _ => {}
                }
            }
            Ok(answer::list(kind, &list, &shape, now))
        }
        _ => Err(not_allowed()),
    }
}

fn success(kind: &KindType, object: &DynObject) -> Value {
    let meta = object.meta();
    let mut details = json!({ "name": meta.name, "kind": kind.info.plural, "uid": meta.uid });
    if !kind.info.group.is_empty() {
        details["group"] = kind.info.group.into();
    }
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": StatusSummary::Success, "details": details })
}

/// Puts an object where the path says, and refuses one that says otherwise.
fn place(decoded: &mut Decoded, route: &Resource, name: Option<&str>) -> Result<(), Error> {
    let meta = decoded.object.meta_mut();
    if let Some(name) = name {
        let own = meta.name.get_or_insert_default();
        if own.is_empty() {
            name.clone_into(own);
        }
        if own != name {
            return Err(status::bad_request(format!(
                "the name of the object ({own}) does not match the name on the URL ({name})"
            )));
        }
    }
    let Some(namespace) = &route.namespace else { return Ok(()) };
    let own = meta.namespace.get_or_insert_default();
    if own.is_empty() {
        own.clone_from(namespace);
    }
    if own != namespace {
        return Err(status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

/// What is said of an action that has no object to show.
fn created() -> Response<Body> {
    let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 });
    answer::json(201, &status)
}

async fn bind(registry: &Registry, call: &Call, target: Target<'_>) -> Result<Response<Body>, Error> {
    let value = options::value(call)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let annotations = value["metadata"]["annotations"].as_object().into_iter().flatten();
    let bind = Bind {
        namespace: target.namespace.to_owned(),
        pod: target.name.to_owned(),
        uid: text(&value["metadata"]["uid"]),
        node: text(&value["target"]["name"]),
        annotations: annotations.map(|(key, value)| (key.clone(), text(value))).collect(),
    };
    if bind.node.is_empty() {
        return Err(status::failure(
            422,
            "Invalid",
            format!("Binding {:?} is invalid: target.name: Required value", target.name),
        ));
    }
    registry.bind(&bind, dry_run(call)?).await?;
    Ok(created())
}
