use std::sync::Arc;

use longshore_core::api::{ConfigMap, Secret, ServiceAccount};
use longshore_core::client::params::{DeleteParams, PostParams, PropagationPolicy};
use longshore_core::testing::client::Faults;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::testing::{World, meta, owned_by};

fn collector() -> GarbageCollector {
    let kinds = vec![KindType::of::<ConfigMap>(), KindType::of::<Secret>(), KindType::of::<ServiceAccount>()];
    GarbageCollector::new(kinds)
}

fn delete(policy: PropagationPolicy) -> DeleteParams {
    DeleteParams { propagation_policy: Some(policy), ..DeleteParams::default() }
}

async fn owner(world: &World, name: &str) -> Arc<ConfigMap> {
    let map = ConfigMap { metadata: meta(name), ..ConfigMap::default() };
    world.api().create(map, &PostParams::default()).await.unwrap()
}

async fn dependent(world: &World, name: &str, owners: &[&dyn AnyObject]) -> Arc<Secret> {
    let mut metadata = meta(name);
    metadata.owner_references = Some(owners.iter().map(|owner| owned_by(*owner)).collect());
    world.api().create(Secret { metadata, ..Secret::default() }, &PostParams::default()).await.unwrap()
}

fn names(world: &World) -> Vec<String> {
    let kinds = [KindType::of::<ConfigMap>(), KindType::of::<Secret>(), KindType::of::<ServiceAccount>()];
    let objects = kinds.iter().flat_map(|kind| world.server.objects(kind));
    objects.map(|object| object.meta().name.clone().unwrap()).collect()
}

#[tokio::test]
async fn background_takes_dependents_of_dependents() {
    let world = World::new(1);
    world
        .with(collector(), async {
            let a = owner(&world, "a").await;
            let b = dependent(&world, "b", &[&*a]).await;
            let mut metadata = meta("c");
            metadata.owner_references = Some(vec![owned_by(&*b)]);
            let account = ServiceAccount { metadata, ..ServiceAccount::default() };
            world.api().create(account, &PostParams::default()).await.unwrap();
            owner(&world, "other").await;
            world.api::<ConfigMap>().delete("a", &delete(PropagationPolicy::Background)).await.unwrap();
            world.settle().await;
            assert_eq!(names(&world), ["other"]);
        })
        .await;
}

#[tokio::test]
async fn a_second_owner_keeps_the_dependent() {
    let world = World::new(2);
    world
        .with(collector(), async {
            let (a, b) = (owner(&world, "a").await, owner(&world, "b").await);
            dependent(&world, "c", &[&*a, &*b]).await;
            world.api::<ConfigMap>().delete("a", &DeleteParams::default()).await.unwrap();
            world.settle().await;
            assert_eq!(names(&world), ["b", "c"]);
            let c = world.api::<Secret>().get("c").await.unwrap();
            assert_eq!(owners(&*c).len(), 1);
            assert_eq!(owners(&*c)[0].name, "b");
        })
        .await;
}

#[tokio::test]
async fn foreground_waits_for_what_blocks() {
    let world = World::new(3);
    world
        .with(collector(), async {
            let a = owner(&world, "a").await;
            let b = dependent(&world, "b", &[&*a]).await;
            world.settle().await;
            let target = ObjectRef::of(&*b);
            world.server.modify(target.target(), |b| b.meta_mut().finalizers = Some(vec!["example.com/hold".into()]));
            world.api::<ConfigMap>().delete("a", &delete(PropagationPolicy::Foreground)).await.unwrap();
            world.settle().await;
            assert_eq!(names(&world), ["a", "b"], "the held dependent blocks its owner");
            assert!(world.api::<Secret>().get("b").await.unwrap().metadata.deletion_timestamp.is_some());
            world.server.remove(target.target());
            world.settle().await;
            assert!(names(&world).is_empty());
        })
        .await;
}

#[tokio::test]
async fn orphan_leaves_dependents_without_the_owner() {
    let world = World::new(4);
    world
        .with(collector(), async {
            let a = owner(&world, "a").await;
            dependent(&world, "b", &[&*a]).await;
            world.settle().await;
            world.api::<ConfigMap>().delete("a", &delete(PropagationPolicy::Orphan)).await.unwrap();
            world.settle().await;
            assert_eq!(names(&world), ["b"]);
            assert!(owners(&*world.api::<Secret>().get("b").await.unwrap()).is_empty());
        })
        .await;
}

#[tokio::test]
async fn an_owner_that_the_cache_has_not_seen_is_not_gone() {
    let world = World::new(5);
    let (informers, driver) = world.driver(collector());
    let a = owner(&world, "a").await;
    let b = dependent(&world, "b", &[&*a]).await;
    // The cache shows the dependent, but not yet its owner.
    informers.of_kind(KindType::of::<Secret>()).seed(vec![b.clone()]);
    driver.process(driver.queue().get().await.unwrap()).await;
    assert_eq!(names(&world), ["a", "b"]);
    // The server's answer about the owner is kept: the second look knows it.
    world.clock.advance(std::time::Duration::from_secs(1));
    driver.queue().add(Item::of(&*b));
    driver.process(driver.queue().get().await.unwrap()).await;
    assert_eq!(informers.of::<ConfigMap>().len(), 1);
    assert_eq!(names(&world), ["a", "b"]);
}

/// Owners and dependents come and go under faults: nobody with a living owner is ever collected, and in the end nobody is
/// left whose owners are all gone.
#[tokio::test]
async fn random_faults() {
    for seed in 0..30 {
        let world = World::new(seed);
        let mut rng = rand_pcg::Pcg64::seed_from_u64(seed);
        let mut owners_made: Vec<Arc<ConfigMap>> = Vec::new();
        let mut doomed: Vec<String> = Vec::new();
        for _life in 0..3 {
            world
                .with(collector(), async {
                    for step in 0..30 {
                        world.server.set_faults(Faults::default());
                        match rng.random_range(0..4) {
                            0 => owners_made.push(owner(&world, &format!("o{}", owners_made.len())).await),
                            1 if !owners_made.is_empty() => {
                                let index = rng.random_range(0..owners_made.len());
                                let chosen = owners_made[index].clone();
                                if !doomed.contains(chosen.metadata.uid.as_ref().unwrap()) {
                                    let tag: u32 = rng.random();
                                    dependent(&world, &format!("d{tag:08x}-{index}"), &[&*chosen]).await;
                                }
                            }
                            2 if !owners_made.is_empty() => {
                                let chosen = &owners_made[rng.random_range(0..owners_made.len())];
                                let policy = [PropagationPolicy::Background, PropagationPolicy::Foreground]
                                    [rng.random_range(0..2)]
                                .clone();
                                let name = chosen.metadata.name.as_deref().unwrap();
                                if world.api::<ConfigMap>().delete(name, &delete(policy)).await.is_ok() {
                                    doomed.push(chosen.metadata.uid.clone().unwrap());
                                }
                            }
                            _ => world.server.set_lagging(rng.random_bool(0.4)),
                        }
                        let before = world.server.objects(KindType::of::<Secret>());
                        world.server.set_faults(Faults {
                            refused: 0.1,
                            answer_lost: 0.1,
                            watch_cut: 0.1,
                            expired: 0.2,
                        });
                        for _ in 0..rng.random_range(1..60) {
                            tokio::task::yield_now().await;
                        }
                        world.clock.advance_to_next();
                        let after = world.server.objects(KindType::of::<Secret>());
                        for object in before
                            .iter()
                            .filter(|object| owners(&***object).iter().any(|owner| !doomed.contains(&owner.uid)))
                        {
                            let kept = after.iter().any(|other| other.meta().uid == object.meta().uid);
                            assert!(kept, "seed {seed} step {step}: {:?} has a living owner", object.meta().name);
                        }
                    }
                    world.server.set_faults(Faults::default());
                    world.server.set_lagging(false);
                    for _ in 0..4 {
                        world.settle().await;
                    }
                })
                .await;
        }
        for object in world.server.objects(KindType::of::<Secret>()) {
            let alive = owners(&*object).iter().any(|owner| !doomed.contains(&owner.uid));
            assert!(alive, "seed {seed}: {:?} is left", object.meta().name);
        }
        let left = world.server.objects(KindType::of::<ConfigMap>());
        assert!(left.iter().all(|map| map.meta().deletion_timestamp.is_none()), "seed {seed}: an owner waits for ever");
    }
}
