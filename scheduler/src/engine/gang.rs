//! Pods that are placed together or not at all.

use std::sync::Arc;

use longshore_core::api::pod::Pod;

use super::{Engine, Placement, Unplaced};

/// A gang that does not fit as a whole.
#[derive(Debug, Clone, thiserror::Error)]
#[error("pod {index} of the gang cannot be placed: {why}")]
pub struct GangRefused {
    /// Which pod found no place after the ones before it had theirs.
    pub index: usize,
    /// Why.
    pub why: Unplaced,
}

impl Engine {
    /// Places all these pods, in order, or none of them.
    ///
    /// # Errors
    /// The first pod that could not be placed; the ones before it were taken out again, so nothing was changed but the
    /// random sequence.
    pub fn place_all(&mut self, pods: &[Arc<Pod>]) -> Result<Vec<Placement>, GangRefused> {
        let mut placements = Vec::with_capacity(pods.len());
        for (index, pod) in pods.iter().enumerate() {
            match self.place(pod) {
                Ok(placement) => placements.push(placement),
                Err(why) => {
                    for placed in pods[..index].iter().rev() {
                        let meta = &placed.metadata;
                        self.unplace(
                            meta.namespace.as_deref().unwrap_or_default(),
                            meta.name.as_deref().unwrap_or_default(),
                        );
                    }
                    return Err(GangRefused { index, why });
                }
            }
        }
        Ok(placements)
    }
}
