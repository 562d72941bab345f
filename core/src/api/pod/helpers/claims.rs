//! The claims behind a pod's volumes.

use std::borrow::Cow;

use crate::api::PersistentVolumeClaim;
use crate::api::pod::{Pod, Volume};

/// The name of the claim behind a volume of the pod, which may have been made for the pod alone; `None` for other volumes.
pub fn claim_name<'v>(pod: &Pod, volume: &'v Volume) -> Option<Cow<'v, str>> {
    if let Some(claim) = &volume.persistent_volume_claim {
        return Some(Cow::Borrowed(&claim.claim_name));
    }
    volume.ephemeral.as_ref()?;
    let pod = pod.metadata.name.as_deref().unwrap_or_default();
    Some(Cow::Owned(format!("{pod}-{}", volume.name)))
}

/// Whether the claim was made for this pod alone.
pub fn owns_claim(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    let owners = claim.metadata.owner_references.as_deref().unwrap_or_default();
    let controller = owners.iter().find(|owner| owner.controller == Some(true));
    controller.is_some_and(|owner| pod.metadata.uid.as_deref() == Some(&owner.uid))
}
