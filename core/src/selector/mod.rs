//! Label selectors and field selectors: as they stand in objects, as people write them, and compiled for matching.
//!
//! What is parsed, how it prints and what errors say is upstream's (`k8s.io/apimachinery/pkg/labels` and `fields`).
//!
//! ```
//! use std::collections::BTreeMap;
//! use longshore_core::selector::Selector;
//!
//! let selector = Selector::parse("tier notin (db),app=web")?;
//! let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
//! assert!(selector.matches(&labels));
//! assert_eq!(selector.to_string(), "app=web,tier notin (db)");
//! # Ok::<(), longshore_core::selector::Error>(())
//! ```

mod error;
mod field;
mod label;
mod object;
mod parse;

pub use error::Error;
pub use field::{FieldRequirement, FieldSelector, convert_field_label, escape_field_value};
pub use label::{Operator, Requirement, Selector, format_labels, labels_from_selector};
pub use object::{LabelSelector, LabelSelectorOperator, LabelSelectorRequirement};
