//! The agent's HTTP service: what a Kubernetes API server asks of a node.

pub(crate) mod cri;
mod logs;
mod serve;
mod streams;
mod tail;

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Response, header};
use axum::response::IntoResponse;
use axum::routing::get;
use futures::future::BoxFuture;
use longshore_core::kind::AnyObject;
use longshore_network::dns::Metrics;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use serde_json::json;
use tower::Service;

pub use serve::{serve, server_config, server_config_of};

use crate::shared::Shared;

/// A tower service that answers `/containerLogs/{namespace}/{pod}/{container}`, `/exec/…` and `/attach/…` alike,
/// `/portForward/{namespace}/{pod}`, `/pods`, `/healthz` and `/metrics` (of the names that are served, under CoreDNS' names). Cheap to clone.
///
/// What streams both ways is a WebSocket: the answer that grants one has a
/// [`Takeover`](longshore_core::connection::Takeover) in its extensions, which whoever serves the connection runs.
///
/// It trusts its caller: whoever can call it may run what he likes in every pod of the node. [`serve`] lets only those
/// through whose certificate the given authority signed.
#[derive(Debug, Clone)]
pub struct NodeService {
    router: Router,
}

impl NodeService {
    pub(crate) fn new(shared: Arc<Shared>, dns: Option<Metrics>) -> Self {
        let mut metrics = Registry::default();
        if let Some(dns) = dns {
            dns.register(&mut metrics);
        }
        let metrics = Arc::new(metrics);
        let router = Router::new()
            .route("/healthz", get(async || "ok"))
            .route("/metrics", get(async move || write(&metrics)))
            .route("/pods", get(pods))
            .route("/containerLogs/{namespace}/{pod}/{container}", get(logs::container_logs))
            .route("/exec/{namespace}/{pod}/{container}", get(streams::exec).post(streams::exec))
            .route("/attach/{namespace}/{pod}/{container}", get(streams::attach).post(streams::attach))
            .route("/portForward/{namespace}/{pod}", get(streams::port_forward).post(streams::port_forward))
            .with_state(shared);
        Self { router }
    }
}

impl Service<Request<Body>> for NodeService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut router = self.router.clone();
        Box::pin(async move { router.call(request).await })
    }
}

fn write(metrics: &Registry) -> impl IntoResponse + use<> {
    let mut body = String::new();
    // Writing to a string cannot fail.
    let _ = text::encode(&mut body, metrics);
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], body)
}

/// The pods that are bound to this node, as a list.
async fn pods(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let items: Vec<_> = shared.pods.list().iter().map(|pod| pod.to_value()).collect();
    let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items});
    ([(header::CONTENT_TYPE, "application/json")], list.to_string())
}

#[cfg(test)]
mod tests;
