//! What policies have in common that only prefer some nodes to others.

/// Makes a policy of what has a name and a `Score`; with `as_reserve` behind the name, of what has a `Reserve` as well.
macro_rules! prefers {
    ($policy:ty, $name:literal $(, $as_reserve:ident)?) => {
        impl longshore_core::scheduling::Policy for $policy {
            fn name(&self) -> &str {
                $name
            }

            fn may_help(
                &self,
                _: &longshore_core::api::pod::Pod,
                _: &longshore_core::scheduling::ClusterEvent<'_>,
            ) -> bool {
                false
            }

            fn as_score(&self) -> Option<&dyn longshore_core::scheduling::Score> {
                Some(self)
            }

            $(fn $as_reserve(&self) -> Option<&dyn longshore_core::scheduling::Reserve> {
                Some(self)
            })?
        }
    };
}
pub(super) use prefers;

/// Scores nodes one by one, each by itself and its pods alone: by what is asked for, which is worked out once, and the node.
macro_rules! scores_each {
    ($policy:ty, |$this:ident, $cycle:ident| $asked:expr, |$known:ident, $node:ident| $score:expr) => {
        impl longshore_core::scheduling::Score for $policy {
            fn score(
                &self,
                $cycle: longshore_core::scheduling::Cycle<'_>,
                _: &longshore_core::scheduling::State,
                nodes: &longshore_core::scheduling::NodeSet,
                scores: &mut longshore_core::scheduling::Scores,
            ) {
                let $this = self;
                let $known = $asked;
                for $node in nodes.iter() {
                    scores.add($node, $score);
                }
            }

            fn reach(&self) -> longshore_core::scheduling::Reach {
                longshore_core::scheduling::Reach::Node
            }
        }
    };
}
pub(super) use scores_each;
