//! Nodes by number, and sets of them as bits.

use std::fmt;

use smallvec::SmallVec;

/// A node's place in the columns of a [`Cluster`](super::Cluster). Places are used again after a node is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(crate) u32);

impl NodeId {
    /// The place as an index into a column.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The node at this index of a column.
    pub fn from_index(index: usize) -> Self {
        Self(u32::try_from(index).expect("a cluster has fewer than 2^32 nodes"))
    }
}

/// A set of nodes, one bit each. Iterates in the order of the places.
///
/// Only the words from the first to the last node are kept, so a set of few neighbours is small and quick wherever they
/// are in a large cluster.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct NodeSet {
    /// How many words of zeros come before `words`; 0 if the set is empty.
    skipped: usize,
    /// Neither the first nor the last is zero, so that equal sets are equal.
    words: SmallVec<[u64; 2]>,
}

impl fmt::Debug for NodeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(NodeId::index)).finish()
    }
}

impl NodeSet {
    /// The empty set.
    pub fn new() -> Self {
        Self { skipped: 0, words: SmallVec::new() }
    }

    /// The set of one node.
    pub fn only(node: NodeId) -> Self {
        let mut set = Self::new();
        set.insert(node);
        set
    }

    /// The word at this place, counted from the first of all.
    fn word(&self, place: usize) -> u64 {
        place.checked_sub(self.skipped).and_then(|at| self.words.get(at)).copied().unwrap_or(0)
    }

    /// One past the last word, counted from the first of all.
    fn end(&self) -> usize {
        self.skipped + self.words.len()
    }

    /// Whether the node is in the set.
    pub fn contains(&self, node: NodeId) -> bool {
        self.word(node.index() / 64) >> (node.index() % 64) & 1 == 1
    }

    /// Puts a node in; says whether it was not there.
    pub fn insert(&mut self, node: NodeId) -> bool {
        let (place, bit) = (node.index() / 64, 1 << (node.index() % 64));
        self.cover(place, place + 1);
        let word = &mut self.words[place - self.skipped];
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    /// Makes room for these words.
    fn cover(&mut self, start: usize, end: usize) {
        if self.words.is_empty() {
            self.skipped = start;
            self.words.resize(end - start, 0);
            return;
        }
        if start < self.skipped {
            let more = self.skipped - start;
            self.words.insert_many(0, std::iter::repeat_n(0, more));
            self.skipped = start;
        }
        if end > self.end() {
            self.words.resize(end - self.skipped, 0);
        }
    }

    /// Takes a node out; says whether it was there.
    pub fn remove(&mut self, node: NodeId) -> bool {
        if !self.contains(node) {
            return false;
        }
        let word = &mut self.words[node.index() / 64 - self.skipped];
        *word &= !(1 << (node.index() % 64));
        if *word == 0 {
            self.trim();
        }
        true
    }

    /// Takes all nodes out, keeping the memory.
    pub fn clear(&mut self) {
        self.skipped = 0;
        self.words.clear();
    }

    /// Makes this a copy of `other`, keeping the memory.
    pub fn copy_from(&mut self, other: &Self) {
        self.skipped = other.skipped;
        self.words.clear();
        self.words.extend_from_slice(&other.words);
    }

    /// How many nodes are in the set.
    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether there are this many nodes in the set, or more. Does not count further than needed.
    pub fn has(&self, count: usize) -> bool {
        let mut missing = count;
        for word in &self.words {
            if missing == 0 {
                break;
            }
            missing = missing.saturating_sub(word.count_ones() as usize);
        }
        missing == 0
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The first node.
    pub fn first(&self) -> Option<NodeId> {
        self.iter().next()
    }

    /// The set by words: each with the place of its first node, the nodes by bit from the lowest on. Words without nodes may be
    /// left out. For policies that look at 64 nodes at once.
    pub fn words(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        (self.skipped * 64..).step_by(64).zip(self.words.iter().copied())
    }

    /// The nodes, in order.
    pub fn iter(&self) -> impl Iterator<Item = NodeId> + '_ {
        let first = NodeId::from_index(self.skipped * 64).0;
        let mut words = self.words.iter().zip((first..).step_by(64));
        let mut word = 0;
        let mut start = 0;
        std::iter::from_fn(move || {
            while word == 0 {
                let (next, place) = words.next()?;
                (word, start) = (*next, place);
            }
            let bit = word.trailing_zeros();
            word &= word - 1;
            Some(NodeId(start + bit))
        })
    }

    /// Keeps what is in `other`, too.
    pub fn intersect(&mut self, other: &Self) {
        let (start, end) = (self.skipped.max(other.skipped), self.end().min(other.end()));
        if start >= end {
            return self.clear();
        }
        self.words.truncate(end - self.skipped);
        self.words.drain(..start - self.skipped);
        self.skipped = start;
        for (word, other) in self.words.iter_mut().zip(&other.words[start - other.skipped..]) {
            *word &= other;
        }
        self.trim();
    }

    /// Adds what is in `other`.
    pub fn union(&mut self, other: &Self) {
        if other.is_empty() {
            return;
        }
        self.cover(other.skipped, other.end());
        for (word, other) in self.words[other.skipped - self.skipped..].iter_mut().zip(&other.words) {
            *word |= other;
        }
    }

    /// Takes out what is in `other`.
    pub fn subtract(&mut self, other: &Self) {
        let (start, end) = (self.skipped.max(other.skipped), self.end().min(other.end()));
        for place in start..end {
            self.words[place - self.skipped] &= !other.words[place - other.skipped];
        }
        self.trim();
    }

    /// The nodes that are here and in `other`.
    pub fn intersection(&self, other: &Self) -> Self {
        let (start, end) = (self.skipped.max(other.skipped), self.end().min(other.end()));
        if start >= end {
            return Self::new();
        }
        let (ours, theirs) = (&self.words[start - self.skipped..], &other.words[start - other.skipped..]);
        let words = ours.iter().zip(theirs).take(end - start).map(|(a, b)| a & b).collect();
        let mut set = Self { skipped: start, words };
        set.trim();
        set
    }

    /// The nodes that are here and not in `other`.
    pub fn difference(&self, other: &Self) -> Self {
        let mut set = self.clone();
        set.subtract(other);
        set
    }

    /// Whether a node is in both.
    pub fn intersects(&self, other: &Self) -> bool {
        let (start, end) = (self.skipped.max(other.skipped), self.end().min(other.end()));
        (start..end).any(|place| self.words[place - self.skipped] & other.words[place - other.skipped] != 0)
    }

    fn trim(&mut self) {
        while self.words.last() == Some(&0) {
            self.words.pop();
        }
        let zeros = self.words.iter().take_while(|word| **word == 0).count();
        if zeros > 0 {
            self.words.drain(..zeros);
            self.skipped += zeros;
        }
        if self.words.is_empty() {
            self.skipped = 0;
        }
    }
}

impl FromIterator<NodeId> for NodeSet {
    fn from_iter<I: IntoIterator<Item = NodeId>>(nodes: I) -> Self {
        let mut set = Self::new();
        for node in nodes {
            set.insert(node);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(nodes: &[usize]) -> NodeSet {
        nodes.iter().map(|&index| NodeId::from_index(index)).collect()
    }

    #[test]
    fn sets_do_what_sets_do() {
        let (a, b) = (set(&[0, 3, 64, 200]), set(&[3, 64, 65]));
        assert_eq!(a.intersection(&b), set(&[3, 64]));
        assert_eq!(a.difference(&b), set(&[0, 200]));
        let mut all = a.clone();
        all.union(&b);
        assert_eq!(all, set(&[0, 3, 64, 65, 200]));
        assert_eq!(all.len(), 5);
        assert!(all.has(0) && all.has(5) && !all.has(6));
        assert_eq!(set(&[64, 65, 200]).words().collect::<Vec<_>>(), [(64, 3), (128, 0), (192, 1 << 8)]);
        assert_eq!(all.iter().map(NodeId::index).collect::<Vec<_>>(), [0, 3, 64, 65, 200]);
        assert!(a.intersects(&b) && !set(&[1]).intersects(&b));
        assert!(all.remove(NodeId(200)) && !all.remove(NodeId(200)) && !all.remove(NodeId(9000)));
        assert!(!all.contains(NodeId(200)) && all.contains(NodeId(65)));
    }

    #[test]
    fn equal_sets_are_equal_whatever_their_past() {
        let mut a = set(&[1, 500]);
        a.remove(NodeId(500));
        assert_eq!(a, set(&[1]));
        a.subtract(&set(&[1]));
        assert!(a.is_empty());
        assert_eq!(a, NodeSet::new());
        let mut b = set(&[900]);
        b.insert(NodeId(3));
        b.remove(NodeId(3));
        assert_eq!(b, set(&[900]));
    }

    /// Against a plain set, after random operations.
    #[test]
    fn equals_a_plain_set() {
        use rand::{RngExt, SeedableRng};
        use std::collections::BTreeSet;
        let mut rng = rand_pcg::Pcg64::seed_from_u64(5);
        let random = |rng: &mut rand_pcg::Pcg64| -> BTreeSet<usize> {
            let (start, width) = (rng.random_range(0..400), rng.random_range(1..300));
            (0..rng.random_range(0..20)).map(|_| start + rng.random_range(0..width)).collect()
        };
        let of = |plain: &BTreeSet<usize>| set(&plain.iter().copied().collect::<Vec<_>>());
        for _ in 0..5000 {
            let (a, b) = (random(&mut rng), random(&mut rng));
            let (left, right) = (of(&a), of(&b));
            assert_eq!(left.iter().map(NodeId::index).collect::<Vec<_>>(), a.iter().copied().collect::<Vec<_>>());
            assert_eq!(left.intersection(&right), of(&(&a & &b)));
            assert_eq!(left.difference(&right), of(&(&a - &b)));
            let (mut both, mut all) = (left.clone(), left.clone());
            both.intersect(&right);
            all.union(&right);
            assert_eq!(both, of(&(&a & &b)));
            assert_eq!(all, of(&(&a | &b)));
            assert_eq!(left.intersects(&right), !a.is_disjoint(&b));
            let mut one = left.clone();
            for node in &b {
                assert_eq!(one.remove(NodeId::from_index(*node)), a.contains(node));
            }
            assert_eq!(one, of(&(&a - &b)));
        }
    }
}
