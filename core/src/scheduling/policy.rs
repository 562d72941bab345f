//! The traits that policies implement.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::cluster::{Change, Cluster};
use super::{Candidates, ClusterEvent, Cycle, NodeId, NodeSet, Refusal, ScoreRange, Scores, State};
use crate::api::pod::Pod;
use crate::client::{Bind, Client, Error};
use crate::clock::Clock;
use crate::informer::ObjectKey;
use crate::kind::KindType;

/// Something that has a say in where pods go. See the [module](super) for the contract.
///
/// Each extension point is a trait of its own; a policy says by these methods in which it takes part, usually
/// `Some(self)`.
pub trait Policy: Debug + Send + Sync + 'static {
    /// The policy's name, unique in a profile; people read it where a node was refused.
    fn name(&self) -> &str;

    /// Kinds of object that the policy reads by [`Cluster::objects`], besides nodes, pods and namespaces. Whoever runs
    /// the engine puts them in.
    fn kinds(&self) -> Vec<&'static KindType> {
        Vec::new()
    }

    /// Whether the event may make a pod fit that this policy refused before. To say yes costs another attempt; to say
    /// no where it would have helped leaves the pod waiting for minutes.
    fn may_help(&self, _pod: &Pod, _event: &ClusterEvent<'_>) -> bool {
        true
    }

    /// Holds pods back before they are queued.
    fn as_pre_enqueue(&self) -> Option<&dyn PreEnqueue> {
        None
    }
    /// Orders the queue. Exactly one policy of a profile does.
    fn as_queue_order(&self) -> Option<&dyn QueueOrder> {
        None
    }
    /// Says which pods belong together. The first policy of a profile that does counts.
    fn as_grouping(&self) -> Option<&dyn Grouping> {
        None
    }
    /// Refuses nodes.
    fn as_filter(&self) -> Option<&dyn Filter> {
        None
    }
    /// Does something for a pod that no node can take.
    fn as_post_filter(&self) -> Option<&dyn PostFilter> {
        None
    }
    /// Prefers nodes.
    fn as_score(&self) -> Option<&dyn Score> {
        None
    }
    /// Chooses devices inside the node.
    fn as_reserve(&self) -> Option<&dyn Reserve> {
        None
    }
    /// Delays or stops a binding.
    fn as_permit(&self) -> Option<&dyn Permit> {
        None
    }
    /// Prepares a binding.
    fn as_pre_bind(&self) -> Option<&dyn PreBind> {
        None
    }
    /// Binds.
    fn as_binder(&self) -> Option<&dyn Binder> {
        None
    }
    /// Hears of bindings.
    fn as_post_bind(&self) -> Option<&dyn PostBind> {
        None
    }
}

/// Holds pods back before they are queued, as long as something in the pod itself says so.
pub trait PreEnqueue: Send + Sync {
    /// Whether the pod may be queued. Asked again whenever the pod changes.
    ///
    /// # Errors
    /// Why not.
    fn pre_enqueue(&self, pod: &Pod) -> Result<(), Refusal>;
}

/// A pod in the queue.
#[derive(Debug, Clone, Copy)]
pub struct QueuedPod<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// When it came into the queue this time, by the clock's [`elapsed`](crate::clock::Clock::elapsed).
    pub since: Duration,
}

/// Orders the queue.
pub trait QueueOrder: Send + Sync {
    /// [`Ordering::Less`]: `a` is tried before `b`. Must be a total order that depends on nothing but its arguments. The
    /// queue breaks ties by the order in which pods came.
    fn compare(&self, a: QueuedPod<'_>, b: QueuedPod<'_>) -> Ordering;
}

/// Says which pods belong together.
///
/// Pods of one group stand in the queue one behind the other, and are tried again together. Once the group cannot be
/// completed any more, all of them give up what they hold, at once, so that two groups never wait for each other.
pub trait Grouping: Send + Sync {
    /// The name of the pod's group, in the pod's namespace.
    fn group<'p>(&self, pod: &'p Pod) -> Option<&'p str>;

    /// Whether it is worth going on with the group after one of its pods, this one, found no place, lost it, or came to wait
    /// for the others. `left` more of them may still find one.
    ///
    /// # Errors
    /// Why the group cannot be completed.
    fn go_on(&self, cycle: Cycle<'_>, left: usize) -> Result<(), Refusal>;
}

/// What a policy's answer about one node depends on besides the pod's shape; decides what the engine asks again after
/// something changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Only on this node and its pods: asked again about nodes that changed.
    Node,
    /// On this node with its pods, and on the other nodes, but not on their pods: asked again about nodes that changed,
    /// and about all once a node came, went or is another than before.
    Nodes,
    /// On other nodes, pods, namespaces or objects, too: asked again about all nodes after any change, unless
    /// [`Filter::update`] knows better.
    Cluster,
    /// On things that the engine does not see, such as the time or another server: asked anew for every pod.
    Outside,
}

/// What [`Filter::pre_filter`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PreFilter {
    /// This pod is no concern of the policy: it is not asked about nodes.
    Skip,
    /// Ask about every node.
    All,
    /// Only these nodes can be right; the others are refused without being looked at.
    Only(NodeSet),
}

/// What [`Filter::update`] could do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Update {
    /// The state is up to date; the answers that may have changed are about the nodes put into the set.
    Done,
    /// The state must be made anew.
    Recompute,
}

/// Refuses nodes.
///
/// A call is about all nodes at once: one call for a pod and a policy, not one for a node. What it says is kept and used
/// again for pods of the same [`Shape`](super::Shape), as far as [`Filter::reach`] allows.
pub trait Filter: Send + Sync {
    /// Looks at the pod before any node is.
    ///
    /// # Errors
    /// A reason to refuse the pod for every node.
    fn pre_filter(&self, _cycle: Cycle<'_>, _state: &mut State) -> Result<PreFilter, Refusal> {
        Ok(PreFilter::All)
    }

    /// Takes the nodes out of `candidates` that cannot take the pod, each with its reason. Nodes that are no longer
    /// among the candidates are not to be looked at; there may be any number, down to one.
    fn filter(&self, cycle: Cycle<'_>, state: &State, candidates: &mut Candidates);

    /// What an answer about a node depends on.
    fn reach(&self) -> Reach {
        Reach::Cluster
    }

    /// The labels of a node on whose values the answer about it depends, if it depends on nothing else: nodes with the same
    /// values of these labels, or without the same of them, get the same answer. The engine then asks about one node for
    /// all that are alike. `None` if the answer depends on more.
    fn labels<'s>(&self, _state: &'s State) -> Option<Vec<&'s str>> {
        None
    }

    /// With [`Reach::Cluster`]: brings what [`Filter::pre_filter`] worked out up to date by the changes since, and puts
    /// the nodes into `affected` about which it would now answer differently. Nodes that changed themselves are looked
    /// at in any case. Called after [`PreFilter::Skip`], too: the policy may care now.
    fn update(&self, _cycle: Cycle<'_>, _state: &mut State, _changes: &[Change], _affected: &mut NodeSet) -> Update {
        Update::Recompute
    }
}

/// What [`Score::pre_score`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreScore {
    /// The policy has nothing to say about this pod and adds 0 everywhere.
    Skip,
    /// Ask for scores.
    Score,
}

/// Prefers nodes.
pub trait Score: Send + Sync {
    /// Looks at the pod and at all nodes that can take it.
    fn pre_score(&self, _cycle: Cycle<'_>, _state: &mut State, _feasible: &NodeSet) -> PreScore {
        PreScore::Score
    }

    /// Adds each node's score into the column, which is 0 for these nodes. `nodes` may be fewer than were feasible.
    fn score(&self, cycle: Cycle<'_>, state: &State, nodes: &NodeSet, scores: &mut Scores);

    /// Whether [`Score::normalise`] is to be called. If not, the scores must be from 0 to
    /// [`MAX_NODE_SCORE`](super::MAX_NODE_SCORE) as they are.
    fn is_normalised(&self) -> bool {
        false
    }

    /// Turns scores, as [`Score::score`] gave them, into scores from 0 to [`MAX_NODE_SCORE`](super::MAX_NODE_SCORE), for
    /// these nodes. `range` is that of all feasible nodes; nodes marked [`Scores::ABSENT`] are not among `nodes`. Each
    /// node's outcome depends on its own score and `range` alone.
    fn normalise(&self, _cycle: Cycle<'_>, _state: &State, _range: ScoreRange, _nodes: &NodeSet, _scores: &mut Scores) {
    }

    /// What a score of a node depends on, before normalising. With [`Reach::Cluster`] it may depend on which nodes are
    /// feasible.
    fn reach(&self) -> Reach {
        Reach::Cluster
    }

    /// The labels of a node on whose values its score depends, if it depends on nothing else; see [`Filter::labels`].
    fn labels<'s>(&self, _state: &'s State) -> Option<Vec<&'s str>> {
        None
    }

    /// With [`Reach::Cluster`]: brings what [`Score::pre_score`] worked out up to date by the changes since, and puts the
    /// nodes into `affected` that would now be scored differently before normalising. Nodes that changed themselves, or
    /// have become feasible, are scored again in any case. After [`PreScore::Skip`], [`Update::Done`] means that there is
    /// still nothing to say.
    fn update(
        &self,
        _cycle: Cycle<'_>,
        _state: &mut State,
        _changes: &[Change],
        _feasible: &NodeSet,
        _affected: &mut NodeSet,
    ) -> Update {
        Update::Recompute
    }
}

/// Pods to evict from a node for another.
#[derive(Debug, Clone)]
pub struct Nomination {
    /// The node where room is made.
    pub node: NodeId,
    /// The pods to evict, most important first.
    pub victims: Vec<Arc<Pod>>,
    /// How many of these evictions a disruption budget forbids.
    pub violations: usize,
}

/// What [`PostFilter::post_filter`] did.
#[derive(Debug, Clone, Default)]
pub struct PostFiltered {
    /// Where room is to be made, if anywhere.
    pub nomination: Option<Nomination>,
    /// Every way that was found, the one chosen included, by node; empty unless [`Trial::wants_every_way`].
    pub found: Vec<Nomination>,
    /// The nodes of those ways that are as good as the one chosen, which is among them; empty likewise.
    pub equal: Vec<NodeId>,
    /// For people: what was tried.
    pub message: String,
}

/// What would be if pods were gone: an engine's means to try out evictions.
pub trait Trial {
    /// The pod that no node can take.
    fn pod(&self) -> &Pod;
    /// The cluster as it is.
    fn cluster(&self) -> &Cluster;
    /// Why the node could not take the pod even if these pods, which are on it, were gone; `None` if it could.
    fn refusal_without(&mut self, node: NodeId, gone: &[ObjectKey]) -> Option<Refusal>;
    /// Whether what [`Trial::refusal_without`] says about a node depends on this node and its pods alone.
    fn is_local(&self) -> bool;
    /// Whether the caller wants to know of every way, not only of the one chosen.
    fn wants_every_way(&self) -> bool;
}

/// Does something for a pod that no node can take.
pub trait PostFilter: Send + Sync {
    /// Looks for a way to place the pod after all. `refused` says why each node is out. `state` is the policy's own, kept
    /// for the next pod of the same shape.
    fn post_filter(&self, trial: &mut dyn Trial, refused: &Candidates, state: &mut State) -> PostFiltered;
}

/// What is set aside for a pod inside its node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reservation {
    /// Annotations to bind the pod with. They say which devices were chosen, for the node agent to hand out and for
    /// filters to see on the pods of the node, the pods not yet bound included.
    pub annotations: BTreeMap<String, String>,
}

/// Chooses devices inside the node.
///
/// A policy keeps no count of its own: what is taken follows from the annotations of the node's pods. So nothing is lost
/// by a restart, and several schedulers see the same.
pub trait Reserve: Send + Sync {
    /// Chooses for the pod on the node and writes down what.
    ///
    /// # Errors
    /// Why it cannot be; the pod is then not placed, and what others reserved is given back.
    fn reserve(&self, _cycle: Cycle<'_>, _node: NodeId, _reservation: &mut Reservation) -> Result<(), Refusal> {
        Ok(())
    }

    /// The pod will not be bound to the node after all. Called for every policy, in reverse order; must not fail.
    fn unreserve(&self, _pod: &Pod, _node: &str, _waiting: &mut dyn Waiting) {}
}

/// What [`Permit::permit`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permitted {
    /// Go ahead.
    Allow,
    /// Hold the node for the pod until it is allowed, or until this time is over: then it is refused.
    Wait(Duration),
    /// Not now.
    Refuse(Refusal),
}

/// Pods that have a node and wait for permission to be bound.
pub trait Waiting {
    /// They and their nodes, in the order in which they came to wait.
    fn pods(&self) -> Vec<(Arc<Pod>, String)>;
    /// Lets a pod go ahead, as far as the policy that says so is concerned.
    fn allow(&mut self, pod: &ObjectKey);
    /// Gives up on a pod.
    fn refuse(&mut self, pod: &ObjectKey, why: Refusal);
}

/// Delays or stops a binding.
pub trait Permit: Send + Sync {
    /// Whether the pod, for which the node is held, may be bound. `waiting` are the other pods that this policy made wait.
    fn permit(&self, cycle: Cycle<'_>, node: NodeId, waiting: &mut dyn Waiting) -> Permitted;
}

/// What is done to bind a pod.
#[derive(Debug, Clone)]
pub struct Binding {
    /// The pod.
    pub pod: Arc<Pod>,
    /// What the client is asked for.
    pub bind: Bind,
}

/// Prepares a binding.
#[async_trait]
pub trait PreBind: Send + Sync {
    /// Does what must be done before the pod is bound, such as binding its volumes; `clock` is for waiting.
    ///
    /// # Errors
    /// The pod is not bound, gives its node back and is tried again.
    async fn pre_bind(&self, client: &Arc<dyn Client>, clock: &dyn Clock, binding: &Binding) -> Result<(), Error>;
}

/// Binds.
#[async_trait]
pub trait Binder: Send + Sync {
    /// Binds the pod; `false` leaves it to the next policy that binds.
    ///
    /// # Errors
    /// The pod gives its node back and is tried again.
    async fn bind(&self, client: &Arc<dyn Client>, binding: &Binding) -> Result<bool, Error>;
}

/// Hears of bindings.
#[async_trait]
pub trait PostBind: Send + Sync {
    /// The pod was bound.
    async fn post_bind(&self, client: &Arc<dyn Client>, binding: &Binding);
}
