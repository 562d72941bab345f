//! What of a pod's resources can change while it runs.

use super::{annotations, validate_metadata_and_spec};
use crate::api::pod::{Container, ContainerRestartPolicy, Pod, ResourceRequirements, qos_class};
use crate::api::{ResourceList, rules};
use crate::validation::{ErrorList, Path, Report};

/// The resources that can change.
const RESIZABLE: [&str; 2] = ["cpu", "memory"];
const ONLY_RESIZABLE: &str = "only cpu and memory resources are mutable";

/// Checks an update through `resize`.
pub(in crate::api::pod) fn validate_resize(new: &Pod, old: &Pod) -> ErrorList {
    let mut errors = rules::validate_update(new, old);
    validate_metadata_and_spec(new, &mut errors);
    if let Some(why) = never_resized(new, old) {
        let mut errors = ErrorList::new();
        errors.forbidden(&Path::new(""), why);
        return errors;
    }
    let at = Path::new("spec");
    let class = if old.status.qos_class.is_unset() { qos_class(&old.spec) } else { old.status.qos_class.clone() };
    if class != qos_class(&new.spec) {
        let why = "Pod QOS Class may not change as a result of resizing";
        errors.invalid(&at, new.status.qos_class.as_str(), why);
    }
    if !node_can_resize(old) {
        errors.forbidden(&at, "Pod running on node without support for resize");
    }
    let init = new.spec.init_containers.iter().zip(&old.spec.init_containers).enumerate();
    for (index, (now, before)) in init.filter(|(_, (_, before))| is_sidecar(before)) {
        let at = at.child("initContainers").index(index).child("resources");
        refuse_removal(&now.resources, &before.resources, &at, &mut errors);
    }
    for (index, (now, before)) in new.spec.containers.iter().zip(&old.spec.containers).enumerate() {
        let at = at.child("containers").index(index).child("resources");
        refuse_removal(&now.resources, &before.resources, &at, &mut errors);
    }
    compare_rest(new, old, &at, &mut errors);
    errors
}

/// Why a pod can never be resized.
fn never_resized(new: &Pod, old: &Pod) -> Option<&'static str> {
    let as_a_whole = |pod: &Pod| {
        let resources = pod.spec.resources.as_ref();
        resources.is_some_and(|resources| !resources.requests.is_empty() || !resources.limits.is_empty())
    };
    if as_a_whole(old) || as_a_whole(new) {
        Some("pods with pod-level resources cannot be resized")
    } else if annotations::is_mirror(&old.metadata) {
        Some("static pods cannot be resized")
    } else {
        let windows = old.spec.os.as_ref().is_some_and(|os| os.name == "windows");
        windows.then_some("windows pods cannot be resized")
    }
}

/// A node that can resize says which resources its running containers have.
fn node_can_resize(pod: &Pod) -> bool {
    let running = pod.status.container_statuses.iter().find(|status| status.state.running.is_some());
    running.is_none_or(|status| status.resources.is_some())
}

fn is_sidecar(container: &Container) -> bool {
    container.restart_policy == Some(ContainerRestartPolicy::Always)
}

fn refuse_removal(new: &ResourceRequirements, old: &ResourceRequirements, at: &Path, errors: &mut ErrorList) {
    let removed = |new: &ResourceList, old: &ResourceList| old.keys().any(|name| !new.contains_key(name));
    if removed(&new.requests, &old.requests) {
        errors.forbidden(&at.child("requests"), "resource requests cannot be removed");
    }
    if removed(&new.limits, &old.limits) {
        errors.forbidden(&at.child("limits"), "resource limits cannot be removed");
    }
}

/// Puts back what may change, then compares the rest.
fn compare_rest(new: &Pod, old: &Pod, at: &Path, errors: &mut ErrorList) {
    let mut spec = new.spec.clone();
    for (now, before) in spec.containers.iter_mut().zip(&old.spec.containers) {
        put_back(&mut now.resources, &before.resources);
        if now != before {
            errors.forbidden(at, ONLY_RESIZABLE);
        }
    }
    for (now, before) in spec.init_containers.iter_mut().zip(&old.spec.init_containers) {
        if is_sidecar(now) {
            put_back(&mut now.resources, &before.resources);
            if now != before {
                errors.forbidden(at, "only cpu and memory resources for sidecar containers are mutable");
            }
        } else if now != before {
            errors.forbidden(at, "resources for non-sidecar init containers are immutable");
        }
    }
    if errors.is_empty() && spec != old.spec {
        errors.forbidden(at, ONLY_RESIZABLE);
    }
}

fn put_back(new: &mut ResourceRequirements, old: &ResourceRequirements) {
    for (now, before) in [(&mut new.limits, &old.limits), (&mut new.requests, &old.requests)] {
        if before.is_empty() {
            now.clear();
            continue;
        }
        for name in RESIZABLE {
            match before.get(name) {
                Some(amount) => now.insert(name.to_owned(), amount.clone()),
                None => now.remove(name),
            };
        }
    }
}
