//! InterPodAffinity: near these pods, away from those; and what the pods that are there say about it.

use std::collections::{BTreeMap, BTreeSet};

use longshore_core::api::pod::{Affinity, Pod, PodAffinityTerm, WeightedPodAffinityTerm};
use longshore_core::scheduling::cluster::{Change, Cluster, LabelColumn, PlacedPod};
use longshore_core::scheduling::{
    Candidates, ClusterEvent, Cycle, Filter, MAX_NODE_SCORE, NodeId, NodeSet, Policy, PreFilter, PreScore, Refusal,
    Score, ScoreRange, Scores, Shape, ShapeId, State, Update,
};
use rustc_hash::FxHashMap;

use super::selector::Selector;

/// What a required affinity of a pod that is there counts for in the score.
const HARD_POD_AFFINITY_WEIGHT: i64 = 1;

/// Refuses nodes by required affinity and anti-affinity, of the pod and of the pods that are there, and scores the others by
/// the preferred ones.
#[derive(Debug, Clone, Copy, Default)]
pub struct InterPodAffinity;

impl Policy for InterPodAffinity {
    fn name(&self) -> &str {
        "InterPodAffinity"
    }

    fn may_help(&self, _pod: &Pod, event: &ClusterEvent<'_>) -> bool {
        match event {
            ClusterEvent::NodeUpdated { old, new } => old.metadata.labels != new.metadata.labels,
            ClusterEvent::PodUpdated { old, new } => old.metadata.labels != new.metadata.labels,
            ClusterEvent::ObjectChanged { .. } | ClusterEvent::ObjectRemoved { .. } => false,
            _ => true,
        }
    }

    fn as_filter(&self) -> Option<&dyn Filter> {
        Some(self)
    }

    fn as_score(&self) -> Option<&dyn Score> {
        Some(self)
    }
}

/// A term, ready to be matched.
#[derive(Debug)]
struct Term {
    key: String,
    pods: Selector,
    namespaces: BTreeSet<String>,
    by_labels: Selector,
}

impl Term {
    /// A term of `owner`.
    fn of(term: &PodAffinityTerm, owner: &Shape) -> Self {
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
    fn of_incoming(term: &PodAffinityTerm, owner: &Shape, cluster: &Cluster) -> Self {
        let mut term = Self::of(term, owner);
        if !term.by_labels.is_empty() {
            let selected = cluster.namespaces().filter(|(_, labels)| term.by_labels.matches(labels));
            let selected: Vec<String> = selected.map(|(name, _)| name.to_owned()).collect();
            term.namespaces.extend(selected);
        }
        term
    }

    /// Whether the term of a pod that is there is about `pod`.
    fn matches(&self, pod: &Shape, namespace: &BTreeMap<String, String>) -> bool {
        (self.namespaces.contains(pod.namespace()) || self.by_labels.matches(namespace))
            && self.pods.matches(pod.labels())
    }

    /// Whether the term of the pod that is to be placed is about `pod`.
    fn matches_listed(&self, pod: &Shape) -> bool {
        self.matches(pod, &BTreeMap::new())
    }
}

fn affinity(shape: &Shape) -> Option<&Affinity> {
    shape.pod().spec.affinity.as_deref()
}

fn required_near(shape: &Shape) -> &[PodAffinityTerm] {
    let near = affinity(shape).and_then(|affinity| affinity.pod_affinity.as_ref());
    near.map_or(&[], |near| &near.required_during_scheduling_ignored_during_execution)
}

fn required_away(shape: &Shape) -> &[PodAffinityTerm] {
    let away = affinity(shape).and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    away.map_or(&[], |away| &away.required_during_scheduling_ignored_during_execution)
}

fn preferred_near(shape: &Shape) -> &[WeightedPodAffinityTerm] {
    let near = affinity(shape).and_then(|affinity| affinity.pod_affinity.as_ref());
    near.map_or(&[], |near| &near.preferred_during_scheduling_ignored_during_execution)
}

fn preferred_away(shape: &Shape) -> &[WeightedPodAffinityTerm] {
    let away = affinity(shape).and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    away.map_or(&[], |away| &away.preferred_during_scheduling_ignored_during_execution)
}

/// Numbers by topology: for each key, for each value that nodes have.
#[derive(Debug, Default)]
struct Counts(BTreeMap<String, BTreeMap<String, i64>>);

impl Counts {
    fn add(&mut self, cluster: &Cluster, node: NodeId, key: &str, amount: i64) {
        let Some(column) = cluster.label(key) else { return };
        let Some(value) = column.value(node) else { return };
        if !self.0.contains_key(key) {
            self.0.insert(key.to_owned(), BTreeMap::new());
        }
        let Some(values) = self.0.get_mut(key) else { return };
        match values.get_mut(column.text(value)) {
            Some(count) => *count += amount,
            None => drop(values.insert(column.text(value).to_owned(), amount)),
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn get(&self, key: &str, value: &str) -> i64 {
        self.0.get(key).and_then(|values| values.get(value)).copied().unwrap_or(0)
    }

    /// Nodes in a domain that counts anything.
    fn nodes(&self, cluster: &Cluster) -> NodeSet {
        let mut nodes = NodeSet::new();
        for (key, values) in &self.0 {
            let Some(column) = cluster.label(key) else { continue };
            for (value, _) in values.iter().filter(|(_, count)| **count > 0) {
                column.add_nodes_with(value, &mut nodes);
            }
        }
        nodes
    }
}

/// What the filter knows about a pod.
#[derive(Debug, Default)]
struct Known {
    near: Vec<Term>,
    near_counts: Counts,
    /// The pod meets its own terms: it may be the first of its kind.
    is_own_kind: bool,
    away: Counts,
    /// Domains that pods that are there keep the pod away from.
    kept_away: Counts,
}

fn own_namespace_labels(cycle: Cycle<'_>) -> BTreeMap<String, String> {
    cycle.cluster().namespace_labels(cycle.shape().namespace()).cloned().unwrap_or_default()
}

impl Filter for InterPodAffinity {
    fn pre_filter(&self, cycle: Cycle<'_>, state: &mut State) -> Result<PreFilter, Refusal> {
        let (cluster, shape) = (cycle.cluster(), cycle.shape());
        let mut known = Known::default();
        let namespace = own_namespace_labels(cycle);
        let mut terms: FxHashMap<ShapeId, Vec<String>> = FxHashMap::default();
        for (node, pod) in cluster.pods_with_affinity() {
            let keys = terms.entry(pod.shape().id()).or_insert_with(|| {
                let terms = required_away(pod.shape()).iter().map(|term| Term::of(term, pod.shape()));
                terms.filter(|term| term.matches(shape, &namespace)).map(|term| term.key).collect()
            });
            for key in keys {
                known.kept_away.add(cluster, node, key, 1);
            }
        }
        let incoming = |terms: &[PodAffinityTerm]| -> Vec<Term> {
            terms.iter().map(|term| Term::of_incoming(term, shape, cluster)).collect()
        };
        let (near, away) = (incoming(required_near(shape)), incoming(required_away(shape)));
        if near.is_empty() && away.is_empty() && known.kept_away.is_empty() {
            state.clear();
            return Ok(PreFilter::Skip);
        }
        if !near.is_empty() || !away.is_empty() {
            let mut met: FxHashMap<ShapeId, (bool, Vec<usize>)> = FxHashMap::default();
            for (node, pod) in cluster.placed_pods() {
                let (all_near, each_away) = met.entry(pod.shape().id()).or_insert_with(|| {
                    let all_near = !near.is_empty() && near.iter().all(|term| term.matches_listed(pod.shape()));
                    let away = away.iter().enumerate().filter(|(_, term)| term.matches_listed(pod.shape()));
                    (all_near, away.map(|(index, _)| index).collect())
                });
                if *all_near {
                    for term in &near {
                        known.near_counts.add(cluster, node, &term.key, 1);
                    }
                }
                for index in each_away {
                    known.away.add(cluster, node, &away[*index].key, 1);
                }
            }
        }
        known.is_own_kind = near.iter().all(|term| term.matches_listed(shape));
        known.near = near;
        state.set(known);
        Ok(PreFilter::All)
    }

    fn filter(&self, cycle: Cycle<'_>, state: &State, candidates: &mut Candidates) {
        let Some(known) = state.get::<Known>() else { return };
        let cluster = cycle.cluster();
        if !known.near.is_empty() {
            let reachable = nodes_near(cluster, known, candidates.nodes());
            candidates.keep_only(&reachable, Refusal::unresolvable("node(s) didn't match pod affinity rules"));
        }
        let away = known.away.nodes(cluster);
        candidates.refuse_all(&away, Refusal::unschedulable("node(s) didn't match pod anti-affinity rules"));
        let kept_away = known.kept_away.nodes(cluster);
        let reason = "node(s) didn't satisfy existing pods anti-affinity rules";
        candidates.refuse_all(&kept_away, Refusal::unschedulable(reason));
    }

    fn update(&self, cycle: Cycle<'_>, state: &mut State, changes: &[Change], _affected: &mut NodeSet) -> Update {
        // A pod that no term is about stays so as long as no pod with terms comes or goes.
        let unconcerned = state.get::<Known>().is_none()
            && changes.iter().all(|change| match change {
                Change::PodAdded { shape, .. } | Change::PodRemoved { shape, .. } => required_away(shape).is_empty(),
                Change::Node(_) | Change::Namespace => cycle.cluster().pods_with_affinity().next().is_none(),
                _ => true,
            });
        if unconcerned { Update::Done } else { Update::Recompute }
    }
}

/// Those of `within` that meet the required affinity.
fn nodes_near(cluster: &Cluster, known: &Known, within: &NodeSet) -> NodeSet {
    let mut labelled = within.clone();
    for term in &known.near {
        match cluster.label(&term.key) {
            Some(column) => labelled.intersect(column.nodes()),
            None => labelled.clear(),
        }
    }
    if known.near_counts.is_empty() && known.is_own_kind {
        // The first of its kind may go anywhere where there is a domain.
        return labelled;
    }
    let columns: Vec<(&Term, &LabelColumn)> =
        known.near.iter().filter_map(|term| Some((term, cluster.label(&term.key)?))).collect();
    let meets = |node: &NodeId| {
        columns.iter().all(|(term, column)| {
            column.value(*node).is_some_and(|value| known.near_counts.get(&term.key, column.text(value)) > 0)
        })
    };
    labelled.iter().filter(meets).collect()
}

/// What the score adds for each domain.
struct Sums(Counts);

impl Score for InterPodAffinity {
    fn pre_score(&self, cycle: Cycle<'_>, state: &mut State, _feasible: &NodeSet) -> PreScore {
        let (cluster, shape) = (cycle.cluster(), cycle.shape());
        if !shape.has_pod_affinity() && cluster.pods_with_affinity().next().is_none() {
            return PreScore::Skip;
        }
        let weighted = |terms: &[WeightedPodAffinityTerm], sign: i64| -> Vec<(Term, i64)> {
            let incoming = |term: &WeightedPodAffinityTerm| {
                (Term::of_incoming(&term.pod_affinity_term, shape, cluster), sign * i64::from(term.weight))
            };
            terms.iter().map(incoming).collect()
        };
        let mut own = weighted(preferred_near(shape), 1);
        own.extend(weighted(preferred_away(shape), -1));
        let namespace = own_namespace_labels(cycle);
        let mut sums = Counts::default();
        let mut worth: FxHashMap<ShapeId, Vec<(String, i64)>> = FxHashMap::default();
        let mut add = |node: NodeId, pod: &PlacedPod| {
            let terms = worth.entry(pod.shape().id()).or_insert_with(|| worth_of(pod.shape(), shape, &namespace, &own));
            for (key, amount) in terms {
                sums.add(cluster, node, key, *amount);
            }
        };
        if own.is_empty() {
            cluster.pods_with_affinity().for_each(|(node, pod)| add(node, pod));
        } else {
            cluster.placed_pods().for_each(|(node, pod)| add(node, pod));
        }
        if sums.is_empty() {
            return PreScore::Skip;
        }
        state.set(Sums(sums));
        PreScore::Score
    }

    fn score(&self, cycle: Cycle<'_>, state: &State, nodes: &NodeSet, scores: &mut Scores) {
        let Some(Sums(sums)) = state.get::<Sums>() else { return };
        for (key, values) in &sums.0 {
            let Some(column) = cycle.cluster().label(key) else { continue };
            let mut by_value = vec![0; column.value_count()];
            for (value, text) in column.values() {
                by_value[value.index()] = values.get(text).copied().unwrap_or(0);
            }
            for node in nodes.iter() {
                if let Some(value) = column.value(node) {
                    scores.add(node, by_value[value.index()]);
                }
            }
        }
    }

    fn is_normalised(&self) -> bool {
        true
    }

    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "as upstream")]
    fn normalise(&self, _cycle: Cycle<'_>, _state: &State, range: ScoreRange, nodes: &NodeSet, scores: &mut Scores) {
        let width = range.max - range.min;
        for node in nodes.iter() {
            let part = if width > 0 { (scores.get(node) - range.min) as f64 / width as f64 } else { 0.0 };
            scores.set(node, (MAX_NODE_SCORE as f64 * part) as i64);
        }
    }
}

/// What a pod of shape `there` adds to its domains for a pod of shape `incoming`.
fn worth_of(
    there: &Shape,
    incoming: &Shape,
    namespace: &BTreeMap<String, String>,
    own: &[(Term, i64)],
) -> Vec<(String, i64)> {
    let mut worth = Vec::new();
    for (term, weight) in own.iter().filter(|(term, _)| term.matches_listed(there)) {
        worth.push((term.key.clone(), *weight));
    }
    let theirs = required_near(there).iter().map(|term| (term, HARD_POD_AFFINITY_WEIGHT));
    let weight = |term: &WeightedPodAffinityTerm| i64::from(term.weight);
    let theirs = theirs.chain(preferred_near(there).iter().map(|term| (&term.pod_affinity_term, weight(term))));
    let theirs = theirs.chain(preferred_away(there).iter().map(|term| (&term.pod_affinity_term, -weight(term))));
    for (term, weight) in theirs {
        let term = Term::of(term, there);
        if term.matches(incoming, namespace) {
            worth.push((term.key, weight));
        }
    }
    worth
}
