//! A budget's count of its pods as a table, and in a world whose server lies.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use longshore_core::api::pod::helpers::{condition, set_condition};
use longshore_core::api::pod::{PodCondition, PodPhase};
use longshore_core::api::{ConditionStatus, Job};
use longshore_core::clock::Clock;
use longshore_core::int_or_string::IntOrString;
use longshore_core::testing::client::Faults;

use super::*;
use crate::testing::{World, meta, owned_by, selector, set_ready, template};

fn budget(min_available: Option<&str>, max_unavailable: Option<&str>) -> PodDisruptionBudget {
    let limit = |text: &str| text.parse().map_or_else(|_| IntOrString::String(text.to_owned()), IntOrString::Int);
    let mut budget = PodDisruptionBudget { metadata: meta("b"), ..PodDisruptionBudget::default() };
    budget.spec.selector = selector("web");
    budget.spec.min_available = min_available.map(limit);
    budget.spec.max_unavailable = max_unavailable.map(limit);
    budget.metadata.generation = Some(1);
    budget
}

async fn pod(world: &World, name: &str, owner: Option<&dyn AnyObject>, ready: bool) {
    let template = template("web", "a");
    let mut pod = Pod { metadata: ObjectMeta { labels: template.metadata.labels, ..meta(name) }, ..Pod::default() };
    pod.spec = template.spec;
    pod.metadata.owner_references = owner.map(|owner| vec![owned_by(owner)]);
    world.create(pod).await;
    let now = world.clock.now();
    world.report::<Pod>(name, |pod| {
        pod.status.phase = PodPhase::Running;
        set_ready(pod, ready, now);
    });
}

async fn set(world: &World, name: &str, replicas: i32, owner: Option<&dyn AnyObject>) -> ReplicaSet {
    let mut set = ReplicaSet { metadata: meta(name), ..ReplicaSet::default() };
    set.spec.replicas = Some(replicas);
    set.metadata.owner_references = owner.map(|owner| vec![owned_by(owner)]);
    world.create(set).await;
    world.one(name)
}

/// How many may go, are healthy, must be, and are expected; and why.
fn seen(world: &World) -> ([i32; 4], String) {
    let status = world.one::<PodDisruptionBudget>("b").status;
    let counts = [status.disruptions_allowed, status.current_healthy, status.desired_healthy, status.expected_pods];
    (counts, status.conditions.first().map(|condition| condition.reason.clone()).unwrap_or_default())
}

#[tokio::test]
async fn what_may_go_is_what_is_healthy_beyond_what_must_be() {
    let cases = [
        (budget(Some("2"), None), [1, 3, 2, 4]),
        (budget(Some("3"), None), [0, 3, 3, 4]),
        // Of the five that their controllers ask for, not of the four that there are; rounded up.
        (budget(Some("50%"), None), [0, 3, 3, 5]),
        (budget(None, Some("2")), [0, 3, 3, 5]),
        (budget(None, Some("50%")), [1, 3, 2, 5]),
        (budget(None, None), [0, 3, 0, 0]),
    ];
    for (budget, counts) in cases {
        let world = World::new(1);
        let first = set(&world, "first", 3, None).await;
        let second = set(&world, "second", 2, None).await;
        for (name, owner, ready) in
            [("a", &first, true), ("b", &first, true), ("c", &first, false), ("d", &second, true)]
        {
            pod(&world, name, Some(owner), ready).await;
        }
        let case = format!("{:?}", budget.spec);
        world
            .with(DisruptionController, async {
                world.create(budget).await;
                world.settle().await;
                let reason = if counts[0] > 0 { "SufficientPods" } else { "InsufficientPods" };
                assert_eq!(seen(&world), (counts, reason.to_owned()), "{case}");
                assert_eq!(world.one::<PodDisruptionBudget>("b").status.observed_generation, 1);
            })
            .await;
    }
}

#[tokio::test]
async fn the_replica_sets_of_a_deployment_count_once_and_by_its_wish() {
    let world = World::new(2);
    world
        .with(DisruptionController, async {
            let mut web = Deployment { metadata: meta("web"), ..Deployment::default() };
            web.spec.replicas = Some(4);
            world.create(web).await;
            let web: Deployment = world.one("web");
            let (old, new) = (set(&world, "old", 3, Some(&web)).await, set(&world, "new", 2, Some(&web)).await);
            pod(&world, "a", Some(&old), true).await;
            pod(&world, "b", Some(&old), true).await;
            pod(&world, "c", Some(&new), true).await;
            world.create(budget(None, Some("25%"))).await;
            world.settle().await;
            assert_eq!(seen(&world).0, [0, 3, 3, 4]);
            world.edit::<Deployment>("web", |web| web.spec.replicas = Some(2));
            world.settle().await;
            assert_eq!(seen(&world).0, [2, 3, 1, 2], "the wish changed before any pod did");
        })
        .await;
}

#[tokio::test]
async fn pods_whose_controller_has_no_scale_cannot_be_counted_and_so_none_may_go() {
    let world = World::new(3);
    world
        .with(DisruptionController, async {
            world.create(Job { metadata: meta("work"), ..Job::default() }).await;
            pod(&world, "a", Some(&world.one::<Job>("work")), true).await;
            world.create(budget(None, Some("1"))).await;
            world.settle().await;
            assert_eq!(seen(&world), ([0; 4], "SyncFailed".to_owned()));
            let message = world.one::<PodDisruptionBudget>("b").status.conditions[0].message.clone();
            assert_eq!(message, "jobs.batch does not implement the scale subresource");
            // A number needs nobody's scale.
            world.edit::<PodDisruptionBudget>("b", |known| known.spec = budget(Some("0"), None).spec);
            world.settle().await;
            assert_eq!(seen(&world), ([1, 1, 0, 1], "SufficientPods".to_owned()));
        })
        .await;
}

#[tokio::test]
async fn a_granted_eviction_counts_until_the_pod_goes_or_two_minutes_are_over() {
    let world = World::new(4);
    let manager = |manager: &mut crate::ControllerManager| manager.add(DisruptionController);
    world
        .with_all(manager, async {
            for name in ["a", "b", "c"] {
                pod(&world, name, None, true).await;
            }
            world.create(budget(Some("1"), None)).await;
            world.yield_all().await;
            assert_eq!(seen(&world).0, [2, 3, 1, 3]);
            let granted = Time(world.clock.now());
            world.report::<PodDisruptionBudget>("b", |budget| {
                budget.status.disruptions_allowed -= 1;
                budget.status.disrupted_pods.insert("a".to_owned(), granted);
            });
            world.yield_all().await;
            assert_eq!(seen(&world).0, [1, 2, 1, 3]);
            world.clock.advance(Duration::from_secs(119));
            world.yield_all().await;
            assert_eq!(seen(&world).0, [1, 2, 1, 3]);
            world.clock.advance(Duration::from_secs(1));
            world.yield_all().await;
            assert_eq!(seen(&world).0, [2, 3, 1, 3], "it did not go");
            world.settle().await;
            let events = world.all::<longshore_core::api::Event>();
            assert!(events.iter().any(|event| event.reason == "NotDeleted"), "{events:?}");
        })
        .await;
}

#[tokio::test]
async fn counts_are_right_in_the_end_whatever_the_server_does() {
    let faults = Faults { refused: 0.2, answer_lost: 0.2, watch_cut: 0.2, expired: 0.2 };
    for seed in 0..8 {
        let world = World::new(seed);
        let owner = set(&world, "set", 4, None).await;
        for name in ["a", "b", "c", "d"] {
            pod(&world, name, Some(&owner), true).await;
        }
        world.create(budget(None, Some("1"))).await;
        world.server.set_faults(faults);
        // Two lives: the first ends wherever it is.
        for ready in [false, true] {
            world
                .with(DisruptionController, async {
                    for name in ["a", "b", "d"] {
                        world.report::<Pod>(name, |pod| set_ready(pod, ready, Timestamp::UNIX_EPOCH));
                        world.server.set_lagging(name == "b");
                        world.clock.advance(Duration::from_millis(700));
                        world.yield_all().await;
                    }
                    world.report::<Pod>("c", |pod| set_ready(pod, false, Timestamp::UNIX_EPOCH));
                    if ready {
                        world.server.set_faults(Faults::default());
                        world.server.set_lagging(false);
                        world.settle().await;
                        assert_eq!(seen(&world).0, [0, 3, 3, 4], "seed {seed}");
                    }
                })
                .await;
        }
    }
}

#[tokio::test]
async fn a_threat_that_does_not_come_about_is_taken_back() {
    let world = World::new(5);
    world
        .with(StaleDisruptionController, async {
            let threat = |reason: &str| PodCondition {
                type_: "DisruptionTarget".to_owned(),
                status: ConditionStatus::True,
                reason: reason.to_owned(),
                ..PodCondition::default()
            };
            let now = world.clock.now();
            for (name, reason) in [("a", "EvictionByEvictionAPI"), ("b", "TerminationByKubelet")] {
                pod(&world, name, None, true).await;
                world.report::<Pod>(name, |pod| assert!(set_condition(&mut pod.status, threat(reason), now)));
            }
            world.yield_all().await;
            let holds = |name: &str| {
                condition(&world.one::<Pod>(name).status, "DisruptionTarget").map(|found| found.status.clone())
            };
            world.clock.advance(Duration::from_secs(119));
            world.yield_all().await;
            assert_eq!(holds("a"), Some(ConditionStatus::True));
            world.clock.advance(Duration::from_secs(1));
            world.yield_all().await;
            assert_eq!(holds("a"), Some(ConditionStatus::False));
            assert_eq!(holds("b"), Some(ConditionStatus::True), "its node takes the time that it takes");
        })
        .await;
}
