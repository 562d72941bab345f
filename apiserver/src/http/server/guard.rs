//! What stands between a connection and the service: who the client is, and whether there is room for the request.

use std::net::SocketAddr;
use std::sync::Arc;

use ::http::{HeaderValue, Method, Request, Response, header};
use axum::body::Body;
use hyper::body::Incoming;
use longshore_core::client::Error;
use longshore_core::connection::Takeover;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tracing::Instrument;

use super::body::{Answer, Bounded};
use super::{Authenticator, Limits, Service};
use crate::http::{Identity, answer};
use crate::status;

/// Paths that everyone may see.
const OPEN: [&str; 4] = ["livez", "readyz", "healthz", "version"];

/// What everyone may read besides: where the cluster is and its authority's certificate, as kubeadm publishes it.
const CLUSTER_INFO: &str = "/api/v1/namespaces/kube-public/configmaps/cluster-info";

/// Last segments of paths whose answers may last.
const LASTING: [&str; 5] = ["log", "exec", "attach", "portforward", "proxy"];

pub(super) struct Guard<S> {
    service: S,
    limits: Limits,
    tokens: Option<Arc<dyn Authenticator>>,
    stopping: CancellationToken,
    requests: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
}

impl<S: Service> Guard<S> {
    pub(super) fn new(
        service: S,
        limits: Limits,
        tokens: Option<Arc<dyn Authenticator>>,
        stopping: CancellationToken,
    ) -> Self {
        let semaphore = |permits: usize| Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)));
        let (requests, streams, bodies) =
            (semaphore(limits.requests), semaphore(limits.streams), semaphore(limits.bodies));
        Self { service, limits, tokens, stopping, requests, streams, bodies }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        identity: Option<Identity>,
        peer: SocketAddr,
    ) -> Response<Body> {
        let user = identity.as_ref().map_or("-", |identity| identity.user.as_str());
        let (method, path) = (request.method(), request.uri().path());
        let span = tracing::info_span!("request", %method, path, user, %peer, code = tracing::field::Empty);
        async move {
            let response = self.answer_as(request, identity).await;
            tracing::Span::current().record("code", response.status().as_u16());
            tracing::debug!("answered");
            response
        }
        .instrument(span)
        .await
    }

    /// Who sends a request on a connection without certificate.
    async fn identify(&self, token: Option<String>, open: bool) -> Result<Identity, Error> {
        match (token, &self.tokens) {
            (Some(token), Some(tokens)) => tokens.authenticate(&token).await,
            _ if open => Ok(Identity::anonymous()),
            _ => Err(status::failure(401, "Unauthorized", "Unauthorized")),
        }
    }

    async fn answer_as(&self, mut request: Request<Incoming>, identity: Option<Identity>) -> Response<Body> {
        let identity = match identity {
            Some(identity) => identity,
            None => match self.identify(bearer(&request), is_open(&request)).await {
                Ok(identity) => identity,
                Err(error) => return answer::error(&error),
            },
        };
        let lasts = is_lasting(&request);
        let room = if lasts { &self.streams } else { &self.requests };
        let Ok(permit) = Arc::clone(room).try_acquire_owned() else { return answer::error(&status::too_many()) };
        request.extensions_mut().insert(identity);
        let (timeout, bodies) = (self.limits.body_timeout, &self.bodies);
        let request = request.map(|body| Body::new(Bounded::new(body, timeout, Arc::clone(bodies))));
        let Ok(mut response) = self.service.clone().oneshot(request).await;
        if let Some(takeover) = response.extensions_mut().remove::<Takeover>() {
            // It counts as long as the connection lasts, not the answer.
            let counted = Takeover::new(async move |connection, stopping| {
                takeover.run(connection, stopping).await;
                drop(permit);
            });
            response.extensions_mut().insert(counted);
            return response;
        }
        let end = lasts.then(|| self.stopping.clone().cancelled_owned());
        if self.stopping.is_cancelled() {
            // Of use to HTTP/1 only, and not allowed in HTTP/2, where hyper takes it out.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response.map(|body| Body::new(Answer::new(body, end, permit)))
    }
}

/// The token that a request shows.
fn bearer<B>(request: &Request<B>) -> Option<String> {
    let (scheme, token) = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}

fn is_open<B>(request: &Request<B>) -> bool {
    let path = request.uri().path();
    if path == CLUSTER_INFO {
        return request.method() == Method::GET && request.uri().query().is_none();
    }
    path.strip_prefix('/').and_then(|path| path.split('/').next()).is_some_and(|first| OPEN.contains(&first))
}

/// Whether a request is meant to last: watches and streams.
fn is_lasting<B>(request: &Request<B>) -> bool {
    let watches = request.method() == Method::GET
        && request.uri().query().unwrap_or_default().split('&').any(|part| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            key == "watch" && !matches!(value, "" | "0" | "false" | "False" | "FALSE" | "f" | "F")
        });
    let last = request.uri().path().rsplit('/').find(|segment| !segment.is_empty()).unwrap_or_default();
    watches || LASTING.contains(&last) || request.uri().path().starts_with("/containerLogs/")
}
