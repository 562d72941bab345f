//! The best nodes, kept in a tournament: a change of one score costs a path to the root, and choosing among the best
//! costs a path down, whatever the number of nodes.

use std::cmp::Ordering;

use longshore_core::scheduling::{NodeId, NodeSet};

use super::groups::Groups;

/// No score: the node is not feasible.
const NONE: i64 = i64::MIN;

/// The best nodes of groups, to all of whose nodes the same may be added, or which may be closed as a whole: that costs
/// nothing, whatever the number of their nodes. Without groups all nodes are in one.
///
/// Many shapes are asked about once only, so the tournaments are not played before a score changes.
#[derive(Debug, Default)]
pub(super) struct Podium {
    /// By node: its score without its group's bonus, as they were when all was scored.
    totals: Vec<i64>,
    /// The nodes that had a score then.
    nodes: NodeSet,
    /// By group: the highest of these scores, and how many nodes have it.
    tops: Vec<(i64, u32)>,
    /// What each group's nodes get more; `None` for closed groups.
    bonus: Vec<Option<i64>>,
    /// By node: its group. Empty without groups.
    group_of: Vec<u32>,
    /// The tournaments, once a score changed; until then what stands above holds.
    played: Option<Played>,
}

#[derive(Debug, Default)]
struct Played {
    /// By group.
    tournaments: Vec<Best>,
    /// By node: its place in its group's tournament. Empty without groups.
    seats: Vec<u32>,
    /// By group, then by place in the tournament. Empty without groups.
    nodes: Vec<Vec<NodeId>>,
}

impl Played {
    fn seat(&self, node: NodeId) -> NodeId {
        self.seats.get(node.index()).map_or(node, |seat| NodeId::from_index(*seat as usize))
    }

    fn node(&self, group: usize, seat: NodeId) -> NodeId {
        self.nodes.get(group).map_or(seat, |nodes| nodes[seat.index()])
    }
}

impl Podium {
    /// Starts anew: these nodes have these scores, and all groups are open. The scores are taken; other memory is left for them.
    pub(super) fn reset(&mut self, totals: &mut Vec<i64>, nodes: &NodeSet, groups: Option<&Groups>) {
        self.played = None;
        std::mem::swap(&mut self.totals, totals);
        self.nodes.copy_from(nodes);
        let count = groups.map_or(1, Groups::len);
        self.bonus.clear();
        self.bonus.resize(count, Some(0));
        self.group_of.clear();
        self.group_of.extend_from_slice(groups.map_or(&[], Groups::of_nodes));
        self.tops.clear();
        self.tops.resize(count, (NONE, 0));
        if groups.is_none() {
            self.tops[0] = highest(&self.totals, nodes);
            return;
        }
        for node in nodes.iter() {
            let top = &mut self.tops[self.group_of[node.index()] as usize];
            *top = join(*top, (self.totals[node.index()], 1));
        }
    }

    /// Whether there is room for this many nodes.
    pub(super) fn has_room(&self, width: usize) -> bool {
        width <= self.totals.len()
    }

    fn group(&self, node: NodeId) -> usize {
        self.group_of.get(node.index()).map_or(0, |group| *group as usize)
    }

    /// The tournaments, played if they were not yet.
    fn play(&mut self, groups: Option<&Groups>) -> &mut Played {
        let (totals, nodes) = (&self.totals, &self.nodes);
        self.played.get_or_insert_with(|| {
            let mut played = Played::default();
            let mut play = |seats: usize, members: &mut dyn Iterator<Item = (NodeId, NodeId)>| {
                let mut best = Best::default();
                best.reset(seats);
                members
                    .filter(|(_, node)| nodes.contains(*node))
                    .for_each(|(seat, node)| best.put(seat, totals[node.index()]));
                best.build();
                played.tournaments.push(best);
            };
            let Some(groups) = groups else {
                play(totals.len(), &mut nodes.iter().map(|node| (node, node)));
                return played;
            };
            let (mut seats, mut all) = (vec![0; totals.len()], Vec::new());
            for group in 0..groups.len() {
                let members: Vec<NodeId> = groups.members(group).iter().collect();
                members.iter().zip(0..).for_each(|(node, seat)| seats[node.index()] = seat);
                let seated = (0..).map(NodeId::from_index).zip(members.iter().copied());
                play(members.len(), &mut { seated });
                all.push(members);
            }
            played.seats = seats;
            played.nodes = all;
            played
        })
    }

    /// Sets the score of a node without its group's bonus, `None` if it is not feasible.
    pub(super) fn set(&mut self, node: NodeId, score: Option<i64>, groups: Option<&Groups>) {
        let group = self.group(node);
        let played = self.play(groups);
        let seat = played.seat(node);
        played.tournaments[group].set(seat, score);
    }

    /// Sets what all nodes of a group get more; `None` closes it.
    pub(super) fn set_bonus(&mut self, group: usize, bonus: Option<i64>) {
        self.bonus[group] = bonus;
    }

    /// A node's score without its group's bonus, the group closed or not.
    fn plain(&self, node: NodeId) -> Option<i64> {
        match &self.played {
            Some(played) => played.tournaments.get(self.group(node))?.score(played.seat(node)),
            None => self.nodes.contains(node).then(|| self.totals[node.index()]),
        }
    }

    /// Whether the node has a score, its group closed or not.
    pub(super) fn has(&self, node: NodeId) -> bool {
        self.plain(node).is_some()
    }

    /// A node's score, if it is feasible.
    pub(super) fn score(&self, node: NodeId) -> Option<i64> {
        Some(self.plain(node)? + (*self.bonus.get(self.group(node))?)?)
    }

    /// Each open group's place, its highest score and how many nodes have it.
    fn tops(&self) -> impl Iterator<Item = (usize, i64, u32)> {
        self.bonus.iter().enumerate().filter_map(|(group, bonus)| {
            let top = match &self.played {
                Some(played) => played.tournaments[group].top()?,
                None => self.tops[group],
            };
            Some((group, top.0.checked_add((*bonus)?)?, top.1)).filter(|(.., count)| *count > 0)
        })
    }

    /// The highest score and how many nodes have it; `None` if no node is feasible.
    pub(super) fn top(&self) -> Option<(i64, u32)> {
        self.tops().map(|(_, score, count)| (score, count)).reduce(join)
    }

    /// The `index`-th best node of a group, by place.
    fn nth_of(&self, group: usize, index: u32) -> Option<NodeId> {
        match &self.played {
            Some(played) => Some(played.node(group, played.tournaments[group].nth(index)?)),
            None => {
                let (top, _) = self.tops[group];
                let best = |node: &NodeId| self.totals[node.index()] == top && self.group(*node) == group;
                self.nodes.iter().filter(best).nth(index as usize)
            }
        }
    }

    /// The `index`-th of the best nodes, group by group, in each by place.
    pub(super) fn nth(&self, mut index: u32) -> Option<NodeId> {
        let (top, _) = self.top()?;
        for (group, _, count) in self.tops().filter(|(_, score, _)| *score == top) {
            if index < count {
                return self.nth_of(group, index);
            }
            index -= count;
        }
        None
    }

    /// The first of the best nodes by place.
    pub(super) fn first(&self) -> Option<NodeId> {
        let (top, _) = self.top()?;
        let groups = self.tops().filter(|(_, score, _)| *score == top);
        groups.filter_map(|(group, ..)| self.nth_of(group, 0)).min()
    }
}

/// How many neighbours' scores are below one leaf of the tree.
const NEIGHBOURS: usize = 64;

/// The nodes' scores by place, and a full binary tree over them: each knot has the highest score below it and how many nodes
/// have it. A leaf stands for 64 neighbours, so that the tree of a large cluster stays in the processor's cache.
#[derive(Debug, Clone, Default)]
struct Best {
    /// [`NONE`] for nodes that are not feasible.
    scores: Vec<[i64; NEIGHBOURS]>,
    /// Number of leaves, a power of two; the root is at 1, leaf `n` at `leaves + n`.
    leaves: usize,
    knots: Vec<(i64, u32)>,
}

impl Best {
    /// Starts anew with room for this many nodes, none of them feasible.
    fn reset(&mut self, width: usize) {
        let words = width.max(1).div_ceil(NEIGHBOURS);
        self.scores.clear();
        self.scores.resize(words, [NONE; NEIGHBOURS]);
        self.leaves = words.next_power_of_two();
        self.knots.clear();
        self.knots.resize(self.leaves * 2, (NONE, 0));
    }

    /// Sets a score only; [`Best::build`] must follow.
    fn put(&mut self, node: NodeId, score: i64) {
        self.scores[node.index() / NEIGHBOURS][node.index() % NEIGHBOURS] = score;
    }

    /// Works out all knots from the scores.
    fn build(&mut self) {
        for (leaf, scores) in self.knots[self.leaves..].iter_mut().zip(&self.scores) {
            *leaf = highest_of(scores);
        }
        for knot in (1..self.leaves).rev() {
            self.knots[knot] = join(self.knots[knot * 2], self.knots[knot * 2 + 1]);
        }
    }

    /// Sets the score of a node, `None` if it is not feasible.
    fn set(&mut self, node: NodeId, score: Option<i64>) {
        let (word, lane) = (node.index() / NEIGHBOURS, node.index() % NEIGHBOURS);
        let new = score.unwrap_or(NONE);
        let old = std::mem::replace(&mut self.scores[word][lane], new);
        let mut knot = self.leaves + word;
        let (top, count) = self.knots[knot];
        let mut joined = match (old == top, new.cmp(&top)) {
            _ if old == new => return,
            (_, Ordering::Greater) => (new, 1),
            (false, Ordering::Less) => return,
            (false, Ordering::Equal) => (top, count + 1),
            (true, _) if count > 1 => (top, count - 1),
            (true, _) => highest_of(&self.scores[word]),
        };
        while self.knots[knot] != joined {
            self.knots[knot] = joined;
            if knot == 1 {
                return;
            }
            knot /= 2;
            joined = join(self.knots[knot * 2], self.knots[knot * 2 + 1]);
        }
    }

    /// A node's score, if it is feasible.
    fn score(&self, node: NodeId) -> Option<i64> {
        let scores = self.scores.get(node.index() / NEIGHBOURS)?;
        Some(scores[node.index() % NEIGHBOURS]).filter(|score| *score != NONE)
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
        let word = knot - self.leaves;
        let best = self.scores[word].iter().enumerate().filter(|(_, score)| **score == top);
        let (lane, _) = { best }.nth(index as usize)?;
        Some(NodeId::from_index(word * NEIGHBOURS + lane))
    }
}

/// The highest of these nodes' scores and how many have it. Where 64 neighbours are all in, they are compared without a
/// branch for each.
fn highest(totals: &[i64], nodes: &NodeSet) -> (i64, u32) {
    let of_word = |(start, word): (usize, u64)| {
        let all = totals.get(start..start + NEIGHBOURS).filter(|_| word == u64::MAX);
        if let Some(all) = all.and_then(|all| all.try_into().ok()) {
            return highest_of(all);
        }
        let mut rest = word;
        let set = std::iter::from_fn(|| {
            let bit = rest.trailing_zeros() as usize;
            rest &= rest.wrapping_sub(1);
            (bit < NEIGHBOURS).then(|| (totals[start + bit], 1))
        });
        set.fold((NONE, 0), join)
    };
    nodes.words().map(of_word).fold((NONE, 0), join)
}

fn highest_of(scores: &[i64; NEIGHBOURS]) -> (i64, u32) {
    let best = scores.iter().copied().fold(NONE, i64::max);
    let count = scores.iter().map(|score| u32::from(*score == best)).sum();
    if best == NONE { (NONE, 0) } else { (best, count) }
}

fn join(left: (i64, u32), right: (i64, u32)) -> (i64, u32) {
    match left.0.cmp(&right.0) {
        Ordering::Greater => left,
        Ordering::Less => right,
        Ordering::Equal => (left.0, left.1 + right.1),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_highest_is_found_whether_all_nodes_are_in_or_some(
            totals in prop::collection::vec(-2_i64..3, 0..200),
            out in prop::collection::btree_set(0_usize..200, 0..4),
        ) {
            let nodes: Vec<usize> = (0..totals.len()).filter(|node| !out.contains(node)).collect();
            let top = nodes.iter().map(|node| totals[*node]).max();
            let count = nodes.iter().filter(|node| Some(totals[**node]) == top).count();
            let set = nodes.into_iter().map(NodeId::from_index).collect();
            prop_assert_eq!(highest(&totals, &set), top.map_or((NONE, 0), |top| (top, count as u32)));
        }

        #[test]
        fn equals_a_scan(width in 1_usize..300, changes in prop::collection::vec((0_usize..300, prop::option::of(0_i64..4)), 0..200)) {
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
