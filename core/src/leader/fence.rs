//! Fences: a write of whoever leads names the term in which it was decided, and the server refuses it once that is over.
//!
//! A process that was stopped past the expiry of its lease, and goes on, does not know that another leads. Its clock cannot save it: the
//! write may be decided, or even be on its way, before the clock is looked at. So the server compares the lease in the same commit as
//! the write.
//!
//! A fence goes with the task that writes, not with each call's arguments: whatever stands between the leader and the commit passes
//! it on unseen, and what nobody leads pays nothing. A server that knows no fences, such as upstream's, ignores them.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use kube_core::params::{DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams, WatchParams};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::api::{Lease, TokenRequest};
use crate::client::{Bind, Client, Deleted, DynList, Error, Scope, Target, WatchStream};
use crate::kind::{AnyObject, DynObject, Subresource};
use crate::status;

tokio::task_local! {
    static CURRENT: Arc<Fence>;
}

/// One term of one leader: who led, by which lease, and how often leadership had changed by then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fence {
    /// Namespace of the lease.
    pub namespace: String,
    /// Name of the lease.
    pub name: String,
    /// Who leads in this term.
    pub holder: String,
    /// The lease's `leaseTransitions` in this term.
    pub transitions: i32,
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, name, holder, transitions } = self;
        write!(f, "lease {namespace}/{name} of {holder:?}, transition {transitions}")
    }
}

impl Fence {
    /// The HTTP header of a write that is fenced; its value is [`Fence::to_header`]'s.
    pub const HEADER: &'static str = "longshore-fence";

    /// The reason of a refusal; see [`Error::is_fenced`].
    pub const REASON: &'static str = "Fenced";

    /// Does something whose writes are all refused once the term is over.
    pub fn guard<W: Future>(self: Arc<Self>, work: W) -> impl Future<Output = W::Output> {
        CURRENT.scope(self, work)
    }

    /// The fence of what is being done now, if there is one.
    pub fn current() -> Option<Arc<Self>> {
        CURRENT.try_with(Arc::clone).ok()
    }

    /// As the value of a header: JSON, of visible characters and UTF-8.
    pub fn to_header(&self) -> Vec<u8> {
        // JSON leaves one character of ASCII as it is that no header may hold.
        let text = serde_json::to_string(self).expect("a fence has plain fields");
        text.replace('\u{7f}', "\\u007f").into_bytes()
    }

    /// Reads the value of a header.
    ///
    /// # Errors
    /// 400 if it is none.
    pub fn from_header(value: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(value).map_err(|error| status::bad_request(format!("{}: {error}", Self::HEADER)).into())
    }

    /// Whether the term goes on, as the lease now is.
    ///
    /// # Errors
    /// 409 of reason [`Fence::REASON`], with who leads now.
    pub fn check(&self, lease: Option<&Lease>) -> Result<(), Error> {
        let now = match lease {
            None => "it is gone".to_owned(),
            Some(lease) => {
                let holder = lease.spec.holder_identity.as_deref().unwrap_or_default();
                let transitions = lease.spec.lease_transitions.unwrap_or(0);
                if holder == self.holder && transitions == self.transitions {
                    return Ok(());
                }
                if holder.is_empty() {
                    format!("nobody leads, after transition {transitions}")
                } else {
                    format!("{holder:?} leads, since transition {transitions}")
                }
            }
        };
        let message = format!("the write came after its leader's term ({self}): {now}");
        Err(status::failure(409, Self::REASON, message).into())
    }
}

/// A client whose writes are fenced. It says so by `refused` when one came too late.
#[derive(Debug)]
pub(super) struct Fenced {
    pub(super) client: Arc<dyn Client>,
    pub(super) fence: Arc<Fence>,
    pub(super) refused: CancellationToken,
}

impl Fenced {
    async fn write<T>(&self, write: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let done = Arc::clone(&self.fence).guard(write).await;
        if let Err(error) = &done
            && error.is_fenced()
            && !self.refused.is_cancelled()
        {
            tracing::warn!(lease = self.fence.name, identity = self.fence.holder, %error, "no longer the leader");
            self.refused.cancel();
        }
        done
    }
}

#[async_trait]
impl Client for Fenced {
    async fn get(&self, target: Target<'_>, params: &GetParams) -> Result<DynObject, Error> {
        self.client.get(target, params).await
    }

    async fn list(&self, scope: Scope<'_>, params: &ListParams) -> Result<DynList, Error> {
        self.client.list(scope, params).await
    }

    async fn watch(&self, scope: Scope<'_>, params: &WatchParams, from: &str) -> Result<WatchStream, Error> {
        self.client.watch(scope, params, from).await
    }

    async fn create(&self, object: Box<dyn AnyObject>, params: &PostParams) -> Result<DynObject, Error> {
        self.write(self.client.create(object, params)).await
    }

    async fn update(
        &self,
        object: Box<dyn AnyObject>,
        subresource: Option<Subresource>,
        params: &PostParams,
    ) -> Result<DynObject, Error> {
        self.write(self.client.update(object, subresource, params)).await
    }

    async fn patch(
        &self,
        target: Target<'_>,
        subresource: Option<Subresource>,
        patch: &Patch<Value>,
        params: &PatchParams,
    ) -> Result<DynObject, Error> {
        self.write(self.client.patch(target, subresource, patch, params)).await
    }

    async fn delete(&self, target: Target<'_>, params: &DeleteParams) -> Result<Deleted, Error> {
        self.write(self.client.delete(target, params)).await
    }

    async fn bind(&self, bind: &Bind) -> Result<(), Error> {
        self.write(self.client.bind(bind)).await
    }

    async fn create_token(&self, request: &TokenRequest) -> Result<TokenRequest, Error> {
        self.client.create_token(request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_survives_the_way_through_a_header() {
        let holder = "zürich\u{7f}\n\"a\"".to_owned();
        let fence = Fence { namespace: "kube-system".into(), name: "test".into(), holder, transitions: 3 };
        let value = fence.to_header();
        assert!(value.iter().all(|byte| *byte >= b' ' && *byte != 0x7f));
        assert_eq!(Fence::from_header(&value).unwrap(), fence);
        assert_eq!(Fence::from_header(b"{}").unwrap_err().code(), 400);
    }
}
