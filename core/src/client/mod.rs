//! The client: the one way in which schedulers, controllers and node agents see the cluster.
//!
//! [`Client`] is object-safe and knows no types; [`Api`] is its typed front. There are two implementations: the local
//! one calls the registry in the same process and hands out shared objects without serialization, the remote one
//! speaks HTTP to Longshore or to any Kubernetes API server. What is written against this module runs on both.
//!
//! # Contract
//!
//! 1. **Objects are shared and immutable.** Whoever wants to change one clones it.
//! 2. **Writes return what was stored**, with its new `resourceVersion`.
//! 3. **Optimistic concurrency.** An update whose object carries a `resourceVersion` that is no longer current fails
//!    with reason `Conflict` and changes nothing.
//! 4. **Watch.** Events of one watch come in the order of their resource versions, each change once. A watch ends with
//!    [`Error::is_expired`] when its start is too old; then list and watch anew.
//! 5. **Unknown outcome.** After [`Error::Unavailable`] from a write the caller must read to find out.
//! 6. **Dropped futures.** Dropping a write's future leaves its outcome unknown.

mod api;

use std::fmt;

use async_trait::async_trait;
use futures::stream::BoxStream;
use kube_core::params::{DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams, WatchParams};
use serde_json::Value;

use crate::api::TokenRequest;
use crate::kind::{AnyObject, DynObject, KindType, Subresource};

pub use api::{Api, List, Watched};
pub use kube_core::params;
pub use kube_core::response::Status;

/// One object's place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target<'a> {
    /// Its kind.
    pub kind: &'static KindType,
    /// Its namespace; empty for kinds that have none.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
}

impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let resource = self.kind.info.resource();
        if self.namespace.is_empty() {
            write!(f, "{resource} {}", self.name)
        } else {
            write!(f, "{resource} {}/{}", self.namespace, self.name)
        }
    }
}

/// A set of objects of one kind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scope<'a> {
    /// Their kind.
    pub kind: &'static KindType,
    /// Their namespace; `None` for all namespaces, and for kinds that have none.
    pub namespace: Option<&'a str>,
}

/// A listing.
#[derive(Debug, Clone)]
pub struct DynList {
    /// The objects.
    pub items: Vec<DynObject>,
    /// The version that the listing reflects: where to start a watch.
    pub resource_version: String,
    /// Where the next page starts, if there is one.
    pub continue_token: Option<String>,
    /// How many objects come after this page, where known.
    pub remaining: Option<i64>,
}

/// What a watch delivers.
#[derive(Debug, Clone)]
pub enum WatchEvent<T> {
    /// The object appeared (or came to match the selectors).
    Added(T),
    /// The object changed.
    Modified(T),
    /// The object went (or no longer matches the selectors); its last state, with the version of the deletion.
    Deleted(T),
    /// Everything up to this version was delivered.
    Bookmark {
        /// The version.
        resource_version: String,
        /// Whether this bookmark closes the initial events that [`WatchParams::send_initial_events`] asked for.
        initial_events_end: bool,
    },
}

/// A running watch. Dropping it ends it.
pub type WatchStream<T = DynObject> = BoxStream<'static, Result<WatchEvent<T>, Error>>;

/// What a delete did.
#[derive(Debug, Clone)]
pub enum Deleted {
    /// The object is gone; its last state.
    Gone(DynObject),
    /// The object is on its way: finalizers or its grace period hold it. Its present state.
    Pending(DynObject),
}

/// The assignment of a pod to a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bind {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// Uid that the pod must have; empty for any.
    pub uid: String,
    /// The node.
    pub node: String,
    /// Annotations to put on the pod with the assignment, such as the devices chosen on the node.
    pub annotations: std::collections::BTreeMap<String, String>,
}

/// What can go wrong.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server refused; nothing was changed.
    #[error("{}", .0.message)]
    Api(Box<Status>),
    /// The server could not be reached or did not finish. After a write the outcome is unknown.
    #[error("{operation}: {reason}")]
    Unavailable {
        /// What was tried, on what.
        operation: String,
        /// What happened.
        reason: String,
    },
    /// The server sent something that is not what was asked for.
    #[error("cannot read the answer to {operation}: {reason}")]
    Decode {
        /// What was tried, on what.
        operation: String,
        /// What is wrong with the answer.
        reason: String,
    },
}

impl Error {
    /// The server's reason, such as `NotFound`; empty if the error is not the server's.
    pub fn reason(&self) -> &str {
        match self {
            Self::Api(status) => &status.reason,
            _ => "",
        }
    }

    /// The server's HTTP code; 0 if the error is not the server's.
    pub fn code(&self) -> u16 {
        match self {
            Self::Api(status) => status.code,
            _ => 0,
        }
    }

    /// There is no such object.
    pub fn is_not_found(&self) -> bool {
        self.reason() == "NotFound"
    }

    /// There is an object of that name.
    pub fn is_already_exists(&self) -> bool {
        self.reason() == "AlreadyExists"
    }

    /// The object changed in between.
    pub fn is_conflict(&self) -> bool {
        self.reason() == "Conflict"
    }

    /// The write is a leader's whose term is over; see [`Fence`](crate::leader::Fence).
    pub fn is_fenced(&self) -> bool {
        self.reason() == crate::leader::Fence::REASON
    }

    /// The object is not valid.
    pub fn is_invalid(&self) -> bool {
        self.reason() == "Invalid"
    }

    /// The resource version asked for is too old: list again.
    pub fn is_expired(&self) -> bool {
        matches!(self.reason(), "Expired" | "Gone") || self.code() == 410
    }

    /// The namespace is being deleted and takes nothing new.
    pub fn is_namespace_terminating(&self) -> bool {
        let Self::Api(status) = self else { return false };
        status.details.iter().flat_map(|details| &details.causes).any(|cause| cause.reason == "NamespaceTerminating")
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Api(Box::new(status))
    }
}

/// Access to the objects of a cluster; see the [module's contract](self).
///
/// Parts hold an `Arc<dyn Client>` and mostly use it through [`Api`].
#[async_trait]
pub trait Client: fmt::Debug + Send + Sync + 'static {
    /// Reads an object.
    ///
    /// # Errors
    /// [`Error::is_not_found`].
    async fn get(&self, target: Target<'_>, params: &GetParams) -> Result<DynObject, Error>;

    /// Lists objects.
    ///
    /// # Errors
    /// [`Error::is_expired`] for a continue token that is too old; a bad selector is a bad request.
    async fn list(&self, scope: Scope<'_>, params: &ListParams) -> Result<DynList, Error>;

    /// Watches objects, from the first change after `resource_version` (`"0"` or empty: from some recent state, which is
    /// sent first as [`WatchEvent::Added`]).
    ///
    /// # Errors
    /// [`Error::is_expired`], here or from the stream.
    async fn watch(&self, scope: Scope<'_>, params: &WatchParams, resource_version: &str)
    -> Result<WatchStream, Error>;

    /// Creates an object in its metadata's namespace.
    ///
    /// # Errors
    /// [`Error::is_already_exists`], [`Error::is_invalid`], or an admission's refusal.
    async fn create(&self, object: Box<dyn AnyObject>, params: &PostParams) -> Result<DynObject, Error>;

    /// Replaces an object or one of its subresources.
    ///
    /// # Errors
    /// [`Error::is_not_found`], [`Error::is_conflict`], [`Error::is_invalid`], or an admission's refusal.
    async fn update(
        &self,
        object: Box<dyn AnyObject>,
        subresource: Option<Subresource>,
        params: &PostParams,
    ) -> Result<DynObject, Error>;

    /// Changes an object or one of its subresources by a patch. The server retries by itself when the object changes in
    /// between, unless the patch names a resource version.
    ///
    /// # Errors
    /// [`Error::is_not_found`] (but an apply patch creates), [`Error::is_conflict`], [`Error::is_invalid`].
    async fn patch(
        &self,
        target: Target<'_>,
        subresource: Option<Subresource>,
        patch: &Patch<Value>,
        params: &PatchParams,
    ) -> Result<DynObject, Error>;

    /// Deletes an object.
    ///
    /// # Errors
    /// [`Error::is_not_found`], [`Error::is_conflict`] if a precondition does not hold.
    async fn delete(&self, target: Target<'_>, params: &DeleteParams) -> Result<Deleted, Error>;

    /// Assigns a pod to a node, in one transaction with the node's ledger where the server has one.
    ///
    /// # Errors
    /// [`Error::is_conflict`] if the pod is bound already or the node no longer has room; [`Error::is_not_found`].
    async fn bind(&self, bind: &Bind) -> Result<(), Error>;

    /// Makes a token for the service account that the request's metadata names.
    ///
    /// # Errors
    /// [`Error::is_not_found`] for the account or what the token is bound to, [`Error::is_conflict`] if that is another than meant,
    /// [`Error::is_invalid`]; 404 too from a server that makes no tokens.
    async fn create_token(&self, request: &TokenRequest) -> Result<TokenRequest, Error>;
}
