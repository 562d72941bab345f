//! Schedulers in processes of their own, found by the leases by which they lead.

use std::net::SocketAddr;
use std::sync::Arc;

use ::http::{Request, StatusCode, header};
use async_trait::async_trait;
use axum::body::Body;
use http_body_util::{BodyExt, Limited};
use longshore_core::api::{Lease, Pod};
use longshore_core::client::params::ListParams;
use longshore_core::client::{Api, Client};
use serde::{Deserialize, Serialize};

use super::{ExplainError, Explainer, Form};
use crate::http::call::call;

/// The name that a scheduler's certificate must have. The address is not trusted: whoever may write leases may write any, but
/// only the cluster's authority gives out this name.
pub const SERVER_NAME: &str = "kube-scheduler";

/// Where a scheduler explains pods: `/explain/{namespace}/{pod}`.
pub const PATH: &str = "/explain";

/// The scheduler of pods that name none.
const DEFAULT_SCHEDULER: &str = "default-scheduler";

/// How much of a scheduler's error is passed on.
const MAX_ERROR: usize = 50_000;

/// Where a scheduler can be asked. While it leads, it stands as an annotation on the lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchedulerEndpoint {
    /// Who it is, as in the lease's `holderIdentity`: another leader may have left the annotation.
    pub identity: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// The names of its profiles: of which pods it can tell.
    pub profiles: Vec<String>,
}

impl SchedulerEndpoint {
    /// The annotation's key.
    pub const ANNOTATION: &str = "longshore.dev/scheduler";

    /// The annotation's value.
    pub fn annotation(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Where the holder of this lease can be asked, if it says.
    pub fn of(lease: &Lease) -> Option<Self> {
        let text = lease.metadata.annotations.as_ref()?.get(Self::ANNOTATION)?;
        let endpoint: Self = serde_json::from_str(text).ok()?;
        (lease.spec.holder_identity.as_deref() == Some(&*endpoint.identity)).then_some(endpoint)
    }
}

/// Asks the scheduler that is responsible for a pod, over HTTPS.
#[derive(Debug, Clone)]
pub struct RemoteSchedulers {
    leases: Api<Lease>,
    tls: Arc<rustls::ClientConfig>,
}

impl RemoteSchedulers {
    /// Leases are looked up through `client`; `tls` is [`Authority::client_tls`](crate::pki::Authority::client_tls) with a
    /// certificate of the API server's.
    pub fn new(client: Arc<dyn Client>, tls: Arc<rustls::ClientConfig>) -> Self {
        Self { leases: Api::all(client), tls }
    }

    /// The leader among the schedulers of this name.
    async fn find(&self, scheduler: &str) -> Result<SchedulerEndpoint, ExplainError> {
        let leases = self.leases.list(&ListParams::default()).await;
        let leases = leases.map_err(|error| ExplainError::Unavailable(error.to_string()))?;
        let mut endpoints = leases.items.iter().filter_map(|lease| SchedulerEndpoint::of(lease));
        let found = endpoints.find(|endpoint| endpoint.profiles.iter().any(|name| name == scheduler));
        found.ok_or_else(|| {
            ExplainError::Unavailable(format!(
                "no scheduler of the name {scheduler:?} leads that could be asked; `longshore scheduler --listen \
                 ADDRESS:PORT` runs one that can"
            ))
        })
    }
}

#[async_trait]
impl Explainer for RemoteSchedulers {
    async fn explain(&self, pod: &Pod, form: Form) -> Result<Body, ExplainError> {
        let scheduler = &pod.spec.scheduler_name;
        let scheduler = if scheduler.is_empty() { DEFAULT_SCHEDULER } else { scheduler };
        let endpoint = self.find(scheduler).await?;
        let failed = |reason: String| {
            let (who, address) = (&endpoint.identity, endpoint.address);
            ExplainError::Unavailable(format!("cannot ask the scheduler {who} at {address}: {reason}"))
        };
        let meta = &pod.metadata;
        let (namespace, name) =
            (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
        let request = Request::get(format!("{PATH}/{namespace}/{name}")).header(header::ACCEPT, form.content_type());
        let request = request.body(Body::empty()).map_err(|error| failed(error.to_string()))?;
        let answer = call(&self.tls, &endpoint.address.to_string(), SERVER_NAME, request).await.map_err(&failed)?;
        let (head, body) = answer.into_parts();
        if head.status == StatusCode::OK {
            return Ok(body);
        }
        let text = match Limited::new(body, MAX_ERROR).collect().await {
            Ok(body) => String::from_utf8_lossy(&body.to_bytes()).trim_end().to_owned(),
            Err(error) => error.to_string(),
        };
        Err(match head.status {
            StatusCode::NOT_FOUND => ExplainError::UnknownPod(text),
            StatusCode::SERVICE_UNAVAILABLE => ExplainError::Unavailable(text),
            code => failed(format!("{code}: {text}")),
        })
    }
}

#[cfg(test)]
#[path = "remote_tests.rs"]
mod tests;
