//! The scheduler against a server that keeps a ledger, in virtual time.

mod asked;
mod gangs;
mod measured;
mod traced;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use longshore_core::api::pod::Pod;
use longshore_core::api::pod::helpers::condition;
use longshore_core::api::{ConditionStatus, Event, Node, PersistentVolume, PersistentVolumeClaim};
use longshore_core::client::params::PostParams;
use longshore_core::client::{Api, Client};
use longshore_core::clock::{Clock, VirtualClock};
use longshore_core::kind::{Kind, KindType};
use longshore_core::leader::LeaderConfig;
use longshore_core::scheduling::{Policy, QueueOrder, QueuedPod, TieBreak};
use longshore_core::testing::client::FakeServer;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Options, Scheduler, SchedulerHandle};
use crate::Profile;

/// A server, schedulers over it, and time that moves only when nothing else does.
struct World {
    clock: VirtualClock,
    server: FakeServer,
    cancel: CancellationToken,
    schedulers: JoinSet<()>,
}

impl World {
    fn new() -> Self {
        traced::spans();
        let clock = VirtualClock::new();
        let server = FakeServer::new(Arc::new(clock.clone()), 1);
        server.keep_ledger();
        Self { clock, server, cancel: CancellationToken::new(), schedulers: JoinSet::new() }
    }

    fn client(&self) -> Arc<dyn Client> {
        Arc::new(self.server.clone())
    }

    fn start(&mut self, profile: Profile, seed: u64) -> SchedulerHandle {
        let tie_break = TieBreak::Uniform { seed };
        self.start_with(Options { profiles: vec![profile], tie_break, seed, ..Options::default() })
    }

    fn start_with(&mut self, options: Options) -> SchedulerHandle {
        let scheduler = Scheduler::new(self.client(), Arc::new(self.clock.clone()), options).unwrap();
        let handle = scheduler.handle();
        self.schedulers.spawn(scheduler.run(self.cancel.clone()));
        handle
    }

    async fn create<K: Kind>(&self, object: Value) {
        let object: K = serde_json::from_value(object).unwrap();
        let namespace = longshore_core::kind::AnyObject::meta(&object).namespace.clone();
        let api: Api<K> = match namespace {
            Some(namespace) => Api::namespaced(self.client(), &namespace),
            None => Api::all(self.client()),
        };
        api.create(object, &PostParams::default()).await.unwrap();
    }

    async fn node(&self, name: &str, cpu: &str) {
        let resources = json!({ "cpu": cpu, "memory": "32Gi", "pods": "110" });
        self.create::<Node>(json!({ "metadata": { "name": name }, "status": { "allocatable": resources } })).await;
    }

    async fn pod(&self, name: &str, cpu: &str, extra: Value) {
        let mut value = json!({
            "metadata": { "name": name, "namespace": "default" },
            "spec": { "containers": [{ "name": "c", "resources": { "requests": { "cpu": cpu } } }] },
        });
        merge(&mut value, extra);
        self.create::<Pod>(value).await;
    }

    fn pods(&self) -> Vec<Arc<Pod>> {
        let objects = self.server.objects(KindType::of::<Pod>());
        objects.into_iter().map(|object| object.into_any_arc().downcast().unwrap()).collect()
    }

    fn bound(&self) -> BTreeMap<String, String> {
        let bound = self.pods().into_iter().filter(|pod| !pod.spec.node_name.is_empty());
        bound.map(|pod| (pod.metadata.name.clone().unwrap(), pod.spec.node_name.clone())).collect()
    }

    fn events(&self, reason: &str) -> Vec<String> {
        let objects = self.server.objects(KindType::of::<Event>());
        let events = objects.into_iter().map(|object| object.into_any_arc().downcast::<Event>().unwrap());
        events.filter(|event| event.reason == reason).map(|event| event.message.clone()).collect()
    }

    /// Lets everything run until nothing moves any more, without moving time.
    async fn rest(&self) {
        let mut writes = self.server.writes();
        let mut quiet = 0;
        while quiet < 200 {
            tokio::task::yield_now().await;
            let now = self.server.writes();
            quiet = if now == writes { quiet + 1 } else { 0 };
            writes = now;
        }
    }

    /// Lets everything run, and time pass, until this holds.
    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..200 {
            self.rest().await;
            if holds(self) {
                return;
            }
            self.clock.advance_to_next();
        }
        panic!("never: {what}; bound: {:?}; {:?}", self.bound(), self.events("FailedScheduling"));
    }

    async fn stop(mut self) {
        self.cancel.cancel();
        while let Some(ended) = self.schedulers.join_next().await {
            ended.unwrap();
        }
    }
}

fn merge(target: &mut Value, extra: Value) {
    match (target, extra) {
        (Value::Object(target), Value::Object(extra)) => {
            for (key, value) in extra {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
        (target, extra) => *target = extra,
    }
}

fn says_unschedulable(pod: &Pod) -> Option<&str> {
    let scheduled = condition(&pod.status, "PodScheduled")?;
    (scheduled.status == ConditionStatus::False && scheduled.reason == "Unschedulable").then_some(&scheduled.message)
}

#[tokio::test]
async fn pods_are_bound_and_told_of() {
    let mut world = World::new();
    world.node("a", "2").await;
    for index in 0..3 {
        world.pod(&format!("p{index}"), "500m", json!({})).await;
    }
    world.pod("foreign", "1", json!({ "spec": { "schedulerName": "somebody-else" } })).await;
    world.start(Profile::default_scheduler(), 1);
    world.until("three pods are bound", |world| world.bound().len() == 3).await;
    world.until("events", |world| world.events("Scheduled").len() == 3).await;
    assert!(world.events("Scheduled").contains(&"Successfully assigned default/p1 to a".to_owned()));
    assert!(!world.bound().contains_key("foreign"));
    world.stop().await;
}

#[tokio::test]
async fn a_pod_without_a_place_says_why_holds_nobody_up_and_goes_when_there_is_room() {
    let mut world = World::new();
    world.node("a", "1").await;
    world.node("b", "1").await;
    world.pod("big", "3", json!({ "spec": { "priority": 100 } })).await;
    world.pod("small", "1", json!({})).await;
    world.start(Profile::default_scheduler(), 1);
    world.until("the small pod is bound", |world| world.bound().contains_key("small")).await;
    let text = "0/2 nodes are available: 2 Insufficient cpu. no new claims to deallocate, preemption: 0/2 nodes are \
                available: 2 Preemption is not helpful for scheduling.";
    world.until("the event", |world| world.events("FailedScheduling") == [text]).await;
    let pods = world.pods();
    let big = pods.iter().find(|pod| pod.metadata.name.as_deref() == Some("big")).unwrap();
    assert_eq!(says_unschedulable(big), Some(text));
    world.node("c", "4").await;
    world.until("the big pod is bound", |world| world.bound().get("big").is_some_and(|node| node == "c")).await;
    assert!(world.clock.elapsed() < Duration::from_secs(5), "the new node woke it, not the five minutes");
    world.stop().await;
}

#[tokio::test]
async fn gates_hold_a_pod_back() {
    let mut world = World::new();
    world.node("a", "1").await;
    world.pod("gated", "1", json!({ "spec": { "schedulingGates": [{ "name": "x" }] } })).await;
    world.start(Profile::default_scheduler(), 1);
    world.rest().await;
    assert!(world.bound().is_empty());
    let pods: Api<Pod> = Api::namespaced(world.client(), "default");
    let mut open = Pod::clone(&*pods.get("gated").await.unwrap());
    open.spec.scheduling_gates.clear();
    pods.update(open, &PostParams::default()).await.unwrap();
    world.until("it is bound", |world| world.bound().contains_key("gated")).await;
    world.stop().await;
}

#[tokio::test]
async fn refused_and_lost_bindings_are_tried_again_until_every_pod_is_bound_once() {
    let mut world = World::new();
    world.node("a", "8").await;
    for index in 0..12 {
        world.pod(&format!("p{index}"), "500m", json!({})).await;
    }
    let faults = longshore_core::testing::client::Faults { refused: 0.2, answer_lost: 0.2, ..Default::default() };
    world.server.set_faults(faults);
    world.start(Profile::default_scheduler(), 1);
    world.until("all are bound", |world| world.bound().len() == 12).await;
    world.stop().await;
}

#[tokio::test]
async fn two_optimistic_schedulers_never_overcommit_a_node() {
    let mut world = World::new();
    // Room for exactly the pods there are.
    for index in 0..6 {
        world.node(&format!("n{index}"), "2").await;
    }
    for index in 0..24 {
        world.pod(&format!("p{index}"), "500m", json!({})).await;
    }
    // Both take any pod; the watches of both lag behind.
    world.start(Profile::default_scheduler(), 1);
    world.start(Profile::default_scheduler(), 2);
    world.until("all are bound", |world| world.bound().len() == 24).await;
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for node in world.bound().into_values() {
        *counts.entry(node).or_default() += 1;
    }
    assert!(counts.values().all(|count| *count == 4), "{counts:?}");
    world.stop().await;
}

#[tokio::test]
async fn an_important_pod_gets_the_room_of_a_lesser_one() {
    let mut world = World::new();
    world.node("a", "2").await;
    world.start(Profile::default_scheduler(), 1);
    world.pod("lesser", "2", json!({ "spec": { "priority": 1 } })).await;
    world.until("the lesser pod is bound", |world| world.bound().contains_key("lesser")).await;
    // Events are named by the time.
    world.clock.advance(Duration::from_secs(1));
    world.pod("important", "1", json!({ "spec": { "priority": 1000 } })).await;
    world.until("the important pod is bound", |world| world.bound().contains_key("important")).await;
    assert!(!world.bound().contains_key("lesser"), "it was evicted");
    assert_eq!(world.events("Preempted").len(), 1);
    world.stop().await;
}

#[derive(Debug)]
struct NewestFirst;

impl Policy for NewestFirst {
    fn name(&self) -> &str {
        "NewestFirst"
    }

    fn as_queue_order(&self) -> Option<&dyn QueueOrder> {
        Some(self)
    }
}

impl QueueOrder for NewestFirst {
    fn compare(&self, a: QueuedPod<'_>, b: QueuedPod<'_>) -> std::cmp::Ordering {
        b.since.cmp(&a.since)
    }
}

#[tokio::test]
async fn profiles_that_cannot_work_are_refused() {
    let world = World::new();
    let with = |profiles| Options { profiles, ..Options::default() };
    let build = |profiles| Scheduler::new(world.client(), Arc::new(world.clock.clone()), with(profiles));
    assert!(build(vec![Profile::default_scheduler().without("PrioritySort")]).is_err());
    assert!(build(vec![Profile::default_scheduler().without("DefaultBinder")]).is_err());
    let twice = build(vec![Profile::default_scheduler(), Profile::default_scheduler()]).unwrap_err();
    assert_eq!(twice.to_string(), "two profiles are called \"default-scheduler\"; give each scheduler name once");
    assert!(build(vec![Profile::default_scheduler(), Profile::default_scheduler().named("other")]).is_ok());
    let newest = Profile::default_scheduler().named("newest").without("PrioritySort").with(NewestFirst);
    let two_orders = build(vec![Profile::default_scheduler(), newest]).unwrap_err();
    let text = "different queue sort plugins for profile \"newest\": \"NewestFirst\", first: \"PrioritySort\"";
    assert_eq!(two_orders.to_string(), text);
}

#[tokio::test]
async fn who_takes_over_knows_everything_already() {
    let mut world = World::new();
    let candidate = |identity: &str| Options {
        leader: Some(LeaderConfig::new("kube-system", "test", identity)),
        ..Options::default()
    };
    let first = Scheduler::new(world.client(), Arc::new(world.clock.clone()), candidate("first")).unwrap();
    let first = world.schedulers.spawn(first.run(CancellationToken::new()));
    world.rest().await;
    world.start_with(candidate("second"));
    world.node("n", "4").await;
    world.pod("a", "1", json!({})).await;
    world.until("the first places", |world| world.bound().contains_key("a")).await;
    let listed = world.server.lists();
    first.abort();
    assert!(world.schedulers.join_next().await.unwrap().unwrap_err().is_cancelled());
    world.pod("b", "1", json!({})).await;
    world.until("the second places", |world| world.bound().contains_key("b")).await;
    assert_eq!(world.server.lists(), listed, "nothing is read anew");
    world.stop().await;
}
