//! Selectors of owners and services.

use std::collections::BTreeMap;

use longshore_core::selector::{LabelSelector, Selector};

/// Labels as they stand in an object's metadata.
type Labels = Option<BTreeMap<String, String>>;

/// The selector of a controller object, compiled. One that is missing or cannot be read selects nothing, and so does one
/// without requirements: validation refuses it, and to own everything would be the worst thing to make of it.
pub(crate) fn compiled(selector: Option<&LabelSelector>) -> Selector {
    let compiled = Selector::from_object(selector).unwrap_or_else(|_| Selector::nothing());
    if compiled.is_empty() { Selector::nothing() } else { compiled }
}

/// Whether the labels have all of these values.
pub(crate) fn selects_all(wanted: &BTreeMap<String, String>, labels: &Labels) -> bool {
    wanted.iter().all(|(key, value)| labels.as_ref().and_then(|labels| labels.get(key)) == Some(value))
}
