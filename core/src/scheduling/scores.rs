//! Scores of nodes, and how one of the best is chosen.

use super::{NodeId, NodeSet};

/// The highest score that a policy gives a node once its scores are normalised.
pub const MAX_NODE_SCORE: i64 = 100;

/// One policy's scores: a column of 64-bit integers, by node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scores {
    column: Vec<i64>,
}

/// The lowest and the highest score before normalising.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScoreRange {
    /// The lowest.
    pub min: i64,
    /// The highest.
    pub max: i64,
}

impl Scores {
    /// Marks a node that has no score: it does not count for the [`ScoreRange`] and ends with 0.
    pub const ABSENT: i64 = i64::MIN;

    /// All zero, for columns of this width.
    pub fn zero(width: usize) -> Self {
        Self { column: vec![0; width] }
    }

    /// Makes all scores zero, for columns of this width, keeping the memory.
    pub fn reset(&mut self, width: usize) {
        self.column.clear();
        self.column.resize(width, 0);
    }

    /// Makes all scores the same, for columns of this width, keeping the memory.
    pub fn fill(&mut self, width: usize, score: i64) {
        self.column.clear();
        self.column.resize(width, score);
    }

    /// Whether all scores are zero.
    pub fn is_zero(&self) -> bool {
        // In pieces, each without a branch: that is quick to read through, and ends early.
        self.column.chunks(64).all(|piece| piece.iter().fold(0, |all, score| all | score) == 0)
    }

    /// Makes the column at least this wide.
    pub fn widen(&mut self, width: usize) {
        if width > self.column.len() {
            self.column.resize(width, 0);
        }
    }

    /// A node's score.
    pub fn get(&self, node: NodeId) -> i64 {
        self.column.get(node.index()).copied().unwrap_or(0)
    }

    /// Sets a node's score.
    pub fn set(&mut self, node: NodeId, score: i64) {
        self.column[node.index()] = score;
    }

    /// Adds to a node's score.
    pub fn add(&mut self, node: NodeId, score: i64) {
        self.column[node.index()] += score;
    }

    /// Adds to the scores of those of 64 neighbouring nodes whose bits are set in a word of [`NodeSet::words`].
    pub fn add_lanes(&mut self, start: usize, word: u64, score: impl Fn(usize) -> i64) {
        if let (u64::MAX, Some(all)) = (word, self.column.get_mut(start..start + 64)) {
            all.iter_mut().enumerate().for_each(|(lane, sum)| *sum += score(lane));
            return;
        }
        for lane in (0..64).filter(|lane| word >> lane & 1 == 1) {
            self.column[start + lane] += score(lane);
        }
    }

    /// The column.
    pub fn as_slice(&self) -> &[i64] {
        &self.column
    }

    /// The lowest and the highest score among these nodes; `None` if none of them has one.
    pub fn range(&self, nodes: &NodeSet) -> Option<ScoreRange> {
        let scores = nodes.iter().map(|node| self.get(node)).filter(|score| *score != Self::ABSENT);
        scores.fold(None, |range: Option<ScoreRange>, score| {
            Some(range.map_or(ScoreRange { min: score, max: score }, |range| ScoreRange {
                min: range.min.min(score),
                max: range.max.max(score),
            }))
        })
    }

    /// Scales scores so that the highest is [`MAX_NODE_SCORE`], truncating; `reverse` makes the lowest the best. This is
    /// upstream's default normalisation: scores must not be negative, and where the highest is 0 all stay 0 (all become
    /// the maximum if reversed).
    pub fn scale(&mut self, range: ScoreRange, nodes: &NodeSet, reverse: bool) {
        for node in nodes.iter() {
            let score = if range.max == 0 { 0 } else { self.get(node) * MAX_NODE_SCORE / range.max };
            self.set(node, if reverse { MAX_NODE_SCORE - score } else { score });
        }
    }
}

/// Which of the best nodes is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TieBreak {
    /// Each with the same probability, by random numbers that begin with this seed.
    Uniform {
        /// The seed.
        seed: u64,
    },
    /// The first by place, which is the order in which nodes came (places of nodes that went are used again).
    First,
    /// The first by name.
    ByName,
}

impl Default for TieBreak {
    fn default() -> Self {
        Self::Uniform { seed: 0 }
    }
}
