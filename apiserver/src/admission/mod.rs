//! What the cluster has to say about a request, one file for each rule.
//!
//! A rule sees a request after it was decoded and before it is stored: it may change the object, let it pass, or refuse it.
//! The built-in rules are upstream's of the same names, and [`unsupported`]. Who embeds the registry can put rules of its own
//! beside them, before or after, or leave some out:
//!
//! ```
//! use std::sync::Arc;
//!
//! use longshore_apiserver::admission::{AdmissionRule, Operation, Request};
//! use longshore_apiserver::{Options, Registry};
//! use longshore_core::client::Error;
//! use longshore_core::kind::AnyObject;
//!
//! /// Marks what each team creates.
//! #[derive(Debug)]
//! struct Marked;
//!
//! #[async_trait::async_trait]
//! impl AdmissionRule for Marked {
//!     fn name(&self) -> &'static str {
//!         "Marked"
//!     }
//!
//!     async fn mutate(&self, request: &mut Request<'_>, object: &mut dyn AnyObject) -> Result<(), Error> {
//!         if request.operation == Operation::Create {
//!             object.meta_mut().labels.get_or_insert_default().insert("team".into(), "sea".into());
//!         }
//!         Ok(())
//!     }
//! }
//!
//! let mut options = Options::new(1);
//! options.admission.push(Arc::new(Marked));
//! ```

mod default_toleration_seconds;
mod namespace_lifecycle;
mod priority;
mod service_account;
mod storage;
#[cfg(test)]
mod tests;
pub mod unsupported;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use longshore_core::api::Pod;
use longshore_core::client::Error;
use longshore_core::kind::{AnyObject, KindInfo, Subresource};
use longshore_core::status;

use crate::registry::{Registry, Warnings};

pub use default_toleration_seconds::DefaultTolerationSeconds;
pub use namespace_lifecycle::NamespaceLifecycle;
pub use priority::Priority;
pub(crate) use priority::system_classes;
pub use service_account::ServiceAccounts;
pub use storage::{ClaimResize, DefaultStorageClass, StorageProtection};
pub use unsupported::{Unsupported, UnsupportedFields};

/// What is being done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// It is new.
    Create,
    /// It is changed, through a subresource or (`None`) its own path.
    Update(Option<Subresource>),
    /// It is removed.
    Delete,
}

/// What a rule is asked about, besides the object itself.
#[derive(Debug)]
pub struct Request<'a> {
    /// For reading what else there is. Rules read; whoever writes here may wait for himself.
    pub registry: &'a Registry,
    /// What is being done.
    pub operation: Operation,
    /// The object as it is stored; `None` for a new one.
    pub old: Option<&'a dyn AnyObject>,
    /// Whether nothing is going to be stored.
    pub dry_run: bool,
    /// What the client is told besides the result, as `Warning` headers.
    pub warnings: &'a mut Warnings,
}

/// A rule that requests have to pass.
///
/// # Contract
/// A change of an existing object is tried again when the object changed in between, and every attempt asks the rules anew: they
/// must not count calls, nor leave anything behind.
#[async_trait]
pub trait AdmissionRule: fmt::Debug + Send + Sync + 'static {
    /// The rule's name, for logs.
    fn name(&self) -> &'static str;

    /// Changes an object that is about to be created or updated, before it is validated. Not called for deletions.
    ///
    /// # Errors
    /// What the client is told, if the request is refused.
    async fn mutate(&self, _request: &mut Request<'_>, _object: &mut dyn AnyObject) -> Result<(), Error> {
        Ok(())
    }

    /// Looks at an object that is about to be stored, or removed.
    ///
    /// # Errors
    /// What the client is told, if the request is refused.
    async fn validate(&self, _request: &mut Request<'_>, _object: &dyn AnyObject) -> Result<(), Error> {
        Ok(())
    }
}

/// The built-in rules, in the order in which they are asked.
pub fn built_in(unsupported: Unsupported) -> Vec<Arc<dyn AdmissionRule>> {
    vec![
        Arc::new(NamespaceLifecycle),
        Arc::new(ServiceAccounts),
        Arc::new(Priority),
        Arc::new(DefaultTolerationSeconds::default()),
        Arc::new(DefaultStorageClass),
        Arc::new(StorageProtection),
        Arc::new(ClaimResize),
        Arc::new(UnsupportedFields { mode: unsupported }),
    ]
}

/// A refusal of an object by a rule, code 403.
pub fn forbidden(object: &dyn AnyObject, why: impl fmt::Display) -> Error {
    let name = object.meta().name.as_deref().unwrap_or_default();
    status::forbidden(&object.kind_type().info, name, why).into()
}

fn is(info: &KindInfo, group: &str, kind: &str) -> bool {
    info.group == group && info.kind == kind
}

/// The pod that is being created, if it is one.
fn new_pod<'a>(request: &Request<'_>, object: &'a mut dyn AnyObject) -> Option<&'a mut Pod> {
    (request.operation == Operation::Create).then(|| object.as_any_mut().downcast_mut()).flatten()
}
