//! The errors of the API as the client trait has them, and what the store's failures become.

use longshore_core::client::Error;
use longshore_core::kind::KindInfo;
use longshore_core::status::{self, GroupResource};
use longshore_core::store;
use longshore_core::validation::ErrorList;

/// What optimistic concurrency says when it loses.
pub(crate) const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

pub(crate) fn failure(code: u16, reason: &str, message: impl AsRef<str>) -> Error {
    status::failure(code, reason, message).into()
}

pub(crate) fn bad_request(message: impl AsRef<str>) -> Error {
    status::bad_request(message).into()
}

/// An error that upstream answers without a reason.
pub(crate) fn unknown(message: impl AsRef<str>) -> Error {
    failure(500, "", message)
}

pub(crate) fn internal(why: impl std::fmt::Display) -> Error {
    status::internal_error(why).into()
}

pub(crate) fn not_found(info: &KindInfo, name: &str) -> Error {
    status::not_found(info, name).into()
}

pub(crate) fn already_exists(info: &KindInfo, name: &str) -> Error {
    status::already_exists(info, name).into()
}

pub(crate) fn generate_name_conflict(info: &KindInfo, name: &str) -> Error {
    status::generate_name_conflict(info, name, 1).into()
}

pub(crate) fn conflict(info: &KindInfo, name: &str, why: impl std::fmt::Display) -> Error {
    status::conflict(info, name, why).into()
}

/// A refusal with a cause that programs can test for.
pub(crate) fn forbidden_because(
    info: &KindInfo,
    name: &str,
    why: impl std::fmt::Display,
    cause: (&str, &str, &str),
) -> Error {
    let mut refused = status::forbidden(info, name, why);
    if let Some(details) = &mut refused.details {
        let (reason, message, field) = cause;
        details.causes.push(status::cause(reason, message, field));
    }
    refused.into()
}

pub(crate) fn expired(message: impl AsRef<str>) -> Error {
    status::expired(message).into()
}

/// There is no room for the request now.
pub(crate) fn too_many() -> Error {
    status::too_many_requests("Too many requests, please try again later.", 1).into()
}

/// A version that the server has not reached.
pub(crate) fn too_large_version(requested: u64, current: u64) -> Error {
    status::too_large_resource_version(requested, current, 1).into()
}

pub(crate) fn invalid(info: &KindInfo, name: &str, errors: &ErrorList) -> Error {
    status::invalid(GroupResource::of_kind(info), name, errors).into()
}

/// What a client is told when the store fails while doing `operation`.
pub(crate) fn from_store(error: store::Error, operation: &str) -> Error {
    match error {
        store::Error::Compacted { requested, oldest } => {
            expired(format!("The provided resource version is too old: {requested} ({oldest})"))
        }
        store::Error::FutureRevision { requested, current } => too_large_version(requested, current),
        store::Error::TooLarge { .. } | store::Error::TooManyOperations { .. } => {
            status::request_entity_too_large(error).into()
        }
        store::Error::Unavailable { reason } => Error::Unavailable { operation: operation.to_owned(), reason },
        other => internal(other),
    }
}
