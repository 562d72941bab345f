//! Containers added for debugging.

use std::collections::BTreeSet;

use super::containers::{self, Context};
use super::{annotations, validate_metadata_and_spec};
use crate::api::pod::{EphemeralContainer, Pod, ResourceRequirements};
use crate::api::rules;
use crate::validation::{ErrorList, Path, Report, diff};

const NOT_ALLOWED: &str = "cannot be set for an Ephemeral Container";

/// Checks the debugging containers.
pub(super) fn validate(context: &Context<'_>, at: &Path, errors: &mut ErrorList) {
    let spec = context.spec;
    let others = spec.containers.iter().chain(&spec.init_containers).map(|container| container.name.as_str());
    let others: BTreeSet<&str> = others.collect();
    let mut names = others.clone();
    for (index, debugging) in spec.ephemeral_containers.iter().enumerate() {
        let at = at.index(index);
        let container = debugging.as_container();
        containers::validate_common(context, &container, &at, errors);
        containers::validate_image_of_pod(&container, &at, errors);
        if !names.insert(&debugging.name) {
            errors.duplicate(&at.child("name"), debugging.name.as_str());
        }
        let target = debugging.target_container_name.as_str();
        if !target.is_empty() && !others.contains(target) {
            errors.not_found(&at.child("targetContainerName"), target);
        }
        refuse_fields(debugging, &at, errors);
    }
}

/// Refuses what a container that nobody relies on may not have.
fn refuse_fields(container: &EphemeralContainer, at: &Path, errors: &mut ErrorList) {
    let set = [
        ("ports", !container.ports.is_empty()),
        ("resources", container.resources != ResourceRequirements::default()),
        ("resizePolicy", !container.resize_policy.is_empty()),
        ("restartPolicy", container.restart_policy.is_some()),
        ("restartPolicyRules", !container.restart_policy_rules.is_empty()),
        ("livenessProbe", container.liveness_probe.is_some()),
        ("readinessProbe", container.readiness_probe.is_some()),
        ("startupProbe", container.startup_probe.is_some()),
        ("lifecycle", container.lifecycle.is_some()),
    ];
    for (field, _) in set.into_iter().filter(|(_, set)| *set) {
        errors.forbidden(&at.child(field), NOT_ALLOWED);
    }
    for (index, mount) in container.volume_mounts.iter().enumerate() {
        let at = at.child("volumeMounts").index(index);
        for (field, path) in [("subPath", &mount.sub_path), ("subPathExpr", &mount.sub_path_expr)] {
            if !path.is_empty() {
                errors.forbidden(&at.child(field), NOT_ALLOWED);
            }
        }
    }
}

/// Checks an update through `ephemeralcontainers`: what is there stays as it is.
pub(in crate::api::pod) fn validate_ephemeral_containers_update(new: &Pod, old: &Pod) -> ErrorList {
    let mut errors = rules::validate_update(new, old);
    validate_metadata_and_spec(new, &mut errors);
    annotations::validate_update(new, old, &mut errors);
    if annotations::is_mirror(&old.metadata) {
        let mut errors = ErrorList::new();
        errors.forbidden(&Path::new(""), "static pods do not support ephemeral containers");
        return errors;
    }
    let at = Path::new("spec").child("ephemeralContainers");
    for before in &old.spec.ephemeral_containers {
        let name = &before.name;
        match new.spec.ephemeral_containers.iter().rfind(|container| container.name == *name) {
            None => errors.forbidden(&at, format!("existing ephemeral containers {name:?} may not be removed\n")),
            Some(now) if now != before => {
                let what = format!("existing ephemeral containers {name:?} may not be changed\n{}", diff(before, now));
                errors.forbidden(&at, what);
            }
            Some(_) => {}
        }
    }
    errors
}
