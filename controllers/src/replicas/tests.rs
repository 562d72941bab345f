use std::time::Duration;

use longshore_core::api::pod::PodPhase;
use longshore_core::api::replication_controller::ReplicationControllerSpec;
use longshore_core::api::{Event, ReplicaSet, ReplicationController};
use longshore_core::client::params::{DeleteParams, PostParams, PropagationPolicy};
use longshore_core::clock::Clock;
use longshore_core::kind::KindType;
use longshore_core::testing::client::Faults;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::claim::is_controlled_by;
use crate::garbage_collector::GarbageCollector;
use crate::testing::{Kubelet, World, end, meta, selector, set_ready, template};

fn set(name: &str, replicas: i32) -> ReplicaSet {
    let mut set = ReplicaSet { metadata: meta(name), ..ReplicaSet::default() };
    set.spec.replicas = Some(replicas);
    set.spec.selector = selector(name);
    set.spec.template = template(name, "app:1");
    set
}

fn active(world: &World) -> Vec<Pod> {
    world.all::<Pod>().into_iter().filter(is_active).collect()
}

#[tokio::test]
async fn pods_come_and_go_and_the_status_tells() {
    let world = World::new(1);
    let mut kubelet = Kubelet::new(1);
    world
        .with_all(|manager| manager.add(ReplicaSetController::default()), async {
            world.create(set("web", 5)).await;
            world.settle_with(&mut kubelet).await;
            let status = world.one::<ReplicaSet>("web").status;
            assert_eq!((status.replicas, status.ready_replicas, status.available_replicas), (5, 5, 5));
            assert_eq!((status.fully_labeled_replicas, status.observed_generation), (5, 1));
            let pods = world.all::<Pod>();
            assert!(pods.iter().all(|pod| pod.metadata.name.as_deref().unwrap().starts_with("web-")));
            assert!(pods.iter().all(|pod| is_controlled_by(pod, &world.one::<ReplicaSet>("web"))));
            world.edit::<ReplicaSet>("web", |set| set.spec.replicas = Some(2));
            world.settle_with(&mut kubelet).await;
            let status = world.one::<ReplicaSet>("web").status;
            assert_eq!((world.all::<Pod>().len(), status.replicas, status.observed_generation), (2, 2, 2));
            let events = world.all::<Event>();
            let counted = |reason: &str| {
                events.iter().filter(|event| event.reason == reason).map(|event| event.count).sum::<i32>()
            };
            assert_eq!((counted("SuccessfulCreate"), counted("SuccessfulDelete")), (5, 3));
            let event = &events[0];
            assert!(event.message.starts_with("Created pod: web-"), "{}", event.message);
            assert_eq!((&*event.source.component, &*event.involved_object.name), ("replicaset-controller", "web"));
        })
        .await;
}

#[tokio::test]
async fn a_replication_controller_replaces_pods_that_ended() {
    let world = World::new(2);
    let mut kubelet = Kubelet::new(2);
    world
        .with_all(|manager| manager.add(ReplicationManager::default()), async {
            let spec = ReplicationControllerSpec {
                replicas: Some(2),
                template: Some(Box::new(template("old", "app:1"))),
                ..ReplicationControllerSpec::default()
            };
            let metadata = meta("old");
            world.create(ReplicationController { metadata, spec, ..ReplicationController::default() }).await;
            world.settle_with(&mut kubelet).await;
            assert_eq!(world.one::<ReplicationController>("old").status.ready_replicas, 2);
            let name = world.all::<Pod>()[0].metadata.name.clone().unwrap();
            world.report::<Pod>(&name, |pod| end(pod, PodPhase::Failed, 1, world.clock.now()));
            world.settle_with(&mut kubelet).await;
            assert_eq!((world.all::<Pod>().len(), active(&world).len()), (3, 2), "the failed one stays for people");
        })
        .await;
}

#[tokio::test]
async fn orphans_are_adopted_and_strangers_released() {
    let world = World::new(3);
    world
        .with_all(|manager| manager.add(ReplicaSetController::default()), async {
            let mut orphan = Pod { metadata: meta("orphan"), ..Pod::default() };
            orphan.metadata.labels = template("web", "").metadata.labels;
            world.create(orphan.clone()).await;
            world.create(set("web", 2)).await;
            world.settle().await;
            assert_eq!(world.all::<Pod>().len(), 2);
            let owner = world.one::<ReplicaSet>("web");
            assert!(is_controlled_by(&world.one::<Pod>("orphan"), &owner));
            world.edit::<Pod>("orphan", |pod| pod.metadata.labels = None);
            world.settle().await;
            assert!(controller_of(&world.one::<Pod>("orphan")).is_none());
            assert_eq!(world.all::<Pod>().len(), 3, "the released one was replaced");
            // Adopted again, it is one too many.
            world.edit::<Pod>("orphan", |pod| pod.metadata.labels = orphan.metadata.labels.clone());
            world.settle().await;
            assert_eq!(world.all::<Pod>().len(), 2);
        })
        .await;
}

#[tokio::test]
async fn an_owner_that_is_gone_on_the_server_adopts_nothing() {
    let world = World::new(4);
    let (informers, driver) = world.driver(ReplicaSetController::default());
    let owner = world.create(set("web", 1)).await;
    let mut orphan = Pod { metadata: meta("orphan"), ..Pod::default() };
    orphan.metadata.labels = template("web", "").metadata.labels;
    let orphan = world.create(orphan).await;
    informers.of::<ReplicaSet>().as_dyn().seed(vec![owner.clone()]);
    informers.of::<Pod>().as_dyn().seed(vec![orphan]);
    world.api::<ReplicaSet>().delete("web", &DeleteParams::default()).await.unwrap();
    driver.process(driver.queue().get().await.unwrap()).await;
    assert!(controller_of(&world.one::<Pod>("orphan")).is_none());
    assert!(informers.of::<ReplicaSet>().is_empty(), "the server's answer is believed");
}

#[tokio::test]
async fn a_refusal_becomes_a_condition_and_goes_when_it_works_again() {
    let world = World::new(5);
    world
        .with_all(|manager| manager.add(ReplicaSetController::default()), async {
            let refusal = || longshore_core::client::Status {
                code: 403,
                reason: "Forbidden".into(),
                message: "exceeded quota".into(),
                ..longshore_core::client::Status::default()
            };
            world.server.set_lagging(true);
            world.create(set("web", 3)).await;
            world.server.fail_with([refusal().into()]);
            world.server.set_lagging(false);
            world.yield_all().await;
            world.server.set_lagging(true);
            world.clock.advance_to_next();
            // The next look tells about the refusal; its creations succeed.
            world.yield_all().await;
            world.server.set_lagging(false);
            world.settle().await;
            assert_eq!(world.all::<Pod>().len(), 3);
            assert!(world.one::<ReplicaSet>("web").status.conditions.is_empty());
            let events = world.all::<Event>();
            let failed = events.iter().find(|event| event.reason == "FailedCreate").unwrap();
            assert_eq!((&*failed.message, &*failed.type_), ("Error creating: exceeded quota", "Warning"));
        })
        .await;
}

#[test]
fn the_condition_keeps_its_time_while_the_reason_stays() {
    let now = Timestamp::UNIX_EPOCH;
    let seen = |message: &str| Seen { failure: Some(("FailedCreate", message.into())), ..Seen::default() };
    let first = set("web", 1).observed(&seen("quota: 1"), now);
    assert_eq!(first.status.conditions[0].type_, "ReplicaFailure");
    let second = first.observed(&seen("quota: 2"), now + Duration::from_secs(9));
    assert_eq!(first, second, "messages that count do not make a write each time");
    assert!(second.observed(&Seen::default(), now).status.conditions.is_empty());
}

#[tokio::test]
async fn available_after_min_ready_seconds() {
    let world = World::new(6);
    let mut kubelet = Kubelet::new(6);
    world
        .with_all(|manager| manager.add(ReplicaSetController::default()), async {
            let mut slow = set("slow", 1);
            slow.spec.min_ready_seconds = 60;
            world.create(slow).await;
            world.settle_with(&mut kubelet).await;
            let status = world.one::<ReplicaSet>("slow").status;
            assert_eq!((status.ready_replicas, status.available_replicas), (1, 0));
            world.clock.advance(Duration::from_secs(60));
            world.yield_all().await;
            assert_eq!(world.one::<ReplicaSet>("slow").status.available_replicas, 1);
        })
        .await;
}

#[test]
fn victims_in_order() {
    let now = Timestamp::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let pod = |name: &str, node: &str, phase: PodPhase, ready_for: Option<u64>| {
        let mut pod = Pod { metadata: meta(name), ..Pod::default() };
        pod.metadata.uid = Some(name.into());
        pod.spec.node_name = node.into();
        pod.status.phase = phase;
        if let Some(seconds) = ready_for {
            set_ready(&mut pod, true, now - Duration::from_secs(seconds));
        }
        pod
    };
    let mut cheap = pod("cheap", "a", PodPhase::Running, Some(9000));
    cheap.metadata.annotations =
        Some([(String::from("controller.kubernetes.io/pod-deletion-cost"), "-1".into())].into());
    let expected = [
        pod("nowhere", "", PodPhase::Pending, None),
        pod("pending", "a", PodPhase::Pending, None),
        pod("unready", "a", PodPhase::Running, None),
        cheap,
        pod("crowded-young", "b", PodPhase::Running, Some(10)),
        pod("crowded-old-1", "b", PodPhase::Running, Some(9000)),
        pod("crowded-old-2", "b", PodPhase::Running, Some(9100)),
        pod("lonely", "c", PodPhase::Running, Some(9000)),
    ];
    let relatives: Vec<Arc<Pod>> = expected.iter().cloned().map(Arc::new).collect();
    let mut rng = rand_pcg::Pcg64::seed_from_u64(1);
    for _ in 0..20 {
        let mut pods = relatives.clone();
        for index in (1..pods.len()).rev() {
            pods.swap(index, rng.random_range(0..=index));
        }
        rank::least_useful_first(&mut pods, &relatives, now);
        let names: Vec<_> = pods.iter().map(|pod| pod.metadata.name.as_deref().unwrap()).collect();
        let wanted: Vec<_> = expected.iter().map(|pod| pod.metadata.name.as_deref().unwrap()).collect();
        // Node `b` has as many as `a`; the young one is an order of magnitude younger.
        assert_eq!(names, wanted);
    }
}

/// Stale reads, lost watches and answers, crashes between steps, while the number wanted changes: there are never more
/// active pods than the highest number wanted since the last time it settled, and in the end exactly as many as wanted.
#[tokio::test]
async fn random_faults_and_crashes() {
    for seed in 0..12 {
        let world = World::new(seed);
        world.server.set_graceful(true);
        let mut kubelet = Kubelet::new(seed);
        kubelet.eager = 0.4;
        let mut rng = rand_pcg::Pcg64::seed_from_u64(seed);
        world.create(set("web", 6)).await;
        let (mut wanted, mut highest) = (6, 6);
        for life in 0..4 {
            let add = |manager: &mut crate::ControllerManager| manager.add(ReplicaSetController::default());
            world
                .with_all(add, async {
                    for step in 0..rng.random_range(1..40) {
                        world.server.set_faults(Faults::default());
                        if rng.random_bool(0.1) {
                            wanted = rng.random_range(0..10);
                            highest = highest.max(wanted);
                            world.edit::<ReplicaSet>("web", |set| set.spec.replicas = Some(wanted));
                        }
                        kubelet.step(&world);
                        let (refused, answer_lost) = (0.1, 0.1);
                        world.server.set_faults(Faults { refused, answer_lost, watch_cut: 0.1, expired: 0.2 });
                        for _ in 0..rng.random_range(1..40) {
                            tokio::task::yield_now().await;
                        }
                        if rng.random_bool(0.5) {
                            world.clock.advance_to_next();
                        }
                        if rng.random_bool(0.2) {
                            world.server.set_lagging(rng.random_bool(0.5));
                        }
                        let have = count(active(&world).len());
                        assert!(have <= highest, "seed {seed} life {life} step {step}: {have} > {highest}");
                    }
                    world.server.set_lagging(false);
                    world.server.set_faults(Faults::default());
                    if life == 3 {
                        world.settle().await;
                        world.settle_with(&mut kubelet).await;
                        kubelet.eager = 1.0;
                        world.settle_with(&mut kubelet).await;
                    }
                })
                .await;
        }
        let status = world.one::<ReplicaSet>("web").status;
        assert_eq!((active(&world).len(), status.replicas), (usize::try_from(wanted).unwrap(), wanted), "seed {seed}");
        assert_eq!(status.ready_replicas, wanted, "seed {seed}");
    }
}

#[tokio::test]
async fn pods_of_a_deleted_set_are_not_managed_any_more() {
    let world = World::new(7);
    let kinds = vec![KindType::of::<ReplicaSet>(), KindType::of::<Pod>()];
    world
        .with_all(
            |manager| {
                manager.add(ReplicaSetController::default());
                manager.add(GarbageCollector::new(kinds));
            },
            async {
                world.create(set("web", 3)).await;
                world.settle().await;
                let foreground =
                    DeleteParams { propagation_policy: Some(PropagationPolicy::Foreground), ..DeleteParams::default() };
                world.api::<ReplicaSet>().delete("web", &foreground).await.unwrap();
                world.settle().await;
                assert!(world.all::<Pod>().is_empty());
                assert!(world.api::<ReplicaSet>().create(set("web", 1), &PostParams::default()).await.is_ok());
                world.settle().await;
                assert_eq!(world.all::<Pod>().len(), 1);
            },
        )
        .await;
}
