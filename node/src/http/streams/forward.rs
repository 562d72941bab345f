//! Ports of a pod as channels of a WebSocket, as kube-rs asks for them: two channels a port, for its bytes and for what
//! went wrong. Each begins with the port's number.

use std::sync::Arc;

use axum::http::StatusCode;
use bytes::{BufMut, Bytes, BytesMut};
use futures::future::join_all;
use longshore_core::connection::Connection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Refusal;
use super::websocket::{Ending, Reader, WebSocket, Writer};
use crate::shared::Shared;

/// Ports of one connection: as many as there are channels.
const PORTS_MAX: usize = 128;

/// Bytes that are read at once.
pub(super) const PIECE: usize = 32 << 10;

/// Messages that wait for a connection or for the client.
pub(super) const WAITING: usize = 16;

/// The pod whose ports are meant.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) shared: Arc<Shared>,
    pub(super) uid: String,
    /// How it is called in messages.
    pub(super) pod: String,
}

impl Target {
    /// Connects to a port, or says why not in upstream's words.
    pub(super) async fn connect(&self, port: u16) -> Result<Box<dyn Connection>, String> {
        let connected = self.shared.runtime.connect(&self.uid, port).await;
        connected
            .map_err(|error| format!("error forwarding port {port} to pod {}, uid {}: {error}", self.pod, self.uid))
    }
}

/// The ports that a request names.
pub(super) fn ports(query: &[(String, String)]) -> Result<Vec<u16>, Refusal> {
    let refuse = |why: String| (StatusCode::BAD_REQUEST, why);
    let texts = query.iter().filter(|(name, _)| name == "port").flat_map(|(_, ports)| ports.split(','));
    let port = |text: &str| match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(refuse(format!("{text:?} is not a port between 1 and 65535"))),
    };
    let ports: Vec<u16> = texts.map(port).collect::<Result<_, _>>()?;
    match ports.len() {
        0 => Err(refuse("query parameter \"port\" is required".to_owned())),
        1..=PORTS_MAX => Ok(ports),
        _ => Err(refuse(format!("at most {PORTS_MAX} ports can be forwarded at once"))),
    }
}

/// Forwards until all connections have ended, the client goes away or the server stops.
pub(super) async fn serve(mut socket: WebSocket, stopping: CancellationToken, target: &Target, ports: &[u16]) {
    let clock = &*target.shared.clock;
    let talk = async {
        let WebSocket { reader, writer } = &mut socket;
        for (index, port) in (0_u8..).zip(ports) {
            for channel in [2 * index, 2 * index + 1] {
                writer.send(on(channel, &port.to_le_bytes())).await.ok()?;
            }
        }
        let (say, said) = mpsc::channel(WAITING);
        let (to_pods, from_client): (Vec<_>, Vec<_>) = ports.iter().map(|_| mpsc::channel(WAITING)).unzip();
        let forwards = (0_u8..)
            .zip(ports)
            .zip(from_client)
            .map(|((index, port), received)| forward(target, *port, 2 * index, received, say.clone()));
        let forwards = join_all(forwards);
        drop(say);
        tokio::select! {
            () = listen(reader, &to_pods) => None,
            ending = async { tokio::join!(forwards, speak(writer, said, target)).1 } => ending,
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

async fn listen(reader: &mut Reader, to_pods: &[mpsc::Sender<Bytes>]) {
    while let Some(message) = reader.next().await {
        let Some(channel) = message.first() else { continue };
        // Nothing is expected on the odd ones.
        if let Some(pod) =
            to_pods.get(usize::from(channel / 2)).filter(|_| channel.is_multiple_of(2) && message.len() > 1)
        {
            // What comes after the connection's end is for nobody.
            let _ = pod.send(message.slice(1..)).await;
        }
    }
}

async fn speak(writer: &mut Writer, mut said: mpsc::Receiver<Bytes>, target: &Target) -> Option<Ending> {
    while let Some(message) = writer.until(&*target.shared.clock, said.recv()).await.ok()? {
        writer.send(message).await.ok()?;
    }
    Some(Ending::Done)
}

/// One port's connection.
async fn forward(
    target: &Target,
    port: u16,
    channel: u8,
    mut received: mpsc::Receiver<Bytes>,
    say: mpsc::Sender<Bytes>,
) {
    let connection = match target.connect(port).await {
        Ok(connection) => connection,
        Err(why) => return drop(say.send(on(channel + 1, why.as_bytes())).await),
    };
    let (mut reader, mut writer) = tokio::io::split(connection);
    let to_pod = async {
        while let Some(bytes) = received.recv().await {
            if writer.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    let from_pod = async {
        let mut buffer = vec![0; PIECE];
        while let Ok(count @ 1..) = reader.read(&mut buffer).await {
            if say.send(on(channel, &buffer[..count])).await.is_err() {
                return;
            }
        }
    };
    // This protocol cannot say that one direction has ended: what the pod has said to its end is all.
    tokio::select! {
        () = from_pod => {}
        () = async { to_pod.await; std::future::pending().await } => {}
    }
}

fn on(channel: u8, bytes: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(1 + bytes.len());
    message.put_u8(channel);
    message.put_slice(bytes);
    message.freeze()
}
