//! `matchLabelKeys` and `mismatchLabelKeys`, which become part of selectors when a pod is created.

use std::collections::BTreeMap;

use crate::api::pod::{Pod, PodAffinityTerm};
use crate::selector::{LabelSelector, LabelSelectorOperator, LabelSelectorRequirement};

/// Adds the pod's own values of `matchLabelKeys` (and `mismatchLabelKeys`) to the selectors of its pod affinity, its
/// pod anti-affinity and its topology spread constraints. Keys that the pod does not have add nothing.
pub fn merge_label_keys(pod: &mut Pod) {
    let Some(labels) = &pod.metadata.labels else { return };
    if let Some(affinity) = pod.spec.affinity.as_deref_mut() {
        let near = affinity.pod_affinity.iter_mut().flat_map(|affinity| {
            let preferred = affinity.preferred_during_scheduling_ignored_during_execution.iter_mut();
            let required = affinity.required_during_scheduling_ignored_during_execution.iter_mut();
            preferred.map(|term| &mut term.pod_affinity_term).chain(required)
        });
        let away = affinity.pod_anti_affinity.iter_mut().flat_map(|affinity| {
            let preferred = affinity.preferred_during_scheduling_ignored_during_execution.iter_mut();
            let required = affinity.required_during_scheduling_ignored_during_execution.iter_mut();
            preferred.map(|term| &mut term.pod_affinity_term).chain(required)
        });
        near.chain(away).for_each(|term| merge_term(term, labels));
    }
    for constraint in &mut pod.spec.topology_spread_constraints {
        if let Some(selector) = &mut constraint.label_selector {
            extend(selector, &constraint.match_label_keys, LabelSelectorOperator::In, labels);
        }
    }
}

fn merge_term(term: &mut PodAffinityTerm, labels: &BTreeMap<String, String>) {
    if let Some(selector) = &mut term.label_selector {
        extend(selector, &term.match_label_keys, LabelSelectorOperator::In, labels);
        extend(selector, &term.mismatch_label_keys, LabelSelectorOperator::NotIn, labels);
    }
}

fn extend(
    selector: &mut LabelSelector,
    keys: &[String],
    operator: LabelSelectorOperator,
    labels: &BTreeMap<String, String>,
) {
    let known = keys.iter().filter_map(|key| Some((key, labels.get(key)?)));
    selector.match_expressions.extend(known.map(|(key, value)| LabelSelectorRequirement {
        key: key.clone(),
        operator: operator.clone(),
        values: vec![value.clone()],
    }));
}
