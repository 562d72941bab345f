//! A process' streams as channels of a WebSocket: `v4.channel.k8s.io`, and `v5.channel.k8s.io`, which can also close one.
//!
//! A message is a channel's number and bytes for it. At the end the error channel has a Status.

use bytes::{BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use longshore_core::clock::Clock;
use longshore_core::runtime::{Error, Input, Output, Session};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::websocket::{Ending, Reader, WebSocket, Writer};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// Closes the channel whose number it carries.
const CLOSE: u8 = 255;

pub(super) const V5: &str = "v5.channel.k8s.io";
pub(super) const V4: &str = "v4.channel.k8s.io";

/// What a client wants of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) tty: bool,
    /// Whether the process is the client's own, so that its exit code is of interest.
    pub(super) own: bool,
}

/// A terminal's size, as it is sent.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Size {
    width: u16,
    height: u16,
}

/// Carries a process' streams until it ends, the client goes away or the server stops.
pub(super) async fn serve(
    mut socket: WebSocket,
    stopping: CancellationToken,
    clock: &dyn Clock,
    wanted: Wanted,
    begin: impl Future<Output = Result<Session, Error>>,
) {
    let talk = async {
        let WebSocket { reader, writer } = &mut socket;
        let session = match writer.until(clock, begin).await {
            Ok(Ok(session)) => session,
            Ok(Err(error)) => return writer.send(error_of(&error, wanted)).await.ok().map(|()| Ending::Done),
            Err(_) => return None,
        };
        let Session { input, mut output } = session;
        tokio::select! {
            () = listen(reader, input, wanted) => None,
            ending = speak(writer, &mut output, clock, wanted) => ending,
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

type BoxInput = std::pin::Pin<Box<dyn futures::Sink<Input, Error = Error> + Send>>;

/// Passes on what the client sends, until it goes away.
async fn listen(reader: &mut Reader, mut input: Option<BoxInput>, wanted: Wanted) {
    while let Some(message) = reader.next().await {
        let Some((channel, bytes)) = message.split_first() else { continue };
        let next = match *channel {
            STDIN if wanted.stdin && !bytes.is_empty() => Input::Data(message.slice(1..)),
            RESIZE => match serde_json::from_slice(bytes) {
                Ok(Size { width, height }) => Input::Resize { width, height },
                Err(_) => continue,
            },
            // Dropping it would be no less; but what was sent before must arrive.
            CLOSE if *bytes == [STDIN] => {
                if let Some(mut input) = input.take() {
                    let _ = input.close().await;
                }
                continue;
            }
            _ => continue,
        };
        if let Some(sink) = &mut input
            && sink.send(next).await.is_err()
        {
            // The process reads no more, but may speak.
            input = None;
        }
    }
}

/// Passes on what the process says, and how it ends; `None` if the client is gone.
async fn speak(
    writer: &mut Writer,
    output: &mut (impl futures::Stream<Item = Result<Output, Error>> + Unpin),
    clock: &dyn Clock,
    wanted: Wanted,
) -> Option<Ending> {
    loop {
        let (message, is_last) = match writer.until(clock, output.next()).await.ok()? {
            Some(Ok(Output::Stdout(bytes))) if wanted.stdout => (on(STDOUT, &bytes), false),
            Some(Ok(Output::Stderr(bytes))) if wanted.stderr => (on(STDERR, &bytes), false),
            Some(Ok(Output::Stdout(_) | Output::Stderr(_))) => continue,
            Some(Ok(Output::Exit(code))) if wanted.own && code != 0 => (failure_of(code), true),
            Some(Ok(Output::Exit(_))) | None => (status(&json!({ "metadata": {}, "status": "Success" })), true),
            Some(Err(error)) => (error_of(&error, wanted), true),
        };
        writer.send(message).await.ok()?;
        if is_last {
            return Some(Ending::Done);
        }
    }
}

fn on(channel: u8, bytes: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(1 + bytes.len());
    message.put_u8(channel);
    message.put_slice(bytes);
    message.freeze()
}

fn status(status: &Value) -> Bytes {
    on(ERROR, status.to_string().as_bytes())
}

fn failure_of(code: i32) -> Bytes {
    status(&json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("command terminated with non-zero exit code: exit status {code}"),
        "reason": "NonZeroExitCode",
        "details": { "causes": [{ "reason": "ExitCode", "message": code.to_string() }] },
    }))
}

fn error_of(error: &Error, wanted: Wanted) -> Bytes {
    let why = match error {
        Error::Invalid { reason } => reason.clone(),
        other => other.to_string(),
    };
    let what = if wanted.own { "executing command in" } else { "attaching to" };
    let why = format!("error {what} container: {why}");
    status(&json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("Internal error occurred: {why}"),
        "reason": "InternalError",
        "details": { "causes": [{ "message": why }] },
        "code": 500,
    }))
}
