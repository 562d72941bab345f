//! What processes say and are told: the engine's frames, and attaching to a container's own process.

use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bollard::query_parameters::{ResizeContainerTTYOptionsBuilder, ResizeExecOptionsBuilder};
use bytes::Bytes;
use futures::stream::{self, StreamExt};
use futures::{Sink, sink};
use longshore_core::runtime::{ContainerRef, ContainerState, Error, Input, Output, Session};
use nix::sys::socket::{Shutdown, shutdown};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use crate::engine::{Engine, failed};
use crate::hijack::{Refused, hijack};
use crate::list::wrong_state;

/// The most that is read at once.
const PIECE_MAX: usize = 32 << 10;

/// How many pieces may wait for one who does not listen: 1 MiB.
const PIECES_WAITING: usize = 32;

/// What a process says.
#[derive(Debug)]
pub(crate) struct Said {
    reader: BufReader<OwnedReadHalf>,
    /// Bytes left of a frame, and whether they are of standard error; a terminal has no frames.
    frame: Option<(usize, bool)>,
}

impl Said {
    pub(crate) fn new(reader: BufReader<OwnedReadHalf>, tty: bool) -> Self {
        Self { reader, frame: (!tty).then_some((0, false)) }
    }

    /// The next piece; `None` at the end.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Output>> {
        while let Some((0, _)) = self.frame {
            // The stream's number, three zeros, and the length.
            let mut header = [0; 8];
            match self.reader.read_exact(&mut header).await {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                read => read?,
            };
            let [stream, _, _, _, length @ ..] = header;
            self.frame = Some((u32::from_be_bytes(length) as usize, stream == 2));
        }
        let (left, stderr) = self.frame.unwrap_or((PIECE_MAX, false));
        let mut piece = vec![0; left.min(PIECE_MAX)];
        let count = self.reader.read(&mut piece).await?;
        if count == 0 {
            return Ok(None);
        }
        piece.truncate(count);
        if let Some((left, _)) = &mut self.frame {
            *left -= count;
        }
        let piece = Bytes::from(piece);
        Ok(Some(if stderr { Output::Stderr(piece) } else { Output::Stdout(piece) }))
    }

    /// Ends the connection, both ways: a container waits for the engine, and the engine for those who do not listen.
    fn cut(&self) {
        let socket: &UnixStream = self.reader.get_ref().as_ref();
        // One that was closed already needs no more.
        let _ = shutdown(socket.as_raw_fd(), Shutdown::Both);
    }

    /// All that is left, as text.
    pub(crate) async fn rest(&mut self) -> String {
        let mut text = Vec::new();
        while let Ok(Some(Output::Stdout(piece) | Output::Stderr(piece))) = self.next().await {
            text.extend_from_slice(&piece);
        }
        String::from_utf8_lossy(&text).trim().to_owned()
    }
}

/// Whose terminal is resized.
#[derive(Debug, Clone)]
pub(crate) enum Terminal {
    None,
    Container(String),
    Exec(String),
}

/// What a process is told.
struct Told {
    /// `None` where no input is wanted.
    writer: Option<OwnedWriteHalf>,
    /// Whether the end of input is told to the process, too.
    ends: bool,
    terminal: Terminal,
    engine: Arc<Engine>,
}

impl Told {
    async fn tell(&mut self, input: Input) -> Result<(), Error> {
        match (input, &mut self.writer) {
            (Input::Data(bytes), Some(writer)) => {
                writer.write_all(&bytes).await.map_err(failed("write to a process"))?;
            }
            (Input::Data(_), None) => {}
            (Input::Resize { width, height }, _) => {
                let (w, h) = (width.into(), height.into());
                let client = &self.engine.client;
                let resized = match &self.terminal {
                    Terminal::None => Ok(()),
                    Terminal::Container(id) => {
                        let options = ResizeContainerTTYOptionsBuilder::default().h(h).w(w).build();
                        client.resize_container_tty(id, options).await
                    }
                    Terminal::Exec(id) => {
                        client.resize_exec(id, ResizeExecOptionsBuilder::default().h(h).w(w).build()).await
                    }
                };
                resized.map_err(|error| self.engine.failed("resize a terminal", &error))?;
            }
        }
        Ok(())
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        // Dropped, the half tells the engine of its end, and then the engine ends the output, too, unless the end is for the
        // process. Forgotten, it stays for as long as the other half.
        if let Some(writer) = self.writer.take().filter(|_| !self.ends) {
            writer.forget();
        }
    }
}

pub(crate) type BoxSink = Pin<Box<dyn Sink<Input, Error = Error> + Send>>;

/// Input for a process. `ends` says whether its end is for the process.
pub(crate) fn input(engine: &Arc<Engine>, writer: Option<OwnedWriteHalf>, ends: bool, terminal: Terminal) -> BoxSink {
    let told = Told { writer, ends, terminal, engine: engine.clone() };
    let sink = sink::unfold(told, |mut told, input| async move {
        told.tell(input).await?;
        Ok(told)
    });
    Box::pin(Ending(Some(Box::pin(sink))))
}

/// Input whose end is the drop of what it is written to: closing it drops that.
struct Ending(Option<BoxSink>);

impl Ending {
    fn inner(&mut self) -> Result<Pin<&mut (dyn Sink<Input, Error = Error> + Send + 'static)>, Error> {
        let closed = || failed("write to a process")("its input was closed");
        self.0.as_mut().map(Pin::as_mut).ok_or_else(closed)
    }
}

impl Sink<Input> for Ending {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner()?.poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, input: Input) -> Result<(), Error> {
        self.inner()?.start_send(input)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner()?.poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let Some(inner) = &mut self.0 else { return Poll::Ready(Ok(())) };
        let closed = ready!(inner.as_mut().poll_close(cx));
        self.0 = None;
        Poll::Ready(closed)
    }
}

/// Connects to a container's own process.
pub(crate) async fn attach(engine: &Arc<Engine>, name: &ContainerRef, stdin: bool) -> Result<Session, Error> {
    let found = engine.running("attach to", name).await?;
    let (id, stdin) = (found.container.id, stdin && found.stdin);
    let wanted = format!("stream=1&stdout=1&stderr=1&stdin={}", u8::from(stdin));
    let path = engine.path(&format!("/containers/{id}/attach?{wanted}"));
    let (reader, writer) = hijack(&engine.socket, &path, "").await.map_err(|refused| match refused {
        Refused::Status(404, _) => Error::NotFound { what: format!("container {name}") },
        Refused::Status(409, state) => {
            Error::WrongState { operation: "attach to".to_owned(), what: format!("container {name}"), state }
        }
        Refused::Status(_, reason) => failed(format!("attach to container {name}"))(reason),
        Refused::Io(error) => failed(format!("attach to container {name}"))(error),
    })?;
    let (tell, told) = mpsc::channel(PIECES_WAITING);
    engine.spawn(pump(engine.clone(), name.clone(), Said::new(reader, found.tty), tell));
    let output = stream::unfold(Some(told), |told| async move {
        let mut told = told?;
        match told.recv().await {
            Some(output @ Ok(Output::Stdout(_) | Output::Stderr(_))) => Some((output, Some(told))),
            Some(end) => Some((end, None)),
            None => Some((Err(broken("it was cut off: too much was not read")), None)),
        }
    });
    let mut writer = Some(writer);
    if !stdin && let Some(unwanted) = writer.take() {
        unwanted.forget();
    }
    let terminal = if found.tty { Terminal::Container(id) } else { Terminal::None };
    let takes_input = stdin || found.tty;
    // Where the engine keeps a container's input open, the end of one session's is not for it.
    let input = takes_input.then(|| input(engine, writer, found.stdin_once, terminal));
    Ok(Session { input, output: output.boxed() })
}

fn broken(reason: &str) -> Error {
    failed("follow a process")(reason)
}

/// Reads always, for the engine would have the container wait, and gives up on one who does not listen.
async fn pump(engine: Arc<Engine>, name: ContainerRef, mut said: Said, tell: mpsc::Sender<Result<Output, Error>>) {
    loop {
        let piece = tokio::select! {
            () = tell.closed() => return,
            piece = said.next() => piece,
        };
        let Ok(Some(piece)) = piece else { break };
        if tell.try_send(Ok(piece)).is_err() {
            return said.cut();
        }
    }
    let operation = format!("wait for the end of container {name}");
    let ended = || async {
        Ok(match engine.find(&name).await?.container.state {
            ContainerState::Exited { code, .. } => Some(Output::Exit(code)),
            ContainerState::Running { .. } => None,
            state @ ContainerState::Created => return Err(wrong_state("attach to", &name, &state)),
        })
    };
    tokio::select! {
        () = tell.closed() => {}
        end = engine.until(operation, ended) => {
            // Who does not listen any more needs no end.
            let _ = tell.send(end).await;
        }
    }
}

impl Engine {
    /// The path of a request, with the version that was agreed on.
    pub(crate) fn path(&self, path: &str) -> String {
        let version = self.client.client_version();
        format!("/v{}.{}{path}", version.major_version, version.minor_version)
    }
}
