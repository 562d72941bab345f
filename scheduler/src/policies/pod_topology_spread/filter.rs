//! Constraints that must be kept.

use longshore_core::api::pod::UnsatisfiableConstraintAction;
use longshore_core::scheduling::cluster::{Change, LabelColumn, ValueId};
use longshore_core::scheduling::{Candidates, Cycle, Filter, NodeId, NodeSet, PreFilter, Refusal, State, Update};
use rustc_hash::FxHashMap;

use super::PodTopologySpread;
use super::constraint::{Constraint, Counter, included, labelled};

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
        let constraints = self.constraints(cycle, &UnsatisfiableConstraintAction::DoNotSchedule);
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

    fn labels<'s>(&self, state: &'s State) -> Option<Vec<&'s str>> {
        let Hard(constraints) = state.get::<Hard>()?;
        Some(constraints.iter().map(|counted| counted.constraint.key.as_str()).collect())
    }

    fn update(&self, cycle: Cycle<'_>, state: &mut State, changes: &[Change], affected: &mut NodeSet) -> Update {
        // Which constraints a pod has by default depends on its services and its controller.
        let by_default = self.defaults.is_some() && cycle.pod().spec.topology_spread_constraints.is_empty();
        if by_default && changes.iter().any(|change| matches!(change, Change::Object(_))) {
            return Update::Recompute;
        }
        // Otherwise whether it has some does not change.
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
