//! TaintToleration: taints keep pods off that do not tolerate them.

use longshore_core::api::node::{Taint, TaintEffect};
use longshore_core::api::pod::helpers::{find_untolerated_taint, tolerates};
use longshore_core::api::pod::{Pod, Toleration};
use longshore_core::scheduling::{
    Candidates, ClusterEvent, Cycle, Filter, NodeSet, Policy, Reach, Refusal, Score, ScoreRange, Scores, State,
};

/// Refuses nodes with a `NoSchedule` or `NoExecute` taint that the pod does not tolerate, and prefers nodes with few such
/// `PreferNoSchedule` taints.
#[derive(Debug, Clone, Copy, Default)]
pub struct TaintToleration;

fn repels(taint: &Taint) -> bool {
    matches!(taint.effect, TaintEffect::NoSchedule | TaintEffect::NoExecute)
}

fn is_tolerated(pod: &Pod, taint: &Taint) -> bool {
    pod.spec.tolerations.iter().any(|toleration| tolerates(toleration, taint))
}

impl Policy for TaintToleration {
    fn name(&self) -> &str {
        "TaintToleration"
    }

    fn may_help(&self, pod: &Pod, event: &ClusterEvent<'_>) -> bool {
        let fits = |taints: &[Taint]| find_untolerated_taint(taints, &pod.spec.tolerations, repels).is_none();
        match event {
            ClusterEvent::NodeAdded(node) => fits(&node.spec.taints),
            ClusterEvent::NodeUpdated { old, new } => !fits(&old.spec.taints) && fits(&new.spec.taints),
            ClusterEvent::SelfUpdated { old, new } => old.spec.tolerations != new.spec.tolerations,
            _ => false,
        }
    }

    fn as_filter(&self) -> Option<&dyn Filter> {
        Some(self)
    }

    fn as_score(&self) -> Option<&dyn Score> {
        Some(self)
    }
}

impl Filter for TaintToleration {
    fn filter(&self, cycle: Cycle<'_>, _state: &State, candidates: &mut Candidates) {
        for (_, taint, nodes) in cycle.cluster().taints() {
            if repels(taint) && nodes.intersects(candidates.nodes()) && !is_tolerated(cycle.pod(), taint) {
                candidates.refuse_all(nodes, Refusal::unresolvable("node(s) had untolerated taint(s)"));
            }
        }
    }

    fn reach(&self) -> Reach {
        Reach::Node
    }
}

impl Score for TaintToleration {
    fn score(&self, cycle: Cycle<'_>, _state: &State, nodes: &NodeSet, scores: &mut Scores) {
        let counts = |toleration: &&Toleration| {
            toleration.effect.is_empty() || toleration.effect == TaintEffect::PreferNoSchedule.as_str()
        };
        let soft = |taint: &Taint| taint.effect == TaintEffect::PreferNoSchedule;
        for (id, taint, tainted) in cycle.cluster().taints().filter(|(_, taint, _)| soft(taint)) {
            let mut tolerations = cycle.pod().spec.tolerations.iter().filter(counts);
            if tainted.intersects(nodes) && !tolerations.any(|toleration| tolerates(toleration, taint)) {
                for node in tainted.intersection(nodes).iter() {
                    // A node may have the same taint twice.
                    let times = cycle.cluster().taints_of(node).iter().filter(|other| **other == id).count();
                    scores.add(node, i64::try_from(times).unwrap_or(i64::MAX));
                }
            }
        }
    }

    fn is_normalised(&self) -> bool {
        true
    }

    fn normalise(&self, _cycle: Cycle<'_>, _state: &State, range: ScoreRange, nodes: &NodeSet, scores: &mut Scores) {
        scores.scale(range, nodes, true);
    }

    fn reach(&self) -> Reach {
        Reach::Node
    }
}
