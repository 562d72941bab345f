//! What a request asks for besides its path: query parameters, content types and the options in a body.

use longshore_core::client::Error;
use longshore_core::client::params::{
    DeleteParams, ListParams, PatchParams, PostParams, Preconditions, PropagationPolicy, ValidationDirective,
    VersionMatch, WatchParams,
};
use longshore_core::decode::{self, DecodeError, Decoded, FieldValidation, Format, TypeMeta};
use longshore_core::kind::KindType;
use serde::Deserialize;
use serde_json::Value;

use super::{Call, protobuf};
use crate::registry::PatchBody;
use crate::status;

/// What a body may be written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Text(Format),
    Protobuf,
}

fn encoding(call: &Call) -> Result<Encoding, Error> {
    match call.content_type.split(';').next().unwrap_or_default().trim() {
        "" | "application/json" | "*/*" => Ok(Encoding::Text(Format::Json)),
        "application/yaml" => Ok(Encoding::Text(Format::Yaml)),
        protobuf::CONTENT_TYPE => Ok(Encoding::Protobuf),
        other => Err(status::failure(
            415,
            "UnsupportedMediaType",
            format!(
                "the body of the request was in an unknown format - accepted media types include: application/json, \
                 application/yaml, {} (got {other:?})",
                protobuf::CONTENT_TYPE
            ),
        )),
    }
}

/// The object in a request's body.
pub(super) fn object(call: &Call, kind: &'static KindType) -> Result<Decoded, Error> {
    let validation = validation(call)?;
    let refused = |error: DecodeError| status::bad_request(error.message(kind, &call.body));
    match encoding(call)? {
        Encoding::Text(format) => decode::decode(kind, &call.body, format, validation).map_err(refused),
        Encoding::Protobuf => {
            let document = protobuf::decode(&call.body).map_err(|error| status::bad_request(error.to_string()))?;
            if validation == FieldValidation::Strict && !document.findings.is_empty() {
                let type_meta = TypeMeta { api_version: kind.info.api_version(), kind: kind.info.kind.to_owned() };
                return Err(refused(DecodeError::Strict { type_meta, findings: document.findings }));
            }
            let mut decoded = decode::decode_value(kind, document.value, validation).map_err(refused)?;
            if validation == FieldValidation::Warn {
                decoded.warnings.splice(0..0, document.findings);
            }
            Ok(decoded)
        }
    }
}

/// What a request's body says, where it is of no stored kind.
pub(super) fn value(call: &Call) -> Result<Value, Error> {
    match encoding(call)? {
        Encoding::Text(format) => {
            decode::parse(&call.body, format).map(|(value, _)| value).map_err(|error| error.to_string())
        }
        Encoding::Protobuf => {
            protobuf::decode(&call.body).map(|document| document.value).map_err(|error| error.to_string())
        }
    }
    .map_err(status::bad_request)
}

pub(super) fn validation(call: &Call) -> Result<FieldValidation, Error> {
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

pub(super) fn dry_run(call: &Call) -> Result<bool, Error> {
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

pub(super) fn post_params(call: &Call) -> Result<PostParams, Error> {
    Ok(PostParams { dry_run: dry_run(call)?, field_manager: manager(call) })
}

pub(super) fn patch_params(call: &Call, patch: &PatchBody) -> Result<PatchParams, Error> {
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

pub(super) fn patch_body(call: &Call) -> Result<PatchBody, Error> {
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

pub(super) fn list_params(call: &Call) -> Result<ListParams, Error> {
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

pub(super) fn watch_params(call: &Call) -> Result<WatchParams, Error> {
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

pub(super) fn delete_params(call: &Call) -> Result<DeleteParams, Error> {
    delete_params_of(call, if call.body.is_empty() { Value::Null } else { value(call)? })
}

/// The parameters of a deletion whose DeleteOptions are these; null for none.
pub(super) fn delete_params_of(call: &Call, options: Value) -> Result<DeleteParams, Error> {
    let options: Option<DeleteOptions> =
        serde_json::from_value(options).map_err(|error| status::bad_request(error.to_string()))?;
    let options = options.unwrap_or_default();
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
