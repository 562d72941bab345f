//! A pod's claims, by what has become of them.

use std::sync::Arc;

use longshore_core::api::persistent_volume_claim::PersistentVolumeClaimPhase;
use longshore_core::api::pod::Pod;
use longshore_core::api::pod::helpers::{claim_name, owns_claim};
use longshore_core::api::storage_class::VolumeBindingMode;
use longshore_core::api::{PersistentVolumeClaim, StorageClass};
use longshore_core::scheduling::Refusal;
use longshore_core::scheduling::cluster::Cluster;

use super::storage;

/// A pod's claims, by what has become of them.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// Names of the volumes that claims are bound to.
    pub(super) bound: Vec<String>,
    /// Claims that wait for their first pod to be placed.
    pub(super) waiting: Vec<Arc<PersistentVolumeClaim>>,
    /// Whether there are claims without a volume that do not wait.
    pub(super) immediate: bool,
}

impl Claims {
    /// The claims of a pod.
    ///
    /// # Errors
    /// A claim is missing, lost, on its way out, or another pod's.
    pub(super) fn of(pod: &Pod, cluster: &Cluster) -> Result<Self, Refusal> {
        let mut used = Vec::new();
        for volume in &pod.spec.volumes {
            let Some(name) = claim_name(pod, volume) else { continue };
            let own = volume.ephemeral.is_some();
            used.push(usable(pod, cluster, &name, own)?);
        }
        let mut claims = Self::default();
        for claim in used {
            if claim.is_fully_bound() {
                claims.bound.push(claim.spec.volume_name.clone());
            } else if claim.spec.volume_name.is_empty() && waits(cluster, claim)? {
                claims.waiting.push(Arc::new(claim.clone()));
            } else {
                claims.immediate = true;
            }
        }
        Ok(claims)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bound.is_empty() && self.waiting.is_empty() && !self.immediate
    }
}

fn usable<'c>(pod: &Pod, cluster: &'c Cluster, name: &str, own: bool) -> Result<&'c PersistentVolumeClaim, Refusal> {
    let claim = storage::claim(cluster, pod, name).map_err(|missing| {
        if !own {
            return missing;
        }
        let text = format!("waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}");
        Refusal::unresolvable(text)
    })?;
    if claim.status.phase == PersistentVolumeClaimPhase::Lost {
        let volume = &claim.spec.volume_name;
        let text = format!("persistentvolumeclaim {name:?} bound to non-existent persistentvolume {volume:?}");
        return Err(Refusal::unresolvable(text));
    }
    if claim.metadata.deletion_timestamp.is_some() {
        return Err(Refusal::unresolvable(format!("persistentvolumeclaim {name:?} is being deleted")));
    }
    if own && !owns_claim(pod, claim) {
        let meta = &pod.metadata;
        let (namespace, pod) =
            (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
        let text = format!("PVC {namespace}/{name} was not created for pod {namespace}/{pod} (pod is not owner)");
        return Err(Refusal::unresolvable(text));
    }
    Ok(claim)
}

/// Whether the claim gets its volume when its first pod is placed.
fn waits(cluster: &Cluster, claim: &PersistentVolumeClaim) -> Result<bool, Refusal> {
    let name = claim.class();
    let class: Option<&StorageClass> = cluster.object("", name).filter(|_| !name.is_empty());
    match class.map(|class| &class.volume_binding_mode) {
        None => Ok(false),
        Some(Some(mode)) => Ok(*mode == VolumeBindingMode::WaitForFirstConsumer),
        Some(None) => Err(Refusal::unresolvable(format!("VolumeBindingMode not set for StorageClass {name:?}"))),
    }
}
