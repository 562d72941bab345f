//! What tests may leave on the host: nothing. Seen before and after, the difference is what they left.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Things on the host that a cluster makes, each in words.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Host(BTreeSet<String>);

impl Host {
    /// What is there now, as far as this user may see it.
    pub(crate) fn look() -> Self {
        let mut seen = BTreeSet::new();
        let lines = |program: &str, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).output();
            let text = output.map(|output| output.stdout).unwrap_or_default();
            String::from_utf8_lossy(&text).lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let entries = |path: &str| {
            let entries = fs::read_dir(path).into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        seen.extend(entries("/sys/class/net").into_iter().map(|name| format!("interface {name}")));
        seen.extend(entries("/run/netns").into_iter().map(|name| format!("network namespace {name}")));
        seen.extend(lines("nft", &["list", "tables"]).into_iter().map(|name| format!("nftables {name}")));
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        seen.extend(mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(|path| format!("mount {path}")));
        for process in entries("/proc").iter().filter(|name| name.parse::<u32>().is_ok()) {
            let program = fs::read_link(format!("/proc/{process}/exe")).unwrap_or_default();
            if program.file_name().is_some_and(|name| name.to_string_lossy().starts_with("longshore")) {
                seen.insert(format!("process {process} ({})", program.display()));
            }
        }
        let mut groups = Vec::new();
        control_groups(Path::new("/sys/fs/cgroup"), 3, &mut groups);
        seen.extend(groups.into_iter().map(|path| format!("control group {path}")));
        Self(seen)
    }

    /// What is here and was not there before.
    pub(crate) fn new_since(&self, before: &Self) -> Vec<String> {
        self.0.difference(&before.0).cloned().collect()
    }
}

/// Our control groups, at most `depth` levels down: below the controllers' hierarchies and their parents.
fn control_groups(directory: &Path, depth: usize, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if entry.file_name().to_string_lossy().starts_with("longshore") {
            found.push(path.display().to_string());
        } else if depth > 1 {
            control_groups(&path, depth - 1, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_new_things_are_told() {
        let host = |names: &[&str]| Host(names.iter().map(|name| (*name).to_owned()).collect());
        let (before, after) = (host(&["interface lo", "mount /"]), host(&["interface lo", "interface x", "mount /"]));
        assert_eq!(after.new_since(&before), ["interface x"]);
        assert!(before.new_since(&after).is_empty());
    }

    #[test]
    fn the_host_is_looked_at() {
        assert!(Host::look().0.contains("interface lo"));
    }
}
