//! The server's side of a WebSocket, whose messages are bytes.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use longshore_core::clock::Clock;
use longshore_core::connection::{Connection, Takeover};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_util::sync::CancellationToken;

use super::Refusal;

/// The longest message; kubectl's have 32 KiB.
const MESSAGE_MAX: usize = 4 << 20;

/// How often a client is written to that is silent: so one that is gone is noticed even while nothing is read from it.
const PING: Duration = Duration::from_secs(10);

/// How long a client may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(10);

/// An upgrade that a client asks for.
#[derive(Debug)]
pub(super) struct Upgrade {
    accept: String,
    /// The subprotocol that was chosen.
    pub(super) protocol: &'static str,
}

impl Upgrade {
    /// The upgrade that is asked for, to the first of these subprotocols that the client speaks.
    ///
    /// No refusal has a colon and a blank: kubectl would read it as YAML, and show nothing of it.
    pub(super) fn asked(headers: &HeaderMap, protocols: &[&'static str]) -> Result<Self, Refusal> {
        let words = |name| {
            let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
            values.flat_map(|value| value.split(',')).map(str::trim).collect::<Vec<_>>()
        };
        let refuse = |why: String| Err((StatusCode::BAD_REQUEST, why));
        let wanted = words(header::UPGRADE);
        if !words(header::CONNECTION).iter().any(|word| word.eq_ignore_ascii_case("upgrade")) || wanted.is_empty() {
            return refuse("missing upgrade headers in request".to_owned());
        }
        if !wanted.iter().any(|word| word.eq_ignore_ascii_case("websocket")) {
            return refuse(format!("only WebSocket is spoken here, not {}", wanted.join(", ")));
        }
        let Some(key) = headers.get(header::SEC_WEBSOCKET_KEY) else {
            return refuse("missing Sec-WebSocket-Key in request".to_owned());
        };
        let offered = words(header::SEC_WEBSOCKET_PROTOCOL);
        match protocols.iter().find(|protocol| offered.contains(protocol)) {
            Some(protocol) => Ok(Self { accept: derive_accept_key(key.as_bytes()), protocol }),
            None => refuse(format!("of the protocols {protocols:?} the client speaks none but {offered:?}")),
        }
    }

    /// The answer that grants it, after which `work` has the connection.
    pub(super) fn grant<F>(
        self,
        work: impl FnOnce(WebSocket, CancellationToken) -> F + Send + 'static,
    ) -> Response<Body>
    where
        F: Future<Output = ()> + Send,
    {
        let takeover = Takeover::new(async move |connection: Box<dyn Connection>, stopping| {
            let config = WebSocketConfig::default()
                .max_message_size(Some(MESSAGE_MAX))
                .max_frame_size(Some(MESSAGE_MAX))
                .write_buffer_size(0);
            let socket = WebSocketStream::from_raw_socket(connection, Role::Server, Some(config)).await;
            let (writer, reader) = socket.split();
            work(WebSocket { reader: Reader(reader), writer: Writer(writer) }, stopping).await;
        });
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(self.protocol));
        if let Ok(accept) = HeaderValue::from_str(&self.accept) {
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        }
        response.extensions_mut().insert(takeover);
        response
    }
}

/// A connection that was upgraded.
pub(super) struct WebSocket {
    pub(super) reader: Reader,
    pub(super) writer: Writer,
}

pub(super) struct Reader(SplitStream<WebSocketStream<Box<dyn Connection>>>);

impl Reader {
    /// The next message; `None` once the client has closed the connection or is gone.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        loop {
            match self.0.next().await?.ok()? {
                Message::Binary(bytes) => return Some(bytes),
                Message::Close(_) => return None,
                _ => {}
            }
        }
    }
}

pub(super) struct Writer(SplitSink<WebSocketStream<Box<dyn Connection>>, Message>);

impl Writer {
    /// Sends a message.
    pub(super) async fn send(&mut self, message: Bytes) -> Result<(), Error> {
        self.0.send(Message::Binary(message)).await
    }

    /// What comes of `next`, while the client is written to now and then; an error if it is gone.
    pub(super) async fn until<T>(&mut self, clock: &dyn Clock, next: impl Future<Output = T>) -> Result<T, Error> {
        let mut next = std::pin::pin!(next);
        loop {
            tokio::select! {
                biased;
                next = &mut next => return Ok(next),
                () = clock.sleep(PING) => self.0.send(Message::Ping(Bytes::new())).await?,
            }
        }
    }
}

/// Why a connection is closed by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// All is done.
    Done,
    /// The client said what makes no sense.
    Malformed,
    /// The server stops.
    Stopping,
}

impl WebSocket {
    /// Says goodbye and waits until the client has, too: what is on its way to it would be lost otherwise.
    pub(super) async fn close(mut self, clock: &dyn Clock, ending: Ending) {
        let code = match ending {
            Ending::Done => CloseCode::Normal,
            Ending::Malformed => CloseCode::Protocol,
            Ending::Stopping => CloseCode::Away,
        };
        let goodbye = async {
            let frame = CloseFrame { code, reason: "".into() };
            if self.writer.0.send(Message::Close(Some(frame))).await.is_ok() {
                while self.reader.next().await.is_some() {}
            }
        };
        tokio::select! {
            () = goodbye => {}
            () = clock.sleep(GOODBYE) => {}
        }
    }
}
