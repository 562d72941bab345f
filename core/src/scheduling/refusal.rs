//! Why a node, or every node, was refused.

use std::fmt;
use std::sync::Arc;

use indexmap::IndexSet;
use rustc_hash::FxBuildHasher;
use smallvec::{SmallVec, smallvec};

use super::{NodeId, NodeSet};

/// Whether evicting pods could change a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// Room may be made by preemption.
    Unschedulable,
    /// Preemption would not help.
    UnschedulableAndUnresolvable,
}

impl Code {
    /// Upstream's name of the code.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unschedulable => "Unschedulable",
            Self::UnschedulableAndUnresolvable => "UnschedulableAndUnresolvable",
        }
    }
}

/// A reason for people, such as `Insufficient cpu`. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reason(Text);

#[derive(Debug, Clone)]
enum Text {
    Static(&'static str),
    Shared(Arc<str>),
}

impl Text {
    fn as_str(&self) -> &str {
        match self {
            Self::Static(text) => text,
            Self::Shared(text) => text,
        }
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Text {}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl std::hash::Hash for Text {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl Reason {
    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<&'static str> for Reason {
    fn from(text: &'static str) -> Self {
        Self(Text::Static(text))
    }
}

impl From<String> for Reason {
    fn from(text: String) -> Self {
        Self(Text::Shared(text.into()))
    }
}

impl From<Arc<str>> for Reason {
    fn from(text: Arc<str>) -> Self {
        Self(Text::Shared(text))
    }
}

/// A policy's no.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Refusal {
    /// Whether preemption could help.
    pub code: Code,
    /// Why; at least one reason.
    pub reasons: SmallVec<[Reason; 1]>,
}

impl Refusal {
    /// A refusal that preemption could resolve.
    pub fn unschedulable(reason: impl Into<Reason>) -> Self {
        Self { code: Code::Unschedulable, reasons: smallvec![reason.into()] }
    }

    /// A refusal that preemption would not resolve.
    pub fn unresolvable(reason: impl Into<Reason>) -> Self {
        Self { code: Code::UnschedulableAndUnresolvable, reasons: smallvec![reason.into()] }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, reason) in self.reasons.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            reason.fmt(f)?;
        }
        Ok(())
    }
}

/// The nodes still in the race while the filters run, and why the others are not.
///
/// A filter only ever takes nodes out, each with a reason; nothing can put one back.
#[derive(Debug, Clone, Default)]
pub struct Candidates {
    nodes: NodeSet,
    /// For each node one more than the place of its refusal in `table`; 0 for none.
    why: Vec<u32>,
    /// Distinct refusals with the place of the policy, in the profile, that spoke them. Few, whatever the number of nodes.
    table: IndexSet<(u16, Refusal), FxBuildHasher>,
    policy: u16,
}

/// A refusal that was said before, to be given to more nodes; see [`Candidates::reason`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefusalId(u32);

impl Candidates {
    /// All of `nodes` are in the race.
    pub fn new(nodes: NodeSet) -> Self {
        Self { nodes, ..Self::default() }
    }

    /// The nodes still in the race.
    pub fn nodes(&self) -> &NodeSet {
        &self.nodes
    }

    /// Makes a refusal ready to be given to many nodes by [`Candidates::refuse_for`].
    pub fn reason(&mut self, refusal: Refusal) -> RefusalId {
        let (place, _) = self.table.insert_full((self.policy, refusal));
        RefusalId(u32::try_from(place).expect("there are fewer reasons than nodes"))
    }

    /// Takes a node out. Nothing happens if it is out already: the first refusal counts.
    pub fn refuse(&mut self, node: NodeId, refusal: Refusal) {
        if self.nodes.contains(node) {
            let why = self.reason(refusal);
            self.refuse_for(node, why);
        }
    }

    /// Takes a node out for a reason made ready before.
    pub fn refuse_for(&mut self, node: NodeId, why: RefusalId) {
        if self.nodes.remove(node) {
            if node.index() >= self.why.len() {
                self.why.resize(node.index() + 1, 0);
            }
            self.why[node.index()] = why.0 + 1;
        }
    }

    /// Takes every node out that is not in `keep`.
    pub fn keep_only(&mut self, keep: &NodeSet, refusal: Refusal) {
        let out = self.nodes.difference(keep);
        self.refuse_all(&out, refusal);
    }

    /// Takes all of these nodes out.
    pub fn refuse_all(&mut self, nodes: &NodeSet, refusal: Refusal) {
        if nodes.intersects(&self.nodes) {
            let why = self.reason(refusal);
            for node in nodes.iter() {
                self.refuse_for(node, why);
            }
        }
    }

    /// Says on whose behalf nodes are refused from now on: the place of the policy in the profile. For engines.
    pub fn speak_for(&mut self, policy: u16) {
        self.policy = policy;
    }

    /// Starts anew with these nodes, keeping the memory. For engines.
    pub fn reset(&mut self, nodes: &NodeSet) {
        self.nodes.copy_from(nodes);
        self.why.clear();
        self.table.clear();
        self.policy = 0;
    }

    /// Why a node is out: the place of the policy in the profile, and what it said.
    pub fn refusal(&self, node: NodeId) -> Option<(u16, &Refusal)> {
        let why = self.why.get(node.index())?.checked_sub(1)?;
        let (policy, refusal) = self.table.get_index(why as usize)?;
        Some((*policy, refusal))
    }

    /// Takes over what `part`, which looked at `nodes` only, found about them. For engines.
    pub fn merge(&mut self, part: &Self, nodes: &NodeSet) {
        // Where what the part said stands here: few things, said of many nodes.
        let mut places: Vec<Option<u32>> = vec![None; part.table.len()];
        for node in nodes.iter() {
            let said = part.why.get(node.index()).and_then(|why| why.checked_sub(1));
            let place = said.map_or(0, |said| {
                let said = said as usize;
                *places[said].get_or_insert_with(|| {
                    let (place, _) = self.table.insert_full(part.table[said].clone());
                    u32::try_from(place).expect("there are fewer reasons than nodes") + 1
                })
            });
            if part.nodes.contains(node) {
                self.nodes.insert(node);
            } else {
                self.nodes.remove(node);
            }
            if node.index() >= self.why.len() {
                self.why.resize(node.index() + 1, 0);
            }
            self.why[node.index()] = place;
        }
    }

    /// One more than the highest place of a node that was ever refused.
    pub fn width(&self) -> usize {
        self.why.len()
    }

    /// How many distinct refusals were said; grows until [`Candidates::reset`].
    pub fn distinct(&self) -> usize {
        self.table.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_refusal_counts_until_the_node_is_looked_at_again() {
        let node = NodeId::from_index;
        let mut candidates = Candidates::new((0..4).map(node).collect());
        candidates.refuse(node(1), Refusal::unschedulable("Insufficient cpu"));
        candidates.speak_for(3);
        candidates.keep_only(&NodeSet::only(node(2)), Refusal::unresolvable("elsewhere".to_owned()));
        assert_eq!(candidates.nodes(), &NodeSet::only(node(2)));
        assert_eq!(candidates.refusal(node(1)), Some((0, &Refusal::unschedulable("Insufficient cpu"))));
        assert_eq!(candidates.refusal(node(3)), Some((3, &Refusal::unresolvable("elsewhere"))));
        assert_eq!((candidates.refusal(node(2)), candidates.distinct()), (None, 2));
        // Node 3 is looked at again and found good.
        let again = NodeSet::only(node(3));
        candidates.merge(&Candidates::new(again.clone()), &again);
        assert_eq!(candidates.refusal(node(3)), None);
        assert_eq!(candidates.nodes().len(), 2);
    }
}
