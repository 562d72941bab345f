//! The patches of the API other than server-side apply: JSON patch (RFC 6902), JSON merge patch (RFC 7386) and
//! strategic merge patch, with the results and the words of upstream.
//!
//! All of them work on JSON values as they stand, before defaults and typed decoding. [`apply_json_patch`] and
//! [`apply_merge_patch`] know nothing of types; [`apply_strategic`] reads from the [schema](crate::schema) which lists
//! are merged, and by which key.

mod json_patch;
mod merge_patch;
mod strategic;
#[cfg(test)]
mod tests;
mod yaml;

use serde_json::Value;

use crate::go_format;
pub use json_patch::{JsonPatch, MAX_OPERATIONS};
pub use merge_patch::apply_merge_patch;
pub use strategic::{apply_strategic, create_three_way, create_two_way};

/// Why a patch could not be read or applied. The text is upstream's; [`PatchError::status_code`] is the answer's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch is not well-formed; the sender must change it.
    #[error("{0}")]
    Malformed(String),
    /// The patch is well-formed but does not fit this object.
    #[error("{0}")]
    NotApplicable(String),
    /// A `test` operation of a JSON patch found another value.
    #[error("{0}")]
    TestFailed(String),
    /// A strategic merge patch goes against the schema, or lacks what merging needs.
    #[error("{0}")]
    Unmergeable(String),
    /// Two changes of the same field disagree (three-way diff that may not overwrite).
    #[error("{0}")]
    Conflict(String),
}

impl PatchError {
    /// The HTTP status that upstream's API server answers with.
    pub fn status_code(&self) -> u16 {
        match self {
            Self::Malformed(_) => 400,
            Self::Conflict(_) => 409,
            Self::NotApplicable(_) | Self::TestFailed(_) => 422,
            Self::Unmergeable(_) => 500,
        }
    }

    fn malformed(text: impl Into<String>) -> Self {
        Self::Malformed(text.into())
    }

    fn unmergeable(text: impl Into<String>) -> Self {
        Self::Unmergeable(text.into())
    }
}

/// Applies a JSON patch (a list of operations) to `document`.
///
/// # Errors
/// [`PatchError::Malformed`] if `patch` is not a list of objects, [`PatchError::TestFailed`] if a `test` operation
/// fails, else [`PatchError::NotApplicable`]. The document is lost on an error: keep a copy if it is still needed.
pub fn apply_json_patch(document: Value, patch: &Value) -> Result<Value, PatchError> {
    JsonPatch::decode(patch)?.apply(document)
}
