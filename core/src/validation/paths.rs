//! What paths in objects may look like.

use super::{ErrorList, Path, Report};

/// Refuses a path with an element `..`.
pub(crate) fn validate_no_backsteps(path: &str, at: &Path, errors: &mut ErrorList) {
    if has_backsteps(path) {
        errors.invalid(at, path, "must not contain '..'");
    }
}

/// Whether an element of a path is `..`.
pub(crate) fn has_backsteps(path: &str) -> bool {
    path.split('/').any(|element| element == "..")
}

/// Demands a relative path without an element `..`.
pub(crate) fn validate_local_descending_path(path: &str, at: &Path, errors: &mut ErrorList) {
    if path.starts_with('/') {
        errors.invalid(at, path, "must be a relative path");
    }
    validate_no_backsteps(path, at, errors);
}

/// Demands a relative path without an element `..` and not beginning with `..`: such names are used for updates.
pub(crate) fn validate_local_non_reserved_path(path: &str, at: &Path, errors: &mut ErrorList) {
    validate_local_descending_path(path, at, errors);
    if path.starts_with("..") && !path.starts_with("../") {
        errors.invalid(at, path, "must not start with '..'");
    }
}
