//! DynamicResources: claims of devices are not built yet, so pods that have some are refused.

use longshore_core::scheduling::{
    Candidates, Cycle, Filter, NodeSet, Policy, PostFilter, PostFiltered, PreFilter, PreScore, Reach, Refusal, Score,
    Scores, State, Trial,
};

/// Keeps upstream's place in the profile. A pod with `spec.resourceClaims` is refused, by name: to place it as if it had
/// none would start it without its devices.
#[derive(Debug, Clone, Copy, Default)]
pub struct DynamicResources;

impl Policy for DynamicResources {
    fn name(&self) -> &str {
        "DynamicResources"
    }

    fn as_filter(&self) -> Option<&dyn Filter> {
        Some(self)
    }

    fn as_post_filter(&self) -> Option<&dyn PostFilter> {
        Some(self)
    }

    fn as_score(&self) -> Option<&dyn Score> {
        Some(self)
    }
}

impl Filter for DynamicResources {
    fn pre_filter(&self, cycle: Cycle<'_>, _state: &mut State) -> Result<PreFilter, Refusal> {
        match &cycle.pod().spec.resource_claims[..] {
            [] => Ok(PreFilter::Skip),
            [claim, ..] => Err(Refusal::unresolvable(format!(
                "resource claim {:?} cannot be allocated: this scheduler does not support resource claims",
                claim.name
            ))),
        }
    }

    fn filter(&self, _cycle: Cycle<'_>, _state: &State, _candidates: &mut Candidates) {}

    fn reach(&self) -> Reach {
        Reach::Node
    }
}

impl PostFilter for DynamicResources {
    fn post_filter(&self, _trial: &mut dyn Trial, _refused: &Candidates, _state: &mut State) -> PostFiltered {
        PostFiltered { message: "no new claims to deallocate".to_owned(), ..PostFiltered::default() }
    }
}

impl Score for DynamicResources {
    fn pre_score(&self, _cycle: Cycle<'_>, _state: &mut State, _feasible: &NodeSet) -> PreScore {
        PreScore::Score
    }

    /// Without claims, upstream gives every node 0.
    fn score(&self, _cycle: Cycle<'_>, _state: &State, _nodes: &NodeSet, _scores: &mut Scores) {}

    fn reach(&self) -> Reach {
        Reach::Node
    }
}
