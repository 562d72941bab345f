//! What was worked out about pods of one shape, and how it is brought up to date.
//!
//! Cold, every policy looks at every node. Warm, the changes since are read off the cluster's record, and policies look at
//! the nodes that changed only. Both must come to the same end; a property test holds them against each other.

use longshore_core::api::pod::Pod;
use longshore_core::scheduling::cluster::{Change, Cluster};
use longshore_core::scheduling::{Candidates, Cycle, NodeId, NodeSet, PreFilter, Reach, Refusal, Shape, State, Update};

use super::best::Best;
use super::column::Column;
use crate::Profile;

/// Above this part of the nodes, looking at all is no dearer than looking at the changed ones.
const COLD_ABOVE: usize = 4;

/// Everything known about one shape under one profile.
#[derive(Debug, Default)]
pub(super) struct Cached {
    /// The cluster's generation that this reflects.
    seen: Option<u64>,
    pub(super) candidates: Candidates,
    /// The policy that refused the pod for every node before any was looked at.
    pub(super) pre_filter: Option<usize>,
    /// Names of the policies that ruled nodes out beforehand, if any did.
    pub(super) ruled_out_by: String,
    restricted: bool,
    states: Vec<State>,
    /// By place in the profile; a filter that does not care about the pod is not asked.
    asked: Vec<bool>,
    columns: Vec<Column>,
    pub(super) best: Best,
    pub(super) last_used: u64,
}

/// Who asks.
#[derive(Clone, Copy)]
pub(super) struct Question<'q> {
    pub(super) profile: &'q Profile,
    pub(super) pod: &'q Pod,
    pub(super) shape: &'q Shape,
}

impl<'q> Question<'q> {
    pub(super) fn cycle(self, cluster: &'q Cluster) -> Cycle<'q> {
        Cycle::new(self.pod, self.shape, cluster)
    }
}

impl Cached {
    /// Brings everything up to date.
    pub(super) fn refresh(&mut self, question: Question<'_>, cluster: &mut Cluster) {
        if !self.warm(question, cluster) {
            self.cold(question, cluster);
        }
        self.seen = Some(cluster.generation());
    }

    /// Nothing known, with the memory of what was.
    pub(super) fn forgotten(mut self: Box<Self>) -> Box<Self> {
        self.seen = None;
        self
    }

    /// A policy's score of a node, after normalising; `None` if it has nothing to say about the pod.
    pub(super) fn score(&self, place: usize, node: NodeId) -> Option<i64> {
        let column = self.columns.get(place)?;
        column.active.then(|| column.score.get(node))
    }

    /// Looks at everything.
    pub(super) fn cold(&mut self, question: Question<'_>, cluster: &mut Cluster) {
        let policies = question.profile.policies().len();
        self.candidates.reset(cluster.nodes());
        self.columns.resize_with(policies, Column::default);
        self.best.reset(cluster.width());
        for column in &mut self.columns {
            column.active = false;
        }
        if !self.pre_filter_all(question, cluster) {
            return;
        }
        run_filters(question, cluster, &self.states, &self.asked, &mut self.candidates);
        let doubtful = cluster.nodes_with_nominations().clone();
        self.filter_with_nominated(question, cluster, &doubtful);
        self.score_all(question, cluster);
    }

    /// Why the node cannot take the pod, worked out from scratch.
    pub(super) fn refusal_of(question: Question<'_>, cluster: &mut Cluster, node: NodeId) -> Option<Refusal> {
        let candidates = Self::filtered(question, cluster, NodeSet::only(node));
        candidates.refusal(node).map(|(_, refusal)| refusal.clone())
    }

    /// Which of these nodes can take the pod, worked out from scratch; nothing is scored.
    pub(super) fn filtered(question: Question<'_>, cluster: &mut Cluster, nodes: NodeSet) -> Candidates {
        let mut cached = Self { candidates: Candidates::new(nodes.clone()), ..Self::default() };
        if cached.pre_filter_all(question, cluster) {
            run_filters(question, cluster, &cached.states, &cached.asked, &mut cached.candidates);
            let doubtful = nodes.intersection(cluster.nodes_with_nominations());
            cached.filter_with_nominated(question, cluster, &doubtful);
        }
        cached.candidates
    }

    /// Whether any node is to be looked at.
    fn pre_filter_all(&mut self, question: Question<'_>, cluster: &Cluster) -> bool {
        let policies = question.profile.policies().len();
        self.states.clear();
        self.states.resize_with(policies, State::default);
        self.asked.clear();
        self.asked.resize(policies, false);
        self.pre_filter = None;
        self.ruled_out_by.clear();
        self.restricted = false;
        let cycle = question.cycle(cluster);
        let mut only: Option<NodeSet> = None;
        let mut named: Vec<&str> = Vec::new();
        for (place, filter) in question.profile.filters() {
            let refusal = match filter.pre_filter(cycle, &mut self.states[place]) {
                Ok(PreFilter::Skip) => continue,
                Ok(PreFilter::All) => {
                    self.asked[place] = true;
                    continue;
                }
                Ok(PreFilter::Only(nodes)) => {
                    self.asked[place] = true;
                    self.restricted = true;
                    named.push(question.profile.name_of(place));
                    let several = only.is_some();
                    let left = only.map_or(nodes.clone(), |only| only.intersection(&nodes));
                    let none = several && left.is_empty();
                    only = Some(left);
                    if !none {
                        continue;
                    }
                    let text = format!("node(s) didn't satisfy plugin(s) [{}] simultaneously", named.join(" "));
                    Refusal::unresolvable(text)
                }
                Err(refusal) => refusal,
            };
            self.pre_filter = Some(place);
            self.candidates.speak_for(short(place));
            self.candidates.refuse_all(cluster.nodes(), refusal);
            return false;
        }
        if let Some(only) = only {
            named.sort_unstable();
            self.ruled_out_by = named.join(",");
            // Not a policy of the profile, but several of them together.
            self.candidates.speak_for(short(policies));
            let text = format!("node(s) didn't satisfy plugin(s) [{}]", named.join(" "));
            self.candidates.keep_only(&only, Refusal::unresolvable(text));
        }
        true
    }

    /// Pods for which room is being made on a node, of the pod's priority or above, must fit together with it. Filters must
    /// pass both with them and without, for they may go elsewhere.
    fn filter_with_nominated(&mut self, question: Question<'_>, cluster: &mut Cluster, nodes: &NodeSet) {
        for node in nodes.iter() {
            let ahead = nominated_ahead(question, cluster, node);
            if ahead.is_empty() || self.candidates.refusal(node).is_some_and(|(place, _)| self.is_beforehand(place)) {
                continue;
            }
            for pod in &ahead {
                cluster.place(pod.clone(), node);
            }
            let alone = NodeSet::only(node);
            let mut with = Candidates::new(alone.clone());
            let mut states: Vec<State> = Vec::new();
            states.resize_with(self.states.len(), State::default);
            let mut asked = self.asked.clone();
            for (place, filter) in question.profile.filters().filter(|(place, _)| self.asked[*place]) {
                let cycle = question.cycle(cluster);
                asked[place] = !matches!(filter.pre_filter(cycle, &mut states[place]), Ok(PreFilter::Skip));
            }
            run_filters(question, cluster, &states, &asked, &mut with);
            for pod in &ahead {
                let meta = &pod.metadata;
                cluster.remove_pod(
                    meta.namespace.as_deref().unwrap_or_default(),
                    meta.name.as_deref().unwrap_or_default(),
                );
            }
            if with.nodes().is_empty() {
                self.candidates.merge(&with, &alone);
            }
        }
    }

    /// Whether the refusal was made before any node was looked at.
    fn is_beforehand(&self, place: u16) -> bool {
        self.restricted && place == short(self.states.len())
    }

    fn score_all(&mut self, question: Question<'_>, cluster: &Cluster) {
        let feasible = self.candidates.nodes().clone();
        if feasible.is_empty() {
            return;
        }
        for (place, policy) in question.profile.scores() {
            let column = &mut self.columns[place];
            column.state.clear();
            column.compute(question, cluster, policy, &feasible);
        }
        self.total_all(question, &feasible);
    }

    fn total_all(&mut self, question: Question<'_>, feasible: &NodeSet) {
        for node in feasible.iter() {
            self.best.put(node, total(question, &self.columns, node));
        }
        self.best.build();
    }

    /// Looks at what changed only; `false` if that is not possible.
    fn warm(&mut self, question: Question<'_>, cluster: &mut Cluster) -> bool {
        let far = question.profile.filters().any(|(_, filter)| filter.reach() == Reach::Cluster)
            || question.profile.scores().any(|(_, score)| score.reach() == Reach::Cluster);
        let Some((mut affected, nodes_changed, changes)) = self.seen.and_then(|seen| changes_since(cluster, seen, far))
        else {
            return false;
        };
        if self.pre_filter.is_some()
            || (self.restricted && nodes_changed)
            || affected.len() * COLD_ABOVE > cluster.node_count()
            || !self.best.has_room(cluster.width())
            || (nodes_changed && self.asks(question, Reach::Nodes))
            || self.reads_outside(question)
        {
            return false;
        }
        if !changes.is_empty() {
            let cycle = question.cycle(cluster);
            for (place, filter) in question.profile.filters().filter(|(_, filter)| filter.reach() == Reach::Cluster) {
                let state = &mut self.states[place];
                if filter.update(cycle, state, &changes, &mut affected) == Update::Recompute {
                    return false;
                }
            }
        }
        affected = self.filter_again(question, cluster, affected);
        self.score_again(question, cluster, &affected, nodes_changed, &changes);
        true
    }

    /// Whether a filter of this reach is asked about the pod.
    fn asks(&self, question: Question<'_>, reach: Reach) -> bool {
        question
            .profile
            .filters()
            .any(|(place, filter)| self.asked.get(place) == Some(&true) && filter.reach() == reach)
    }

    fn reads_outside(&self, question: Question<'_>) -> bool {
        self.asks(question, Reach::Outside)
            || question.profile.scores().any(|(place, score)| self.is_active(place) && score.reach() == Reach::Outside)
    }

    fn is_active(&self, place: usize) -> bool {
        self.columns.get(place).is_some_and(|column| column.active)
    }

    fn filter_again(&mut self, question: Question<'_>, cluster: &mut Cluster, affected: NodeSet) -> NodeSet {
        // Nodes ruled out beforehand stay so: which they are depends on the pod and the nodes' names.
        let ruled_out =
            |node: &NodeId| self.candidates.refusal(*node).is_some_and(|(place, _)| self.is_beforehand(place));
        let affected: NodeSet =
            if self.restricted { affected.iter().filter(|node| !ruled_out(node)).collect() } else { affected };
        let mut part = Candidates::new(affected.intersection(cluster.nodes()));
        run_filters(question, cluster, &self.states, &self.asked, &mut part);
        self.candidates.merge(&part, &affected);
        let doubtful = affected.intersection(cluster.nodes_with_nominations());
        self.filter_with_nominated(question, cluster, &doubtful);
        affected
    }

    fn score_again(
        &mut self,
        question: Question<'_>,
        cluster: &Cluster,
        affected: &NodeSet,
        nodes_changed: bool,
        changes: &[Change],
    ) {
        let feasible = self.candidates.nodes();
        let had_scores = self.best.top().is_some();
        let mut touched = affected.clone();
        let mut all_moved = false;
        for (place, policy) in question.profile.scores() {
            let column = &mut self.columns[place];
            let was_active = column.active;
            let mut own = None;
            let anew = !had_scores
                || match policy.reach() {
                    Reach::Nodes => nodes_changed,
                    Reach::Cluster if !was_active => true,
                    Reach::Cluster => {
                        let more = own.insert(affected.clone());
                        let cycle = question.cycle(cluster);
                        policy.update(cycle, &mut column.state, changes, feasible, more) == Update::Recompute
                    }
                    // Whether such a policy cares depends on the pod alone.
                    Reach::Node | Reach::Outside => false,
                };
            if anew {
                column.state.clear();
                column.compute(question, cluster, policy, feasible);
                all_moved |= was_active || column.active;
            } else if was_active {
                let again = own.as_ref().unwrap_or(affected);
                let before: NodeSet = again.iter().filter(|node| self.best.score(*node).is_some()).collect();
                all_moved |= column.compute_again(question, cluster, policy, feasible, again, &before);
                touched.union(again);
            }
        }
        if all_moved {
            self.best.reset(cluster.width());
            let feasible = feasible.clone();
            if !feasible.is_empty() {
                self.total_all(question, &feasible);
            }
            return;
        }
        for node in touched.iter() {
            let total = feasible.contains(node).then(|| total(question, &self.columns, node));
            self.best.set(node, total);
        }
    }
}

/// The sum of weight times score.
fn total(question: Question<'_>, columns: &[Column], node: NodeId) -> i64 {
    let weighted = question.profile.policies().iter().zip(columns).filter(|(_, column)| column.active);
    weighted.map(|(enabled, column)| enabled.weight() * column.score.get(node)).sum()
}

/// The nodes that changed, whether as objects, and, if `all` are wanted, the changes; `None` if they are no longer known.
fn changes_since(cluster: &Cluster, seen: u64, all: bool) -> Option<(NodeSet, bool, Vec<Change>)> {
    let changes = cluster.changes_since(seen)?;
    let affected = changes.clone().filter_map(Change::node).collect();
    let nodes_changed = changes.clone().any(|change| matches!(change, Change::Node(_)));
    Some((affected, nodes_changed, if all { changes.cloned().collect() } else { Vec::new() }))
}

fn run_filters(
    question: Question<'_>,
    cluster: &Cluster,
    states: &[State],
    asked: &[bool],
    candidates: &mut Candidates,
) {
    let cycle = question.cycle(cluster);
    for (place, filter) in question.profile.filters() {
        if candidates.nodes().is_empty() {
            return;
        }
        if asked[place] {
            candidates.speak_for(short(place));
            filter.filter(cycle, &states[place], candidates);
        }
    }
}

pub(super) fn nominated_ahead(question: Question<'_>, cluster: &Cluster, node: NodeId) -> Vec<std::sync::Arc<Pod>> {
    let own = &question.pod.metadata;
    let ahead = cluster.nominated(node).iter().filter(|pod| {
        let is_itself = pod.metadata.name == own.name && pod.metadata.namespace == own.namespace;
        !is_itself && pod.spec.priority.unwrap_or(0) >= question.shape.priority()
    });
    ahead.cloned().collect()
}

fn short(place: usize) -> u16 {
    u16::try_from(place).expect("a profile has fewer than 2^16 policies")
}
