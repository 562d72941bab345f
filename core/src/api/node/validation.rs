//! What nodes may say, and what of them may change, in upstream's words and order.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde::Deserialize;

use super::{ConfigMapNodeConfigSource, Node, NodeConfigSource, Taint};
use crate::api::pod::validation::validate_taint_effect;
use crate::api::rules;
use crate::validation::addresses::{is_dual_stack, parse_legacy_cidr, validate_legacy_cidr};
use crate::validation::names::{
    is_config_map_key, is_dns1123_label, is_dns1123_subdomain, is_valid_label_value, validate_qualified_name,
};
use crate::validation::resources::validate_resource_quantity;
use crate::validation::{Error, ErrorList, NameRule, Path, Report, TextCheck, go_value, read_json};

const TAINTS: &str = "scheduler.alpha.kubernetes.io/taints";
const AVOID_PODS: &str = "scheduler.alpha.kubernetes.io/preferAvoidPods";

/// Checks a new node.
pub(super) fn validate(node: &Node) -> ErrorList {
    let mut errors = rules::validate(node, NameRule::DnsSubdomain);
    validate_annotations(node, &mut errors);
    // The place is upstream's; taints are in the specification.
    validate_taints(&node.spec.taints, &Path::new("metadata").child("taints"), &mut errors);
    validate_amounts(node, &mut errors);
    validate_ranges(&node.spec.pod_cidrs, &Path::new("spec").child("podCIDRs"), &mut errors);
    errors
}

fn validate_annotations(node: &Node, errors: &mut ErrorList) {
    let Some(annotations) = &node.metadata.annotations else { return };
    let at = Path::new("metadata").child("annotations");
    let given = |key: &str| annotations.get(key).filter(|text| !text.is_empty());
    if let Some(text) = given(TAINTS) {
        match read_json::<Vec<Taint>>(text.as_bytes(), "[]core.Taint") {
            Ok(taints) => validate_taints(&taints, &at.child(TAINTS), errors),
            Err(error) => errors.invalid(&at, TAINTS, error),
        }
    }
    if let Some(text) = given(AVOID_PODS) {
        match read_json::<AvoidPods>(text.as_bytes(), "core.AvoidPods") {
            Ok(avoid) => avoid.validate(&at.child(AVOID_PODS), errors),
            Err(error) => errors.invalid(&at.child("AvoidPods"), AVOID_PODS, error),
        }
    }
}

/// Pods that a node would rather not have, as an annotation says.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AvoidPods {
    #[serde(default)]
    prefer_avoid_pods: Vec<AvoidPodsEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AvoidPodsEntry {
    #[serde(default)]
    pod_signature: PodSignature,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct PodSignature {
    pod_controller: Option<OwnerReference>,
}

impl AvoidPods {
    fn validate(&self, at: &Path, errors: &mut ErrorList) {
        for (index, entry) in self.prefer_avoid_pods.iter().enumerate() {
            let at = at.index(index).child("PodSignature");
            match &entry.pod_signature.pod_controller {
                None => errors.required(&at, ""),
                Some(owner) if owner.controller != Some(true) => {
                    let at = at.child("PodController").child("Controller");
                    errors.invalid(&at, false, "must point to a controller");
                }
                Some(_) => {}
            }
        }
    }
}

fn validate_taints(taints: &[Taint], at: &Path, errors: &mut ErrorList) {
    for (index, taint) in taints.iter().enumerate() {
        let at = at.index(index);
        errors.extend(validate_qualified_name(&taint.key, &at.child("key")));
        let wrong = is_valid_label_value(&taint.value);
        if !wrong.is_empty() {
            errors.invalid(&at.child("value"), taint.value.as_str(), wrong.join(";"));
        }
        validate_taint_effect(&taint.effect, &at.child("effect"), errors);
        if taints[..index].iter().any(|earlier| (&earlier.key, &earlier.effect) == (&taint.key, &taint.effect)) {
            let detail = "taints must be unique by key and effect pair".to_owned();
            errors.push(Error { detail, ..Error::duplicate(&at, go_value(taint)) });
        }
    }
}

fn validate_amounts(node: &Node, errors: &mut ErrorList) {
    let at = Path::new("status");
    for (list, amounts) in [("capacity", &node.status.capacity), ("allocatable", &node.status.allocatable)] {
        for (name, amount) in amounts {
            validate_resource_quantity(name, amount, &at.child(list).child(name), errors);
        }
    }
}

fn validate_ranges(ranges: &[String], at: &Path, errors: &mut ErrorList) {
    for (index, range) in ranges.iter().enumerate() {
        validate_legacy_cidr(range, &at.index(index), errors);
    }
    if ranges.len() < 2 {
        return;
    }
    let parsed: Vec<_> = ranges.iter().map(|range| parse_legacy_cidr(range)).collect();
    if let Some(index) = parsed.iter().position(Option::is_none) {
        let why = format!(
            "invalid PodCIDRs. failed to check with dual stack with error:invalid CIDR[{index}]: <nil> (invalid CIDR \
             address: {})",
            ranges[index]
        );
        errors.push(Error::internal(at, why));
    }
    let read = parsed.iter().all(Option::is_some);
    if !read || ranges.len() > 2 || !is_dual_stack(parsed.iter().flatten().map(|(ip, _)| ip)) {
        errors.invalid(at, ranges.to_vec(), "may specify no more than one CIDR for each IP family");
    }
    for (index, range) in ranges.iter().enumerate() {
        if ranges[..index].contains(range) {
            errors.duplicate(&at.index(index), range.as_str());
        }
    }
}

/// Checks an update, through the node's own path or `status`: the node itself, then what changed.
pub(super) fn validate_update(new: &Node, old: &Node) -> ErrorList {
    let mut errors = validate(new);
    errors.extend(rules::validate_update(new, old));
    validate_annotations(new, &mut errors);
    validate_amounts(new, &mut errors);
    let (spec, status) = (Path::new("spec"), Path::new("status"));
    let addresses = &new.status.addresses;
    for (index, address) in addresses.iter().enumerate() {
        if addresses[..index].contains(address) {
            errors.duplicate(&status.child("addresses").index(index), go_value(address));
        }
    }
    let (now, before) = (&new.spec, &old.spec);
    if !before.pod_cidrs.is_empty() {
        let why = "node updates may not change podCIDR except from \"\" to valid";
        let changed = match before.pod_cidrs.len() == now.pod_cidrs.len() {
            true => before.pod_cidrs.iter().zip(&now.pod_cidrs).filter(|(before, now)| before != now).count(),
            false => 1,
        };
        for _ in 0..changed {
            errors.forbidden(&spec.child("podCIDRs"), why);
        }
    }
    if !before.provider_id.is_empty() && before.provider_id != now.provider_id {
        let why = "node updates may not change providerID except from \"\" to valid";
        errors.forbidden(&spec.child("providerID"), why);
    }
    if let Some(source) = &now.config_source {
        validate_source(source, true, &spec.child("configSource"), &mut errors);
    }
    if let Some(config) = &new.status.config {
        let at = status.child("config");
        let sources =
            [("assigned", &config.assigned), ("active", &config.active), ("lastKnownGood", &config.last_known_good)];
        for (field, source) in sources {
            if let Some(source) = source {
                validate_source(source, false, &at.child(field), &mut errors);
            }
        }
    }
    validate_taints(&now.taints, &Path::new("metadata").child("taints"), &mut errors);
    if now.external_id != before.external_id {
        errors.forbidden(&spec.child("externalID"), "may not be updated");
    }
    errors
}

/// Checks where a node's configuration came from; no longer used.
fn validate_source(source: &NodeConfigSource, wanted: bool, at: &Path, errors: &mut ErrorList) {
    match &source.config_map {
        Some(map) => validate_config_map(map, wanted, &at.child("configMap"), errors),
        None => errors.invalid(at, go_value(source), "exactly one reference subfield must be non-nil"),
    }
}

fn validate_config_map(map: &ConfigMapNodeConfigSource, wanted: bool, at: &Path, errors: &mut ErrorList) {
    for (field, value) in [("uid", &map.uid), ("resourceVersion", &map.resource_version)] {
        match (wanted, value.is_empty()) {
            (true, false) => errors.forbidden(&at.child(field), format!("{field} must not be set in spec")),
            (false, true) => errors.required(&at.child(field), format!("{field} must be set in status")),
            _ => {}
        }
    }
    let fields: [(&str, &str, TextCheck); 3] = [
        ("namespace", &map.namespace, is_dns1123_label),
        ("name", &map.name, is_dns1123_subdomain),
        ("kubeletConfigKey", &map.kubelet_config_key, is_config_map_key),
    ];
    for (field, value, rule) in fields {
        if value.is_empty() {
            errors.required(&at.child(field), format!("{field} must be set"));
        } else {
            errors.invalid_each(&at.child(field), value, rule(value));
        }
    }
}
