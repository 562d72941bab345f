//! Family `status`: the errors of the API.

use longshore_core::client::Status;
use longshore_core::status::{self, GroupResource, ServerResponse};
use longshore_core::validation::{self, Error, ErrorType};
use serde::Deserialize;
use serde_json::{Value, json};

use super::read;

/// What the library makes of one vector's input.
pub(crate) fn run(input: &Value) -> Value {
    let function = input["fn"].as_str().unwrap_or_default();
    match function {
        "field.Path" => return json!({ "string": path(input["path"].as_str().unwrap_or_default()) }),
        "NewInvalid" => return invalid(input),
        _ => {}
    }
    match constructed(function, &Arguments(&input["args"])) {
        Some(made) => json!({ "status": show(&made) }),
        None => json!({ "unknown": function }),
    }
}

struct Arguments<'a>(&'a Value);

impl<'a> Arguments<'a> {
    fn text(&self, index: usize) -> &'a str {
        self.0[index].as_str().unwrap_or_default()
    }

    fn number<T: TryFrom<i64> + Default>(&self, index: usize) -> T {
        T::try_from(self.0[index].as_i64().unwrap_or_default()).unwrap_or_default()
    }

    fn resource(&self, index: usize) -> GroupResource<'a> {
        GroupResource::parse(self.text(index))
    }
}

fn constructed(function: &str, args: &Arguments<'_>) -> Option<Status> {
    Some(match function {
        "NewNotFound" => status::not_found(args.resource(0), args.text(1)),
        "NewAlreadyExists" => status::already_exists(args.resource(0), args.text(1)),
        "NewGenerateNameConflict" => status::generate_name_conflict(args.resource(0), args.text(1), args.number(2)),
        "NewUnauthorized" => status::unauthorized(args.text(0)),
        "NewForbidden" => status::forbidden(args.resource(0), args.text(1), args.text(2)),
        "NewConflict" => status::conflict(args.resource(0), args.text(1), args.text(2)),
        "NewApplyConflict" => {
            let causes = args.0[0].as_array().into_iter().flatten().map(|cause| {
                let text = |name: &str| cause[name].as_str().unwrap_or_default();
                status::cause(text("reason"), text("message"), text("field"))
            });
            status::apply_conflict(causes.collect(), args.text(1))
        }
        "NewGone" => status::gone(args.text(0)),
        "NewResourceExpired" => status::expired(args.text(0)),
        "NewBadRequest" => status::bad_request(args.text(0)),
        "NewTooManyRequests" => status::too_many_requests(args.text(0), args.number(1)),
        "NewTooManyRequestsError" => status::too_many_requests_error(args.text(0)),
        "NewServiceUnavailable" => status::service_unavailable(args.text(0)),
        "NewMethodNotSupported" => status::method_not_supported(args.resource(0), args.text(1)),
        "NewServerTimeout" | "NewServerTimeoutForKind" => {
            status::server_timeout(args.resource(0), args.text(1), args.number(2))
        }
        "NewInternalError" => status::internal_error(args.text(0)),
        "NewTimeoutError" => status::timeout(args.text(0), args.number(1)),
        "NewRequestEntityTooLargeError" => status::request_entity_too_large(args.text(0)),
        "NewGenericServerResponse" => ServerResponse {
            code: args.number(0),
            verb: args.text(1),
            resource: args.resource(2),
            name: args.text(3),
            message: args.text(4),
            retry_after: args.number(5),
            unexpected: args.0[6] == true,
        }
        .to_status(),
        _ => return None,
    })
}

/// A status as the vectors have it: without its own kind.
pub(crate) fn show(status: &Status) -> Value {
    let mut value = status::to_value(status);
    if let Some(fields) = value.as_object_mut() {
        fields.shift_remove("kind");
        fields.shift_remove("apiVersion");
    }
    value
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GivenError {
    #[serde(rename = "type")]
    type_: String,
    field: String,
    #[serde(default)]
    bad_value: Value,
    #[serde(default)]
    detail: String,
}

impl GivenError {
    fn read(self) -> Option<Error> {
        let type_ = [
            ErrorType::FieldValueNotFound,
            ErrorType::FieldValueRequired,
            ErrorType::FieldValueDuplicate,
            ErrorType::FieldValueInvalid,
            ErrorType::FieldValueNotSupported,
            ErrorType::FieldValueForbidden,
            ErrorType::FieldValueTooLong,
            ErrorType::FieldValueTooMany,
            ErrorType::InternalError,
            ErrorType::FieldValueTypeInvalid,
        ]
        .into_iter()
        .find(|type_| type_.as_str() == self.type_)?;
        Some(Error { type_, field: self.field, bad_value: self.bad_value, detail: self.detail })
    }
}

fn invalid(input: &Value) -> Value {
    let given: Vec<GivenError> = serde_json::from_value(input["errors"].clone()).unwrap_or_default();
    let errors: Vec<Error> = given.into_iter().filter_map(GivenError::read).collect();
    let (kind, name): (String, String) = (read(&input["kind"]), read(&input["name"]));
    let mut out = json!({ "status": show(&status::invalid(GroupResource::parse(&kind), &name, &errors)) });
    if !errors.is_empty() {
        out["aggregate"] = validation::aggregate(&errors).into();
    }
    out
}

/// Builds a path piece by piece, as its text tells.
fn path(text: &str) -> String {
    let (mut path, mut rest) = (validation::Path::default(), text);
    while !rest.is_empty() {
        if let Some((inner, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            path = inner.parse().map_or_else(|_| path.key(inner), |index| path.index(index));
            rest = after;
        } else {
            let name = rest.strip_prefix('.').unwrap_or(rest);
            let (name, after) = name.split_at(name.find(['.', '[']).unwrap_or(name.len()));
            path = path.child(name);
            rest = after;
        }
    }
    path.to_string()
}
