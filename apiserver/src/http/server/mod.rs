//! A service on a port: TLS, HTTP/1.1 and HTTP/2, who the client is, and limits that hold whatever clients do.
//!
//! Sockets live in real time, so the limits here do too; everything behind them takes time from the registry's clock.

mod body;
mod connection;
mod guard;
mod io;
mod limits;

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ::http::{Request, Response};
use async_trait::async_trait;
use axum::body::Body;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use longshore_core::client::Error;

pub(crate) use body::BodyError;
pub use limits::Limits;

use super::Identity;
use guard::Guard;

/// How long to wait before accepting again after the system refused, for instance for want of file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Why a server cannot listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Somebody else listens there.
    #[error(
        "cannot listen on {address}: the port is taken; end what uses it (`ss -ltnp 'sport = :{}'` names it) or choose \
         another port", .address.port()
    )]
    Taken {
        /// Where.
        address: SocketAddr,
    },
    /// This user may not listen there.
    #[error("cannot listen on {address}: not allowed; choose a port above 1023 or start as root")]
    NotAllowed {
        /// Where.
        address: SocketAddr,
    },
    /// The machine has no such address.
    #[error("cannot listen on {address}: this machine has no such address; `ip address` lists those that it has")]
    NoSuchAddress {
        /// Where.
        address: SocketAddr,
    },
    /// Anything else.
    #[error("cannot listen on {address}: {source}")]
    Other {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Knows clients by what they show in the header `Authorization: Bearer`.
#[async_trait]
pub trait Authenticator: fmt::Debug + Send + Sync + 'static {
    /// Who shows this token.
    ///
    /// # Errors
    /// 401 and why.
    async fn authenticate(&self, token: &str) -> Result<Identity, Error>;
}

/// A service that can be served: what [`HttpService`](super::HttpService) and a node agent's service are.
pub trait Service:
    tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Service for S where
    S: tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// A service on a port.
///
/// A client that shows a certificate of the cluster's authority is known by it: the request's extensions carry its
/// [`Identity`](super::Identity), as is one that shows a token which the [`Authenticator`] knows. One that shows neither is answered
/// only on `/livez`, `/readyz`, `/healthz` and `/version`, may read what nodes that join need to know of the cluster (the
/// config map `cluster-info`), and gets 401 elsewhere.
pub struct Server<S> {
    listener: TcpListener,
    address: SocketAddr,
    tls: Arc<rustls::ServerConfig>,
    service: S,
    limits: Limits,
    tokens: Option<Arc<dyn Authenticator>>,
}

impl<S> fmt::Debug for Server<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("address", &self.address).field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl<S: Service> Server<S> {
    /// Listens. Port 0 takes a free one, which [`Server::local_addr`] tells. Connections wait until [`Server::serve`].
    ///
    /// # Errors
    /// The port is taken, or the system refuses otherwise.
    pub async fn bind(address: SocketAddr, tls: Arc<rustls::ServerConfig>, service: S) -> Result<Self, BindError> {
        let failed = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::AddrInUse => BindError::Taken { address },
            std::io::ErrorKind::PermissionDenied => BindError::NotAllowed { address },
            std::io::ErrorKind::AddrNotAvailable => BindError::NoSuchAddress { address },
            _ => BindError::Other { address, source },
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, tls, service, limits: Limits::default(), tokens: None })
    }

    /// Puts other limits in the place of the usual ones.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Knows clients that show no certificate by their tokens.
    #[must_use]
    pub fn with_tokens(mut self, tokens: Arc<dyn Authenticator>) -> Self {
        self.tokens = Some(tokens);
        self
    }

    /// Puts another service in the place of the first one, which had to be there before the address was known.
    #[must_use]
    pub fn with_service<T: Service>(self, service: T) -> Server<T> {
        let Self { listener, address, tls, limits, tokens, .. } = self;
        Server { listener, address, tls, service, limits, tokens }
    }

    /// Where the server listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until cancelled: then nothing new is accepted, watches end, requests under way may finish within
    /// [`Limits::drain`], and what is left is cut off. Returns when no task of the server is left.
    pub async fn serve(self, cancel: CancellationToken) {
        let shared = Arc::new(Shared {
            guard: Guard::new(self.service, self.limits.clone(), self.tokens, cancel.clone()),
            acceptor: TlsAcceptor::from(self.tls),
            tasks: TaskTracker::new(),
            stopping: cancel.clone(),
            kill: CancellationToken::new(),
        });
        let connections = Arc::new(Semaphore::new(self.limits.connections));
        while let Some((stream, peer, permit)) = accept(&self.listener, &connections, &cancel).await {
            let task = connection::serve(Arc::clone(&shared), stream, peer);
            let kill = shared.kill.clone();
            shared.tasks.spawn(async move {
                kill.run_until_cancelled(task).await;
                drop(permit);
            });
        }
        drop(self.listener);
        shared.tasks.close();
        if tokio::time::timeout(self.limits.drain, shared.tasks.wait()).await.is_err() {
            tracing::warn!(address = %self.address, tasks = shared.tasks.len(), "cutting off requests that did not end");
            shared.kill.cancel();
            shared.tasks.wait().await;
        }
    }
}

/// What all connections of a server share.
struct Shared<S> {
    guard: Guard<S>,
    acceptor: TlsAcceptor,
    tasks: TaskTracker,
    stopping: CancellationToken,
    kill: CancellationToken,
}

/// The next connection, once there is room for it; `None` when cancelled.
async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
    cancel: &CancellationToken,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let permit = cancel.run_until_cancelled(Arc::clone(connections).acquire_owned()).await?.ok()?;
    loop {
        match cancel.run_until_cancelled(listener.accept()).await? {
            Ok((stream, peer)) => return Some((stream, peer, permit)),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                cancel.run_until_cancelled(tokio::time::sleep(ACCEPT_AGAIN)).await?;
            }
        }
    }
}
