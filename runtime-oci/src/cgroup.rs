//! Control groups, of version 2 and of version 1: finding, killing and removing what is in one.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use longshore_core::runtime::Resources;
use nix::poll::{PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::bundle::{CPU_PERIOD, cpu_quota, cpu_shares};

const ROOT: &str = "/sys/fs/cgroup";

/// Whether the machine has version 2 alone.
pub(crate) fn unified() -> bool {
    Path::new(ROOT).join("cgroup.controllers").exists()
}

/// The group's directory in every hierarchy that has it.
fn directories(group: &str) -> Vec<PathBuf> {
    let group = group.trim_start_matches('/');
    if unified() {
        return vec![Path::new(ROOT).join(group)];
    }
    let Ok(hierarchies) = fs::read_dir(ROOT) else { return Vec::new() };
    hierarchies.flatten().map(|entry| entry.path().join(group)).filter(|path| path.is_dir()).collect()
}

/// A group's file, such as `memory.oom_control`, in the hierarchy of its controller.
pub(crate) fn read(group: &str, controller: &str, file: &str) -> io::Result<String> {
    let hierarchy = if unified() { Path::new(ROOT).to_owned() } else { Path::new(ROOT).join(controller) };
    fs::read_to_string(hierarchy.join(group.trim_start_matches('/')).join(file))
}

/// Whether the kernel has killed a process of the group for want of memory.
pub(crate) fn oom_killed(group: &str) -> bool {
    let file = if unified() { "memory.events" } else { "memory.oom_control" };
    let Ok(text) = read(group, "memory", file) else { return false };
    text.lines().any(|line| line.strip_prefix("oom_kill ").is_some_and(|count| count.trim() != "0"))
}

/// A group that was made, in every hierarchy in which processes are found and limited.
pub(crate) struct Made(Vec<PathBuf>);

impl Made {
    /// Makes a group if need be.
    pub(crate) fn make(group: &str) -> io::Result<Self> {
        let group = group.trim_start_matches('/');
        let directories: Vec<PathBuf> = if unified() {
            vec![Path::new(ROOT).join(group)]
        } else {
            let hierarchies = ["systemd", "unified", "memory", "pids"].iter().map(|h| Path::new(ROOT).join(h));
            hierarchies.filter(|hierarchy| hierarchy.is_dir()).map(|hierarchy| hierarchy.join(group)).collect()
        };
        directories.iter().try_for_each(fs::create_dir_all)?;
        Ok(Self(directories))
    }

    /// Moves this process out of its caller's groups, so that what ends those does not end it. The kernel takes its time: 8 ms and
    /// more, unless it has just moved another.
    ///
    /// # Errors
    /// The group was removed meanwhile.
    pub(crate) fn enter(&self) -> io::Result<()> {
        self.0.iter().try_for_each(|directory| fs::write(directory.join("cgroup.procs"), "0"))
    }
}

/// Makes a group if need be and limits all that is in it and below.
///
/// # Errors
/// The kernel refuses a limit, such as one of memory that is less than what is in use.
pub(crate) fn limit(group: &str, limits: &Resources) -> io::Result<()> {
    let group = group.trim_start_matches('/');
    let (quota, memory) = (cpu_quota(limits), limits.memory_limit);
    let text = |limit: Option<u64>, none: &str| limit.map_or_else(|| none.to_owned(), |limit| limit.to_string());
    // Each with what has to be there for it.
    let files = if unified() {
        hand_down(group)?;
        // Version 2 has weights of 1 to 10000 for shares of 2 to 262144.
        let weight = 1 + (cpu_shares(limits) - 2) * 9999 / 262_142;
        vec![
            ("", "cpu.weight", weight.to_string(), false),
            ("", "cpu.max", format!("{} {CPU_PERIOD}", text(quota, "max")), quota.is_some()),
            ("", "memory.max", text(memory, "max"), memory.is_some()),
        ]
    } else {
        vec![
            ("cpu", "cpu.shares", cpu_shares(limits).to_string(), false),
            ("cpu", "cpu.cfs_period_us", CPU_PERIOD.to_string(), quota.is_some()),
            ("cpu", "cpu.cfs_quota_us", text(quota, "-1"), quota.is_some()),
            ("memory", "memory.limit_in_bytes", text(memory, "-1"), memory.is_some()),
        ]
    };
    for (controller, file, value, needed) in files {
        let hierarchy = Path::new(ROOT).join(controller);
        if hierarchy.is_dir() {
            fs::create_dir_all(hierarchy.join(group))?;
        }
        let path = hierarchy.join(group).join(file);
        // A machine without the controller cannot limit, and need not where there is no limit.
        if needed || path.exists() {
            let told = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
            fs::write(&path, value).map_err(told)?;
        }
    }
    Ok(())
}

/// Makes a group of version 2 to which all above it hand the controllers of CPU and memory down.
fn hand_down(group: &str) -> io::Result<()> {
    let mut directory = PathBuf::from(ROOT);
    for part in Path::new(group) {
        for controller in ["+cpu", "+memory"] {
            // One that is not there cannot be had; the limit then says so.
            let _ = fs::write(directory.join("cgroup.subtree_control"), controller);
        }
        directory.push(part);
        fs::create_dir_all(&directory)?;
    }
    Ok(())
}

fn tree(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            tree(&entry.path(), found);
        }
    }
    // Children before their parent: the order in which they can be removed.
    found.push(directory.to_owned());
}

/// Kills every process in the group and below.
pub(crate) fn kill_all(group: &str) {
    let mut groups = Vec::new();
    directories(group).iter().filter(|path| path.exists()).for_each(|path| tree(path, &mut groups));
    groups.iter().for_each(|directory| kill_in(directory));
}

fn kill_in(directory: &Path) {
    // Version 2 of Linux 5.14 and later kills all at once, also those that are just being started.
    let all = fs::OpenOptions::new().write(true).open(directory.join("cgroup.kill"));
    if all.and_then(|mut file| file.write_all(b"1")).is_ok() {
        return;
    }
    let processes = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    for pid in processes.lines().filter_map(|line| line.parse().ok()) {
        // One that has ended meanwhile is what is wanted.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// Kills every process in the group and below, and removes it. Answers whether all are gone.
pub(crate) fn destroy(group: &str) -> bool {
    for _ in 0..400 {
        let mut groups = Vec::new();
        directories(group).iter().filter(|path| path.exists()).for_each(|path| tree(path, &mut groups));
        if groups.is_empty() {
            return true;
        }
        for directory in &groups {
            kill_in(directory);
            let _ = fs::remove_dir(directory);
        }
        pause(Duration::from_millis(5));
    }
    false
}

/// Waits for a moment in code that has a thread of its own.
pub(crate) fn pause(duration: Duration) {
    let _ = poll(&mut [], PollTimeout::try_from(duration).unwrap_or(PollTimeout::ZERO));
}
