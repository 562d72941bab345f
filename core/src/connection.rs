//! Connections that carry bytes both ways, and HTTP connections that stop speaking HTTP.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::{BoxFuture, FutureExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

/// Bytes both ways, in order.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

type Work = Box<dyn FnOnce(Box<dyn Connection>, CancellationToken) -> BoxFuture<'static, ()> + Send>;

/// What is done with a connection after the answer `101 Switching Protocols`.
///
/// A service that grants an upgrade puts one into the extensions of its answer. Whoever serves the connection sends the
/// answer and then [runs](Self::run) it: so the work belongs to the task that had the connection before, is awaited
/// by whoever awaits that, and ends with it.
#[derive(Clone)]
pub struct Takeover(Arc<Mutex<Option<Work>>>);

impl Takeover {
    /// Work on a connection. It is to end soon after the token that it is given is cancelled: then the server stops.
    pub fn new<F>(work: impl FnOnce(Box<dyn Connection>, CancellationToken) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let work: Work = Box::new(move |connection, stopping| work(connection, stopping).boxed());
        Self(Arc::new(Mutex::new(Some(work))))
    }

    /// Does the work; a clone that comes later does nothing.
    pub async fn run(&self, connection: Box<dyn Connection>, stopping: CancellationToken) {
        let work = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(work) = work {
            work(connection, stopping).await;
        }
    }
}

impl fmt::Debug for Takeover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Takeover").finish_non_exhaustive()
    }
}
