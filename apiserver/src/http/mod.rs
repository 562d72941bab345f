//! The registry over HTTP, as a tower service that needs neither port nor TLS.
//!
//! The service trusts its caller: who serves it on a port authenticates first, as [`Server`] does.

mod answer;
mod authorization;
mod call;
mod discovery;
mod explain;
mod identity;
mod keeper;
mod log;
mod metrics;
mod nodes;
mod openapi;
mod options;
mod path;
mod protobuf;
mod rbac;
mod resource;
mod review;
mod scale;
mod server;
mod streams;
#[cfg(test)]
mod tests;
mod token;
#[cfg(test)]
mod token_tests;
mod watch;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ::http::{HeaderMap, Method, Request, Response};
use axum::body::Body;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body_util::BodyExt;
use longshore_core::client::Error;
use longshore_core::decode::MAX_BODY_BYTES;
use longshore_core::leader::Fence;
use prometheus_client::registry::Registry as MetricsRegistry;

use crate::registry::Registry;
use crate::status;
use path::Route;
use server::BodyError;

pub use explain::{
    ExplainError, Explainer, Form, PATH as EXPLAIN_PATH, RemoteSchedulers, SERVER_NAME as SCHEDULER_SERVER_NAME,
    SchedulerEndpoint,
};
pub use identity::Identity;
pub use keeper::{COMPACT_PATH, SNAPSHOT_PATH, STATUS_PATH, StoreKeeper};
pub use metrics::show_metrics;
pub use nodes::{LocalNodes, NodeConnector, NodeError, RemoteNodes};
pub use server::{Authenticator, BindError, Limits, Server, Service};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The API over HTTP. Cheap to clone; every clone serves the same registry.
///
/// It is a `tower::Service` over any body, so it can be served on a port or be called directly, for instance by
/// `kube::Client::new(service, "default")`.
#[derive(Debug, Clone)]
pub struct HttpService {
    shared: Arc<Shared>,
}

/// What all requests share.
#[derive(Debug, Clone)]
struct Shared {
    registry: Arc<Registry>,
    nodes: Option<Arc<dyn NodeConnector>>,
    explainer: Option<Arc<dyn Explainer>>,
    metrics: Option<Arc<MetricsRegistry>>,
    keeper: Option<Arc<dyn StoreKeeper>>,
    documents: Arc<openapi::Documents>,
}

impl HttpService {
    /// A service over this registry.
    pub fn new(registry: Arc<Registry>) -> Self {
        let documents = Arc::default();
        let shared = Shared { registry, nodes: None, explainer: None, metrics: None, keeper: None, documents };
        Self { shared: Arc::new(shared) }
    }

    /// The same service, which reaches the agents of nodes in this way: for logs, exec, attach and port-forward.
    #[must_use]
    pub fn with_nodes(self, nodes: Arc<dyn NodeConnector>) -> Self {
        self.with(|shared| shared.nodes = Some(nodes))
    }

    /// The same service, which asks the scheduler in this way: for `pods/explain`.
    #[must_use]
    pub fn with_explainer(self, explainer: Arc<dyn Explainer>) -> Self {
        self.with(|shared| shared.explainer = Some(explainer))
    }

    /// The same service, which shows these metrics at `/metrics`.
    #[must_use]
    pub fn with_metrics(self, metrics: Arc<MetricsRegistry>) -> Self {
        self.with(|shared| shared.metrics = Some(metrics))
    }

    /// The same service, which has administrators look after the store at [`STATUS_PATH`], [`SNAPSHOT_PATH`] and [`COMPACT_PATH`].
    #[must_use]
    pub fn with_store_keeper(self, keeper: Arc<dyn StoreKeeper>) -> Self {
        self.with(|shared| shared.keeper = Some(keeper))
    }

    fn with(self, change: impl FnOnce(&mut Shared)) -> Self {
        let mut shared = (*self.shared).clone();
        change(&mut shared);
        Self { shared: Arc::new(shared) }
    }
}

impl<B> tower::Service<Request<B>> for HttpService
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let gzip = answer::takes_gzip(request.headers());
            let response = match handle(&shared, request).await {
                Ok(response) => response,
                Err(error) => answer::error(&error),
            };
            Ok(if gzip { answer::gzip(response).await } else { response })
        })
    }
}

/// A request whose body was read.
struct Call {
    method: Method,
    query: Vec<(String, String)>,
    accept: String,
    content_type: String,
    user_agent: String,
    headers: HeaderMap,
    body: Bytes,
    identity: Identity,
}

impl Call {
    /// The first value of a query parameter; empty if there is none.
    fn param(&self, name: &str) -> &str {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    /// A query parameter that is not empty.
    fn given(&self, name: &str) -> Option<String> {
        Some(self.param(name)).filter(|value| !value.is_empty()).map(str::to_owned)
    }

    fn flag(&self, name: &str) -> bool {
        is_true(self.param(name))
    }
}

/// Go's words for yes.
fn is_true(value: &str) -> bool {
    matches!(value, "1" | "true" | "True" | "TRUE" | "t" | "T")
}

async fn handle<B>(shared: &Shared, request: Request<B>) -> Result<Response<Body>, Error>
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<BoxError>,
{
    let registry = &shared.registry;
    let (head, body) = request.into_parts();
    let query = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&head.uri)
        .map(|query| query.0)
        .map_err(|error| status::bad_request(error.to_string()))?;
    let header = |name: ::http::HeaderName| {
        // A header may be given several times, which means the same as a list.
        let values = head.headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        values.collect::<Vec<_>>().join(",")
    };
    let mut call = Call {
        query,
        accept: header(::http::header::ACCEPT),
        content_type: header(::http::header::CONTENT_TYPE),
        user_agent: header(::http::header::USER_AGENT),
        method: head.method,
        body: Bytes::new(),
        identity: head.extensions.get::<Identity>().cloned().unwrap_or_else(Identity::in_process),
        headers: head.headers,
    };
    let route = path::parse(registry.kinds(), head.uri.path()).ok_or_else(nothing_here)?;
    if let Some(other) = authorization::impersonated(&call)? {
        call.identity = other;
    }
    authorization::check(registry, &call, head.uri.path(), &route)?;
    let reads = call.method == Method::GET || call.method == Method::HEAD;
    if let Route::Resource(_) | Route::Review(_) = route
        && !reads
    {
        call.body = read_body(body).await?;
    }
    match route {
        Route::Resource(route) => {
            let fence =
                call.headers.get(Fence::HEADER).map(|value| Fence::from_header(value.as_bytes())).transpose()?;
            let serve = resource::serve(shared, call, route);
            match fence {
                Some(fence) => Arc::new(fence).guard(serve).await,
                None => serve.await,
            }
        }
        Route::Review(review) if call.method == Method::POST => review.serve(registry, &call).await,
        Route::Store(question) if question.is_asked_by(&call.method) => match &shared.keeper {
            Some(keeper) => question.answer(&**keeper, &call).await,
            None => Err(nothing_here()),
        },
        _ if !reads => Err(not_allowed()),
        Route::Review(_) | Route::Store(_) => Err(not_allowed()),
        Route::Index => Ok(answer::json(200, &discovery::index(registry.kinds()))),
        Route::Live => Ok(answer::text("ok")),
        Route::Ready => registry.ready().await.map(|()| answer::text("ok")),
        Route::Metrics => shared.metrics.as_deref().map_or_else(|| Err(nothing_here()), metrics::show_metrics),
        Route::Version => Ok(answer::json(200, &discovery::version())),
        Route::OpenApiV2 => Ok(openapi::v2(&call.accept)),
        Route::OpenApi(path) => shared.documents.serve(registry.kinds(), &call, path.as_deref()),
        Route::Discovery(what) => Ok(discovery::serve(registry.kinds(), &call.accept, &what)),
    }
}

fn not_allowed() -> Error {
    status::failure(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
}

fn nothing_here() -> Error {
    status::failure(404, "NotFound", "the server could not find the requested resource")
}

/// How much of a body that is too large is read and thrown away, so that the client gets to read the answer.
const MAX_THROWN_AWAY: usize = 16 << 20;

async fn read_body<B>(body: B) -> Result<Bytes, Error>
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<BoxError>,
{
    let mut body = std::pin::pin!(body);
    let mut read = BytesMut::new();
    let mut total = 0;
    while let Some(frame) = body.as_mut().frame().await {
        let frame = frame.map_err(|error| refuse_body(&*error.into()))?;
        let Ok(mut data) = frame.into_data() else { continue };
        total += data.remaining();
        if total > MAX_THROWN_AWAY {
            break;
        }
        if total <= MAX_BODY_BYTES {
            read.put(&mut data);
        } else {
            read = BytesMut::new();
        }
    }
    if total > MAX_BODY_BYTES {
        let message = format!("Request entity is too large: limit is {MAX_BODY_BYTES}");
        return Err(status::failure(413, "RequestEntityTooLarge", message));
    }
    Ok(read.freeze())
}

/// What is said of a body that did not arrive whole.
fn refuse_body(error: &(dyn std::error::Error + 'static)) -> Error {
    let mut cause = Some(error);
    while let Some(error) = cause {
        match error.downcast_ref() {
            Some(BodyError::TimedOut) => {
                return status::failure(408, "Timeout", "Timeout: the request's body took too long to arrive");
            }
            Some(BodyError::Overloaded) => return status::too_many(),
            _ => cause = error.source(),
        }
    }
    status::bad_request(format!("unable to read the request's body: {error}"))
}
