use std::collections::BTreeSet;
use std::time::Duration;

use longshore_core::api::deployment::{DeploymentCondition, RollingUpdateDeployment};
use longshore_core::api::{ConditionStatus, Event};
use longshore_core::client::params::PostParams;
use longshore_core::clock::Clock;
use longshore_core::int_or_string::IntOrString;
use longshore_core::kind::KindType;
use longshore_core::testing::client::Faults;
use rand::{RngExt, SeedableRng};

use super::draft::Draft;
use super::*;
use crate::ControllerManager;
use crate::claim::controller_of;
use crate::plan::Action;
use crate::pods::is_active;
use crate::replicas::ReplicaSetController;
use crate::testing::{Kubelet, World, meta, selector, template};

fn controllers(manager: &mut ControllerManager) {
    manager.add(DeploymentController);
    manager.add(ReplicaSetController::default());
}

fn deployment(name: &str, replicas: i32) -> Deployment {
    let mut deployment = Deployment { metadata: meta(name), ..Deployment::default() };
    deployment.spec.replicas = Some(replicas);
    deployment.spec.selector = selector(name);
    deployment.spec.template = template(name, "app:1");
    deployment
}

fn with_bounds(mut deployment: Deployment, surge: IntOrString, unavailable: IntOrString) -> Deployment {
    deployment.spec.strategy.rolling_update =
        Some(RollingUpdateDeployment { max_surge: Some(surge), max_unavailable: Some(unavailable) });
    deployment
}

fn set_image(world: &World, image: &str) {
    world.edit::<Deployment>("web", |deployment| deployment.spec.template.spec.containers[0].image = image.into());
}

fn now(world: &World) -> Deployment {
    world.one("web")
}

fn reason(world: &World, type_: &str) -> (ConditionStatus, String) {
    let conditions: Vec<DeploymentCondition> = now(world).status.conditions;
    let condition = conditions.into_iter().find(|condition| condition.type_ == type_).unwrap();
    (condition.status, condition.reason)
}

fn active(world: &World) -> Vec<Pod> {
    world.all::<Pod>().into_iter().filter(is_active).collect()
}

fn images(world: &World) -> BTreeSet<String> {
    active(world).iter().map(|pod| pod.spec.containers[0].image.clone()).collect()
}

fn revision(world: &World) -> String {
    now(world).metadata.annotations.unwrap()["deployment.kubernetes.io/revision"].clone()
}

/// Whether `kubectl rollout status` would say that it is done.
fn is_rolled_out(deployment: &Deployment) -> bool {
    let status = &deployment.status;
    deployment.metadata.generation.unwrap() <= status.observed_generation
        && status.updated_replicas >= deployment.spec.replicas.unwrap()
        && status.replicas <= status.updated_replicas
        && status.available_replicas >= status.updated_replicas
}

#[tokio::test]
async fn rolls_out_rolls_back_and_keeps_history() {
    let world = World::new(1);
    let mut kubelet = Kubelet::new(1);
    world
        .with_all(controllers, async {
            let mut first = deployment("web", 4);
            first.spec.revision_history_limit = Some(2);
            first.metadata.annotations = Some([("kubernetes.io/change-cause".to_owned(), "first".to_owned())].into());
            world.create(first).await;
            world.settle_with(&mut kubelet).await;
            assert!(is_rolled_out(&now(&world)));
            assert_eq!(reason(&world, "Progressing"), (ConditionStatus::True, "NewReplicaSetAvailable".into()));
            assert_eq!(reason(&world, "Available"), (ConditionStatus::True, "MinimumReplicasAvailable".into()));
            let [set] = &world.all::<ReplicaSet>()[..] else { panic!("one replica set") };
            let labels = set.metadata.labels.as_ref().unwrap();
            assert_eq!(set.metadata.name.as_deref().unwrap(), format!("web-{}", labels["pod-template-hash"]));
            let annotations = set.metadata.annotations.clone().unwrap();
            let get = |key: &str| annotations[&format!("deployment.kubernetes.io/{key}")].clone();
            assert_eq!(
                (get("revision"), get("desired-replicas"), get("max-replicas")),
                ("1".into(), "4".into(), "5".into())
            );
            assert_eq!(annotations["kubernetes.io/change-cause"], "first");
            assert!(world.all::<Pod>().iter().all(|pod| pod.metadata.labels == set.metadata.labels));
            let first_set = set.metadata.name.clone().unwrap();

            for version in 2..=4 {
                set_image(&world, &format!("app:{version}"));
                world.settle_with(&mut kubelet).await;
                assert!(is_rolled_out(&now(&world)), "{:?}", now(&world).status);
                assert_eq!(
                    (images(&world), revision(&world)),
                    ([format!("app:{version}")].into(), version.to_string())
                );
            }
            let names = |world: &World| -> Vec<String> {
                world.all::<ReplicaSet>().into_iter().map(|set| set.metadata.name.unwrap()).collect()
            };
            assert_eq!(names(&world).len(), 3, "two old ones are kept");
            assert!(!names(&world).contains(&first_set));

            // Back to the second: its replica set comes back with a new revision.
            let before = names(&world);
            set_image(&world, "app:2");
            world.settle_with(&mut kubelet).await;
            assert_eq!(
                (images(&world), revision(&world), names(&world)),
                (["app:2".into()].into(), "5".into(), before)
            );
            let sets = world.all::<ReplicaSet>();
            let back = sets.iter().find(|set| set.spec.replicas == Some(4)).unwrap();
            assert_eq!(back.metadata.annotations.as_ref().unwrap()["deployment.kubernetes.io/revision-history"], "2");
            let events = world.all::<Event>();
            let text = format!("Scaled up replica set {first_set} from 0 to 4");
            assert!(events.iter().any(|event| event.reason == "ScalingReplicaSet" && event.message == text));
        })
        .await;
}

#[tokio::test]
async fn a_bad_image_stops_and_the_deadline_tells() {
    let world = World::new(2);
    let mut kubelet = Kubelet::new(2);
    world
        .with_all(controllers, async {
            let mut web = deployment("web", 4);
            web.spec.progress_deadline_seconds = Some(60);
            world.create(web).await;
            world.settle_with(&mut kubelet).await;
            set_image(&world, "bad");
            world.settle_with(&mut kubelet).await;
            let status = now(&world).status;
            assert_eq!((status.available_replicas, status.updated_replicas, status.replicas), (3, 2, 5));
            assert_eq!(reason(&world, "Progressing"), (ConditionStatus::True, "ReplicaSetUpdated".into()));
            world.clock.advance(Duration::from_secs(62));
            world.settle_with(&mut kubelet).await;
            assert_eq!(reason(&world, "Progressing"), (ConditionStatus::False, "ProgressDeadlineExceeded".into()));
            set_image(&world, "app:1");
            world.settle_with(&mut kubelet).await;
            assert!(is_rolled_out(&now(&world)));
            assert_eq!(reason(&world, "Progressing"), (ConditionStatus::True, "NewReplicaSetAvailable".into()));
        })
        .await;
}

#[tokio::test]
async fn pause_holds_changes_back_but_not_scaling() {
    let world = World::new(3);
    let mut kubelet = Kubelet::new(3);
    world
        .with_all(controllers, async {
            world.create(deployment("web", 3)).await;
            world.settle_with(&mut kubelet).await;
            world.edit::<Deployment>("web", |deployment| deployment.spec.paused = true);
            set_image(&world, "app:2");
            world.settle_with(&mut kubelet).await;
            assert_eq!(images(&world), ["app:1".to_owned()].into());
            assert_eq!(reason(&world, "Progressing"), (ConditionStatus::Unknown, "DeploymentPaused".into()));
            world.edit::<Deployment>("web", |deployment| deployment.spec.replicas = Some(5));
            world.settle_with(&mut kubelet).await;
            assert_eq!((active(&world).len(), now(&world).status.updated_replicas), (5, 0));
            world.edit::<Deployment>("web", |deployment| deployment.spec.paused = false);
            world.settle_with(&mut kubelet).await;
            assert!(is_rolled_out(&now(&world)));
            assert_eq!(images(&world), ["app:2".to_owned()].into());
        })
        .await;
}

#[tokio::test]
async fn recreate_never_mixes_versions() {
    let world = World::new(4);
    world.server.set_graceful(true);
    let mut kubelet = Kubelet::new(4);
    kubelet.eager = 0.3;
    world
        .with_all(controllers, async {
            let mut web = deployment("web", 3);
            web.spec.strategy.type_ = DeploymentStrategyType::Recreate;
            world.create(web).await;
            world.settle_with(&mut kubelet).await;
            set_image(&world, "app:2");
            for _ in 0..100 {
                world.yield_all().await;
                world.clock.advance(Duration::from_millis(50));
                kubelet.step(&world);
                let pods = world.all::<Pod>();
                let living = pods.iter().filter(|pod| !is_terminal(pod));
                let images: BTreeSet<_> = living.map(|pod| pod.spec.containers[0].image.clone()).collect();
                assert!(images.len() <= 1, "{images:?}");
            }
            world.settle_with(&mut kubelet).await;
            assert!(is_rolled_out(&now(&world)));
            assert_eq!(images(&world), ["app:2".to_owned()].into());
        })
        .await;
}

#[tokio::test]
async fn a_taken_name_is_avoided() {
    let world = World::new(5);
    let mut kubelet = Kubelet::new(5);
    world
        .with_all(controllers, async {
            world.create(deployment("web", 1)).await;
            world.settle_with(&mut kubelet).await;
            let mut stranger = world.all::<ReplicaSet>().remove(0);
            let name = stranger.metadata.name.clone().unwrap();
            world.api::<Deployment>().delete("web", &Default::default()).await.unwrap();
            world.api::<ReplicaSet>().delete(&name, &Default::default()).await.unwrap();
            stranger.metadata = meta(&name);
            stranger.spec.template.spec.containers[0].image = "other".into();
            stranger.spec.replicas = Some(0);
            world.api().create(stranger, &PostParams::default()).await.unwrap();
            world.settle_with(&mut kubelet).await;
            // Not an orphan that the selector would adopt.
            world.edit::<ReplicaSet>(&name, |set| set.metadata.labels = None);
            world.create(deployment("web", 1)).await;
            world.settle_with(&mut kubelet).await;
            assert_eq!(now(&world).status.collision_count, Some(1));
            assert!(is_rolled_out(&now(&world)));
            assert!(controller_of(&world.one::<ReplicaSet>(&name)).is_none());
        })
        .await;
}

#[tokio::test]
async fn a_refused_replica_set_is_told_about_before_it_is_tried_again() {
    let world = World::new(6);
    let (informers, _driver) = world.driver(DeploymentController);
    let web = world.create(deployment("web", 1)).await;
    let status = longshore_core::client::Status {
        code: 403,
        reason: "Forbidden".into(),
        message: "exceeded quota".into(),
        ..longshore_core::client::Status::default()
    };
    let (verb, kind) = (crate::Verb::Create, KindType::of::<ReplicaSet>());
    let failure = crate::Failure { verb, kind, action: String::new(), error: status.into() };
    let reconcile = |deployment: Deployment| {
        informers.of::<Deployment>().as_dyn().seed(vec![Arc::new(deployment)]);
        let view = View::new(&informers, Some(&failure));
        DeploymentController.reconcile(&view, &ObjectKey::new("ns", "web"), world.clock.now()).actions
    };
    let actions = reconcile((*web).clone());
    let [Action::Update { object, .. }, Action::Create(_), Action::Event(_)] = &actions[..] else {
        panic!("the status first, then another try: {actions:?}");
    };
    let mut told = object.as_any().downcast_ref::<Deployment>().unwrap().clone();
    told.metadata.resource_version = Some("99".into());
    let [condition] = &told.status.conditions[..] else { panic!("one condition") };
    assert_eq!((&condition.status, &*condition.reason), (&ConditionStatus::False, "ReplicaSetCreateError"));
    assert!(condition.message.contains("exceeded quota"));
    // Told once is enough.
    assert!(matches!(&reconcile(told)[..], [Action::Create(_), Action::Event(_), ..]));
}

/// Sizes, annotations `max-replicas` and statuses of replica sets, oldest first, the last being the new one.
fn scaled(sizes: &[i32], max_before: i32, wanted: i32, surge: i32) -> Vec<i32> {
    let web = with_bounds(deployment("web", wanted), surge.into(), 0.into());
    let set = |(index, size): (usize, &i32)| {
        let mut set = ReplicaSet { metadata: meta(&format!("web-{index}")), ..ReplicaSet::default() };
        set.spec.replicas = Some(*size);
        set.metadata.annotations =
            Some([("deployment.kubernetes.io/max-replicas".into(), max_before.to_string())].into());
        set.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
            Timestamp::UNIX_EPOCH + Duration::from_secs(index as u64),
        ));
        Arc::new(set)
    };
    let sets = sizes.iter().enumerate().map(set).collect();
    let mut rollout = Rollout::new(Arc::new(web), sets, Timestamp::UNIX_EPOCH);
    rollout.new = rollout.old.pop();
    rollout.scale();
    rollout.all().map(Draft::replicas).collect()
}

#[test]
fn scaling_in_proportion() {
    // Upstream's examples.
    assert_eq!(scaled(&[5, 5], 10, 20, 0), [10, 10]);
    assert_eq!(scaled(&[5, 3, 2], 10, 5, 0), [2, 2, 1]);
    assert_eq!(scaled(&[6, 4], 10, 0, 0), [0, 0]);
    assert_eq!(scaled(&[8, 5], 13, 30, 3), [20, 13]);
    assert_eq!(scaled(&[7], 7, 3, 0), [3]);
    // What rounding leaves goes to the biggest.
    assert_eq!(scaled(&[1, 1, 1], 3, 4, 0).iter().sum::<i32>(), 4);
}

#[test]
fn bounds_as_upstream_resolves_them() {
    let table: [(i32, IntOrString, IntOrString, (i32, i32)); 7] = [
        (10, "25%".into(), "25%".into(), (3, 2)),
        (1, "25%".into(), "25%".into(), (1, 0)),
        (10, 0.into(), 0.into(), (0, 1)),
        (10, "0%".into(), "5%".into(), (0, 1)),
        (3, 0.into(), 5.into(), (0, 3)),
        (0, 1.into(), 1.into(), (1, 0)),
        (4, "100%".into(), 0.into(), (4, 0)),
    ];
    for (replicas, surge, unavailable, expected) in table {
        let web = with_bounds(deployment("web", replicas), surge, unavailable);
        assert_eq!((rollout::max_surge(&web), rollout::max_unavailable(&web)), expected, "{replicas}");
    }
}

/// Versions come and go under faults, with the process dying in between: never more pods than `maxSurge` allows, never
/// fewer that serve than `maxUnavailable` allows, and in the end the last version everywhere.
#[tokio::test]
async fn random_faults_keep_the_bounds() {
    for seed in 0..8 {
        let world = World::new(seed);
        world.server.set_graceful(true);
        let mut kubelet = Kubelet::new(seed);
        let mut rng = rand_pcg::Pcg64::seed_from_u64(seed);
        let replicas = rng.random_range(1..8);
        let (surge, unavailable) = (rng.random_range(0..4), rng.random_range(0..3));
        let web = with_bounds(deployment("web", replicas), surge.into(), unavailable.into());
        let (most, least) = (replicas + rollout::max_surge(&web), replicas - rollout::max_unavailable(&web));
        world.create(web).await;
        world.with_all(controllers, world.settle_with(&mut kubelet)).await;
        assert_eq!(active(&world).len(), usize::try_from(replicas).unwrap(), "seed {seed}");
        let mut version = 1;
        for life in 0..4 {
            world
                .with_all(controllers, async {
                    kubelet.eager = 0.3;
                    for step in 0..rng.random_range(1..80) {
                        world.server.set_faults(Faults::default());
                        if rng.random_bool(0.06) {
                            version = rng.random_range(1..5);
                            set_image(&world, &format!("app:{version}"));
                        }
                        kubelet.step(&world);
                        world.server.set_faults(Faults {
                            refused: 0.1,
                            answer_lost: 0.1,
                            watch_cut: 0.1,
                            expired: 0.1,
                        });
                        for _ in 0..rng.random_range(1..40) {
                            tokio::task::yield_now().await;
                        }
                        if rng.random_bool(0.5) {
                            world.clock.advance_to_next();
                        }
                        if rng.random_bool(0.2) {
                            world.server.set_lagging(rng.random_bool(0.5));
                        }
                        let pods = active(&world);
                        let have = i32::try_from(pods.len()).unwrap();
                        let serving =
                            pods.iter().filter(|pod| longshore_core::api::pod::helpers::is_ready(pod)).count();
                        let serving = i32::try_from(serving).unwrap();
                        let place = format!("seed {seed} life {life} step {step}");
                        assert!(have <= most, "{place}: {have} pods, at most {most}");
                        assert!(serving >= least, "{place}: {serving} serve, at least {least}");
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
        assert!(is_rolled_out(&now(&world)), "seed {seed}: {:?}", now(&world).status);
        assert_eq!(images(&world), [format!("app:{version}")].into(), "seed {seed}");
        assert!(now(&world).status.collision_count.is_none(), "seed {seed}: a lost answer is no collision");
        let _ = world.clock.now();
    }
}
