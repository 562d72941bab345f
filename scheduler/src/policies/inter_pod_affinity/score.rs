//! Preferred affinity and anti-affinity, of the pod and of the pods that are there.

use std::collections::BTreeMap;

use longshore_core::api::pod::WeightedPodAffinityTerm;
use longshore_core::scheduling::cluster::Change;
use longshore_core::scheduling::{
    Cycle, MAX_NODE_SCORE, NodeId, NodeSet, PreScore, Score, ScoreRange, Scores, Shape, ShapeId, State, Update,
};
use rustc_hash::FxHashMap;

use super::InterPodAffinity;
use super::counts::Counts;
use super::term::{Term, own_namespace_labels, preferred_away, preferred_near, required_near};

/// What the score knows: for each domain, what it adds to its nodes.
struct Sums {
    namespace: BTreeMap<String, String>,
    own: Vec<(Term, i64)>,
    /// What a required affinity of a pod that is there counts for.
    hard_weight: i64,
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
            let worth = worth_of(there, cycle.shape(), self);
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
        if self.own_preferences_only && preferred_near(shape).is_empty() && preferred_away(shape).is_empty() {
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
        let (hard_weight, worth) = (self.hard_weight, FxHashMap::default());
        let mut sums = Sums { namespace, own, hard_weight, sums: Counts::default(), worth };
        if sums.own.is_empty() {
            cluster.pods_with_affinity().for_each(|(node, pod)| sums.count(cycle, (node, pod.shape()), 1, None));
        } else {
            cluster.placed_pods().for_each(|(node, pod)| sums.count(cycle, (node, pod.shape()), 1, None));
        }
        // As upstream, a sum that happens to be zero counts as one.
        let silent = sums.sums.counts.is_empty();
        state.set(sums);
        if silent { PreScore::Skip } else { PreScore::Score }
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

    fn labels<'s>(&self, state: &'s State) -> Option<Vec<&'s str>> {
        Some(state.get::<Sums>()?.sums.keys.iter().map(String::as_str).collect())
    }

    fn update(
        &self,
        cycle: Cycle<'_>,
        state: &mut State,
        changes: &[Change],
        _feasible: &NodeSet,
        affected: &mut NodeSet,
    ) -> Update {
        let Some(sums) = state.get_mut::<Sums>() else {
            // Nobody has terms: that stays so until a pod with some comes.
            let unconcerned = changes.iter().all(|change| match change {
                Change::PodAdded { shape, .. } => !shape.has_pod_affinity(),
                Change::Node(_) => cycle.cluster().pods_with_affinity().next().is_none(),
                _ => true,
            });
            return if unconcerned { Update::Done } else { Update::Recompute };
        };
        let was_silent = sums.sums.counts.is_empty();
        for change in changes {
            match change {
                Change::Node(_) | Change::Namespace => return Update::Recompute,
                // The last pod that counts went: the policy may have nothing more to say.
                Change::PodRemoved { .. } if !was_silent => return Update::Recompute,
                Change::PodAdded { node, shape } => sums.count(cycle, (*node, shape), 1, Some(affected)),
                _ => {}
            }
        }
        if was_silent && !sums.sums.counts.is_empty() { Update::Recompute } else { Update::Done }
    }
}

/// What a pod of shape `there` adds to its domains for a pod of shape `incoming`.
fn worth_of(there: &Shape, incoming: &Shape, sums: &Sums) -> Vec<(String, i64)> {
    let mut worth = Vec::new();
    for (term, weight) in sums.own.iter().filter(|(term, _)| term.matches_listed(there)) {
        worth.push((term.key.clone(), *weight));
    }
    // With weight 0 they do not even count as a sum of zero.
    let hard = required_near(there).iter().filter(|_| sums.hard_weight > 0);
    let theirs = hard.map(|term| (term, sums.hard_weight));
    let weight = |term: &WeightedPodAffinityTerm| i64::from(term.weight);
    let theirs = theirs.chain(preferred_near(there).iter().map(|term| (&term.pod_affinity_term, weight(term))));
    let theirs = theirs.chain(preferred_away(there).iter().map(|term| (&term.pod_affinity_term, -weight(term))));
    for (term, weight) in theirs {
        let term = Term::of(term, there);
        if term.matches(incoming, &sums.namespace) {
            worth.push((term.key, weight));
        }
    }
    worth
}
