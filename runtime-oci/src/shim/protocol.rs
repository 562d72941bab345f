//! How an agent talks to a shim: over the socket in the sandbox's directory, a request a connection, as a length of four bytes
//! and JSON. The answer is the reason why it failed, empty if it did not; then the connection is closed. Only what streams
//! goes on in [messages](super::messages).

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use longshore_core::runtime::{Error, LogLimits};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::disk;

/// The longest request that is read.
const REQUEST_MAX: usize = 1 << 20;

/// Descriptors that may come with a request.
const STREAMS: usize = 3;
/// What is answered when a request was carried out; anything else is the reason why not, and nothing is a shim that died over it.
pub(crate) const DONE: &str = "done";

/// What an agent wants of a shim.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// To start a container.
    Start(Start),
    /// To send a signal to a container's process, `SIGKILL` to all that it started.
    Signal {
        /// The container.
        id: String,
        /// The signal's name or number.
        signal: String,
    },
    /// To be told when a container has ended: by the end of the connection.
    Wait {
        /// The container.
        id: String,
    },
    /// To run a process in a container, which is killed if the connection ends first. With the request come the ends of
    /// its standard streams, unless it gets a terminal: output, errors and, if it has some, input.
    Exec {
        /// The container.
        id: String,
        /// Program and arguments.
        command: Vec<String>,
        /// The socket where the terminal is awaited.
        console: Option<PathBuf>,
    },
    /// To hear what a container says.
    Attach {
        /// The container.
        id: String,
        /// Whether what is sent is the container's standard input.
        stdin: bool,
    },
}

/// A container to start.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) program: PathBuf,
    pub(crate) runtime_root: PathBuf,
    pub(crate) id: String,
    pub(crate) directory: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) log_limits: LogLimits,
    pub(crate) cgroup: String,
    pub(crate) event: String,
    pub(crate) stdin: bool,
    pub(crate) stdin_once: bool,
    pub(crate) tty: bool,
}

impl Start {
    /// The OCI runtime's command of this name, without streams.
    pub(super) fn command(&self, verb: &str) -> Command {
        self.command_logging(verb, &self.runtime_log())
    }

    /// The same with a log of its own.
    pub(super) fn command_logging(&self, verb: &str, log: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(&self.runtime_root).arg("--log").arg(log).arg(verb);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Where the OCI runtime says what went wrong.
    pub(super) fn runtime_log(&self) -> PathBuf {
        self.directory.join("runtime.log")
    }
}

/// Reads what somebody who called wants, and the descriptors that came with it.
pub(super) fn receive(stream: &mut UnixStream) -> io::Result<(Request, Vec<OwnedFd>)> {
    // One who says nothing must not keep the others waiting.
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    let mut length = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(STREAMS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let buffers = &mut [IoSliceMut::new(&mut length)];
    let read = recvmsg(&*stream, buffers, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?.bytes;
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    stream.read_exact(&mut length[read..])?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > REQUEST_MAX {
        return Err(io::Error::other("the request is too long"));
    }
    let mut request = vec![0; length];
    stream.read_exact(&mut request)?;
    Ok((serde_json::from_slice(&request)?, descriptors))
}

fn frame(request: &Request) -> io::Result<Vec<u8>> {
    let request = serde_json::to_vec(request)?;
    let mut frame = u32::try_from(request.len()).map_err(io::Error::other)?.to_be_bytes().to_vec();
    frame.extend(request);
    Ok(frame)
}

/// Asks a shim for something and waits for the answer.
pub(crate) fn ask(directory: &Path, request: &Request) -> Result<(), Error> {
    let operation = match request {
        Request::Start(start) => format!("start container {}", start.id),
        Request::Signal { id, signal } => format!("send {signal} to container {id}"),
        Request::Wait { id } => format!("wait for container {id}"),
        Request::Exec { id, .. } => format!("exec in container {id}"),
        Request::Attach { id, .. } => format!("attach to container {id}"),
    };
    let call = || -> io::Result<String> {
        let mut stream = UnixStream::connect(socket(directory))?;
        stream.write_all(&frame(request)?)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    match call().map_err(disk::failed(operation.clone()))? {
        done if done == DONE => Ok(()),
        silence if silence.is_empty() => {
            Err(disk::failed(operation)(io::Error::other("the pod's shim ended before it was done")))
        }
        reason => Err(Error::Invalid { reason }),
    }
}

/// Waits until a container has ended or its shim has.
pub(crate) async fn until_ended(directory: &Path, id: &str) -> io::Result<()> {
    let mut stream = tokio::net::UnixStream::connect(socket(directory)).await?;
    stream.write_all(&frame(&Request::Wait { id: id.to_owned() })?).await?;
    stream.read_to_end(&mut Vec::new()).await.map(|_| ())
}

/// Asks a shim for something that streams, with at most three descriptors. The connection is then for [messages](super::messages).
pub(crate) fn begin(directory: &Path, request: &Request, descriptors: &[BorrowedFd<'_>]) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(socket(directory))?;
    let frame = frame(request)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(STREAMS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("these are too many streams"));
    }
    let sent = sendmsg(&stream, &[IoSlice::new(&frame)], &mut ancillary, SendFlags::NOSIGNAL)?;
    stream.write_all(&frame[sent..])?;
    Ok(stream)
}

pub(super) fn socket(directory: &Path) -> PathBuf {
    directory.join("socket")
}
