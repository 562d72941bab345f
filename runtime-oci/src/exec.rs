//! Processes beside a container's own.

use std::path::PathBuf;
use std::process::Stdio;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use futures::{SinkExt, sink};
use longshore_core::runtime::{Error, ExecRequest, Input, Output, Session};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdin, Command};

use crate::disk::failed;
use crate::host::Host;

/// Runs a process in the container of this id; it ends with the session.
pub(crate) fn exec(host: &Host, id: &str, request: &ExecRequest) -> Result<Session, Error> {
    if request.tty {
        return Err(Error::Unsupported { runtime: crate::NAME.to_owned(), what: "terminals".to_owned() });
    }
    if request.command.is_empty() {
        return Err(Error::Invalid { reason: "no command specified".to_owned() });
    }
    let guard = tempfile::Builder::new()
        .prefix("exec")
        .tempdir_in(host.runtime_root())
        .map(Inside)
        .map_err(failed(format!("exec in container {id}")))?;
    let mut child = Command::new(&host.program)
        .arg("--root")
        .arg(host.runtime_root())
        .args(["exec", "--pid-file"])
        .arg(guard.pid_file())
        .arg(id)
        .args(&request.command)
        .stdin(if request.stdin { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed(format!("exec in container {id}")))?;
    let input = child.stdin.take().map(|stdin| Box::pin(input(stdin)) as _);
    let stdout = child.stdout.take().map(|reader| pieces(reader, Output::Stdout).boxed());
    let stderr = child.stderr.take().map(|reader| pieces(reader, Output::Stderr).boxed());
    let exit = stream::once(async move {
        let status = child.wait().await.map_err(failed("wait for an exec'd process"))?;
        // Its number may be somebody else's from now on.
        let _ = std::fs::remove_file(guard.pid_file());
        Ok(Output::Exit(status.code().unwrap_or(137)))
    });
    let output = stream::select_all(stdout.into_iter().chain(stderr)).chain(exit).boxed();
    Ok(Session { input, output })
}

/// The process inside the container, which the OCI runtime's process only watches: it is killed when this is dropped, unless
/// it has ended.
struct Inside(tempfile::TempDir);

impl Inside {
    fn pid_file(&self) -> PathBuf {
        self.0.path().join("pid")
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let pid = std::fs::read_to_string(self.pid_file()).ok().and_then(|pid| pid.trim().parse().ok());
        if let Some(pid) = pid.map(Pid::from_raw) {
            // One that has ended is what is wanted.
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

fn input(stdin: ChildStdin) -> impl futures::Sink<Input, Error = Error> + Send {
    sink::unfold(stdin, |mut stdin, input| async move {
        if let Input::Data(bytes) = input {
            stdin.write_all(&bytes).await.map_err(failed("write to an exec'd process"))?;
            stdin.flush().await.map_err(failed("write to an exec'd process"))?;
        }
        Ok(stdin)
    })
    .sink_map_err(|error: Error| error)
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
            Err(error) => Some((Err(failed("read from an exec'd process")(error)), reader)),
        }
    })
}
