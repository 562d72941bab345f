use longshore_core::clock::Clock;
use longshore_core::testing::client::Faults;

use super::*;
use crate::ControllerManager;
use crate::testing::{World, end, meta};

fn controllers(manager: &mut ControllerManager) {
    manager.add(PodCollector::new(3));
}

async fn add(world: &World, name: &str, node: &str) {
    let mut pod = Pod { metadata: meta(name), ..Pod::default() };
    pod.spec.node_name = node.into();
    world.create(pod).await;
}

fn names(world: &World) -> Vec<String> {
    world.all::<Pod>().into_iter().map(|pod| pod.metadata.name.unwrap()).collect()
}

async fn add_node(world: &World, name: &str) {
    let mut node = Node::default();
    node.metadata.name = Some(name.into());
    world.create(node).await;
}

#[tokio::test]
async fn pods_of_nodes_that_are_gone() {
    let world = World::new(1);
    world
        .with_all(controllers, async {
            add_node(&world, "a").await;
            add_node(&world, "b").await;
            add(&world, "on-a", "a").await;
            add(&world, "on-b", "b").await;
            add(&world, "early", "c").await;
            world.yield_all().await;
            assert_eq!(names(&world).len(), 3, "a node may yet register");
            add_node(&world, "c").await;
            world.clock.advance(Duration::from_secs(60));
            world.yield_all().await;
            assert_eq!(names(&world).len(), 3);
            // One that is missed for a moment, again and again, is not gone.
            for _ in 0..3 {
                world.server.remove(ObjectRef::of(&world.one::<Node>("a")).target());
                world.yield_all().await;
                world.clock.advance(Duration::from_secs(30));
                world.yield_all().await;
                assert_eq!(names(&world).len(), 3);
                add_node(&world, "a").await;
                world.yield_all().await;
            }
            world.server.remove(ObjectRef::of(&world.one::<Node>("a")).target());
            world.yield_all().await;
            world.clock.advance(Duration::from_secs(40));
            world.yield_all().await;
            assert_eq!(names(&world), ["early", "on-b"]);
        })
        .await;
}

#[tokio::test]
async fn a_node_that_the_cache_lacks_is_not_gone() {
    let world = World::new(2);
    let (informers, driver) = world.driver(PodCollector::new(3));
    add_node(&world, "a").await;
    add(&world, "on-a", "a").await;
    world.clock.advance(Duration::from_secs(60));
    informers.of::<Pod>().as_dyn().seed(vec![Arc::new(world.one::<Pod>("on-a"))]);
    driver.process(driver.queue().get().await.unwrap()).await;
    world.clock.advance(Duration::from_secs(40));
    driver.process(driver.queue().get().await.unwrap()).await;
    assert_eq!(names(&world), ["on-a"]);
    assert_eq!(informers.of::<Node>().len(), 1);
}

#[tokio::test]
async fn pods_that_wait_for_nobody_and_too_many_that_ended() {
    let world = World::new(3);
    world
        .with_all(controllers, async {
            let mut held = Pod { metadata: meta("held"), ..Pod::default() };
            held.metadata.finalizers = Some(vec!["example.com/count".into()]);
            world.create(held).await;
            world.api::<Pod>().delete("held", &Default::default()).await.unwrap();
            world.yield_all().await;
            assert_eq!(world.one::<Pod>("held").status.phase, PodPhase::Failed, "whoever counts it sees that it ended");
            world.server.remove(ObjectRef::of(&world.one::<Pod>("held")).target());
            for index in 0..5 {
                add(&world, &format!("p{index}"), "").await;
                world.clock.advance(Duration::from_secs(1));
            }
            world.server.set_faults(Faults { answer_lost: 0.3, refused: 0.1, ..Faults::default() });
            for index in 0..5 {
                world.report::<Pod>(&format!("p{index}"), |pod| {
                    end(pod, PodPhase::Succeeded, 0, world.clock.now());
                });
            }
            world.settle().await;
            assert_eq!(names(&world), ["p2", "p3", "p4"]);
        })
        .await;
}
