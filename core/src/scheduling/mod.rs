//! Scheduling: the traits of policies, and the state of a cluster that they read.
//!
//! The engine that runs policies is in the crate `longshore-scheduler`; who writes a policy needs this module alone. A policy
//! implements [`Policy`] and, of the extension points, those it takes part in: [`Filter`] and [`Score`] mostly. The
//! quickest start is a closure about one pod and one node: [`per_node::filter`], [`per_node::score`].
//!
//! # The way of a pod
//!
//! [`PreEnqueue`] → queue in the order of [`QueueOrder`], pods of one [`Grouping`] together → [`Filter`] → if no node is left,
//! [`PostFilter`] → [`Score`], the sum by weight decides, ties are broken as [`TieBreak`] says → [`Reserve`] → [`Permit`] →
//! [`PreBind`] → [`Binder`] → [`PostBind`].
//!
//! # Contract
//!
//! 1. **All nodes, always.** A filter sees every node that the filters before it left; there is no sampling. Filters run in
//!    the profile's order, and the first to refuse a node is the one that is named.
//! 2. **Whole-cluster calls.** `filter` and `score` are called once for a pod, about a set of nodes. The set is all nodes at
//!    first; when a pod of the same [`Shape`] comes later, it is those nodes about which the answer may have changed.
//!    A policy says by [`Reach`] which those are, and must give about a node the same answer in any set.
//! 3. **Pure.** Answers depend on the pod's shape and the cluster alone ([`Reach::Outside`] lifts that, at a price). They must
//!    not depend on the pod's name or uid, on the time, or on chance.
//! 4. **Read only.** Policies get `&Cluster`. The one way to take something is [`Reserve`], by annotations on the pod.
//! 5. **State** is the policy's own ([`State`]), made by `pre_filter` or `pre_score`, thrown away or brought up to date by the
//!    engine. A policy holds no other state about pods or nodes.
//! 6. **Integers.** Scores are 64-bit integers; division truncates, as upstream's does. Normalised scores are 0 to
//!    [`MAX_NODE_SCORE`], and weights multiply them.
//! 7. **Determinism.** The same cluster history, pods, profile and seed give the same placements.
//! 8. **After an error** in `reserve`, `permit`, `pre_bind` or `bind`, every policy's `unreserve` is called, in reverse order,
//!    and the pod is tried again later. A bind whose outcome is unknown is read back before it is tried again.

pub mod cluster;
mod event;
mod node_set;
pub mod per_node;
mod pod_shape;
mod policy;
mod refusal;
mod scores;
mod state;
mod view;

pub use cluster::Cluster;
pub use event::ClusterEvent;
pub use node_set::{NodeId, NodeSet};
pub use pod_shape::{HostPort, Requests, Shape, ShapeId};
pub use policy::{
    Binder, Binding, Filter, Grouping, Nomination, Permit, Permitted, Policy, PostBind, PostFilter, PostFiltered,
    PreBind, PreEnqueue, PreFilter, PreScore, QueueOrder, QueuedPod, Reach, Reservation, Reserve, Score, Trial, Update,
    Waiting,
};
pub use refusal::{Candidates, Code, Reason, Refusal, RefusalId};
pub use scores::{MAX_NODE_SCORE, ScoreRange, Scores, TieBreak};
pub use state::State;
pub use view::{Cycle, NodeView, PodView};
