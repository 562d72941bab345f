//! An engine of a test's own, beside whatever runs on this machine.

#![allow(clippy::unwrap_used, reason = "a panic is how tests fail")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// Reads orders until whoever gives them has ended, in whatever way: `start` starts the engine. Then ends all there is.
///
/// In a mount namespace of its own, so that nothing stays mounted. Arguments: the directory, then the engine's.
const GUARDIAN: &str = r#"
directory=$1
shift
while read -r order; do
    rm -f "$directory/pid"
    dockerd --data-root "$directory/data" --exec-root "$directory/exec" --pidfile "$directory/pid" \
        -H "unix://$directory/sock" --shutdown-timeout 1 "$@" >>"$directory/log" 2>&1 </dev/null &
done
kill "$(cat "$directory/pid")"
wait
# What an engine that was killed has left: its containerd and their shims name the directory.
for process in /proc/[0-9]*; do
    pid=${process#/proc/}
    if [ "$pid" != $$ ] && tr '\0' ' ' <"$process/cmdline" | grep -qF "$directory/exec"; then
        kill -9 "$pid"
    fi
done
cd /
rm -rf "$directory"
"#;

/// Between two looks at an engine that starts or ends.
const LOOK: Duration = Duration::from_millis(20);

/// How often it is looked at: for a minute.
const LOOKS_MAX: u32 = 3000;

/// Where an engine has its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineNetwork {
    /// In a namespace of its own, without any rules.
    Own,
    /// In the namespace of whoever starts it, without bridge or rules.
    Callers,
    /// In the namespace of whoever starts it, with its default bridge and rules.
    CallersWithRules,
}

/// A Docker Engine that ends with this value, or with the process that holds it.
#[derive(Debug)]
pub struct OwnEngine {
    directory: TempDir,
    guardian: Child,
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    directories.into_iter().any(|directory: PathBuf| directory.join(program).is_file())
}

fn pause() {
    #[expect(
        clippy::disallowed_methods,
        reason = "real processes live in real time, and the engine knows nothing of ours"
    )]
    std::thread::sleep(LOOK);
}

impl OwnEngine {
    /// Starts an engine.
    ///
    /// # Errors
    /// The reason why this machine cannot.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(network: EngineNetwork) -> Result<Self, String> {
        if !nix::unistd::geteuid().is_root() {
            return Err("a Docker Engine needs root".to_owned());
        }
        if let Some(missing) = ["dockerd", "containerd", "runc"].into_iter().find(|program| !on_path(program)) {
            return Err(format!("{missing} is missing (apt-get install docker.io)"));
        }
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "slave"]);
        if network == EngineNetwork::Own {
            command.arg("--net");
        }
        command.args(["sh", "-c", GUARDIAN, "guardian"]).arg(directory.path());
        if network != EngineNetwork::CallersWithRules {
            command.args(["--bridge=none", "--iptables=false"]);
        }
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
        let guardian = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let engine = Self { directory, guardian };
        engine.restart();
        Ok(engine)
    }

    /// Starts it again after it was [killed](Self::kill).
    ///
    /// # Panics
    /// If it does not start.
    pub fn restart(&self) {
        self.guardian.stdin.as_ref().unwrap().write_all(b"start\n").unwrap();
        for _ in 0..LOOKS_MAX {
            if self.answers() {
                return;
            }
            pause();
        }
        let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(5).collect();
        panic!("the Docker Engine does not start; what it said last, backwards:\n{}", last.join("\n"));
    }

    /// Kills it without warning, and waits until it is gone. Its containers go on until it is started again.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill(&self) {
        let containerd = self.directory.path().join("exec/containerd/containerd.pid");
        let [engine, containerd_pid] = [&self.directory.path().join("pid"), &containerd]
            .map(|file| std::fs::read_to_string(file).unwrap().trim().parse::<i32>().unwrap());
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(engine), nix::sys::signal::Signal::SIGKILL).unwrap();
        // The kernel kills its containerd with it, which the next engine must not wait for.
        for pid in [engine, containerd_pid] {
            while !std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().is_empty() {
                pause();
            }
        }
        std::fs::remove_file(containerd).unwrap();
    }

    /// Its address.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Where it keeps everything.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("sock")
    }

    /// Whether it answers now.
    pub fn answers(&self) -> bool {
        let ask = || -> std::io::Result<bool> {
            let mut stream = UnixStream::connect(self.socket())?;
            stream.write_all(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer.contains(" 200 "))
        };
        ask().unwrap_or_default()
    }
}

impl Drop for OwnEngine {
    fn drop(&mut self) {
        drop(self.guardian.stdin.take());
        let _ = self.guardian.wait();
    }
}
