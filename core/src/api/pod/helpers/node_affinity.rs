//! Whether a pod wants a node: its node selector and node affinity.

use std::collections::BTreeMap;

use serde_json::json;

use crate::api::Node;
use crate::api::pod::{
    NodeAffinity, NodeSelector, NodeSelectorOperator, NodeSelectorRequirement, NodeSelectorTerm, Pod,
};
use crate::validation::names::{is_qualified_name, is_valid_label_value};
use crate::validation::{Path, join_once};

/// Terms of a pod's node affinity that cannot be read, each said once, in upstream's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", join_once(.0.iter().cloned()))]
pub struct NodeAffinityError(Vec<String>);

/// Whether the node has what the pod's `nodeSelector` and required node affinity demand.
///
/// # Errors
///
/// No term matches and at least one cannot be read.
pub fn node_matches(pod: &Pod, node: &Node) -> Result<bool, NodeAffinityError> {
    let none = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&none);
    if pod.spec.node_selector.iter().any(|(key, value)| labels.get(key) != Some(value)) {
        return Ok(false);
    }
    let affinity = pod.spec.affinity.as_deref().and_then(|affinity| affinity.node_affinity.as_ref());
    let Some(required) =
        affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref())
    else {
        return Ok(true);
    };
    node_selector_selects(required, node)
}

/// Whether a node is what a selector demands, by its labels and its name.
///
/// # Errors
///
/// No term matches and at least one cannot be read.
pub fn node_selector_selects(selector: &NodeSelector, node: &Node) -> Result<bool, NodeAffinityError> {
    let none = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&none);
    any_term_matches(selector, node.metadata.name.as_deref().unwrap_or_default(), labels)
}

/// Whether labels of a node are what a selector demands, as volumes have it. Fields are not looked at.
///
/// # Errors
///
/// No term matches and at least one cannot be read.
pub fn node_selector_matches(
    selector: &NodeSelector,
    labels: &BTreeMap<String, String>,
) -> Result<bool, NodeAffinityError> {
    any_term_matches(selector, "", labels)
}

fn any_term_matches(
    selector: &NodeSelector,
    name: &str,
    labels: &BTreeMap<String, String>,
) -> Result<bool, NodeAffinityError> {
    let mut unreadable = Vec::new();
    let path = Path::new("nodeSelectorTerms");
    for (index, term) in selector.node_selector_terms.iter().enumerate().filter(|(_, term)| !is_empty(term)) {
        let wrong = check(term, &path.index(index));
        if wrong.is_empty() && term_matches(term, name, labels) {
            return Ok(true);
        }
        unreadable.extend(wrong);
    }
    if unreadable.is_empty() { Ok(false) } else { Err(NodeAffinityError(unreadable)) }
}

/// What of a node affinity cannot be read, each with its place below `at`. Terms that select nothing or weigh nothing are not
/// looked at.
pub fn node_affinity_errors(affinity: &NodeAffinity, at: &Path) -> Vec<String> {
    let mut wrong = Vec::new();
    if let Some(required) = &affinity.required_during_scheduling_ignored_during_execution {
        let at = at.child("requiredDuringSchedulingIgnoredDuringExecution").child("nodeSelectorTerms");
        let terms = required.node_selector_terms.iter().enumerate().filter(|(_, term)| !is_empty(term));
        wrong.extend(terms.flat_map(|(index, term)| check(term, &at.index(index))));
    }
    let at = at.child("preferredDuringSchedulingIgnoredDuringExecution");
    let preferred = affinity.preferred_during_scheduling_ignored_during_execution.iter().enumerate();
    let preferred = preferred.filter(|(_, term)| term.weight != 0 && !is_empty(&term.preference));
    wrong.extend(preferred.flat_map(|(index, term)| check(&term.preference, &at.index(index))));
    wrong
}

/// The sum of the weights of the preferred terms that the node meets.
///
/// # Errors
///
/// A preferred term cannot be read.
pub fn node_affinity_score(pod: &Pod, node: &Node) -> Result<i64, NodeAffinityError> {
    let none = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&none);
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let affinity = pod.spec.affinity.as_deref().and_then(|affinity| affinity.node_affinity.as_ref());
    let terms = affinity.map_or(&[][..], |affinity| &affinity.preferred_during_scheduling_ignored_during_execution);
    let (mut unreadable, mut score) = (Vec::new(), 0);
    for (index, term) in terms.iter().enumerate() {
        if term.weight == 0 || is_empty(&term.preference) {
            continue;
        }
        let wrong = check(&term.preference, &Path::default().index(index));
        if wrong.is_empty() && term_matches(&term.preference, name, labels) {
            score += i64::from(term.weight);
        }
        unreadable.extend(wrong);
    }
    if unreadable.is_empty() { Ok(score) } else { Err(NodeAffinityError(unreadable)) }
}

fn is_empty(term: &NodeSelectorTerm) -> bool {
    term.match_expressions.is_empty() && term.match_fields.is_empty()
}

fn term_matches(term: &NodeSelectorTerm, name: &str, labels: &BTreeMap<String, String>) -> bool {
    // A field other than the name is empty; a node without a name has no fields to compare at all.
    let field = |key: &str| if key == "metadata.name" { name } else { "" };
    term.match_expressions.iter().all(|requirement| label_matches(requirement, labels))
        && (name.is_empty()
            || term.match_fields.iter().all(|requirement| {
                let equal = requirement.values.first().is_some_and(|value| value == field(&requirement.key));
                equal == (requirement.operator == NodeSelectorOperator::In)
            }))
}

fn label_matches(requirement: &NodeSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&requirement.key);
    match requirement.operator {
        NodeSelectorOperator::In => value.is_some_and(|value| requirement.values.contains(value)),
        NodeSelectorOperator::NotIn => value.is_none_or(|value| !requirement.values.contains(value)),
        NodeSelectorOperator::Exists => value.is_some(),
        NodeSelectorOperator::DoesNotExist => value.is_none(),
        NodeSelectorOperator::Gt | NodeSelectorOperator::Lt => {
            let number = |text: &String| text.parse::<i64>().ok();
            match (value.and_then(number), requirement.values.first().and_then(number)) {
                (Some(found), Some(bound)) if requirement.operator == NodeSelectorOperator::Gt => found > bound,
                (Some(found), Some(bound)) => found < bound,
                _ => false,
            }
        }
        _ => false,
    }
}

/// What keeps a term from being read.
fn check(term: &NodeSelectorTerm, path: &Path) -> Vec<String> {
    let mut wrong = Vec::new();
    for (index, requirement) in term.match_expressions.iter().enumerate() {
        check_expression(requirement, &path.child("matchExpressions").index(index), &mut wrong);
    }
    for (index, requirement) in term.match_fields.iter().enumerate() {
        let path = path.child("matchFields").index(index);
        match requirement.operator {
            NodeSelectorOperator::In | NodeSelectorOperator::NotIn if requirement.values.len() != 1 => {
                wrong.push(invalid(&path.child("values"), &json!(requirement.values), "must have one element"));
            }
            NodeSelectorOperator::In | NodeSelectorOperator::NotIn => {}
            _ => wrong.push(unsupported(&path, requirement)),
        }
    }
    wrong
}

fn check_expression(requirement: &NodeSelectorRequirement, path: &Path, wrong: &mut Vec<String>) {
    let (values, at) = (&requirement.values, path.child("values"));
    if !requirement.operator.is_known() {
        wrong.push(unsupported(path, requirement));
        return;
    }
    let key = is_qualified_name(&requirement.key);
    if !key.is_empty() {
        wrong.push(invalid(&path.child("key"), &json!(requirement.key), &key.join("; ")));
    }
    match requirement.operator {
        NodeSelectorOperator::In | NodeSelectorOperator::NotIn if values.is_empty() => {
            wrong.push(invalid(&at, &json!(values), "for 'in', 'notin' operators, values set can't be empty"));
        }
        NodeSelectorOperator::Exists | NodeSelectorOperator::DoesNotExist if !values.is_empty() => {
            wrong.push(invalid(&at, &json!(values), "values set must be empty for exists and does not exist"));
        }
        NodeSelectorOperator::Gt | NodeSelectorOperator::Lt => {
            if values.len() != 1 {
                let detail = "for 'Gt', 'Lt' operators, exactly one value is required";
                wrong.push(invalid(&at, &json!(values), detail));
            }
            for (index, value) in values.iter().enumerate().filter(|(_, value)| value.parse::<i64>().is_err()) {
                let detail = "for 'Gt', 'Lt' operators, the value must be an integer";
                wrong.push(invalid(&at.index(index), &json!(value), detail));
            }
        }
        _ => {}
    }
    for (index, value) in values.iter().enumerate() {
        let messages = is_valid_label_value(value);
        if !messages.is_empty() {
            wrong.push(invalid(&at.index(index).key(&requirement.key), &json!(value), &messages.join("; ")));
        }
    }
}

fn invalid(path: &Path, value: &serde_json::Value, detail: &str) -> String {
    format!("{path}: Invalid value: {value}: {detail}")
}

fn unsupported(path: &Path, requirement: &NodeSelectorRequirement) -> String {
    format!("{}: Unsupported value: {:?}", path.child("operator"), requirement.operator.as_str())
}
