//! Tolerations, spreading over topologies, and gates.

use std::collections::BTreeSet;

use super::affinity::{refuse_keys_in_selector, validate_label_keys};
use crate::api::node::TaintEffect;
use crate::api::pod::{
    NodeInclusionPolicy, PodSchedulingGate, Toleration, TolerationOperator, TopologySpreadConstraint,
    UnsatisfiableConstraintAction,
};
use crate::validation::names::{is_valid_label_value, validate_qualified_name};
use crate::validation::{ErrorList, Path, Report, validate_label_selector};

/// Checks tolerations.
pub(super) fn validate_tolerations(tolerations: &[Toleration], at: &Path, errors: &mut ErrorList) {
    for (index, toleration) in tolerations.iter().enumerate() {
        let at = at.index(index);
        let (key, operator) = (toleration.key.as_str(), &toleration.operator);
        let at_operator = at.child("operator");
        if !key.is_empty() {
            errors.extend(validate_qualified_name(key, &at.child("key")));
        } else if *operator != TolerationOperator::Exists {
            let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.invalid(&at_operator, operator.as_str(), why);
        }
        if toleration.toleration_seconds.is_some() && toleration.effect != TaintEffect::NoExecute.as_str() {
            let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.invalid(&at.child("effect"), toleration.effect.as_str(), why);
        }
        match operator {
            TolerationOperator::Equal | TolerationOperator::Unset => {
                let wrong = is_valid_label_value(&toleration.value);
                if !wrong.is_empty() {
                    errors.invalid(&at_operator, toleration.value.as_str(), wrong.join(";"));
                }
            }
            TolerationOperator::Exists if !toleration.value.is_empty() => {
                let why = "value must be empty when `operator` is 'Exists'";
                errors.invalid(&at_operator, toleration.value.as_str(), why);
            }
            TolerationOperator::Exists => {}
            // Comparing by number is an alpha feature, off by default.
            TolerationOperator::Lt | TolerationOperator::Gt => {
                errors.not_supported(&at_operator, operator.as_str(), &["Equal", "Exists", "Lt", "Gt"]);
            }
            TolerationOperator::Other(other) => {
                errors.not_supported(&at_operator, other.as_ref(), &["Equal", "Exists"]);
            }
        }
        if !toleration.effect.is_empty() {
            validate_taint_effect(&toleration.effect.as_str().into(), &at.child("effect"), errors);
        }
    }
}

/// Checks the effect of a taint; empty is wrong.
pub(crate) fn validate_taint_effect(effect: &TaintEffect, at: &Path, errors: &mut ErrorList) {
    match effect {
        TaintEffect::Unset => errors.required(at, ""),
        TaintEffect::Other(other) => errors.not_supported(at, other.as_ref(), TaintEffect::ALL),
        _ => {}
    }
}

/// Checks what holds back a pod's placement.
pub(super) fn validate_gates(gates: &[PodSchedulingGate], at: &Path, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (index, gate) in gates.iter().enumerate() {
        errors.extend(validate_qualified_name(&gate.name, &at.index(index)));
        if !seen.insert(gate.name.as_str()) {
            errors.duplicate(&at.index(index), gate.name.as_str());
        }
    }
}

/// Checks how pods are spread.
pub(super) fn validate_spread(constraints: &[TopologySpreadConstraint], at: &Path, errors: &mut ErrorList) {
    for (index, constraint) in constraints.iter().enumerate() {
        let at = at.index(index);
        let (key, action) = (constraint.topology_key.as_str(), &constraint.when_unsatisfiable);
        if constraint.max_skew <= 0 {
            errors.invalid(&at.child("maxSkew"), constraint.max_skew, "must be greater than zero");
        }
        if key.is_empty() {
            errors.required(&at.child("topologyKey"), "can not be empty");
        }
        if !action.is_known() {
            let allowed = UnsatisfiableConstraintAction::ALL;
            errors.not_supported(&at.child("whenUnsatisfiable"), action.as_str(), allowed);
        }
        let repeats = |later: &&TopologySpreadConstraint| {
            later.topology_key == constraint.topology_key && later.when_unsatisfiable == constraint.when_unsatisfiable
        };
        if constraints[index + 1..].iter().find(repeats).is_some() {
            errors.duplicate(&at.child("{topologyKey, whenUnsatisfiable}"), format!("{{{key}, {action}}}"));
        }
        if let Some(domains) = constraint.min_domains {
            let at = at.child("minDomains");
            if domains <= 0 {
                errors.invalid(&at, domains, "must be greater than zero");
            }
            if *action != UnsatisfiableConstraintAction::DoNotSchedule {
                let why = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
                errors.invalid(&at, domains, why);
            }
        }
        let policies = [
            ("nodeAffinityPolicy", &constraint.node_affinity_policy),
            ("nodeTaintsPolicy", &constraint.node_taints_policy),
        ];
        for (field, policy) in policies {
            if let Some(policy) = policy.as_ref().filter(|policy| !policy.is_known()) {
                errors.not_supported(&at.child(field), policy.as_str(), NodeInclusionPolicy::ALL);
            }
        }
        let (keys, selector) = (&constraint.match_label_keys, constraint.label_selector.as_ref());
        validate_label_keys(keys, selector, &at.child("matchLabelKeys"), errors);
        refuse_keys_in_selector(keys, selector, &at.child("matchLabelKeys"), errors);
        validate_label_selector(selector, &at.child("labelSelector"), errors);
    }
}
