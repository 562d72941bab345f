//! What a pod's status may say, and how it may change.

use std::collections::BTreeSet;

use super::annotations;
use super::security::validate_id;
use crate::api::pod::helpers::should_restart;
use crate::api::pod::{
    Container, ContainerRestartPolicy, ContainerStatus, LinuxContainerUser, Pod, PodSpec, ResourceStatus, RestartPolicy,
};
use crate::api::rules;
use crate::validation::addresses::{validate_dual_stack_ips, validate_legacy_ip};
use crate::validation::names::{is_dns1123_subdomain, validate_qualified_name};
use crate::validation::{ErrorList, Path, Report, go_value, go_values};

/// Conditions that the system sets.
const SYSTEM_CONDITIONS: [&str; 3] = ["PodScheduled", "Ready", "Initialized"];
const HEALTH: [&str; 3] = ["Healthy", "Unhealthy", "Unknown"];

/// Checks an update through `status`.
pub(in crate::api::pod) fn validate_status_update(new: &Pod, old: &Pod) -> ErrorList {
    let mut errors = rules::validate_update(new, old);
    annotations::validate_update(new, old, &mut errors);
    let at = Path::new("metadata").child("conditions");
    for (index, condition) in new.status.conditions.iter().enumerate() {
        if !SYSTEM_CONDITIONS.contains(&condition.type_.as_str()) {
            errors.extend(validate_qualified_name(&condition.type_, &at.index(index).child("Type")));
        }
    }
    let at = Path::new("status");
    if new.spec.node_name != old.spec.node_name {
        errors.forbidden(&at.child("nodeName"), "may not be changed directly");
    }
    let (now, before) = (&new.status, &old.status);
    let nominated = now.nominated_node_name.as_str();
    if nominated != before.nominated_node_name && !nominated.is_empty() {
        errors.invalid_each(&at.child("nominatedNodeName"), nominated, is_dns1123_subdomain(nominated));
    }
    errors.immutable(&at.child("qosClass"), &now.qos_class, &before.qos_class);
    validate_transitions(new, old, &at, &mut errors);
    validate_claims(new, &at.child("resourceClaimStatuses"), &mut errors);
    validate_addresses(new, &at, &mut errors);
    validate_containers(new, &at, &mut errors);
    errors
}

/// A container that ended for good stays ended.
fn validate_transitions(new: &Pod, old: &Pod, at: &Path, errors: &mut ErrorList) {
    let (spec, now, before) = (&old.spec, &new.status, &old.status);
    let restarts = |status: &ContainerStatus, code: i32| {
        let none = Container::default();
        let container = spec.containers.iter().find(|container| container.name == status.name);
        should_restart(container.unwrap_or(&none), spec, code)
    };
    let place = at.child("containerStatuses");
    refuse_revival(&now.container_statuses, &before.container_statuses, restarts, &place, errors);
    let init_restarts = |status: &ContainerStatus, code: i32| {
        let container = spec.init_containers.iter().find(|container| container.name == status.name);
        let sidecar = |of: &Container| of.restart_policy == Some(ContainerRestartPolicy::Always);
        container.is_some_and(sidecar) || policy_restarts(spec, code)
    };
    let place = at.child("initContainerStatuses");
    refuse_revival(&now.init_container_statuses, &before.init_container_statuses, init_restarts, &place, errors);
    let (now, before) = (&now.ephemeral_container_statuses, &before.ephemeral_container_statuses);
    refuse_revival(now, before, |_, _| false, &at.child("ephemeralContainerStatuses"), errors);
}

fn policy_restarts(spec: &PodSpec, exit_code: i32) -> bool {
    match spec.restart_policy {
        RestartPolicy::Always => true,
        RestartPolicy::OnFailure => exit_code != 0,
        _ => false,
    }
}

fn refuse_revival(
    new: &[ContainerStatus],
    old: &[ContainerStatus],
    restarts: impl Fn(&ContainerStatus, i32) -> bool,
    at: &Path,
    errors: &mut ErrorList,
) {
    for (index, before) in old.iter().enumerate() {
        let Some(end) = &before.state.terminated else { continue };
        if restarts(before, end.exit_code) {
            continue;
        }
        for _ in new.iter().filter(|now| now.name == before.name && now.state.terminated.is_none()) {
            errors.forbidden(&at.index(index).child("state"), "may not be transitioned to non-terminated state");
        }
    }
}

fn validate_claims(pod: &Pod, at: &Path, errors: &mut ErrorList) {
    let mut names = BTreeSet::new();
    for (index, status) in pod.status.resource_claim_statuses.iter().enumerate() {
        let at = at.index(index).child("name");
        let name = status.name.as_str();
        if !pod.spec.resource_claims.iter().any(|claim| claim.name == name) {
            errors.invalid(&at, name, "must match the name of an entry in `spec.resourceClaims`");
        }
        if !names.insert(name) {
            errors.duplicate(&at, name);
        }
        if let Some(claim) = &status.resource_claim_name {
            errors.invalid_each(&at, claim, is_dns1123_subdomain(claim));
        }
    }
}

fn validate_addresses(pod: &Pod, at: &Path, errors: &mut ErrorList) {
    let (ips, hosts) = (&pod.status.pod_ips, &pod.status.host_ips);
    let place = at.child("podIPs");
    for (index, ip) in ips.iter().enumerate() {
        validate_legacy_ip(&ip.ip, &place.index(index), errors);
    }
    let texts: Vec<&str> = ips.iter().map(|ip| ip.ip.as_str()).collect();
    let shown = |index: Option<usize>| index.map_or_else(|| go_values(ips), |index| go_value(&ips[index]));
    validate_dual_stack_ips(&texts, &place, shown, errors);

    let place = at.child("hostIPs");
    if let Some(first) = hosts.first()
        && first.ip != pod.status.host_ip
    {
        errors.invalid(&place.index(0).child("ip"), first.ip.as_str(), "must be equal to `hostIP`");
    }
    for (index, ip) in hosts.iter().enumerate() {
        validate_legacy_ip(&ip.ip, &place.index(index), errors);
    }
    let texts: Vec<&str> = hosts.iter().map(|ip| ip.ip.as_str()).collect();
    let shown = |index: Option<usize>| index.map_or_else(|| go_values(hosts), |index| go_value(&hosts[index]));
    validate_dual_stack_ips(&texts, &place, shown, errors);
}

fn validate_containers(pod: &Pod, at: &Path, errors: &mut ErrorList) {
    let (spec, status) = (&pod.spec, &pod.status);
    let lists = [
        (at.child("containerStatuses"), &status.container_statuses, &spec.containers),
        (at.child("initContainerStatuses"), &status.init_container_statuses, &spec.init_containers),
    ];
    let debugging = at.child("ephemeralContainerStatuses");
    let system = spec.os.as_ref().map_or("linux", |os| os.name.as_str());
    for (at, statuses, _) in &lists {
        validate_users(statuses, system, at, errors);
    }
    validate_users(&status.ephemeral_container_statuses, system, &debugging, errors);
    for (at, statuses, containers) in &lists {
        for (index, status) in statuses.iter().enumerate() {
            let container = containers.iter().find(|container| container.name == status.name);
            let at = at.index(index).child("allocatedResourcesStatus");
            for (index, devices) in status.allocated_resources_status.iter().enumerate() {
                validate_devices(devices, container, &at.index(index), errors);
            }
        }
    }
    for (index, status) in status.ephemeral_container_statuses.iter().enumerate() {
        if !status.allocated_resources_status.is_empty() {
            let at = debugging.index(index).child("allocatedResourcesStatus");
            errors.forbidden(&at, "must not be specified in container status");
        }
    }
}

fn validate_users(statuses: &[ContainerStatus], system: &str, at: &Path, errors: &mut ErrorList) {
    for (index, status) in statuses.iter().enumerate() {
        let at = at.index(index).child("linux");
        let Some(user) = status.user.as_ref().and_then(|user| user.linux.as_ref()) else { continue };
        match system {
            "windows" => errors.forbidden(&at, "cannot be set for a windows pod"),
            "linux" => validate_linux_user(user, &at, errors),
            _ => {}
        }
    }
}

fn validate_linux_user(user: &LinuxContainerUser, at: &Path, errors: &mut ErrorList) {
    validate_id(Some(user.uid), &at.child("uid"), errors);
    validate_id(Some(user.gid), &at.child("gid"), errors);
    for (index, group) in user.supplemental_groups.iter().enumerate() {
        validate_id(Some(*group), &at.child("supplementalGroups").index(index), errors);
    }
}

fn validate_devices(devices: &ResourceStatus, container: Option<&Container>, at: &Path, errors: &mut ErrorList) {
    let name = devices.name.as_str();
    if let Some(container) = container {
        let (found, why) = if name.starts_with("claim:") {
            let claims = container.resources.claims.iter().map(|claim| match claim.request.as_str() {
                "" => format!("claim:{}", claim.name),
                request => format!("claim:{}/{request}", claim.name),
            });
            let why = "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or \
                       'claim:<claimName>' if request is empty";
            (claims.into_iter().any(|claim| claim == name), why)
        } else {
            let why = "must match one of the container's resource requests";
            (container.resources.requests.contains_key(name), why)
        };
        if !found {
            errors.invalid(&at.child("name"), name, why);
        }
    }
    let mut ids = BTreeSet::new();
    for (index, device) in devices.resources.iter().enumerate() {
        let at = at.child("resources").index(index);
        if !HEALTH.contains(&device.health.as_str()) {
            errors.not_supported(&at.child("health"), device.health.as_str(), &HEALTH);
        }
        if !ids.insert(device.resource_id.as_str()) {
            errors.duplicate(&at.child("resourceID"), device.resource_id.as_str());
        }
    }
}
