//! What is next for a claim.

use std::sync::Arc;

use longshore_core::api::persistent_volume_claim::{
    BETA_STORAGE_PROVISIONER, BIND_COMPLETED, BOUND_BY_CONTROLLER, PersistentVolumeClaimPhase,
    PersistentVolumeClaimStatus, SELECTED_NODE, STORAGE_PROVISIONER,
};
use longshore_core::api::storage_class::{NO_PROVISIONER, VolumeBindingMode};
use longshore_core::api::{PersistentVolume, PersistentVolumeClaim, Pod, StorageClass};
use longshore_core::events::Severity::{Normal, Warning};
use longshore_core::informer::ObjectKey;
use longshore_core::kind::KindType;
use longshore_core::selector::LabelSelector;

use crate::controller::View;
use crate::plan::{Action, ObjectRef};
use crate::pods::using_claim;

pub(super) fn reconcile(view: &View<'_>, claim: &PersistentVolumeClaim) -> Vec<Action> {
    if !claim.annotation(BIND_COMPLETED).is_empty() {
        return keep(view, claim);
    }
    if claim.metadata.deletion_timestamp.is_some() {
        return Vec::new();
    }
    if claim.spec.volume_name.is_empty() {
        return look_for_volume(view, claim);
    }
    let Some(volume) = view.of::<PersistentVolume>().get("", &claim.spec.volume_name) else {
        return pending(claim).into_iter().collect();
    };
    if volume.is_for(claim) {
        return bind(&volume, claim);
    }
    let reason = match mismatch(&volume, claim) {
        None if volume.spec.claim_ref.is_none() => return bind(&volume, claim),
        Some(what) if volume.spec.claim_ref.is_none() => {
            let text = format!("Cannot bind to requested volume \"{}\": {what}", claim.spec.volume_name);
            Action::event(claim, Warning, "VolumeMismatch", text)
        }
        _ => {
            let text = format!("volume \"{}\" already bound to a different claim.", claim.spec.volume_name);
            Action::event(claim, Warning, "FailedBinding", text)
        }
    };
    [reason].into_iter().chain(pending(claim)).collect()
}

/// Why a volume that the claim asks for by name will not do.
fn mismatch(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<&'static str> {
    if volume.size() < claim.size() {
        Some("requested PV is too small")
    } else if volume.class() != claim.class() {
        Some("storageClassName does not match")
    } else if !volume.has_mode_of(claim) {
        Some("incompatible volumeMode")
    } else if !volume.has_access_of(claim) {
        Some("incompatible accessMode")
    } else {
        None
    }
}

fn look_for_volume(view: &View<'_>, claim: &PersistentVolumeClaim) -> Vec<Action> {
    let class = view.of::<StorageClass>().get("", claim.class());
    let waits = class.as_ref().and_then(|class| class.volume_binding_mode.clone());
    let waits = waits == Some(VolumeBindingMode::WaitForFirstConsumer);
    if let Some(volume) = find(view, claim, waits) {
        return bind(&volume, claim);
    }
    if !claim.has_class() {
        let classes = view.of::<StorageClass>().list();
        if let Some(default) = StorageClass::default_of(classes.iter().map(|class| &**class)) {
            let mut classed = claim.clone();
            classed.spec.storage_class_name.clone_from(&default.metadata.name);
            return vec![update(classed)];
        }
    }
    let mut actions = if waits && claim.annotation(SELECTED_NODE).is_empty() {
        vec![wait_for_pod(view, claim)]
    } else if claim.class().is_empty() {
        let text = "no persistent volumes available for this claim and no storage class is set";
        vec![Action::event(claim, Normal, "FailedBinding", text)]
    } else {
        provision(claim, class.as_deref())
    };
    actions.extend(pending(claim));
    actions
}

/// The volume that was set aside for the claim, or else of those that are offered and fit the one that can do least beyond
/// what is wanted, the smallest of them. A claim that waits for its pod only gets what was set aside.
fn find(view: &View<'_>, claim: &PersistentVolumeClaim, waits: bool) -> Option<Arc<PersistentVolume>> {
    let selector = claim.spec.selector.as_ref().map(LabelSelector::compile).transpose().ok()?;
    let mut volumes = view.of::<PersistentVolume>().list();
    volumes.retain(|volume| volume.suits(claim) && volume.has_access_of(claim));
    if let Some(own) = volumes.iter().find(|volume| volume.is_for(claim)) {
        return Some(own.clone());
    }
    volumes.retain(|volume| !waits && volume.is_offered_to(claim, selector.as_ref()));
    volumes.into_iter().min_by_key(|volume| (volume.spec.access_modes.len(), volume.size()))
}

fn wait_for_pod(view: &View<'_>, claim: &PersistentVolumeClaim) -> Action {
    let pods = using_claim(view, &ObjectKey::of(claim));
    let unplaced = pods.iter().filter(|pod| pod.spec.node_name.is_empty());
    let names: Vec<&str> = unplaced.filter_map(|pod: &Arc<Pod>| pod.metadata.name.as_deref()).collect();
    let (reason, text) = match names.as_slice() {
        [] => ("WaitForFirstConsumer", "waiting for first consumer to be created before binding".to_owned()),
        [name] => ("WaitForPodScheduled", format!("waiting for pod {name} to be scheduled")),
        names => ("WaitForPodScheduled", format!("waiting for pods {} to be scheduled", names.join(","))),
    };
    Action::event(claim, Normal, reason, text)
}

/// Says who shall make the volume.
fn provision(claim: &PersistentVolumeClaim, class: Option<&StorageClass>) -> Vec<Action> {
    let failed = |text: String| vec![Action::event(claim, Warning, "ProvisioningFailed", text)];
    let Some(class) = class else {
        return failed(format!("storageclass.storage.k8s.io \"{}\" not found", claim.class()));
    };
    let provisioner = &class.provisioner;
    if provisioner == NO_PROVISIONER {
        return failed(format!("no volume plugin matched name: {NO_PROVISIONER}"));
    }
    if claim.annotation(STORAGE_PROVISIONER) != provisioner {
        let mut told = claim.clone();
        let annotations = told.metadata.annotations.get_or_insert_default();
        for name in [STORAGE_PROVISIONER, BETA_STORAGE_PROVISIONER] {
            annotations.insert(name.to_owned(), provisioner.clone());
        }
        return vec![update(told)];
    }
    let text = format!(
        "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the system \
         administrator. If volume creation is delayed, please verify that the provisioner is running and correctly \
         registered."
    );
    vec![Action::event(claim, Normal, "ExternalProvisioning", text)]
}

/// The next step to bind the two to each other.
fn bind(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Vec<Action> {
    let named = volume.spec.claim_ref.as_ref().map(|reference| reference.uid.as_str());
    if named != claim.metadata.uid.as_deref() {
        return vec![Action::Update { object: Box::new(volume.set_aside_for(claim)), subresource: None }];
    }
    let mut bound = claim.clone();
    let annotations = bound.metadata.annotations.get_or_insert_default();
    annotations.insert(BIND_COMPLETED.to_owned(), "yes".to_owned());
    if bound.spec.volume_name.is_empty() {
        annotations.insert(BOUND_BY_CONTROLLER.to_owned(), "yes".to_owned());
        bound.spec.volume_name = volume.metadata.name.clone().unwrap_or_default();
    }
    if bound != *claim {
        return vec![update(bound)];
    }
    let status = PersistentVolumeClaimStatus {
        phase: PersistentVolumeClaimPhase::Bound,
        access_modes: volume.spec.access_modes.clone(),
        capacity: volume.spec.capacity.clone(),
        current_volume_attributes_class_name: volume.spec.volume_attributes_class_name.clone(),
        ..claim.status.clone()
    };
    with_status(claim, status).into_iter().collect()
}

/// Looks after a claim that was bound.
fn keep(view: &View<'_>, claim: &PersistentVolumeClaim) -> Vec<Action> {
    let name = &claim.spec.volume_name;
    if name.is_empty() {
        let text = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!";
        return lose(claim, "ClaimLost", text);
    }
    let Some(volume) = view.of::<PersistentVolume>().get("", name) else {
        // Whatever volume of that name there is.
        let kind = KindType::of::<PersistentVolume>();
        let volume = ObjectRef { kind, key: ObjectKey::new("", name), uid: String::new() };
        let lost = lose(claim, "ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!");
        let confirm = (!lost.is_empty()).then_some(Action::ConfirmGone(volume));
        return confirm.into_iter().chain(lost).collect();
    };
    if volume.spec.claim_ref.is_none() || volume.is_for(claim) {
        return bind(&volume, claim);
    }
    let text = "Two claims are bound to the same volume, this one is bound incorrectly";
    lose(claim, "ClaimMisbound", text)
}

fn lose(claim: &PersistentVolumeClaim, reason: &'static str, text: &str) -> Vec<Action> {
    let lost = PersistentVolumeClaimStatus { phase: PersistentVolumeClaimPhase::Lost, ..bare(claim) };
    let Some(lost) = with_status(claim, lost) else { return Vec::new() };
    vec![lost, Action::event(claim, Warning, reason, text)]
}

/// Its status without what it says of a volume.
fn bare(claim: &PersistentVolumeClaim) -> PersistentVolumeClaimStatus {
    PersistentVolumeClaimStatus { access_modes: Vec::new(), capacity: Default::default(), ..claim.status.clone() }
}

/// Says that the claim has no volume, unless it says so.
fn pending(claim: &PersistentVolumeClaim) -> Option<Action> {
    with_status(claim, PersistentVolumeClaimStatus { phase: PersistentVolumeClaimPhase::Pending, ..bare(claim) })
}

fn with_status(claim: &PersistentVolumeClaim, status: PersistentVolumeClaimStatus) -> Option<Action> {
    (status != claim.status).then(|| Action::update_status(PersistentVolumeClaim { status, ..claim.clone() }))
}

fn update(claim: PersistentVolumeClaim) -> Action {
    Action::Update { object: Box::new(claim), subresource: None }
}
