//! The subresource `pods/explain`: where a pod can go and why not elsewhere, asked from the scheduler.

mod remote;

use std::fmt;

use ::http::{Method, Response};
use async_trait::async_trait;
use axum::body::Body;
use longshore_core::api::Pod;
use longshore_core::client::params::GetParams;
use longshore_core::client::{Error, Target};
use longshore_core::kind::Subresource;

use super::path::Resource;
use super::{Call, Shared, answer, not_allowed};
use crate::status;

pub use remote::{PATH, RemoteSchedulers, SERVER_NAME, SchedulerEndpoint};

/// The way to the scheduler's reasons. The API server knows no scheduler: whoever puts both together implements this, or takes
/// [`RemoteSchedulers`].
#[async_trait]
pub trait Explainer: fmt::Debug + Send + Sync + 'static {
    /// Explains a pod that exists.
    ///
    /// # Errors
    /// Why there is nothing to say about it.
    async fn explain(&self, pod: &Pod, form: Form) -> Result<Body, ExplainError>;
}

/// How an explanation looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A JSON object, for programs.
    Json,
    /// Text for people.
    Text,
}

impl Form {
    /// What a request's `Accept` asks for: JSON unless it says otherwise; `None` if for neither.
    pub fn accepted(accept: &str) -> Option<Self> {
        if accept.is_empty() {
            return Some(Self::Json);
        }
        accept.split(',').find_map(|wanted| match wanted.split(';').next().unwrap_or_default().trim() {
            "text/plain" | "text/*" => Some(Self::Text),
            "application/json" | "application/*" | "*/*" => Some(Self::Json),
            _ => None,
        })
    }

    /// The media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Text => "text/plain; charset=utf-8",
        }
    }
}

/// Why there is no explanation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExplainError {
    /// The scheduler has nothing to do with this pod.
    #[error("{0}")]
    UnknownPod(String),
    /// The scheduler does not answer now.
    #[error("{0}")]
    Unavailable(String),
}

/// Whether the path names an explanation.
pub(super) fn is_asked(route: &Resource) -> bool {
    let named = route.subresource.as_deref() == Some(Subresource::Explain.as_str());
    named && route.kind.info.has(Subresource::Explain)
}

pub(super) async fn serve(shared: &Shared, call: &Call, route: &Resource) -> Result<Response<Body>, Error> {
    if call.method != Method::GET {
        return Err(not_allowed());
    }
    let form = Form::accepted(&call.accept).ok_or_else(|| {
        status::failure(
            406,
            "NotAcceptable",
            "only the following media types are accepted: application/json, text/plain",
        )
    })?;
    let name = route.name.as_deref().unwrap_or_default();
    let namespace = route.namespace.as_deref().unwrap_or_default();
    // That there is no such pod is said in the usual words.
    let object = shared.registry.get(Target { kind: route.kind, namespace, name }, &GetParams::default()).await?;
    let pod: &Pod = object.as_any().downcast_ref().ok_or_else(super::nothing_here)?;
    let Some(explainer) = &shared.explainer else {
        let message = "this API server runs without a scheduler, which alone could explain; `longshore up` runs both in one \
                       process";
        return Err(status::failure(501, "NotImplemented", message));
    };
    let explained = explainer.explain(pod, form).await.map_err(|error| match error {
        ExplainError::UnknownPod(why) => status::failure(404, "NotFound", why),
        ExplainError::Unavailable(why) => status::failure(503, "ServiceUnavailable", why),
    })?;
    Ok(answer::respond(200, form.content_type(), explained))
}
