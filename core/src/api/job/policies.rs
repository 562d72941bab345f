//! What failed and succeeded pods mean for a job, in upstream's words.

use std::collections::BTreeSet;

use super::{JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule, SuccessPolicy};
use crate::api::ConditionStatus;
use crate::validation::names::validate_qualified_name;
use crate::validation::{ErrorList, Path, Report};

const RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;
const PATTERNS_MAX: usize = 20;
/// Longest list of indexes, in bytes.
const INDEXES_MAX: usize = 64 * 1024;
const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];

/// Checks what failed pods mean.
pub(super) fn validate_failure(policy: &PodFailurePolicy, spec: &JobSpec, at: &Path, errors: &mut ErrorList) {
    let at = at.child("rules");
    if policy.rules.len() > RULES_MAX {
        errors.too_many(&at, policy.rules.len(), RULES_MAX);
        return;
    }
    let template = &spec.template.spec;
    let containers = template.containers.iter().chain(&template.init_containers);
    let containers: BTreeSet<&str> = containers.map(|container| container.name.as_str()).collect();
    for (index, rule) in policy.rules.iter().enumerate() {
        validate_rule(rule, spec, &containers, &at.index(index), errors);
    }
}

fn validate_rule(
    rule: &PodFailurePolicyRule,
    spec: &JobSpec,
    containers: &BTreeSet<&str>,
    at: &Path,
    errors: &mut ErrorList,
) {
    let action = at.child("action");
    match rule.action.as_str() {
        "" => errors.required(&action, format!("valid values: {ACTIONS:?}").replace(['[', ']'], "")),
        "FailIndex" if spec.backoff_limit_per_index.is_none() => {
            errors.invalid(&action, "FailIndex", "requires the backoffLimitPerIndex to be set");
        }
        other if !ACTIONS.contains(&other) => errors.not_supported(&action, other, &ACTIONS),
        _ => {}
    }
    if let Some(codes) = &rule.on_exit_codes {
        validate_exit_codes(codes, containers, &at.child("onExitCodes"), errors);
    }
    let conditions = &rule.on_pod_conditions;
    if !conditions.is_empty() {
        let at = at.child("onPodConditions");
        if conditions.len() > PATTERNS_MAX {
            errors.too_many(&at, conditions.len(), PATTERNS_MAX);
        }
        for (index, pattern) in conditions.iter().enumerate() {
            let at = at.index(index);
            errors.extend(validate_qualified_name(&pattern.type_, &at.child("type")));
            if pattern.status.is_unset() {
                errors.required(&at.child("status"), "valid values: \"False\", \"True\", \"Unknown\"");
            } else if !pattern.status.is_known() {
                let status: &ConditionStatus = &pattern.status;
                errors.not_supported(&at.child("status"), status.as_str(), &["False", "True", "Unknown"]);
            }
        }
    }
    match (&rule.on_exit_codes, conditions.is_empty()) {
        (Some(_), false) => errors.invalid(at, "", "specifying both OnExitCodes and OnPodConditions is not supported"),
        (None, true) => errors.invalid(at, "", "specifying one of OnExitCodes and OnPodConditions is required"),
        _ => {}
    }
}

fn validate_exit_codes(
    codes: &PodFailurePolicyOnExitCodesRequirement,
    containers: &BTreeSet<&str>,
    at: &Path,
    errors: &mut ErrorList,
) {
    let (operator, values) = (codes.operator.as_str(), at.child("values"));
    match operator {
        "In" | "NotIn" => {}
        "" => errors.required(&at.child("operator"), "valid values: \"In\", \"NotIn\""),
        other => errors.not_supported(&at.child("operator"), other, &["In", "NotIn"]),
    }
    if let Some(name) = codes.container_name.as_deref().filter(|name| !containers.contains(name)) {
        let why = "must be one of the container or initContainer names in the pod template";
        errors.invalid(&at.child("containerName"), name, why);
    }
    if codes.values.is_empty() {
        errors.invalid(&values, crate::validation::json(&codes.values), "at least one value is required");
    } else if codes.values.len() > EXIT_CODES_MAX {
        errors.too_many(&values, codes.values.len(), EXIT_CODES_MAX);
    }
    for (index, code) in codes.values.iter().enumerate() {
        let at = values.index(index);
        if *code == 0 && operator == "In" {
            errors.invalid(&at, *code, "must not be 0 for the In operator");
        }
        if codes.values[..index].contains(code) {
            errors.duplicate(&at, *code);
        }
    }
    if !codes.values.is_sorted() {
        errors.invalid(&values, crate::validation::json(&codes.values), "must be ordered");
    }
}

/// Checks when a job counts as done early.
pub(super) fn validate_success(policy: &SuccessPolicy, spec: &JobSpec, at: &Path, errors: &mut ErrorList) {
    let at = at.child("rules");
    let completions = spec.completions.unwrap_or_default();
    if policy.rules.is_empty() {
        errors.required(&at, "at least one rules must be specified when the successPolicy is specified");
    }
    if policy.rules.len() > RULES_MAX {
        errors.too_many(&at, policy.rules.len(), RULES_MAX);
    }
    for (index, rule) in policy.rules.iter().enumerate() {
        let at = at.index(index);
        if rule.succeeded_count.is_none() && rule.succeeded_indexes.is_none() {
            errors.required(&at, "at least one of succeededCount or succeededIndexes must be specified");
        }
        let mut listed = i64::from(completions);
        if let Some(indexes) = &rule.succeeded_indexes {
            let at = at.child("succeededIndexes");
            if indexes.len() > INDEXES_MAX {
                errors.too_long(&at, INDEXES_MAX);
            }
            match count_indexes(indexes, completions) {
                Ok(count) => listed = count,
                Err(why) => errors.invalid(&at, indexes.as_str(), format!("error parsing succeededIndexes: {why}")),
            }
        }
        if let Some(count) = rule.succeeded_count {
            let at = at.child("succeededCount");
            errors.non_negative(&at, count);
            if count > completions {
                let why = format!("must be less than or equal to {completions} (the number of specified completions)");
                errors.invalid(&at, count, why);
            }
            if rule.succeeded_indexes.is_some() && i64::from(count) > listed {
                let why = format!(
                    "must be less than or equal to {listed} (the number of indexes in the specified succeededIndexes field)"
                );
                errors.invalid(&at, count, why);
            }
        }
    }
}

/// How many indexes `1,3-5` means.
fn count_indexes(text: &str, completions: i32) -> Result<i64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    let (mut count, mut last) = (0, None);
    for interval in text.split(',') {
        let limits: Vec<&str> = interval.split('-').collect();
        let number = |text: &str| {
            text.parse::<i32>().map_err(|_| format!("cannot convert string to integer for index: \"{text}\""))
        };
        let (first, end) = match limits[..] {
            [only] => (number(only)?, number(only)?),
            [first, end] => (number(first)?, number(end)?),
            _ => {
                return Err(format!(
                    "the fragment \"{interval}\" violates the requirement that an index interval can have at most two parts separated by '-'"
                ));
            }
        };
        for index in [first, end] {
            if index < 0 || index >= completions {
                return Err(format!("too large index: \"{index}\""));
            }
        }
        if limits.len() == 2 && first >= end {
            return Err(format!("non-increasing order, previous: {first}, current: {end}"));
        }
        if let Some(last) = last.filter(|last| *last >= first) {
            return Err(format!("non-increasing order, previous: {last}, current: {first}"));
        }
        count += i64::from(end) - i64::from(first) + 1;
        last = Some(end);
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_counted_and_must_grow() {
        assert_eq!(count_indexes("", 10), Ok(0));
        assert_eq!(count_indexes("1,3-5", 10), Ok(4));
        for wrong in ["3,1", "5-3", "10", "a", "1-2-3", "1,1"] {
            assert!(count_indexes(wrong, 10).is_err(), "{wrong}");
        }
    }
}
