//! Writes what an OCI runtime needs to run a container.

use std::io;
use std::path::Path;

use longshore_core::runtime::{ContainerConfig, Error, HostNamespaces, Propagation, SandboxConfig};
use oci_spec::runtime::{Spec, get_default_maskedpaths, get_default_readonly_paths};
use serde_json::{Value, json};

use crate::images::Defaults;

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
    pub(crate) cgroup: &'a str,
    pub(crate) root: &'a Path,
    /// Host file that becomes the termination message file.
    pub(crate) message: &'a Path,
}

/// The runtime's configuration of a container.
pub(crate) fn spec(config: &ContainerConfig, image: &Defaults, place: &Place<'_>) -> Result<Spec, Error> {
    let unsupported = |what: &str| Error::Unsupported { runtime: crate::NAME.to_owned(), what: what.to_owned() };
    if config.security.privileged || !config.devices.is_empty() {
        return Err(unsupported("privileged containers and devices"));
    }
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
    let spec = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": config.tty,
            "user": user(config, image)?,
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
            "resources": resources(config),
            "maskedPaths": get_default_maskedpaths(),
            "readonlyPaths": get_default_readonly_paths(),
        },
    });
    serde_json::from_value(spec)
        .map_err(|error| Error::Invalid { reason: format!("container {}: {error}", config.container) })
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

fn user(config: &ContainerConfig, image: &Defaults) -> Result<Value, Error> {
    let (image_user, image_group) = image.user.split_once(':').unwrap_or((&image.user, ""));
    let number = |given: Option<i64>, image: &str| match (given, image) {
        (Some(id), _) => u32::try_from(id).map_err(|_| format!("{id} is not a user or group id")),
        (None, "" | "root") => Ok(0),
        (None, name) => name.parse().map_err(|_| format!("the image's user {name:?} is not a number: set runAsUser")),
    };
    let invalid = |reason| Error::Invalid { reason };
    let uid = number(config.security.user, image_user).map_err(invalid)?;
    let gid = number(config.security.group, if config.security.user.is_some() { "" } else { image_group })
        .map_err(invalid)?;
    Ok(json!({"uid": uid, "gid": gid, "additionalGids": config.security.supplemental_groups}))
}

fn capabilities(config: &ContainerConfig) -> Vec<String> {
    let name = |name: &str| format!("CAP_{}", name.to_uppercase().trim_start_matches("CAP_"));
    let drop: Vec<String> = config.security.drop_capabilities.iter().map(|cap| name(cap)).collect();
    let all = drop.iter().any(|cap| cap == "CAP_ALL");
    let mut kept: Vec<String> =
        CAPABILITIES.iter().map(|cap| name(cap)).filter(|cap| !all && !drop.contains(cap)).collect();
    for added in config.security.add_capabilities.iter().map(|cap| name(cap)) {
        if !kept.contains(&added) {
            kept.push(added);
        }
    }
    kept
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
    if !pid {
        namespaces.push(json!({"type": "pid"}));
    }
    Value::Array(namespaces)
}

fn mounts(config: &ContainerConfig, place: &Place<'_>) -> Value {
    let mut mounts = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]}),
        json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]}),
        json!({"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]}),
        json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]}),
        json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]}),
    ];
    if place.sandbox.host.network {
        // sysfs can be mounted only by the owner of the network namespace.
        mounts.pop();
        mounts.push(json!({"destination": "/sys", "type": "bind", "source": "/sys", "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]}));
    }
    for mount in &config.mounts {
        let propagation = match mount.propagation {
            Propagation::Private => "rprivate",
            Propagation::HostToContainer => "rslave",
            Propagation::Bidirectional => "rshared",
        };
        let access = if mount.read_only { "ro" } else { "rw" };
        mounts.push(json!({"destination": mount.target, "type": "bind", "source": mount.source, "options": ["rbind", propagation, access]}));
    }
    if !config.termination_message_path.is_empty() {
        mounts.push(json!({"destination": config.termination_message_path, "type": "bind", "source": place.message, "options": ["bind", "rprivate", "rw"]}));
    }
    Value::Array(mounts)
}

fn resources(config: &ContainerConfig) -> Value {
    let wanted = &config.resources;
    // Upstream's: 1024 shares a core and at least 2; a period of 100 ms with a quota of at least 1 ms.
    let mut cpu = json!({"shares": (wanted.cpu_request_milli * 1024 / 1000).clamp(2, 262_144)});
    if let Some(limit) = wanted.cpu_limit_milli {
        cpu["period"] = json!(100_000);
        cpu["quota"] = json!((limit * 100).max(1000));
    }
    let mut resources = json!({"cpu": cpu, "devices": devices()});
    if let Some(limit) = wanted.memory_limit {
        resources["memory"] = json!({"limit": limit});
        if crate::cgroup::unified() {
            // As upstream: who is short of memory ends as a whole. Version 1 kills one process.
            resources["unified"] = json!({"memory.oom.group": "1"});
        }
    }
    resources
}

/// No device but the harmless ones that the runtime puts into every container.
fn devices() -> Value {
    let allow = |major: i64, minor: Option<i64>| match minor {
        Some(minor) => json!({"allow": true, "type": "c", "major": major, "minor": minor, "access": "rwm"}),
        None => json!({"allow": true, "type": "c", "major": major, "access": "rwm"}),
    };
    let mut devices = vec![json!({"allow": false, "access": "rwm"})];
    devices.extend(
        [(1, Some(3)), (1, Some(5)), (1, Some(7)), (1, Some(8)), (1, Some(9)), (5, Some(0)), (5, Some(2)), (136, None)]
            .map(|(a, b)| allow(a, b)),
    );
    Value::Array(devices)
}

pub(crate) fn write(spec: &Spec, directory: &Path) -> io::Result<()> {
    spec.save(directory.join("config.json")).map_err(io::Error::other)
}
