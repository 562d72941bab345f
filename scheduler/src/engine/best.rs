//! The best nodes, kept in a tournament: a change of one score costs a path to the root, and choosing among the best
//! costs a path down, whatever the number of nodes.

use longshore_core::scheduling::NodeId;

/// No score: the node is not feasible.
const NONE: i64 = i64::MIN;

/// A full binary tree over the nodes' places: each knot has the highest score below it and how many nodes have it.
#[derive(Debug, Clone, Default)]
pub(super) struct Best {
    /// Number of leaves, a power of two; the root is at 1, leaf `n` at `leaves + n`.
    leaves: usize,
    knots: Vec<(i64, u32)>,
}

impl Best {
    /// Starts anew with room for this many nodes, none of them feasible.
    pub(super) fn reset(&mut self, width: usize) {
        self.leaves = width.max(1).next_power_of_two();
        self.knots.clear();
        self.knots.resize(self.leaves * 2, (NONE, 0));
    }

    /// Whether there is room for this many nodes.
    pub(super) fn has_room(&self, width: usize) -> bool {
        width <= self.leaves
    }

    /// Sets a leaf only; [`Best::build`] must follow.
    pub(super) fn put(&mut self, node: NodeId, score: i64) {
        self.knots[self.leaves + node.index()] = (score, 1);
    }

    /// Works out all knots from the leaves.
    pub(super) fn build(&mut self) {
        for knot in (1..self.leaves).rev() {
            self.knots[knot] = join(self.knots[knot * 2], self.knots[knot * 2 + 1]);
        }
    }

    /// Sets the score of a node, `None` if it is not feasible.
    pub(super) fn set(&mut self, node: NodeId, score: Option<i64>) {
        let mut knot = self.leaves + node.index();
        let new = score.map_or((NONE, 0), |score| (score, 1));
        if self.knots[knot] == new {
            return;
        }
        self.knots[knot] = new;
        while knot > 1 {
            knot /= 2;
            let joined = join(self.knots[knot * 2], self.knots[knot * 2 + 1]);
            if self.knots[knot] == joined {
                return;
            }
            self.knots[knot] = joined;
        }
    }

    /// A node's score, if it is feasible.
    pub(super) fn score(&self, node: NodeId) -> Option<i64> {
        let (score, count) = *self.knots.get(self.leaves + node.index())?;
        (count > 0).then_some(score)
    }

    /// The highest score and how many nodes have it; `None` if no node is feasible.
    pub(super) fn top(&self) -> Option<(i64, u32)> {
        self.knots.get(1).copied().filter(|(_, count)| *count > 0)
    }

    /// The `index`-th of the best nodes, by place.
    pub(super) fn nth(&self, mut index: u32) -> Option<NodeId> {
        let (top, count) = self.top()?;
        if index >= count {
            return None;
        }
        let mut knot = 1;
        while knot < self.leaves {
            let (score, count) = self.knots[knot * 2];
            let left = if score == top { count } else { 0 };
            knot *= 2;
            if index >= left {
                index -= left;
                knot += 1;
            }
        }
        Some(NodeId::from_index(knot - self.leaves))
    }
}

fn join(left: (i64, u32), right: (i64, u32)) -> (i64, u32) {
    match left.0.cmp(&right.0) {
        std::cmp::Ordering::Greater => left,
        std::cmp::Ordering::Less => right,
        std::cmp::Ordering::Equal => (left.0, left.1 + right.1),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn equals_a_scan(width in 1_usize..40, changes in prop::collection::vec((0_usize..40, prop::option::of(0_i64..4)), 0..80)) {
            let mut best = Best::default();
            best.reset(width);
            let mut plain = vec![None; width];
            for (node, score) in changes.into_iter().filter(|(node, _)| *node < width) {
                plain[node] = score;
                best.set(NodeId::from_index(node), score);
                let top = plain.iter().copied().flatten().max();
                let winners: Vec<usize> = (0..width).filter(|&node| plain[node].is_some() && plain[node] == top).collect();
                prop_assert_eq!(best.top().map(|(score, _)| score), top);
                let found: Vec<usize> = (0..).map_while(|index| best.nth(index)).map(NodeId::index).collect();
                prop_assert_eq!(found, winners);
            }
        }
    }
}
