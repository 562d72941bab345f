//! Field errors and the rules that many kinds share.

mod error;
pub mod names;
mod object_meta;
mod report;

pub use crate::go_format::quote as go_quote;
pub(crate) use error::join_once;
pub use error::{Error, ErrorList, ErrorType, Path, aggregate};
pub(crate) use object_meta::validate_kube_finalizers;
pub use object_meta::{
    NameRule, validate_annotations, validate_labels, validate_object_meta, validate_object_meta_update,
};
pub(crate) use report::{FIELD_IMMUTABLE, Report, json};
