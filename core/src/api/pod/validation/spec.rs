//! A pod's specification as a whole.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::containers::Context;
use super::{
    affinity, containers, dns, env, ephemeral, for_each_container, resources, scheduling, security, volumes, windows,
};
use crate::api::pod::{DnsPolicy, PodSpec, PreemptionPolicy, RestartPolicy};
use crate::validation::addresses::validate_legacy_ip;
use crate::validation::names::{is_dns1123_label, is_dns1123_subdomain, validate_qualified_name};
use crate::validation::{ErrorList, Path, Report, validate_labels};

/// Operating systems that a pod can ask for.
const SYSTEMS: [&str; 2] = ["linux", "windows"];

/// Checks a specification. `metadata` is that of the pod, if it is one and not a template.
pub(super) fn validate(spec: &PodSpec, metadata: Option<&ObjectMeta>, at: &Path, errors: &mut ErrorList) {
    if spec.termination_grace_period_seconds.is_none() {
        errors.required(&at.child("terminationGracePeriodSeconds"), "");
    }
    let volumes = volumes::validate(spec, metadata, &at.child("volumes"), errors);
    resources::validate_claims(&spec.resource_claims, &at.child("resourceClaims"), errors);
    let context = Context::new(spec, volumes);
    containers::validate(&context, &at.child("containers"), errors);
    containers::validate_init(&context, &at.child("initContainers"), errors);
    ephemeral::validate(&context, &at.child("ephemeralContainers"), errors);
    env::validate_files(spec, at, errors);
    resources::validate_pod_level(&context, &at.child("resources"), errors);
    validate_host_ports(spec, metadata.is_some(), &at.child("containers"), errors);
    validate_policies(spec, at, errors);
    errors.extend(validate_labels(&spec.node_selector, &at.child("nodeSelector")));
    security::validate_pod(spec, &at.child("securityContext"), errors);
    if let Some(affinity) = &spec.affinity {
        affinity::validate(affinity, &at.child("affinity"), errors);
    }
    dns::validate(spec, &at.child("dnsConfig"), errors);
    for (index, gate) in spec.readiness_gates.iter().enumerate() {
        let at = at.child("readinessGates").index(index).child("conditionType");
        errors.extend(validate_qualified_name(&gate.condition_type, &at));
    }
    scheduling::validate_gates(&spec.scheduling_gates, &at.child("schedulingGates"), errors);
    scheduling::validate_spread(&spec.topology_spread_constraints, &at.child("topologySpreadConstraints"), errors);
    windows::validate_host_process(spec, at, errors);
    validate_host_users(spec, at, errors);
    validate_names(spec, at, errors);
    validate_rest(spec, at, errors);
    validate_system(spec, at, errors);
}

/// On the node's network a host port is the container's port itself.
fn validate_host_ports(spec: &PodSpec, is_pod: bool, at: &Path, errors: &mut ErrorList) {
    if !spec.host_network {
        return;
    }
    for (index, container) in spec.containers.iter().enumerate() {
        for (number, port) in container.ports.iter().enumerate() {
            // In a template 0 is right: the port is filled in when the pod is made.
            if (is_pod || port.host_port != 0) && port.host_port != port.container_port {
                let at = at.index(index).child("ports").index(number).child("hostPort");
                errors.invalid(&at, port.host_port, "must match `containerPort` when `hostNetwork` is true");
            }
        }
    }
}

fn validate_policies(spec: &PodSpec, at: &Path, errors: &mut ErrorList) {
    match &spec.restart_policy {
        RestartPolicy::Unset => errors.required(&at.child("restartPolicy"), ""),
        RestartPolicy::Other(other) => {
            errors.not_supported(&at.child("restartPolicy"), other.as_ref(), RestartPolicy::ALL);
        }
        _ => {}
    }
    match &spec.dns_policy {
        DnsPolicy::Unset => errors.required(&at.child("dnsPolicy"), ""),
        DnsPolicy::Other(other) => errors.not_supported(&at.child("dnsPolicy"), other.as_ref(), DnsPolicy::ALL),
        _ => {}
    }
}

/// A pod with users of its own cannot share other things with the node.
fn validate_host_users(spec: &PodSpec, at: &Path, errors: &mut ErrorList) {
    if spec.host_users != Some(false) {
        return;
    }
    const HOST_USERS: &str = "when `pod.Spec.HostUsers` is false";
    // The names are upstream's, capitals and all.
    let shared = [("hostNetwork", spec.host_network), ("HostPID", spec.host_pid), ("HostIPC", spec.host_ipc)];
    for (field, _) in shared.into_iter().filter(|(_, shared)| *shared) {
        errors.forbidden(&at.child(field), HOST_USERS);
    }
    for_each_container(spec, at, |container, at| {
        if !container.volume_devices.is_empty() {
            errors.forbidden(&at.child("volumeDevices"), HOST_USERS);
        }
    });
}

fn validate_names(spec: &PodSpec, at: &Path, errors: &mut ErrorList) {
    for (field, name) in [("serviceAccountName", &spec.service_account_name), ("nodeName", &spec.node_name)] {
        if !name.is_empty() {
            errors.invalid_each(&at.child(field), name, is_dns1123_subdomain(name));
        }
    }
    if let Some(seconds) = spec.active_deadline_seconds
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        errors.invalid(&at.child("activeDeadlineSeconds"), seconds, "must be between 1 and 2147483647, inclusive");
    }
    for (field, name) in [("hostname", &spec.hostname), ("subdomain", &spec.subdomain)] {
        if !name.is_empty() {
            errors.invalid_each(&at.child(field), name, is_dns1123_label(name));
        }
    }
}

fn validate_rest(spec: &PodSpec, at: &Path, errors: &mut ErrorList) {
    scheduling::validate_tolerations(&spec.tolerations, &at.child("tolerations"), errors);
    for (index, alias) in spec.host_aliases.iter().enumerate() {
        let at = at.child("hostAliases").index(index);
        validate_legacy_ip(&alias.ip, &at.child("ip"), errors);
        for (index, name) in alias.hostnames.iter().enumerate() {
            errors.invalid_each(&at.child("hostnames").index(index), name, is_dns1123_subdomain(name));
        }
    }
    let class = &spec.priority_class_name;
    if !class.is_empty() {
        errors.invalid_each(&at.child("priorityClassName"), class, is_dns1123_subdomain(class));
    }
    if let Some(class) = &spec.runtime_class_name {
        errors.invalid_each(&at.child("runtimeClassName"), class, is_dns1123_subdomain(class));
    }
    match &spec.preemption_policy {
        Some(PreemptionPolicy::Unset) => errors.required(&at.child("preemptionPolicy"), ""),
        Some(PreemptionPolicy::Other(other)) => {
            errors.not_supported(&at.child("preemptionPolicy"), other.as_ref(), PreemptionPolicy::ALL);
        }
        _ => {}
    }
    if !spec.overhead.is_empty() {
        resources::validate_overhead(&spec.overhead, &at.child("overhead"), errors);
    }
}

fn validate_system(spec: &PodSpec, at: &Path, errors: &mut ErrorList) {
    let Some(os) = &spec.os else { return };
    match os.name.as_str() {
        "" => errors.required(&at.child("os").child("name"), ""),
        "linux" => validate_linux(spec, at, errors),
        "windows" => windows::validate_pod(spec, at, errors),
        other => errors.not_supported(&at.child("os"), other, &SYSTEMS),
    }
}

fn validate_linux(spec: &PodSpec, at: &Path, errors: &mut ErrorList) {
    const DETAIL: &str = "windows options cannot be set for a linux pod";
    if spec.security_context.as_ref().is_some_and(|context| context.windows_options.is_some()) {
        errors.forbidden(&at.child("securityContext").child("windowsOptions"), DETAIL);
    }
    for_each_container(spec, at, |container, at| {
        if container.security_context.as_ref().is_some_and(|context| context.windows_options.is_some()) {
            errors.forbidden(&at.child("securityContext").child("windowsOptions"), DETAIL);
        }
    });
}
