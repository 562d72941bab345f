//! Constraints that are kept as far as they can be.

use longshore_core::api::pod::UnsatisfiableConstraintAction;
use longshore_core::scheduling::cluster::{Change, Cluster, LabelColumn, ValueId};
use longshore_core::scheduling::{
    Cycle, MAX_NODE_SCORE, NodeId, NodeSet, PreScore, Score, ScoreRange, Scores, State, Update,
};
use rustc_hash::FxHashMap;

use super::PodTopologySpread;
use super::constraint::{Constraint, Counter, HOSTNAME, included, labelled};

/// What the score knows.
struct Soft {
    constraints: Vec<SoftCounted>,
    feasible: NodeSet,
    /// Nodes that lack a topology label and are not scored.
    ignored: NodeSet,
    /// Whether nodes must have all the labels; upstream's defaults put up with nodes that lack one.
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
        let strict = self.defaults.is_some() || !cycle.pod().spec.topology_spread_constraints.is_empty();
        let constraints = self.constraints(cycle, &UnsatisfiableConstraintAction::ScheduleAnyway);
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

    fn labels<'s>(&self, state: &'s State) -> Option<Vec<&'s str>> {
        let constraints = &state.get::<Soft>()?.constraints;
        let by_label = constraints.iter().all(|counted| !counted.is_host());
        by_label.then(|| constraints.iter().map(|counted| counted.constraint.key.as_str()).collect())
    }

    fn update(
        &self,
        cycle: Cycle<'_>,
        state: &mut State,
        changes: &[Change],
        feasible: &NodeSet,
        affected: &mut NodeSet,
    ) -> Update {
        let Some(soft) = state.get_mut::<Soft>() else {
            // Constraints by default depend on services and controllers.
            let objects = changes.iter().any(|change| matches!(change, Change::Object(_)));
            return if objects { Update::Recompute } else { Update::Done };
        };
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
