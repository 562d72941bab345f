//! Nodes by number, and sets of them as bits.

use std::fmt;

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
#[derive(Clone, PartialEq, Eq, Default)]
pub struct NodeSet {
    /// Without zero words at the end, so that equal sets are equal.
    words: Vec<u64>,
}

impl fmt::Debug for NodeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(NodeId::index)).finish()
    }
}

impl NodeSet {
    /// The empty set.
    pub const fn new() -> Self {
        Self { words: Vec::new() }
    }

    /// The set of one node.
    pub fn only(node: NodeId) -> Self {
        let mut set = Self::new();
        set.insert(node);
        set
    }

    /// Whether the node is in the set.
    pub fn contains(&self, node: NodeId) -> bool {
        self.words.get(node.index() / 64).is_some_and(|word| word >> (node.index() % 64) & 1 == 1)
    }

    /// Puts a node in; says whether it was not there.
    pub fn insert(&mut self, node: NodeId) -> bool {
        let (word, bit) = (node.index() / 64, 1 << (node.index() % 64));
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        new
    }

    /// Takes a node out; says whether it was there.
    pub fn remove(&mut self, node: NodeId) -> bool {
        let (word, bit) = (node.index() / 64, 1 << (node.index() % 64));
        let Some(have) = self.words.get_mut(word) else { return false };
        let was = *have & bit != 0;
        *have &= !bit;
        if was {
            self.trim();
        }
        was
    }

    /// Takes all nodes out, keeping the memory.
    pub fn clear(&mut self) {
        self.words.clear();
    }

    /// Makes this a copy of `other`, keeping the memory.
    pub fn copy_from(&mut self, other: &Self) {
        self.words.clone_from(&other.words);
    }

    /// How many nodes are in the set.
    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The first node.
    pub fn first(&self) -> Option<NodeId> {
        self.iter().next()
    }

    /// The nodes, in order.
    pub fn iter(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.words
            .iter()
            .enumerate()
            .flat_map(|(index, &word)| Bits(word).map(move |bit| NodeId::from_index(index * 64 + bit as usize)))
    }

    /// Keeps what is in `other`, too.
    pub fn intersect(&mut self, other: &Self) {
        self.words.truncate(other.words.len());
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word &= other;
        }
        self.trim();
    }

    /// Adds what is in `other`.
    pub fn union(&mut self, other: &Self) {
        if other.words.len() > self.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word |= other;
        }
    }

    /// Takes out what is in `other`.
    pub fn subtract(&mut self, other: &Self) {
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word &= !other;
        }
        self.trim();
    }

    /// The nodes that are here and in `other`.
    pub fn intersection(&self, other: &Self) -> Self {
        let mut set = self.clone();
        set.intersect(other);
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
        self.words.iter().zip(&other.words).any(|(a, b)| a & b != 0)
    }

    fn trim(&mut self) {
        while self.words.last() == Some(&0) {
            self.words.pop();
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

/// The places of the bits that are set, lowest first.
struct Bits(u64);

impl Iterator for Bits {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        if self.0 == 0 {
            return None;
        }
        let bit = self.0.trailing_zeros();
        self.0 &= self.0 - 1;
        Some(bit)
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
    }
}
