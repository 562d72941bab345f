//! The verbs on objects.

use std::sync::Arc;

use ::http::{Method, Response};
use axum::body::Body;
use kube_core::response::StatusSummary;
use longshore_core::client::params::{
    DeleteParams, GetParams, ListParams, PatchParams, PostParams, Preconditions, PropagationPolicy,
    ValidationDirective, VersionMatch, WatchParams,
};
use longshore_core::client::{Bind, Deleted, Error, Scope, Target};
use longshore_core::decode::{self, Decoded, FieldValidation, Format};
use longshore_core::kind::{DynObject, KindType, Subresource};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{self, Shape};
use super::path::Resource;
use super::{Call, watch};
use crate::registry::{PatchBody, Registry, Warnings};
use crate::status;

pub(super) async fn serve(registry: Arc<Registry>, call: Call, route: Resource) -> Result<Response<Body>, Error> {
    let shape = Shape::negotiate(&call.accept, call.param("includeObject")).ok_or_else(|| {
        let offered = "application/json;as=Table;v=v1;g=meta.k8s.io, application/json";
        status::failure(406, "NotAcceptable", format!("only the following media types are accepted: {offered}"))
    })?;
    let Some(name) = route.name.as_deref() else { return collection(registry, call, &route, shape).await };
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
        ("POST", Some(Subresource::Binding)) => bind(&registry, &call, target).await,
        ("GET" | "HEAD", None | Some(Subresource::Status)) if call.flag("watch") => {
            let fields = format!("metadata.name={name}");
            let params = WatchParams { field_selector: Some(fields), ..watch_params(&call)? };
            let scope = Scope { kind, namespace: route.namespace.as_deref() };
            watch::serve(Arc::clone(&registry), scope, &params, call.param("resourceVersion"), shape.clone()).await
        }
        ("GET" | "HEAD", None | Some(Subresource::Status)) => {
            let params = GetParams { resource_version: call.given("resourceVersion") };
            Ok(reply(200, &registry.get(target, &params).await?, &Warnings::new()))
        }
        (
            "PUT",
            None
            | Some(Subresource::Status | Subresource::Resize | Subresource::EphemeralContainers | Subresource::Finalize),
        ) => {
            let mut decoded = read(&call, kind)?;
            place(&mut decoded, &route, Some(name))?;
            let (object, mut warnings) = registry.update(decoded.object, subresource, &post_params(&call)?).await?;
            warnings.splice(0..0, decoded.warnings);
            Ok(reply(200, &object, &warnings))
        }
        ("PATCH", None | Some(Subresource::Status | Subresource::Resize | Subresource::EphemeralContainers)) => {
            let patch = patch_body(&call)?;
            let (object, warnings) = registry.patch(target, subresource, &patch, &patch_params(&call, &patch)?).await?;
            Ok(reply(200, &object, &warnings))
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
            let mut decoded = read(&call, kind)?;
            place(&mut decoded, route, None)?;
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

fn not_allowed() -> Error {
    status::failure(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
}

fn success(kind: &KindType, object: &DynObject) -> Value {
    let meta = object.meta();
    let mut details = json!({ "name": meta.name, "kind": kind.info.plural, "uid": meta.uid });
    if !kind.info.group.is_empty() {
        details["group"] = kind.info.group.into();
    }
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": StatusSummary::Success, "details": details })
}

fn format_of(call: &Call) -> Result<Format, Error> {
    match call.content_type.split(';').next().unwrap_or_default().trim() {
        "" | "application/json" | "*/*" => Ok(Format::Json),
        "application/yaml" => Ok(Format::Yaml),
        other => Err(status::failure(
            415,
            "UnsupportedMediaType",
            format!(
                "the body of the request was in an unknown format - accepted media types include: application/json, \
                 application/yaml (got {other:?})"
            ),
        )),
    }
}

/// The object in a request's body.
fn read(call: &Call, kind: &'static KindType) -> Result<Decoded, Error> {
    let format = format_of(call)?;
    decode::decode(kind, &call.body, format, validation(call)?)
        .map_err(|error| status::bad_request(error.message(kind, &call.body)))
}

fn validation(call: &Call) -> Result<FieldValidation, Error> {
    match call.param("fieldValidation") {
        "" | "Warn" => Ok(FieldValidation::Warn),
        "Ignore" => Ok(FieldValidation::Ignore),
        "Strict" => Ok(FieldValidation::Strict),
        other => Err(invalid_option(&format!(
            "fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \"Strict\", \"Warn\""
        ))),
    }
}

fn invalid_option(what: &str) -> Error {
    status::failure(422, "Invalid", format!("CreateOptions.meta.k8s.io \"\" is invalid: {what}"))
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

fn dry_run(call: &Call) -> Result<bool, Error> {
    match call.param("dryRun") {
        "" => Ok(false),
        "All" => Ok(true),
        other => Err(invalid_option(&format!("dryRun: Unsupported value: [{other:?}]: supported values: \"All\""))),
    }
}

/// Who writes: what the request says, else the first word of its user agent.
fn manager(call: &Call) -> Option<String> {
    call.given("fieldManager").or_else(|| {
        let first = call.user_agent.split('/').next().unwrap_or_default();
        (!first.is_empty()).then(|| first.chars().take(128).collect())
    })
}

fn post_params(call: &Call) -> Result<PostParams, Error> {
    Ok(PostParams { dry_run: dry_run(call)?, field_manager: manager(call) })
}

fn patch_params(call: &Call, patch: &PatchBody) -> Result<PatchParams, Error> {
    let mut params = PatchParams {
        dry_run: dry_run(call)?,
        force: call.flag("force"),
        field_manager: match patch {
            PatchBody::Apply(_) => call.given("fieldManager"),
            _ => manager(call),
        },
        ..PatchParams::default()
    };
    params.field_validation = Some(match validation(call)? {
        FieldValidation::Strict => ValidationDirective::Strict,
        FieldValidation::Warn => ValidationDirective::Warn,
        FieldValidation::Ignore => ValidationDirective::Ignore,
    });
    Ok(params)
}

fn patch_body(call: &Call) -> Result<PatchBody, Error> {
    let media = call.content_type.split(';').next().unwrap_or_default().trim();
    let format = if media == "application/apply-patch+yaml" { Format::Yaml } else { Format::Json };
    let wrap = match media {
        "application/json-patch+json" => PatchBody::Json,
        "application/merge-patch+json" => PatchBody::Merge,
        "application/strategic-merge-patch+json" => PatchBody::Strategic,
        "application/apply-patch+yaml" => PatchBody::Apply,
        _ => {
            return Err(status::failure(
                415,
                "UnsupportedMediaType",
                "the body of the request was in an unknown format - accepted media types include: \
                 application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, \
                 application/apply-patch+yaml",
            ));
        }
    };
    let (value, _) = decode::parse(&call.body, format).map_err(|error| status::bad_request(error.to_string()))?;
    Ok(wrap(value))
}

fn list_params(call: &Call) -> Result<ListParams, Error> {
    let version_match = match call.param("resourceVersionMatch") {
        "" => None,
        "Exact" => Some(VersionMatch::Exact),
        "NotOlderThan" => Some(VersionMatch::NotOlderThan),
        other => {
            return Err(status::failure(
                422,
                "Invalid",
                format!(
                    "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Unsupported value: {other:?}: \
                     supported values: \"Exact\", \"NotOlderThan\", \"\""
                ),
            ));
        }
    };
    Ok(ListParams {
        label_selector: call.given("labelSelector"),
        field_selector: call.given("fieldSelector"),
        limit: number(call, "limit")?,
        continue_token: call.given("continue"),
        version_match,
        resource_version: call.given("resourceVersion"),
        ..ListParams::default()
    })
}

fn number(call: &Call, name: &str) -> Result<Option<u32>, Error> {
    let Some(text) = call.given(name) else { return Ok(None) };
    text.parse()
        .map(Some)
        .map_err(|_| status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax (in {name})")))
}

fn watch_params(call: &Call) -> Result<WatchParams, Error> {
    Ok(WatchParams {
        label_selector: call.given("labelSelector"),
        field_selector: call.given("fieldSelector"),
        timeout: number(call, "timeoutSeconds")?,
        bookmarks: call.flag("allowWatchBookmarks"),
        send_initial_events: call.flag("sendInitialEvents"),
    })
}

/// DeleteOptions as they stand in a body.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DeleteOptions {
    grace_period_seconds: Option<i64>,
    preconditions: Option<WirePreconditions>,
    orphan_dependents: Option<bool>,
    propagation_policy: Option<String>,
    dry_run: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WirePreconditions {
    uid: Option<String>,
    resource_version: Option<String>,
}

fn delete_params(call: &Call) -> Result<DeleteParams, Error> {
    let mut options = DeleteOptions::default();
    if !call.body.is_empty() {
        let (value, _) =
            decode::parse(&call.body, format_of(call)?).map_err(|error| status::bad_request(error.to_string()))?;
        options = serde_json::from_value(value).map_err(|error| status::bad_request(error.to_string()))?;
    }
    let policy = options.propagation_policy.or_else(|| call.given("propagationPolicy"));
    let propagation_policy = match (policy.as_deref(), options.orphan_dependents) {
        (Some("Orphan"), _) | (None, Some(true)) => Some(PropagationPolicy::Orphan),
        (Some("Background"), _) | (None, Some(false)) => Some(PropagationPolicy::Background),
        (Some("Foreground"), _) => Some(PropagationPolicy::Foreground),
        (None, None) => None,
        (Some(other), _) => {
            return Err(status::failure(
                422,
                "Invalid",
                format!(
                    "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: {other:?}: \
                     supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\""
                ),
            ));
        }
    };
    let query_grace = number(call, "gracePeriodSeconds")?.map(i64::from);
    // A negative period counts as the shortest one.
    let grace = options.grace_period_seconds.or(query_grace).map(|seconds| if seconds < 0 { 1 } else { seconds });
    Ok(DeleteParams {
        dry_run: dry_run(call)? || options.dry_run.is_some_and(|all| all.iter().any(|what| what == "All")),
        grace_period_seconds: grace.map(|seconds| u32::try_from(seconds).unwrap_or(u32::MAX)),
        propagation_policy,
        preconditions: options
            .preconditions
            .map(|wire| Preconditions { uid: wire.uid, resource_version: wire.resource_version }),
    })
}

async fn bind(registry: &Registry, call: &Call, target: Target<'_>) -> Result<Response<Body>, Error> {
    let (value, _) =
        decode::parse(&call.body, format_of(call)?).map_err(|error| status::bad_request(error.to_string()))?;
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
    Ok(answer::json(
        201,
        &json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 }),
    ))
}
