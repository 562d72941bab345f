//! Control groups of pods: the engine makes them with the first container in one, and never removes them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use longshore_core::runtime::Resources;
use nix::poll::{PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const ROOT: &str = "/sys/fs/cgroup";

/// Removes a group and those below in every hierarchy. An engine that was killed while it started something may have
/// forgotten it: what still runs in them is killed.
pub(crate) fn destroy(group: &str) {
    /// Ample for killed processes to go.
    const ROUNDS_MAX: usize = 400;
    let group = group.trim_start_matches('/');
    let hierarchies = fs::read_dir(ROOT).into_iter().flatten().flatten().map(|entry| entry.path());
    // Of version 2 alone, the root is the hierarchy.
    let directories: Vec<_> = hierarchies.chain([PathBuf::from(ROOT)]).map(|path| path.join(group)).collect();
    for _ in 0..ROUNDS_MAX {
        let left: Vec<_> = directories.iter().filter(|path| path.join("cgroup.procs").exists()).collect();
        if left.is_empty() {
            return;
        }
        left.iter().for_each(|directory| destroy_tree(directory));
        // This has a thread of its own.
        let _ = poll(&mut [], PollTimeout::from(5_u8));
    }
}

/// Sets the limits of a group that exists.
pub(crate) fn limit(group: &str, resources: &Resources) -> io::Result<()> {
    let shares = (resources.cpu_request_milli * 1024 / 1000).clamp(2, 262_144);
    let quota = resources.cpu_limit_milli.map(|limit| (limit * 100).max(1000));
    let or = |value: Option<u64>, none: &str| value.map_or_else(|| none.to_owned(), |value| value.to_string());
    let unified = Path::new(ROOT).join("cgroup.controllers").exists();
    let files = if unified {
        // The kernel's own way from shares to weights.
        let weight = 1 + (shares - 2) * 9999 / 262_142;
        [
            ("", "cpu.weight", weight.to_string()),
            ("", "cpu.max", format!("{} 100000", or(quota, "max"))),
            ("", "memory.max", or(resources.memory_limit, "max")),
        ]
    } else {
        [
            ("cpu", "cpu.shares", shares.to_string()),
            ("cpu", "cpu.cfs_quota_us", or(quota, "-1")),
            ("memory", "memory.limit_in_bytes", or(resources.memory_limit, "-1")),
        ]
    };
    for (controller, file, value) in files {
        let path = Path::new(ROOT).join(controller).join(group).join(file);
        fs::write(&path, value).map_err(|error| io::Error::other(format!("write {}: {error}", path.display())))?;
    }
    Ok(())
}

fn destroy_tree(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            destroy_tree(&entry.path());
        }
    }
    let processes = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    for pid in processes.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0) {
        // One that has ended meanwhile is what is wanted.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    // It stays until its processes are gone.
    let _ = fs::remove_dir(directory);
}
