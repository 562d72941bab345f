//! The process that stays with a pod: it holds the pod's namespaces, is its processes' parent, writes their logs and
//! records how they end. It has one thread and outlives the agent that started it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use jiff::Timestamp;
use longshore_core::clock::{Clock, SystemClock};
use longshore_core::runtime::Error;
use nix::fcntl::{FcntlArg, Flock, FlockArg, OFlag, fcntl};
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{pipe2, sethostname, setsid};
use serde::{Deserialize, Serialize};

use crate::cgroup;
use crate::disk::{self, Exit, Started};

/// What the agent tells a new shim.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Orders {
    pub(crate) directory: PathBuf,
    pub(crate) cgroup: String,
    pub(crate) hostname: String,
    pub(crate) host_network: bool,
    pub(crate) host_ipc: bool,
    /// Where a file is touched when something changed, and how it is called for the sandbox.
    pub(crate) events: PathBuf,
    pub(crate) pod_uid: String,
}

/// A container to start; answered by an empty line or the reason why it could not be.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) program: PathBuf,
    pub(crate) runtime_root: PathBuf,
    pub(crate) id: String,
    pub(crate) directory: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) cgroup: String,
    pub(crate) event: String,
}

/// Runs the shim's side of a command line `PROGRAM shim (start|serve) DIRECTORY`; `args` is what follows `shim`.
pub fn main(args: impl IntoIterator<Item = std::ffi::OsString>) -> ExitCode {
    let args: Vec<_> = args.into_iter().collect();
    let done = match args.as_slice() {
        [verb, directory] if verb == "start" => start(Path::new(directory)),
        [verb, directory] if verb == "serve" => serve(Path::new(directory)),
        _ => Err(io::Error::other("usage: shim start|serve DIRECTORY; it is started by the node agent")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The one who started the shim reads its standard output.
            let _ = writeln!(io::stdout(), "shim: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Starts the serving process as nobody's child and waits until it is ready.
fn start(directory: &Path) -> io::Result<()> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["shim".as_ref(), "serve".as_ref(), directory.as_os_str()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .current_dir("/")
        .spawn()?;
    let mut answer = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut answer)?;
    }
    match answer.trim() {
        "ready" => Ok(()),
        "" => Err(io::Error::other("it ended before it was ready")),
        reason => Err(io::Error::other(reason.to_owned())),
    }
}

struct Container {
    start: Start,
    pipes: Vec<Pipe>,
    log: File,
}

struct Pipe {
    stream: &'static str,
    reader: File,
    /// The line's beginning, until its end comes.
    line: Vec<u8>,
}

/// Longest piece of a line that is logged at once, as containerd's.
const LINE_MAX: usize = 16 << 10;

struct Shim {
    orders: Orders,
    clock: SystemClock,
    /// By process id.
    containers: BTreeMap<i32, Container>,
    /// Ended, while something may still hold their output.
    ended: Vec<Container>,
}

fn serve(directory: &Path) -> io::Result<()> {
    let orders: Orders = disk::read(&directory.join("orders.json"))?.ok_or_else(|| io::Error::other("no orders"))?;
    setsid()?;
    cgroup::enter(&orders.cgroup)?;
    // Who can take this lock knows that the shim is gone.
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(directory.join("lock"))?;
    let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| io::Error::from(error))?;
    nix::sys::prctl::set_child_subreaper(true)?;
    let mut flags = CloneFlags::empty();
    if !orders.host_network {
        flags |= CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS;
    }
    if !orders.host_ipc {
        flags |= CloneFlags::CLONE_NEWIPC;
    }
    unshare(flags)?;
    if !orders.host_network {
        sethostname(&orders.hostname)?;
        let target = directory.join("netns");
        File::create(&target)?;
        mount(Some("/proc/self/ns/net"), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    }
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGHUP, Signal::SIGINT, Signal::SIGPIPE] {
        signals.add(signal);
    }
    signals.thread_block()?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let listener = UnixListener::bind(directory.join("socket"))?;
    disk::write(&directory.join("shim.json"), &std::process::id())?;
    let mut shim = Shim { orders, clock: SystemClock::new(), containers: BTreeMap::new(), ended: Vec::new() };
    writeln!(io::stdout(), "ready")?;
    // The starter waits for the end of this pipe.
    nix::unistd::dup2_stdout(File::open("/dev/null")?)?;
    shim.run(&listener, &signals)?;
    drop(lock);
    Ok(())
}

impl Shim {
    fn run(&mut self, listener: &UnixListener, signals: &SignalFd) -> io::Result<()> {
        loop {
            let ready = self.wait(listener, signals)?;
            for container in self.containers.values_mut().chain(&mut self.ended) {
                container.pump(&self.clock);
            }
            self.ended.retain(|container| !container.pipes.is_empty());
            while signals.read_signal()?.is_some() {}
            self.reap();
            if ready {
                let (stream, _) = listener.accept()?;
                // A caller that went away has no use for an answer.
                let _ = self.answer(stream);
            }
        }
    }

    /// Waits until there is something to do, and says whether somebody calls.
    fn wait(&self, listener: &UnixListener, signals: &SignalFd) -> io::Result<bool> {
        let mut fds =
            vec![PollFd::new(listener.as_fd(), PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        let pipes = self.containers.values().chain(&self.ended).flat_map(|container| &container.pipes);
        fds.extend(pipes.map(|pipe| PollFd::new(pipe.reader.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => Ok(false),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(fds[0].any().unwrap_or(false)),
        }
    }

    fn reap(&mut self) {
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            let (pid, code, signal) = match status {
                WaitStatus::Exited(pid, code) => (pid, code, 0),
                WaitStatus::Signaled(pid, signal, _) => (pid, 128 + signal as i32, signal as i32),
                WaitStatus::StillAlive => return,
                _ => continue,
            };
            if let Some(mut container) = self.containers.remove(&pid.as_raw()) {
                container.pump(&self.clock);
                self.record_exit(&container.start, code, signal, String::new());
                self.ended.push(container);
            }
        }
    }

    fn record_exit(&self, start: &Start, code: i32, signal: i32, message: String) {
        let oom_killed = cgroup::oom_killed(&start.cgroup);
        let exit = Exit { finished_at: self.clock.now(), code, signal, oom_killed, message };
        // On a full disk the agent finds the process gone and says so itself.
        let _ = disk::write(&start.directory.join("exit.json"), &exit);
        let _ = fs::write(self.orders.events.join(&start.event), "");
    }

    fn answer(&mut self, mut stream: UnixStream) -> io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut request = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap_or(0).min(1 << 20)];
        stream.read_exact(&mut request)?;
        let start: Start = serde_json::from_slice(&request)?;
        let reason = match self.start(start) {
            Ok(()) => String::new(),
            Err(reason) => reason.to_string(),
        };
        stream.write_all(reason.as_bytes())
    }

    fn start(&mut self, start: Start) -> io::Result<()> {
        if let Some(parent) = start.log.parent() {
            fs::create_dir_all(parent)?;
        }
        let log = OpenOptions::new().create(true).append(true).open(&start.log)?;
        let (stdout, stdout_writer) = output()?;
        let (stderr, stderr_writer) = output()?;
        let pid_file = start.directory.join("pid");
        let runtime_log = start.directory.join("runtime.log");
        let status = Command::new(&start.program)
            .arg("--root")
            .arg(&start.runtime_root)
            .arg("--log")
            .arg(&runtime_log)
            .arg("create")
            .arg("--bundle")
            .arg(&start.directory)
            .arg("--pid-file")
            .arg(&pid_file)
            .arg(&start.id)
            .stdin(Stdio::null())
            .stdout(stdout_writer)
            .stderr(stderr_writer)
            .status()?;
        let mut container = Container {
            log,
            pipes: vec![
                Pipe { stream: "stdout", reader: stdout, line: Vec::new() },
                Pipe { stream: "stderr", reader: stderr, line: Vec::new() },
            ],
            start,
        };
        if !status.success() {
            let reason = format!("OCI runtime create failed: {}", container.complaint(&runtime_log));
            self.record_exit(&container.start, 128, 0, reason.clone());
            return Err(io::Error::other(reason));
        }
        let pid: i32 = fs::read_to_string(&pid_file)?.trim().parse().map_err(io::Error::other)?;
        let started = Started { started_at: self.clock.now(), pid: pid.unsigned_abs() };
        disk::write(&container.start.directory.join("started.json"), &started)?;
        let status = Command::new(&container.start.program)
            .arg("--root")
            .arg(&container.start.runtime_root)
            .arg("--log")
            .arg(&runtime_log)
            .arg("start")
            .arg(&container.start.id)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        if !status.success() {
            let reason = format!("OCI runtime start failed: {}", container.complaint(&runtime_log));
            cgroup::destroy(&container.start.cgroup);
            self.record_exit(&container.start, 128, 0, reason.clone());
            return Err(io::Error::other(reason));
        }
        let _ = fs::write(self.orders.events.join(&container.start.event), "");
        self.containers.insert(pid, container);
        Ok(())
    }
}

/// A pipe that is read without waiting.
fn output() -> io::Result<(File, OwnedFd)> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((reader.into(), writer))
}

impl Container {
    fn pump(&mut self, clock: &dyn Clock) {
        let log = &mut self.log;
        self.pipes.retain_mut(|pipe| pipe.pump(log, clock));
    }

    /// What the OCI runtime said last: in its log, or on the streams that it shares with the container.
    fn complaint(&mut self, runtime_log: &Path) -> String {
        let mut said = fs::read_to_string(runtime_log).unwrap_or_default();
        for pipe in &mut self.pipes {
            let mut bytes = Vec::new();
            // It would block once all is read.
            let _ = pipe.reader.read_to_end(&mut bytes);
            said.push_str(&String::from_utf8_lossy(&bytes));
        }
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it gave no reason");
        match last.split_once("msg=") {
            Some((_, message)) => serde_json::from_str(message).unwrap_or_else(|_| message.to_owned()),
            None => last.to_owned(),
        }
    }
}

impl Pipe {
    /// Logs what there is; false once nothing more can come.
    fn pump(&mut self, log: &mut File, clock: &dyn Clock) -> bool {
        let mut buffer = [0; 16 << 10];
        loop {
            let count = match self.reader.read(&mut buffer) {
                Ok(0) => {
                    if !self.line.is_empty() {
                        let line = std::mem::take(&mut self.line);
                        self.log(log, clock.now(), "F", &line);
                    }
                    return false;
                }
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            };
            for piece in buffer[..count].split_inclusive(|byte| *byte == b'\n') {
                self.line.extend_from_slice(piece);
                let whole = self.line.pop_if(|last| *last == b'\n').is_some();
                if whole || self.line.len() >= LINE_MAX {
                    let line = std::mem::take(&mut self.line);
                    self.log(log, clock.now(), if whole { "F" } else { "P" }, &line);
                }
            }
        }
    }

    fn log(&self, log: &mut File, now: Timestamp, tag: &str, line: &[u8]) {
        let mut entry = format!("{now:.9} {} {tag} ", self.stream).into_bytes();
        entry.extend_from_slice(line);
        entry.push(b'\n');
        // A full disk must not stop the container.
        let _ = log.write_all(&entry);
    }
}

/// Tells a shim to start a container.
pub(crate) fn ask(directory: &Path, start: &Start) -> Result<(), Error> {
    let operation = format!("start container {}", start.id);
    let call = || -> io::Result<String> {
        let mut stream = UnixStream::connect(directory.join("socket"))?;
        let request = serde_json::to_vec(start)?;
        stream.write_all(&u32::try_from(request.len()).map_err(io::Error::other)?.to_be_bytes())?;
        stream.write_all(&request)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    match call().map_err(disk::failed(operation))? {
        reason if reason.is_empty() => Ok(()),
        reason => Err(Error::Invalid { reason }),
    }
}
