//! The process that stays with a pod: it holds the pod's namespaces, is its processes' parent, writes their logs and
//! records how they end. It has one thread and outlives the agent that started it.

mod attach;
mod execs;
mod init;
mod logs;
pub(crate) mod messages;
mod protocol;
mod trim;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use longshore_core::clock::{Clock, SystemClock};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, sethostname, setsid};
use rustix::process::{WaitOptions, wait};
use serde::{Deserialize, Serialize};

use crate::disk::{self, Exit, Started};
use crate::{cgroup, terminal};
use execs::{Execs, Wanted};
use logs::Container;
use messages::{Kind, message};
use protocol::{DONE, receive, socket};
pub(crate) use protocol::{Request, Start, ask, begin, until_ended};

/// What the agent tells a new shim.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Orders {
    pub(crate) directory: PathBuf,
    pub(crate) cgroup: String,
    pub(crate) hostname: String,
    pub(crate) host_network: bool,
    pub(crate) host_ipc: bool,
    pub(crate) share_process_namespace: bool,
    pub(crate) sysctls: BTreeMap<String, String>,
    /// Where a file is touched when something changed, and how it is called for the sandbox.
    pub(crate) events: PathBuf,
    pub(crate) pod_uid: String,
}

/// Runs the shim's side of a command line `PROGRAM shim serve DIRECTORY`; `args` is what follows `shim`.
pub fn main(args: impl IntoIterator<Item = std::ffi::OsString>) -> ExitCode {
    let args: Vec<_> = args.into_iter().collect();
    let done = match args.as_slice() {
        [verb, directory] if verb == "serve" => serve(Path::new(directory)),
        [verb] if verb == "hold" => init::hold(),
        [verb] if verb == "init" => init::run(),
        _ => Err(io::Error::other("usage: shim serve DIRECTORY; it is started by the node agent")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The one who started the shim reads its standard output until it is ready, and what was logged later.
            let _ = writeln!(io::stdout(), "shim: {error}");
            let _ = writeln!(io::stderr(), "shim: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Starts a shim and waits until it is ready. It is the caller's child, and goes on when that ends.
pub(crate) fn start(program: &Path, directory: &Path) -> io::Result<Child> {
    let mut shim = Command::new(program)
        .args(["shim".as_ref(), "serve".as_ref(), directory.as_os_str()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(log(directory))?)
        .current_dir("/")
        .spawn()?;
    let mut answer = String::new();
    if let Some(mut stdout) = shim.stdout.take() {
        stdout.read_to_string(&mut answer)?;
    }
    let reason = match answer.trim() {
        "ready" => return Ok(shim),
        "" => "it ended before it was ready",
        reason => reason,
    };
    shim.wait()?;
    Err(io::Error::other(reason.to_owned()))
}

fn log(directory: &Path) -> PathBuf {
    directory.join("shim.log")
}

/// The end of what a shim logged, if it logged anything: why it is not there any more.
pub(crate) fn last_words(directory: &Path) -> Option<String> {
    let said = fs::read(log(directory)).ok()?;
    let said = String::from_utf8_lossy(&said[said.len().saturating_sub(WORDS_MAX)..]).into_owned();
    said.lines().map(str::trim).rfind(|line| !line.is_empty()).map(str::to_owned)
}

/// Bytes of a shim's log that are told at most.
const WORDS_MAX: usize = 1 << 10;

/// Milliseconds in which nothing happens before what was needed meanwhile is [given back](trim): more than pass between the
/// steps in which a pod is started.
const IDLE_AFTER: u16 = 1000;

/// What is said of a container that is not there any more.
const HAS_ENDED: &[u8] = b"the container has ended";

struct Shim {
    orders: Orders,
    clock: SystemClock,
    /// By process id.
    containers: BTreeMap<i32, Container>,
    /// Ended, while something may still hold their output or is to be told of it.
    ended: Vec<Container>,
    execs: Execs,
}

fn serve(directory: &Path) -> io::Result<()> {
    let orders: Orders = disk::noted(&directory.join("orders.json"))?.ok_or_else(|| io::Error::other("no orders"))?;
    setsid()?;
    let group = cgroup::Made::make(&orders.cgroup)?;
    // Who can take this lock knows that the shim is gone.
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(directory.join("lock"))?;
    let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| io::Error::from(error))?;
    nix::sys::prctl::set_child_subreaper(true)?;
    // It is within the pod's limits, but the last to be killed for what the pod takes, where that may be decided.
    let _ = fs::write("/proc/self/oom_score_adj", "-998");
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
    for (name, value) in &orders.sysctls {
        set_sysctl(name, value)?;
    }
    if orders.share_process_namespace {
        // What is started here is in the group as well.
        group.enter()?;
        disk::note(&directory.join("init.json"), &init::start()?)?;
    }
    let mut signals = SigSet::empty();
    // Not SIGPIPE, which is ignored here anyway: containers would begin with it blocked, and what writes to somebody who has
    // left would go on for ever.
    for signal in [Signal::SIGCHLD, Signal::SIGHUP, Signal::SIGINT] {
        signals.add(signal);
    }
    signals.thread_block()?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let listener = UnixListener::bind(socket(directory))?;
    disk::note(&directory.join("shim.json"), &std::process::id())?;
    let is_in_group = orders.share_process_namespace;
    let mut shim = Shim {
        orders,
        clock: SystemClock::new(),
        containers: BTreeMap::new(),
        ended: Vec::new(),
        execs: Execs::default(),
    };
    writeln!(io::stdout(), "ready")?;
    // The starter waits for the end of this pipe.
    nix::unistd::dup2_stdout(File::open("/dev/null")?)?;
    if !is_in_group {
        // Meanwhile the pod is connected. Nobody is answered before, so nothing is run before; and a group that is removed by
        // now ends this.
        group.enter()?;
    }
    shim.run(&listener, &signals)?;
    drop(lock);
    Ok(())
}

/// Sets a parameter of the namespaces that this process is in.
fn set_sysctl(name: &str, value: &str) -> io::Result<()> {
    // Either sign may separate the parts; then the other stands for itself.
    let first = name.find(['.', '/']).map_or('.', |at| if name.as_bytes()[at] == b'/' { '/' } else { '.' });
    let other = if first == '/' { '.' } else { '/' };
    let swap = |c: char| {
        if c == first {
            '/'
        } else if c == '/' {
            other
        } else {
            c
        }
    };
    let path = Path::new("/proc/sys").join(name.chars().map(swap).collect::<String>());
    let told = |error: io::Error| io::Error::new(error.kind(), format!("sysctl {name:?} cannot be set: {error}"));
    if path.components().any(|part| part == std::path::Component::ParentDir) {
        return Err(told(io::ErrorKind::InvalidInput.into()));
    }
    fs::write(path, value).map_err(told)
}

impl Shim {
    fn run(&mut self, listener: &UnixListener, signals: &SignalFd) -> io::Result<()> {
        let mut idle = false;
        loop {
            // Once nothing has happened for a while, it is not looked at again until something does.
            let patience = if idle { PollTimeout::NONE } else { IDLE_AFTER.into() };
            let Some(ready) = self.wait(listener, signals, patience)? else {
                // What cannot be given back is kept.
                let _ = trim::trim();
                idle = true;
                continue;
            };
            idle = false;
            for container in self.containers.values_mut().chain(&mut self.ended) {
                container.pump(&self.clock);
            }
            self.ended.retain(Container::is_busy);
            self.execs.pump();
            while signals.read_signal()?.is_some() {}
            self.reap();
            if ready && let Ok((stream, _)) = listener.accept() {
                // A caller that went away has no use for an answer.
                let _ = self.answer(stream);
            }
        }
    }

    /// Waits until there is something to do, and says whether somebody calls; `None` if nothing happens that long.
    fn wait(&self, listener: &UnixListener, signals: &SignalFd, patience: PollTimeout) -> io::Result<Option<bool>> {
        let mut fds =
            vec![PollFd::new(listener.as_fd(), PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        for container in self.containers.values().chain(&self.ended) {
            fds.extend(container.pipes.iter().map(|pipe| PollFd::new(pipe.reader.as_fd(), PollFlags::POLLIN)));
            container.attached.interest(&mut fds);
        }
        self.execs.interest(&mut fds);
        match poll(&mut fds, patience) {
            Err(nix::errno::Errno::EINTR) => Ok(Some(false)),
            Err(error) => Err(error.into()),
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(fds[0].any().unwrap_or(false))),
        }
    }

    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let (code, signal) = match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => (code, 0),
                (None, Some(signal)) => (128 + signal, signal),
                (None, None) => continue,
            };
            let pid = pid.as_raw_nonzero().get();
            self.execs.reaped(pid, code);
            if let Some(mut container) = self.containers.remove(&pid) {
                // With the node's process ids, what it started does not end with it.
                cgroup::kill_all(&container.start.cgroup);
                container.pump(&self.clock);
                self.record_exit(&container.start, code, signal, String::new());
                container.waiting.clear();
                container.attached.tell(Kind::Exit, &code.to_be_bytes());
                self.ended.push(container);
            }
        }
    }

    fn record_exit(&self, start: &Start, code: i32, signal: i32, message: String) {
        let oom_killed = cgroup::oom_killed(&start.cgroup);
        let exit = Exit { finished_at: self.clock.now(), code, signal, oom_killed, message };
        // On a full disk the agent finds the process gone and says so itself.
        let _ = disk::note(&start.directory.join("exit.json"), &exit);
        self.tell(&start.event);
    }

    fn tell(&self, event: &str) {
        let _ = fs::write(self.orders.events.join(event), "");
    }

    fn answer(&mut self, mut stream: UnixStream) -> io::Result<()> {
        let (request, descriptors) = receive(&mut stream)?;
        let done = match request {
            Request::Start(start) => self.start(start),
            Request::Signal { id, signal } => self.signal(&id, &signal),
            Request::Wait { id } => {
                if let Some(container) = self.containers.values_mut().find(|c| c.start.id == id) {
                    container.waiting.push(stream);
                }
                return Ok(());
            }
            Request::Exec { id, command, console } => {
                let Some(container) = self.containers.values().find(|container| container.start.id == id) else {
                    return stream.write_all(&message(Kind::Refused, HAS_ENDED));
                };
                let wanted = Wanted { command, console, streams: descriptors };
                return self.execs.start(&container.start, wanted, stream);
            }
            Request::Attach { id, stdin } => {
                return match self.containers.values_mut().find(|container| container.start.id == id) {
                    Some(container) => {
                        container.attached.add(stream, stdin)?;
                        container.attached.pump();
                        Ok(())
                    }
                    None => stream.write_all(&message(Kind::Refused, HAS_ENDED)),
                };
            }
        };
        stream.write_all(done.map_or_else(|reason| reason.to_string(), |()| DONE.to_owned()).as_bytes())
    }

    fn signal(&self, id: &str, signal: &str) -> io::Result<()> {
        let Some((pid, container)) = self.containers.iter().find(|(_, container)| container.start.id == id) else {
            // It has just ended, which is what is wanted.
            return Ok(());
        };
        // An image may ask for something that is none.
        let number = signal_number(signal).unwrap_or(Signal::SIGTERM as i32);
        match Signal::try_from(number) {
            Ok(signal) => match kill(Pid::from_raw(*pid), signal) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => return Err(error.into()),
            },
            // A real-time signal, which cannot be sent without unsafe code here.
            Err(_) => {
                let mut command = container.start.command("kill");
                command.arg(&container.start.id).arg(number.to_string()).status()?;
            }
        }
        if number == Signal::SIGKILL as i32 {
            cgroup::kill_all(&container.start.cgroup);
        }
        Ok(())
    }

    /// Removes what there is of a container that cannot be started.
    fn never_began(&self, start: &Start, reason: String) -> io::Error {
        cgroup::destroy(&start.cgroup);
        self.record_exit(start, 128, 0, reason.clone());
        io::Error::other(reason)
    }

    /// Has the OCI runtime hand over the terminal that it makes.
    fn await_terminal(&self, run: &mut Command) -> io::Result<UnixListener> {
        // Containers are started one after the other; a longer path might not fit into an address.
        let path = self.orders.directory.join("console");
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        listener.set_nonblocking(true)?;
        run.arg("--console-socket").arg(&path);
        Ok(listener)
    }

    fn start(&mut self, start: Start) -> io::Result<()> {
        let pid_file = start.directory.join("pid");
        let mut run = start.command("run");
        run.arg("--detach").arg("--bundle").arg(&start.directory).arg("--pid-file").arg(&pid_file);
        let console = if start.tty { Some(self.await_terminal(&mut run)?) } else { None };
        run.arg(&start.id);
        let (mut container, ends) = Container::new(start)?;
        if let Some(stdin) = ends.stdin {
            run.stdin(stdin);
        }
        let status = run.stdout(ends.stdout).stderr(ends.stderr).status()?;
        // It holds its ends of the pipes; the container's end could not be seen while they are open.
        drop(run);
        if !status.success() {
            let reason = format!("OCI runtime run failed: {}", container.complaint());
            return Err(self.never_began(&container.start, reason));
        }
        if let Some(listener) = console {
            let received = listener.accept().and_then(|(stream, _)| terminal::receive(&stream));
            if let Err(error) = received.and_then(|terminal| container.speaks_on(terminal)) {
                return Err(self.never_began(&container.start, format!("its terminal cannot be had: {error}")));
            }
        }
        // Should it have ended meanwhile, it is not waited for before it is known here.
        let pid: i32 = fs::read_to_string(&pid_file)?.trim().parse().map_err(io::Error::other)?;
        let started = Started { started_at: self.clock.now(), pid: pid.unsigned_abs() };
        disk::note(&container.start.directory.join("started.json"), &started)?;
        self.tell(&container.start.event);
        self.containers.insert(pid, container);
        Ok(())
    }
}

/// The number of a signal that is given by its name, with or without `SIG`, or as a number.
fn signal_number(name: &str) -> Option<i32> {
    let upper = name.to_uppercase();
    let short = upper.trim_start_matches("SIG");
    let real_time = |base: i32, offset: &str| match offset {
        "" => Some(base),
        _ => offset.parse::<i32>().ok().map(|offset| base + offset),
    };
    let number = if let Some(offset) = short.strip_prefix("RTMIN") {
        real_time(34, offset)
    } else if let Some(offset) = short.strip_prefix("RTMAX") {
        real_time(64, offset)
    } else {
        short.parse().ok().or_else(|| format!("SIG{short}").parse::<Signal>().ok().map(|signal| signal as i32))
    };
    number.filter(|number| (1..=64).contains(number))
}

#[cfg(test)]
mod tests {
    use super::signal_number;

    #[test]
    fn signals_have_names_and_numbers() {
        for (name, number) in [
            ("SIGTERM", Some(15)),
            ("int", Some(2)),
            ("9", Some(9)),
            ("SIGRTMIN", Some(34)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("SIGNONE", None),
            ("0", None),
            ("65", None),
            ("", None),
        ] {
            assert_eq!(signal_number(name), number, "{name}");
        }
    }
}
