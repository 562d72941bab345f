//! As much of gRPC as the device plug-in API needs, over unix sockets: messages behind five bytes of header in HTTP/2 bodies, and a
//! status in the trailers.

use std::convert::Infallible;
use std::path::Path;

use bytes::{Buf, Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::PluginError;

/// Bytes of the longest message that is read, as upstream.
const MESSAGE_MAX: usize = 16 << 20;
/// Connections that are served at once; there are a few plug-ins.
const CONNECTIONS_MAX: usize = 64;
const CONTENT_TYPE: &str = "application/grpc";

/// Messages, or the error at which they end.
pub(crate) type Messages = BoxStream<'static, Result<Vec<u8>, PluginError>>;

/// Calls a method of the server behind a socket.
///
/// # Errors
/// Nobody listens there, or what does is no gRPC server.
pub(crate) async fn call(socket: &Path, method: &str, request: &[u8]) -> Result<Messages, PluginError> {
    let failed =
        |error: &dyn std::fmt::Display| PluginError::new(format_args!("{method} at {}: {error}", socket.display()));
    let stream = UnixStream::connect(socket).await.map_err(|error| failed(&error))?;
    let connected = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, connection) = connected.map_err(|error| failed(&error))?;
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://localhost{method}"))
        .header("content-type", CONTENT_TYPE)
        .header("te", "trailers")
        .body(Full::new(framed(request)))
        .map_err(|error| failed(&error))?;
    let response = sender.send_request(request).await.map_err(|error| failed(&error))?;
    if !response.status().is_success() {
        return Err(failed(&response.status()));
    }
    if let Some(Err(error)) = status(response.headers()) {
        return Err(failed(&error));
    }
    let method = method.to_owned();
    // The connection lives as long as its messages are read.
    let state = Some((Reader::new(response.into_body()), sender, driver));
    let messages = stream::unfold(state, move |state| {
        let method = method.clone();
        async move {
            let mut state = state?;
            match state.0.next().await {
                Ok(Some(message)) => Some((Ok(message), Some(state))),
                Ok(None) => None,
                Err(error) => Some((Err(PluginError::new(format_args!("{method}: {error}"))), None)),
            }
        }
    });
    Ok(messages.boxed())
}

/// Calls a method that answers with one message.
pub(crate) async fn call_once(socket: &Path, method: &str, request: &[u8]) -> Result<Vec<u8>, PluginError> {
    let mut messages = call(socket, method, request).await?;
    messages.next().await.unwrap_or_else(|| Err(PluginError::new(format_args!("{method}: no answer"))))
}

/// Reads messages from a body.
struct Reader {
    body: Incoming,
    buffer: BytesMut,
}

impl Reader {
    fn new(body: Incoming) -> Self {
        Self { body, buffer: BytesMut::new() }
    }

    /// The next message; `None` after a good end.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, PluginError> {
        loop {
            if let Some(message) = unframed(&mut self.buffer)? {
                return Ok(Some(message));
            }
            let Some(frame) = self.body.frame().await else {
                return if self.buffer.is_empty() { Ok(None) } else { Err(PluginError::new("a message breaks off")) };
            };
            match frame.map_err(PluginError::new)?.into_data() {
                Ok(data) => self.buffer.extend_from_slice(&data),
                Err(frame) => match frame.trailers_ref().and_then(status) {
                    Some(Err(error)) => return Err(error),
                    _ => return Ok(None),
                },
            }
        }
    }
}

fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).expect("messages are shorter than 4 GiB");
    let mut frame = Vec::with_capacity(5 + message.len());
    frame.push(0);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(message);
    frame.into()
}

/// Takes the first message out of a buffer if it is there as a whole.
fn unframed(buffer: &mut BytesMut) -> Result<Option<Vec<u8>>, PluginError> {
    let Some(&[compressed, a, b, c, d]) = buffer.get(..5) else { return Ok(None) };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if compressed != 0 {
        return Err(PluginError::new("a message is compressed"));
    }
    if length > MESSAGE_MAX {
        return Err(PluginError::new(format_args!("a message of {length} bytes is too long")));
    }
    if buffer.len() < 5 + length {
        return Ok(None);
    }
    buffer.advance(5);
    Ok(Some(buffer.split_to(length).to_vec()))
}

/// What headers or trailers say of how it went; `None` if nothing.
fn status(headers: &HeaderMap) -> Option<Result<(), PluginError>> {
    let code = headers.get("grpc-status")?;
    if code == "0" {
        return Some(Ok(()));
    }
    let text = headers.get("grpc-message").map(|text| String::from_utf8_lossy(text.as_bytes()).into_owned());
    let code = String::from_utf8_lossy(code.as_bytes()).into_owned();
    Some(Err(PluginError::new(format_args!("{} (gRPC status {code})", text.unwrap_or_default()))))
}

/// What a server does when one of its methods is called.
pub(crate) trait Handler: Clone + Send + Sync + 'static {
    /// Answers a call; `None` if there is no such method.
    fn handle(&self, method: String, request: Vec<u8>) -> BoxFuture<'static, Option<Messages>>;
}

/// Serves until cancelled.
pub(crate) async fn serve(listener: UnixListener, handler: impl Handler, cancel: &CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = cancel.cancelled() => return,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => accepted,
        };
        let Ok((stream, _)) = accepted else { continue };
        let handler = handler.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| answer(handler.clone(), request));
            let builder = auto::Builder::new(TokioExecutor::new()).http2_only();
            if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%error, "a connection of a device plug-in ended");
            }
        });
    }
}

type Answer = Response<StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>>;

async fn answer(handler: impl Handler, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let method = request.uri().path().to_owned();
    let messages = match Reader::new(request.into_body()).next().await {
        Ok(Some(message)) => handler.handle(method.clone(), message).await.ok_or("12"),
        _ => Err("3"),
    };
    let frames = match messages {
        Ok(messages) => frames(messages),
        Err(code) => stream::iter([Ok(Frame::trailers(trailers(code, &format!("no such call: {method}"))))]).boxed(),
    };
    let mut response = Response::new(StreamBody::new(frames));
    response.headers_mut().insert("content-type", HeaderValue::from_static(CONTENT_TYPE));
    Ok(response)
}

fn frames(messages: Messages) -> BoxStream<'static, Result<Frame<Bytes>, Infallible>> {
    let frames = stream::unfold(Some(messages), |state| async move {
        let mut messages = state?;
        Some(match messages.next().await {
            Some(Ok(message)) => (Ok(Frame::data(framed(&message))), Some(messages)),
            Some(Err(error)) => (Ok(Frame::trailers(trailers("2", &error.to_string()))), None),
            None => (Ok(Frame::trailers(trailers("0", ""))), None),
        })
    });
    frames.boxed()
}

fn trailers(code: &'static str, message: &str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(code));
    let printable: String =
        message.chars().map(|c| if (' '..='~').contains(&c) && c != '%' { c } else { '?' }).collect();
    if let Ok(message) = HeaderValue::from_str(&printable) {
        trailers.insert("grpc-message", message);
    }
    trailers
}
