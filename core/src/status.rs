//! The errors of the API as the `Status` that a client gets, in upstream's words (`k8s.io/apimachinery/pkg/api/errors`).

use std::borrow::Cow;
use std::fmt;

use kube_core::response::{StatusCause, StatusDetails};
use serde_json::{Value, json};

use crate::client::Status;
use crate::kind::KindInfo;
use crate::validation::{self, Error, ErrorType, go_quote};

/// A resource (`deployments`) or a kind (`Deployment`) with its API group. Prints as `deployments.apps`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupResource<'a> {
    /// The API group; empty for the core group.
    pub group: &'a str,
    /// The plural or the kind.
    pub resource: &'a str,
}

impl<'a> GroupResource<'a> {
    /// Reads `deployments.apps`.
    pub fn parse(text: &'a str) -> Self {
        let (resource, group) = text.split_once('.').unwrap_or((text, ""));
        Self { group, resource }
    }

    /// The kind itself, as errors about an object's content name it.
    pub fn of_kind(info: &KindInfo) -> Self {
        Self { group: info.group, resource: info.kind }
    }

    fn is_empty(self) -> bool {
        self.group.is_empty() && self.resource.is_empty()
    }

    fn details(self, name: &str) -> StatusDetails {
        StatusDetails { name: name.into(), group: self.group.into(), kind: self.resource.into(), ..no_details() }
    }
}

impl fmt::Display for GroupResource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.resource)?;
        if self.group.is_empty() { Ok(()) } else { write!(f, ".{}", self.group) }
    }
}

impl From<&KindInfo> for GroupResource<'static> {
    fn from(info: &KindInfo) -> Self {
        Self { group: info.group, resource: info.plural }
    }
}

fn no_details() -> StatusDetails {
    StatusDetails {
        name: String::new(),
        group: String::new(),
        kind: String::new(),
        uid: String::new(),
        causes: Vec::new(),
        retry_after_seconds: 0,
    }
}

/// A cause that programs can test for.
pub fn cause(reason: &str, message: impl Into<String>, field: &str) -> StatusCause {
    StatusCause { reason: reason.into(), message: message.into(), field: field.into() }
}

/// Any failure; `reason` may be empty.
pub fn failure(code: u16, reason: &str, message: impl AsRef<str>) -> Status {
    Status::failure(message.as_ref(), reason).with_code(code)
}

/// There is no such object.
pub fn not_found<'a>(resource: impl Into<GroupResource<'a>>, name: &str) -> Status {
    let resource = resource.into();
    let message = format!("{resource} {} not found", go_quote(name));
    failure(404, "NotFound", message).with_details(resource.details(name))
}

/// There is an object of that name.
pub fn already_exists<'a>(resource: impl Into<GroupResource<'a>>, name: &str) -> Status {
    let resource = resource.into();
    let message = format!("{resource} {} already exists", go_quote(name));
    failure(409, "AlreadyExists", message).with_details(resource.details(name))
}

/// The server could not make up a name that is free; asking again may help.
pub fn generate_name_conflict<'a>(resource: impl Into<GroupResource<'a>>, name: &str, retry_after: u32) -> Status {
    let resource = resource.into();
    let message = format!(
        "{resource} {} already exists, the server was not able to generate a unique name for the object",
        go_quote(name)
    );
    let details = StatusDetails { retry_after_seconds: retry_after, ..resource.details(name) };
    failure(409, "AlreadyExists", message).with_details(details)
}

/// Nobody knows who asks.
pub fn unauthorized(reason: &str) -> Status {
    failure(401, "Unauthorized", if reason.is_empty() { "not authorized" } else { reason })
}

/// The request is understood and refused.
pub fn forbidden<'a>(resource: impl Into<GroupResource<'a>>, name: &str, why: impl fmt::Display) -> Status {
    let resource = resource.into();
    let message = match (resource.is_empty(), name.is_empty()) {
        (true, _) => format!("forbidden: {why}"),
        (false, true) => format!("{resource} is forbidden: {why}"),
        (false, false) => format!("{resource} {} is forbidden: {why}", go_quote(name)),
    };
    failure(403, "Forbidden", message).with_details(resource.details(name))
}

/// The object changed in between, or a precondition does not hold.
pub fn conflict<'a>(resource: impl Into<GroupResource<'a>>, name: &str, why: impl fmt::Display) -> Status {
    let resource = resource.into();
    let message = format!("Operation cannot be fulfilled on {resource} {}: {why}", go_quote(name));
    failure(409, "Conflict", message).with_details(resource.details(name))
}

/// Fields that an apply wants belong to other managers.
pub fn apply_conflict(causes: Vec<StatusCause>, message: &str) -> Status {
    failure(409, "Conflict", message).with_details(StatusDetails { causes, ..no_details() })
}

/// What was asked for is no longer there.
pub fn gone(message: &str) -> Status {
    failure(410, "Gone", message)
}

/// A version or a continue token that is too old.
pub fn expired(message: impl AsRef<str>) -> Status {
    failure(410, "Expired", message)
}

/// The object's content breaks the rules: a cause for every error.
pub fn invalid(kind: GroupResource<'_>, name: &str, errors: &[Error]) -> Status {
    let mut message = format!("{kind} {} is invalid", go_quote(name));
    if !errors.is_empty() {
        message = format!("{message}: {}", validation::aggregate(errors));
    }
    let causes = errors.iter().map(|error| cause(error.type_.as_str(), error.body(), &error.field)).collect();
    failure(422, "Invalid", message).with_details(StatusDetails { causes, ..kind.details(name) })
}

/// The request makes no sense.
pub fn bad_request(message: impl AsRef<str>) -> Status {
    failure(400, "BadRequest", message)
}

/// Too much at once; the client is to wait for so many seconds.
pub fn too_many_requests(message: &str, retry_after: u32) -> Status {
    failure(429, "TooManyRequests", message)
        .with_details(StatusDetails { retry_after_seconds: retry_after, ..no_details() })
}

/// Too much at once, without advice on when to come back.
pub fn too_many_requests_error(message: &str) -> Status {
    failure(429, "TooManyRequests", format!("Too many requests: {message}"))
}

/// The server cannot serve at present.
pub fn service_unavailable(reason: &str) -> Status {
    failure(503, "ServiceUnavailable", reason)
}

/// The resource does not take this verb.
pub fn method_not_supported<'a>(resource: impl Into<GroupResource<'a>>, action: &str) -> Status {
    let resource = resource.into();
    let message = format!("{action} is not supported on resources of kind {}", go_quote(&resource.to_string()));
    failure(405, "MethodNotAllowed", message).with_details(resource.details(""))
}

/// The server did not finish in time; the client is to try again after so many seconds.
pub fn server_timeout<'a>(resource: impl Into<GroupResource<'a>>, operation: &str, retry_after: u32) -> Status {
    let resource = resource.into();
    let message =
        format!("The {operation} operation against {resource} could not be completed at this time, please try again.");
    let details = StatusDetails { retry_after_seconds: retry_after, ..resource.details(operation) };
    failure(500, "ServerTimeout", message).with_details(details)
}

/// Something broke in the server.
pub fn internal_error(why: impl fmt::Display) -> Status {
    let causes = vec![cause("", why.to_string(), "")];
    failure(500, "InternalError", format!("Internal error occurred: {why}"))
        .with_details(StatusDetails { causes, ..no_details() })
}

/// The request took too long.
pub fn timeout(message: impl fmt::Display, retry_after: u32) -> Status {
    failure(504, "Timeout", format!("Timeout: {message}"))
        .with_details(StatusDetails { retry_after_seconds: retry_after, ..no_details() })
}

/// A version that the server has not reached yet.
pub fn too_large_resource_version(requested: u64, current: u64, retry_after: u32) -> Status {
    const CAUSE: &str = "Too large resource version";
    let mut status = timeout(format_args!("{CAUSE}: {requested}, current: {current}"), retry_after);
    if let Some(details) = &mut status.details {
        details.causes.push(cause("ResourceVersionTooLarge", CAUSE, ""));
    }
    status
}

/// The body is larger than the server takes.
pub fn request_entity_too_large(message: impl fmt::Display) -> Status {
    failure(413, "RequestEntityTooLarge", format!("Request entity is too large: {message}"))
}

/// What a client makes of an HTTP answer that is no `Status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ServerResponse<'a> {
    /// The HTTP code.
    pub code: u16,
    /// The HTTP method or the API's verb.
    pub verb: &'a str,
    /// What was asked for; may be empty.
    pub resource: GroupResource<'a>,
    /// The object's name; may be empty.
    pub name: &'a str,
    /// The body.
    pub message: &'a str,
    /// Seconds after which the server wants to be asked again.
    pub retry_after: u32,
    /// Whether the body was not what the client expected at all.
    pub unexpected: bool,
}

impl ServerResponse<'_> {
    /// The answer as a `Status`.
    pub fn to_status(self) -> Status {
        let (reason, mut message) = self.reason();
        let asked = match (self.resource.is_empty(), self.name) {
            (true, _) => String::new(),
            (false, "") => format!(" ({} {})", self.verb.to_lowercase(), self.resource),
            (false, name) => format!(" ({} {} {name})", self.verb.to_lowercase(), self.resource),
        };
        message.to_mut().push_str(&asked);
        let unexpected = self.unexpected.then(|| cause("UnexpectedServerResponse", self.message, ""));
        let details = StatusDetails {
            causes: unexpected.into_iter().collect(),
            retry_after_seconds: self.retry_after,
            ..self.resource.details(self.name)
        };
        failure(self.code, reason, message).with_details(details)
    }

    fn reason(&self) -> (&'static str, Cow<'_, str>) {
        let (reason, message) = match self.code {
            409 if self.verb == "POST" => ("AlreadyExists", "the server reported a conflict"),
            409 => ("Conflict", "the server reported a conflict"),
            404 => ("NotFound", "the server could not find the requested resource"),
            400 => ("BadRequest", "the server rejected our request for an unknown reason"),
            401 => ("Unauthorized", "the server has asked for the client to provide credentials"),
            403 => ("Forbidden", self.message),
            406 if matches!(self.message, "" | "unknown") => {
                ("NotAcceptable", "the server was unable to respond with a content type that the client supports")
            }
            406 => ("NotAcceptable", self.message),
            415 => ("UnsupportedMediaType", self.message),
            405 => ("MethodNotAllowed", "the server does not allow this method on the requested resource"),
            422 => ("Invalid", "the server rejected our request due to an error in our request"),
            503 => ("ServiceUnavailable", "the server is currently unable to handle the request"),
            504 => (
                "Timeout",
                "the server was unable to return a response in the time allotted, but may still be processing the request",
            ),
            429 => ("TooManyRequests", "the server has received too many requests and has asked us to try again later"),
            500.. => {
                let quoted = go_quote(self.message);
                let message = format!("an error on the server ({quoted}) has prevented the request from succeeding");
                return ("InternalError", message.into());
            }
            code => {
                let message =
                    format!("the server responded with the status code {code} but did not return more information");
                return ("", message.into());
            }
        };
        (reason, message.into())
    }
}

/// The `Status` as a server sends it.
pub fn to_value(status: &Status) -> Value {
    let mut value = json!(status);
    value["kind"] = "Status".into();
    value["apiVersion"] = "v1".into();
    if status.metadata.is_none() {
        value["metadata"] = json!({});
    }
    value
}

impl ErrorType {
    /// The reason that a status cause gives.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FieldValueNotFound => "FieldValueNotFound",
            Self::FieldValueRequired => "FieldValueRequired",
            Self::FieldValueDuplicate => "FieldValueDuplicate",
            Self::FieldValueInvalid => "FieldValueInvalid",
            Self::FieldValueNotSupported => "FieldValueNotSupported",
            Self::FieldValueForbidden => "FieldValueForbidden",
            Self::FieldValueTooLong => "FieldValueTooLong",
            Self::FieldValueTooMany => "FieldValueTooMany",
            Self::InternalError => "InternalError",
            Self::FieldValueTypeInvalid => "FieldValueTypeInvalid",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Deployment;
    use crate::kind::Described;
    use crate::validation::Path;

    #[test]
    fn errors_name_resource_and_kind() {
        let missing = not_found(&Deployment::INFO, "d");
        assert_eq!(missing.message, "deployments.apps \"d\" not found");
        let error = Error::required(&Path::new("spec"), "");
        let invalid = invalid(GroupResource::of_kind(&Deployment::INFO), "d", &[error]);
        assert_eq!(invalid.message, "Deployment.apps \"d\" is invalid: spec: Required value");
        assert_eq!(to_value(&invalid)["details"]["causes"][0]["reason"], "FieldValueRequired");
    }

    #[test]
    fn plain_answers_say_what_was_asked() {
        let resource = GroupResource::parse("deployments.apps");
        let answer = ServerResponse { code: 404, verb: "GET", resource, name: "d", ..ServerResponse::default() };
        let expected = "the server could not find the requested resource (get deployments.apps d)";
        assert_eq!(answer.to_status().message, expected);
    }
}
