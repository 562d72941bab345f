//! For those who start: a policy from a closure about one pod and one node.

use std::borrow::Cow;
use std::fmt;

use super::{
    Candidates, Cycle, Filter, NodeSet, NodeView, PodView, Policy, Reach, Refusal, Score, ScoreRange, Scores, State,
};

/// A filter from a closure, which must depend on the pod's shape and the node (with its pods) alone.
///
/// ```
/// use longshore_core::scheduling::{Refusal, per_node};
///
/// let policy = per_node::filter("SameTeam", |pod, node| {
///     if node.label("team") == pod.labels().get("team").map(String::as_str) {
///         Ok(())
///     } else {
///         Err(Refusal::unresolvable("node(s) belonged to another team"))
///     }
/// });
/// ```
pub fn filter<F>(name: impl Into<Cow<'static, str>>, filter: F) -> PerNodeFilter<F>
where
    F: Fn(&PodView<'_>, &NodeView<'_>) -> Result<(), Refusal> + Send + Sync + 'static,
{
    PerNodeFilter { name: name.into(), filter }
}

/// A score from a closure, which must depend on the pod's shape and the node (with its pods) alone. Scores are scaled so
/// that the best node gets 100; they must not be negative.
///
/// ```
/// use longshore_core::scheduling::per_node;
///
/// let policy = per_node::score("FewestPods", |_pod, node| 1000 - node.requested("pods"));
/// ```
pub fn score<F>(name: impl Into<Cow<'static, str>>, score: F) -> PerNodeScore<F>
where
    F: Fn(&PodView<'_>, &NodeView<'_>) -> i64 + Send + Sync + 'static,
{
    PerNodeScore { name: name.into(), score }
}

/// See [`filter`].
pub struct PerNodeFilter<F> {
    name: Cow<'static, str>,
    filter: F,
}

impl<F> fmt::Debug for PerNodeFilter<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PerNodeFilter").field(&self.name).finish()
    }
}

impl<F> Policy for PerNodeFilter<F>
where
    F: Fn(&PodView<'_>, &NodeView<'_>) -> Result<(), Refusal> + Send + Sync + 'static,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn as_filter(&self) -> Option<&dyn Filter> {
        Some(self)
    }
}

impl<F> Filter for PerNodeFilter<F>
where
    F: Fn(&PodView<'_>, &NodeView<'_>) -> Result<(), Refusal> + Send + Sync + 'static,
{
    fn filter(&self, cycle: Cycle<'_>, _state: &State, candidates: &mut Candidates) {
        for node in candidates.nodes().clone().iter() {
            if let Err(refusal) = (self.filter)(&cycle, &cycle.node(node)) {
                candidates.refuse(node, refusal);
            }
        }
    }

    fn reach(&self) -> Reach {
        Reach::Node
    }
}

/// See [`score`].
pub struct PerNodeScore<F> {
    name: Cow<'static, str>,
    score: F,
}

impl<F> fmt::Debug for PerNodeScore<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PerNodeScore").field(&self.name).finish()
    }
}

impl<F> Policy for PerNodeScore<F>
where
    F: Fn(&PodView<'_>, &NodeView<'_>) -> i64 + Send + Sync + 'static,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn as_score(&self) -> Option<&dyn Score> {
        Some(self)
    }
}

impl<F> Score for PerNodeScore<F>
where
    F: Fn(&PodView<'_>, &NodeView<'_>) -> i64 + Send + Sync + 'static,
{
    fn score(&self, cycle: Cycle<'_>, _state: &State, nodes: &NodeSet, scores: &mut Scores) {
        for node in nodes.iter() {
            scores.add(node, (self.score)(&cycle, &cycle.node(node)));
        }
    }

    fn is_normalised(&self) -> bool {
        true
    }

    fn normalise(&self, _cycle: Cycle<'_>, _state: &State, range: ScoreRange, nodes: &NodeSet, scores: &mut Scores) {
        scores.scale(range, nodes, false);
    }

    fn reach(&self) -> Reach {
        Reach::Node
    }
}
