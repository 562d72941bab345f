//! PodTopologySpread: pods of a kind are spread evenly over zones, hosts or other domains.

use std::collections::BTreeMap;

use longshore_core::api::node::{Taint, TaintEffect};
use longshore_core::api::pod::helpers::find_untolerated_taint;
use longshore_core::api::pod::{NodeInclusionPolicy, Pod, TopologySpreadConstraint, UnsatisfiableConstraintAction};
use longshore_core::api::{ReplicaSet, ReplicationController, Service, StatefulSet};
use longshore_core::kind::KindType;
use longshore_core::scheduling::cluster::{Change, Cluster, LabelColumn, ValueId};
use longshore_core::scheduling::{
    Candidates, ClusterEvent, Cycle, Filter, MAX_NODE_SCORE, NodeId, NodeSet, Policy, PreFilter, PreScore, Refusal,
    Score, ScoreRange, Scores, Shape, ShapeId, State, Update,
};
use rustc_hash::FxHashMap;

use super::node_affinity;
use super::selector::Selector;

const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

/// Refuses nodes whose domain has too many pods of the kind already, and prefers domains that have few. Pods without
/// constraints of their own that a service or controller selects are spread softly over hosts and zones.
#[derive(Debug, Clone, Copy, Default)]
pub struct PodTopologySpread;

impl Policy for PodTopologySpread {
    fn name(&self) -> &str {
        "PodTopologySpread"
    }

    fn kinds(&self) -> Vec<&'static KindType> {
        vec![
            KindType::of::<Service>(),
            KindType::of::<ReplicationController>(),
            KindType::of::<ReplicaSet>(),
            KindType::of::<StatefulSet>(),
        ]
    }

    fn may_help(&self, pod: &Pod, event: &ClusterEvent<'_>) -> bool {
        let same_namespace = |other: &Pod| other.metadata.namespace == pod.metadata.namespace;
        match event {
            ClusterEvent::NodeAdded(_) | ClusterEvent::SelfUpdated { .. } => true,
            ClusterEvent::NodeUpdated { old, new } => {
                old.metadata.labels != new.metadata.labels || old.spec.taints != new.spec.taints
            }
            ClusterEvent::PodPlaced(other) | ClusterEvent::PodRemoved(other) | ClusterEvent::PodForgotten(other) => {
                same_namespace(other)
            }
            ClusterEvent::PodUpdated { old, new } => {
                let terminating = |pod: &Pod| pod.metadata.deletion_timestamp.is_some();
                let changed = old.metadata.labels != new.metadata.labels || terminating(old) != terminating(new);
                same_namespace(new) && changed
            }
            _ => false,
        }
    }

    fn as_filter(&self) -> Option<&dyn Filter> {
        Some(self)
    }

    fn as_score(&self) -> Option<&dyn Score> {
        Some(self)
    }
}

/// A constraint, ready to be used.
#[derive(Debug)]
struct Constraint {
    key: String,
    max_skew: i64,
    min_domains: usize,
    selector: Selector,
    honors_affinity: bool,
    honors_taints: bool,
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

    fn soft(key: &str, max_skew: i64, selector: Selector) -> Self {
        let (honors_affinity, honors_taints) = (true, false);
        Self { key: key.to_owned(), max_skew, min_domains: 1, selector, honors_affinity, honors_taints }
    }
}

/// The pod's own constraints with this action.
fn own_constraints(pod: &Pod, shape: &Shape, action: &UnsatisfiableConstraintAction) -> Vec<Constraint> {
    let all = pod.spec.topology_spread_constraints.iter().filter(|constraint| constraint.when_unsatisfiable == *action);
    all.map(|constraint| Constraint::of(constraint, shape.labels())).collect()
}

/// How pods are spread that say nothing about it.
fn default_constraints(cycle: Cycle<'_>) -> Vec<Constraint> {
    let selector = kind_selector(cycle);
    if selector.is_empty() {
        return Vec::new();
    }
    vec![Constraint::soft(HOSTNAME, 3, selector.clone()), Constraint::soft(ZONE, 5, selector)]
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
struct Counter<'s> {
    selector: &'s Selector,
    namespace: &'s str,
    known: FxHashMap<ShapeId, bool>,
}

impl<'s> Counter<'s> {
    fn new(selector: &'s Selector, namespace: &'s str) -> Self {
        Self { selector, namespace, known: FxHashMap::default() }
    }

    /// How many pods on the node count. Upstream counts none for a selector without requirements.
    fn on(&mut self, cluster: &Cluster, node: NodeId) -> i64 {
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
fn included(cycle: Cycle<'_>, constraint: &Constraint, nodes: &NodeSet) -> NodeSet {
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
fn labelled<'c>(cluster: &Cluster, constraints: impl IntoIterator<Item = &'c Constraint>, nodes: &NodeSet) -> NodeSet {
    let mut with = nodes.clone();
    for constraint in constraints {
        match cluster.label(&constraint.key) {
            Some(column) => with.intersect(column.nodes()),
            None => with.clear(),
        }
    }
    with
}

/// What the filter knows about one constraint.
#[derive(Debug)]
struct Counted {
    constraint: Constraint,
    /// Nodes that count.
    nodes: NodeSet,
    /// Pods by node, for those that count.
    by_node: Vec<i64>,
    /// Pods by domain.
    by_domain: FxHashMap<ValueId, i64>,
    /// 1 if the pod itself counts.
    own: i64,
}

impl Counted {
    fn new(cycle: Cycle<'_>, constraint: Constraint, with: &NodeSet) -> Self {
        let cluster = cycle.cluster();
        let nodes = included(cycle, &constraint, with);
        let mut by_node = vec![0; cluster.width()];
        let mut by_domain: FxHashMap<ValueId, i64> = FxHashMap::default();
        if let Some(column) = cluster.label(&constraint.key) {
            let mut counter = Counter::new(&constraint.selector, cycle.shape().namespace());
            for node in nodes.iter() {
                if let Some(value) = column.value(node) {
                    by_node[node.index()] = counter.on(cluster, node);
                    *by_domain.entry(value).or_default() += by_node[node.index()];
                }
            }
        }
        let own = i64::from(constraint.selector.matches(cycle.labels()));
        Self { constraint, nodes, by_node, by_domain, own }
    }

    /// The number of pods in the domain that has fewest; 0 while there are fewer domains than there must be.
    fn least(&self) -> i64 {
        if self.by_domain.len() < self.constraint.min_domains {
            return 0;
        }
        self.by_domain.values().copied().min().unwrap_or_else(|| i32::MAX.into())
    }

    /// Whether a domain can take the pod no more.
    fn is_full(&self, value: ValueId, least: i64) -> bool {
        self.by_domain.get(&value).copied().unwrap_or(0) + self.own - least > self.constraint.max_skew
    }

    /// Counts the pods of a node again; domains that became full, or are no longer, are put into `affected`.
    fn recount(&mut self, cycle: Cycle<'_>, node: NodeId, affected: &mut NodeSet) {
        let Some(column) = cycle.cluster().label(&self.constraint.key) else { return };
        let Some(value) = column.value(node).filter(|_| self.nodes.contains(node)) else { return };
        let now = Counter::new(&self.constraint.selector, cycle.shape().namespace()).on(cycle.cluster(), node);
        let change = now - self.by_node[node.index()];
        if change == 0 {
            return;
        }
        let before = self.least();
        let full: Vec<ValueId> = self.by_domain.keys().copied().filter(|value| self.is_full(*value, before)).collect();
        self.by_node[node.index()] = now;
        *self.by_domain.entry(value).or_default() += change;
        let least = self.least();
        for value in self.by_domain.keys() {
            if self.is_full(*value, least) != full.contains(value) {
                column.add_nodes_of(*value, affected);
            }
        }
    }
}

/// What the filter knows.
struct Hard(Vec<Counted>);

impl Filter for PodTopologySpread {
    fn pre_filter(&self, cycle: Cycle<'_>, state: &mut State) -> Result<PreFilter, Refusal> {
        let action = UnsatisfiableConstraintAction::DoNotSchedule;
        let constraints = own_constraints(cycle.pod(), cycle.shape(), &action);
        if constraints.is_empty() {
            return Ok(PreFilter::Skip);
        }
        let with = labelled(cycle.cluster(), &constraints, cycle.cluster().nodes());
        let counted = constraints.into_iter().map(|constraint| Counted::new(cycle, constraint, &with));
        state.set(Hard(counted.collect()));
        Ok(PreFilter::All)
    }

    fn filter(&self, cycle: Cycle<'_>, state: &State, candidates: &mut Candidates) {
        let Some(Hard(constraints)) = state.get::<Hard>() else { return };
        let cluster = cycle.cluster();
        for counted in constraints {
            let missing = "node(s) didn't match pod topology spread constraints (missing required label)";
            let Some(column) = cluster.label(&counted.constraint.key) else {
                candidates.keep_only(&NodeSet::new(), Refusal::unresolvable(missing));
                return;
            };
            candidates.keep_only(column.nodes(), Refusal::unresolvable(missing));
            let least = counted.least();
            let full = full_domains(column, candidates.nodes(), |value| counted.is_full(value, least));
            candidates
                .refuse_all(&full, Refusal::unschedulable("node(s) didn't match pod topology spread constraints"));
        }
    }

    fn update(&self, cycle: Cycle<'_>, state: &mut State, changes: &[Change], affected: &mut NodeSet) -> Update {
        // Whether a pod has constraints does not change.
        let Some(Hard(constraints)) = state.get_mut::<Hard>() else { return Update::Done };
        if changes.iter().any(|change| matches!(change, Change::Node(_))) {
            return Update::Recompute;
        }
        for change in changes {
            if let Change::PodAdded { node, .. } | Change::PodRemoved { node, .. } = change {
                for counted in &mut *constraints {
                    counted.recount(cycle, *node, affected);
                }
            }
        }
        Update::Done
    }
}

fn full_domains(column: &LabelColumn, nodes: &NodeSet, is_full: impl Fn(ValueId) -> bool) -> NodeSet {
    nodes.iter().filter(|node| column.value(*node).is_some_and(&is_full)).collect()
}

/// What the score knows.
struct Soft {
    constraints: Vec<SoftCounted>,
    feasible: NodeSet,
    /// Nodes that lack a topology label and are not scored.
    ignored: NodeSet,
    /// Whether nodes must have all the labels; default constraints put up with nodes that lack one.
    strict: bool,
}

/// What the score knows about one constraint. For the host name, pods are counted when a node is scored.
struct SoftCounted {
    constraint: Constraint,
    weight: f64,
    /// Nodes whose pods count.
    nodes: NodeSet,
    /// Pods by node, for those that count.
    by_node: Vec<i64>,
    /// By domain the number of scored nodes and of pods; `None` is the domain of the nodes without the label.
    domains: FxHashMap<Option<ValueId>, (usize, i64)>,
}

fn value_of(cluster: &Cluster, constraint: &Constraint, node: NodeId) -> Option<ValueId> {
    cluster.label(&constraint.key)?.value(node)
}

#[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 domains")]
fn weight_of(domains: usize) -> f64 {
    ((domains + 2) as f64).ln()
}

impl SoftCounted {
    fn new(cycle: Cycle<'_>, constraint: Constraint, scored: &NodeSet, counted: &NodeSet) -> Self {
        let cluster = cycle.cluster();
        let mut counted_for = Self {
            constraint,
            weight: weight_of(scored.len()),
            nodes: NodeSet::new(),
            by_node: Vec::new(),
            domains: FxHashMap::default(),
        };
        if counted_for.is_host() {
            return counted_for;
        }
        for node in scored.iter() {
            counted_for.domains.entry(value_of(cluster, &counted_for.constraint, node)).or_insert((0, 0)).0 += 1;
        }
        counted_for.weight = weight_of(counted_for.domains.len());
        counted_for.nodes = included(cycle, &counted_for.constraint, counted);
        counted_for.by_node = vec![0; cluster.width()];
        let mut counter = Counter::new(&counted_for.constraint.selector, cycle.shape().namespace());
        for node in counted_for.nodes.iter() {
            if let Some((_, pods)) = counted_for.domains.get_mut(&value_of(cluster, &counted_for.constraint, node)) {
                let count = counter.on(cluster, node);
                counted_for.by_node[node.index()] = count;
                *pods += count;
            }
        }
        counted_for
    }

    fn is_host(&self) -> bool {
        self.constraint.key == HOSTNAME
    }

    /// Counts the pods of a node again; the nodes of its domain are put into `affected` if that changed anything.
    fn recount(&mut self, cycle: Cycle<'_>, node: NodeId, affected: &mut NodeSet) {
        let cluster = cycle.cluster();
        if self.is_host() || !self.nodes.contains(node) {
            return;
        }
        let value = value_of(cluster, &self.constraint, node);
        let Some((_, pods)) = self.domains.get_mut(&value) else { return };
        let now = Counter::new(&self.constraint.selector, cycle.shape().namespace()).on(cluster, node);
        let change = now - self.by_node[node.index()];
        self.by_node[node.index()] = now;
        *pods += change;
        if change != 0
            && let (Some(value), Some(column)) = (value, cluster.label(&self.constraint.key))
        {
            column.add_nodes_of(value, affected);
        }
    }

    /// Takes in that nodes are scored now, or no longer; says whether the domains are still the same.
    fn scored_changed(&mut self, cluster: &Cluster, more: &NodeSet, fewer: &NodeSet) -> bool {
        if self.is_host() {
            return more.len() == fewer.len();
        }
        for node in more.iter() {
            match self.domains.get_mut(&value_of(cluster, &self.constraint, node)) {
                Some((nodes, _)) => *nodes += 1,
                None => return false,
            }
        }
        for node in fewer.iter() {
            match self.domains.get_mut(&value_of(cluster, &self.constraint, node)) {
                Some((nodes, _)) if *nodes > 1 => *nodes -= 1,
                _ => return false,
            }
        }
        true
    }
}

impl Soft {
    fn scored(&self) -> NodeSet {
        self.feasible.difference(&self.ignored)
    }

    fn labelled(&self, cluster: &Cluster, nodes: &NodeSet) -> NodeSet {
        if !self.strict {
            return nodes.clone();
        }
        labelled(cluster, self.constraints.iter().map(|counted| &counted.constraint), nodes)
    }
}

impl Score for PodTopologySpread {
    fn pre_score(&self, cycle: Cycle<'_>, state: &mut State, feasible: &NodeSet) -> PreScore {
        let cluster = cycle.cluster();
        let strict = !cycle.pod().spec.topology_spread_constraints.is_empty();
        let constraints = if strict {
            own_constraints(cycle.pod(), cycle.shape(), &UnsatisfiableConstraintAction::ScheduleAnyway)
        } else {
            default_constraints(cycle)
        };
        if constraints.is_empty() {
            return PreScore::Skip;
        }
        let among = |nodes: &NodeSet| if strict { labelled(cluster, &constraints, nodes) } else { nodes.clone() };
        let (scored, counted) = (among(feasible), among(cluster.nodes()));
        let constraints =
            constraints.into_iter().map(|constraint| SoftCounted::new(cycle, constraint, &scored, &counted)).collect();
        state.set(Soft { constraints, feasible: feasible.clone(), ignored: feasible.difference(&scored), strict });
        PreScore::Score
    }

    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "as upstream")]
    fn score(&self, cycle: Cycle<'_>, state: &State, nodes: &NodeSet, scores: &mut Scores) {
        let Some(soft) = state.get::<Soft>() else { return };
        let cluster = cycle.cluster();
        let mut counters: Vec<Counter<'_>> = (soft.constraints.iter())
            .map(|counted| Counter::new(&counted.constraint.selector, cycle.shape().namespace()))
            .collect();
        let columns: Vec<Option<&LabelColumn>> =
            soft.constraints.iter().map(|counted| cluster.label(&counted.constraint.key)).collect();
        for node in nodes.iter() {
            if soft.ignored.contains(node) {
                scores.set(node, Scores::ABSENT);
                continue;
            }
            let mut score = 0.0;
            for ((counted, counter), column) in soft.constraints.iter().zip(&mut counters).zip(&columns) {
                let Some(value) = column.and_then(|column| column.value(node)) else { continue };
                let count = if counted.is_host() {
                    counter.on(cluster, node)
                } else {
                    counted.domains.get(&Some(value)).map_or(0, |(_, pods)| *pods)
                };
                score += count as f64 * counted.weight + (counted.constraint.max_skew - 1) as f64;
            }
            scores.add(node, score.round() as i64);
        }
    }

    fn is_normalised(&self) -> bool {
        true
    }

    fn normalise(&self, _cycle: Cycle<'_>, _state: &State, range: ScoreRange, nodes: &NodeSet, scores: &mut Scores) {
        for node in nodes.iter() {
            let score = if range.max == 0 {
                MAX_NODE_SCORE
            } else {
                MAX_NODE_SCORE * (range.max + range.min - scores.get(node)) / range.max
            };
            scores.set(node, score);
        }
    }

    fn update(
        &self,
        cycle: Cycle<'_>,
        state: &mut State,
        changes: &[Change],
        feasible: &NodeSet,
        affected: &mut NodeSet,
    ) -> Update {
        let Some(soft) = state.get_mut::<Soft>() else { return Update::Recompute };
        if changes.iter().any(|change| matches!(change, Change::Node(_) | Change::Object(_))) {
            return Update::Recompute;
        }
        if soft.feasible != *feasible {
            let before = soft.scored();
            let scored = soft.labelled(cycle.cluster(), feasible);
            let (more, fewer) = (scored.difference(&before), before.difference(&scored));
            if !soft.constraints.iter_mut().all(|counted| counted.scored_changed(cycle.cluster(), &more, &fewer)) {
                return Update::Recompute;
            }
            soft.feasible = feasible.clone();
            soft.ignored = feasible.difference(&scored);
        }
        for change in changes {
            if let Change::PodAdded { node, .. } | Change::PodRemoved { node, .. } = change {
                for counted in &mut soft.constraints {
                    counted.recount(cycle, *node, affected);
                }
            }
        }
        Update::Done
    }
}
