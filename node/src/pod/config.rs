//! What the runtime is told: the pod's spec with everything resolved.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use longshore_core::api::pod::{
    self, ContainerRestartPolicy, PodQosClass, ProcMountType, SeccompProfileType, SupplementalGroupsPolicy, helpers,
    qos_class,
};
use longshore_core::api::{Pod, ResourceList};
use longshore_core::network::{HostPort, Protocol};
use longshore_core::runtime::{
    ContainerConfig, ContainerRef, HostNamespaces, Image, Mount, PodRef, Resources, SandboxConfig, Seccomp, Security,
};

use super::observed::BACKOFF;
use crate::Options;
use crate::env::Environment;

/// Annotation of a sandbox: the pod's grace period in seconds, for an agent that finds it without its pod.
pub(crate) const GRACE_PERIOD: &str = "longshore.dev/termination-grace-period-seconds";

pub(crate) fn pod_ref(pod: &Pod) -> PodRef {
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    let meta = &pod.metadata;
    PodRef { namespace: part(&meta.namespace), name: part(&meta.name), uid: part(&meta.uid) }
}

/// A container of the spec, wherever it is named; one for debugging is never run twice.
pub(crate) fn find_container<'a>(pod: &'a Pod, name: &str) -> Option<Cow<'a, pod::Container>> {
    let spec = &pod.spec;
    let found = spec.containers.iter().chain(&spec.init_containers).find(|container| container.name == name);
    found.map(Cow::Borrowed).or_else(|| {
        let debugging = spec.ephemeral_containers.iter().find(|container| container.name == name)?;
        Some(Cow::Owned(debugging_container(debugging)))
    })
}

/// A container for debugging as one that runs once.
pub(crate) fn debugging_container(container: &pod::EphemeralContainer) -> pod::Container {
    pod::Container { restart_policy: Some(ContainerRestartPolicy::Never), ..container.as_container() }
}

/// The pod's host name: what it asks for, or its name, shortened to what a host name may be.
pub(crate) fn hostname(pod: &Pod, node_name: &str) -> String {
    let spec = &pod.spec;
    if let Some(given) = &spec.hostname_override {
        return given.clone();
    }
    if spec.host_network {
        return node_name.to_owned();
    }
    let name = if spec.hostname.is_empty() { pod.metadata.name.as_deref().unwrap_or_default() } else { &spec.hostname };
    let short: String = name.chars().take(63).collect();
    short.trim_end_matches(['-', '.']).to_owned()
}

/// The name that the kernel knows: the whole one where the pod asks for it.
///
/// # Errors
/// The whole one is too long for the kernel.
pub(crate) fn kernel_hostname(pod: &Pod, options: &Options) -> Result<String, String> {
    /// Linux's.
    const MAX: usize = 64;
    let (name, subdomain) = (hostname(pod, &options.node_name), &pod.spec.subdomain);
    let plain = pod.spec.set_hostname_as_fqdn != Some(true) || pod.spec.hostname_override.is_some();
    if plain || subdomain.is_empty() {
        return Ok(name);
    }
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let whole = format!("{name}.{subdomain}.{namespace}.svc.{}", options.cluster_domain);
    if whole.len() <= MAX {
        return Ok(whole);
    }
    Err(format!(
        "Failed to construct FQDN from Pod hostname and cluster domain, FQDN {whole} is too long ({MAX} characters is the max, {} characters requested)",
        whole.len()
    ))
}

/// The shares and limits of a whole pod.
pub(crate) fn pod_resources(pod: &Pod, capacity: &ResourceList) -> Resources {
    let spec = &pod.spec;
    let limits = helpers::pod_limits(pod, helpers::ResourceOptions::default());
    let requests = helpers::pod_requests(pod, helpers::ResourceOptions::default());
    // A limit of the pod holds only if every container has one: the sum of some would throttle the others.
    let all_limited = |name: &str| {
        let own = spec.resources.as_ref().is_some_and(|own| own.limits.contains_key(name));
        own || spec.containers.iter().all(|container| container.resources.limits.contains_key(name))
    };
    let limit = |name: &str| limits.get(name).filter(|_| all_limited(name));
    Resources {
        cpu_request_milli: requests.get("cpu").map_or(0, |cpu| unsigned(cpu.milli_value())),
        cpu_limit_milli: limit("cpu").map(|cpu| unsigned(cpu.milli_value())),
        memory_limit: limit("memory").map(|memory| unsigned(memory.value())),
        oom_score_adj: oom_score_adj(pod, None, capacity),
    }
}

/// # Errors
/// The pod's host name cannot be had.
pub(crate) fn sandbox(pod: &Pod, options: &Options, capacity: &ResourceList) -> Result<SandboxConfig, String> {
    let (spec, reference) = (&pod.spec, pod_ref(pod));
    let mut annotations = pod.metadata.annotations.clone().unwrap_or_default();
    let grace = spec.termination_grace_period_seconds.unwrap_or(30);
    annotations.insert(GRACE_PERIOD.to_owned(), grace.to_string());
    let sysctls = spec.security_context.iter().flat_map(|context| &context.sysctls);
    Ok(SandboxConfig {
        hostname: kernel_hostname(pod, options)?,
        host: HostNamespaces { network: spec.host_network, pid: spec.host_pid, ipc: spec.host_ipc },
        share_process_namespace: spec.share_process_namespace == Some(true),
        log_limits: options.log_limits,
        log_directory: options.pod_log_dir(&reference.namespace, &reference.name, &reference.uid),
        resources: pod_resources(pod, capacity),
        sysctls: sysctls.map(|sysctl| (sysctl.name.clone(), sysctl.value.clone())).collect(),
        labels: pod.metadata.labels.clone().unwrap_or_default(),
        annotations,
        pod: reference,
    })
}

pub(crate) fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let containers = pod.spec.containers.iter().chain(&pod.spec.init_containers);
    let ports = containers.flat_map(|container| &container.ports).filter(|port| port.host_port > 0);
    ports
        .filter_map(|port| {
            Some(HostPort {
                protocol: protocol(&port.protocol),
                host_ip: port.host_ip.parse::<IpAddr>().ok().filter(|ip| !ip.is_unspecified()),
                host_port: u16::try_from(port.host_port).ok()?,
                container_port: u16::try_from(port.container_port).ok()?,
            })
        })
        .collect()
}

/// An unset protocol is TCP.
pub(crate) fn protocol(protocol: &longshore_core::api::Protocol) -> Protocol {
    match protocol {
        longshore_core::api::Protocol::Udp => Protocol::Udp,
        longshore_core::api::Protocol::Sctp => Protocol::Sctp,
        _ => Protocol::Tcp,
    }
}

/// What a container is made from, once everything outside the spec is known.
#[derive(Debug)]
pub(crate) struct Resolved<'a> {
    pub(crate) image: &'a Image,
    pub(crate) env: Environment,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) attempt: u32,
    pub(crate) backoff: u64,
    pub(crate) capacity: &'a ResourceList,
    /// A container whose processes this one shares.
    pub(crate) target: Option<ContainerRef>,
    /// Directory of the node's seccomp profiles.
    pub(crate) profiles: &'a Path,
}

/// # Errors
/// The container may not run as this image's user.
pub(crate) fn container(pod: &Pod, spec: &pod::Container, resolved: Resolved<'_>) -> Result<ContainerConfig, String> {
    let reference = pod_ref(pod);
    let security = security(pod, spec, resolved.profiles);
    check_user(pod, spec, &security, resolved.image)?;
    let expand = |texts: &[String]| texts.iter().map(|text| resolved.env.expand(text)).collect();
    let (command, args) = (expand(&spec.command), expand(&spec.args));
    let mut annotations = BTreeMap::new();
    if resolved.backoff > 0 {
        annotations.insert(BACKOFF.to_owned(), resolved.backoff.to_string());
    }
    let stop_signal = spec.lifecycle.as_ref().and_then(|lifecycle| lifecycle.stop_signal.clone());
    Ok(ContainerConfig {
        container: ContainerRef { pod_uid: reference.uid, name: spec.name.clone(), attempt: resolved.attempt },
        image: resolved.image.id.clone(),
        image_name: spec.image.clone(),
        command,
        args,
        working_dir: spec.working_dir.clone(),
        env: resolved.env.variables,
        mounts: resolved.mounts,
        devices: Vec::new(),
        resources: Resources { oom_score_adj: oom_score_adj(pod, Some(spec), resolved.capacity), ..limits(spec) },
        security,
        process_namespace_of: resolved.target,
        stdin: spec.stdin,
        stdin_once: spec.stdin_once,
        tty: spec.tty,
        stop_signal: stop_signal.unwrap_or_default(),
        termination_message_path: spec.termination_message_path.clone(),
        labels: pod.metadata.labels.clone().unwrap_or_default(),
        annotations,
    })
}

/// The shares and limits of a container.
pub(crate) fn limits(spec: &pod::Container) -> Resources {
    let (requests, limits) = (&spec.resources.requests, &spec.resources.limits);
    Resources {
        cpu_request_milli: requests.get("cpu").or(limits.get("cpu")).map_or(0, |cpu| unsigned(cpu.milli_value())),
        cpu_limit_milli: limits.get("cpu").filter(|cpu| !cpu.is_zero()).map(|cpu| unsigned(cpu.milli_value())),
        memory_limit: limits.get("memory").filter(|memory| !memory.is_zero()).map(|m| unsigned(m.value())),
        oom_score_adj: 0,
    }
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// Upstream's: the less memory a pod asks for, the sooner the kernel takes it.
fn oom_score_adj(pod: &Pod, container: Option<&pod::Container>, capacity: &ResourceList) -> i32 {
    match qos_class(&pod.spec) {
        PodQosClass::Guaranteed => -997,
        PodQosClass::BestEffort => 1000,
        _ => {
            let request = match container {
                Some(container) => container.resources.requests.get("memory").map_or(0, |memory| memory.value()),
                None => helpers::resource_request(pod, "memory"),
            };
            let memory = capacity.get("memory").map_or(0, |memory| memory.value()).max(1);
            let score = 1000 - i128::from(request) * 1000 / i128::from(memory);
            i32::try_from(score.clamp(3, 999)).unwrap_or(999)
        }
    }
}

fn security(pod: &Pod, container: &pod::Container, profiles: &Path) -> Security {
    let of_pod = pod.spec.security_context.as_deref().cloned().unwrap_or_default();
    let own = container.security_context.as_deref().cloned().unwrap_or_default();
    let capabilities = own.capabilities.unwrap_or_default();
    let mut groups = of_pod.supplemental_groups;
    groups.extend(of_pod.fs_group.filter(|group| !groups.contains(group)));
    let profile = own.seccomp_profile.or(of_pod.seccomp_profile);
    let privileged = own.privileged == Some(true);
    Security {
        user: own.run_as_user.or(of_pod.run_as_user),
        group: own.run_as_group.or(of_pod.run_as_group),
        supplemental_groups: groups,
        strict_groups: of_pod.supplemental_groups_policy == Some(SupplementalGroupsPolicy::Strict),
        add_capabilities: capabilities.add,
        drop_capabilities: capabilities.drop,
        privileged,
        read_only_root: own.read_only_root_filesystem == Some(true),
        no_new_privileges: own.allow_privilege_escalation == Some(false),
        seccomp: match profile {
            Some(profile) if profile.type_ == SeccompProfileType::RuntimeDefault => Seccomp::RuntimeDefault,
            Some(profile) if profile.type_ == SeccompProfileType::Localhost => {
                Seccomp::Localhost(profiles.join(profile.localhost_profile.unwrap_or_default()))
            }
            _ => Seccomp::Unconfined,
        },
        unmasked_proc: own.proc_mount == Some(ProcMountType::Unmasked),
    }
}

/// Refuses to run as root what must not.
fn check_user(pod: &Pod, container: &pod::Container, security: &Security, image: &Image) -> Result<(), String> {
    let of_pod = pod.spec.security_context.as_ref().and_then(|context| context.run_as_non_root);
    let own = container.security_context.as_ref().and_then(|context| context.run_as_non_root);
    if own.or(of_pod) != Some(true) {
        return Ok(());
    }
    let about = format!("(pod: \"{}\", container: {})", super::container_status::full_name(pod), container.name);
    let image_user = image.user.split(':').next().unwrap_or_default();
    match (security.user, image_user) {
        (Some(0), _) => Err(format!("container's runAsUser breaks non-root policy {about}")),
        (Some(_), _) => Ok(()),
        (None, "" | "0" | "root") => Err(format!("container has runAsNonRoot and image will run as root {about}")),
        (None, user) if user.parse::<u32>().is_ok() => Ok(()),
        (None, user) => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root {about}"
        )),
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
