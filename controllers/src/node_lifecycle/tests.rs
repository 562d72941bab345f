use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use longshore_core::api::node::{Taint, TaintEffect};
use longshore_core::api::pod::{PodPhase, Toleration, TolerationOperator};
use longshore_core::clock::Clock;
use longshore_core::testing::client::Faults;

use super::eviction::TaintEvictionController;
use super::*;
use crate::ControllerManager;
use crate::testing::{World, meta, set_ready};

fn controllers(world: &World) -> impl Fn(&mut ControllerManager) + use<> {
    let clock: Arc<dyn Clock> = Arc::new(world.clock.clone());
    move |manager| {
        manager.add(NodeLifecycleController::new(Duration::from_secs(40), clock.clone()));
        manager.add(TaintEvictionController);
    }
}

fn report(world: &World, node: &str, type_: &str, status: ConditionStatus) {
    let now = world.clock.now();
    world.report::<Node>(node, |node| {
        node.status.conditions.retain(|condition| condition.type_ != type_);
        node.status.conditions.push(NodeCondition {
            type_: type_.into(),
            status,
            last_heartbeat_time: Some(Time(now)),
            last_transition_time: Some(Time(now)),
            ..NodeCondition::default()
        });
    });
}

async fn add_node(world: &World, name: &str) {
    let mut node = Node::default();
    node.metadata.name = Some(name.into());
    world.create(node).await;
    report(world, name, "Ready", ConditionStatus::True);
    let mut lease = Lease { metadata: meta(name), ..Lease::default() };
    lease.metadata.namespace = Some(LEASES.into());
    lease.spec.renew_time = Some(MicroTime(world.clock.now()));
    world.client.create(Box::new(lease), &Default::default()).await.unwrap();
}

fn renew(world: &World, name: &str) {
    renew_by_clock(world, name, 0);
}

/// A renewal by a node whose clock is off by so many seconds.
fn renew_by_clock(world: &World, name: &str, seconds: i64) {
    let target = crate::ObjectRef {
        kind: longshore_core::kind::KindType::of::<Lease>(),
        key: ObjectKey::new(LEASES, name),
        uid: String::new(),
    };
    let now = world.clock.now() + SignedDuration::from_secs(seconds);
    world.server.modify(target.target(), |object| {
        object.as_any_mut().downcast_mut::<Lease>().unwrap().spec.renew_time = Some(MicroTime(now));
    });
}

async fn add_pod(world: &World, name: &str, node: &str, patience: Option<i64>) {
    let mut pod = Pod { metadata: meta(name), ..Pod::default() };
    pod.spec.node_name = node.into();
    pod.spec.tolerations = patience
        .map(|seconds| Toleration {
            key: "node.kubernetes.io/unreachable".into(),
            operator: TolerationOperator::Exists,
            effect: "NoExecute".into(),
            toleration_seconds: Some(seconds),
            ..Toleration::default()
        })
        .into_iter()
        .collect();
    world.create(pod).await;
    world.report::<Pod>(name, |pod| {
        pod.status.phase = PodPhase::Running;
        set_ready(pod, true, world.clock.now());
    });
}

fn taints(world: &World, node: &str) -> Vec<(String, TaintEffect)> {
    let taints = world.one::<Node>(node).spec.taints;
    taints.into_iter().map(|taint| (taint.key.rsplit('/').next().unwrap().to_owned(), taint.effect)).collect()
}

fn pods(world: &World) -> Vec<String> {
    world.all::<Pod>().into_iter().map(|pod| pod.metadata.name.unwrap()).collect()
}

/// Lets time pass while some nodes stay alive.
async fn pass(world: &World, seconds: u64, alive: &[&str]) {
    for _ in 0..seconds.div_ceil(5) {
        alive.iter().for_each(|name| renew(world, name));
        world.clock.advance(Duration::from_secs(5));
        world.yield_all().await;
    }
}

#[tokio::test]
async fn a_silent_node_loses_its_pods_when_their_patience_ends_and_comes_back() {
    let world = World::new(1);
    world
        .with_all(controllers(&world), async {
            add_node(&world, "a").await;
            add_node(&world, "b").await;
            add_pod(&world, "patient", "a", Some(300)).await;
            add_pod(&world, "hasty", "a", None).await;
            add_pod(&world, "elsewhere", "b", None).await;
            pass(&world, 35, &["b"]).await;
            assert!(taints(&world, "a").is_empty());
            pass(&world, 10, &["b"]).await;
            let node = world.one::<Node>("a");
            assert!(node.status.conditions.iter().all(|condition| condition.status == ConditionStatus::Unknown));
            assert_eq!(node.status.conditions.len(), 4);
            let unreachable = |effect| ("unreachable".to_owned(), effect);
            assert_eq!(
                taints(&world, "a"),
                [unreachable(TaintEffect::NoSchedule), unreachable(TaintEffect::NoExecute)]
            );
            assert!(taints(&world, "b").is_empty());
            assert_eq!(pods(&world), ["elsewhere", "patient"], "who does not tolerate it goes at once");
            assert!(!is_ready(&world.one::<Pod>("patient")));
            pass(&world, 200, &["b"]).await;
            report(&world, "a", "Ready", ConditionStatus::True);
            renew(&world, "a");
            world.yield_all().await;
            assert!(taints(&world, "a").is_empty());
            pass(&world, 200, &["a", "b"]).await;
            assert_eq!(pods(&world), ["elsewhere", "patient"], "the time before does not count");
            pass(&world, 360, &["b"]).await;
            assert_eq!(pods(&world), ["elsewhere"]);
        })
        .await;
}

#[tokio::test]
async fn nobody_is_expelled_when_no_node_is_heard_of() {
    let world = World::new(2);
    world
        .with_all(controllers(&world), async {
            add_node(&world, "a").await;
            add_node(&world, "b").await;
            add_pod(&world, "pod", "a", None).await;
            pass(&world, 300, &[]).await;
            for node in ["a", "b"] {
                assert_eq!(taints(&world, node), [("unreachable".to_owned(), TaintEffect::NoSchedule)]);
            }
            assert_eq!(pods(&world), ["pod"]);
        })
        .await;
}

#[tokio::test]
async fn silence_before_we_listened_does_not_count() {
    let world = World::new(3);
    add_node(&world, "a").await;
    world.clock.advance(Duration::from_secs(3600));
    world
        .with_all(controllers(&world), async {
            pass(&world, 35, &[]).await;
            assert!(taints(&world, "a").is_empty());
        })
        .await;
}

#[tokio::test]
async fn a_node_whose_clock_is_wrong_is_heard_of_and_missed_as_others_are() {
    for (seed, seconds) in [(5, -300), (6, 300)] {
        let world = World::new(seed);
        world
            .with_all(controllers(&world), async {
                add_node(&world, "a").await;
                add_node(&world, "b").await;
                for _ in 0..30 {
                    renew_by_clock(&world, "a", seconds);
                    pass(&world, 5, &["b"]).await;
                }
                assert!(taints(&world, "a").is_empty(), "{seconds}: it is heard of");
                pass(&world, 45, &["b"]).await;
                assert_eq!(taints(&world, "a").len(), 2, "{seconds}: it is missed");
            })
            .await;
    }
}

#[tokio::test]
async fn conditions_and_cordons_become_taints() {
    let world = World::new(4);
    world
        .with_all(controllers(&world), async {
            add_node(&world, "a").await;
            let foreign = Taint { key: "example.com/x".into(), effect: TaintEffect::NoExecute, ..Taint::default() };
            world.edit::<Node>("a", |node| {
                node.spec.unschedulable = true;
                node.spec.taints = vec![foreign];
            });
            report(&world, "a", "MemoryPressure", ConditionStatus::True);
            report(&world, "a", "Ready", ConditionStatus::False);
            world.yield_all().await;
            let mut keys = taints(&world, "a");
            keys.sort();
            let expected = [
                ("memory-pressure", TaintEffect::NoSchedule),
                ("not-ready", TaintEffect::NoSchedule),
                ("not-ready", TaintEffect::NoExecute),
                ("unschedulable", TaintEffect::NoSchedule),
                ("x", TaintEffect::NoExecute),
            ];
            assert_eq!(keys, expected.map(|(key, effect)| (key.to_owned(), effect)));
            let timed = world.one::<Node>("a").spec.taints;
            assert!(timed.iter().all(|taint| taint.time_added.is_some()));
            world.edit::<Node>("a", |node| node.spec.unschedulable = false);
            report(&world, "a", "MemoryPressure", ConditionStatus::False);
            report(&world, "a", "Ready", ConditionStatus::True);
            world.yield_all().await;
            assert_eq!(taints(&world, "a"), [("x".to_owned(), TaintEffect::NoExecute)]);
        })
        .await;
}

#[tokio::test]
async fn converges_under_faults() {
    for seed in 0..6 {
        let world = World::new(seed);
        world
            .with_all(controllers(&world), async {
                add_node(&world, "a").await;
                add_node(&world, "b").await;
                for index in 0..5 {
                    add_pod(&world, &format!("p{index}"), "a", Some(60)).await;
                }
                world.server.set_faults(Faults { refused: 0.2, answer_lost: 0.2, watch_cut: 0.1, expired: 0.1 });
                pass(&world, 90, &["b"]).await;
                assert_eq!(pods(&world).len(), 5, "seed {seed}: nobody goes before the time");
                world.server.set_faults(Faults::default());
                pass(&world, 120, &["b"]).await;
                assert!(pods(&world).is_empty(), "seed {seed}");
                assert_eq!(taints(&world, "a").len(), 2, "seed {seed}");
            })
            .await;
    }
}
