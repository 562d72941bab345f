//! The best nodes, kept in a tournament: a change of one score costs a path to the root, and choosing among the best
//! costs a path down, whatever the number of nodes.

use longshore_core::scheduling::NodeId;

use super::groups::Groups;

/// No score: the node is not feasible.
const NONE: i64 = i64::MIN;

/// The best nodes of groups, to all of whose nodes the same may be added, or which may be closed as a whole: that costs
/// nothing, whatever the number of their nodes. Without groups all nodes are in one.
#[derive(Debug, Default)]
pub(super) struct Podium {
    tournaments: Vec<Best>,
    /// What each group's nodes get more; `None` for closed groups.
    bonus: Vec<Option<i64>>,
    /// By node: its group and its place in the group's tournament. Empty without groups.
    seats: Vec<(u32, u32)>,
    /// By group, then by place in the tournament. Empty without groups.
    nodes: Vec<Vec<NodeId>>,
}

impl Podium {
    /// Starts anew, with no node feasible and all groups open.
    pub(super) fn reset(&mut self, width: usize, groups: Option<&Groups>) {
        self.seats.clear();
        self.nodes.clear();
        let count = groups.map_or(1, Groups::len);
        self.tournaments.resize_with(count, Best::default);
        self.bonus.clear();
        self.bonus.resize(count, Some(0));
        let Some(groups) = groups else {
            self.tournaments[0].reset(width);
            return;
        };
        self.seats.resize(width, (0, 0));
        for group in 0..count {
            let members: Vec<NodeId> = groups.members(group).iter().collect();
            for (seat, node) in members.iter().enumerate() {
                self.seats[node.index()] = (short(group), short(seat));
            }
            self.tournaments[group].reset(members.len());
            self.nodes.push(members);
        }
    }

    /// Whether there is room for this many nodes.
    pub(super) fn has_room(&self, width: usize) -> bool {
        if self.nodes.is_empty() {
            self.tournaments.first().is_some_and(|best| best.has_room(width))
        } else {
            width <= self.seats.len()
        }
    }

    /// The group of a node, and its seat there.
    fn seat(&self, node: NodeId) -> (usize, NodeId) {
        match self.seats.get(node.index()) {
            Some((group, seat)) => (*group as usize, NodeId::from_index(*seat as usize)),
            None => (0, node),
        }
    }

    /// Sets a node's score only; [`Podium::build`] must follow.
    pub(super) fn put(&mut self, node: NodeId, score: i64) {
        let (group, seat) = self.seat(node);
        self.tournaments[group].put(seat, score);
    }

    /// Works out everything from what was put.
    pub(super) fn build(&mut self) {
        self.tournaments.iter_mut().for_each(Best::build);
    }

    /// Sets the score of a node without its group's bonus, `None` if it is not feasible.
    pub(super) fn set(&mut self, node: NodeId, score: Option<i64>) {
        let (group, seat) = self.seat(node);
        self.tournaments[group].set(seat, score);
    }

    /// Sets what all nodes of a group get more; `None` closes it.
    pub(super) fn set_bonus(&mut self, group: usize, bonus: Option<i64>) {
        self.bonus[group] = bonus;
    }

    /// Whether the node has a score, its group closed or not.
    pub(super) fn has(&self, node: NodeId) -> bool {
        let (group, seat) = self.seat(node);
        self.tournaments.get(group).is_some_and(|best| best.score(seat).is_some())
    }

    /// A node's score, if it is feasible.
    pub(super) fn score(&self, node: NodeId) -> Option<i64> {
        let (group, seat) = self.seat(node);
        Some(self.tournaments.get(group)?.score(seat)? + (*self.bonus.get(group)?)?)
    }

    /// Each open group's place, its highest score and how many nodes have it.
    fn tops(&self) -> impl Iterator<Item = (usize, i64, u32)> {
        let groups = self.tournaments.iter().zip(&self.bonus).enumerate();
        groups.filter_map(|(group, (best, bonus))| {
            let (score, count) = best.top()?;
            Some((group, score + (*bonus)?, count))
        })
    }

    /// The highest score and how many nodes have it; `None` if no node is feasible.
    pub(super) fn top(&self) -> Option<(i64, u32)> {
        self.tops().map(|(_, score, count)| (score, count)).reduce(join)
    }

    /// The `index`-th of the best nodes, group by group, in each by place.
    pub(super) fn nth(&self, mut index: u32) -> Option<NodeId> {
        let (top, _) = self.top()?;
        for (group, _, count) in self.tops().filter(|(_, score, _)| *score == top) {
            if index < count {
                let seat = self.tournaments[group].nth(index)?;
                return Some(self.nodes.get(group).map_or(seat, |nodes| nodes[seat.index()]));
            }
            index -= count;
        }
        None
    }

    /// The first of the best nodes by place.
    pub(super) fn first(&self) -> Option<NodeId> {
        let (top, _) = self.top()?;
        let groups = self.tops().filter(|(_, score, _)| *score == top);
        let firsts = groups.filter_map(|(group, ..)| {
            let seat = self.tournaments[group].nth(0)?;
            Some(self.nodes.get(group).map_or(seat, |nodes| nodes[seat.index()]))
        });
        firsts.min()
    }
}

fn short(number: usize) -> u32 {
    u32::try_from(number).expect("a cluster has fewer than 2^32 nodes")
}

/// A full binary tree over the nodes' places: each knot has the highest score below it and how many nodes have it.
#[derive(Debug, Clone, Default)]
struct Best {
    /// Number of leaves, a power of two; the root is at 1, leaf `n` at `leaves + n`.
    leaves: usize,
    knots: Vec<(i64, u32)>,
}

impl Best {
    /// Starts anew with room for this many nodes, none of them feasible.
    fn reset(&mut self, width: usize) {
        self.leaves = width.max(1).next_power_of_two();
        self.knots.clear();
        self.knots.resize(self.leaves * 2, (NONE, 0));
    }

    /// Whether there is room for this many nodes.
    fn has_room(&self, width: usize) -> bool {
        width <= self.leaves
    }

    /// Sets a leaf only; [`Best::build`] must follow.
    fn put(&mut self, node: NodeId, score: i64) {
        self.knots[self.leaves + node.index()] = (score, 1);
    }

    /// Works out all knots from the leaves.
    fn build(&mut self) {
        for knot in (1..self.leaves).rev() {
            self.knots[knot] = join(self.knots[knot * 2], self.knots[knot * 2 + 1]);
        }
    }

    /// Sets the score of a node, `None` if it is not feasible.
    fn set(&mut self, node: NodeId, score: Option<i64>) {
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
    fn score(&self, node: NodeId) -> Option<i64> {
        let (score, count) = *self.knots.get(self.leaves + node.index())?;
        (count > 0).then_some(score)
    }

    /// The highest score and how many nodes have it; `None` if no node is feasible.
    fn top(&self) -> Option<(i64, u32)> {
        self.knots.get(1).copied().filter(|(_, count)| *count > 0)
    }

    /// The `index`-th of the best nodes, by place.
    fn nth(&self, mut index: u32) -> Option<NodeId> {
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
