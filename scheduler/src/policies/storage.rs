//! What the policies about volumes share: which changes concern them, and upstream's words for what is missing.

use longshore_core::api::pod::Pod;
use longshore_core::api::pod::helpers::claim_name;
use longshore_core::api::{PersistentVolume, PersistentVolumeClaim, StorageClass};
use longshore_core::kind::{AnyObject, Described, Kind, KindType};
use longshore_core::scheduling::cluster::{Change, Cluster};
use longshore_core::scheduling::{ClusterEvent, Cycle, Refusal, Update};

/// Claims, volumes and classes: what every policy about volumes reads.
pub(super) fn kinds() -> Vec<&'static KindType> {
    vec![KindType::of::<PersistentVolumeClaim>(), KindType::of::<PersistentVolume>(), KindType::of::<StorageClass>()]
}

/// Whether what was worked out about the pod still holds after these changes: nothing but its volumes' objects can change
/// it, and the nodes that changed are looked at again anyway.
pub(super) fn update(cycle: Cycle<'_>, changes: &[Change], kinds: &[&'static KindType]) -> Update {
    let concerns = |change: &Change| match change {
        Change::Object(kind) => kinds.iter().any(|known| known.info == kind.info),
        _ => false,
    };
    if cycle.shape().volumes().next().is_some() && changes.iter().any(concerns) {
        Update::Recompute
    } else {
        Update::Done
    }
}

/// A claim of the pod's namespace.
///
/// # Errors
/// Upstream's refusal if it does not exist.
pub(super) fn claim<'c>(cluster: &'c Cluster, pod: &Pod, name: &str) -> Result<&'c PersistentVolumeClaim, Refusal> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let found = cluster.object(namespace, name);
    found.ok_or_else(|| Refusal::unresolvable(not_found::<PersistentVolumeClaim>(name)))
}

/// `persistentvolumeclaim "data" not found`: what upstream's caches say.
pub(super) fn not_found<K: Kind>(name: &str) -> String {
    let resource = if K::INFO.group.is_empty() {
        K::INFO.singular.to_owned()
    } else {
        format!("{}.{}", K::INFO.singular, K::INFO.group)
    };
    format!("{resource} {name:?} not found")
}

/// Whether the event is about an object of this kind that came or changed.
pub(super) fn changed<'e, K: Described>(event: &ClusterEvent<'e>) -> Option<&'e K> {
    match *event {
        ClusterEvent::ObjectChanged { object, .. } => (object as &dyn AnyObject).as_any().downcast_ref(),
        _ => None,
    }
}

/// Whether the event is about a claim that the pod uses.
pub(super) fn is_own_claim(pod: &Pod, event: &ClusterEvent<'_>) -> bool {
    changed::<PersistentVolumeClaim>(event).is_some_and(|claim| {
        claim.metadata.namespace == pod.metadata.namespace
            && pod
                .spec
                .volumes
                .iter()
                .any(|volume| claim_name(pod, volume).as_deref() == claim.metadata.name.as_deref())
    })
}
