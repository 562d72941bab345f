//! Which volumes a claim can have: what the binder and the scheduler agree on.

use super::{PersistentVolume, PersistentVolumePhase};
use crate::api::persistent_volume_claim::{BOUND_BY_CONTROLLER, PersistentVolumeMode};
use crate::api::{ObjectReference, PersistentVolumeClaim};
use crate::kind::Described;
use crate::quantity::Quantity;
use crate::selector::Selector;

impl PersistentVolume {
    /// How much it holds.
    pub fn size(&self) -> Quantity {
        self.spec.capacity.get("storage").cloned().unwrap_or_default()
    }

    /// Whether the volume is set aside for this claim.
    pub fn is_for(&self, claim: &PersistentVolumeClaim) -> bool {
        let Some(reference) = &self.spec.claim_ref else { return false };
        let meta = &claim.metadata;
        meta.name.as_deref() == Some(&reference.name)
            && meta.namespace.as_deref().unwrap_or_default() == reference.namespace
            && (reference.uid.is_empty() || meta.uid.as_deref() == Some(&reference.uid))
    }

    /// The volume as it is when it is set aside for the claim.
    #[must_use]
    pub fn set_aside_for(&self, claim: &PersistentVolumeClaim) -> Self {
        let mut volume = self.clone();
        let meta = &claim.metadata;
        if !self.is_for(claim) {
            volume
                .metadata
                .annotations
                .get_or_insert_default()
                .insert(BOUND_BY_CONTROLLER.to_owned(), "yes".to_owned());
        }
        volume.spec.claim_ref = Some(ObjectReference {
            kind: PersistentVolumeClaim::INFO.kind.to_owned(),
            api_version: PersistentVolumeClaim::INFO.api_version(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
            ..ObjectReference::default()
        });
        volume
    }

    /// Whether the claim could have the volume: it is nobody else's, large enough, and of the same sort.
    pub fn suits(&self, claim: &PersistentVolumeClaim) -> bool {
        (self.spec.claim_ref.is_none() || self.is_for(claim))
            && self.size() >= claim.size()
            && self.has_mode_of(claim)
            && self.spec.volume_attributes_class_name.as_deref().unwrap_or_default()
                == claim.spec.volume_attributes_class_name.as_deref().unwrap_or_default()
            && self.metadata.deletion_timestamp.is_none()
    }

    /// Whether a volume that suits is also offered to everybody, in the claim's class and with the labels that it wants.
    pub fn is_offered_to(&self, claim: &PersistentVolumeClaim, selector: Option<&Selector>) -> bool {
        self.status.phase == PersistentVolumePhase::Available
            && self.class() == claim.class()
            && selector.is_none_or(|selector| selector.matches_optional(self.metadata.labels.as_ref()))
            && self.has_access_of(claim)
    }

    /// Whether it can be used in all the ways that the claim wants.
    pub fn has_access_of(&self, claim: &PersistentVolumeClaim) -> bool {
        claim.spec.access_modes.iter().all(|mode| self.spec.access_modes.contains(mode))
    }

    /// Whether it is a file system or a device as the claim wants.
    pub fn has_mode_of(&self, claim: &PersistentVolumeClaim) -> bool {
        let mode = |mode: &Option<PersistentVolumeMode>| mode.clone().unwrap_or(PersistentVolumeMode::Filesystem);
        mode(&self.spec.volume_mode) == mode(&claim.spec.volume_mode)
    }
}
