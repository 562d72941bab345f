use longshore_core::api::{ConfigMap, Secret};
use longshore_core::client::Target;
use longshore_core::client::params::PostParams;
use longshore_core::testing::client::Faults;

use super::*;
use crate::testing::{World, meta};

fn controller() -> NamespaceController {
    NamespaceController::new(&[KindType::of::<ConfigMap>(), KindType::of::<Secret>(), KindType::of::<Namespace>()])
}

fn target() -> Target<'static> {
    Target { kind: KindType::of::<Namespace>(), namespace: "", name: "ns" }
}

/// A namespace with two config maps and a secret, all of which somebody deletes; the secret is held by a finalizer.
async fn world(seed: u64) -> World {
    let world = World::new(seed);
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some("ns".into());
    world.client.create(Box::new(namespace), &PostParams::default()).await.unwrap();
    for name in ["a", "b"] {
        let map = ConfigMap { metadata: meta(name), ..ConfigMap::default() };
        world.api().create(map, &PostParams::default()).await.unwrap();
    }
    let mut metadata = meta("held");
    metadata.finalizers = Some(vec!["example.com/hold".into()]);
    world.api().create(Secret { metadata, ..Secret::default() }, &PostParams::default()).await.unwrap();
    world
}

fn delete_namespace(world: &World) {
    let now = Time(longshore_core::clock::Clock::now(&world.clock));
    world.server.modify(target(), |namespace| namespace.meta_mut().deletion_timestamp = Some(now));
}

fn namespace(world: &World) -> Namespace {
    let all = world.server.objects(KindType::of::<Namespace>());
    all[0].as_any().downcast_ref::<Namespace>().unwrap().clone()
}

fn count(world: &World) -> usize {
    world.server.objects(KindType::of::<ConfigMap>()).len() + world.server.objects(KindType::of::<Secret>()).len()
}

#[tokio::test]
async fn a_living_namespace_is_left_alone() {
    let world = world(1).await;
    world
        .with(controller(), async {
            world.settle().await;
            assert_eq!(count(&world), 3);
        })
        .await;
}

#[tokio::test]
async fn content_goes_then_the_finalizer_and_the_conditions_say_what_is_left() {
    let world = world(2).await;
    world
        .with(controller(), async {
            delete_namespace(&world);
            world.settle().await;
            assert_eq!(count(&world), 1);
            let state = namespace(&world);
            assert_eq!(state.spec.finalizers, [FINALIZER_KUBERNETES]);
            assert_eq!(state.status.phase, NamespacePhase::Terminating);
            let message = |type_: &str| {
                state.status.conditions.iter().find(|known| known.type_ == type_).unwrap().message.clone()
            };
            assert_eq!(
                message("NamespaceContentRemaining"),
                "Some resources are remaining: secrets. has 1 resource instances"
            );
            assert_eq!(
                message("NamespaceFinalizersRemaining"),
                "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances"
            );
            let secret = Target { kind: KindType::of::<Secret>(), namespace: "ns", name: "held" };
            world.server.remove(secret);
            world.settle().await;
            assert!(world.server.objects(KindType::of::<Namespace>()).is_empty());
        })
        .await;
}

#[tokio::test]
async fn what_the_cache_has_not_seen_is_not_left_behind() {
    let world = world(3).await;
    delete_namespace(&world);
    let (informers, driver) = world.driver(controller());
    // The cache knows the namespace and, as yet, nothing in it.
    informers.of_kind(KindType::of::<Namespace>()).seed(vec![std::sync::Arc::new(namespace(&world))]);
    driver.process(driver.queue().get().await.unwrap()).await;
    assert_eq!(namespace(&world).spec.finalizers, [FINALIZER_KUBERNETES]);
    assert_eq!(informers.of::<ConfigMap>().len(), 2, "the look at the server is kept");
}

#[tokio::test]
async fn converges_under_faults() {
    for seed in 0..20 {
        let world = world(seed).await;
        let secret = Target { kind: KindType::of::<Secret>(), namespace: "ns", name: "held" };
        world.server.modify(secret, |secret| secret.meta_mut().finalizers = None);
        delete_namespace(&world);
        world.server.set_faults(Faults { refused: 0.2, answer_lost: 0.2, watch_cut: 0.2, expired: 0.2 });
        for _life in 0..3 {
            world.with(controller(), async { world.yield_all().await }).await;
        }
        world
            .with(controller(), async {
                for _ in 0..5 {
                    world.settle().await;
                }
                world.server.set_faults(Faults::default());
                world.settle().await;
            })
            .await;
        let left = world.server.objects(KindType::of::<Namespace>()).len();
        assert_eq!((count(&world), left), (0, 0), "seed {seed}");
    }
}
