use std::sync::atomic::{AtomicU32, Ordering};

use jiff::Timestamp;
use longshore_core::api::{ConfigMap, Secret};
use longshore_core::client::params::PostParams;
use longshore_core::informer::ObjectKey;
use longshore_core::kind::KindType;
use longshore_core::testing::client::Faults;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::ObjectRef;
use crate::testing::{World, meta, owned_by};

/// Keeps as many secrets for each config map as its `want` says, with names from the server.
#[derive(Debug, Default)]
struct Copies {
    looked: AtomicU32,
}

impl Controller for Copies {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "copies"
    }

    fn triggers(&self, triggers: &Triggers<ObjectKey>) {
        let owner = |secret: &Secret| -> Vec<String> {
            secret.metadata.owner_references.iter().flatten().map(|owner| owner.uid.clone()).collect()
        };
        triggers.informer::<Secret>().add_index("owner", owner);
        triggers.on::<ConfigMap, _>(|change| [ObjectKey::of(&**change.object())]);
        triggers.on::<Secret, _>(|change| {
            let owners = change.object().metadata.owner_references.clone().unwrap_or_default();
            owners.into_iter().map(|owner| ObjectKey::new("ns", &owner.name)).collect::<Vec<_>>()
        });
    }

    fn reconcile(&self, view: &View<'_>, key: &ObjectKey, _: Timestamp) -> Plan {
        self.looked.fetch_add(1, Ordering::Relaxed);
        let Some(map) = view.of::<ConfigMap>().get(&key.namespace, &key.name) else { return Plan::nothing() };
        let want: usize = map.data.get("want").and_then(|want| want.parse().ok()).unwrap_or(0);
        let have = view.of::<Secret>().by_index("owner", map.metadata.uid.as_deref().unwrap());
        let mut plan = Plan::nothing();
        for _ in have.len()..want {
            let mut secret = Secret::default();
            secret.metadata.namespace = Some("ns".into());
            secret.metadata.generate_name = Some(format!("{}-", key.name));
            secret.metadata.owner_references = Some(vec![owned_by(&*map)]);
            plan.push(Action::Create(Box::new(secret)));
        }
        for secret in have.iter().skip(want) {
            let target = ObjectRef::of(&**secret);
            plan.push(Action::Delete { target, resource_version: None, propagation: None, grace_seconds: None });
        }
        plan
    }
}

fn map(name: &str, want: usize) -> ConfigMap {
    ConfigMap { metadata: meta(name), data: [("want".to_owned(), want.to_string())].into(), ..ConfigMap::default() }
}

fn secrets(world: &World) -> usize {
    world.server.objects(KindType::of::<Secret>()).len()
}

#[tokio::test]
async fn sees_its_own_writes_while_the_watch_lags() {
    let world = World::new(1);
    world
        .with(Copies::default(), async {
            let created = world.api().create(map("a", 7), &PostParams::default()).await.unwrap();
            world.settle().await;
            assert_eq!(secrets(&world), 7);
            world.server.set_lagging(true);
            let mut more = (*created).clone();
            more.data.insert("want".into(), "9".into());
            world.api().update(more, &PostParams::default()).await.unwrap();
            world.server.tell(1);
            world.settle().await;
            assert_eq!(secrets(&world), 9);
            // The watch tells of one copy at a time; each wakes the controller, which knows them all already.
            for _ in 0..3 {
                world.server.tell(1);
                world.settle().await;
                assert_eq!(secrets(&world), 9);
            }
        })
        .await;
}

/// Waits for an hour, by the time of day.
#[derive(Debug, Default)]
struct Sleeper {
    looked: Arc<AtomicU32>,
}

impl Controller for Sleeper {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "sleeper"
    }

    fn triggers(&self, triggers: &Triggers<ObjectKey>) {
        triggers.on::<ConfigMap, _>(|change| [ObjectKey::of(&**change.object())]);
    }

    fn reconcile(&self, _: &View<'_>, _: &ObjectKey, _: Timestamp) -> Plan {
        self.looked.fetch_add(1, Ordering::Relaxed);
        Plan { look_again: Some(Duration::from_secs(3600)), ..Plan::nothing() }
    }
}

#[tokio::test]
async fn a_long_wait_looks_at_the_clock_meanwhile() {
    let world = World::new(3);
    let sleeper = Sleeper::default();
    let looked = sleeper.looked.clone();
    world
        .with(sleeper, async {
            world.create(map("a", 0)).await;
            world.yield_all().await;
            let before = looked.load(Ordering::Relaxed);
            for minutes in 1..=3 {
                world.clock.advance(LOOK_AGAIN_MAX);
                world.yield_all().await;
                assert_eq!(looked.load(Ordering::Relaxed), before + minutes);
            }
        })
        .await;
}

#[tokio::test]
async fn refusals_stop_a_plan_early_and_are_retried() {
    let world = World::new(2);
    world
        .with(Copies::default(), async {
            let refusal = longshore_core::client::Status {
                code: 403,
                reason: "Forbidden".into(),
                message: "exceeded quota".into(),
                ..longshore_core::client::Status::default()
            };
            world.api().create(map("a", 50), &PostParams::default()).await.unwrap();
            world.server.fail_with([Error::from(refusal)]);
            world.yield_all().await;
            assert_eq!(secrets(&world), 0, "one try found out that it does not work");
            world.settle().await;
            assert_eq!(secrets(&world), 50);
        })
        .await;
}

#[tokio::test]
async fn a_refusal_does_not_hide_that_another_outcome_is_unknown() {
    let world = World::new(3);
    let (_informers, driver) = world.driver(Copies::default());
    let secret = |name: &str| {
        let mut secret = Secret { metadata: meta(name), ..Secret::default() };
        if name.is_empty() {
            secret.metadata.name = None;
            secret.metadata.generate_name = Some("x-".into());
        }
        Action::Create(Box::new(secret))
    };
    let forbidden = longshore_core::client::Status { code: 403, ..longshore_core::client::Status::default() };
    let mut doubts = Vec::new();
    let actions = vec![secret("a"), secret("b"), secret("c"), secret("")];
    {
        let plan = driver.carry_out(actions, &mut doubts);
        tokio::pin!(plan);
        while world.server.writes() == 0 {
            assert!(futures::poll!(&mut plan).is_pending());
        }
        // Of the next two, one is refused and the other takes effect without an answer.
        world.server.fail_with([Error::from(forbidden)]);
        world.server.set_faults(Faults { answer_lost: 1.0, ..Faults::default() });
        let Err(Stop::Failed(failure, None)) = plan.await else { panic!("the refusal comes first") };
        assert_eq!(failure.error.code(), 403);
    }
    assert_eq!((secrets(&world), doubts.len()), (2, 1));
    assert_eq!(doubts, [Doubt::Object(KindType::of::<Secret>(), ObjectKey::new("ns", "c"))]);
    world.server.set_faults(Faults::default());
    driver.settle(&doubts[0]).await.unwrap();
    assert_eq!(
        driver.informers.of::<Secret>().len(),
        2,
        "the answer of the first, and what the server knew of the other"
    );
}

/// Lost answers, refusals, lagging and broken watches, and a process that dies between any two steps: never more copies
/// than wanted once an answer was lost and the process lives on, and exactly as many in the end.
#[tokio::test]
async fn random_faults_and_crashes() {
    for seed in 0..30 {
        let world = World::new(seed);
        let mut rng = rand_pcg::Pcg64::seed_from_u64(seed);
        world.api().create(map("a", 12), &PostParams::default()).await.unwrap();
        for life in 0..4 {
            let last = life == 3;
            world
                .with(Copies::default(), async {
                    world.server.set_faults(Faults { refused: 0.15, answer_lost: 0.15, watch_cut: 0.1, expired: 0.2 });
                    for step in 0..rng.random_range(1..40) {
                        for _ in 0..rng.random_range(1..12) {
                            tokio::task::yield_now().await;
                        }
                        if rng.random_bool(0.5) {
                            world.clock.advance_to_next();
                        }
                        if rng.random_bool(0.2) {
                            world.server.set_lagging(rng.random_bool(0.5));
                        }
                        assert!(secrets(&world) <= 12, "seed {seed} life {life} step {step}");
                    }
                    if last {
                        world.server.set_lagging(false);
                        world.server.set_faults(Faults::default());
                        world.settle().await;
                    }
                })
                .await;
            world.server.set_faults(Faults::default());
        }
        assert_eq!(secrets(&world), 12, "seed {seed}");
    }
}
