//! Gangs: all or nothing, one after the other, and nobody waits for ever.

use longshore_core::api::PodGroup;
use longshore_core::api::pod_group::POD_GROUP_LABEL;
use longshore_core::client::params::DeleteParams;

use super::*;
use crate::policies::Gang;

fn profile() -> Profile {
    Profile::default_scheduler().with(Gang::default())
}

impl World {
    async fn group(&self, name: &str, spec: Value) {
        let metadata = json!({ "name": name, "namespace": "default" });
        self.create::<PodGroup>(json!({ "metadata": metadata, "spec": spec })).await;
    }

    async fn member(&self, group: &str, name: &str, cpu: &str) {
        self.pod(name, cpu, json!({ "metadata": { "labels": { POD_GROUP_LABEL: group } } })).await;
    }

    async fn members(&self, group: &str, count: usize, cpu: &str) {
        for index in 0..count {
            self.member(group, &format!("{group}-{index}"), cpu).await;
        }
    }

    async fn delete(&self, name: &str) {
        let pods: Api<Pod> = Api::namespaced(self.client(), "default");
        pods.delete(name, &DeleteParams::default()).await.unwrap();
    }

    fn bound_of(&self, group: &str) -> usize {
        let prefix = format!("{group}-");
        self.bound().keys().filter(|name| name.starts_with(&prefix)).count()
    }

    /// What the pod's condition says of why it has no node.
    fn why(&self, name: &str) -> Option<String> {
        let pods = self.pods();
        let pod = pods.iter().find(|pod| pod.metadata.name.as_deref() == Some(name))?;
        says_unschedulable(pod).map(str::to_owned)
    }
}

#[tokio::test]
async fn a_gang_is_bound_whole_or_not_at_all() {
    let mut world = World::new();
    world.node("a", "4").await;
    world.start(profile(), 1);
    world.group("five", json!({ "minMember": 5 })).await;
    world.members("five", 5, "1").await;
    world.until("the last says why", |world| world.why("five-4").is_some()).await;
    assert_eq!(world.bound().len(), 0);
    let whole = "pod group five does not fit as a whole: 4 of 5 pods found a node";
    assert_eq!(world.why("five-0").as_deref(), Some(whole));
    assert!(world.why("five-4").unwrap().starts_with("0/1 nodes are available: 1 Insufficient cpu."));
    // They hold nothing: others get in at once, without waiting for any time to pass.
    let before = world.clock.elapsed();
    world.pod("other", "4", json!({})).await;
    world.until("the other is bound", |world| world.bound().len() == 1).await;
    assert_eq!(world.clock.elapsed(), before);
    world.node("b", "8").await;
    world.until("all five are bound", |world| world.bound_of("five") == 5).await;
    world.stop().await;
}

#[tokio::test]
async fn pods_wait_for_their_group_and_for_enough_of_them() {
    let mut world = World::new();
    world.node("a", "4").await;
    world.start(profile(), 1);
    world.members("g", 2, "1").await;
    let says = |world: &World, what: &str| {
        world.why("g-0").is_some_and(|why| why == format!("0/1 nodes are available: {what}."))
    };
    world.until("no group", |world| says(world, "pod group g does not exist")).await;
    world.group("g", json!({ "minMember": 3 })).await;
    world.until("too few", |world| says(world, "pod group g has 2 of 3 pods")).await;
    assert_eq!(world.why("g-1").as_deref(), Some("pod group g has 2 of 3 pods"));
    // The third makes all go, whatever the back-off of the others.
    let before = world.clock.elapsed();
    world.member("g", "g-2", "1").await;
    world.until("all are bound", |world| world.bound_of("g") == 3).await;
    assert_eq!(world.clock.elapsed(), before);
    // More are welcome, one by one.
    world.member("g", "g-3", "1").await;
    world.until("one more", |world| world.bound_of("g") == 4).await;
    world.stop().await;
}

#[tokio::test]
async fn gangs_of_which_one_fits_at_a_time_run_one_after_the_other() {
    let mut world = World::new();
    for index in 0..4 {
        world.node(&format!("n{index}"), "1").await;
    }
    for group in ["a", "b", "c"] {
        world.group(group, json!({ "minMember": 3 })).await;
    }
    // They come mixed, as from three controllers at once.
    for index in 0..3 {
        for group in ["a", "b", "c"] {
            world.member(group, &format!("{group}-{index}"), "1").await;
        }
    }
    world.start(profile(), 1);
    let mut done: Vec<&str> = Vec::new();
    while done.len() < 3 {
        let left = |group: &&str| !done.contains(group);
        let whole = |world: &World| ["a", "b", "c"].into_iter().filter(left).find(|group| world.bound_of(group) == 3);
        world.until("one is bound whole", |world| whole(world).is_some()).await;
        let group = whole(&world).unwrap();
        for other in ["a", "b", "c"].into_iter().filter(|other| *other != group && !done.contains(other)) {
            assert_eq!(world.bound_of(other), 0, "{other} holds nothing while {group} runs");
        }
        for index in 0..3 {
            world.delete(&format!("{group}-{index}")).await;
        }
        done.push(group);
    }
    assert!(world.clock.elapsed() < Duration::from_secs(40), "no time-out was needed: {:?}", world.clock.elapsed());
    world.stop().await;
}

/// Of a group `g` of two, one holds a node; for the other room is being made, which takes its time.
async fn waiting_for_room(spec: serde_json::Value) -> World {
    let mut world = World::new();
    world.server.set_graceful(true);
    world.node("a", "1").await;
    world.node("b", "1").await;
    world.start(profile(), 1);
    world.pod("victim", "1", json!({ "spec": { "priority": -5 } })).await;
    world.until("the victim is bound", |world| world.bound().len() == 1).await;
    world.group("g", spec).await;
    world.members("g", 2, "1").await;
    world.rest().await;
    assert_eq!(world.bound_of("g"), 0);
    world
}

#[tokio::test]
async fn a_gang_that_waits_for_room_to_be_made_gives_up_at_its_time_out() {
    let world = waiting_for_room(json!({ "minMember": 2, "scheduleTimeoutSeconds": 7 })).await;
    let before = world.clock.elapsed();
    world.pod("other", "1", json!({ "spec": { "priority": -5 } })).await;
    world.until("the other is bound", |world| world.bound().contains_key("other")).await;
    let waited = world.clock.elapsed() - before;
    assert!(waited >= Duration::from_secs(7) && waited < Duration::from_secs(12), "{waited:?}");
    world.stop().await;
}

#[tokio::test]
async fn when_a_member_goes_while_others_wait_they_give_their_nodes_back_at_once() {
    let world = waiting_for_room(json!({ "minMember": 2 })).await;
    let before = world.clock.elapsed();
    world.delete("g-1").await;
    world.until("the first says why", |world| world.why("g-0").as_deref() == Some("pod group g has 1 of 2 pods")).await;
    world.pod("other", "1", json!({ "spec": { "priority": -5 } })).await;
    world.until("another has the node", |world| world.bound().contains_key("other")).await;
    assert!(world.clock.elapsed() - before < Duration::from_secs(5));
    world.stop().await;
}

#[tokio::test]
async fn what_the_group_needs_in_all_must_be_free() {
    let mut world = World::new();
    world.node("a", "3").await;
    world.start(profile(), 1);
    world.group("g", json!({ "minMember": 1, "minResources": { "cpu": "3500m" } })).await;
    world.member("g", "g-0", "1").await;
    let says = |world: &World| {
        world.why("g-0").is_some_and(|why| why.contains("pod group g needs 3500m of cpu, of which 3 are free"))
    };
    world.until("it does not begin", says).await;
    world.node("b", "1").await;
    world.until("it is bound", |world| world.bound_of("g") == 1).await;
    world.stop().await;
}

#[tokio::test]
async fn a_gated_member_is_none_until_its_gate_opens() {
    let mut world = World::new();
    world.node("a", "4").await;
    world.start(profile(), 1);
    world.group("g", json!({ "minMember": 2 })).await;
    world.member("g", "g-0", "1").await;
    let gated = json!({
        "metadata": { "labels": { POD_GROUP_LABEL: "g" } },
        "spec": { "schedulingGates": [{ "name": "x" }] },
    });
    world.pod("g-1", "1", gated).await;
    world.until("too few", |world| world.why("g-0").is_some_and(|why| why.contains("has 1 of 2 pods"))).await;
    let pods: Api<Pod> = Api::namespaced(world.client(), "default");
    let mut open = Pod::clone(&*pods.get("g-1").await.unwrap());
    open.spec.scheduling_gates.clear();
    pods.update(open, &PostParams::default()).await.unwrap();
    world.until("both are bound", |world| world.bound_of("g") == 2).await;
    world.stop().await;
}

#[tokio::test]
async fn a_new_scheduler_completes_a_gang_of_which_a_part_was_bound() {
    let mut world = World::new();
    world.node("a", "4").await;
    world.group("g", json!({ "minMember": 3 })).await;
    world.members("g", 3, "1").await;
    let pods: Api<Pod> = Api::namespaced(world.client(), "default");
    let half = pods.get("g-1").await.unwrap();
    let bind = longshore_core::client::Bind {
        namespace: "default".to_owned(),
        pod: "g-1".to_owned(),
        uid: half.metadata.uid.clone().unwrap(),
        node: "a".to_owned(),
        annotations: BTreeMap::new(),
    };
    world.client().bind(&bind).await.unwrap();
    world.start(profile(), 1);
    world.until("all are bound", |world| world.bound_of("g") == 3).await;
    world.stop().await;
}

#[tokio::test]
async fn gangs_that_never_fit_come_to_rest() {
    let mut world = World::new();
    world.node("a", "4").await;
    world.start(profile(), 1);
    for group in ["a", "b"] {
        world.group(group, json!({ "minMember": 5 })).await;
        world.members(group, 5, "1").await;
    }
    world.until("both say why", |world| world.why("a-0").is_some() && world.why("b-0").is_some()).await;
    world.rest().await;
    // That one gives back what it held for a moment is no news to the other.
    let before = world.server.writes();
    for _ in 0..20 {
        world.clock.advance(Duration::from_secs(5));
        world.rest().await;
    }
    assert_eq!(world.server.writes(), before);
    assert!(world.bound().is_empty());
    world.stop().await;
}
