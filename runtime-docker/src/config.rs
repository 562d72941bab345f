//! What the engine is asked to make.

use bollard::models::{
    ContainerCreateBody, ContainerUpdateBody, DeviceMapping, HealthConfig, HostConfig, HostConfigLogConfig,
    Mount as EngineMount, MountBindOptions, MountBindOptionsPropagationEnum as EnginePropagation, MountType,
    RestartPolicy, RestartPolicyNameEnum,
};
use longshore_core::runtime::{
    ContainerConfig, Error, ImageId, LogLimits, Mount, PodRef, Propagation, Resources, SandboxConfig, Seccomp,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::logs;
use crate::privileged::privileged;

/// The label that tells one instance's containers from another's.
pub(crate) const INSTANCE: &str = "longshore.instance";
/// The labels by which events name what changed.
pub(crate) const UID: &str = "longshore.pod-uid";
pub(crate) const CONTAINER: &str = "longshore.container";
pub(crate) const ATTEMPT: &str = "longshore.attempt";
/// The label with all else.
const RECORD: &str = "longshore.record";

/// The most memory that the kernel can count: the engine knows no other way to take a limit away.
const NO_LIMIT: i64 = i64::MAX - 4095;

/// Shares of CPU that a sandbox needs: the fewest there are.
const PAUSE_SHARES: i64 = 2;

/// What is kept of a sandbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SandboxRecord {
    pub(crate) pod: PodRef,
    pub(crate) hostname: String,
    pub(crate) host_network: bool,
    pub(crate) host_ipc: bool,
    pub(crate) host_pid: bool,
    pub(crate) share_process_namespace: bool,
    pub(crate) log_directory: PathBuf,
    pub(crate) log_limits: LogLimits,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
}

/// What is kept of a container beside its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    pub(crate) image: ImageId,
    pub(crate) image_name: String,
    pub(crate) log_path: PathBuf,
    pub(crate) log_limits: LogLimits,
    pub(crate) resources: Resources,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
}

/// Reads the record from a container's labels.
pub(crate) fn record<T: serde::de::DeserializeOwned>(label: impl Fn(&str) -> Option<String>) -> Option<T> {
    serde_json::from_str(&label(RECORD)?).ok()
}

/// The path of a container's log.
pub(crate) fn log_path(directory: &Path, config: &ContainerConfig) -> PathBuf {
    directory.join(&config.container.name).join(format!("{}.log", config.container.attempt))
}

fn written<T: Serialize>(record: &T) -> String {
    serde_json::to_string(record).expect("records are plain data")
}

/// The container that holds a pod's namespaces.
pub(crate) fn sandbox(config: &SandboxConfig, instance: &str, image: String, group: String) -> ContainerCreateBody {
    let host = |wanted: bool, own: &str| Some(if wanted { "host" } else { own }.to_owned());
    let record = SandboxRecord {
        pod: config.pod.clone(),
        hostname: config.hostname.clone(),
        host_network: config.host.network,
        host_ipc: config.host.ipc,
        host_pid: config.host.pid,
        share_process_namespace: config.share_process_namespace,
        log_directory: config.log_directory.clone(),
        log_limits: config.log_limits,
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
    };
    let labels = [
        (INSTANCE.to_owned(), instance.to_owned()),
        (UID.to_owned(), config.pod.uid.clone()),
        (RECORD.to_owned(), written(&record)),
    ];
    ContainerCreateBody {
        // With the node's network comes the node's name.
        hostname: (!config.host.network).then(|| config.hostname.clone()),
        image: Some(image),
        // It hears no other; an engine that ends would wait for it.
        stop_signal: Some("SIGKILL".to_owned()),
        labels: Some(labels.into()),
        host_config: Some(HostConfig {
            network_mode: host(config.host.network, "none"),
            uts_mode: config.host.network.then(|| "host".to_owned()),
            ipc_mode: host(config.host.ipc, "shareable"),
            pid_mode: config.host.pid.then(|| "host".to_owned()),
            cgroup_parent: Some(group),
            cpu_shares: Some(PAUSE_SHARES),
            readonly_rootfs: Some(true),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            sysctls: Some(config.sysctls.iter().map(|(name, value)| (dotted(name), value.clone())).collect()),
            log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
            restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

/// Where a container is made.
pub(crate) struct Place<'a> {
    pub(crate) instance: &'a str,
    pub(crate) sandbox: &'a SandboxRecord,
    /// The engine's id of the sandbox.
    pub(crate) sandbox_id: &'a str,
    pub(crate) group: String,
    /// The user that the image asks for.
    pub(crate) image_user: &'a str,
    /// Host file that becomes the termination message file.
    pub(crate) message: &'a Path,
    /// The engine's name of the container whose processes are shared.
    pub(crate) processes_of: Option<String>,
    /// Whether the engine knows about what is mounted below a mount.
    pub(crate) recursive: bool,
}

/// A pod's container.
pub(crate) fn container(config: &ContainerConfig, place: &Place<'_>) -> Result<ContainerCreateBody, Error> {
    let record = ContainerRecord {
        image: config.image.clone(),
        image_name: config.image_name.clone(),
        log_path: log_path(&place.sandbox.log_directory, config),
        log_limits: place.sandbox.log_limits,
        resources: config.resources,
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
    };
    let labels = [
        (INSTANCE.to_owned(), place.instance.to_owned()),
        (UID.to_owned(), config.container.pod_uid.clone()),
        (CONTAINER.to_owned(), config.container.name.clone()),
        (ATTEMPT.to_owned(), config.container.attempt.to_string()),
        (RECORD.to_owned(), written(&record)),
    ];
    let words = |words: &Vec<String>| (!words.is_empty()).then(|| words.clone());
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Ok(ContainerCreateBody {
        user: user(config, place.image_user)?,
        tty: Some(config.tty),
        open_stdin: Some(config.stdin),
        stdin_once: Some(config.stdin_once),
        env: Some(environment(config, &place.sandbox.hostname)),
        entrypoint: words(&config.command),
        cmd: words(&config.args),
        // The pod's probes decide, not the image.
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }),
        image: Some(config.image.0.clone()),
        working_dir: text(&config.working_dir),
        stop_signal: text(&config.stop_signal),
        labels: Some(labels.into()),
        host_config: Some(host_config(config, place)?),
        ..ContainerCreateBody::default()
    })
}

fn host_config(config: &ContainerConfig, place: &Place<'_>) -> Result<HostConfig, Error> {
    let security = &config.security;
    let joined = format!("container:{}", place.sandbox_id);
    let shared = |host: bool| Some(if host { "host".to_owned() } else { joined.clone() });
    let own_pids = !place.sandbox.host_pid && !place.sandbox.share_process_namespace;
    let mut options = Vec::new();
    if security.no_new_privileges {
        options.push("no-new-privileges".to_owned());
    }
    match &security.seccomp {
        Seccomp::RuntimeDefault => {}
        Seccomp::Unconfined => options.push("seccomp=unconfined".to_owned()),
        Seccomp::Localhost(path) => {
            // The engine wants the profile itself.
            let profile = std::fs::read_to_string(path)
                .map_err(|error| Error::Invalid { reason: format!("seccomp profile {}: {error}", path.display()) })?;
            options.push(format!("seccomp={profile}"));
        }
    }
    let unmasked = security.unmasked_proc.then(Vec::new);
    let mount = |wanted: &Mount| mount(wanted, place.recursive);
    let mut mounts: Vec<_> = config.mounts.iter().map(mount).collect();
    if !config.termination_message_path.is_empty() {
        mounts.push(mount(&Mount {
            source: place.message.to_owned(),
            target: PathBuf::from(&config.termination_message_path),
            read_only: false,
            recursive_read_only: false,
            propagation: Propagation::Private,
        }));
    }
    let devices = config.devices.iter().map(|device| DeviceMapping {
        path_on_host: Some(device.source.display().to_string()),
        path_in_container: Some(device.target.display().to_string()),
        cgroup_permissions: Some(device.permissions.clone()),
    });
    let made = limited(
        &config.resources,
        HostConfig {
            network_mode: shared(place.sandbox.host_network),
            uts_mode: place.sandbox.host_network.then(|| "host".to_owned()),
            ipc_mode: shared(place.sandbox.host_ipc),
            pid_mode: match &place.processes_of {
                Some(other) => Some(format!("container:{other}")),
                None if own_pids => None,
                None => shared(place.sandbox.host_pid),
            },
            masked_paths: unmasked.clone(),
            readonly_paths: unmasked,
            cgroup_parent: Some(place.group.clone()),
            mounts: Some(mounts),
            devices: Some(devices.collect()),
            group_add: Some(security.supplemental_groups.iter().map(i64::to_string).collect()),
            cap_add: Some(security.add_capabilities.clone()),
            cap_drop: Some(security.drop_capabilities.clone()),
            readonly_rootfs: Some(security.read_only_root),
            security_opt: Some(options),
            log_config: Some(HostConfigLogConfig {
                typ: Some("json-file".to_owned()),
                config: Some(logs::OPTIONS.map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
            }),
            restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
            ..HostConfig::default()
        },
    );
    Ok(if security.privileged { privileged(made) } else { made })
}

/// A kernel parameter's name may have slashes where the engine wants dots.
pub(crate) fn dotted(sysctl: &str) -> String {
    match sysctl.find(['.', '/']) {
        Some(first) if sysctl[first..].starts_with('/') => sysctl
            .chars()
            .map(|c| match c {
                '/' => '.',
                '.' => '/',
                c => c,
            })
            .collect(),
        _ => sysctl.to_owned(),
    }
}

/// New limits of a container that runs; one that it shall not have any more is without end.
pub(crate) fn update(resources: &Resources) -> ContainerUpdateBody {
    let HostConfig { cpu_shares, cpu_period, cpu_quota, memory, memory_swap, .. } =
        limited(resources, HostConfig::default());
    ContainerUpdateBody {
        cpu_shares,
        cpu_period,
        cpu_quota: cpu_quota.or(Some(-1)),
        memory: memory.or(Some(NO_LIMIT)),
        memory_swap: memory_swap.or(Some(NO_LIMIT)),
        ..ContainerUpdateBody::default()
    }
}

fn limited(resources: &Resources, config: HostConfig) -> HostConfig {
    let bytes = resources.memory_limit.map(u64::cast_signed);
    HostConfig {
        // Upstream's: 1024 shares a core and at least 2; a period of 100 ms with a quota of at least 1 ms.
        cpu_shares: Some((resources.cpu_request_milli * 1024 / 1000).clamp(2, 262_144).cast_signed()),
        cpu_period: resources.cpu_limit_milli.map(|_| 100_000),
        cpu_quota: resources.cpu_limit_milli.map(|limit| (limit * 100).max(1000).cast_signed()),
        memory: bytes,
        // As much with swap as without: none.
        memory_swap: bytes,
        oom_score_adj: Some(resources.oom_score_adj.into()),
        ..config
    }
}

fn mount(mount: &Mount, recursive: bool) -> EngineMount {
    let propagation = match mount.propagation {
        Propagation::Private => EnginePropagation::RPRIVATE,
        Propagation::HostToContainer => EnginePropagation::RSLAVE,
        Propagation::Bidirectional => EnginePropagation::RSHARED,
    };
    EngineMount {
        typ: Some(MountType::BIND),
        source: Some(mount.source.display().to_string()),
        target: Some(mount.target.display().to_string()),
        read_only: Some(mount.read_only),
        bind_options: Some(MountBindOptions {
            propagation: Some(propagation),
            read_only_non_recursive: (recursive && mount.read_only && !mount.recursive_read_only).then_some(true),
            read_only_force_recursive: (recursive && mount.recursive_read_only).then_some(true),
            ..MountBindOptions::default()
        }),
        ..EngineMount::default()
    }
}

/// The last of several values of a name holds.
fn environment(config: &ContainerConfig, hostname: &str) -> Vec<String> {
    let mut env = vec![format!("HOSTNAME={hostname}")];
    for (name, value) in &config.env {
        let prefix = format!("{name}=");
        env.retain(|entry| !entry.starts_with(&prefix));
        env.push(format!("{prefix}{value}"));
    }
    env
}

/// The user and group, as `docker run --user` has them; `None` for the image's.
fn user(config: &ContainerConfig, image: &str) -> Result<Option<String>, Error> {
    let number =
        |id: i64| u32::try_from(id).map_err(|_| Error::Invalid { reason: format!("{id} is not a user or group id") });
    let (user, group) = (config.security.user.map(number).transpose()?, config.security.group.map(number).transpose()?);
    Ok(match (user, group) {
        (None, None) => None,
        (Some(user), None) => Some(user.to_string()),
        (Some(user), Some(group)) => Some(format!("{user}:{group}")),
        (None, Some(group)) => {
            let named = image.split(':').next().filter(|name| !name.is_empty());
            Some(format!("{}:{group}", named.unwrap_or("0")))
        }
    })
}
