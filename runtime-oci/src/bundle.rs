//! Writes what an OCI runtime needs to run a container.

use std::io;
use std::path::Path;

use longshore_core::runtime::{ContainerConfig, Error, HostNamespaces, Propagation, Resources, SandboxConfig};
use oci_spec::runtime::{Spec, get_default_maskedpaths, get_default_readonly_paths};
use serde_json::{Value, json};

use crate::devices::devices;
use crate::images::Defaults;
use crate::{propagation, seccomp, users};

/// The capabilities that containerd gives by default.
const CAPABILITIES: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// Where a container runs.
pub(crate) struct Place<'a> {
    pub(crate) sandbox: &'a SandboxConfig,
    /// Process id of the shim, which holds the namespaces.
    pub(crate) shim: u32,
    /// A process whose process namespace the container joins instead of having its own.
    pub(crate) processes_of: Option<u32>,
    pub(crate) cgroup: &'a str,
    pub(crate) root: &'a Path,
    /// Host file that becomes the termination message file.
    pub(crate) message: &'a Path,
}

/// The runtime's configuration of a container.
pub(crate) fn spec(config: &ContainerConfig, image: &Defaults, place: &Place<'_>) -> Result<Spec, Error> {
    let invalid = |reason: String| Error::Invalid { reason: format!("container {}: {reason}", config.container) };
    let args = arguments(config, image)?;
    let mut env: Vec<String> = image.env.clone().unwrap_or_default();
    if !env.iter().any(|entry| entry.starts_with("PATH=")) {
        env.push("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
    }
    if config.tty && !env.iter().any(|entry| entry.starts_with("TERM=")) {
        env.push("TERM=xterm".to_owned());
    }
    env.push(format!("HOSTNAME={}", place.sandbox.hostname));
    for (name, value) in &config.env {
        let prefix = format!("{name}=");
        env.retain(|entry| !entry.starts_with(&prefix));
        env.push(format!("{prefix}{value}"));
    }
    let cwd = [&config.working_dir, &image.working_dir].into_iter().find(|dir| !dir.is_empty()).map_or("/", |dir| dir);
    let capabilities = capabilities(config);
    let user = users::user(&config.security, &image.user, place.root)?;
    let devices = devices(config).map_err(|error| invalid(error.to_string()))?;
    let mut resources = resources(&config.resources);
    resources["devices"] = Value::Array(devices.rules);
    let open = config.security.privileged || config.security.unmasked_proc;
    let mut spec = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": config.tty,
            "user": {"uid": user.uid, "gid": user.gid, "additionalGids": user.groups},
            "args": args, "env": env, "cwd": cwd,
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "noNewPrivileges": config.security.no_new_privileges,
            "oomScoreAdj": config.resources.oom_score_adj,
        },
        "root": {"path": place.root, "readonly": config.security.read_only_root},
        "mounts": mounts(config, place),
        "linux": {
            "namespaces": namespaces(place),
            "cgroupsPath": place.cgroup,
            "rootfsPropagation": propagation::of_root(&config.mounts)?,
            "resources": resources,
            "devices": devices.made,
            "maskedPaths": if open { Vec::new() } else { get_default_maskedpaths() },
            "readonlyPaths": if open { Vec::new() } else { get_default_readonly_paths() },
        },
    });
    if !config.security.privileged
        && let Some(filter) = seccomp::filter(&config.security.seccomp, &capabilities)?
    {
        spec["linux"]["seccomp"] = filter;
    }
    serde_json::from_value(spec).map_err(|error| invalid(error.to_string()))
}

fn arguments(config: &ContainerConfig, image: &Defaults) -> Result<Vec<String>, Error> {
    let (entrypoint, cmd) = (image.entrypoint.as_deref().unwrap_or_default(), image.cmd.as_deref().unwrap_or_default());
    let mut args = if config.command.is_empty() { entrypoint } else { &config.command }.to_vec();
    let given = !config.args.is_empty() || !config.command.is_empty();
    args.extend_from_slice(if given { &config.args } else { cmd });
    if args.is_empty() {
        return Err(Error::Invalid { reason: "no command specified".to_owned() });
    }
    Ok(args)
}

fn capabilities(config: &ContainerConfig) -> Vec<String> {
    let security = &config.security;
    if security.privileged {
        return every_capability();
    }
    let name = |name: &String| format!("CAP_{}", name.to_uppercase().trim_start_matches("CAP_"));
    let add: Vec<String> = security.add_capabilities.iter().map(name).collect();
    let drop: Vec<String> = security.drop_capabilities.iter().map(name).collect();
    let all = |list: &[String]| list.iter().any(|cap| cap == "CAP_ALL");
    let mut kept = match (all(&add), all(&drop)) {
        (true, _) => every_capability(),
        (false, true) => Vec::new(),
        (false, false) => CAPABILITIES.iter().map(|cap| format!("CAP_{cap}")).collect(),
    };
    kept.retain(|cap| !drop.contains(cap));
    for added in add.into_iter().filter(|cap| cap != "CAP_ALL") {
        if !kept.contains(&added) {
            kept.push(added);
        }
    }
    kept
}

/// All capabilities that can be given: those that this process could have itself.
fn every_capability() -> Vec<String> {
    /// In the order of their numbers.
    const NAMES: &str = "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE \
        NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE \
        SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL \
        SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE";
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bound = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    let bound = bound.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(u64::MAX);
    let names = NAMES.split_whitespace().enumerate().filter(|(number, _)| bound & (1 << number) != 0);
    names.map(|(_, name)| format!("CAP_{name}")).collect()
}

fn namespaces(place: &Place<'_>) -> Value {
    let HostNamespaces { network, pid, ipc } = place.sandbox.host;
    let mut namespaces = vec![json!({"type": "mount"})];
    let shared = |kind: &str, file: &str| json!({"type": kind, "path": format!("/proc/{}/ns/{file}", place.shim)});
    if !network {
        namespaces.extend([shared("network", "net"), shared("uts", "uts")]);
    }
    if !ipc {
        namespaces.push(shared("ipc", "ipc"));
    }
    match place.processes_of {
        _ if pid => {}
        Some(process) => namespaces.push(json!({"type": "pid", "path": format!("/proc/{process}/ns/pid")})),
        None => namespaces.push(json!({"type": "pid"})),
    }
    Value::Array(namespaces)
}

fn mounts(config: &ContainerConfig, place: &Place<'_>) -> Value {
    let sys = if config.security.privileged { "rw" } else { "ro" };
    let mut mounts = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]}),
        json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]}),
        json!({"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]}),
        json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]}),
        json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", sys]}),
    ];
    if place.sandbox.host.network {
        // sysfs can be mounted only by the owner of the network namespace.
        mounts.pop();
        mounts.push(json!({"destination": "/sys", "type": "bind", "source": "/sys", "options": ["rbind", "nosuid", "noexec", "nodev", sys]}));
    }
    if place.sandbox.host.ipc {
        mounts.retain(|mount| mount["destination"] != "/dev/shm");
        mounts.push(json!({"destination": "/dev/shm", "type": "bind", "source": "/dev/shm", "options": ["rbind", "nosuid", "noexec", "nodev", "rw"]}));
    }
    for mount in &config.mounts {
        let propagation = match mount.propagation {
            Propagation::Private => "rprivate",
            Propagation::HostToContainer => "rslave",
            Propagation::Bidirectional => "rshared",
        };
        let access = match (mount.read_only, mount.recursive_read_only) {
            (_, true) => "rro",
            (true, false) => "ro",
            (false, false) => "rw",
        };
        mounts.push(json!({"destination": mount.target, "type": "bind", "source": mount.source, "options": ["rbind", propagation, access]}));
    }
    if !config.termination_message_path.is_empty() {
        mounts.push(json!({"destination": config.termination_message_path, "type": "bind", "source": place.message, "options": ["bind", "rprivate", "rw"]}));
    }
    Value::Array(mounts)
}

/// Limits as an OCI runtime reads them.
pub(crate) fn resources(wanted: &Resources) -> Value {
    let mut cpu = json!({"shares": cpu_shares(wanted)});
    if let Some(quota) = cpu_quota(wanted) {
        cpu["period"] = json!(CPU_PERIOD);
        cpu["quota"] = json!(quota);
    }
    let mut resources = json!({"cpu": cpu});
    if let Some(limit) = wanted.memory_limit {
        resources["memory"] = json!({"limit": limit});
        if crate::cgroup::unified() {
            // As upstream: who is short of memory ends as a whole. Version 1 kills one process.
            resources["unified"] = json!({"memory.oom.group": "1"});
        }
    }
    resources
}

/// Microseconds over which a quota of CPU time holds.
pub(crate) const CPU_PERIOD: u64 = 100_000;

/// Upstream's: 1024 shares a core and at least 2.
pub(crate) fn cpu_shares(wanted: &Resources) -> u64 {
    (wanted.cpu_request_milli * 1024 / 1000).clamp(2, 262_144)
}

/// Microseconds of CPU time a period, at least 1 ms.
pub(crate) fn cpu_quota(wanted: &Resources) -> Option<u64> {
    wanted.cpu_limit_milli.map(|limit| (limit * 100).max(1000))
}

pub(crate) fn write(spec: &Spec, directory: &Path) -> io::Result<()> {
    spec.save(directory.join("config.json")).map_err(io::Error::other)
}
