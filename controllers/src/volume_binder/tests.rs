use longshore_core::api::persistent_volume::PersistentVolumePhase;
use longshore_core::api::persistent_volume_claim::{PersistentVolumeClaimPhase, SELECTED_NODE, STORAGE_PROVISIONER};
use longshore_core::api::{Event, ObjectReference};
use longshore_core::kind::Kind;
use longshore_core::testing::client::Faults;
use serde_json::{Value, json};

use super::*;
use crate::ControllerManager;
use crate::plan::ObjectRef;
use crate::testing::World;
use crate::volume_protection::{ClaimProtection, VolumeProtection};

fn controllers(manager: &mut ControllerManager) {
    manager.add(VolumeBinder);
    manager.add(ClaimProtection);
    manager.add(VolumeProtection);
}

async fn add<K: Kind>(world: &World, value: Value) {
    world.create(serde_json::from_value::<K>(value).unwrap()).await;
}

async fn add_claim(world: &World, name: &str, size: &str, more: Value) {
    let mut spec = json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": size } } });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    add::<PersistentVolumeClaim>(world, json!({ "metadata": { "namespace": "ns", "name": name }, "spec": spec })).await;
}

async fn add_volume(world: &World, name: &str, size: &str, more: Value) {
    let mut spec =
        json!({ "accessModes": ["ReadWriteOnce"], "capacity": { "storage": size }, "hostPath": { "path": "/data" } });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let labels = json!({ "name": name });
    add::<PersistentVolume>(world, json!({ "metadata": { "name": name, "labels": labels }, "spec": spec })).await;
}

async fn add_class(world: &World, name: &str, mode: &str, marked: bool) {
    let annotations = json!({ "storageclass.kubernetes.io/is-default-class": marked.to_string() });
    let class = json!({ "metadata": { "name": name, "annotations": annotations }, "provisioner": "x.io/y", "volumeBindingMode": mode });
    add::<StorageClass>(world, class).await;
}

fn claim(world: &World, name: &str) -> PersistentVolumeClaim {
    world.one(name)
}

fn volume(world: &World, name: &str) -> PersistentVolume {
    world.one(name)
}

/// The phases of a claim and of a volume.
fn phases(world: &World, a: &str, b: &str) -> (PersistentVolumeClaimPhase, PersistentVolumePhase) {
    (claim(world, a).status.phase, volume(world, b).status.phase)
}

fn said(world: &World, reason: &str) -> Option<String> {
    world.all::<Event>().into_iter().find(|event| event.reason == reason).map(|event| event.message)
}

fn remove<K: Kind>(world: &World, name: &str) {
    world.server.remove(ObjectRef::of(&world.one::<K>(name)).target());
}

const BOUND: (PersistentVolumeClaimPhase, PersistentVolumePhase) =
    (PersistentVolumeClaimPhase::Bound, PersistentVolumePhase::Bound);

#[tokio::test]
async fn a_claim_gets_the_smallest_volume_that_fits() {
    let world = World::new(1);
    world
        .with_all(controllers, async {
            add_volume(&world, "small", "1Gi", json!({})).await;
            add_volume(&world, "big", "9Gi", json!({})).await;
            add_volume(&world, "fits", "5Gi", json!({})).await;
            add_volume(&world, "many", "3Gi", json!({ "accessModes": ["ReadWriteOnce", "ReadWriteMany"] })).await;
            add_volume(&world, "other", "3Gi", json!({ "storageClassName": "gold" })).await;
            add_volume(&world, "block", "3Gi", json!({ "volumeMode": "Block" })).await;
            add_volume(&world, "shared", "3Gi", json!({ "accessModes": ["ReadOnlyMany"] })).await;
            add_claim(&world, "data", "2Gi", json!({})).await;
            world.settle().await;
            let bound = claim(&world, "data");
            assert_eq!(bound.spec.volume_name, "fits");
            assert!(bound.is_fully_bound());
            assert_eq!(bound.status.capacity["storage"].to_string(), "5Gi");
            assert_eq!(phases(&world, "data", "fits"), BOUND);
            let reference = volume(&world, "fits").spec.claim_ref.unwrap();
            assert_eq!((reference.name.as_str(), Some(reference.uid)), ("data", bound.metadata.uid));
            assert_eq!(volume(&world, "big").status.phase, PersistentVolumePhase::Available);

            add_claim(&world, "picky", "1Gi", json!({ "selector": { "matchLabels": { "name": "big" } } })).await;
            add_claim(&world, "named", "1Gi", json!({ "volumeName": "many", "storageClassName": "" })).await;
            add_claim(&world, "wrong", "1Gi", json!({ "volumeName": "other" })).await;
            world.settle().await;
            assert_eq!(phases(&world, "picky", "big"), BOUND);
            assert_eq!(phases(&world, "named", "many"), BOUND);
            assert_eq!(claim(&world, "wrong").status.phase, PersistentVolumeClaimPhase::Pending);
            let text = "Cannot bind to requested volume \"other\": storageClassName does not match";
            assert_eq!(said(&world, "VolumeMismatch").as_deref(), Some(text));
        })
        .await;
}

#[tokio::test]
async fn two_claims_never_share_a_volume_whatever_fails() {
    for seed in 0..20 {
        let world = World::new(seed);
        world
            .with_all(controllers, async {
                for name in ["a", "b", "c"] {
                    add_claim(&world, name, "1Gi", json!({})).await;
                    add_volume(&world, &format!("pv-{name}"), "1Gi", json!({})).await;
                }
                let faults = Faults { refused: 0.2, answer_lost: 0.2, watch_cut: 0.1, ..Faults::default() };
                world.server.set_faults(faults);
                world.settle().await;
                world.server.set_faults(Faults::default());
                world.settle().await;
                let mut used: Vec<String> =
                    world.all::<PersistentVolumeClaim>().into_iter().map(|claim| claim.spec.volume_name).collect();
                used.sort();
                assert_eq!(used, ["pv-a", "pv-b", "pv-c"], "seed {seed}");
                assert!(world.all::<PersistentVolume>().iter().all(|v| v.status.phase == PersistentVolumePhase::Bound));
            })
            .await;
    }
}

#[tokio::test]
async fn a_claim_says_what_it_waits_for() {
    let world = World::new(3);
    world
        .with_all(controllers, async {
            add_class(&world, "later", "WaitForFirstConsumer", false).await;
            add_class(&world, "now", "Immediate", false).await;
            add_claim(&world, "none", "1Gi", json!({})).await;
            add_claim(&world, "unknown", "1Gi", json!({ "storageClassName": "unknown" })).await;
            add_claim(&world, "later", "1Gi", json!({ "storageClassName": "later" })).await;
            add_claim(&world, "now", "1Gi", json!({ "storageClassName": "now" })).await;
            add_volume(&world, "offered", "1Gi", json!({ "storageClassName": "later" })).await;
            world.settle().await;
            let text = "no persistent volumes available for this claim and no storage class is set";
            assert_eq!(said(&world, "FailedBinding").as_deref(), Some(text));
            let text = "storageclass.storage.k8s.io \"unknown\" not found";
            assert_eq!(said(&world, "ProvisioningFailed").as_deref(), Some(text));
            let text = "waiting for first consumer to be created before binding";
            assert_eq!(said(&world, "WaitForFirstConsumer").as_deref(), Some(text));
            assert!(said(&world, "ExternalProvisioning").unwrap().contains("external provisioner 'x.io/y'"));
            assert_eq!(claim(&world, "now").annotation(STORAGE_PROVISIONER), "x.io/y");

            // The scheduler chooses a node: then a provisioner is asked.
            assert_eq!(claim(&world, "later").annotation(STORAGE_PROVISIONER), "");
            world.edit::<PersistentVolumeClaim>("later", |claim| {
                claim.metadata.annotations.get_or_insert_default().insert(SELECTED_NODE.into(), "n1".into());
            });
            world.settle().await;
            assert_eq!(claim(&world, "later").annotation(STORAGE_PROVISIONER), "x.io/y");
            // What the provisioner makes is set aside for the claim.
            let uid = claim(&world, "later").metadata.uid.unwrap();
            let reference = json!({ "namespace": "ns", "name": "later", "uid": uid });
            add_volume(&world, "made", "1Gi", json!({ "storageClassName": "later", "claimRef": reference })).await;
            world.settle().await;
            assert_eq!(phases(&world, "later", "made"), BOUND);
        })
        .await;
}

#[tokio::test]
async fn claims_without_a_class_get_the_default_when_there_is_one() {
    let world = World::new(4);
    world
        .with_all(controllers, async {
            add_claim(&world, "none", "1Gi", json!({ "storageClassName": "" })).await;
            add_claim(&world, "any", "1Gi", json!({})).await;
            world.settle().await;
            add_class(&world, "usual", "Immediate", true).await;
            world.settle().await;
            assert_eq!(claim(&world, "any").class(), "usual");
            assert_eq!(claim(&world, "none").class(), "");
        })
        .await;
}

#[tokio::test]
async fn a_volume_whose_claim_goes_is_kept_or_left_to_who_made_it() {
    let world = World::new(5);
    world
        .with_all(controllers, async {
            for (name, policy) in [("keep", "Retain"), ("made", "Delete"), ("lost", "Delete"), ("wipe", "Recycle")] {
                add_volume(&world, name, "1Gi", json!({ "persistentVolumeReclaimPolicy": policy })).await;
                if name == "made" {
                    world.edit::<PersistentVolume>(name, |volume| {
                        let annotations = volume.metadata.annotations.get_or_insert_default();
                        annotations.insert("pv.kubernetes.io/provisioned-by".into(), "x.io/y".into());
                    });
                }
                add_claim(&world, name, "1Gi", json!({ "volumeName": name })).await;
            }
            world.settle().await;
            for name in ["keep", "made", "lost", "wipe"] {
                assert_eq!(phases(&world, name, name), BOUND);
                remove::<PersistentVolumeClaim>(&world, name);
            }
            world.settle().await;
            let phase = |name| volume(&world, name).status.phase;
            assert_eq!(
                (phase("keep"), phase("made")),
                (PersistentVolumePhase::Released, PersistentVolumePhase::Released)
            );
            assert_eq!((phase("lost"), phase("wipe")), (PersistentVolumePhase::Failed, PersistentVolumePhase::Failed));
            assert!(said(&world, "VolumeFailedDelete").unwrap().contains("no deletable volume plugin matched"));

            // Another claim of that name is another claim.
            add_claim(&world, "keep", "1Gi", json!({})).await;
            world.settle().await;
            assert_eq!(
                phases(&world, "keep", "keep"),
                (PersistentVolumeClaimPhase::Pending, PersistentVolumePhase::Released)
            );
            // An administrator offers it again.
            world.edit::<PersistentVolume>("keep", |volume| volume.spec.claim_ref = None);
            world.settle().await;
            assert_eq!(phases(&world, "keep", "keep"), BOUND);
        })
        .await;
}

#[tokio::test]
async fn a_claim_whose_volume_is_gone_is_lost() {
    let world = World::new(6);
    world
        .with_all(controllers, async {
            add_volume(&world, "pv", "1Gi", json!({})).await;
            add_claim(&world, "data", "1Gi", json!({})).await;
            world.settle().await;
            remove::<PersistentVolume>(&world, "pv");
            world.settle().await;
            let lost = claim(&world, "data").status;
            assert_eq!((lost.phase, lost.capacity.len()), (PersistentVolumeClaimPhase::Lost, 0));
            let text = "Bound claim has lost its PersistentVolume. Data on the volume is lost!";
            assert_eq!(said(&world, "ClaimLost").as_deref(), Some(text));
        })
        .await;
}

#[tokio::test]
async fn a_volume_set_aside_for_a_claim_that_has_another_is_offered_again() {
    let world = World::new(7);
    world
        .with_all(controllers, async {
            add_volume(&world, "first", "1Gi", json!({})).await;
            add_claim(&world, "data", "1Gi", json!({})).await;
            world.settle().await;
            let data = claim(&world, "data");
            add_volume(&world, "chosen", "1Gi", json!({})).await;
            world.settle().await;
            world.edit::<PersistentVolume>("chosen", |volume| *volume = volume.set_aside_for(&data));
            add_volume(&world, "by-hand", "1Gi", json!({})).await;
            world.edit::<PersistentVolume>("by-hand", |volume| {
                let uid = data.metadata.uid.clone().unwrap();
                let (namespace, name) = ("ns".into(), "data".into());
                volume.spec.claim_ref = Some(ObjectReference { namespace, name, uid, ..ObjectReference::default() });
            });
            world.settle().await;
            assert!(volume(&world, "chosen").spec.claim_ref.is_none());
            let reference = volume(&world, "by-hand").spec.claim_ref.unwrap();
            assert_eq!((reference.name.as_str(), reference.uid.as_str()), ("data", ""));
            assert_eq!(claim(&world, "data").spec.volume_name, "first");
        })
        .await;
}
