//! A place that was chosen before, claimed now; and the sequences by which an engine chooses, to go on elsewhere.

use std::sync::Arc;

use longshore_core::api::pod::Pod;
use longshore_core::scheduling::{NodeId, Refusal};
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};

use super::cached::{Cached, Question};
use super::{Engine, Placement, Unplaced, annotated};

/// How far an engine has come in its sequences. An engine over the same cluster that goes on from here decides the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Course {
    rng: Pcg64,
    next_sample: usize,
}

impl Engine {
    /// Puts the pod on this node, if it can take it as things are; devices are chosen now. The score is not worked out: it is 0.
    ///
    /// # Errors
    /// Why the node cannot take it; nothing was changed.
    pub fn place_on(&mut self, pod: &Arc<Pod>, node: NodeId) -> Result<Placement, Refusal> {
        let Some(profile) = self.profile_of(pod).cloned() else {
            return Err(Refusal::unresolvable(Unplaced::no_profile(pod).to_string()));
        };
        if !self.cluster.nodes().contains(node) {
            return Err(Refusal::unresolvable("node(s) are gone"));
        }
        let shape = self.cluster.shape(pod);
        let question = Question { profile: &profile, pod, shape: &shape };
        if let Some(refusal) = Cached::refusal_of(question, &mut self.cluster, node) {
            return Err(refusal);
        }
        let reservation = self.reserve(pod, node).map_err(|unplaced| match unplaced {
            Unplaced::NotReserved { refusal, .. } | Unplaced::Held { refusal, .. } => refusal,
            other => Refusal::unschedulable(other.to_string()),
        })?;
        let mut placement = self.placement(node, 0, None);
        placement.annotations = reservation.annotations;
        let placed =
            if placement.annotations.is_empty() { pod.clone() } else { annotated(pod, &placement.annotations) };
        self.cluster.place(placed, node);
        Ok(placement)
    }

    /// How far the engine has come in its sequences.
    pub fn course(&self) -> Course {
        Course { rng: self.rng.clone(), next_sample: self.next_sample }
    }

    /// Goes on from there.
    pub fn set_course(&mut self, course: Course) {
        self.rng = course.rng;
        self.next_sample = course.next_sample;
    }
}
