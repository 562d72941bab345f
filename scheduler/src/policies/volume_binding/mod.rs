//! VolumeBinding: the pod's claims have volumes that the node can reach, or will get them.

mod bind;
mod claims;
mod find;

use std::time::Duration;

use longshore_core::api::pod::Pod;
use longshore_core::api::{CSIDriver, CSINode, CSIStorageCapacity, PersistentVolume, StorageClass};
use longshore_core::kind::KindType;
use longshore_core::scheduling::cluster::Change;
use longshore_core::scheduling::{
    Candidates, ClusterEvent, Cycle, Filter, NodeSet, Policy, PreBind, PreFilter, Refusal, State, Update,
};

use super::storage;
use claims::Claims;

/// Refuses nodes that cannot reach a volume of the pod, and nodes where a claim that waits for its pod would find none and
/// get none; binds such claims before the pod is bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeBinding {
    patience: Duration,
}

impl Default for VolumeBinding {
    /// With upstream's patience of 600 seconds.
    fn default() -> Self {
        Self::new(Duration::from_secs(600))
    }
}

impl VolumeBinding {
    /// The policy; claims may take this long to get their volumes once the pod has a node.
    pub fn new(patience: Duration) -> Self {
        Self { patience }
    }
}

impl Policy for VolumeBinding {
    fn name(&self) -> &str {
        "VolumeBinding"
    }

    fn kinds(&self) -> Vec<&'static KindType> {
        let mut kinds = storage::kinds();
        kinds.extend([KindType::of::<CSINode>(), KindType::of::<CSIDriver>(), KindType::of::<CSIStorageCapacity>()]);
        kinds
    }

    fn may_help(&self, pod: &Pod, event: &ClusterEvent<'_>) -> bool {
        match event {
            ClusterEvent::NodeAdded(_) => true,
            ClusterEvent::NodeUpdated { old, new } => old.metadata.labels != new.metadata.labels,
            _ => {
                storage::is_own_claim(pod, event)
                    || storage::changed::<PersistentVolume>(event).is_some()
                    || storage::changed::<StorageClass>(event).is_some()
                    || storage::changed::<CSINode>(event).is_some()
                    || storage::changed::<CSIDriver>(event).is_some()
                    || storage::changed::<CSIStorageCapacity>(event).is_some()
            }
        }
    }

    fn as_filter(&self) -> Option<&dyn Filter> {
        Some(self)
    }

    fn as_pre_bind(&self) -> Option<&dyn PreBind> {
        Some(self)
    }
}

impl Filter for VolumeBinding {
    fn pre_filter(&self, cycle: Cycle<'_>, state: &mut State) -> Result<PreFilter, Refusal> {
        let claims = Claims::of(cycle.pod(), cycle.cluster())?;
        if claims.is_empty() {
            return Ok(PreFilter::Skip);
        }
        if claims.immediate {
            return Err(Refusal::unresolvable("pod has unbound immediate PersistentVolumeClaims"));
        }
        state.set(claims);
        Ok(PreFilter::All)
    }

    fn filter(&self, cycle: Cycle<'_>, state: &State, candidates: &mut Candidates) {
        let Some(claims) = state.get::<Claims>() else { return };
        let volumes = find::Volumes::for_claims(cycle.cluster(), claims);
        let nodes: Vec<_> = candidates.nodes().iter().collect();
        for node in nodes {
            if let Some(refusal) = volumes.refusal(cycle.node(node), claims) {
                candidates.refuse(node, refusal);
            }
        }
    }

    fn update(&self, cycle: Cycle<'_>, _state: &mut State, changes: &[Change], _affected: &mut NodeSet) -> Update {
        storage::update(cycle, changes, &self.kinds())
    }
}
