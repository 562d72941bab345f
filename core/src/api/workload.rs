//! What the rules of the kinds that make pods share, in upstream's words.

use std::collections::BTreeMap;

use crate::api::PodTemplateSpec;
use crate::api::pod::RestartPolicy;
use crate::api::pod::validation::validate_template;
use crate::int_or_string::IntOrString;
use crate::selector::{LabelSelector, Selector};
use crate::validation::names::is_valid_percent;
use crate::validation::{ErrorList, Path, Report, json};

/// What is said of a template whose pods would not be found again.
const NOT_MATCHED: &str = "`selector` does not match template `labels`";

/// Checks a selector that must say something. `of` is how upstream calls the kind.
pub(crate) fn validate_selector(selector: Option<&LabelSelector>, of: &str, at: &Path, errors: &mut ErrorList) {
    let Some(selector) = selector else {
        errors.required(at, "");
        return;
    };
    errors.extend(selector.validate(at));
    if selector.is_empty() {
        errors.invalid(at, json(selector), format!("empty selector is invalid for {of}"));
    }
}

/// Demands that a selector finds the pods that are made from the template. Says whether the selector can be read.
pub(crate) fn require_match(
    selector: Option<&LabelSelector>,
    template: &PodTemplateSpec,
    at: &Path,
    errors: &mut ErrorList,
) -> bool {
    let none = BTreeMap::new();
    let labels = template.metadata.labels.as_ref().unwrap_or(&none);
    match Selector::from_object(selector) {
        Ok(selector) if selector.is_empty() || selector.matches(labels) => true,
        Ok(_) => {
            errors.invalid(&at.child("metadata").child("labels"), json(labels), NOT_MATCHED);
            true
        }
        Err(_) => false,
    }
}

/// Checks selector and template of an object that keeps pods running.
pub(crate) fn validate_kept_pods(
    selector: Option<&LabelSelector>,
    template: &PodTemplateSpec,
    at: &Path,
    errors: &mut ErrorList,
) {
    let (at_selector, at) = (at.child("selector"), at.child("template"));
    // Upstream calls all of them so.
    validate_selector(selector, "deployment", &at_selector, errors);
    if !require_match(selector, template, &at, errors) {
        errors.invalid(&at_selector, json(selector), "invalid label selector");
        return;
    }
    validate_template(template, &at, errors);
    require_always_restart(template, &at, errors);
    refuse_deadline(template, "ReplicaSet", &at, errors);
}

/// Pods that are replaced when they go must restart their containers themselves.
pub(crate) fn require_always_restart(template: &PodTemplateSpec, at: &Path, errors: &mut ErrorList) {
    let policy = &template.spec.restart_policy;
    if *policy != RestartPolicy::Always {
        errors.not_supported(&at.child("spec").child("restartPolicy"), policy.as_str(), &["Always"]);
    }
}

/// Pods that are to run for ever have no deadline.
pub(crate) fn refuse_deadline(template: &PodTemplateSpec, of: &str, at: &Path, errors: &mut ErrorList) {
    if template.spec.active_deadline_seconds.is_some() {
        let at = at.child("spec").child("activeDeadlineSeconds");
        errors.forbidden(&at, format!("activeDeadlineSeconds in {of} is not Supported"));
    }
}

/// Checks a number or percentage that is not below zero.
pub(crate) fn validate_int_or_percent(value: &IntOrString, at: &Path, errors: &mut ErrorList) {
    match value {
        IntOrString::Int(number) => errors.non_negative(at, *number),
        IntOrString::String(text) => errors.invalid_each(at, text, is_valid_percent(text)),
    }
}

/// The percentage, if it is one.
fn percent(value: &IntOrString) -> Option<i64> {
    let IntOrString::String(text) = value else { return None };
    if is_valid_percent(text).is_empty() { text.strip_suffix('%')?.parse().ok() } else { None }
}

/// Whether a number or percentage is nothing.
pub(crate) fn is_zero(value: &IntOrString) -> bool {
    percent(value).unwrap_or_else(|| value.int_value().into()) == 0
}

/// Refuses more than all.
pub(crate) fn validate_at_most_all(value: &IntOrString, at: &Path, errors: &mut ErrorList) {
    if percent(value).is_some_and(|percent| percent > 100) {
        errors.invalid(at, json(value), "must not be greater than 100%");
    }
}

/// Counts in the status of an object that keeps a number of pods running.
pub(crate) struct ReplicaCounts {
    pub(crate) replicas: i32,
    pub(crate) fully_labeled: i32,
    pub(crate) ready: i32,
    pub(crate) available: i32,
    pub(crate) terminating: Option<i32>,
    pub(crate) observed_generation: i64,
}

/// Checks counts, alone and against each other.
pub(crate) fn validate_replica_counts(counts: &ReplicaCounts, at: &Path, errors: &mut ErrorList) {
    errors.non_negative(&at.child("replicas"), counts.replicas);
    errors.non_negative(&at.child("fullyLabeledReplicas"), counts.fully_labeled);
    errors.non_negative(&at.child("readyReplicas"), counts.ready);
    errors.non_negative(&at.child("availableReplicas"), counts.available);
    if let Some(terminating) = counts.terminating {
        errors.non_negative(&at.child("terminatingReplicas"), terminating);
    }
    errors.non_negative(&at.child("observedGeneration"), counts.observed_generation);
    let all = (counts.replicas, "status.replicas");
    validate_at_most(at, ("fullyLabeledReplicas", counts.fully_labeled), all, errors);
    validate_at_most(at, ("readyReplicas", counts.ready), all, errors);
    validate_at_most(at, ("availableReplicas", counts.available), all, errors);
    validate_at_most(at, ("availableReplicas", counts.available), (counts.ready, "readyReplicas"), errors);
}

/// Refuses a count above another.
pub(crate) fn validate_at_most(
    at: &Path,
    (field, count): (&str, i32),
    (most, named): (i32, &str),
    errors: &mut ErrorList,
) {
    if count > most {
        errors.invalid(&at.child(field), count, format!("cannot be greater than {named}"));
    }
}

/// How often a name was taken already only grows.
pub(crate) fn validate_collision_count(new: Option<i32>, old: Option<i32>, at: &Path, errors: &mut ErrorList) {
    let decremented = match (new, old) {
        (None, old) => old.is_some(),
        (Some(new), old) => old.is_some_and(|old| new < old),
    };
    if decremented {
        errors.invalid(&at.child("collisionCount"), new.unwrap_or_default(), "cannot be decremented");
    }
}
