//! Processes beside a container's own, and connections to its own: the shim holds them, and what they say comes here.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use futures::{Sink, future, sink};
use longshore_core::runtime::{ContainerRef, Error, ExecRequest, Input, Output, Session};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe::{Receiver, Sender, pipe};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};

use crate::blocking;
use crate::disk::failed;
use crate::host::Host;
use crate::shim::messages::{self, Kind, MESSAGE_MAX, message};
use crate::shim::{self, Request};
use crate::terminal;

/// Runs a process in a container that runs; it ends with the session.
pub(crate) async fn exec(host: &Host, name: &ContainerRef, id: &str, request: &ExecRequest) -> Result<Session, Error> {
    if request.command.is_empty() {
        return Err(Error::Invalid { reason: "no command specified".to_owned() });
    }
    let place = host.sandbox_directory(&name.pod_uid);
    let wanted = |console: Option<&Path>| Request::Exec {
        id: id.to_owned(),
        command: request.command.clone(),
        console: console.map(Path::to_owned),
    };
    let failed = |error| failed(format!("exec in container {id}"))(error);
    if request.tty {
        let directory = tempfile::Builder::new().prefix("exec").tempdir_in(host.runtime_root()).map_err(failed)?;
        let console = directory.path().join("console");
        let listener = UnixListener::bind(&console).map_err(failed)?;
        let control = begin(place, wanted(Some(&console)), Vec::new()).await?;
        let (runtime, _) = listener.accept().await.map_err(failed)?;
        let terminal = runtime.into_std().and_then(|runtime| terminal::receive(&runtime)).and_then(terminal::split);
        let (reader, writer) = terminal.map_err(failed)?;
        // A terminal's end is an error, and no news.
        let said = pieces(reader, Output::Stdout).take_while(|said| future::ready(said.is_ok()));
        return Ok(Session { input: Some(ending(terminal_input(writer))), output: said.chain(exit(control)).boxed() });
    }
    let (stdout, stdout_end) = output_pipe().map_err(failed)?;
    let (stderr, stderr_end) = output_pipe().map_err(failed)?;
    let mut ends = vec![stdout_end, stderr_end];
    let mut input = None;
    if request.stdin {
        let (sender, receiver) = pipe().map_err(failed)?;
        ends.push(receiver.into_blocking_fd().map_err(failed)?);
        input = Some(ending(pipe_input(sender)));
    }
    let control = begin(place, wanted(None), ends).await?;
    let said = stream::select(pieces(stdout, Output::Stdout), pieces(stderr, Output::Stderr));
    Ok(Session { input, output: said.chain(exit(control)).boxed() })
}

/// Connects to a container's own process.
pub(crate) async fn attach(host: &Host, name: &ContainerRef, id: &str, options: Attach) -> Result<Session, Error> {
    let request = Request::Attach { id: id.to_owned(), stdin: options.stdin };
    let control = begin(host.sandbox_directory(&name.pod_uid), request, Vec::new()).await?;
    let (reader, writer) = control.into_split();
    let said = stream::unfold(Some(reader), |reader| async move {
        let mut reader: OwnedReadHalf = reader?;
        let output = match messages::next(&mut reader).await {
            Ok(Some((Kind::Stdout, bytes))) => Ok(Output::Stdout(bytes.into())),
            Ok(Some((Kind::Stderr, bytes))) => Ok(Output::Stderr(bytes.into())),
            Ok(Some((Kind::Exit, code))) => return Some((code_of(&code).map(Output::Exit), None)),
            Ok(_) => Err(broken("it was cut off: too much was not read, or the pod's shim has ended")),
            Err(error) => Err(broken(&error.to_string())),
        };
        let rest = output.is_ok().then_some(reader);
        Some((output, rest))
    });
    let takes_input = options.stdin || options.tty;
    let input = takes_input.then(|| ending(message_input(writer)));
    Ok(Session { input, output: said.boxed() })
}

/// How to attach.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attach {
    /// Whether the container has standard input and it is asked for.
    pub(crate) stdin: bool,
    /// Whether the container has a terminal, which can be resized.
    pub(crate) tty: bool,
}

/// Asks a shim for something that streams, and waits until it has begun.
async fn begin(directory: PathBuf, request: Request, ends: Vec<OwnedFd>) -> Result<UnixStream, Error> {
    let call = move || {
        let descriptors: Vec<_> = ends.iter().map(AsFd::as_fd).collect();
        let stream = shim::begin(&directory, &request, &descriptors).map_err(failed("ask the pod's shim"))?;
        stream.set_nonblocking(true).map_err(failed("ask the pod's shim"))?;
        Ok(stream)
    };
    let mut control = UnixStream::from_std(blocking(call).await?).map_err(failed("ask the pod's shim"))?;
    match messages::next(&mut control).await.map_err(failed("ask the pod's shim"))? {
        Some((Kind::Begun, _)) => Ok(control),
        Some((Kind::Refused, reason)) => Err(Error::Invalid { reason: String::from_utf8_lossy(&reason).into_owned() }),
        _ => Err(broken("the pod's shim gave no answer")),
    }
}

fn broken(reason: &str) -> Error {
    Error::Failed { operation: "follow a process".to_owned(), reason: reason.to_owned() }
}

fn code_of(code: &[u8]) -> Result<i32, Error> {
    let code = code.try_into().map_err(|_| broken("the pod's shim gave no exit code"))?;
    Ok(i32::from_be_bytes(code))
}

/// The end of an exec'd process, which is killed if this is dropped before.
fn exit(mut control: UnixStream) -> impl stream::Stream<Item = Result<Output, Error>> + Send {
    stream::once(async move {
        match messages::next(&mut control).await {
            Ok(Some((Kind::Exit, code))) => code_of(&code).map(Output::Exit),
            Ok(_) => Err(broken("the pod's shim has ended")),
            Err(error) => Err(broken(&error.to_string())),
        }
    })
}

/// A pipe to read from, and the end for who writes.
fn output_pipe() -> io::Result<(Receiver, OwnedFd)> {
    let (sender, receiver) = pipe()?;
    Ok((receiver, sender.into_blocking_fd()?))
}

fn pipe_input(stdin: Sender) -> impl Sink<Input, Error = Error> + Send {
    sink::unfold(stdin, |mut stdin, input| async move {
        if let Input::Data(bytes) = input {
            stdin.write_all(&bytes).await.map_err(failed("write to a process"))?;
        }
        Ok(stdin)
    })
}

fn terminal_input(terminal: Sender) -> impl Sink<Input, Error = Error> + Send {
    sink::unfold(terminal, |mut terminal, input| async move {
        match input {
            Input::Data(bytes) => terminal.write_all(&bytes).await.map_err(failed("write to a process"))?,
            Input::Resize { width, height } => {
                terminal::resize(&terminal, width, height).map_err(failed("resize a terminal"))?;
            }
        }
        Ok(terminal)
    })
}

/// What is sent is for the container until the socket's half is dropped.
fn message_input(shim: OwnedWriteHalf) -> impl Sink<Input, Error = Error> + Send {
    sink::unfold(shim, |mut shim, input| async move {
        let sent = match input {
            Input::Data(bytes) => {
                bytes.chunks(MESSAGE_MAX).map(|piece| message(Kind::Stdin, piece)).collect::<Vec<_>>().concat()
            }
            Input::Resize { width, height } => {
                message(Kind::Resize, &[width.to_be_bytes(), height.to_be_bytes()].concat())
            }
        };
        shim.write_all(&sent).await.map_err(failed("write to a process"))?;
        Ok(shim)
    })
}

type BoxSink = Pin<Box<dyn Sink<Input, Error = Error> + Send>>;

/// Input whose end is the drop of what it is written to: closing it drops that.
struct Ending(Option<BoxSink>);

fn ending(input: impl Sink<Input, Error = Error> + Send + 'static) -> BoxSink {
    Box::pin(Ending(Some(Box::pin(input))))
}

impl Ending {
    fn inner(&mut self) -> Result<Pin<&mut (dyn Sink<Input, Error = Error> + Send + 'static)>, Error> {
        let closed = || failed("write to a process")(io::ErrorKind::BrokenPipe.into());
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

fn pieces<R: AsyncRead + Unpin + Send + 'static>(
    reader: R,
    output: fn(Bytes) -> Output,
) -> impl stream::Stream<Item = Result<Output, Error>> + Send {
    stream::unfold(reader, move |mut reader| async move {
        let mut buffer = vec![0; 16 << 10];
        match reader.read(&mut buffer).await {
            Ok(0) => None,
            Ok(count) => {
                buffer.truncate(count);
                Some((Ok(output(buffer.into())), reader))
            }
            Err(error) => Some((Err(failed("read from a process")(error)), reader)),
        }
    })
}
