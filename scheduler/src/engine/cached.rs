//! What was worked out about pods of one shape, and how it is brought up to date.
//!
//! Cold, every policy looks at every node. Warm, the changes since are read off the cluster's record, and policies look at
//! the nodes that changed only. Both must come to the same end; a property test holds them against each other.

use longshore_core::api::pod::Pod;
use longshore_core::scheduling::cluster::{Change, Cluster};
use longshore_core::scheduling::{
    Candidates, Cycle, Filter, NodeId, NodeSet, PreFilter, Reach, Refusal, Shape, State, Update,
};

use super::best::Podium;
use super::groups::{Groups, parts_few};
use super::ranking::{News, Ranking};
use crate::Profile;

/// Above this part of the nodes, looking at all is no dearer than looking at the changed ones.
pub(super) const COLD_ABOVE: usize = 2;

/// How a filter is asked about a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// It does not care about the pod.
    Not,
    /// About each node.
    Nodes,
    /// About one node of each group, all of whose nodes get the same answer.
    Groups,
}

/// Everything known about one shape under one profile.
#[derive(Debug, Default)]
pub(super) struct Cached {
    /// The cluster's generation that this reflects.
    seen: Option<u64>,
    /// What the filters said that are asked about each node.
    candidates: Candidates,
    /// The policy that refused the pod for every node before any was looked at.
    pub(super) pre_filter: Option<usize>,
    /// Names of the policies that ruled nodes out beforehand, if any did.
    pub(super) ruled_out_by: String,
    restricted: bool,
    states: Vec<State>,
    /// By place in the profile.
    asked: Vec<Asked>,
    /// Nodes parted by the labels on which the answers of some policies depend; `None` if there is no such policy.
    groups: Option<Groups>,
    /// By group: whether the filters that are asked about groups let its nodes pass.
    open: Vec<bool>,
    /// Nodes that all filters let pass; `None` if these are all of `candidates`.
    feasible: Option<NodeSet>,
    ranking: Ranking,
    /// By place in the profile: what policies that look for a way after all remember.
    pub(super) post_filters: Vec<State>,
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
        self.post_filters.clear();
        self
    }

    /// Whether what filters say about a node and the pod depends on the node and its pods alone.
    pub(super) fn is_local(&self, profile: &Profile) -> bool {
        let near = |(place, filter): (usize, &dyn Filter)| {
            self.asked.get(place) == Some(&Asked::Not) || filter.reach() == Reach::Node
        };
        self.seen.is_some() && profile.filters().all(near)
    }

    /// A policy's score of a node, after normalising; `None` if it has nothing to say about the pod.
    pub(super) fn score(&self, place: usize, node: NodeId) -> Option<i64> {
        self.ranking.score(place, node, self.groups.as_ref())
    }

    /// The nodes by their totals.
    pub(super) fn best(&self) -> &Podium {
        &self.ranking.best
    }

    /// For each node, who refused it and why.
    pub(super) fn refusals(&self, question: Question<'_>, cluster: &Cluster) -> Candidates {
        let mut candidates = self.candidates.clone();
        if self.open.contains(&false) {
            run_filters(question, cluster, &self.states, &self.asked, Asked::Groups, &mut candidates);
        }
        candidates
    }

    /// Looks at everything.
    pub(super) fn cold(&mut self, question: Question<'_>, cluster: &mut Cluster) {
        self.candidates.reset(cluster.nodes());
        self.feasible = None;
        self.groups = None;
        self.open.clear();
        self.ranking.reset(question.profile.policies().len(), cluster.width());
        if !self.pre_filter_all(question, cluster) {
            return;
        }
        self.part_by_filters(question, cluster);
        run_filters(question, cluster, &self.states, &self.asked, Asked::Nodes, &mut self.candidates);
        let doubtful = cluster.nodes_with_nominations().clone();
        self.filter_with_nominated(question, cluster, &doubtful);
        self.open = self.verdicts(question, cluster);
        self.feasible = self.let_pass();
        let feasible = self.feasible.as_ref().unwrap_or(self.candidates.nodes());
        let mut keys = self.ranking.pre_score_all(question, cluster, feasible);
        keys.retain(|key| !self.groups.as_ref().is_some_and(|groups| groups.cover(&[key])));
        if !keys.is_empty() {
            keys.extend(self.groups.iter().flat_map(|groups| groups.keys().iter().cloned()));
            if let Some(finer) = Groups::by(cluster, keys) {
                self.groups = Some(finer);
                self.open = self.verdicts(question, cluster);
            }
        }
        let base = self.candidates.nodes();
        let news = News { base, feasible: self.feasible.as_ref().unwrap_or(base), open: &self.open };
        self.ranking.score_all(question, cluster, self.groups.as_ref(), news);
    }

    /// Finds the filters, at the end of their order, whose answers depend on few labels only, and parts the nodes by these.
    fn part_by_filters(&mut self, question: Question<'_>, cluster: &Cluster) {
        let mut keys: Vec<String> = Vec::new();
        let mut grouped = Vec::new();
        let filters: Vec<_> = question.profile.filters().collect();
        for (place, filter) in filters.into_iter().rev().filter(|(place, _)| self.asked[*place] != Asked::Not) {
            let Some(labels) = filter.labels(&self.states[place]) else { break };
            if !labels.iter().all(|key| parts_few(cluster, key)) {
                break;
            }
            keys.extend(labels.into_iter().map(str::to_owned));
            grouped.push(place);
        }
        keys.sort_unstable();
        keys.dedup();
        if keys.is_empty() {
            return;
        }
        self.groups = Groups::by(cluster, keys);
        if self.groups.is_some() {
            grouped.into_iter().for_each(|place| self.asked[place] = Asked::Groups);
        }
    }

    /// Which groups the filters that are asked about groups let pass.
    fn verdicts(&self, question: Question<'_>, cluster: &Cluster) -> Vec<bool> {
        let Some(groups) = &self.groups else { return Vec::new() };
        if !self.asked.contains(&Asked::Groups) {
            return vec![true; groups.len()];
        }
        let mut firsts = Candidates::new(groups.firsts().iter().copied().collect());
        run_filters(question, cluster, &self.states, &self.asked, Asked::Groups, &mut firsts);
        groups.firsts().iter().map(|node| firsts.nodes().contains(*node)).collect()
    }

    /// The nodes that passed, as far as their groups are open; `None` if all are.
    fn let_pass(&self) -> Option<NodeSet> {
        let groups = self.groups.as_ref().filter(|_| self.open.contains(&false))?;
        let mut feasible = self.candidates.nodes().clone();
        for (group, _) in self.open.iter().enumerate().filter(|(_, open)| !**open) {
            feasible.subtract(groups.members(group));
        }
        Some(feasible)
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
            run_filters(question, cluster, &cached.states, &cached.asked, Asked::Nodes, &mut cached.candidates);
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
        self.asked.resize(policies, Asked::Not);
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
                    self.asked[place] = Asked::Nodes;
                    continue;
                }
                Ok(PreFilter::Only(nodes)) => {
                    self.asked[place] = Asked::Nodes;
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
            let alone = NodeSet::only(node);
            let with = cluster.suppose((&ahead, node), &[], |cluster| {
                let mut with = Candidates::new(alone.clone());
                let mut states: Vec<State> = Vec::new();
                states.resize_with(self.states.len(), State::default);
                let mut asked = self.asked.clone();
                for (place, filter) in question.profile.filters().filter(|(place, _)| self.asked[*place] != Asked::Not)
                {
                    let cycle = question.cycle(cluster);
                    let skips = matches!(filter.pre_filter(cycle, &mut states[place]), Ok(PreFilter::Skip));
                    asked[place] = if skips { Asked::Not } else { Asked::Nodes };
                }
                run_filters(question, cluster, &states, &asked, Asked::Nodes, &mut with);
                with
            });
            if with.nodes().is_empty() {
                self.candidates.merge(&with, &alone);
            }
        }
    }

    /// Whether the refusal was made before any node was looked at.
    fn is_beforehand(&self, place: u16) -> bool {
        self.restricted && place == short(self.states.len())
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
            || (nodes_changed && (self.restricted || self.groups.is_some() || self.asks(question, Reach::Nodes)))
            || affected.len() * COLD_ABOVE > cluster.node_count()
            || !self.ranking.best.has_room(cluster.width())
            || self.asks(question, Reach::Outside)
            || self.ranking.reads_outside(question)
            || !self.update_filters(question, cluster, &changes, &mut affected)
        {
            return false;
        }
        let affected = self.filter_again(question, cluster, affected);
        let mut flipped = false;
        if !changes.is_empty() && self.groups.is_some() {
            let open = self.verdicts(question, cluster);
            flipped = open != self.open;
            self.open = open;
        }
        if flipped || !affected.is_empty() {
            self.feasible = self.let_pass();
        }
        let base = self.candidates.nodes();
        let news = News { base, feasible: self.feasible.as_ref().unwrap_or(base), open: &self.open };
        let what = (&affected, nodes_changed, flipped, &*changes);
        self.ranking.score_again(question, cluster, self.groups.as_ref(), news, what)
    }

    /// Brings the filters' states up to date, and adds the nodes about which they may now say something else; `false` if that
    /// is not possible.
    fn update_filters(
        &mut self,
        question: Question<'_>,
        cluster: &Cluster,
        changes: &[Change],
        affected: &mut NodeSet,
    ) -> bool {
        if changes.is_empty() {
            return true;
        }
        let cycle = question.cycle(cluster);
        for (place, filter) in question.profile.filters().filter(|(_, filter)| filter.reach() == Reach::Cluster) {
            let state = &mut self.states[place];
            let Some(groups) = self.groups.as_ref().filter(|_| self.asked[place] == Asked::Groups) else {
                if filter.update(cycle, state, changes, affected) == Update::Recompute {
                    return false;
                }
                continue;
            };
            let mut own = NodeSet::new();
            if filter.update(cycle, state, changes, &mut own) == Update::Recompute
                || !filter.labels(state).is_some_and(|labels| groups.cover(&labels))
            {
                return false;
            }
        }
        // What a filter with a long reach says about a node together with the pods for which room is being made there, its
        // state does not tell.
        if self.asks(question, Reach::Cluster) {
            affected.union(cluster.nodes_with_nominations());
        }
        true
    }

    /// Whether a filter of this reach is asked about the pod.
    fn asks(&self, question: Question<'_>, reach: Reach) -> bool {
        let asked = |place: usize| self.asked.get(place).is_some_and(|asked| *asked != Asked::Not);
        question.profile.filters().any(|(place, filter)| asked(place) && filter.reach() == reach)
    }

    fn filter_again(&mut self, question: Question<'_>, cluster: &mut Cluster, affected: NodeSet) -> NodeSet {
        // Nodes ruled out beforehand stay so: which they are depends on the pod and the nodes' names.
        let ruled_out =
            |node: &NodeId| self.candidates.refusal(*node).is_some_and(|(place, _)| self.is_beforehand(place));
        let affected: NodeSet =
            if self.restricted { affected.iter().filter(|node| !ruled_out(node)).collect() } else { affected };
        let mut part = Candidates::new(affected.intersection(cluster.nodes()));
        run_filters(question, cluster, &self.states, &self.asked, Asked::Nodes, &mut part);
        self.candidates.merge(&part, &affected);
        let doubtful = affected.intersection(cluster.nodes_with_nominations());
        self.filter_with_nominated(question, cluster, &doubtful);
        affected
    }
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
    asked: &[Asked],
    which: Asked,
    candidates: &mut Candidates,
) {
    let cycle = question.cycle(cluster);
    for (place, filter) in question.profile.filters() {
        if candidates.nodes().is_empty() {
            return;
        }
        if asked[place] == which {
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
