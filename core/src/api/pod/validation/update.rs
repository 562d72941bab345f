//! What of a pod an update may change.

use super::{annotations, scheduling, validate_metadata_and_spec};
use crate::api::pod::{Container, NodeAffinity, NodeSelectorTerm, Pod, PodSchedulingGate, PodSpec, Toleration};
use crate::api::rules;
use crate::validation::{ErrorList, Path, Report, diff, go_value, go_values, json};

/// What an update may change, as the error lists it.
const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
     `spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set \
     to 1 if it was previously negative)";

/// Checks an update of a pod through its own path.
pub(in crate::api::pod) fn validate_pod_update(new: &Pod, old: &Pod) -> ErrorList {
    let mut errors = rules::validate_update(new, old);
    validate_metadata_and_spec(new, &mut errors);
    annotations::validate_update(new, old, &mut errors);
    let at = Path::new("spec");
    let lists = [
        ("containers", &new.spec.containers, &old.spec.containers),
        ("initContainers", &new.spec.init_containers, &old.spec.init_containers),
    ];
    for (list, now, before) in lists {
        if now.len() != before.len() {
            errors.forbidden(&at.child(list), "pod updates may not add or remove containers");
            return errors;
        }
        validate_images(now, &at.child(list), &mut errors);
    }
    if !validate_deadline(&new.spec, &old.spec, &at.child("activeDeadlineSeconds"), &mut errors) {
        return errors;
    }
    only_added_tolerations(&new.spec.tolerations, &old.spec.tolerations, &at.child("tolerations"), &mut errors);
    only_deleted_gates(
        &new.spec.scheduling_gates,
        &old.spec.scheduling_gates,
        &at.child("schedulingGates"),
        &mut errors,
    );
    validate_rest(&new.spec, &old.spec, &at, &mut errors);
    errors
}

fn validate_images(containers: &[Container], at: &Path, errors: &mut ErrorList) {
    for (index, container) in containers.iter().enumerate() {
        let at = at.index(index).child("image");
        if container.image.is_empty() {
            errors.required(&at, "");
        }
        if container.image.trim() != container.image {
            errors.invalid(&at, container.image.as_str(), "must not have leading or trailing whitespace");
        }
    }
}

/// A deadline may come or get nearer. Says whether the rest is worth checking.
fn validate_deadline(new: &PodSpec, old: &PodSpec, at: &Path, errors: &mut ErrorList) -> bool {
    match (new.active_deadline_seconds, old.active_deadline_seconds) {
        (Some(seconds), _) if !(0..=i64::from(i32::MAX)).contains(&seconds) => {
            errors.invalid(at, seconds, "must be between 0 and 2147483647, inclusive");
            false
        }
        (Some(seconds), Some(before)) if seconds > before => {
            errors.invalid(at, seconds, "must be less than or equal to previous value");
            false
        }
        (None, Some(_)) => {
            errors.invalid(at, None::<i64>, "must not update from a positive integer to nil value");
            true
        }
        _ => true,
    }
}

fn only_added_tolerations(new: &[Toleration], old: &[Toleration], at: &Path, errors: &mut ErrorList) {
    let same = |before: &Toleration, now: &Toleration| {
        *now == Toleration { toleration_seconds: now.toleration_seconds, ..before.clone() }
    };
    if !old.iter().all(|before| new.iter().any(|now| same(before, now))) {
        errors.forbidden(at, "existing toleration can not be modified except its tolerationSeconds");
        return;
    }
    scheduling::validate_tolerations(new, at, errors);
}

fn only_deleted_gates(new: &[PodSchedulingGate], old: &[PodSchedulingGate], at: &Path, errors: &mut ErrorList) {
    for (index, gate) in new.iter().enumerate() {
        let again = new[index + 1..].contains(gate);
        if !old.contains(gate) && !again {
            let why = format!("only deletion is allowed, but found new scheduling gate '{}'", gate.name);
            errors.forbidden(&at.index(index).child("name"), why);
        }
    }
}

/// A specification without what is only another way to say the same.
fn comparable(spec: &PodSpec) -> PodSpec {
    let mut spec = spec.clone();
    spec.service_account.clear();
    spec.security_context.get_or_insert_default();
    spec
}

/// Puts back what may change, then compares the rest.
fn validate_rest(new: &PodSpec, old: &PodSpec, at: &Path, errors: &mut ErrorList) {
    let (mut new, old) = (comparable(new), comparable(old));
    if new == old {
        return;
    }
    let now = new.containers.iter_mut().chain(&mut new.init_containers);
    for (now, before) in now.zip(old.containers.iter().chain(&old.init_containers)) {
        now.image.clone_from(&before.image);
    }
    new.active_deadline_seconds = old.active_deadline_seconds;
    new.scheduling_gates.clone_from(&old.scheduling_gates);
    new.tolerations.clone_from(&old.tolerations);
    if old.termination_grace_period_seconds.is_some_and(|seconds| seconds < 0)
        && new.termination_grace_period_seconds == Some(1)
    {
        new.termination_grace_period_seconds = old.termination_grace_period_seconds;
    }
    if !old.scheduling_gates.is_empty() {
        validate_gated(&mut new, &old, at, errors);
    }
    if new != old {
        let what = format!("pod updates may not change fields other than {UPDATABLE}\n{}", diff(&old, &new));
        errors.forbidden(at, what);
    }
}

/// While gates hold a pod back, it may become more demanding as to its node. Puts that back too.
fn validate_gated(new: &mut PodSpec, old: &PodSpec, at: &Path, errors: &mut ErrorList) {
    if new.node_selector != old.node_selector {
        if old.node_selector.iter().any(|(key, value)| new.node_selector.get(key) != Some(value)) {
            let why = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
            errors.invalid(&at.child("nodeSelector"), json(&new.node_selector), why);
        }
        new.node_selector.clone_from(&old.node_selector);
    }
    let before = old.affinity.as_ref().and_then(|affinity| affinity.node_affinity.clone());
    let now = new.affinity.as_ref().and_then(|affinity| affinity.node_affinity.clone());
    if before == now {
        return;
    }
    let place = at.child("affinity").child("nodeAffinity");
    validate_node_affinity_change(now.as_ref(), before.as_ref(), &place, errors);
    match &mut new.affinity {
        None if before.is_some() => new.affinity.get_or_insert_default().node_affinity = before,
        None => {}
        Some(affinity)
            if old.affinity.is_none() && affinity.pod_affinity.is_none() && affinity.pod_anti_affinity.is_none() =>
        {
            new.affinity = None;
        }
        Some(affinity) => affinity.node_affinity = before,
    }
}

fn validate_node_affinity_change(
    new: Option<&NodeAffinity>,
    old: Option<&NodeAffinity>,
    at: &Path,
    errors: &mut ErrorList,
) {
    let terms = |affinity: Option<&NodeAffinity>| {
        let required = affinity.and_then(|of| of.required_during_scheduling_ignored_during_execution.clone());
        required.map(|required| required.node_selector_terms)
    };
    let Some(before) = terms(old).filter(|terms| !terms.is_empty()) else { return };
    let now = terms(new).unwrap_or_default();
    let at = at.child("requiredDuringSchedulingIgnoredDuringExecution").child("nodeSelectorTerms");
    if before.len() != now.len() {
        let why = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        errors.invalid(&at, go_values(&now), why);
        return;
    }
    for (index, (now, before)) in now.iter().zip(&before).enumerate() {
        if !only_adds(now, before) {
            errors.invalid(&at.index(index), go_value(now), "only additions are allowed (no mutations or deletions)");
        }
    }
}

fn only_adds(new: &NodeSelectorTerm, old: &NodeSelectorTerm) -> bool {
    // A term without requirements matches nothing, so any requirement would make it less demanding.
    let was_empty = old.match_expressions.is_empty() && old.match_fields.is_empty();
    let is_empty = new.match_expressions.is_empty() && new.match_fields.is_empty();
    (!was_empty || is_empty)
        && new.match_expressions.starts_with(&old.match_expressions)
        && new.match_fields.starts_with(&old.match_fields)
}
