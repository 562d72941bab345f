//! A pod's quality-of-service class, as upstream's `ComputePodQOS`.

use std::collections::BTreeMap;

use super::{PodQosClass, PodSpec, ResourceRequirements};
use crate::quantity::Quantity;

/// The class of a pod: `BestEffort` if nothing asks for CPU or memory, `Guaranteed` if everything has limits for both and
/// requests no less, else `Burstable`. Resources of the whole pod, if given, decide alone.
pub fn qos_class(spec: &PodSpec) -> PodQosClass {
    let all: Vec<&ResourceRequirements> = match &spec.resources {
        Some(resources) => vec![resources],
        None => spec.containers.iter().chain(&spec.init_containers).map(|container| &container.resources).collect(),
    };
    let mut requests = BTreeMap::new();
    let mut limits = BTreeMap::new();
    let mut guaranteed = true;
    for resources in all {
        sum(&mut requests, &resources.requests);
        guaranteed &= sum(&mut limits, &resources.limits) == COMPUTE.len();
    }
    if requests.is_empty() && limits.is_empty() {
        return PodQosClass::BestEffort;
    }
    guaranteed &= requests.len() == limits.len()
        && requests.iter().all(|(name, request)| limits.get(name).is_some_and(|limit| limit == request));
    if guaranteed { PodQosClass::Guaranteed } else { PodQosClass::Burstable }
}

/// The resources that decide about the class.
const COMPUTE: [&str; 2] = ["cpu", "memory"];

/// Adds up what is above zero; says for how many of the resources that was.
fn sum<'a>(total: &mut BTreeMap<&'a str, Quantity>, amounts: &'a BTreeMap<String, Quantity>) -> usize {
    let mut found = 0;
    for name in COMPUTE {
        if let Some(amount) = amounts.get(name).filter(|amount| amount.sign() > 0) {
            *total.entry(name).or_default() += amount;
            found += 1;
        }
    }
    found
}
