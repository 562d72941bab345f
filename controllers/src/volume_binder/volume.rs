//! What is next for a volume.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use longshore_core::api::persistent_volume::{PROVISIONED_BY, PersistentVolumePhase};
use longshore_core::api::persistent_volume_claim::BOUND_BY_CONTROLLER;
use longshore_core::api::storage_class::PersistentVolumeReclaimPolicy;
use longshore_core::api::{ObjectReference, PersistentVolume, PersistentVolumeClaim};
use longshore_core::events::Severity;
use longshore_core::informer::ObjectKey;
use longshore_core::kind::KindType;

use crate::controller::View;
use crate::plan::{Action, ObjectRef};

pub(super) fn reconcile(view: &View<'_>, volume: &PersistentVolume, now: Timestamp) -> Vec<Action> {
    // One that names a claim without its uid waits for that claim.
    let Some(reference) = volume.spec.claim_ref.as_ref().filter(|reference| !reference.uid.is_empty()) else {
        return phase_action(volume, PersistentVolumePhase::Available, now).into_iter().collect();
    };
    let claim = view.of::<PersistentVolumeClaim>().get(&reference.namespace, &reference.name);
    let Some(claim) = claim.filter(|claim| claim.metadata.uid.as_deref() == Some(&reference.uid)) else {
        return release(volume, reference, now);
    };
    if claim.spec.volume_name.is_empty() {
        // The claim's next step is its own.
        return Vec::new();
    }
    if Some(&claim.spec.volume_name) == volume.metadata.name.as_ref() {
        return phase_action(volume, PersistentVolumePhase::Bound, now).into_iter().collect();
    }
    // The claim has another volume.
    if is_provisioned(volume) && policy(volume) == PersistentVolumeReclaimPolicy::Delete {
        return phase_action(volume, PersistentVolumePhase::Released, now).into_iter().collect();
    }
    vec![let_go(volume)]
}

fn policy(volume: &PersistentVolume) -> PersistentVolumeReclaimPolicy {
    volume.spec.persistent_volume_reclaim_policy.clone()
}

fn is_provisioned(volume: &PersistentVolume) -> bool {
    volume.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(PROVISIONED_BY))
}

/// The claim is gone: what becomes of the volume is for the provisioner that made it, or for an administrator.
fn release(volume: &PersistentVolume, reference: &ObjectReference, now: Timestamp) -> Vec<Action> {
    let released = volume.status.phase == PersistentVolumePhase::Released;
    if !released && volume.status.phase != PersistentVolumePhase::Failed {
        let claim = ObjectRef {
            kind: KindType::of::<PersistentVolumeClaim>(),
            key: ObjectKey::new(&reference.namespace, &reference.name),
            uid: reference.uid.clone(),
        };
        let released = phase_action(volume, PersistentVolumePhase::Released, now);
        return [Action::ConfirmGone(claim)].into_iter().chain(released).collect();
    }
    let (reason, text) = match policy(volume) {
        PersistentVolumeReclaimPolicy::Delete if !is_provisioned(volume) => {
            let name = volume.metadata.name.as_deref().unwrap_or_default();
            let text = format!(
                "error getting deleter volume plugin for volume \"{name}\": no deletable volume plugin matched"
            );
            ("VolumeFailedDelete", text)
        }
        PersistentVolumeReclaimPolicy::Recycle => {
            ("VolumeFailedRecycle", "No recycler plugin found for the volume!".to_owned())
        }
        _ => return Vec::new(),
    };
    let Some(mut failed) = phased(volume, PersistentVolumePhase::Failed, now) else { return Vec::new() };
    failed.status.message.clone_from(&text);
    vec![Action::update_status(failed), Action::event(volume, Severity::Warning, reason, text)]
}

/// Offers the volume again, to whom it was set aside for by hand if it was.
fn let_go(volume: &PersistentVolume) -> Action {
    let mut free = volume.clone();
    let chosen = free.metadata.annotations.as_mut().and_then(|all| all.remove(BOUND_BY_CONTROLLER)).is_some();
    if chosen {
        free.spec.claim_ref = None;
    } else if let Some(reference) = &mut free.spec.claim_ref {
        reference.uid = String::new();
        reference.resource_version = String::new();
    }
    Action::Update { object: Box::new(free), subresource: None }
}

/// The volume in a phase; `None` if it is in it.
fn phased(volume: &PersistentVolume, phase: PersistentVolumePhase, now: Timestamp) -> Option<PersistentVolume> {
    if volume.status.phase == phase {
        return None;
    }
    let mut volume = volume.clone();
    volume.status.phase = phase;
    volume.status.message = String::new();
    volume.status.reason = String::new();
    volume.status.last_phase_transition_time = Some(Time(Timestamp::from_second(now.as_second()).unwrap_or(now)));
    Some(volume)
}

fn phase_action(volume: &PersistentVolume, phase: PersistentVolumePhase, now: Timestamp) -> Option<Action> {
    phased(volume, phase, now).map(Action::update_status)
}
