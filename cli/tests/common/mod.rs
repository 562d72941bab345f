//! A machine of one's own for a test: a network namespace, a directory, and the programs that a user would call.
//!
//! What a test starts from its thread inherits the thread's network namespace, so nothing here touches the host's
//! interfaces, routes or tables. Dropping the machine deletes its cluster.

#![allow(dead_code, reason = "each test program uses a part of it")]

pub(crate) mod lan;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Longest wait for anything; generous, since it is only reached when a test fails.
const PATIENCE: Duration = Duration::from_secs(90);

/// Runs a test on a thread of its own with a fresh network, or says why it is skipped.
pub(crate) fn on_own_network(programs: &[&str], test: impl FnOnce() + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: needs root");
        return;
    }
    for program in programs {
        if !on_path(program) {
            println!("SKIPPED: {program} is missing");
            return;
        }
    }
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("root may make network namespaces");
        run(Command::new("ip").args(["link", "set", "lo", "up"]));
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    directories.into_iter().any(|directory: PathBuf| directory.join(program).is_file())
}

/// Runs a command that must succeed and returns what it printed.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, err) = texts(&output);
    assert!(output.status.success(), "{command:?} ended with {}\n{out}\n{err}", output.status);
    out
}

/// What a command printed.
pub(crate) fn texts(output: &Output) -> (String, String) {
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Waits until `look` finds something.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    #[allow(clippy::disallowed_methods, reason = "real processes live in real time")]
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "not within {} s: {what}", PATIENCE.as_secs());
        #[allow(clippy::disallowed_methods, reason = "real processes live in real time")]
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A cluster in a directory of its own.
pub(crate) struct Machine {
    directory: tempfile::TempDir,
    /// `None` for the test's own.
    network: Option<lan::Network>,
}

impl Machine {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a directory can be made"), network: None }
    }

    /// A command in the machine's network.
    pub(crate) fn command(&self, program: &str) -> Command {
        match &self.network {
            None => Command::new(program),
            Some(network) => network.command(program),
        }
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// `longshore SUBCOMMAND --data-dir …`.
    pub(crate) fn longshore(&self, subcommand: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_longshore"));
        command.args(subcommand).arg("--data-dir").arg(self.data_dir());
        command
    }

    /// Starts the cluster in the background; returns when it is ready.
    #[track_caller]
    pub(crate) fn up(&self, options: &[&str]) {
        run(self.longshore(&["up", "--detach", "--listen", "127.0.0.1:0"]).args(options));
    }

    /// The process that runs the cluster.
    #[track_caller]
    pub(crate) fn pid(&self) -> i32 {
        let text = std::fs::read_to_string(self.data_dir().join("lock")).expect("a cluster runs");
        text.trim().parse().expect("the lock holds a process id")
    }

    /// Kills the control plane without warning and waits until it is gone.
    #[track_caller]
    pub(crate) fn kill(&self) {
        let pid = self.pid();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).expect("it runs");
        eventually("the process ends", || gone(pid).then_some(()));
    }

    /// `kubectl` on this cluster.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Command {
        let mut command = self.command("kubectl");
        command
            .env("KUBECONFIG", self.data_dir().join("kubeconfig"))
            .env("HOME", self.directory.path())
            .args(arguments);
        command
    }

    /// What `kubectl` prints; it must succeed.
    #[track_caller]
    pub(crate) fn ask(&self, arguments: &[&str]) -> String {
        run(&mut self.kubectl(arguments)).trim().to_owned()
    }

    /// Writes a file beside the cluster's directory and returns its path.
    #[track_caller]
    pub(crate) fn write(&self, name: &str, content: &str) -> String {
        let path = self.directory.path().join(name);
        std::fs::write(&path, content).expect("the directory can be written");
        path.display().to_string()
    }

    /// What tells this cluster's control groups from others'.
    #[track_caller]
    pub(crate) fn instance(&self) -> String {
        let text = std::fs::read_to_string(self.data_dir().join("cluster.json")).expect("there is a cluster");
        let settings: serde_json::Value = serde_json::from_str(&text).expect("the record is JSON");
        settings["instance"].as_str().expect("the record names the instance").to_owned()
    }
}

/// A part that runs; it is killed when the test forgets it.
pub(crate) struct Part {
    child: Child,
    /// What it logged until then, the sign included.
    seen: Vec<String>,
    /// What it logged since.
    since: Arc<Mutex<Vec<String>>>,
}

impl Part {
    /// Starts a part and waits until it logs `sign`.
    #[track_caller]
    pub(crate) fn start(command: &mut Command, sign: &str) -> Self {
        let child = command.args(["--log-format", "json"]).stderr(Stdio::piped()).spawn().unwrap();
        let mut part = Self { child, seen: Vec::new(), since: Arc::default() };
        let mut lines = BufReader::new(part.child.stderr.take().unwrap()).lines().map_while(Result::ok);
        for line in lines.by_ref() {
            let last = line.contains(sign);
            part.seen.push(line);
            if last {
                break;
            }
        }
        assert!(part.child.try_wait().unwrap().is_none(), "it ended: {:?}", part.seen);
        // Who stops reading would block who writes.
        let since = part.since.clone();
        std::thread::spawn(move || lines.for_each(|line| since.lock().unwrap().push(line)));
        part
    }

    /// Whether it logged this since it began.
    pub(crate) fn logged(&self, sign: &str) -> bool {
        self.since.lock().unwrap().iter().any(|line| line.contains(sign))
    }

    /// Where it says that it listens.
    #[track_caller]
    pub(crate) fn port(&self) -> u16 {
        let line = self.seen.iter().find(|line| line.contains("\"listening\"")).unwrap();
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        let address: std::net::SocketAddr = value["fields"]["address"].as_str().unwrap().parse().unwrap();
        address.port()
    }

    /// Kills it without warning.
    #[track_caller]
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends it a signal.
    #[track_caller]
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Asks it to end, as a service manager does.
    #[track_caller]
    pub(crate) fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        let status = eventually("the part ends", || self.child.try_wait().unwrap());
        assert!(status.success(), "{status}");
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A kubeconfig for a part, made by the API server's authority.
pub(crate) fn certificate(machine: &Machine, directory: &Path, name: &str, role: &[&str]) -> PathBuf {
    let text = run(machine.longshore(&["certificate"]).args(role));
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

pub(crate) fn part(subcommand: &str, kubeconfig: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longshore"));
    command.arg(subcommand).arg("--kubeconfig").arg(kubeconfig);
    command
}

/// Waits until `nslookup` in a pod says that a name leads there.
#[track_caller]
pub(crate) fn resolve(machine: &Machine, pod: &str, name: &str, expected: &str) {
    eventually(&format!("{name} in {pod} leads to {expected}"), || {
        let output = machine.kubectl(&["exec", pod, "--", "nslookup", name]).output().expect("kubectl can be run");
        // What comes before is the server's own address.
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (_, answer) = text.split_once("\n\n")?;
        answer.contains(expected).then_some(())
    });
}

/// Process ids in an instance's control groups whose command lines start so. What such a process forked, as a server does
/// for each connection, is not counted.
pub(crate) fn processes(instance: &str, command: &str) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").expect("there is /proc").flatten();
    let read = |pid: i32, file: &str| {
        let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\0', " ")
    };
    let mut found: Vec<i32> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| read(*pid, "cgroup").contains(&format!("longshore-{instance}")))
        .filter(|pid| !gone(*pid) && read(*pid, "cmdline").starts_with(command))
        .collect();
    found.sort_unstable();
    let parent = |pid: i32| read(pid, "stat").rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok();
    let all = found.clone();
    found.retain(|pid| parent(*pid).is_none_or(|parent: i32| !all.contains(&parent)));
    found
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.longshore(&["down", "--purge"]).output();
    }
}

/// Whether a process is gone, or only waits for its parent.
pub(crate) fn gone(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with('Z') || rest.trim().is_empty())
}

/// The body that a plain HTTP server answers to `GET /`, or which step failed and how.
pub(crate) fn get(address: SocketAddr) -> Result<String, String> {
    let failed = |step: &'static str| move |error: std::io::Error| format!("{step}: {error}");
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(3)).map_err(failed("connect"))?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(failed("set the timeout"))?;
    stream.write_all(b"GET / HTTP/1.0\r\nHost: test\r\n\r\n").map_err(failed("send"))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(failed("receive"))?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.split(' ').nth(1) == Some("200") => Ok(body.trim().to_owned()),
        _ => Err(format!("the answer was {answer:?}")),
    }
}

/// Whether any path below a directory is mounted.
pub(crate) fn mounted_below(directory: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts.lines().any(|line| line.split(' ').nth(4).is_some_and(|path| Path::new(path).starts_with(directory)))
}
