//! Keeps claims while pods use them, and volumes while they are bound: a finalizer holds each until then.

use std::sync::Arc;

use jiff::Timestamp;
use longshore_core::api::persistent_volume::PersistentVolumePhase;
use longshore_core::api::{PersistentVolume, PersistentVolumeClaim, Pod, persistent_volume, persistent_volume_claim};
use longshore_core::informer::{Change, ObjectKey};
use longshore_core::kind::{AnyObject, Kind, KindType};

use crate::controller::{Controller, Triggers, View};
use crate::plan::{Action, Plan};
use crate::pods::{claims_of, index_by_claim, using_claim};

/// Puts the finalizer on an object that lacks it.
fn hold<K: Kind>(object: &K, finalizer: &str) -> Plan {
    let mut held = object.clone();
    AnyObject::meta_mut(&mut held).finalizers.get_or_insert_default().push(finalizer.to_owned());
    vec![Action::Update { object: Box::new(held), subresource: None }].into()
}

fn let_go<K: Kind>(object: &K, finalizer: &str) -> Action {
    let mut free = object.clone();
    if let Some(finalizers) = &mut AnyObject::meta_mut(&mut free).finalizers {
        finalizers.retain(|name| name != finalizer);
    }
    Action::Update { object: Box::new(free), subresource: None }
}

fn is_held(object: &dyn AnyObject, finalizer: &str) -> bool {
    object.meta().finalizers.iter().flatten().any(|name| name == finalizer)
}

/// Lets a deleted claim go when no pod that has a node uses it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ClaimProtection;

/// Whether a pod that some node may run uses a claim of its namespace.
fn uses(object: &dyn AnyObject, claim: &str) -> bool {
    let pod = object.as_any().downcast_ref::<Pod>();
    pod.is_some_and(|pod| !pod.spec.node_name.is_empty() && claims_of(pod).any(|key| &*key.name == claim))
}

impl Controller for ClaimProtection {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "persistentvolumeclaim_protection"
    }

    fn triggers(&self, triggers: &Triggers<ObjectKey>) {
        index_by_claim(triggers);
        triggers.on::<PersistentVolumeClaim, _>(|change| [ObjectKey::of(&**change.object())]);
        triggers.on::<Pod, _>(|change: &Change<Arc<Pod>>| match change {
            Change::Deleted(pod) => claims_of(pod).collect(),
            _ => Vec::new(),
        });
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, _now: Timestamp) -> Plan {
        let Some(claim) = view.of::<PersistentVolumeClaim>().get(&key.namespace, &key.name) else {
            return Plan::nothing();
        };
        let finalizer = persistent_volume_claim::PROTECTION;
        match (claim.metadata.deletion_timestamp.is_some(), is_held(&*claim, finalizer)) {
            (false, false) => hold(&*claim, finalizer),
            (true, true) if !using_claim(view, key).iter().any(|pod| uses(&**pod, &key.name)) => {
                // The cache may not know of a pod yet that was placed before the claim was deleted.
                let (kind, namespace) = (KindType::of::<Pod>(), key.namespace.clone());
                let confirm = Action::ConfirmNone { kind, namespace, name: key.name.clone(), concerns: uses };
                vec![confirm, let_go(&*claim, finalizer)].into()
            }
            _ => Plan::nothing(),
        }
    }
}

/// Lets a deleted volume go when it is not bound.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct VolumeProtection;

impl Controller for VolumeProtection {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "persistentvolume_protection"
    }

    fn triggers(&self, triggers: &Triggers<ObjectKey>) {
        triggers.on::<PersistentVolume, _>(|change| [ObjectKey::of(&**change.object())]);
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, _now: Timestamp) -> Plan {
        let Some(volume) = view.of::<PersistentVolume>().get("", &key.name) else { return Plan::nothing() };
        let finalizer = persistent_volume::PROTECTION;
        match (volume.metadata.deletion_timestamp.is_some(), is_held(&*volume, finalizer)) {
            (false, false) => hold(&*volume, finalizer),
            (true, true) if volume.status.phase != PersistentVolumePhase::Bound => {
                vec![let_go(&*volume, finalizer)].into()
            }
            _ => Plan::nothing(),
        }
    }
}

#[cfg(test)]
#[path = "volume_protection_tests.rs"]
mod tests;
