//! Constraints, of the pod's own or by default, and which nodes and pods count for them.

use std::collections::BTreeMap;

use longshore_core::api::node::{Taint, TaintEffect};
use longshore_core::api::pod::helpers::find_untolerated_taint;
use longshore_core::api::pod::{NodeInclusionPolicy, TopologySpreadConstraint, UnsatisfiableConstraintAction};
use longshore_core::api::{ReplicaSet, ReplicationController, Service, StatefulSet};
use longshore_core::scheduling::cluster::Cluster;
use longshore_core::scheduling::{Cycle, NodeId, NodeSet, ShapeId};
use rustc_hash::FxHashMap;

use super::PodTopologySpread;
use crate::policies::node_affinity;
use crate::policies::selector::Selector;

pub(super) const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

/// A constraint, ready to be used.
#[derive(Debug)]
pub(super) struct Constraint {
    pub(super) key: String,
    pub(super) max_skew: i64,
    pub(super) min_domains: usize,
    pub(super) selector: Selector,
    pub(super) honors_affinity: bool,
    pub(super) honors_taints: bool,
}

impl Constraint {
    fn of(constraint: &TopologySpreadConstraint, labels: &BTreeMap<String, String>) -> Self {
        let mut selector = Selector::of(constraint.label_selector.as_ref());
        let keys = constraint.match_label_keys.iter().filter_map(|key| Some((key.clone(), labels.get(key)?.clone())));
        let own: BTreeMap<String, String> = keys.collect();
        if !own.is_empty() {
            selector = Selector::labels(&own).and(selector);
        }
        Self {
            key: constraint.topology_key.clone(),
            max_skew: constraint.max_skew.into(),
            min_domains: constraint.min_domains.and_then(|least| usize::try_from(least).ok()).unwrap_or(1),
            selector,
            honors_affinity: constraint.node_affinity_policy != Some(NodeInclusionPolicy::Ignore),
            honors_taints: constraint.node_taints_policy == Some(NodeInclusionPolicy::Honor),
        }
    }

    fn soft(key: &str, max_skew: i64) -> Self {
        let (selector, honors_affinity, honors_taints) = (Selector::Nothing, true, false);
        Self { key: key.to_owned(), max_skew, min_domains: 1, selector, honors_affinity, honors_taints }
    }
}

impl PodTopologySpread {
    /// The constraints with this action: the pod's own; if it has none at all, those by default.
    pub(super) fn constraints(&self, cycle: Cycle<'_>, action: &UnsatisfiableConstraintAction) -> Vec<Constraint> {
        let own = &cycle.pod().spec.topology_spread_constraints;
        let of_action = |all: &[TopologySpreadConstraint]| -> Vec<Constraint> {
            let all = all.iter().filter(|constraint| constraint.when_unsatisfiable == *action);
            all.map(|constraint| Constraint::of(constraint, cycle.shape().labels())).collect()
        };
        if !own.is_empty() {
            return of_action(own);
        }
        let system = || match action {
            UnsatisfiableConstraintAction::ScheduleAnyway => {
                vec![Constraint::soft(HOSTNAME, 3), Constraint::soft(ZONE, 5)]
            }
            _ => Vec::new(),
        };
        let mut constraints = self.defaults.as_deref().map_or_else(system, of_action);
        if constraints.is_empty() {
            return constraints;
        }
        let selector = kind_selector(cycle);
        if selector.is_empty() {
            return Vec::new();
        }
        for constraint in &mut constraints {
            constraint.selector = selector.clone();
        }
        constraints
    }
}

/// Selects the pods of the same kind: what the services and the controller of the pod select.
fn kind_selector(cycle: Cycle<'_>) -> Selector {
    let (cluster, shape) = (cycle.cluster(), cycle.shape());
    let mut labels: BTreeMap<String, String> = BTreeMap::new();
    for service in cluster.objects_in::<Service>(shape.namespace()) {
        let selector = &service.spec.selector;
        let selects = selector.iter().all(|(key, value)| shape.labels().get(key) == Some(value));
        if selects {
            labels.extend(selector.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
    }
    let owners = cycle.pod().metadata.owner_references.as_deref().unwrap_or_default();
    let Some(owner) = owners.iter().find(|owner| owner.controller == Some(true)) else {
        return Selector::labels(&labels);
    };
    let (namespace, name) = (shape.namespace(), owner.name.as_str());
    let more = match (owner.api_version.as_str(), owner.kind.as_str()) {
        ("v1", "ReplicationController") => {
            if let Some(controller) = cluster.object::<ReplicationController>(namespace, name) {
                labels.extend(controller.spec.selector.iter().map(|(key, value)| (key.clone(), value.clone())));
            }
            None
        }
        ("apps/v1", "ReplicaSet") => {
            cluster.object::<ReplicaSet>(namespace, name).map(|set| Selector::of(set.spec.selector.as_ref()))
        }
        ("apps/v1", "StatefulSet") => {
            cluster.object::<StatefulSet>(namespace, name).map(|set| Selector::of(set.spec.selector.as_ref()))
        }
        _ => None,
    };
    Selector::labels(&labels).and(more.unwrap_or(Selector::Nothing))
}

/// Which pods count for one constraint; asked once for each shape.
pub(super) struct Counter<'s> {
    selector: &'s Selector,
    namespace: &'s str,
    known: FxHashMap<ShapeId, bool>,
}

impl<'s> Counter<'s> {
    pub(super) fn new(selector: &'s Selector, namespace: &'s str) -> Self {
        Self { selector, namespace, known: FxHashMap::default() }
    }

    /// How many pods on the node count. Upstream counts none for a selector without requirements.
    pub(super) fn on(&mut self, cluster: &Cluster, node: NodeId) -> i64 {
        if self.selector.is_empty() {
            return 0;
        }
        let (selector, namespace) = (self.selector, self.namespace);
        let pods = cluster.pods_on(node).filter(|pod| !pod.is_terminating());
        let counts = pods.filter(|pod| {
            let shape = pod.shape();
            *self
                .known
                .entry(shape.id())
                .or_insert_with(|| shape.namespace() == namespace && selector.matches(shape.labels()))
        });
        i64::try_from(counts.count()).unwrap_or(i64::MAX)
    }
}

/// Nodes that count for a constraint.
pub(super) fn included(cycle: Cycle<'_>, constraint: &Constraint, nodes: &NodeSet) -> NodeSet {
    let cluster = cycle.cluster();
    let mut included = nodes.clone();
    if constraint.honors_affinity {
        included = node_affinity::allowed(cluster, cycle.pod(), &included);
    }
    if constraint.honors_taints {
        let repels = |taint: &Taint| matches!(taint.effect, TaintEffect::NoSchedule | TaintEffect::NoExecute);
        for (_, taint, tainted) in cluster.taints() {
            let tolerations = &cycle.pod().spec.tolerations;
            if find_untolerated_taint(std::slice::from_ref(taint), tolerations, repels).is_some() {
                included.subtract(tainted);
            }
        }
    }
    included
}

/// Nodes that have all these labels.
pub(super) fn labelled<'c>(
    cluster: &Cluster,
    constraints: impl IntoIterator<Item = &'c Constraint>,
    nodes: &NodeSet,
) -> NodeSet {
    let mut with = nodes.clone();
    for constraint in constraints {
        match cluster.label(&constraint.key) {
            Some(column) => with.intersect(column.nodes()),
            None => with.clear(),
        }
    }
    with
}
