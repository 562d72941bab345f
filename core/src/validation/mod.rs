//! Field errors and the rules that many kinds share.

pub(crate) mod addresses;
mod diff;
mod error;
mod go_value;
mod json_text;
pub mod names;
mod object_meta;
pub(crate) mod paths;
mod report;
pub(crate) mod resources;

pub use crate::go_format::quote as go_quote;
pub use addresses::parse_legacy_net;
pub(crate) use diff::diff;
pub(crate) use error::join_once;
pub use error::{Error, ErrorList, ErrorType, Path, aggregate};
pub(crate) use go_value::{go_value, go_values};
pub(crate) use json_text::read_json;
pub use object_meta::{
    NameRule, validate_annotations, validate_labels, validate_object_meta, validate_object_meta_update,
};
pub(crate) use object_meta::{validate_kube_finalizer, validate_kube_finalizers, validate_template_object_meta};
pub(crate) use report::{FIELD_IMMUTABLE, Report, json, validate_label_selector};

/// Says what is wrong with a name.
pub(crate) type TextCheck = fn(&str) -> Vec<String>;
