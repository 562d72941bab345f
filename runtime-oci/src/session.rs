//! The processes that belong together: those that one process has started and that did not leave it on purpose.

use std::fs;
use std::time::Duration;

use nix::sys::signal::{Signal, kill as send};
use nix::unistd::Pid;

use crate::cgroup::pause;

/// Kills a child of this process, which has not been waited for, and what belongs to it: its session where it leads one, as
/// under runc and on terminals, else its group, which must not be this process' own.
pub(crate) fn kill(child: i32) {
    /// One that forks while it is killed is found in the next round.
    const ROUNDS_MAX: usize = 100;
    let Some(leader) = Process::read(child) else { return };
    let belongs = |process: &Process| match leader.session == child {
        true => process.session == child,
        false => process.group == leader.group,
    };
    for _ in 0..ROUNDS_MAX {
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = processes.filter_map(|process| process.file_name().to_str()?.parse().ok());
        let mut found = false;
        for pid in pids.filter(|pid| Process::read(*pid).is_some_and(|process| process.lives && belongs(&process))) {
            found = true;
            // One that has ended is what is wanted.
            let _ = send(Pid::from_raw(pid), Signal::SIGKILL);
        }
        if !found {
            return;
        }
        pause(Duration::from_millis(1));
    }
}

/// What `/proc` says of a process.
struct Process {
    lives: bool,
    group: i32,
    session: i32,
}

impl Process {
    fn read(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // After the name, which may hold anything: state, parent, group, session.
        let mut fields = stat.rsplit(')').next()?.split_whitespace();
        let lives = !matches!(fields.next()?, "Z" | "X");
        let mut number = |skipped| fields.nth(skipped)?.parse().ok();
        Some(Self { lives, group: number(1)?, session: number(0)? })
    }
}
