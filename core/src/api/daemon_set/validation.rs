//! What daemon sets may say, in upstream's words.

use super::{DaemonSet, DaemonSetSpec, DaemonSetUpdateStrategy, DaemonSetUpdateStrategyType, RollingUpdateDaemonSet};
use crate::api::pod::validation::validate_template;
use crate::api::rules;
use crate::api::workload::{
    is_zero, refuse_deadline, require_always_restart, require_match, validate_at_most_all, validate_collision_count,
    validate_int_or_percent,
};
use crate::int_or_string::IntOrString;
use crate::validation::{ErrorList, NameRule, Path, Report, json, validate_label_selector};

/// Checks a new daemon set.
pub(super) fn validate(set: &DaemonSet) -> ErrorList {
    let mut errors = rules::validate(set, NameRule::DnsSubdomain);
    validate_spec(&set.spec, &Path::new("spec"), &mut errors);
    errors
}

/// Checks an update through the set's own path.
pub(super) fn validate_update(new: &DaemonSet, old: &DaemonSet) -> ErrorList {
    let (mut errors, at) = (rules::validate_update(new, old), Path::new("spec"));
    validate_spec(&new.spec, &at, &mut errors);
    errors.immutable(&at.child("selector"), &new.spec.selector, &old.spec.selector);
    errors
}

fn validate_spec(spec: &DaemonSetSpec, at: &Path, errors: &mut ErrorList) {
    let (selector, at_selector, at_template) = (spec.selector.as_ref(), at.child("selector"), at.child("template"));
    validate_label_selector(selector, &at_selector, errors);
    match selector {
        // Upstream has no word for it, but such a set would find no pod of its own.
        None => errors.required(&at_selector, ""),
        Some(selector) => {
            require_match(Some(selector), &spec.template, &at_template, errors);
            if selector.is_empty() {
                errors.invalid(&at_selector, json(selector), "empty selector is invalid for daemonset");
            }
        }
    }
    validate_template(&spec.template, &at_template, errors);
    require_read_only_disks(spec, &at_template.child("spec").child("volumes"), errors);
    require_always_restart(&spec.template, &at_template, errors);
    refuse_deadline(&spec.template, "DaemonSet", &at_template, errors);
    errors.non_negative(&at.child("minReadySeconds"), spec.min_ready_seconds);
    validate_strategy(&spec.update_strategy, &at.child("updateStrategy"), errors);
    if let Some(limit) = spec.revision_history_limit {
        errors.non_negative(&at.child("revisionHistoryLimit"), limit);
    }
}

/// Pods on many nodes cannot all write one disk.
fn require_read_only_disks(spec: &DaemonSetSpec, at: &Path, errors: &mut ErrorList) {
    for (index, volume) in spec.template.spec.volumes.iter().enumerate() {
        if volume.gce_persistent_disk.as_ref().is_some_and(|disk| !disk.read_only) {
            let at = at.index(index).child("gcePersistentDisk").child("readOnly");
            errors.invalid(&at, false, "must be true for replicated pods > 1; GCE PD can only be mounted on multiple machines if it is read-only");
        }
    }
}

fn validate_strategy(strategy: &DaemonSetUpdateStrategy, at: &Path, errors: &mut ErrorList) {
    match (&strategy.type_, &strategy.rolling_update) {
        (DaemonSetUpdateStrategyType::OnDelete, _) => {}
        (DaemonSetUpdateStrategyType::RollingUpdate, None) => errors.required(&at.child("rollingUpdate"), ""),
        (DaemonSetUpdateStrategyType::RollingUpdate, Some(update)) => {
            validate_bounds(update, &at.child("rollingUpdate"), errors);
        }
        (other, _) => errors.not_supported(&at.child("type"), other.as_str(), DaemonSetUpdateStrategyType::ALL),
    }
}

fn validate_bounds(update: &RollingUpdateDaemonSet, at: &Path, errors: &mut ErrorList) {
    let zero = IntOrString::Int(0);
    let unavailable = update.max_unavailable.as_ref().unwrap_or(&zero);
    let surge = update.max_surge.as_ref().unwrap_or(&zero);
    let (at_unavailable, at_surge) = (at.child("maxUnavailable"), at.child("maxSurge"));
    validate_int_or_percent(unavailable, &at_unavailable, errors);
    validate_int_or_percent(surge, &at_surge, errors);
    validate_at_most_all(unavailable, &at_unavailable, errors);
    validate_at_most_all(surge, &at_surge, errors);
    match (is_zero(unavailable), is_zero(surge)) {
        (false, false) => {
            errors.invalid(&at_surge, json(surge), "may not be set when maxUnavailable is non-zero");
        }
        (true, true) => errors.required(&at_unavailable, "cannot be 0 when maxSurge is 0"),
        _ => {}
    }
}

/// Checks an update through `status`.
pub(super) fn validate_status_update(new: &DaemonSet, old: &DaemonSet) -> ErrorList {
    let (mut errors, at) = (rules::validate_update(new, old), Path::new("status"));
    let status = &new.status;
    let counts = [
        ("currentNumberScheduled", status.current_number_scheduled),
        ("numberMisscheduled", status.number_misscheduled),
        ("desiredNumberScheduled", status.desired_number_scheduled),
        ("numberReady", status.number_ready),
    ];
    for (field, count) in counts {
        errors.non_negative(&at.child(field), count);
    }
    errors.non_negative(&at.child("observedGeneration"), status.observed_generation);
    let counts = [
        ("updatedNumberScheduled", status.updated_number_scheduled),
        ("numberAvailable", status.number_available),
        ("numberUnavailable", status.number_unavailable),
        ("collisionCount", status.collision_count.unwrap_or_default()),
    ];
    for (field, count) in counts {
        errors.non_negative(&at.child(field), count);
    }
    validate_collision_count(status.collision_count, old.status.collision_count, &at, &mut errors);
    errors
}
