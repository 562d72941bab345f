//! What is left of a node that was cleaned up: nothing may be.

use std::path::Path;
use std::process::Command;

use crate::Outcome;

/// # Errors
/// Names the processes, mounts, control groups, interfaces and tables that are still there.
pub(crate) fn nothing(instance: &str, directory: &Path) -> Outcome {
    let directory = directory.display().to_string();
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    let entries = |path: &str| std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut left: Vec<String> = Vec::new();
    for process in entries("/proc") {
        let command = read(&process.join("cmdline")).replace('\0', " ");
        if command.contains(&directory) {
            left.push(format!("process {} ({})", process.display(), command.trim()));
        }
    }
    let mounts = read(Path::new("/proc/self/mounts"));
    left.extend(mounts.lines().filter(|mount| mount.contains(&directory)).map(|mount| format!("mount {mount}")));
    let groups = entries("/sys/fs/cgroup").chain(["/sys/fs/cgroup".into()]);
    let groups = groups.map(|hierarchy| hierarchy.join(format!("longshore-{instance}")));
    left.extend(groups.filter(|group| group.exists()).map(|group| format!("control group {}", group.display())));
    let mark = format!("longshore-{instance}");
    for (what, program, arguments) in
        [("interface", "ip", &["-o", "link", "show"][..]), ("table", "nft", &["list", "tables"])]
    {
        let said = String::from_utf8(Command::new(program).args(arguments).output()?.stdout)?;
        left.extend(said.lines().filter(|line| line.contains(&mark)).map(|line| format!("{what} {line}")));
    }
    if left.is_empty() { Ok(()) } else { Err(format!("this was left behind:\n{}", left.join("\n")).into()) }
}
