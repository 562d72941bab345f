//! What the cluster has to say about a request, one file for each rule.

mod namespace_lifecycle;

use longshore_core::client::Error;
use longshore_core::kind::{AnyObject, Subresource};

use crate::registry::{Registry, Warnings};

/// What is being done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    /// Through a subresource, or the object's own path.
    Update(Option<Subresource>),
    Delete,
}

/// The rules, in the order in which they are asked.
#[derive(Debug, Default)]
pub(crate) struct Admission {}

impl Admission {
    /// Lets the rules change what is about to be written.
    pub(crate) async fn mutate(
        &self,
        registry: &Registry,
        operation: Operation,
        object: &mut dyn AnyObject,
        _old: Option<&dyn AnyObject>,
        _warnings: &mut Warnings,
    ) -> Result<(), Error> {
        namespace_lifecycle::admit(registry, operation, object).await
    }
}
