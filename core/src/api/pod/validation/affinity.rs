//! Which nodes a pod wants, and which pods near it or not.

use std::collections::BTreeSet;

use crate::api::pod::{
    Affinity, NodeSelector, NodeSelectorOperator, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm,
    WeightedPodAffinityTerm,
};
use crate::selector::LabelSelector;
use crate::validation::names::{is_dns1123_label, is_dns1123_subdomain, is_valid_label_value, validate_qualified_name};
use crate::validation::{ErrorList, Path, Report, validate_label_selector};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
const NOT_AN_OPERATOR: &str = "not a valid selector operator";

/// Checks what a pod wants.
pub(super) fn validate(affinity: &Affinity, at: &Path, errors: &mut ErrorList) {
    if let Some(node) = &affinity.node_affinity {
        let at = at.child("nodeAffinity");
        if let Some(required) = &node.required_during_scheduling_ignored_during_execution {
            validate_node_selector(required, &at.child(REQUIRED), errors);
        }
        for (index, term) in node.preferred_during_scheduling_ignored_during_execution.iter().enumerate() {
            let at = at.child(PREFERRED).index(index);
            validate_weight(term.weight, &at, errors);
            // Values of preferred terms are not checked: one that no label can have does no harm.
            validate_term(&term.preference, false, &at.child("preference"), errors);
        }
    }
    if let Some(near) = &affinity.pod_affinity {
        let required = &near.required_during_scheduling_ignored_during_execution;
        let preferred = &near.preferred_during_scheduling_ignored_during_execution;
        validate_pod_terms(required, preferred, &at.child("podAffinity"), errors);
    }
    if let Some(away) = &affinity.pod_anti_affinity {
        let required = &away.required_during_scheduling_ignored_during_execution;
        let preferred = &away.preferred_during_scheduling_ignored_during_execution;
        validate_pod_terms(required, preferred, &at.child("podAntiAffinity"), errors);
    }
}

fn validate_weight(weight: i32, at: &Path, errors: &mut ErrorList) {
    if !(1..=100).contains(&weight) {
        errors.invalid(&at.child("weight"), weight, "must be in the range 1-100");
    }
}

/// Checks terms of which a node must meet one.
pub(crate) fn validate_node_selector(selector: &NodeSelector, at: &Path, errors: &mut ErrorList) {
    let at = at.child("nodeSelectorTerms");
    if selector.node_selector_terms.is_empty() {
        errors.required(&at, "must have at least one node selector term");
    }
    for (index, term) in selector.node_selector_terms.iter().enumerate() {
        validate_term(term, true, &at.index(index), errors);
    }
}

fn validate_term(term: &NodeSelectorTerm, check_values: bool, at: &Path, errors: &mut ErrorList) {
    for (index, requirement) in term.match_expressions.iter().enumerate() {
        validate_expression(requirement, check_values, &at.child("matchExpressions").index(index), errors);
    }
    for (index, requirement) in term.match_fields.iter().enumerate() {
        validate_field(requirement, &at.child("matchFields").index(index), errors);
    }
}

fn validate_expression(requirement: &NodeSelectorRequirement, check_values: bool, at: &Path, errors: &mut ErrorList) {
    let (values, count) = (at.child("values"), requirement.values.len());
    match requirement.operator {
        NodeSelectorOperator::In | NodeSelectorOperator::NotIn => {
            if count == 0 {
                errors.required(&values, "must be specified when `operator` is 'In' or 'NotIn'");
            }
        }
        NodeSelectorOperator::Exists | NodeSelectorOperator::DoesNotExist => {
            if count > 0 {
                errors.forbidden(&values, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
            }
        }
        NodeSelectorOperator::Gt | NodeSelectorOperator::Lt => {
            if count != 1 {
                errors.required(&values, "must be specified single value when `operator` is 'Lt' or 'Gt'");
            }
        }
        _ => errors.invalid(&at.child("operator"), requirement.operator.as_str(), NOT_AN_OPERATOR),
    }
    errors.extend(validate_qualified_name(&requirement.key, &at.child("key")));
    if check_values {
        for (index, value) in requirement.values.iter().enumerate() {
            errors.invalid_each(&values.index(index), value, is_valid_label_value(value));
        }
    }
}

fn validate_field(requirement: &NodeSelectorRequirement, at: &Path, errors: &mut ErrorList) {
    match requirement.operator {
        NodeSelectorOperator::In | NodeSelectorOperator::NotIn => {
            if requirement.values.len() != 1 {
                let why = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                errors.required(&at.child("values"), why);
            }
        }
        _ => errors.invalid(&at.child("operator"), requirement.operator.as_str(), NOT_AN_OPERATOR),
    }
    if requirement.key == "metadata.name" {
        for (index, value) in requirement.values.iter().enumerate() {
            errors.invalid_each(&at.child("values").index(index), value, is_dns1123_subdomain(value));
        }
    } else {
        errors.invalid(&at.child("key"), requirement.key.as_str(), "not a valid field selector key");
    }
}

fn validate_pod_terms(
    required: &[PodAffinityTerm],
    preferred: &[WeightedPodAffinityTerm],
    at: &Path,
    errors: &mut ErrorList,
) {
    for (index, term) in required.iter().enumerate() {
        validate_pod_term(term, &at.child(REQUIRED).index(index), errors);
    }
    for (index, term) in preferred.iter().enumerate() {
        let at = at.child(PREFERRED).index(index);
        validate_weight(term.weight, &at, errors);
        validate_pod_term(&term.pod_affinity_term, &at.child("podAffinityTerm"), errors);
    }
}

fn validate_pod_term(term: &PodAffinityTerm, at: &Path, errors: &mut ErrorList) {
    let selector = term.label_selector.as_ref();
    validate_label_selector(selector, &at.child("labelSelector"), errors);
    validate_label_selector(term.namespace_selector.as_ref(), &at.child("namespaceSelector"), errors);
    for name in &term.namespaces {
        errors.invalid_each(&at.child("namespace"), name, is_dns1123_label(name));
    }
    let (same, different) = (&term.match_label_keys, &term.mismatch_label_keys);
    validate_label_keys(same, selector, &at.child("matchLabelKeys"), errors);
    validate_label_keys(different, selector, &at.child("mismatchLabelKeys"), errors);
    refuse_keys_in_selector(same, selector, at, errors);
    for (index, key) in same.iter().enumerate().filter(|(_, key)| different.contains(key)) {
        let at = at.child("matchLabelKeys").index(index);
        errors.invalid(&at, key.as_str(), "exists in both matchLabelKeys and mismatchLabelKeys");
    }
    if term.topology_key.is_empty() {
        errors.required(&at.child("topologyKey"), "can not be empty");
    }
    errors.extend(validate_qualified_name(&term.topology_key, &at.child("topologyKey")));
}

/// Checks keys of the pod's own labels that are to become part of a selector.
pub(super) fn validate_label_keys(
    keys: &[String],
    selector: Option<&LabelSelector>,
    at: &Path,
    errors: &mut ErrorList,
) {
    if !keys.is_empty() && selector.is_none() {
        errors.forbidden(at, "must not be specified when labelSelector is not set");
        return;
    }
    for (index, key) in keys.iter().enumerate() {
        errors.extend(validate_qualified_name(key, &at.index(index)));
    }
}

/// Refuses keys that the user's own selector speaks of too. The selector has what was made of the keys already, at its end, so
/// a key that is there twice was there before.
pub(super) fn refuse_keys_in_selector(
    keys: &[String],
    selector: Option<&LabelSelector>,
    at: &Path,
    errors: &mut ErrorList,
) {
    let Some(selector) = selector else { return };
    let mut seen: BTreeSet<&str> = selector.match_labels.keys().map(String::as_str).collect();
    for requirement in &selector.match_expressions {
        let key = requirement.key.as_str();
        if let Some(index) = keys.iter().rposition(|of| of == key)
            && seen.contains(key)
        {
            errors.invalid(&at.index(index), key, "exists in both matchLabelKeys and labelSelector");
        }
        seen.insert(key);
    }
}
