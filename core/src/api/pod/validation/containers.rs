//! Containers: names, images, ports, policies.

use std::collections::{BTreeMap, BTreeSet};

use super::{env, mounts, probes, resources, security};
use crate::api::Protocol;
use crate::api::pod::{
    Container, ContainerPort, ContainerResizePolicy, ContainerRestartPolicy, ContainerRestartRuleAction,
    ContainerRestartRuleOnExitCodesOperator, PodSpec, PullPolicy, RestartPolicy, TerminationMessagePolicy, Volume,
};
use crate::validation::names::{is_dns1123_label, is_valid_port_name, is_valid_port_num};
use crate::validation::{ErrorList, Path, Report};

/// Protocols in the order in which upstream lists them.
pub(crate) const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const RESTART_POLICIES: [&str; 3] = ["Always", "Never", "OnFailure"];
const PULL_POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];
const RESTART_RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;

/// What the rules for a container look at outside of it.
pub(super) struct Context<'s> {
    pub(super) spec: &'s PodSpec,
    /// The pod's volumes that are right, by name.
    pub(super) volumes: BTreeMap<&'s str, &'s Volume>,
    /// Names of the pod's claims.
    pub(super) claims: BTreeSet<&'s str>,
}

impl<'s> Context<'s> {
    pub(super) fn new(spec: &'s PodSpec, volumes: BTreeMap<&'s str, &'s Volume>) -> Self {
        let claims = spec.resource_claims.iter().map(|claim| claim.name.as_str()).filter(|name| !name.is_empty());
        Self { spec, volumes, claims: claims.collect() }
    }

    /// The operating system that the pod asks for, if any.
    pub(super) fn system(&self) -> &str {
        self.spec.os.as_ref().map_or("", |os| os.name.as_str())
    }

    pub(super) fn host_users(&self) -> bool {
        self.spec.host_users.unwrap_or(true)
    }
}

/// Checks the containers proper.
pub(super) fn validate(context: &Context<'_>, at: &Path, errors: &mut ErrorList) {
    let containers = &context.spec.containers;
    if containers.is_empty() {
        errors.required(at, "");
        return;
    }
    let mut names = BTreeSet::new();
    for (index, container) in containers.iter().enumerate() {
        let at = at.index(index);
        validate_common(context, container, &at, errors);
        if !names.insert(container.name.as_str()) {
            errors.duplicate(&at.child("name"), container.name.as_str());
        }
        probes::validate_all(context, container, &at, errors);
        validate_restart(container, &at, errors);
    }
    validate_host_ports(containers.iter().enumerate(), at, errors);
}

/// Checks the init containers.
pub(super) fn validate_init(context: &Context<'_>, at: &Path, errors: &mut ErrorList) {
    let mut names: BTreeSet<&str> = context.spec.containers.iter().map(|container| container.name.as_str()).collect();
    for (index, container) in context.spec.init_containers.iter().enumerate() {
        let list = at;
        let at = at.index(index);
        validate_common(context, container, &at, errors);
        validate_restart(container, &at, errors);
        if names.contains(container.name.as_str()) {
            errors.duplicate(&at.child("name"), container.name.as_str());
        } else if !container.name.is_empty() {
            names.insert(&container.name);
        }
        // They run one after the other, so only their own ports can be in each other's way. The place is upstream's.
        validate_host_ports(std::iter::once((0, container)), list, errors);
        if container.restart_policy == Some(ContainerRestartPolicy::Always) {
            probes::validate_all(context, container, &at, errors);
        } else {
            let set = [
                ("lifecycle", container.lifecycle.is_some()),
                ("livenessProbe", container.liveness_probe.is_some()),
                ("readinessProbe", container.readiness_probe.is_some()),
                ("startupProbe", container.startup_probe.is_some()),
            ];
            for (field, _) in set.into_iter().filter(|(_, set)| *set) {
                let why = "may not be set for init containers without restartPolicy=Always";
                errors.forbidden(&at.child(field), why);
            }
        }
    }
}

/// Checks what holds for containers of all sorts.
pub(super) fn validate_common(context: &Context<'_>, container: &Container, at: &Path, errors: &mut ErrorList) {
    if container.name.is_empty() {
        errors.required(&at.child("name"), "");
    } else {
        errors.invalid_each(&at.child("name"), &container.name, is_dns1123_label(&container.name));
    }
    if container.image.is_empty() {
        errors.required(&at.child("image"), "");
    }
    let policy = at.child("terminationMessagePolicy");
    match &container.termination_message_policy {
        TerminationMessagePolicy::Unset => errors.required(&policy, ""),
        TerminationMessagePolicy::Other(other) => {
            errors.not_supported(&policy, other.as_ref(), TerminationMessagePolicy::ALL);
        }
        _ => {}
    }
    validate_ports(&container.ports, &at.child("ports"), errors);
    env::validate(&container.env, &at.child("env"), errors);
    env::validate_from(&container.env_from, &at.child("envFrom"), errors);
    mounts::validate(context, container, &at.child("volumeMounts"), errors);
    mounts::validate_devices(context, container, &at.child("volumeDevices"), errors);
    validate_pull_policy(&container.image_pull_policy, &at.child("imagePullPolicy"), errors);
    resources::validate_container(&container.resources, &context.claims, &at.child("resources"), errors);
    validate_resize(&container.resize_policy, &context.spec.restart_policy, &at.child("resizePolicy"), errors);
    if let Some(security) = &container.security_context {
        security::validate_container(security, context.host_users(), &at.child("securityContext"), errors);
    }
}

/// Checks when an image is fetched.
pub(super) fn validate_pull_policy(policy: &PullPolicy, at: &Path, errors: &mut ErrorList) {
    match policy {
        PullPolicy::Unset => errors.required(at, ""),
        PullPolicy::Other(other) => errors.not_supported(at, other.as_ref(), &PULL_POLICIES),
        _ => {}
    }
}

/// Pods, but not templates, refuse space around an image's name.
pub(super) fn validate_image_of_pod(container: &Container, at: &Path, errors: &mut ErrorList) {
    if container.image.trim() != container.image {
        let why = "must not have leading or trailing whitespace";
        errors.invalid(&at.child("image"), container.image.as_str(), why);
    }
}

fn validate_ports(ports: &[ContainerPort], at: &Path, errors: &mut ErrorList) {
    let mut names = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let at = at.index(index);
        if !port.name.is_empty() {
            let wrong = is_valid_port_name(&port.name);
            if wrong.is_empty() && !names.insert(port.name.as_str()) {
                errors.duplicate(&at.child("name"), port.name.as_str());
            }
            errors.invalid_each(&at.child("name"), &port.name, wrong);
        }
        if port.container_port == 0 {
            errors.required(&at.child("containerPort"), "");
        } else {
            validate_port_number(port.container_port, &at.child("containerPort"), errors);
        }
        if port.host_port != 0 {
            validate_port_number(port.host_port, &at.child("hostPort"), errors);
        }
        validate_protocol(&port.protocol, &at.child("protocol"), errors);
    }
}

/// Checks the number of a port.
pub(crate) fn validate_port_number(port: i32, at: &Path, errors: &mut ErrorList) {
    for why in is_valid_port_num(port.into()) {
        errors.invalid(at, port, why);
    }
}

/// Checks the protocol of a port.
pub(crate) fn validate_protocol(protocol: &Protocol, at: &Path, errors: &mut ErrorList) {
    match protocol {
        Protocol::Unset => errors.required(at, ""),
        Protocol::Other(other) => errors.not_supported(at, other.as_ref(), &PROTOCOLS),
        _ => {}
    }
}

/// Refuses two containers on one port of the node.
fn validate_host_ports<'c>(
    containers: impl Iterator<Item = (usize, &'c Container)>,
    at: &Path,
    errors: &mut ErrorList,
) {
    let mut taken = BTreeSet::new();
    for (index, container) in containers {
        for (number, port) in container.ports.iter().enumerate().filter(|(_, port)| port.host_port != 0) {
            let key = format!("{}/{}/{}", port.protocol, port.host_ip, port.host_port);
            if taken.contains(&key) {
                errors.duplicate(&at.index(index).child("ports").index(number).child("hostPort"), key);
            } else {
                taken.insert(key);
            }
        }
    }
}

fn validate_restart(container: &Container, at: &Path, errors: &mut ErrorList) {
    let (rules, policy) = (&container.restart_policy_rules, at.child("restartPolicy"));
    match &container.restart_policy {
        None if !rules.is_empty() => {
            errors.required(&policy, "must specify restartPolicy when restart rules are used");
        }
        Some(own) if !own.is_known() => errors.not_supported(&policy, own.as_str(), &RESTART_POLICIES),
        _ => {}
    }
    let at = at.child("restartPolicyRules");
    if rules.len() > RESTART_RULES_MAX {
        errors.too_many(&at, rules.len(), RESTART_RULES_MAX);
    }
    for (index, rule) in rules.iter().enumerate() {
        let at = at.index(index);
        // Restarting all containers is an alpha feature, off by default.
        if rule.action != ContainerRestartRuleAction::Restart {
            errors.not_supported(&at.child("action"), rule.action.as_str(), &["Restart"]);
        }
        let Some(codes) = &rule.exit_codes else {
            errors.required(&at.child("exitCodes"), "must be specified");
            continue;
        };
        let at = at.child("exitCodes");
        if !codes.operator.is_known() {
            let allowed = ContainerRestartRuleOnExitCodesOperator::ALL;
            errors.not_supported(&at.child("operator"), codes.operator.as_str(), allowed);
        }
        if codes.values.len() > EXIT_CODES_MAX {
            errors.too_many(&at.child("values"), codes.values.len(), EXIT_CODES_MAX);
        }
    }
}

fn validate_resize(policies: &[ContainerResizePolicy], restart: &RestartPolicy, at: &Path, errors: &mut ErrorList) {
    for (index, policy) in policies.iter().enumerate() {
        let (resource, own) = (policy.resource_name.as_str(), policy.restart_policy.as_str());
        if policies[..index].iter().any(|earlier| earlier.resource_name == resource) {
            errors.duplicate(&at.index(index), resource);
        }
        match resource {
            "cpu" | "memory" => {}
            "" => errors.required(at, ""),
            other => errors.not_supported(at, other, &["cpu", "memory"]),
        }
        match own {
            "NotRequired" | "RestartContainer" => {}
            "" => errors.required(at, ""),
            other => errors.not_supported(at, other, &["NotRequired", "RestartContainer"]),
        }
        if *restart == RestartPolicy::Never && own != "NotRequired" {
            errors.invalid(at, own, "must be 'NotRequired' when `restartPolicy` is 'Never'");
        }
    }
}
