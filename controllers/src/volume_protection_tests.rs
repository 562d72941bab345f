use longshore_core::client::params::DeleteParams;

use super::*;
use crate::ControllerManager;
use crate::plan::ObjectRef;
use crate::testing::{World, meta};

fn controllers(manager: &mut ControllerManager) {
    manager.add(ClaimProtection);
    manager.add(VolumeProtection);
}

fn pod(node: &str) -> Pod {
    let mut pod = Pod { metadata: meta("user"), ..Pod::default() };
    let volume = serde_json::json!({ "name": "data", "persistentVolumeClaim": { "claimName": "data" } });
    pod.spec.volumes = vec![serde_json::from_value(volume).unwrap()];
    pod.spec.node_name = node.into();
    pod
}

async fn delete<K: Kind>(world: &World, name: &str) {
    let object = world.one::<K>(name);
    world.client.delete(ObjectRef::of(&object).target(), &DeleteParams::default()).await.unwrap();
    world.settle().await;
}

#[tokio::test]
async fn a_claim_stays_while_a_pod_uses_it() {
    let world = World::new(1);
    world
        .with_all(controllers, async {
            world.create(PersistentVolumeClaim { metadata: meta("data"), ..Default::default() }).await;
            world.create(pod("n1")).await;
            world.settle().await;
            delete::<PersistentVolumeClaim>(&world, "data").await;
            assert!(world.one::<PersistentVolumeClaim>("data").metadata.deletion_timestamp.is_some());
            delete::<Pod>(&world, "user").await;
            assert!(world.all::<PersistentVolumeClaim>().is_empty());
        })
        .await;
}

#[tokio::test]
async fn a_claim_whose_pod_has_no_node_goes_at_once() {
    let world = World::new(2);
    world
        .with_all(controllers, async {
            world.create(PersistentVolumeClaim { metadata: meta("data"), ..Default::default() }).await;
            world.create(pod("")).await;
            world.settle().await;
            delete::<PersistentVolumeClaim>(&world, "data").await;
            assert!(world.all::<PersistentVolumeClaim>().is_empty());
        })
        .await;
}

#[tokio::test]
async fn a_pod_that_the_cache_lacks_holds_its_claim() {
    let world = World::new(3);
    let (informers, driver) = world.driver(ClaimProtection);
    let mut claim = PersistentVolumeClaim { metadata: meta("data"), ..Default::default() };
    claim.metadata.finalizers = Some(vec![persistent_volume_claim::PROTECTION.into()]);
    let claim = world.create(claim).await;
    world.create(pod("n1")).await;
    world.client.delete(ObjectRef::of(&*claim).target(), &DeleteParams::default()).await.unwrap();
    informers.of::<PersistentVolumeClaim>().as_dyn().seed(vec![Arc::new(world.one::<PersistentVolumeClaim>("data"))]);
    informers.of::<Pod>().as_dyn().seed(Vec::new());
    driver.process(driver.queue().get().await.unwrap()).await;
    assert_eq!(world.all::<PersistentVolumeClaim>().len(), 1);
}

#[tokio::test]
async fn a_volume_stays_while_it_is_bound() {
    let world = World::new(4);
    world
        .with_all(controllers, async {
            for name in ["bound", "free"] {
                let mut volume = PersistentVolume::default();
                volume.metadata.name = Some(name.into());
                world.create(volume).await;
            }
            world.report::<PersistentVolume>("bound", |volume| volume.status.phase = PersistentVolumePhase::Bound);
            world.settle().await;
            delete::<PersistentVolume>(&world, "bound").await;
            delete::<PersistentVolume>(&world, "free").await;
            assert_eq!(world.all::<PersistentVolume>().len(), 1);
            world.report::<PersistentVolume>("bound", |volume| volume.status.phase = PersistentVolumePhase::Released);
            world.settle().await;
            assert!(world.all::<PersistentVolume>().is_empty());
        })
        .await;
}
