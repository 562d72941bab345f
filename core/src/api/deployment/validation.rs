//! What deployments may say, in upstream's words.

use super::{Deployment, DeploymentSpec, DeploymentStrategy, DeploymentStrategyType, RollingUpdateDeployment};
use crate::api::rules;
use crate::api::workload::{
    is_zero, validate_at_most, validate_at_most_all, validate_collision_count, validate_int_or_percent,
    validate_kept_pods,
};
use crate::int_or_string::IntOrString;
use crate::validation::{ErrorList, NameRule, Path, Report, json};

/// Checks a new deployment.
pub(super) fn validate(deployment: &Deployment) -> ErrorList {
    let mut errors = rules::validate(deployment, NameRule::DnsSubdomain);
    validate_spec(&deployment.spec, &Path::new("spec"), &mut errors);
    errors
}

/// Checks an update through the deployment's own path.
pub(super) fn validate_update(new: &Deployment, old: &Deployment) -> ErrorList {
    let (mut errors, at) = (rules::validate_update(new, old), Path::new("spec"));
    validate_spec(&new.spec, &at, &mut errors);
    errors.immutable(&at.child("selector"), &new.spec.selector, &old.spec.selector);
    errors
}

fn validate_spec(spec: &DeploymentSpec, at: &Path, errors: &mut ErrorList) {
    errors.non_negative(&at.child("replicas"), spec.replicas.unwrap_or_default());
    validate_kept_pods(spec.selector.as_ref(), &spec.template, at, errors);
    validate_strategy(&spec.strategy, &at.child("strategy"), errors);
    errors.non_negative(&at.child("minReadySeconds"), spec.min_ready_seconds);
    if let Some(limit) = spec.revision_history_limit {
        errors.non_negative(&at.child("revisionHistoryLimit"), limit);
    }
    if let Some(seconds) = spec.progress_deadline_seconds {
        let at = at.child("progressDeadlineSeconds");
        errors.non_negative(&at, seconds);
        if seconds <= spec.min_ready_seconds {
            errors.invalid(&at, seconds, "must be greater than minReadySeconds");
        }
    }
}

fn validate_strategy(strategy: &DeploymentStrategy, at: &Path, errors: &mut ErrorList) {
    let bounds = at.child("rollingUpdate");
    match (&strategy.type_, &strategy.rolling_update) {
        (DeploymentStrategyType::Recreate, Some(_)) => {
            errors.forbidden(&bounds, "may not be specified when strategy `type` is 'Recreate'");
        }
        (DeploymentStrategyType::Recreate, None) => {}
        (DeploymentStrategyType::RollingUpdate, Some(update)) => validate_bounds(update, &bounds, errors),
        (DeploymentStrategyType::RollingUpdate, None) => {
            errors.required(&bounds, "this should be defaulted and never be nil");
        }
        (other, _) => errors.not_supported(&at.child("type"), other.as_str(), DeploymentStrategyType::ALL),
    }
}

fn validate_bounds(update: &RollingUpdateDeployment, at: &Path, errors: &mut ErrorList) {
    let zero = IntOrString::Int(0);
    let unavailable = update.max_unavailable.as_ref().unwrap_or(&zero);
    let surge = update.max_surge.as_ref().unwrap_or(&zero);
    let at_unavailable = at.child("maxUnavailable");
    validate_int_or_percent(unavailable, &at_unavailable, errors);
    validate_int_or_percent(surge, &at.child("maxSurge"), errors);
    if is_zero(unavailable) && is_zero(surge) {
        errors.invalid(&at_unavailable, json(unavailable), "may not be 0 when `maxSurge` is 0");
    }
    validate_at_most_all(unavailable, &at_unavailable, errors);
}

/// Checks an update through `status`.
pub(super) fn validate_status_update(new: &Deployment, old: &Deployment) -> ErrorList {
    let (mut errors, at) = (rules::validate_update(new, old), Path::new("status"));
    let status = &new.status;
    errors.non_negative(&at.child("observedGeneration"), status.observed_generation);
    let counts = [
        ("replicas", Some(status.replicas)),
        ("updatedReplicas", Some(status.updated_replicas)),
        ("readyReplicas", Some(status.ready_replicas)),
        ("availableReplicas", Some(status.available_replicas)),
        ("unavailableReplicas", Some(status.unavailable_replicas)),
        ("terminatingReplicas", status.terminating_replicas),
        ("collisionCount", status.collision_count),
    ];
    for (field, count) in counts {
        errors.non_negative(&at.child(field), count.unwrap_or_default());
    }
    let all = (status.replicas, "status.replicas");
    validate_at_most(&at, ("updatedReplicas", status.updated_replicas), all, &mut errors);
    validate_at_most(&at, ("readyReplicas", status.ready_replicas), all, &mut errors);
    validate_at_most(&at, ("availableReplicas", status.available_replicas), all, &mut errors);
    let ready = (status.ready_replicas, "readyReplicas");
    validate_at_most(&at, ("availableReplicas", status.available_replicas), ready, &mut errors);
    validate_collision_count(status.collision_count, old.status.collision_count, &at, &mut errors);
    errors
}
