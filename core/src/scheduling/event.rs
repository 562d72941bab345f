//! What happened in the cluster, for pods that wait: may it help them?

use crate::api::Node;
use crate::api::pod::Pod;
use crate::kind::{AnyObject, KindType};

/// Something that happened and may make a refused pod fit.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum ClusterEvent<'a> {
    /// A node came.
    NodeAdded(&'a Node),
    /// A node changed.
    NodeUpdated {
        /// As it was.
        old: &'a Node,
        /// As it is.
        new: &'a Node,
    },
    /// A pod came to a node.
    PodPlaced(&'a Pod),
    /// A pod that has a node changed, as when it is resized or relabelled.
    PodUpdated {
        /// As it was.
        old: &'a Pod,
        /// As it is.
        new: &'a Pod,
    },
    /// A pod that had a node is gone, or will never run again.
    PodRemoved(&'a Pod),
    /// A pod that had been given a node, but not yet been bound to it, gave it back.
    PodForgotten(&'a Pod),
    /// The waiting pod itself changed.
    SelfUpdated {
        /// As it was.
        old: &'a Pod,
        /// As it is.
        new: &'a Pod,
    },
    /// A namespace came, went, or has other labels.
    NamespaceChanged,
    /// An object of a kind that a policy asked for came or changed.
    ObjectChanged {
        /// The kind.
        kind: &'static KindType,
        /// The object, as it is.
        object: &'a dyn AnyObject,
    },
    /// An object of a kind that a policy asked for is gone.
    ObjectRemoved {
        /// The kind.
        kind: &'static KindType,
        /// The object, as it was.
        object: &'a dyn AnyObject,
    },
}
