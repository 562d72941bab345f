use longshore_core::api::Event;
use longshore_core::api::stateful_set::{
    PersistentVolumeClaimRetentionPolicyType, RollingUpdateStatefulSetStrategy, StatefulSetOrdinals,
    StatefulSetPersistentVolumeClaimRetentionPolicy, VolumeClaimTemplate,
};
use longshore_core::clock::Clock;
use longshore_core::kind::KindType;
use longshore_core::testing::client::Faults;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::ControllerManager;
use crate::garbage_collector::GarbageCollector;
use crate::testing::{Kubelet, World, end, meta, selector, template};

fn controllers(manager: &mut ControllerManager) {
    manager.add(StatefulSetController);
    let kinds = [KindType::of::<StatefulSet>(), KindType::of::<Pod>(), KindType::of::<PersistentVolumeClaim>()];
    manager.add(GarbageCollector::new(kinds.to_vec()));
}

fn set(replicas: i32) -> StatefulSet {
    let mut set = StatefulSet { metadata: meta("db"), ..StatefulSet::default() };
    set.spec.replicas = Some(replicas);
    set.spec.selector = selector("db");
    set.spec.service_name = "db".into();
    set.spec.template = template("db", "db:1");
    set
}

fn names(world: &World) -> Vec<String> {
    world.all::<Pod>().into_iter().map(|pod| pod.metadata.name.unwrap()).collect()
}

fn now(world: &World) -> StatefulSet {
    world.one("db")
}

fn images(world: &World) -> Vec<String> {
    world.all::<Pod>().iter().map(|pod| pod.spec.containers[0].image.clone()).collect()
}

fn set_image(world: &World, image: &str) {
    world.edit::<StatefulSet>("db", |set| set.spec.template.spec.containers[0].image = image.into());
}

fn set_partition(world: &World, partition: i32) {
    let partition = Some(partition);
    let bounds = RollingUpdateStatefulSetStrategy { partition, ..RollingUpdateStatefulSetStrategy::default() };
    world.edit::<StatefulSet>("db", |set| set.spec.update_strategy.rolling_update = Some(bounds));
}

#[tokio::test]
async fn one_after_the_other_with_names_of_their_own() {
    let world = World::new(1);
    let mut kubelet = Kubelet::new(1);
    world
        .with_all(controllers, async {
            world.create(set(3)).await;
            world.yield_all().await;
            assert_eq!(names(&world), ["db-0"], "the second waits for the first");
            world.settle_with(&mut kubelet).await;
            assert_eq!(names(&world), ["db-0", "db-1", "db-2"]);
            let pod = world.one::<Pod>("db-1");
            let labels = pod.metadata.labels.unwrap();
            assert_eq!(
                (&*labels["statefulset.kubernetes.io/pod-name"], &*labels["apps.kubernetes.io/pod-index"]),
                ("db-1", "1")
            );
            assert_eq!((&*pod.spec.hostname, &*pod.spec.subdomain), ("db-1", "db"));
            let status = now(&world).status;
            assert_eq!((status.replicas, status.ready_replicas, status.available_replicas), (3, 3, 3));
            assert_eq!((status.current_replicas, status.updated_replicas), (3, 3));
            assert_eq!(labels["controller-revision-hash"], status.current_revision);
            assert_eq!(status.current_revision, status.update_revision);
            let text = "create Pod db-0 in StatefulSet db successful";
            assert!(world.all::<Event>().iter().any(|event| event.message == text));

            world.edit::<StatefulSet>("db", |set| set.spec.replicas = Some(1));
            world.settle_with(&mut kubelet).await;
            assert_eq!(names(&world), ["db-0"]);
            world.report::<Pod>("db-0", |pod| end(pod, PodPhase::Failed, 1, world.clock.now()));
            world.settle_with(&mut kubelet).await;
            assert_eq!(now(&world).status.ready_replicas, 1, "the failed one was replaced");
        })
        .await;
}

#[tokio::test]
async fn parallel_ones_do_not_wait_and_ordinals_begin_where_told() {
    let world = World::new(2);
    world
        .with_all(controllers, async {
            let mut all = set(3);
            all.spec.pod_management_policy = PodManagementPolicyType::Parallel;
            all.spec.ordinals = Some(StatefulSetOrdinals { start: 5 });
            world.create(all).await;
            world.yield_all().await;
            assert_eq!(names(&world), ["db-5", "db-6", "db-7"]);
            world.edit::<StatefulSet>("db", |set| set.spec.replicas = Some(1));
            world.yield_all().await;
            assert_eq!(names(&world), ["db-5"]);
        })
        .await;
}

#[tokio::test]
async fn updates_go_from_the_last_to_the_partition() {
    let world = World::new(3);
    let mut kubelet = Kubelet::new(3);
    world
        .with_all(controllers, async {
            let mut first = set(4);
            first.spec.revision_history_limit = Some(1);
            world.create(first).await;
            world.settle_with(&mut kubelet).await;
            let old = now(&world).status.current_revision;
            set_partition(&world, 2);
            set_image(&world, "db:2");
            world.settle_with(&mut kubelet).await;
            assert_eq!(images(&world), ["db:1", "db:1", "db:2", "db:2"]);
            let status = now(&world).status;
            assert_eq!((&status.current_revision, status.current_replicas, status.updated_replicas), (&old, 2, 2));
            // One below the partition comes back as it was.
            world.server.remove(crate::ObjectRef::of(&world.one::<Pod>("db-0")).target());
            world.settle_with(&mut kubelet).await;
            assert_eq!(images(&world)[0], "db:1");
            set_partition(&world, 0);
            world.settle_with(&mut kubelet).await;
            assert_eq!(images(&world), ["db:2"; 4]);
            let status = now(&world).status;
            assert_eq!((&status.current_revision, status.current_replicas), (&status.update_revision, 4));
            assert_ne!(status.current_revision, old);
            for version in 3..5 {
                set_image(&world, &format!("db:{version}"));
                world.settle_with(&mut kubelet).await;
            }
            assert_eq!(world.all::<ControllerRevision>().len(), 2, "the latest and one of history");
            set_image(&world, "db:3");
            world.settle_with(&mut kubelet).await;
            let mut numbers: Vec<_> = world.all::<ControllerRevision>().iter().map(|of| of.revision).collect();
            numbers.sort_unstable();
            assert_eq!(
                (images(&world), numbers),
                (vec!["db:3".to_owned(); 4], vec![4, 5]),
                "a revision came back as the latest"
            );
        })
        .await;
}

#[tokio::test]
async fn a_broken_update_stops_at_the_first() {
    let world = World::new(4);
    let mut kubelet = Kubelet::new(4);
    world
        .with_all(controllers, async {
            world.create(set(3)).await;
            world.settle_with(&mut kubelet).await;
            set_image(&world, "bad");
            world.settle_with(&mut kubelet).await;
            assert_eq!(images(&world), ["db:1", "db:1", "bad"]);
        })
        .await;
}

#[tokio::test]
async fn storage_outlives_pods_or_goes_with_them() {
    let world = World::new(5);
    let mut kubelet = Kubelet::new(5);
    world
        .with_all(controllers, async {
            let mut stored = set(2);
            let mut claim = VolumeClaimTemplate::default();
            claim.metadata.name = Some("data".into());
            stored.spec.volume_claim_templates = vec![claim];
            world.create(stored).await;
            world.settle_with(&mut kubelet).await;
            let claims = |world: &World| -> Vec<String> {
                world.all::<PersistentVolumeClaim>().into_iter().map(|claim| claim.metadata.name.unwrap()).collect()
            };
            assert_eq!(claims(&world), ["data-db-0", "data-db-1"]);
            let volume = &world.one::<Pod>("db-1").spec.volumes[0];
            assert_eq!(volume.persistent_volume_claim.as_ref().unwrap().claim_name, "data-db-1");
            world.edit::<StatefulSet>("db", |set| set.spec.replicas = Some(1));
            world.settle_with(&mut kubelet).await;
            assert_eq!(claims(&world).len(), 2, "kept by default");
            let delete = PersistentVolumeClaimRetentionPolicyType::Delete;
            world.edit::<StatefulSet>("db", |set| {
                set.spec.replicas = Some(2);
                set.spec.persistent_volume_claim_retention_policy =
                    Some(StatefulSetPersistentVolumeClaimRetentionPolicy {
                        when_deleted: delete.clone(),
                        when_scaled: delete.clone(),
                    });
            });
            world.settle_with(&mut kubelet).await;
            world.edit::<StatefulSet>("db", |set| set.spec.replicas = Some(1));
            world.settle_with(&mut kubelet).await;
            assert_eq!(claims(&world), ["data-db-0"]);
            world.api::<StatefulSet>().delete("db", &Default::default()).await.unwrap();
            world.settle_with(&mut kubelet).await;
            assert!(claims(&world).is_empty() && names(&world).is_empty());
        })
        .await;
}

#[tokio::test]
async fn a_pod_does_not_come_back_to_a_claim_that_goes() {
    let world = World::new(6);
    let mut kubelet = Kubelet::new(6);
    world
        .with_all(controllers, async {
            let mut stored = set(1);
            let mut claim = VolumeClaimTemplate::default();
            claim.metadata.name = Some("data".into());
            stored.spec.volume_claim_templates = vec![claim];
            world.create(stored).await;
            world.settle_with(&mut kubelet).await;
            world.edit::<PersistentVolumeClaim>("data-db-0", |claim| {
                claim.metadata.finalizers = Some(vec!["example.com/held".into()]);
            });
            let old = world.one::<PersistentVolumeClaim>("data-db-0").metadata.uid;
            world.api::<PersistentVolumeClaim>().delete("data-db-0", &Default::default()).await.unwrap();
            world.api::<Pod>().delete("db-0", &Default::default()).await.unwrap();
            world.settle_with(&mut kubelet).await;
            assert!(names(&world).is_empty());
            let mut free = world.one::<PersistentVolumeClaim>("data-db-0");
            free.metadata.finalizers = None;
            world.api().update(free, &Default::default()).await.unwrap();
            world.settle_with(&mut kubelet).await;
            assert_eq!(names(&world), ["db-0"]);
            assert_ne!(world.one::<PersistentVolumeClaim>("data-db-0").metadata.uid, old);
        })
        .await;
}

/// Changes of number and version under faults, with the process dying in between: one pod an ordinal always; while it is
/// ordered, at most one pod that served is missing; in the end everything is as wanted.
#[tokio::test]
async fn random_faults() {
    for seed in 0..9 {
        let world = World::new(seed);
        world.server.set_graceful(true);
        let mut kubelet = Kubelet::new(seed);
        let mut rng = rand_pcg::Pcg64::seed_from_u64(seed);
        let parallel = (seed + 1).is_multiple_of(3);
        let mut wanted = 3;
        let mut created = set(wanted);
        if parallel {
            created.spec.pod_management_policy = PodManagementPolicyType::Parallel;
        }
        world.create(created).await;
        let mut version = 1;
        for life in 0..4 {
            world
                .with_all(controllers, async {
                    kubelet.eager = 0.4;
                    for step in 0..rng.random_range(1..60) {
                        world.server.set_faults(Faults::default());
                        match rng.random_range(0..20) {
                            0 => {
                                version = rng.random_range(1..4);
                                set_image(&world, &format!("db:{version}"));
                            }
                            1 => {
                                wanted = rng.random_range(0..5);
                                world.edit::<StatefulSet>("db", |set| set.spec.replicas = Some(wanted));
                            }
                            _ => {}
                        }
                        let before: Vec<_> = world.all::<Pod>().into_iter().filter(|pod| !is_deleted(pod)).collect();
                        world.server.set_faults(Faults {
                            refused: 0.1,
                            answer_lost: 0.1,
                            watch_cut: 0.1,
                            expired: 0.1,
                        });
                        for _ in 0..rng.random_range(1..30) {
                            tokio::task::yield_now().await;
                        }
                        if rng.random_bool(0.6) {
                            world.clock.advance_to_next();
                        }
                        if rng.random_bool(0.2) {
                            world.server.set_lagging(rng.random_bool(0.5));
                        }
                        let place = format!("seed {seed} life {life} step {step}");
                        let pods = world.all::<Pod>();
                        assert!(pods.iter().all(|pod| ordinal(&now(&world), pod).is_some()), "{place}");
                        // No pod is taken away while one before it that shall stay is on its way out. One without a node goes at once.
                        let placed = before.iter().filter(|old| !old.spec.node_name.is_empty());
                        let gone = placed.filter(|old| {
                            pods.iter().all(|pod| pod.metadata.uid != old.metadata.uid || is_deleted(pod))
                        });
                        assert!(parallel || gone.count() <= 1, "{place}: several were taken away at once");
                        kubelet.step(&world);
                    }
                    world.server.set_lagging(false);
                    world.server.set_faults(Faults::default());
                    if life == 3 {
                        kubelet.eager = 1.0;
                        world.settle().await;
                        world.settle_with(&mut kubelet).await;
                        world.settle_with(&mut kubelet).await;
                    }
                })
                .await;
        }
        let expected: Vec<_> = (0..wanted).map(|ordinal| format!("db-{ordinal}")).collect();
        assert_eq!(names(&world), expected, "seed {seed}");
        assert!(
            images(&world).iter().all(|image| *image == format!("db:{version}")),
            "seed {seed}: {:?}",
            images(&world)
        );
        assert_eq!(now(&world).status.ready_replicas, wanted, "seed {seed}");
    }
}
