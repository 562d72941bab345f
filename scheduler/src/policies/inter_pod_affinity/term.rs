//! Terms of affinity and anti-affinity, and where they stand in a pod.

use std::collections::{BTreeMap, BTreeSet};

use longshore_core::api::pod::{Affinity, PodAffinityTerm, WeightedPodAffinityTerm};
use longshore_core::scheduling::cluster::Cluster;
use longshore_core::scheduling::{Cycle, Shape};

use crate::policies::selector::Selector;

/// A term, ready to be matched.
#[derive(Debug)]
pub(super) struct Term {
    pub(super) key: String,
    pods: Selector,
    namespaces: BTreeSet<String>,
    by_labels: Selector,
}

impl Term {
    /// A term of `owner`.
    pub(super) fn of(term: &PodAffinityTerm, owner: &Shape) -> Self {
        let mut namespaces: BTreeSet<String> = term.namespaces.iter().cloned().collect();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.insert(owner.namespace().to_owned());
        }
        Self {
            key: term.topology_key.clone(),
            pods: Selector::of(term.label_selector.as_ref()),
            namespaces,
            by_labels: Selector::of(term.namespace_selector.as_ref()),
        }
    }

    /// A term of the pod that is to be placed. Upstream lists the namespaces that the selector selects, means to forget
    /// the selector, but does not; so it is matched again, against no labels at all ([`Term::matches_listed`]).
    pub(super) fn of_incoming(term: &PodAffinityTerm, owner: &Shape, cluster: &Cluster) -> Self {
        let mut term = Self::of(term, owner);
        if !term.by_labels.is_empty() {
            let selected = cluster.namespaces().filter(|(_, labels)| term.by_labels.matches(labels));
            let selected: Vec<String> = selected.map(|(name, _)| name.to_owned()).collect();
            term.namespaces.extend(selected);
        }
        term
    }

    /// Whether the term of a pod that is there is about `pod`.
    pub(super) fn matches(&self, pod: &Shape, namespace: &BTreeMap<String, String>) -> bool {
        (self.namespaces.contains(pod.namespace()) || self.by_labels.matches(namespace))
            && self.pods.matches(pod.labels())
    }

    /// Whether the term of the pod that is to be placed is about `pod`.
    pub(super) fn matches_listed(&self, pod: &Shape) -> bool {
        self.matches(pod, &BTreeMap::new())
    }
}

pub(super) fn affinity(shape: &Shape) -> Option<&Affinity> {
    shape.pod().spec.affinity.as_deref()
}

pub(super) fn required_near(shape: &Shape) -> &[PodAffinityTerm] {
    let near = affinity(shape).and_then(|affinity| affinity.pod_affinity.as_ref());
    near.map_or(&[], |near| &near.required_during_scheduling_ignored_during_execution)
}

pub(super) fn required_away(shape: &Shape) -> &[PodAffinityTerm] {
    let away = affinity(shape).and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    away.map_or(&[], |away| &away.required_during_scheduling_ignored_during_execution)
}

pub(super) fn preferred_near(shape: &Shape) -> &[WeightedPodAffinityTerm] {
    let near = affinity(shape).and_then(|affinity| affinity.pod_affinity.as_ref());
    near.map_or(&[], |near| &near.preferred_during_scheduling_ignored_during_execution)
}

pub(super) fn preferred_away(shape: &Shape) -> &[WeightedPodAffinityTerm] {
    let away = affinity(shape).and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    away.map_or(&[], |away| &away.preferred_during_scheduling_ignored_during_execution)
}

pub(super) fn own_namespace_labels(cycle: Cycle<'_>) -> BTreeMap<String, String> {
    cycle.cluster().namespace_labels(cycle.shape().namespace()).cloned().unwrap_or_default()
}
