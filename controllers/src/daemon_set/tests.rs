use longshore_core::api::daemon_set::RollingUpdateDaemonSet;
use longshore_core::api::node::{Taint, TaintEffect};
use longshore_core::clock::Clock;
use longshore_core::int_or_string::IntOrString;
use longshore_core::testing::client::Faults;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::ControllerManager;
use crate::testing::{Kubelet, World, end, meta, selector, template};

fn controllers(manager: &mut ControllerManager) {
    manager.add(DaemonSetController);
}

fn set() -> DaemonSet {
    let mut set = DaemonSet { metadata: meta("log"), ..DaemonSet::default() };
    set.spec.selector = selector("log");
    set.spec.template = template("log", "log:1");
    set
}

async fn add_node(world: &World, name: &str, taint: Option<(&str, TaintEffect)>) {
    let mut node = Node::default();
    node.metadata.name = Some(name.into());
    node.metadata.labels = Some([("kubernetes.io/hostname".to_owned(), name.to_owned())].into());
    node.spec.taints =
        taint.map(|(key, effect)| Taint { key: key.into(), effect, ..Taint::default() }).into_iter().collect();
    world.create(node).await;
}

fn now(world: &World) -> DaemonSet {
    world.one("log")
}

fn nodes(world: &World) -> Vec<String> {
    let pods = world.all::<Pod>();
    let mut nodes: Vec<_> = pods.iter().map(|pod| node_of(pod).unwrap().to_owned()).collect();
    nodes.sort();
    nodes
}

fn set_image(world: &World, image: &str) {
    world.edit::<DaemonSet>("log", |set| set.spec.template.spec.containers[0].image = image.into());
}

fn images(world: &World) -> Vec<String> {
    world.all::<Pod>().iter().map(|pod| pod.spec.containers[0].image.clone()).collect()
}

#[tokio::test]
async fn every_node_that_fits_has_one() {
    let world = World::new(1);
    let mut kubelet = Kubelet::new(1);
    world
        .with_all(controllers, async {
            add_node(&world, "a", None).await;
            add_node(&world, "b", Some(("node.kubernetes.io/not-ready", TaintEffect::NoExecute))).await;
            add_node(&world, "c", Some(("example.com/mine", TaintEffect::NoSchedule))).await;
            world.create(set()).await;
            world.settle_with(&mut kubelet).await;
            assert_eq!(nodes(&world), ["a", "b"], "daemons put up with nodes in trouble, not with strange taints");
            let status = now(&world).status;
            assert_eq!((status.desired_number_scheduled, status.current_number_scheduled), (2, 2));
            assert_eq!((status.number_ready, status.number_available, status.number_unavailable), (2, 2, 0));
            assert_eq!((status.updated_number_scheduled, status.observed_generation), (2, 1));
            add_node(&world, "d", None).await;
            world.settle_with(&mut kubelet).await;
            assert_eq!(nodes(&world), ["a", "b", "d"]);
            // A taint that keeps new pods away leaves the old one; one that expels does not.
            for (effect, left) in [(TaintEffect::NoSchedule, 3), (TaintEffect::NoExecute, 2)] {
                let taint = Taint { key: "example.com/x".into(), effect, ..Taint::default() };
                world.edit::<Node>("d", |node| node.spec.taints = vec![taint]);
                world.settle_with(&mut kubelet).await;
                assert_eq!(world.all::<Pod>().len(), left);
            }
            world.edit::<DaemonSet>("log", |set| {
                set.spec.template.spec.node_selector = [("kubernetes.io/hostname".into(), "a".into())].into();
            });
            world.settle_with(&mut kubelet).await;
            assert_eq!(nodes(&world), ["a"]);
            let name = world.all::<Pod>()[0].metadata.name.clone().unwrap();
            world.report::<Pod>(&name, |pod| end(pod, PodPhase::Failed, 1, world.clock.now()));
            world.settle_with(&mut kubelet).await;
            assert_eq!((nodes(&world), now(&world).status.number_ready), (vec!["a".to_owned()], 1));
            assert_ne!(world.all::<Pod>()[0].metadata.name.clone().unwrap(), name);
        })
        .await;
}

#[tokio::test]
async fn changes_roll_unless_told_to_wait_for_deletion() {
    let world = World::new(2);
    let mut kubelet = Kubelet::new(2);
    world
        .with_all(controllers, async {
            for name in ["a", "b", "c"] {
                add_node(&world, name, None).await;
            }
            let mut waits = set();
            waits.spec.update_strategy.type_ = DaemonSetUpdateStrategyType::OnDelete;
            world.create(waits).await;
            world.settle_with(&mut kubelet).await;
            set_image(&world, "log:2");
            world.settle_with(&mut kubelet).await;
            assert_eq!((images(&world), now(&world).status.updated_number_scheduled), (vec!["log:1".to_owned(); 3], 0));
            world.edit::<DaemonSet>("log", |set| {
                set.spec.update_strategy.type_ = DaemonSetUpdateStrategyType::RollingUpdate;
            });
            world.settle_with(&mut kubelet).await;
            assert_eq!((images(&world), now(&world).status.updated_number_scheduled), (vec!["log:2".to_owned(); 3], 3));
            set_image(&world, "bad");
            world.settle_with(&mut kubelet).await;
            assert_eq!(images(&world).iter().filter(|image| *image == "bad").count(), 1, "stops at the first");
            set_image(&world, "log:2");
            world.settle_with(&mut kubelet).await;
            assert_eq!((images(&world), world.all::<ControllerRevision>().len()), (vec!["log:2".to_owned(); 3], 3));
        })
        .await;
}

#[tokio::test]
async fn a_daemon_that_ends_at_once_is_not_replaced_all_the_time() {
    let world = World::new(3);
    world
        .with_all(controllers, async {
            add_node(&world, "a", None).await;
            world.create(set()).await;
            world.yield_all().await;
            let mut seen = std::collections::BTreeSet::new();
            for _ in 0..200 {
                for pod in world.all::<Pod>() {
                    let name = pod.metadata.name.unwrap();
                    seen.insert(name.clone());
                    world.report::<Pod>(&name, |pod| end(pod, PodPhase::Failed, 1, world.clock.now()));
                }
                world.yield_all().await;
                world.clock.advance(Duration::from_millis(100));
            }
            assert!((3..=5).contains(&seen.len()), "{} in 20 s", seen.len());
        })
        .await;
}

#[test]
fn bounds_as_upstream_resolves_them() {
    let bounds = |surge: IntOrString, unavailable: IntOrString, nodes| {
        let mut set = set();
        let bounds = RollingUpdateDaemonSet { max_surge: Some(surge), max_unavailable: Some(unavailable) };
        set.spec.update_strategy.rolling_update = Some(bounds);
        update::bounds(&set, nodes)
    };
    assert_eq!(bounds(0.into(), 1.into(), 10), (0, 1));
    assert_eq!(bounds(0.into(), "25%".into(), 10), (0, 3));
    assert_eq!(bounds("5%".into(), 0.into(), 10), (1, 0));
    assert_eq!(bounds(0.into(), 0.into(), 10), (0, 1));
}

/// Versions change and nodes come and go under faults, with the process dying in between: never two pods on a node
/// beyond what may surge, never more nodes without service than allowed, and in the end one pod of the last version each.
#[tokio::test]
async fn random_faults_keep_the_bounds() {
    for seed in 0..8 {
        let world = World::new(seed);
        world.server.set_graceful(true);
        let mut kubelet = Kubelet::new(seed);
        let mut rng = rand_pcg::Pcg64::seed_from_u64(seed);
        let (surge, unavailable) =
            if seed.is_multiple_of(2) { (0, rng.random_range(1..3)) } else { (rng.random_range(1..3), 0) };
        let mut log = set();
        let bounds =
            RollingUpdateDaemonSet { max_surge: Some(surge.into()), max_unavailable: Some(unavailable.into()) };
        log.spec.update_strategy.rolling_update = Some(bounds);
        for index in 0..5 {
            add_node(&world, &format!("n{index}"), None).await;
        }
        world.create(log).await;
        world.with_all(controllers, world.settle_with(&mut kubelet)).await;
        let mut version = 1;
        for life in 0..4 {
            world
                .with_all(controllers, async {
                    kubelet.eager = 0.4;
                    for step in 0..rng.random_range(1..60) {
                        world.server.set_faults(Faults::default());
                        if rng.random_bool(0.08) {
                            version = rng.random_range(1..4);
                            set_image(&world, &format!("log:{version}"));
                        }
                        kubelet.step(&world);
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
                        let pods: Vec<_> = world.all::<Pod>().into_iter().filter(|pod| !is_deleted(pod)).collect();
                        let (mut without, mut doubled) = (0, 0);
                        for index in 0..5 {
                            let name = format!("n{index}");
                            let here: Vec<_> = pods.iter().filter(|pod| node_of(pod) == Some(&*name)).collect();
                            without += i32::from(here.iter().all(|pod| !is_ready(pod)));
                            doubled += i32::from(here.len() > 1);
                            assert!(here.len() <= 2, "{place}: {} on {name}", here.len());
                        }
                        assert!(without <= unavailable, "{place}: {without} nodes without, at most {unavailable}");
                        assert!(doubled <= surge, "{place}: {doubled} nodes with two, at most {surge}");
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
        assert_eq!(nodes(&world), ["n0", "n1", "n2", "n3", "n4"], "seed {seed}");
        assert_eq!(images(&world), vec![format!("log:{version}"); 5], "seed {seed}");
        assert_eq!(now(&world).status.updated_number_scheduled, 5, "seed {seed}");
    }
}
