//! Ports of a pod as kubectl asks for them: SPDY through a WebSocket. For each connection that it forwards, the client opens
//! two streams of the same `requestid`: one for its bytes and one for what went wrong.

use std::collections::BTreeMap;

use bytes::Bytes;
use longshore_core::clock::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::forward::{PIECE, Target, WAITING};
use super::spdy::{self, Decoder, Frame, Headers, Inflater, Reset};
use super::websocket::{Ending, Reader, WebSocket, Writer};

pub(super) const PROTOCOL: &str = "SPDY/3.1+portforward.k8s.io";

/// Streams at once; more are refused.
const STREAMS_MAX: usize = 2048;

/// Forwards until the client goes away or the server stops.
pub(super) async fn serve(mut socket: WebSocket, stopping: CancellationToken, target: &Target) {
    let clock = &*target.shared.clock;
    let (say, said) = mpsc::channel(WAITING);
    let talk = async {
        let WebSocket { reader, writer } = &mut socket;
        let mut tunnel = Tunnel {
            target,
            say,
            headers: Headers::default(),
            inflater: Inflater::default(),
            streams: BTreeMap::new(),
            last: 0,
            forwards: JoinSet::new(),
        };
        tokio::select! {
            ending = tunnel.listen(reader) => ending,
            () = speak(writer, said, clock) => None,
        }
    };
    let ending = tokio::select! {
        ending = talk => ending,
        () = stopping.cancelled() => Some(Ending::Stopping),
    };
    if let Some(ending) = ending {
        socket.close(clock, ending).await;
    }
}

async fn speak(writer: &mut Writer, mut said: mpsc::Receiver<Bytes>, clock: &dyn Clock) {
    while let Ok(Some(frame)) = writer.until(clock, said.recv()).await {
        if writer.send(frame).await.is_err() {
            return;
        }
    }
}

/// One of a client's streams.
#[derive(Debug)]
struct Stream {
    is_error: bool,
    port: u16,
    request: String,
    /// The way to the pod, on a stream for bytes that are not at their end.
    to_pod: Option<mpsc::Sender<Bytes>>,
    /// The other end of it, until both streams are there.
    waiting: Option<mpsc::Receiver<Bytes>>,
    /// The forward that the stream is part of.
    forward: Option<AbortHandle>,
}

struct Tunnel<'a> {
    target: &'a Target,
    say: mpsc::Sender<Bytes>,
    headers: Headers,
    inflater: Inflater,
    streams: BTreeMap<u32, Stream>,
    /// The last stream that was opened.
    last: u32,
    /// They end with the streams that they forward.
    forwards: JoinSet<[u32; 2]>,
}

impl Tunnel<'_> {
    /// Does what the client says; `None` once it is gone.
    async fn listen(&mut self, reader: &mut Reader) -> Option<Ending> {
        let mut decoder = Decoder::default();
        loop {
            let message = tokio::select! {
                message = reader.next() => message?,
                Some(ended) = self.forwards.join_next() => {
                    for id in ended.into_iter().flatten() {
                        self.streams.remove(&id);
                    }
                    continue;
                }
            };
            decoder.push(&message);
            loop {
                let done = match decoder.next() {
                    Ok(None) => break,
                    Ok(Some(frame)) => self.take(frame).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = done {
                    tracing::debug!(%error, pod = self.target.pod, "a client that forwards ports breaks the protocol");
                    return Some(Ending::Malformed);
                }
            }
        }
    }

    async fn take(&mut self, frame: Frame) -> Result<(), spdy::Error> {
        match frame {
            Frame::Open { id, block, fin } => {
                let headers = self.inflater.read(&block)?;
                if let Err(why) = self.open(id, &headers, fin).await {
                    self.say(spdy::reset(id, why)).await;
                }
            }
            Frame::Data { id, bytes, fin } => {
                let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
                if let Some(to_pod) = stream.to_pod.as_ref().filter(|_| !bytes.is_empty()) {
                    // What comes after the connection's end is for nobody.
                    let _ = to_pod.send(bytes).await;
                }
                if fin {
                    stream.to_pod = None;
                }
            }
            Frame::Reset { id } => {
                if let Some(stream) = self.streams.remove(&id) {
                    let request = stream.request;
                    self.streams.retain(|_, other| other.request != request);
                    if let Some(forward) = stream.forward {
                        forward.abort();
                    }
                }
            }
            // Even numbers would be answers.
            Frame::Ping { id } if !id.is_multiple_of(2) => self.say(spdy::ping(id)).await,
            Frame::Headers { block } => drop(self.inflater.read(&block)?),
            Frame::Ping { .. } | Frame::Other => {}
        }
        Ok(())
    }

    async fn say(&self, frame: Bytes) {
        // Without a listener all ends soon.
        let _ = self.say.send(frame).await;
    }

    async fn open(&mut self, id: u32, headers: &[(String, String)], fin: bool) -> Result<(), Reset> {
        if id.is_multiple_of(2) || id <= self.last {
            return Err(Reset::ProtocolError);
        }
        self.last = id;
        if self.streams.len() >= STREAMS_MAX {
            return Err(Reset::Refused);
        }
        let header = |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let is_error = match header("streamtype") {
            Some("error") => true,
            Some("data") => false,
            _ => return Err(Reset::ProtocolError),
        };
        let port = header("port").and_then(|port| port.parse().ok()).filter(|port| *port > 0);
        let (Some(port), Some(request)) = (port, header("requestid")) else { return Err(Reset::ProtocolError) };
        let (to_pod, waiting) = if is_error { (None, None) } else { Some(mpsc::channel(WAITING)).unzip() };
        let (to_pod, request) = (to_pod.filter(|_| !fin), request.to_owned());
        let other = self.streams.iter().find(|(_, other)| {
            other.request == request && other.is_error != is_error && other.port == port && other.forward.is_none()
        });
        let other = other.map(|(id, _)| *id);
        self.streams.insert(id, Stream { is_error, port, request, to_pod, waiting, forward: None });
        let none = self.headers.none();
        self.say(spdy::reply(id, &none)).await;
        if let Some(other) = other {
            let (data, errors) = if is_error { (other, id) } else { (id, other) };
            self.forward(data, errors);
        }
        Ok(())
    }

    /// Begins to forward what two streams are for.
    fn forward(&mut self, data: u32, errors: u32) {
        let Some(stream) = self.streams.get_mut(&data) else { return };
        let Some(received) = stream.waiting.take() else { return };
        let forward = Forward { target: self.target.clone(), port: stream.port, data, errors, say: self.say.clone() };
        let handle = self.forwards.spawn(forward.run(received));
        for id in [data, errors] {
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.forward = Some(handle.clone());
            }
        }
    }
}

/// One connection to a pod.
struct Forward {
    target: Target,
    port: u16,
    data: u32,
    errors: u32,
    say: mpsc::Sender<Bytes>,
}

impl Forward {
    /// Carries bytes until both directions have ended, and says which streams these were.
    async fn run(self, received: mpsc::Receiver<Bytes>) -> [u32; 2] {
        let why = self.carry(received).await.err().unwrap_or_default();
        for frame in [spdy::data(self.errors, why.as_bytes(), true), spdy::data(self.data, &[], true)] {
            // Without a listener all ends soon.
            let _ = self.say.send(frame).await;
        }
        [self.data, self.errors]
    }

    async fn carry(&self, mut received: mpsc::Receiver<Bytes>) -> Result<(), String> {
        let connection = self.target.connect(self.port).await?;
        let (mut reader, mut writer) = tokio::io::split(connection);
        let to_pod = async {
            while let Some(bytes) = received.recv().await {
                if writer.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            // One that is closed already is what is wanted.
            let _ = writer.shutdown().await;
        };
        let from_pod = async {
            let mut buffer = vec![0; PIECE];
            while let Ok(count @ 1..) = reader.read(&mut buffer).await {
                if self.say.send(spdy::data(self.data, &buffer[..count], false)).await.is_err() {
                    return;
                }
            }
        };
        // When the pod has said all, nobody is there to answer to: so also upstream.
        tokio::select! {
            () = from_pod => {}
            () = async { to_pod.await; std::future::pending().await } => {}
        }
        Ok(())
    }
}
