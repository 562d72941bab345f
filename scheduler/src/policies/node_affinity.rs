//! NodeAffinity: which nodes a pod demands or prefers, by their labels.

use std::collections::BTreeSet;

use longshore_core::api::Node;
use longshore_core::api::pod::helpers::{node_matches, node_selector_selects};
use longshore_core::api::pod::{
    self, NodeSelectorOperator, NodeSelectorRequirement, NodeSelectorTerm, Pod, PreferredSchedulingTerm,
};
use longshore_core::scheduling::cluster::{Cluster, LabelColumn};
use longshore_core::scheduling::{
    Candidates, ClusterEvent, Cycle, Filter, NodeSet, Policy, PreFilter, PreScore, Reach, Refusal, Score, ScoreRange,
    Scores, State,
};

/// The one field by which a term may select nodes.
const NAME: &str = "metadata.name";

/// Refuses nodes that `nodeSelector` or the required node affinity excludes, and prefers those that preferred terms name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NodeAffinity {
    added: pod::NodeAffinity,
}

impl NodeAffinity {
    /// The policy with an affinity that every pod has beside its own. Nodes must meet both.
    pub fn with_added(added: pod::NodeAffinity) -> Self {
        Self { added }
    }

    fn may_take(&self, pod: &Pod, node: &Node) -> bool {
        let added = self.added.required_during_scheduling_ignored_during_execution.as_ref();
        added.is_none_or(|added| node_selector_selects(added, node).unwrap_or(false))
            && node_matches(pod, node).unwrap_or(false)
    }

    fn preferred<'p>(&'p self, pod: &'p Pod) -> impl Iterator<Item = &'p PreferredSchedulingTerm> {
        self.added.preferred_during_scheduling_ignored_during_execution.iter().chain(preferred(pod))
    }
}

impl Policy for NodeAffinity {
    fn name(&self) -> &str {
        "NodeAffinity"
    }

    fn may_help(&self, pod: &Pod, event: &ClusterEvent<'_>) -> bool {
        let wants = |node| self.may_take(pod, node);
        match event {
            ClusterEvent::NodeAdded(node) => wants(node),
            ClusterEvent::NodeUpdated { old, new } => wants(new) && !wants(old),
            ClusterEvent::SelfUpdated { old, new } => {
                old.spec.node_selector != new.spec.node_selector || old.spec.affinity != new.spec.affinity
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

/// The terms of the required node affinity, if there is one.
fn required(pod: &Pod) -> Option<&[NodeSelectorTerm]> {
    let affinity = pod.spec.affinity.as_deref()?.node_affinity.as_ref()?;
    let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
    Some(&required.node_selector_terms)
}

fn preferred(pod: &Pod) -> &[PreferredSchedulingTerm] {
    let affinity = pod.spec.affinity.as_deref().and_then(|affinity| affinity.node_affinity.as_ref());
    affinity.map_or(&[], |affinity| &affinity.preferred_during_scheduling_ignored_during_execution)
}

/// Whether the pod has any demand on its nodes.
pub(super) fn demands(pod: &Pod) -> bool {
    !pod.spec.node_selector.is_empty() || required(pod).is_some()
}

/// Those of `within` that `nodeSelector` and the required node affinity allow.
pub(super) fn allowed(cluster: &Cluster, pod: &Pod, within: &NodeSet) -> NodeSet {
    let mut allowed = within.clone();
    for (key, value) in &pod.spec.node_selector {
        let mut with = NodeSet::new();
        if let Some(column) = cluster.label(key) {
            column.add_nodes_with(value, &mut with);
        }
        allowed.intersect(&with);
    }
    match required(pod) {
        Some(terms) => matching_any(cluster, terms, &allowed),
        None => allowed,
    }
}

/// Those of `within` that one of the terms selects.
fn matching_any(cluster: &Cluster, terms: &[NodeSelectorTerm], within: &NodeSet) -> NodeSet {
    let mut any = NodeSet::new();
    for term in terms {
        any.union(&matching(cluster, term, within));
    }
    any
}

/// Those of `within` that the term selects. A term that is empty or cannot be read selects none.
fn matching(cluster: &Cluster, term: &NodeSelectorTerm, within: &NodeSet) -> NodeSet {
    let mut nodes = within.clone();
    if term.match_expressions.is_empty() && term.match_fields.is_empty() {
        nodes.clear();
    }
    for requirement in &term.match_expressions {
        match by_label(cluster, requirement, &nodes) {
            Some(selected) => nodes.intersect(&selected),
            None => nodes.clear(),
        }
    }
    for requirement in &term.match_fields {
        match by_field(cluster, requirement, &nodes) {
            Some(selected) => nodes.intersect(&selected),
            None => nodes.clear(),
        }
    }
    nodes
}

fn by_label(cluster: &Cluster, requirement: &NodeSelectorRequirement, within: &NodeSet) -> Option<NodeSet> {
    let values = &requirement.values;
    let column = cluster.label(&requirement.key);
    let with = |wanted: &dyn Fn(&str) -> bool| numbers(column, wanted);
    let one_of = || {
        let mut set = NodeSet::new();
        for value in values {
            if let Some(column) = column {
                column.add_nodes_with(value, &mut set);
            }
        }
        set
    };
    let present = || column.map(|column| column.nodes().clone()).unwrap_or_default();
    match requirement.operator {
        NodeSelectorOperator::In if !values.is_empty() => Some(one_of()),
        NodeSelectorOperator::NotIn if !values.is_empty() => Some(within.difference(&one_of())),
        NodeSelectorOperator::Exists if values.is_empty() => Some(present()),
        NodeSelectorOperator::DoesNotExist if values.is_empty() => Some(within.difference(&present())),
        NodeSelectorOperator::Gt | NodeSelectorOperator::Lt => {
            let [bound] = &values[..] else { return None };
            let bound: i64 = bound.parse().ok()?;
            let greater = requirement.operator == NodeSelectorOperator::Gt;
            let wanted = |value: &str| {
                value.parse::<i64>().is_ok_and(|value| if greater { value > bound } else { value < bound })
            };
            Some(with(&wanted))
        }
        _ => None,
    }
}

fn numbers(column: Option<&LabelColumn>, wanted: &dyn Fn(&str) -> bool) -> NodeSet {
    let mut set = NodeSet::new();
    if let Some(column) = column {
        for (value, _) in column.values().filter(|(_, text)| wanted(text)) {
            column.add_nodes_of(value, &mut set);
        }
    }
    set
}

fn by_field(cluster: &Cluster, requirement: &NodeSelectorRequirement, within: &NodeSet) -> Option<NodeSet> {
    let [value] = &requirement.values[..] else { return None };
    let equal: NodeSet = if requirement.key == NAME {
        cluster.node_id(value).into_iter().collect()
    } else if value.is_empty() {
        // A field that nodes do not have is empty.
        within.clone()
    } else {
        NodeSet::new()
    };
    match requirement.operator {
        NodeSelectorOperator::In => Some(equal),
        NodeSelectorOperator::NotIn => Some(within.difference(&equal)),
        _ => None,
    }
}

/// The names of the only nodes that can match, if every term names some.
fn names(terms: &[NodeSelectorTerm]) -> Option<BTreeSet<&str>> {
    let mut all = BTreeSet::new();
    for term in terms {
        let mut own: Option<BTreeSet<&str>> = None;
        for requirement in &term.match_fields {
            if requirement.key == NAME && requirement.operator == NodeSelectorOperator::In {
                let names: BTreeSet<&str> = requirement.values.iter().map(String::as_str).collect();
                own = Some(own.map_or(names.clone(), |own| own.intersection(&names).copied().collect()));
            }
        }
        all.extend(own?);
    }
    (!terms.is_empty()).then_some(all)
}

impl Filter for NodeAffinity {
    fn pre_filter(&self, cycle: Cycle<'_>, _state: &mut State) -> Result<PreFilter, Refusal> {
        if !demands(cycle.pod()) && self.added.required_during_scheduling_ignored_during_execution.is_none() {
            return Ok(PreFilter::Skip);
        }
        match required(cycle.pod()).and_then(names) {
            None => Ok(PreFilter::All),
            Some(names) if names.is_empty() => Err(Refusal::unresolvable("pod affinity terms conflict")),
            Some(names) => {
                let known = names.into_iter().filter_map(|name| cycle.cluster().node_id(name));
                Ok(PreFilter::Only(known.collect()))
            }
        }
    }

    fn filter(&self, cycle: Cycle<'_>, _state: &State, candidates: &mut Candidates) {
        if let Some(added) = &self.added.required_during_scheduling_ignored_during_execution {
            let selected = matching_any(cycle.cluster(), &added.node_selector_terms, candidates.nodes());
            let reason = "node(s) didn't match scheduler-enforced node affinity";
            candidates.keep_only(&selected, Refusal::unresolvable(reason));
        }
        let allowed = allowed(cycle.cluster(), cycle.pod(), candidates.nodes());
        candidates.keep_only(&allowed, Refusal::unresolvable("node(s) didn't match Pod's node affinity/selector"));
    }

    fn reach(&self) -> Reach {
        Reach::Node
    }
}

impl Score for NodeAffinity {
    fn pre_score(&self, cycle: Cycle<'_>, _state: &mut State, _feasible: &NodeSet) -> PreScore {
        if self.preferred(cycle.pod()).next().is_none() { PreScore::Skip } else { PreScore::Score }
    }

    fn score(&self, cycle: Cycle<'_>, _state: &State, nodes: &NodeSet, scores: &mut Scores) {
        for term in self.preferred(cycle.pod()) {
            for node in matching(cycle.cluster(), &term.preference, nodes).iter() {
                scores.add(node, i64::from(term.weight));
            }
        }
    }

    fn is_normalised(&self) -> bool {
        true
    }

    fn normalise(&self, _cycle: Cycle<'_>, _state: &State, range: ScoreRange, nodes: &NodeSet, scores: &mut Scores) {
        scores.scale(range, nodes, false);
    }

    fn reach(&self) -> Reach {
        Reach::Node
    }
}
