//! Several API servers of one cluster: one is in use until it answers no more, then the next.
//!
//! # What is tried again
//!
//! - A request that was never sent, since no connection came about: at the next server, whatever it asks.
//! - A request that only reads: at the next server, also if this one said nothing or that it is unavailable (503).
//! - A request that the server turned away for now (429 with `Retry-After`): at the same server, after that time.
//! - A write that was sent and not answered: never, for it may have been done. Its caller is told, and reads to find out.
//!
//! Whatever is under way at a server that is left ends with an error, watches too: who watches begins again where it was, at the next.

use std::error::Error as StdError;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, Either, select};
use http::{Method, Request, Response, StatusCode, Uri, header};
use http_body::{Frame, SizeHint};
use kube::client::Body;
use longshore_core::clock::Clock;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tower::BoxError;

/// How long a server may say nothing before it is asked whether it lives, and then how long it may take to say so.
const SILENCE: Duration = Duration::from_secs(4);

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(3);

/// How often a request that is turned away for now is sent again.
const TURNED_AWAY_MAX: usize = 4;

/// Longest time after which a request that is turned away is sent again.
const LATER_MAX: Duration = Duration::from_secs(5);

/// The API servers of a cluster, as one. Cheap to clone; clones agree on which is in use.
///
/// It is a `tower::Service`, to be the connection of a [`kube::Client`].
#[derive(Clone)]
pub struct Failover {
    shared: Arc<Shared>,
}

struct Shared {
    /// What all servers have in common; the URL is of no meaning.
    config: kube::Config,
    clock: Arc<dyn Clock>,
    servers: RwLock<Servers>,
}

struct Servers {
    all: Vec<Arc<Server>>,
    /// Place of the one in use.
    used: usize,
}

struct Server {
    url: Uri,
    client: kube::Client,
    /// Cancelled when the server is left; then there is another, for when it is used again.
    left: Mutex<CancellationToken>,
}

/// Why there is no answer.
struct Failure {
    error: kube::Error,
    /// Whether the server cannot have seen the request.
    unsent: bool,
}

impl std::fmt::Debug for Failover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Failover").field("urls", &self.urls()).finish_non_exhaustive()
    }
}

impl Failover {
    /// The server that a configuration names, and further ones that know its caller by the same credentials.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn new(mut config: kube::Config, further: &[Uri], clock: Arc<dyn Clock>) -> Result<Self, kube::Error> {
        // What is tried again is decided here.
        config.default_retry = false;
        config.connect_timeout = Some(CONNECT);
        let first = config.cluster_url.clone();
        let servers = RwLock::new(Servers { all: Vec::new(), used: 0 });
        let failover = Self { shared: Arc::new(Shared { config, clock, servers }) };
        for url in std::iter::once(&first).chain(further) {
            failover.add(url)?;
        }
        Ok(failover)
    }

    /// One more server, unless it is known.
    ///
    /// # Errors
    /// The URL cannot be used.
    pub fn add(&self, url: &Uri) -> Result<(), kube::Error> {
        let mut config = self.shared.config.clone();
        config.cluster_url = url.clone();
        let server = Server { url: url.clone(), client: kube::Client::try_from(config)?, left: Mutex::default() };
        let mut servers = self.shared.servers.write().unwrap_or_else(PoisonError::into_inner);
        if servers.all.iter().all(|known| known.url != *url) {
            servers.all.push(Arc::new(server));
        }
        Ok(())
    }

    /// URLs of all servers, in the order in which they came to be known.
    pub fn urls(&self) -> Vec<Uri> {
        let servers = self.shared.servers.read().unwrap_or_else(PoisonError::into_inner);
        servers.all.iter().map(|server| server.url.clone()).collect()
    }
}

impl tower::Service<Request<Body>> for Failover {
    type Response = Response<Cut>;
    type Error = kube::Error;
    type Future = BoxFuture<'static, Result<Response<Cut>, kube::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), kube::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move { shared.call(request).await })
    }
}

impl Shared {
    async fn call(&self, request: Request<Body>) -> Result<Response<Cut>, kube::Error> {
        let (head, mut body) = request.into_parts();
        let reads = matches!(head.method, Method::GET | Method::HEAD);
        let mut untried = self.servers.read().unwrap_or_else(PoisonError::into_inner).all.len();
        let mut turned_away = 0;
        loop {
            let again = body.try_clone();
            let server = self.used();
            let sent = server.send(Request::from_parts(head.clone(), body), &*self.clock).await;
            let Some(kept) = again else { return sent.map_err(|failure| failure.error) };
            body = kept;
            match sent {
                Ok(answer) if answer.status() == StatusCode::TOO_MANY_REQUESTS && turned_away < TURNED_AWAY_MAX => {
                    let Some(later) = later(&answer) else { return Ok(answer) };
                    turned_away += 1;
                    self.clock.sleep(later).await;
                }
                Ok(answer) if answer.status() == StatusCode::SERVICE_UNAVAILABLE && reads && untried > 1 => {
                    untried -= 1;
                    self.leave(&server, &"it is unavailable");
                }
                Ok(answer) => return Ok(answer),
                Err(Failure { error, unsent }) => {
                    untried = untried.saturating_sub(1);
                    self.leave(&server, &error);
                    if untried == 0 || !(unsent || reads) {
                        return Err(error);
                    }
                }
            }
        }
    }

    fn used(&self) -> Arc<Server> {
        let servers = self.servers.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&servers.all[servers.used])
    }

    /// Uses the next server from now on, if this one still is in use and there is another.
    fn leave(&self, server: &Arc<Server>, why: &dyn std::fmt::Display) {
        let mut servers = self.servers.write().unwrap_or_else(PoisonError::into_inner);
        if servers.all.len() < 2 || !Arc::ptr_eq(&servers.all[servers.used], server) {
            return;
        }
        servers.used = (servers.used + 1) % servers.all.len();
        let next = &servers.all[servers.used];
        tracing::warn!(server = %server.url, next = %next.url, %why, "going over to another API server");
        std::mem::take(&mut *server.lock()).cancel();
    }
}

impl Server {
    fn lock(&self) -> std::sync::MutexGuard<'_, CancellationToken> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request and waits for the head of the answer for as long as the server lives and is not left.
    async fn send(&self, request: Request<Body>, clock: &dyn Clock) -> Result<Response<Cut>, Failure> {
        let left = self.lock().clone();
        let silent = |why: &str| Failure { error: kube::Error::Service(why.into()), unsent: false };
        let mut answer = pin!(self.client.send(request));
        loop {
            let watching = async {
                clock.sleep(SILENCE).await;
                self.lives(clock).await
            };
            tokio::select! {
                biased;
                answer = &mut answer => {
                    let answer = answer.map_err(|error| Failure { unsent: is_unsent(&error), error })?;
                    return Ok(answer.map(|body| Cut { body, left: Box::pin(left.cancelled_owned()) }));
                }
                () = left.cancelled() => return Err(silent("the API server was left before it answered")),
                lives = watching => if !lives {
                    return Err(silent("the API server answers nothing"));
                }
            }
        }
    }

    /// Whether the server says anything at all.
    async fn lives(&self, clock: &dyn Clock) -> bool {
        let Ok(request) = Request::get("/livez").body(Body::empty()) else { return true };
        match select(pin!(self.client.send(request)), clock.sleep(SILENCE)).await {
            Either::Left((answer, _)) => answer.is_ok(),
            Either::Right(_) => false,
        }
    }
}

/// When a request that was turned away may come again.
fn later(answer: &Response<Cut>) -> Option<Duration> {
    let seconds = answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(LATER_MAX))
}

/// Whether no connection came about.
fn is_unsent(error: &kube::Error) -> bool {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<hyper_util::client::legacy::Error>() {
            return error.is_connect();
        }
        cause = error.source();
    }
    false
}

/// The body of an answer, which ends with an error when its server is left.
pub struct Cut {
    body: Body,
    left: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl std::fmt::Debug for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cut").finish_non_exhaustive()
    }
}

impl http_body::Body for Cut {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        // What has arrived counts, whatever became of the server.
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(BoxError::from)));
        }
        match self.left.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Some(Err("the API server was left".into()))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
#[path = "failover_tests.rs"]
mod tests;
