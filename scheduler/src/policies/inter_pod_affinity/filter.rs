//! Required affinity and anti-affinity, of the pod and of the pods that are there.

use std::collections::BTreeMap;

use longshore_core::api::pod::PodAffinityTerm;
use longshore_core::scheduling::cluster::{Change, Cluster};
use longshore_core::scheduling::{
    Candidates, Cycle, Filter, NodeId, NodeSet, PreFilter, Refusal, Shape, ShapeId, State, Update,
};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::InterPodAffinity;
use super::counts::Counts;
use super::term::{Term, own_namespace_labels, required_away, required_near};

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

    fn labels<'s>(&self, state: &'s State) -> Option<Vec<&'s str>> {
        let known = state.get::<Known>()?;
        let near = known.near.iter().map(|term| term.key.as_str());
        let away = known.away_counts.keys.iter().chain(&known.kept_away.keys).map(String::as_str);
        Some(near.chain(away).collect())
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
        // What no term is about any more is no longer asked about.
        if known.near.is_empty() && known.away.is_empty() && !known.kept_away.any() {
            return Update::Recompute;
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
