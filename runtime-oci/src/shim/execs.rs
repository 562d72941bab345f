//! Processes beside the containers' own: the shim becomes their parent, tells how they end, and kills them when nobody wants
//! to know any more.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::poll::{PollFd, PollFlags};

use super::Start;
use super::logs::complaint;
use super::messages::{Kind, message};
use crate::session;

/// A process to run in a container.
pub(super) struct Wanted {
    pub(super) command: Vec<String>,
    /// Where somebody waits for the terminal, if it is to have one.
    pub(super) console: Option<PathBuf>,
    /// Its standard streams, where it has no terminal: output, errors and, if it has some, input.
    pub(super) streams: Vec<OwnedFd>,
}

/// See the [module](self).
#[derive(Default)]
pub(super) struct Execs {
    /// What tells one from the others on disk.
    next: u64,
    /// By the process id of the OCI runtime that starts it.
    starting: BTreeMap<i32, Starting>,
    /// By its process id: who wants to know how it ends.
    running: BTreeMap<i32, UnixStream>,
    /// Those that ended before it was known that they were begun.
    early: BTreeMap<i32, i32>,
}

struct Starting {
    /// `None` once its caller went away.
    caller: Option<UnixStream>,
    pid_file: PathBuf,
    log: PathBuf,
}

impl Execs {
    /// Has the OCI runtime start a process in a container; nothing waits for it.
    pub(super) fn start(&mut self, container: &Start, wanted: Wanted, mut caller: UnixStream) -> io::Result<()> {
        self.next += 1;
        let file = |suffix: &str| container.directory.join(format!("exec-{}.{suffix}", self.next));
        let (pid_file, log) = (file("pid"), file("log"));
        let mut run = container.command_logging("exec", &log);
        run.arg("--detach").arg("--pid-file").arg(&pid_file);
        match &wanted.console {
            Some(console) => run.args(["--tty=true", "--console-socket"]).arg(console),
            None => run.arg("--tty=false"),
        };
        run.arg(&container.id).args(&wanted.command);
        let mut streams = wanted.streams.into_iter().map(Stdio::from);
        if let (Some(output), Some(errors)) = (streams.next(), streams.next()) {
            run.stdout(output).stderr(errors);
        }
        if let Some(input) = streams.next() {
            run.stdin(input);
        }
        // So that it does not share the shim's, where the OCI runtime makes no session.
        run.process_group(0);
        match run.spawn() {
            Ok(child) => {
                caller.set_nonblocking(true)?;
                let starting = Starting { caller: Some(caller), pid_file, log };
                self.starting.insert(child.id().cast_signed(), starting);
                Ok(())
            }
            Err(error) => caller.write_all(&message(Kind::Refused, error.to_string().as_bytes())),
        }
    }

    pub(super) fn interest<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        let starting = self.starting.values().filter_map(|starting| starting.caller.as_ref());
        let callers = starting.chain(self.running.values());
        fds.extend(callers.map(|caller| PollFd::new(caller.as_fd(), PollFlags::POLLIN)));
    }

    /// Kills what nobody wants any more.
    pub(super) fn pump(&mut self) {
        for starting in self.starting.values_mut() {
            starting.caller.take_if(is_gone);
        }
        for (pid, _) in self.running.extract_if(.., |_, caller| is_gone(caller)) {
            session::kill(pid);
        }
    }

    /// A child has ended with this code.
    pub(super) fn reaped(&mut self, pid: i32, code: i32) {
        if let Some(starting) = self.starting.remove(&pid) {
            self.started(starting, code);
        } else if let Some(mut caller) = self.running.remove(&pid) {
            tell_exit(&mut caller, code);
        } else if !self.starting.is_empty() {
            self.early.insert(pid, code);
        }
        if self.starting.is_empty() {
            // What is left was orphaned in a container.
            self.early.clear();
        }
    }

    /// The OCI runtime has ended with this code.
    fn started(&mut self, starting: Starting, code: i32) {
        let Starting { caller, pid_file, log } = starting;
        let pid = fs::read_to_string(&pid_file).ok().and_then(|text| text.trim().parse::<i32>().ok());
        match (pid.filter(|_| code == 0), caller) {
            (Some(pid), None) => {
                if self.early.remove(&pid).is_none() {
                    session::kill(pid);
                }
            }
            (Some(pid), Some(mut caller)) => {
                // One who went away is noticed when it is looked for.
                let _ = caller.write_all(&message(Kind::Begun, &[]));
                match self.early.remove(&pid) {
                    Some(code) => tell_exit(&mut caller, code),
                    None => drop(self.running.insert(pid, caller)),
                }
            }
            (None, caller) => {
                let said = fs::read_to_string(&log).unwrap_or_default();
                let reason = format!("OCI runtime exec failed: {}", complaint(&said));
                if let Some(mut caller) = caller {
                    let _ = caller.write_all(&message(Kind::Refused, reason.as_bytes()));
                }
            }
        }
        remove(&pid_file);
        remove(&log);
    }
}

fn remove(path: &Path) {
    // It goes with the container at the latest.
    let _ = fs::remove_file(path);
}

fn tell_exit(caller: &mut UnixStream, code: i32) {
    // One who went away has no use for it.
    let _ = caller.write_all(&message(Kind::Exit, &code.to_be_bytes()));
}

/// Whether somebody who only listens has closed the connection.
fn is_gone(caller: &mut UnixStream) -> bool {
    match caller.read(&mut [0; 64]) {
        Ok(count) => count == 0,
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
    }
}
