//! What stateful sets may say, and what of them may change, in upstream's words.

use super::{
    PersistentVolumeClaimRetentionPolicyType, PodManagementPolicyType, RollingUpdateStatefulSetStrategy, StatefulSet,
    StatefulSetSpec, StatefulSetUpdateStrategyType,
};
use crate::api::pod::validation::validate_template_metadata;
use crate::api::rules;
use crate::api::workload::{
    is_zero, refuse_deadline, require_always_restart, require_match, validate_at_most, validate_at_most_all,
    validate_collision_count, validate_int_or_percent, validate_selector,
};
use crate::validation::{ErrorList, NameRule, Path, Report, go_value, json};

/// Checks a new stateful set. Its name becomes part of host names, so it can have no dots.
pub(super) fn validate(set: &StatefulSet) -> ErrorList {
    let mut errors = rules::validate(set, NameRule::DnsLabel);
    validate_spec(&set.spec, &Path::new("spec"), &mut errors);
    errors
}

fn validate_spec(spec: &StatefulSetSpec, at: &Path, errors: &mut ErrorList) {
    let policy = &spec.pod_management_policy;
    if policy.is_unset() {
        errors.required(&at.child("podManagementPolicy"), "");
    } else if !policy.is_known() {
        let allowed = PodManagementPolicyType::ALL;
        let why = format!("must be '{}' or '{}'", allowed[0], allowed[1]);
        errors.invalid(&at.child("podManagementPolicy"), policy.as_str(), why);
    }
    validate_strategy(spec, &at.child("updateStrategy"), errors);
    if let Some(policy) = &spec.persistent_volume_claim_retention_policy {
        let at = at.child("persistentVolumeClaimRetentionPolicy");
        for (field, when) in [("whenDeleted", &policy.when_deleted), ("whenScaled", &policy.when_scaled)] {
            if !when.is_known() {
                let allowed = PersistentVolumeClaimRetentionPolicyType::ALL;
                errors.not_supported(&at.child(field), when.as_str(), allowed);
            }
        }
    }
    errors.non_negative(&at.child("replicas"), spec.replicas.unwrap_or_default());
    errors.non_negative(&at.child("minReadySeconds"), spec.min_ready_seconds);
    if let Some(ordinals) = &spec.ordinals {
        errors.non_negative(&at.child("ordinals").child("start"), ordinals.start);
    }
    let (selector, at_selector, at_template) = (spec.selector.as_ref(), at.child("selector"), at.child("template"));
    validate_selector(selector, "statefulset", &at_selector, errors);
    if require_match(selector, &spec.template, &at_template, errors) {
        // The rest of the template is checked when a pod is made from it: only then are the claims' volumes part of it.
        validate_template_metadata(&spec.template, &at_template, errors);
    } else {
        errors.invalid(&at_selector, json(selector), "");
    }
    require_always_restart(&spec.template, &at_template, errors);
    refuse_deadline(&spec.template, "StatefulSet", &at_template, errors);
}

fn validate_strategy(spec: &StatefulSetSpec, at: &Path, errors: &mut ErrorList) {
    let strategy = &spec.update_strategy;
    let bounds = at.child("rollingUpdate");
    match (&strategy.type_, &strategy.rolling_update) {
        (StatefulSetUpdateStrategyType::Unset, _) => errors.required(at, ""),
        (StatefulSetUpdateStrategyType::OnDelete, Some(update)) => {
            errors.invalid(&bounds, go_value(update), "only allowed for updateStrategy 'RollingUpdate'");
        }
        (StatefulSetUpdateStrategyType::RollingUpdate, Some(update)) => validate_bounds(update, &bounds, errors),
        (StatefulSetUpdateStrategyType::OnDelete | StatefulSetUpdateStrategyType::RollingUpdate, None) => {}
        (StatefulSetUpdateStrategyType::Other(_), _) => {
            errors.invalid(at, go_value(strategy), "must be 'RollingUpdate' or 'OnDelete'");
        }
    }
}

fn validate_bounds(update: &RollingUpdateStatefulSetStrategy, at: &Path, errors: &mut ErrorList) {
    errors.non_negative(&at.child("partition"), update.partition.unwrap_or_default());
    if let Some(unavailable) = &update.max_unavailable {
        let at = at.child("maxUnavailable");
        validate_int_or_percent(unavailable, &at, errors);
        if is_zero(unavailable) {
            errors.invalid(&at, json(unavailable), "cannot be 0");
        }
        validate_at_most_all(unavailable, &at, errors);
    }
}

/// Checks an update through the set's own path.
pub(super) fn validate_update(new: &StatefulSet, old: &StatefulSet) -> ErrorList {
    let (mut errors, at) = (rules::validate_update(new, old), Path::new("spec"));
    validate_spec(&new.spec, &at, &mut errors);
    let (now, before) = (&new.spec, &old.spec);
    let mut changeable = before.clone();
    changeable.replicas = now.replicas;
    changeable.template = now.template.clone();
    changeable.update_strategy = now.update_strategy.clone();
    changeable.min_ready_seconds = now.min_ready_seconds;
    changeable.ordinals = now.ordinals.clone();
    changeable.revision_history_limit = now.revision_history_limit;
    changeable.persistent_volume_claim_retention_policy = now.persistent_volume_claim_retention_policy.clone();
    if changeable != *now {
        let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
                   'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
        errors.forbidden(&at, why);
    }
    errors
}

/// Checks an update through `status`.
pub(super) fn validate_status_update(new: &StatefulSet, old: &StatefulSet) -> ErrorList {
    let (mut errors, at) = (ErrorList::new(), Path::new("status"));
    let status = &new.status;
    let counts = [
        ("replicas", status.replicas),
        ("readyReplicas", status.ready_replicas),
        ("currentReplicas", status.current_replicas),
        ("updatedReplicas", status.updated_replicas),
        ("availableReplicas", status.available_replicas),
    ];
    for (field, count) in counts {
        errors.non_negative(&at.child(field), count);
    }
    errors.non_negative(&at.child("observedGeneration"), status.observed_generation);
    errors.non_negative(&at.child("collisionCount"), status.collision_count.unwrap_or_default());
    for (field, count) in &counts[1..] {
        validate_at_most(&at, (field, *count), (status.replicas, "status.replicas"), &mut errors);
    }
    let ready = (status.ready_replicas, "status.readyReplicas");
    validate_at_most(&at, ("availableReplicas", status.available_replicas), ready, &mut errors);
    errors.extend(rules::validate_update(new, old));
    validate_collision_count(status.collision_count, old.status.collision_count, &at, &mut errors);
    errors
}
