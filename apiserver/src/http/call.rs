//! One request over TLS to another part of the cluster, on a connection of its own.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::{HeaderValue, Request, Response, StatusCode, header};
use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use longshore_core::connection::{Connection, Takeover};
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);

/// How long the other part may think before its answer begins.
const ANSWER: Duration = Duration::from_secs(30);

/// Sends a request to the server at `address`, host and port, which must have a certificate for `name`, a DNS name or an
/// address. The answer's body comes as it is read, and dropping it ends the request.
///
/// # Errors
/// What went wrong on the way; what the other part answers, be it an error, is none.
pub(super) async fn call(
    tls: &Arc<rustls::ClientConfig>,
    address: &str,
    name: &str,
    mut request: Request<Body>,
) -> Result<Response<Body>, String> {
    let connect = async {
        let name = ServerName::try_from(name.to_owned()).map_err(|error| error.to_string())?;
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        // What streams is to arrive at once; anything else is sent whole.
        let _ = stream.set_nodelay(true);
        let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await;
        let stream = stream.map_err(|error| error.to_string())?;
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())
    };
    let connected = tokio::time::timeout(CONNECT, connect).await;
    let connected = connected.unwrap_or_else(|_| Err(format!("no connection within {} s", CONNECT.as_secs())));
    let (mut sender, connection) = connected?;
    if let Ok(host) = HeaderValue::from_str(address) {
        request.headers_mut().insert(header::HOST, host);
    }
    // `None` once it has ended: it must not be driven any further.
    let mut connection: Option<Driver> = Some(Box::pin(connection.with_upgrades()));
    let mut answer = std::pin::pin!(sender.send_request(request));
    let answer = async {
        tokio::select! {
            biased;
            answer = &mut answer => return answer,
            () = driven(&mut connection) => {}
        }
        // If the connection ends first, the request learns of it next.
        answer.await
    };
    let answer = match tokio::time::timeout(ANSWER, answer).await {
        Ok(answer) => answer.map_err(|error| error.to_string())?,
        Err(_) => return Err(format!("no answer within {} s", ANSWER.as_secs())),
    };
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(relayed(answer, connection));
    }
    Ok(answer.map(|body| Body::new(Driven { body, connection })))
}

/// An upgrade that was granted: the two connections become one.
fn relayed(mut answer: Response<Incoming>, mut connection: Option<Driver>) -> Response<Body> {
    let upgrade = hyper::upgrade::on(&mut answer);
    let takeover = Takeover::new(async move |client, stopping: CancellationToken| {
        let relay = async {
            let ((), server) = tokio::join!(driven(&mut connection), upgrade);
            if let Ok(server) = server {
                relay(client, TokioIo::new(server)).await;
            }
        };
        stopping.run_until_cancelled(relay).await;
    });
    let (mut head, _) = answer.into_parts();
    head.extensions.insert(takeover);
    Response::from_parts(head, Body::empty())
}

/// Copies both ways until one side says nothing more: both speak WebSocket, and say goodbye before.
async fn relay(client: Box<dyn Connection>, server: impl Connection) {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (tokio::io::split(client), tokio::io::split(server));
    // How it broke, if it did, is of no interest to the other.
    let _ = tokio::select! {
        copied = tokio::io::copy(&mut from_client, &mut to_server) => copied,
        copied = tokio::io::copy(&mut from_server, &mut to_client) => copied,
    };
    let _ = tokio::join!(to_client.shutdown(), to_server.shutdown());
}

type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// Drives a connection to its end; how it ended, the request tells.
async fn driven(connection: &mut Option<Driver>) {
    if let Some(driver) = connection {
        let _ = driver.await;
        *connection = None;
    }
}

/// A body that keeps its connection going while it is read, so that no task of its own is needed.
struct Driven {
    body: Incoming,
    connection: Option<Driver>,
}

impl http_body::Body for Driven {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(connection) = &mut self.connection
            && connection.as_mut().poll(cx).is_ready()
        {
            // How it ended, the body tells.
            self.connection = None;
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
