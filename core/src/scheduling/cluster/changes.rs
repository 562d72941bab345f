//! What changed in a cluster, in order, so that whoever worked something out can bring it up to date by difference.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::{NodeId, Shape};
use crate::kind::KindType;

/// Changes kept at least.
const KEPT: usize = 4096;

/// One change.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Change {
    /// The node came, went, or is another than before.
    Node(NodeId),
    /// A pod came to the node.
    PodAdded {
        /// The node.
        node: NodeId,
        /// The pod's shape.
        shape: Arc<Shape>,
    },
    /// A pod went from the node.
    PodRemoved {
        /// The node.
        node: NodeId,
        /// The pod's shape.
        shape: Arc<Shape>,
    },
    /// The pods for which room is being made on the node changed.
    Nominated(NodeId),
    /// Something about a pod on the node changed that nothing counts, such as when it was started.
    Touched(NodeId),
    /// A namespace came, went, or has other labels.
    Namespace,
    /// An object of another kind came, went or changed.
    Object(&'static KindType),
}

impl Change {
    /// The node that changed, if it was one.
    pub fn node(&self) -> Option<NodeId> {
        match *self {
            Self::Node(node) | Self::Nominated(node) | Self::Touched(node) => Some(node),
            Self::PodAdded { node, .. } | Self::PodRemoved { node, .. } => Some(node),
            Self::Namespace | Self::Object(_) => None,
        }
    }
}

/// The last changes, numbered.
#[derive(Debug, Clone, Default)]
pub(super) struct Changes {
    /// Number of the first change kept.
    first: u64,
    kept: VecDeque<Change>,
    /// Whether something is only tried out.
    pub(super) paused: bool,
}

impl Changes {
    pub(super) fn push(&mut self, change: Change) {
        if self.paused {
            return;
        }
        if self.kept.len() >= KEPT {
            self.kept.pop_front();
            self.first += 1;
        }
        self.kept.push_back(change);
    }

    /// The number that the next change will have.
    pub(super) fn next(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    pub(super) fn since(&self, number: u64) -> Option<impl Iterator<Item = &Change> + Clone> {
        let skip = number.checked_sub(self.first)?;
        Some(self.kept.range(usize::try_from(skip).ok()?.min(self.kept.len())..))
    }
}
