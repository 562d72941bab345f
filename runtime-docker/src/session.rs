//! The processes that belong together: those that one process has started and that did not leave its session.

use std::fs;
use std::io;

use nix::poll::{PollTimeout, poll};
use nix::sys::signal::{Signal, kill as send};
use nix::unistd::Pid;

use crate::notes::Holder;

/// A process that leads a session, as the engine's exec'd ones do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leader {
    pid: i32,
    /// When it was started; `None` if it had ended before anybody looked.
    started: Option<u64>,
}

impl Leader {
    pub(crate) fn new(pid: i32) -> Self {
        Self { pid, started: Process::read(pid).map(|process| process.started) }
    }
}

/// This process.
pub(crate) fn holder() -> io::Result<Holder> {
    let pid = std::process::id().cast_signed();
    let process = Process::read(pid).ok_or_else(|| io::Error::other("/proc does not tell of this process"))?;
    Ok(Holder { pid, started: process.started })
}

/// Whether a process that has held something still runs.
pub(crate) fn lives(holder: &Holder) -> bool {
    Process::read(holder.pid).is_some_and(|process| process.lives && process.started == holder.started)
}

/// Kills a session.
pub(crate) fn kill(leader: Leader) {
    /// One that forks while it is killed is found in the next round.
    const ROUNDS_MAX: usize = 100;
    for _ in 0..ROUNDS_MAX {
        // While any of the session is left, no other process gets the leader's number.
        if Process::read(leader.pid).is_some_and(|process| Some(process.started) != leader.started) {
            return;
        }
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = processes.filter_map(|process| process.file_name().to_str()?.parse().ok());
        let belongs = |pid: &i32| Process::read(*pid).is_some_and(|found| found.lives && found.session == leader.pid);
        let mut found = false;
        for pid in pids.filter(belongs) {
            found = true;
            // One that has ended is what is wanted.
            let _ = send(Pid::from_raw(pid), Signal::SIGKILL);
        }
        if !found {
            return;
        }
        // For a millisecond; this has a thread of its own.
        let _ = poll(&mut [], PollTimeout::from(1_u8));
    }
}

/// What `/proc` says of a process.
struct Process {
    lives: bool,
    session: i32,
    /// In ticks since the machine was started.
    started: u64,
}

impl Process {
    fn read(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // After the name, which may hold anything: state, parent, group, session, and the 20th is the start.
        let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
        let lives = !matches!(*fields.first()?, "Z" | "X");
        Some(Self { lives, session: fields.get(3)?.parse().ok()?, started: fields.get(19)?.parse().ok()? })
    }
}
