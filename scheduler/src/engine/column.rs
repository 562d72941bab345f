//! One scoring policy's columns: scores before and after normalising, brought up to date node by node.

use longshore_core::scheduling::cluster::Cluster;
use longshore_core::scheduling::{Cycle, NodeId, NodeSet, PreScore, Score, ScoreRange, Scores, State};

use super::cached::Question;

/// One scoring policy's columns.
#[derive(Debug, Default)]
pub(super) struct Column {
    pub(super) active: bool,
    pub(super) state: State,
    /// Before normalising; unused if the policy does not normalise.
    raw: Scores,
    range: Option<ScoreRange>,
    /// After normalising, before the weight.
    pub(super) score: Scores,
}

impl Column {
    pub(super) fn compute(
        &mut self,
        question: Question<'_>,
        cluster: &Cluster,
        policy: &dyn Score,
        feasible: &NodeSet,
    ) {
        self.active = false;
        if feasible.is_empty() {
            return;
        }
        let cycle = question.cycle(cluster);
        self.active = policy.pre_score(cycle, &mut self.state, feasible) == PreScore::Score;
        if !self.active {
            return;
        }
        self.score.reset(cluster.width());
        if policy.is_normalised() {
            self.raw.reset(cluster.width());
            policy.score(cycle, &self.state, feasible, &mut self.raw);
            self.range = self.raw.range(feasible);
            self.normalise(cycle, policy, feasible);
        } else {
            policy.score(cycle, &self.state, feasible, &mut self.score);
        }
    }

    /// Scores these nodes again; says whether that moved the scores of others.
    pub(super) fn compute_again(
        &mut self,
        question: Question<'_>,
        cluster: &Cluster,
        policy: &dyn Score,
        feasible: &NodeSet,
        affected: &NodeSet,
        before: &NodeSet,
    ) -> bool {
        let cycle = question.cycle(cluster);
        let now = affected.intersection(feasible);
        self.score.widen(cluster.width());
        if !policy.is_normalised() {
            for node in now.iter() {
                self.score.set(node, 0);
            }
            policy.score(cycle, &self.state, &now, &mut self.score);
            return false;
        }
        self.raw.widen(cluster.width());
        let bound = |range: &Option<ScoreRange>, score: i64| range.is_none_or(|it| score <= it.min || score >= it.max);
        let mut stale = false;
        let old: Vec<(NodeId, i64)> = before.iter().map(|node| (node, self.raw.get(node))).collect();
        for node in now.iter() {
            self.raw.set(node, 0);
        }
        policy.score(cycle, &self.state, &now, &mut self.raw);
        for (node, score) in &old {
            let gone = !now.contains(*node) || self.raw.get(*node) != *score;
            stale |= gone && *score != Scores::ABSENT && bound(&self.range, *score);
        }
        let mut range = self.range;
        for node in now.iter() {
            let score = self.raw.get(node);
            if score != Scores::ABSENT {
                range = Some(range.map_or(ScoreRange { min: score, max: score }, |range| ScoreRange {
                    min: range.min.min(score),
                    max: range.max.max(score),
                }));
            }
        }
        if stale {
            range = self.raw.range(feasible);
        }
        if range == self.range {
            self.normalise(cycle, policy, &now);
            false
        } else {
            self.range = range;
            self.normalise(cycle, policy, feasible);
            true
        }
    }

    fn normalise(&mut self, cycle: Cycle<'_>, policy: &dyn Score, nodes: &NodeSet) {
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
        if let Some(range) = self.range {
            policy.normalise(cycle, &self.state, range, &present, &mut self.score);
        }
    }
}
