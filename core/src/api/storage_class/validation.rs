//! What storage classes may say, in upstream's words.

use std::collections::{BTreeMap, BTreeSet};

use super::{PersistentVolumeReclaimPolicy, StorageClass, TopologySelectorTerm, VolumeBindingMode};
use crate::api::rules;
use crate::validation::names::{is_qualified_name, validate_qualified_name};
use crate::validation::{ErrorList, NameRule, Path, Report};

const PARAMETERS_MAX: usize = 512;
const PARAMETERS_SIZE_MAX: usize = 256 * 1024;

/// Checks a new class.
pub(super) fn validate(class: &StorageClass) -> ErrorList {
    let mut errors = rules::validate(class, NameRule::DnsSubdomain);
    let at = Path::new("provisioner");
    if class.provisioner.is_empty() {
        errors.required(&at, "");
    } else {
        errors.invalid_each(&at, &class.provisioner, is_qualified_name(&class.provisioner.to_lowercase()));
    }
    validate_parameters(&class.parameters, &Path::new("parameters"), &mut errors);
    let policy = class.reclaim_policy.as_ref().filter(|policy| !policy.is_unset());
    let kept = [PersistentVolumeReclaimPolicy::Delete, PersistentVolumeReclaimPolicy::Retain];
    if let Some(policy) = policy.filter(|policy| !kept.contains(policy)) {
        errors.not_supported(&Path::new("reclaimPolicy"), policy.as_str(), &["Delete", "Retain"]);
    }
    let at = Path::new("volumeBindingMode");
    match &class.volume_binding_mode {
        None => errors.required(&at, ""),
        Some(mode) if !mode.is_known() => errors.not_supported(&at, mode.as_str(), VolumeBindingMode::ALL),
        Some(_) => {}
    }
    validate_topologies(&class.allowed_topologies, &Path::new("allowedTopologies"), &mut errors);
    errors
}

fn validate_parameters(parameters: &BTreeMap<String, String>, at: &Path, errors: &mut ErrorList) {
    if parameters.len() > PARAMETERS_MAX {
        errors.too_long(at, PARAMETERS_MAX);
        return;
    }
    if parameters.contains_key("") {
        errors.invalid(at, "", "field can not be empty.");
    }
    let size: usize = parameters.iter().map(|(key, value)| key.len() + value.len()).sum();
    if size > PARAMETERS_SIZE_MAX {
        errors.too_long(at, PARAMETERS_SIZE_MAX);
    }
}

fn validate_topologies(terms: &[TopologySelectorTerm], at: &Path, errors: &mut ErrorList) {
    type Values<'t> = BTreeMap<&'t str, BTreeSet<&'t String>>;
    let mut seen: Vec<Values<'_>> = Vec::new();
    for (index, term) in terms.iter().enumerate() {
        let at = at.index(index).child("matchLabelExpressions");
        let mut values = Values::new();
        for (index, requirement) in term.match_label_expressions.iter().enumerate() {
            let at = at.index(index);
            if requirement.values.is_empty() {
                errors.required(&at.child("values"), "");
            }
            for (index, value) in requirement.values.iter().enumerate() {
                if requirement.values[..index].contains(value) {
                    errors.duplicate(&at.child("values").index(index), value.as_str());
                }
            }
            errors.extend(validate_qualified_name(&requirement.key, &at.child("key")));
            if values.insert(&requirement.key, requirement.values.iter().collect()).is_some() {
                errors.duplicate(&at.child("key"), requirement.key.as_str());
            }
        }
        if seen.contains(&values) {
            errors.duplicate(&at, "");
        }
        seen.push(values);
    }
}

/// Checks an update: a class is what its volumes were made by, so little of it can change.
pub(super) fn validate_update(new: &StorageClass, old: &StorageClass) -> ErrorList {
    let mut errors = rules::validate_update(new, old);
    let changed = [
        ("parameters", new.parameters != old.parameters),
        ("provisioner", new.provisioner != old.provisioner),
        ("reclaimPolicy", new.reclaim_policy != old.reclaim_policy),
    ];
    for (field, _) in changed.into_iter().filter(|(_, changed)| *changed) {
        errors.forbidden(&Path::new(field), format!("updates to {field} are forbidden."));
    }
    errors.immutable(&Path::new("volumeBindingMode"), &new.volume_binding_mode, &old.volume_binding_mode);
    errors
}
