//! One scoring policy's columns: scores before and after normalising, brought up to date node by node.

use longshore_core::scheduling::cluster::Cluster;
use longshore_core::scheduling::{Cycle, NodeId, NodeSet, PreScore, Score, ScoreRange, Scores, State};

use super::cached::Question;

/// One scoring policy's columns.
#[derive(Debug, Default)]
pub(super) struct Column {
    /// Whether the policy has something to say about the pod.
    pub(super) active: bool,
    /// Whether nodes of a group get the same score; then only `by_group` counts.
    pub(super) grouped: bool,
    pub(super) state: State,
    /// Before normalising; unused if the policy does not normalise.
    raw: Scores,
    /// The range of `raw` among the nodes asked about, and among those that are feasible.
    ranges: [Option<ScoreRange>; 2],
    /// After normalising, before the weight.
    pub(super) score: Scores,
    /// What all nodes have in `score`, if they were last scored together and that was found out.
    pub(super) same: Option<i64>,
    /// As `score`, by group.
    pub(super) by_group: Vec<i64>,
    /// Memory for what `score` was.
    old: Scores,
}

impl Column {
    /// Nothing known, with the memory of what was.
    pub(super) fn forget(&mut self) {
        self.active = false;
        self.grouped = false;
        self.same = None;
        self.state.clear();
    }

    /// Has the policy look at the pod and the nodes that can take it.
    pub(super) fn pre_score(
        &mut self,
        question: Question<'_>,
        cluster: &Cluster,
        policy: &dyn Score,
        feasible: &NodeSet,
    ) {
        self.state.clear();
        self.active = policy.pre_score(question.cycle(cluster), &mut self.state, feasible) == PreScore::Score;
    }

    /// Scores all of these nodes, of which `feasible` count for the range.
    pub(super) fn score_all(
        &mut self,
        question: Question<'_>,
        cluster: &Cluster,
        policy: &dyn Score,
        nodes: &NodeSet,
        feasible: &NodeSet,
    ) {
        let cycle = question.cycle(cluster);
        self.same = None;
        if !policy.is_normalised() {
            self.score.reset(cluster.width());
            policy.score(cycle, &self.state, nodes, &mut self.score);
            self.same = self.score.is_zero().then_some(0);
            return;
        }
        self.raw.reset(cluster.width());
        policy.score(cycle, &self.state, nodes, &mut self.raw);
        // Many a policy has nothing against any node, and then there is one score to work out.
        if self.raw.is_zero()
            && let Some(first) = nodes.first()
        {
            let range = ScoreRange { min: 0, max: 0 };
            self.ranges = [Some(range); 2];
            self.score.widen(cluster.width());
            let score = self.normalise_one(cycle, policy, range, first);
            self.score.fill(cluster.width(), score);
            self.same = Some(score);
            return;
        }
        self.score.reset(cluster.width());
        let wide = self.raw.range(nodes);
        self.ranges = [wide, self.narrow(wide, nodes, feasible)];
        self.normalise(cycle, policy, nodes);
    }

    /// The range among the feasible nodes, given that among all.
    fn narrow(&self, wide: Option<ScoreRange>, nodes: &NodeSet, feasible: &NodeSet) -> Option<ScoreRange> {
        let constant = wide.is_none_or(|range| range.min == range.max);
        if constant || nodes == feasible { wide } else { self.raw.range(feasible) }
    }

    /// Scores `affected` again, of which `before` had a score; `flipped` says that many more or fewer nodes are feasible.
    /// Other nodes whose score moved are put into `moved`.
    pub(super) fn score_again(
        &mut self,
        question: Question<'_>,
        cluster: &Cluster,
        policy: &dyn Score,
        (nodes, feasible): (&NodeSet, &NodeSet),
        (affected, before, flipped): (&NodeSet, &NodeSet, bool),
        moved: &mut NodeSet,
    ) {
        let cycle = question.cycle(cluster);
        self.same = None;
        let now = affected.intersection(nodes);
        self.score.widen(cluster.width());
        if !policy.is_normalised() {
            for node in now.iter() {
                self.score.set(node, 0);
            }
            policy.score(cycle, &self.state, &now, &mut self.score);
            return;
        }
        self.raw.widen(cluster.width());
        let wide = self.raw_again(cycle, policy, nodes, &now, before);
        let same = wide == self.ranges[0] && !flipped;
        let constant = wide.is_none_or(|range| range.min == range.max);
        let narrow = if same && (constant || nodes == feasible) { wide } else { self.narrow(wide, nodes, feasible) };
        let unmoved = narrow == self.ranges[1];
        self.ranges = [wide, narrow];
        if unmoved {
            self.normalise(cycle, policy, &now);
            return;
        }
        self.old.clone_from(&self.score);
        self.normalise(cycle, policy, nodes);
        for (index, (old, new)) in self.old.as_slice().iter().zip(self.score.as_slice()).enumerate() {
            if old != new {
                moved.insert(NodeId::from_index(index));
            }
        }
    }

    /// Brings scores before normalising up to date; returns their range.
    fn raw_again(
        &mut self,
        cycle: Cycle<'_>,
        policy: &dyn Score,
        nodes: &NodeSet,
        now: &NodeSet,
        before: &NodeSet,
    ) -> Option<ScoreRange> {
        let old_range = self.ranges[0];
        let at_edge = |score: i64| old_range.is_none_or(|it| score <= it.min || score >= it.max);
        let old: Vec<(NodeId, i64)> = before.iter().map(|node| (node, self.raw.get(node))).collect();
        for node in now.iter() {
            self.raw.set(node, 0);
        }
        policy.score(cycle, &self.state, now, &mut self.raw);
        let stale = old.iter().any(|(node, score)| {
            let gone = !now.contains(*node) || self.raw.get(*node) != *score;
            gone && *score != Scores::ABSENT && at_edge(*score)
        });
        if stale {
            return self.raw.range(nodes);
        }
        let more = self.raw.range(now);
        match (old_range, more) {
            (Some(a), Some(b)) => Some(ScoreRange { min: a.min.min(b.min), max: a.max.max(b.max) }),
            (a, b) => a.or(b),
        }
    }

    /// Scores one node of each group, where there is one, for all nodes of the group.
    pub(super) fn score_groups(
        &mut self,
        question: Question<'_>,
        cluster: &Cluster,
        policy: &dyn Score,
        nodes: &[Option<NodeId>],
    ) {
        let cycle = question.cycle(cluster);
        self.same = None;
        self.raw.widen(cluster.width());
        self.score.widen(cluster.width());
        let set: NodeSet = nodes.iter().flatten().copied().collect();
        for node in set.iter() {
            self.raw.set(node, 0);
        }
        policy.score(cycle, &self.state, &set, &mut self.raw);
        let range = self.raw.range(&set);
        if policy.is_normalised() {
            self.ranges = [range, range];
            self.normalise(cycle, policy, &set);
        } else {
            for node in set.iter() {
                self.score.set(node, self.raw.get(node));
            }
        }
        self.by_group.clear();
        self.by_group.extend(nodes.iter().map(|node| node.map_or(0, |node| self.score.get(node))));
    }

    /// The range, if all nodes have the same score.
    fn constant(&self, nodes: &NodeSet) -> Option<ScoreRange> {
        let range = self.ranges[1].filter(|range| range.min == range.max && self.ranges[0] == self.ranges[1])?;
        nodes.iter().all(|node| self.raw.get(node) == range.min).then_some(range)
    }

    /// The score, after normalising, of a node that has the same as all others.
    fn normalise_one(&mut self, cycle: Cycle<'_>, policy: &dyn Score, range: ScoreRange, node: NodeId) -> i64 {
        self.score.set(node, range.min);
        policy.normalise(cycle, &self.state, range, &NodeSet::only(node), &mut self.score);
        self.score.get(node)
    }

    fn normalise(&mut self, cycle: Cycle<'_>, policy: &dyn Score, nodes: &NodeSet) {
        if let Some(range) = self.constant(nodes)
            && let Some(first) = nodes.first()
        {
            let score = self.normalise_one(cycle, policy, range, first);
            nodes.iter().for_each(|node| self.score.set(node, score));
            return;
        }
        let mut present = nodes.clone();
        for node in nodes.iter() {
            let raw = self.raw.get(node);
            if raw == Scores::ABSENT {
                present.remove(node);
                self.score.set(node, 0);
            } else {
                self.score.set(node, raw);
            }
        }
        if let Some(range) = self.ranges[1] {
            policy.normalise(cycle, &self.state, range, &present, &mut self.score);
        }
    }
}
