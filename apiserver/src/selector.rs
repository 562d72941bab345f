//! Label and field selectors of list and watch requests.

use longshore_core::client::Error;
use longshore_core::kind::{AnyObject, KindType};
use longshore_core::selector::{FieldSelector, Selector};

use crate::status;

/// What a listing or a watch wants to see.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Filter {
    labels: Selector,
    fields: FieldSelector,
}

impl Filter {
    /// Reads both selectors of a request for `kind`.
    ///
    /// # Errors
    /// A bad request that says what is wrong.
    pub(crate) fn parse(kind: &KindType, labels: Option<&str>, fields: Option<&str>) -> Result<Self, Error> {
        let wrong = |error: longshore_core::selector::Error| status::bad_request(error.to_string());
        Ok(Self {
            labels: Selector::parse(labels.unwrap_or_default()).map_err(wrong)?,
            fields: FieldSelector::parse_for(kind, fields.unwrap_or_default()).map_err(wrong)?,
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub(crate) fn matches(&self, object: &dyn AnyObject) -> bool {
        self.labels.matches_optional(object.meta().labels.as_ref()) && self.fields.matches(object)
    }
}
