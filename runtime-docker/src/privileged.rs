//! Privileged containers where the engine itself has not every right, as in a container: it would fail to give them all.

use std::fs;
use std::os::unix::fs::FileTypeExt;

use bollard::models::{DeviceMapping, HostConfig};

/// By their numbers.
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Devices that each container gets anyway.
const USUAL: [&str; 8] = ["null", "zero", "full", "random", "urandom", "tty", "ptmx", "console"];

/// The capabilities that this process, and so the engine beside it, cannot give.
fn missing() -> Vec<String> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bound = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapBnd:")?.trim(), 16).ok());
    let last = fs::read_to_string("/proc/sys/kernel/cap_last_cap").ok().and_then(|last| last.trim().parse().ok());
    let known = last.map_or(CAPABILITIES.len(), |last: usize| last + 1);
    let lacks = |number: usize| bound.is_some_and(|bound| bound & (1 << number) == 0);
    let names = CAPABILITIES.iter().enumerate().take(known).filter(|(number, _)| lacks(*number));
    names.map(|(_, name)| (*name).to_owned()).collect()
}

/// All that can be given.
pub(crate) fn privileged(config: HostConfig) -> HostConfig {
    let missing = missing();
    if missing.is_empty() {
        return HostConfig { privileged: Some(true), ..config };
    }
    let mut options = config.security_opt.unwrap_or_default();
    options.retain(|option| !option.starts_with("seccomp="));
    options.extend(["seccomp=unconfined", "apparmor=unconfined"].map(str::to_owned));
    let mut all = config.devices.unwrap_or_default();
    for entry in fs::read_dir("/dev").into_iter().flatten().flatten() {
        let is_device = entry.file_type().is_ok_and(|kind| kind.is_char_device() || kind.is_block_device());
        if is_device && !USUAL.iter().any(|usual| entry.file_name() == *usual) {
            let path = Some(entry.path().display().to_string());
            let cgroup_permissions = Some("rwm".to_owned());
            all.push(DeviceMapping { path_on_host: path.clone(), path_in_container: path, cgroup_permissions });
        }
    }
    HostConfig {
        cap_add: Some(vec!["ALL".to_owned()]),
        cap_drop: Some(missing),
        security_opt: Some(options),
        devices: Some(all),
        device_cgroup_rules: Some(vec!["a *:* rwm".to_owned()]),
        masked_paths: Some(Vec::new()),
        readonly_paths: Some(Vec::new()),
        ..config
    }
}
