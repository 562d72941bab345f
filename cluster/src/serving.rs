//! What a scheduler or the controllers serve when they are a process of their own: whether they are well, what they count,
//! and why pods are where they are.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::routing::get;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, Response, StatusCode};
use longshore_apiserver::http::{EXPLAIN_PATH, Form, Server, show_metrics};
use longshore_apiserver::pki::{self, ServerNames, part_tls};
use longshore_core::clock::Clock;
use longshore_scheduler::{AskError, DecisionFilter, SchedulerHandle};
use prometheus_client::registry::Registry;
use serde::Deserialize;

use crate::Error;
use crate::connection::Connection;
use crate::local::failed;
use crate::process::ProcessMetrics;

/// How long the loop that places pods may take for an answer and still be well. It answers between two decisions.
const TURN: Duration = Duration::from_secs(5);

/// A part that can run in a process of its own and be asked there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Places pods.
    Scheduler,
    /// Runs the controllers.
    Controllers,
}

impl Part {
    /// The name by which its server is called, which is upstream's of the program.
    fn server_name(self) -> &'static str {
        match self {
            Self::Scheduler => longshore_apiserver::http::SCHEDULER_SERVER_NAME,
            Self::Controllers => "kube-controller-manager",
        }
    }

    /// The subcommand that makes its certificate.
    fn command(self) -> &'static str {
        match self {
            Self::Scheduler => "scheduler",
            Self::Controllers => "controllers",
        }
    }

    /// As whom it calls the API server.
    pub(crate) fn user(self) -> String {
        format!("system:{}", self.server_name())
    }

    /// By what names it is called, beside these addresses.
    pub(crate) fn names(self, addresses: &[IpAddr]) -> ServerNames {
        let loopback = [IpAddr::from([127, 0, 0, 1]), IpAddr::from(std::net::Ipv6Addr::LOCALHOST)];
        ServerNames {
            addresses: loopback.into_iter().chain(addresses.iter().copied()).collect(),
            dns: vec![self.server_name().to_owned(), "localhost".to_owned()],
        }
    }
}

/// Listens with the certificate of the part's kubeconfig, and serves nothing yet.
pub(crate) async fn bind(
    part: Part,
    listen: SocketAddr,
    connection: &Connection,
    clock: Arc<dyn Clock>,
) -> Result<Server<Router>, Error> {
    let name = part.command();
    let tls = part_tls(&connection.root_ca, &connection.certified, part.server_name(), clock);
    let tls = tls.map_err(|error| match error {
        pki::Error::OtherName { .. } => failed(name)(format!(
            "the kubeconfig's certificate is for calling only, and --listen needs one to serve with: make it with \
             `longshore certificate {name}`"
        )),
        other => failed(name)(other.to_string()),
    })?;
    let server = Server::bind(listen, tls, Router::new()).await.map_err(failed(name))?;
    tracing::info!(address = %server.local_addr(), "listening");
    Ok(server)
}

/// Where others reach what listens at an address: if it is every address of this machine, the one that faces the API server.
pub(crate) fn reachable(listen: SocketAddr, connection: &Connection) -> SocketAddr {
    if !listen.ip().is_unspecified() {
        return listen;
    }
    let own = || {
        let uri = connection.servers.urls().into_iter().next()?;
        let any: IpAddr = listen.ip();
        // Nothing is sent: connecting only has the kernel choose.
        let socket = UdpSocket::bind((any, 0)).ok()?;
        let host = uri.host()?.trim_matches(['[', ']']);
        socket.connect((host, uri.port_u16().unwrap_or(443))).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    SocketAddr::new(own().unwrap_or(listen.ip()), listen.port())
}

/// Whether it is alive and what it counts.
fn common(mut metrics: Registry) -> Router {
    metrics.register_collector(Box::new(ProcessMetrics));
    let metrics = Arc::new(metrics);
    let show = async move || match show_metrics(&metrics) {
        Ok(shown) => shown,
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    };
    Router::new().route("/healthz", get(async || "ok")).route("/livez", get(async || "ok")).route("/metrics", get(show))
}

/// What the controllers serve.
pub(crate) fn controllers(metrics: Registry) -> Router {
    common(metrics).route("/readyz", get(async || "ok"))
}

/// What a scheduler serves.
pub(crate) fn scheduler(metrics: Registry, handle: SchedulerHandle) -> Router {
    let own = Router::new()
        .route("/readyz", get(ready))
        .route(&format!("{EXPLAIN_PATH}/{{namespace}}/{{pod}}"), get(explain))
        .route("/decisions", get(decisions))
        .with_state(handle);
    common(metrics).merge(own)
}

fn text(code: StatusCode, text: String) -> Response<Body> {
    answer(code, "text/plain; charset=utf-8", text)
}

fn answer(code: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut answer = Response::new(body.into());
    *answer.status_mut() = code;
    answer.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    answer
}

/// Whoever waits to lead is ready, and whoever leads is once pods are placed.
async fn ready(State(handle): State<SchedulerHandle>) -> Response<Body> {
    let none = DecisionFilter { limit: Some(0), ..DecisionFilter::default() };
    match tokio::time::timeout(TURN, handle.decisions(none)).await {
        Ok(Ok(_) | Err(AskError::NotRunning)) => text(StatusCode::OK, "ok".to_owned()),
        Ok(Err(error)) => text(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
        Err(_) => text(StatusCode::SERVICE_UNAVAILABLE, "it leads, and does not place pods yet".to_owned()),
    }
}

async fn explain(
    State(handle): State<SchedulerHandle>,
    Path((namespace, pod)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response<Body> {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let Some(form) = Form::accepted(accept) else {
        return text(StatusCode::NOT_ACCEPTABLE, "application/json and text/plain can be had".to_owned());
    };
    match crate::explain::answer(&handle, &namespace, &pod, form).await {
        Ok(body) => answer(StatusCode::OK, form.content_type(), body),
        Err(error) => text(code(&error), error.to_string()),
    }
}

fn code(error: &AskError) -> StatusCode {
    match error {
        AskError::UnknownPod { .. } => StatusCode::NOT_FOUND,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Which decisions are asked for; the same as [`DecisionFilter`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    namespace: Option<String>,
    name: Option<String>,
    #[serde(default)]
    refused: bool,
    limit: Option<usize>,
}

async fn decisions(State(handle): State<SchedulerHandle>, Query(wanted): Query<Wanted>) -> Response<Body> {
    let Wanted { namespace, name, refused, limit } = wanted;
    match handle.decisions(DecisionFilter { namespace, name, refused, limit }).await {
        Ok(decisions) => match serde_json::to_string(&decisions) {
            Ok(list) => answer(StatusCode::OK, "application/json", list),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        },
        Err(error) => text(code(&error), error.to_string()),
    }
}
