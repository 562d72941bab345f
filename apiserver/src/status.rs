//! The errors of the API, in upstream's words (`k8s.io/apimachinery/pkg/api/errors`).

use kube_core::response::{StatusCause, StatusDetails};
use longshore_core::client::{Error, Status};
use longshore_core::kind::KindInfo;
use longshore_core::store;
use longshore_core::validation::{ErrorList, ErrorType};
use serde_json::Value;

/// What optimistic concurrency says when it loses.
pub(crate) const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

pub(crate) fn failure(code: u16, reason: &str, message: impl AsRef<str>) -> Error {
    Error::Api(Box::new(Status::failure(message.as_ref(), reason).with_code(code)))
}

fn about(mut error: Error, group: &str, kind: &str, name: &str) -> Error {
    if let Error::Api(status) = &mut error {
        status.details = Some(details(group, kind, name));
    }
    error
}

fn details(group: &str, kind: &str, name: &str) -> StatusDetails {
    StatusDetails {
        name: name.to_owned(),
        group: group.to_owned(),
        kind: kind.to_owned(),
        uid: String::new(),
        causes: Vec::new(),
        retry_after_seconds: 0,
    }
}

pub(crate) fn bad_request(message: impl AsRef<str>) -> Error {
    failure(400, "BadRequest", message)
}

/// An error that upstream answers without a reason.
pub(crate) fn unknown(message: impl AsRef<str>) -> Error {
    failure(500, "", message)
}

pub(crate) fn internal(message: impl std::fmt::Display) -> Error {
    let mut error = failure(500, "InternalError", format!("Internal error occurred: {message}"));
    if let Error::Api(status) = &mut error {
        let mut details = details("", "", "");
        details.causes.push(StatusCause { reason: String::new(), message: message.to_string(), field: String::new() });
        status.details = Some(details);
    }
    error
}

pub(crate) fn not_found(info: &KindInfo, name: &str) -> Error {
    let message = format!("{} {name:?} not found", info.resource());
    about(failure(404, "NotFound", message), info.group, info.plural, name)
}

pub(crate) fn already_exists(info: &KindInfo, name: &str) -> Error {
    let message = format!("{} {name:?} already exists", info.resource());
    about(failure(409, "AlreadyExists", message), info.group, info.plural, name)
}

pub(crate) fn generate_name_conflict(info: &KindInfo, name: &str) -> Error {
    let message = format!(
        "{} {name:?} already exists, the server was not able to generate a unique name for the object",
        info.resource()
    );
    let mut error = about(failure(409, "AlreadyExists", message), info.group, info.plural, name);
    if let Error::Api(status) = &mut error
        && let Some(details) = &mut status.details
    {
        details.retry_after_seconds = 1;
    }
    error
}

pub(crate) fn conflict(info: &KindInfo, name: &str, why: impl std::fmt::Display) -> Error {
    let message = format!("Operation cannot be fulfilled on {} {name:?}: {why}", info.resource());
    about(failure(409, "Conflict", message), info.group, info.plural, name)
}

pub(crate) fn forbidden(info: &KindInfo, name: &str, why: impl std::fmt::Display) -> Error {
    let resource = info.resource();
    let message = if name.is_empty() {
        format!("{resource} is forbidden: {why}")
    } else {
        format!("{resource} {name:?} is forbidden: {why}")
    };
    about(failure(403, "Forbidden", message), info.group, info.plural, name)
}

/// A refusal with a cause that programs can test for.
pub(crate) fn forbidden_because(
    info: &KindInfo,
    name: &str,
    why: impl std::fmt::Display,
    cause: (&str, &str, &str),
) -> Error {
    let mut error = forbidden(info, name, why);
    if let Error::Api(status) = &mut error
        && let Some(details) = &mut status.details
    {
        let (reason, message, field) = cause;
        details.causes.push(StatusCause { reason: reason.into(), message: message.into(), field: field.into() });
    }
    error
}

pub(crate) fn expired(message: impl AsRef<str>) -> Error {
    failure(410, "Expired", message)
}

/// There is no room for the request now.
pub(crate) fn too_many() -> Error {
    let mut error = failure(429, "TooManyRequests", "Too many requests, please try again later.");
    if let Error::Api(status) = &mut error {
        let mut details = details("", "", "");
        details.retry_after_seconds = 1;
        status.details = Some(details);
    }
    error
}

/// A version that the server has not reached.
pub(crate) fn too_large_version(requested: u64, current: u64) -> Error {
    let message = format!("Too large resource version: {requested}, current: {current}");
    let mut error = failure(504, "Timeout", format!("Timeout: {message}"));
    if let Error::Api(status) = &mut error {
        let mut details = details("", "", "");
        details.retry_after_seconds = 1;
        details.causes.push(StatusCause {
            reason: "ResourceVersionTooLarge".to_owned(),
            message: "Too large resource version".to_owned(),
            field: String::new(),
        });
        status.details = Some(details);
    }
    error
}

pub(crate) fn invalid(info: &KindInfo, name: &str, errors: &ErrorList) -> Error {
    let mut messages: Vec<String> = Vec::new();
    for error in errors {
        let message = field_message(error);
        if !messages.contains(&message) {
            messages.push(message);
        }
    }
    let all = match messages.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    let kind = if info.group.is_empty() { info.kind.to_owned() } else { format!("{}.{}", info.kind, info.group) };
    let mut error =
        about(failure(422, "Invalid", format!("{kind} {name:?} is invalid: {all}")), info.group, info.kind, name);
    if let Error::Api(status) = &mut error
        && let Some(details) = &mut status.details
    {
        details.causes = errors
            .iter()
            .map(|error| StatusCause {
                reason: cause_reason(error.type_).to_owned(),
                message: field_body(error),
                field: error.field.clone(),
            })
            .collect();
    }
    error
}

fn cause_reason(type_: ErrorType) -> &'static str {
    match type_ {
        ErrorType::FieldValueNotFound => "FieldValueNotFound",
        ErrorType::FieldValueRequired => "FieldValueRequired",
        ErrorType::FieldValueDuplicate => "FieldValueDuplicate",
        ErrorType::FieldValueInvalid => "FieldValueInvalid",
        ErrorType::FieldValueNotSupported => "FieldValueNotSupported",
        ErrorType::FieldValueForbidden => "FieldValueForbidden",
        ErrorType::FieldValueTooLong => "FieldValueTooLong",
        ErrorType::FieldValueTooMany => "FieldValueTooMany",
        ErrorType::InternalError => "InternalError",
        ErrorType::FieldValueTypeInvalid => "FieldValueTypeInvalid",
    }
}

fn field_message(error: &longshore_core::validation::Error) -> String {
    if error.field.is_empty() { field_body(error) } else { format!("{}: {}", error.field, field_body(error)) }
}

fn field_body(error: &longshore_core::validation::Error) -> String {
    let (label, quotes_value) = match error.type_ {
        ErrorType::FieldValueNotFound => ("Not found", true),
        ErrorType::FieldValueRequired => ("Required value", false),
        ErrorType::FieldValueDuplicate => ("Duplicate value", true),
        ErrorType::FieldValueInvalid | ErrorType::FieldValueTypeInvalid => ("Invalid value", true),
        ErrorType::FieldValueNotSupported => ("Unsupported value", true),
        ErrorType::FieldValueForbidden => ("Forbidden", false),
        ErrorType::FieldValueTooLong => ("Too long", false),
        ErrorType::FieldValueTooMany => ("Too many", true),
        ErrorType::InternalError => ("Internal error", false),
    };
    let mut body = label.to_owned();
    if quotes_value {
        body.push_str(": ");
        match &error.bad_value {
            Value::String(text) => body.push_str(&format!("{text:?}")),
            other => body.push_str(&other.to_string()),
        }
    }
    if !error.detail.is_empty() {
        body.push_str(": ");
        body.push_str(&error.detail);
    }
    body
}

/// What a client is told when the store fails while doing `operation`.
pub(crate) fn from_store(error: store::Error, operation: &str) -> Error {
    match error {
        store::Error::Compacted { requested, oldest } => {
            expired(format!("The provided resource version is too old: {requested} ({oldest})"))
        }
        store::Error::FutureRevision { requested, current } => too_large_version(requested, current),
        store::Error::TooLarge { .. } | store::Error::TooManyOperations { .. } => {
            failure(413, "RequestEntityTooLarge", format!("Request entity is too large: {error}"))
        }
        store::Error::Unavailable { reason } => Error::Unavailable { operation: operation.to_owned(), reason },
        other => internal(other),
    }
}
