//! One connection, from the handshake to its end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::http::{Request, Response};
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use longshore_core::connection::Takeover;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::io::TimedWrites;
use super::{Service, Shared};
use crate::http::Identity;

/// How often a silent HTTP/2 client is asked whether it is still there, and how long it may take to say so.
const PING: Duration = Duration::from_secs(30);

/// Requests at once on one HTTP/2 connection.
const STREAMS: u32 = 250;

/// Runs the tasks of an HTTP/2 connection where the server waits for them.
#[derive(Clone)]
struct Tasks {
    tracker: TaskTracker,
    kill: CancellationToken,
}

impl<F: Future + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, future: F) {
        let kill = self.kill.clone();
        self.tracker.spawn(async move {
            kill.run_until_cancelled(future).await;
        });
    }
}

pub(super) async fn serve<S: Service>(shared: Arc<Shared<S>>, mut stream: TcpStream, peer: SocketAddr) {
    // Answers are written whole; there is nothing to wait for.
    let _ = stream.set_nodelay(true);
    let limits = shared.guard.limits().clone();
    let handshake = async {
        refuse_plain_text(&mut stream).await?;
        shared.acceptor.accept(stream).await
    };
    let handshake = tokio::time::timeout(limits.handshake, handshake);
    let stream = match shared.stopping.run_until_cancelled(handshake).await {
        None => return,
        Some(Err(_)) => return tracing::debug!(%peer, "the TLS handshake took too long"),
        Some(Ok(Err(error))) => return tracing::debug!(%peer, %error, "the TLS handshake failed"),
        Some(Ok(Ok(stream))) => stream,
    };
    let session = stream.get_ref().1;
    let certificate = session.peer_certificates().and_then(|chain| chain.first());
    let identity = certificate.and_then(|certificate| Identity::from_certificate(certificate));
    let is_http2 = session.alpn_protocol() == Some(b"h2");
    let patient = Arc::new(AtomicBool::new(false));
    let io = TokioIo::new(TimedWrites::new(stream, limits.write_timeout, Arc::clone(&patient)));
    let taken_over = Arc::new(Mutex::new(None));
    let service = service_fn(|mut request: Request<Incoming>| {
        let (shared, identity, taken_over) = (Arc::clone(&shared), identity.clone(), Arc::clone(&taken_over));
        async move {
            let upgrade = hyper::upgrade::on(&mut request);
            let answer = shared.guard.answer(request, identity, peer).await;
            if let Some(takeover) = answer.extensions().get::<Takeover>() {
                *taken_over.lock().unwrap_or_else(PoisonError::into_inner) = Some((upgrade, takeover.clone()));
            }
            Ok::<Response<Body>, Infallible>(answer)
        }
    });
    let ended = if is_http2 {
        let tasks = Tasks { tracker: shared.tasks.clone(), kill: shared.kill.clone() };
        let connection = http2::Builder::new(tasks)
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(u32::try_from(limits.head).unwrap_or(u32::MAX))
            .serve_connection(io, service);
        until_end(connection, &shared.stopping, http2::Connection::graceful_shutdown).await
    } else {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head_timeout)
            .max_header_size(limits.head)
            .serve_connection(io, service)
            .with_upgrades();
        until_end(connection, &shared.stopping, http1::UpgradeableConnection::graceful_shutdown).await
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection broke");
    }
    let taken_over = taken_over.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some((upgrade, takeover)) = taken_over
        && let Ok(connection) = upgrade.await
    {
        // Who has stopped a terminal's output may go on tomorrow.
        patient.store(true, Ordering::Relaxed);
        takeover.run(Box::new(TokioIo::new(connection)), shared.stopping.clone()).await;
    }
}

/// Tells a client that speaks HTTP without TLS what is wrong.
async fn refuse_plain_text(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut first = [0];
    let read = stream.peek(&mut first).await?;
    if read == 0 || !first[0].is_ascii_uppercase() {
        return Ok(());
    }
    let answer = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
    stream.write_all(answer).await?;
    stream.shutdown().await?;
    // Closing with something unread would take the answer away from the client.
    while stream.read(&mut [0; 1024]).await? > 0 {}
    Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "the client speaks HTTP without TLS"))
}

/// Drives a connection; on cancellation it may finish what it has begun.
async fn until_end<C>(
    connection: C,
    stopping: &CancellationToken,
    shut_down: impl FnOnce(Pin<&mut C>),
) -> hyper::Result<()>
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut connection = std::pin::pin!(connection);
    match stopping.run_until_cancelled(connection.as_mut()).await {
        Some(ended) => ended,
        None => {
            shut_down(connection.as_mut());
            connection.await
        }
    }
}
