//! The first process of a pod's own process namespace, in which all its containers are: it only ends what was orphaned.

use std::io::{self, Read, Write};
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};
use rustix::process::{WaitOptions, wait};

/// Starts it as this process's child, which a subreaper becomes, and answers its process id.
pub(super) fn start() -> io::Result<u32> {
    let mut holder = Command::new(std::env::current_exe()?)
        .args(["shim", "hold"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .current_dir("/")
        .spawn()?;
    let mut said = String::new();
    if let Some(mut stdout) = holder.stdout.take() {
        stdout.read_to_string(&mut said)?;
    }
    holder.wait()?;
    said.trim().parse().map_err(|_| io::Error::other(format!("no process namespace can be made: {}", said.trim())))
}

/// Makes the namespace. Only children of who makes one are in it, so this one's child is the first.
pub(super) fn hold() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWPID)?;
    let child = Command::new(std::env::current_exe()?)
        .args(["shim", "init"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    writeln!(io::stdout(), "{}", child.id())
}

/// Runs until it is killed.
pub(super) fn run() -> io::Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGCHLD);
    signals.thread_block()?;
    loop {
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        signals.wait()?;
    }
}
