//! InterPodAffinity: near these pods, away from those; and what the pods that are there say about it.

use std::collections::{BTreeMap, BTreeSet};

use longshore_core::api::pod::{Affinity, Pod, PodAffinityTerm, WeightedPodAffinityTerm};
use longshore_core::scheduling::cluster::{Change, Cluster, LabelColumn, ValueId};
use longshore_core::scheduling::{
    Candidates, ClusterEvent, Cycle, Filter, MAX_NODE_SCORE, NodeId, NodeSet, Policy, PreFilter, PreScore, Refusal,
    Score, ScoreRange, Scores, Shape, ShapeId, State, Update,
};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

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

/// Numbers by domain: for some topology keys, for each value that nodes have.
///
/// Values are numbers of the cluster's columns. These hold as long as no node changes; then everything is counted anew.
#[derive(Debug, Default)]
struct Counts {
    keys: Vec<String>,
    counts: FxHashMap<(usize, ValueId), i64>,
}

impl Counts {
    /// The place of a key among the keys.
    fn key(&mut self, key: &str) -> usize {
        self.keys.iter().position(|known| known == key).unwrap_or_else(|| {
            self.keys.push(key.to_owned());
            self.keys.len() - 1
        })
    }

    /// Adds to the domain of a node; says which it is and what was counted before and is now. Nothing happens if the node
    /// does not have the key.
    fn add(&mut self, cluster: &Cluster, node: NodeId, key: usize, amount: i64) -> Option<(ValueId, i64, i64)> {
        let value = cluster.label(&self.keys[key])?.value(node)?;
        let count = self.counts.entry((key, value)).or_insert(0);
        let before = *count;
        *count += amount;
        let now = *count;
        Some((value, before, now))
    }

    fn get(&self, key: usize, value: ValueId) -> i64 {
        self.counts.get(&(key, value)).copied().unwrap_or(0)
    }

    /// Whether there is a domain in which anything counts.
    fn any(&self) -> bool {
        self.counts.values().any(|count| *count != 0)
    }

    /// Those of `within` that are in a domain in which something counts.
    fn nodes(&self, cluster: &Cluster, within: &NodeSet) -> NodeSet {
        if self.counts.is_empty() {
            return NodeSet::new();
        }
        let columns = self.columns(cluster);
        let counted = |node: &NodeId| {
            columns.iter().any(|(key, column)| column.value(*node).is_some_and(|value| self.get(*key, value) > 0))
        };
        within.iter().filter(counted).collect()
    }

    fn columns<'c>(&self, cluster: &'c Cluster) -> Vec<(usize, &'c LabelColumn)> {
        self.keys.iter().enumerate().filter_map(|(place, key)| Some((place, cluster.label(key)?))).collect()
    }

    /// Adds the nodes of a domain to a set.
    fn add_domain(&self, cluster: &Cluster, key: usize, value: ValueId, set: &mut NodeSet) {
        if let Some(column) = cluster.label(&self.keys[key]) {
            column.add_nodes_of(value, set);
        }
    }
}

/// What a pod of some shape that is there means to the pod that is to be placed.
#[derive(Debug, Clone, Default)]
struct Meaning {
    /// It meets all terms of the required affinity.
    near: bool,
    /// Keys of the terms of the required anti-affinity that it meets.
    away: SmallVec<[usize; 1]>,
    /// Keys of its own required anti-affinity, where that is about the pod.
    keeps_away: SmallVec<[usize; 1]>,
}

/// What the filter knows about a pod.
#[derive(Debug, Default)]
struct Known {
    namespace: BTreeMap<String, String>,
    near: Vec<Term>,
    away: Vec<Term>,
    near_counts: Counts,
    /// The pod meets its own terms: it may be the first of its kind.
    is_own_kind: bool,
    away_counts: Counts,
    /// Domains that pods that are there keep the pod away from.
    kept_away: Counts,
    meanings: FxHashMap<ShapeId, Meaning>,
}

impl Known {
    fn meaning(&mut self, there: &Shape, pod: &Shape) -> Meaning {
        if let Some(meaning) = self.meanings.get(&there.id()) {
            return meaning.clone();
        }
        let mut meaning = Meaning {
            near: !self.near.is_empty() && self.near.iter().all(|term| term.matches_listed(there)),
            ..Meaning::default()
        };
        for term in self.away.iter().filter(|term| term.matches_listed(there)) {
            meaning.away.push(self.away_counts.key(&term.key));
        }
        for term in required_away(there) {
            let term = Term::of(term, there);
            if term.matches(pod, &self.namespace) {
                meaning.keeps_away.push(self.kept_away.key(&term.key));
            }
        }
        self.meanings.insert(there.id(), meaning.clone());
        meaning
    }

    /// Counts a pod that came to a node (or went, if `amount` is -1). Nodes about which the answer may be another now are
    /// put into `affected`.
    fn count(
        &mut self,
        cycle: Cycle<'_>,
        (node, there): (NodeId, &Shape),
        amount: i64,
        mut affected: Option<&mut NodeSet>,
    ) {
        let cluster = cycle.cluster();
        let meaning = self.meaning(there, cycle.shape());
        let mut add = |counts: &mut Counts, key: usize| {
            let Some((value, before, now)) = counts.add(cluster, node, key, amount) else { return };
            if (before > 0) != (now > 0)
                && let Some(affected) = affected.as_deref_mut()
            {
                counts.add_domain(cluster, key, value, affected);
            }
        };
        if meaning.near {
            for term in &self.near {
                let key = self.near_counts.key(&term.key);
                add(&mut self.near_counts, key);
            }
        }
        for key in meaning.away {
            add(&mut self.away_counts, key);
        }
        for key in meaning.keeps_away {
            add(&mut self.kept_away, key);
        }
    }
}

fn own_namespace_labels(cycle: Cycle<'_>) -> BTreeMap<String, String> {
    cycle.cluster().namespace_labels(cycle.shape().namespace()).cloned().unwrap_or_default()
}

impl Filter for InterPodAffinity {
    fn pre_filter(&self, cycle: Cycle<'_>, state: &mut State) -> Result<PreFilter, Refusal> {
        let (cluster, shape) = (cycle.cluster(), cycle.shape());
        let incoming = |terms: &[PodAffinityTerm]| -> Vec<Term> {
            terms.iter().map(|term| Term::of_incoming(term, shape, cluster)).collect()
        };
        let mut known = Known {
            namespace: own_namespace_labels(cycle),
            near: incoming(required_near(shape)),
            away: incoming(required_away(shape)),
            ..Known::default()
        };
        known.is_own_kind = known.near.iter().all(|term| term.matches_listed(shape));
        if known.near.is_empty() && known.away.is_empty() {
            for (node, pod) in cluster.pods_with_affinity() {
                known.count(cycle, (node, pod.shape()), 1, None);
            }
            if !known.kept_away.any() {
                state.clear();
                return Ok(PreFilter::Skip);
            }
        } else {
            for (node, pod) in cluster.placed_pods() {
                known.count(cycle, (node, pod.shape()), 1, None);
            }
        }
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
        let away = known.away_counts.nodes(cluster, candidates.nodes());
        candidates.refuse_all(&away, Refusal::unschedulable("node(s) didn't match pod anti-affinity rules"));
        let kept_away = known.kept_away.nodes(cluster, candidates.nodes());
        let reason = "node(s) didn't satisfy existing pods anti-affinity rules";
        candidates.refuse_all(&kept_away, Refusal::unschedulable(reason));
    }

    fn update(&self, cycle: Cycle<'_>, state: &mut State, changes: &[Change], affected: &mut NodeSet) -> Update {
        let Some(known) = state.get_mut::<Known>() else {
            // A pod that no term is about stays so as long as no pod with terms comes or goes.
            let unconcerned = changes.iter().all(|change| match change {
                Change::PodAdded { shape, .. } | Change::PodRemoved { shape, .. } => required_away(shape).is_empty(),
                Change::Node(_) | Change::Namespace => cycle.cluster().pods_with_affinity().next().is_none(),
                _ => true,
            });
            return if unconcerned { Update::Done } else { Update::Recompute };
        };
        if changes.iter().any(|change| matches!(change, Change::Node(_) | Change::Namespace)) {
            return Update::Recompute;
        }
        let had_any = known.near_counts.any();
        for change in changes {
            match change {
                Change::PodAdded { node, shape } => known.count(cycle, (*node, shape), 1, Some(affected)),
                Change::PodRemoved { node, shape } => known.count(cycle, (*node, shape), -1, Some(affected)),
                _ => {}
            }
        }
        // The first of its kind may go anywhere, the second may not.
        if known.near_counts.any() == had_any { Update::Done } else { Update::Recompute }
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
    if !known.near_counts.any() {
        // The first of its kind may go anywhere where there is a domain.
        return if known.is_own_kind { labelled } else { NodeSet::new() };
    }
    let columns = known.near_counts.columns(cluster);
    let counted = |key: &str| columns.iter().find(|(place, _)| known.near_counts.keys[*place] == key);
    let terms: Vec<_> = known.near.iter().map(|term| counted(&term.key)).collect();
    let meets = |node: &NodeId| {
        terms.iter().all(|term| {
            term.is_some_and(|(key, column)| {
                column.value(*node).is_some_and(|value| known.near_counts.get(*key, value) > 0)
            })
        })
    };
    labelled.iter().filter(meets).collect()
}

/// What the score knows: for each domain, what it adds to its nodes.
struct Sums {
    namespace: BTreeMap<String, String>,
    own: Vec<(Term, i64)>,
    sums: Counts,
    worth: FxHashMap<ShapeId, Vec<(usize, i64)>>,
}

impl Sums {
    /// Counts a pod that came to a node (or went, if `sign` is -1); the nodes of domains that changed are put into
    /// `affected`.
    fn count(
        &mut self,
        cycle: Cycle<'_>,
        (node, there): (NodeId, &Shape),
        sign: i64,
        mut affected: Option<&mut NodeSet>,
    ) {
        if !self.worth.contains_key(&there.id()) {
            let worth = worth_of(there, cycle.shape(), &self.namespace, &self.own);
            let worth = worth.into_iter().map(|(key, amount)| (self.sums.key(&key), amount)).collect();
            self.worth.insert(there.id(), worth);
        }
        let cluster = cycle.cluster();
        for &(key, amount) in self.worth.get(&there.id()).into_iter().flatten() {
            let Some((value, before, now)) = self.sums.add(cluster, node, key, sign * amount) else { continue };
            if before != now
                && let Some(affected) = affected.as_deref_mut()
            {
                self.sums.add_domain(cluster, key, value, affected);
            }
        }
    }
}

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
        let mut sums = Sums { namespace, own, sums: Counts::default(), worth: FxHashMap::default() };
        if sums.own.is_empty() {
            cluster.pods_with_affinity().for_each(|(node, pod)| sums.count(cycle, (node, pod.shape()), 1, None));
        } else {
            cluster.placed_pods().for_each(|(node, pod)| sums.count(cycle, (node, pod.shape()), 1, None));
        }
        // As upstream, a sum that happens to be zero counts as one.
        if sums.sums.counts.is_empty() {
            return PreScore::Skip;
        }
        state.set(sums);
        PreScore::Score
    }

    fn score(&self, cycle: Cycle<'_>, state: &State, nodes: &NodeSet, scores: &mut Scores) {
        let Some(Sums { sums, .. }) = state.get::<Sums>() else { return };
        for (key, column) in sums.columns(cycle.cluster()) {
            for node in nodes.iter() {
                if let Some(value) = column.value(node) {
                    scores.add(node, sums.get(key, value));
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

    fn update(
        &self,
        cycle: Cycle<'_>,
        state: &mut State,
        changes: &[Change],
        _feasible: &NodeSet,
        affected: &mut NodeSet,
    ) -> Update {
        let Some(sums) = state.get_mut::<Sums>() else { return Update::Recompute };
        for change in changes {
            match change {
                Change::Node(_) | Change::Namespace => return Update::Recompute,
                // The last pod that counts went: the policy may have nothing more to say.
                Change::PodRemoved { .. } => return Update::Recompute,
                Change::PodAdded { node, shape } => sums.count(cycle, (*node, shape), 1, Some(affected)),
                _ => {}
            }
        }
        Update::Done
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
