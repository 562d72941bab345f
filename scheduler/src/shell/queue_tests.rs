//! The queue with time as a number.

use longshore_core::api::Node;
use serde_json::json;

use super::*;

fn pod(name: &str, priority: i32) -> Arc<Pod> {
    let value = json!({
        "metadata": { "name": name, "namespace": "default", "uid": name },
        "spec": { "priority": priority, "containers": [] },
    });
    Arc::new(serde_json::from_value(value).unwrap())
}

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn profile() -> Arc<Profile> {
    Arc::new(Profile::default_scheduler())
}

fn pop(queue: &mut Queue) -> Option<String> {
    queue.pop().map(|next| next.key.name.into())
}

/// How many pods are active, backing off and unschedulable.
fn depth(queue: &Queue) -> (usize, usize, usize) {
    (queue.active.len(), queue.backoff.len(), queue.unschedulable.len())
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("default", name)
}

#[test]
fn priority_first_then_first_come() {
    let (mut queue, profile) = (Queue::default(), profile());
    for (name, priority) in [("a", 0), ("b", 5), ("c", 0), ("d", 5)] {
        queue.put(pod(name, priority), &profile, at(0));
    }
    let order: Vec<String> = std::iter::from_fn(|| pop(&mut queue)).collect();
    assert_eq!(order, ["b", "d", "a", "c"]);
}

#[test]
fn a_refused_pod_waits_for_an_event_that_helps_and_for_its_back_off() {
    let (mut queue, profile) = (Queue::default(), profile());
    queue.put(pod("a", 0), &profile, at(0));
    assert_eq!(pop(&mut queue).unwrap(), "a");
    queue.failed(&key("a"), Failure::Refused(vec!["NodeResourcesFit".to_owned()]), at(100));
    let node = Node::default();
    // A relabelled node gives no room.
    queue.event(&ClusterEvent::NodeUpdated { old: &node, new: &node }, at(150));
    assert_eq!(depth(&queue), (0, 0, 1));
    queue.event(&ClusterEvent::NodeAdded(&node), at(200));
    assert_eq!(depth(&queue), (0, 1, 0));
    assert_eq!(queue.next_due(), Some(at(1100)));
    queue.tick(at(1099));
    assert_eq!(pop(&mut queue), None);
    queue.tick(at(1100));
    assert_eq!(pop(&mut queue).unwrap(), "a");
}

#[test]
fn back_off_doubles_up_to_ten_seconds() {
    let (mut queue, profile) = (Queue::default(), profile());
    queue.put(pod("a", 0), &profile, at(0));
    let mut now = at(0);
    let mut waits = Vec::new();
    for _ in 0..6 {
        queue.tick(now);
        assert_eq!(pop(&mut queue).unwrap(), "a");
        queue.failed(&key("a"), Failure::Error, now);
        let due = queue.next_due().unwrap();
        waits.push((due - now).as_secs());
        now = due;
    }
    assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
}

#[test]
fn the_back_off_is_as_long_as_the_caller_says() {
    let backoff = Backoff { initial: Duration::from_millis(300), max: Duration::from_secs(1) };
    let (mut queue, profile) = (Queue::new(backoff, None), profile());
    queue.put(pod("a", 0), &profile, at(0));
    let mut now = at(0);
    let mut waits = Vec::new();
    for _ in 0..4 {
        queue.tick(now);
        assert_eq!(pop(&mut queue).unwrap(), "a");
        queue.failed(&key("a"), Failure::Refused(vec!["NodeResourcesFit".to_owned()]), now);
        queue.event(&ClusterEvent::NodeAdded(&Node::default()), now);
        let due = queue.next_due().unwrap();
        waits.push((due - now).as_millis());
        now = due;
    }
    assert_eq!(waits, [300, 600, 1000, 1000]);
}

#[test]
fn after_five_minutes_a_pod_is_tried_whatever_happened() {
    let (mut queue, profile) = (Queue::default(), profile());
    queue.put(pod("a", 0), &profile, at(0));
    pop(&mut queue);
    queue.failed(&key("a"), Failure::Refused(vec!["NodeName".to_owned()]), at(0));
    assert_eq!(queue.next_due(), Some(UNSCHEDULABLE_MAX));
    queue.tick(UNSCHEDULABLE_MAX);
    assert_eq!(pop(&mut queue).unwrap(), "a");
}

#[test]
fn gates_hold_a_pod_until_the_last_is_gone() {
    let (mut queue, profile) = (Queue::default(), profile());
    let gated = |gates: &[&str]| {
        let mut pod = Pod::clone(&pod("a", 0));
        let gate = |name: &&str| serde_json::from_value(json!({ "name": name })).unwrap();
        pod.spec.scheduling_gates = gates.iter().map(gate).collect();
        Arc::new(pod)
    };
    queue.put(gated(&["x", "y"]), &profile, at(0));
    queue.event(&ClusterEvent::NodeAdded(&Node::default()), at(1));
    queue.tick(UNSCHEDULABLE_MAX * 3);
    assert_eq!((pop(&mut queue), queue.next_due()), (None, None));
    queue.put(gated(&["y"]), &profile, at(2));
    assert_eq!(pop(&mut queue), None);
    queue.put(gated(&[]), &profile, at(3));
    assert_eq!(pop(&mut queue).unwrap(), "a");
}

#[test]
fn a_pod_that_is_out_or_gone_is_not_handed_out() {
    let (mut queue, profile) = (Queue::default(), profile());
    queue.put(pod("a", 0), &profile, at(0));
    queue.put(pod("b", 0), &profile, at(0));
    assert_eq!(pop(&mut queue).unwrap(), "a");
    queue.put(pod("a", 9), &profile, at(1));
    queue.put(pod("b", 3), &profile, at(1));
    queue.remove(&key("b"));
    assert_eq!(pop(&mut queue), None);
    queue.remove(&key("a"));
    queue.failed(&key("a"), Failure::Error, at(1));
    assert_eq!(depth(&queue), (0, 0, 0));
}

#[test]
fn losers_of_a_race_try_again_soon() {
    let (mut queue, profile) = (Queue::default(), profile());
    queue.put(pod("a", 0), &profile, at(0));
    pop(&mut queue);
    queue.failed(&key("a"), Failure::Conflict, at(0));
    assert_eq!(queue.next_due(), Some(at(10)));
}

fn member(name: &str, group: &str) -> Arc<Pod> {
    let mut pod = Pod::clone(&pod(name, 0));
    let label = longshore_core::api::pod_group::POD_GROUP_LABEL.to_owned();
    pod.metadata.labels = Some([(label, group.to_owned())].into());
    Arc::new(pod)
}

fn with_gangs() -> Arc<Profile> {
    Arc::new(Profile::default_scheduler().with(crate::policies::Gang::default()))
}

#[test]
fn pods_of_a_group_have_their_turns_one_behind_the_other() {
    let (mut queue, profile) = (Queue::default(), with_gangs());
    for (millis, pod) in [member("a0", "a"), member("b0", "b"), pod("c", 0), member("a1", "a"), member("b1", "b")]
        .into_iter()
        .enumerate()
    {
        queue.put(pod, &profile, at(millis as u64));
    }
    queue.put(pod("urgent", 7), &profile, at(9));
    let order: Vec<String> = std::iter::from_fn(|| pop(&mut queue)).collect();
    assert_eq!(order, ["urgent", "a0", "a1", "b0", "b1", "c"]);
}

#[test]
fn a_group_gives_up_as_one_and_comes_back_as_one() {
    let (mut queue, profile) = (Queue::default(), with_gangs());
    let group = key("a");
    for name in ["a0", "a1", "a2"] {
        queue.put(member(name, "a"), &profile, at(0));
    }
    assert_eq!((pop(&mut queue).unwrap(), pop(&mut queue).unwrap()), ("a0".to_owned(), "a1".to_owned()));
    assert_eq!(queue.hopeful(&group, |_| false), 1);
    // The first holds a node, the second was refused, the third was not tried.
    let fit = ["NodeResourcesFit".to_owned()];
    queue.gave_back(&key("a0"), at(100));
    assert_eq!(queue.give_up(&group, &[key("a1"), key("a0")], &fit, at(100)), [key("a2")]);
    assert_eq!((depth(&queue), queue.hopeful(&group, |key| *key.name == *"a1")), ((0, 0, 3), 1));
    queue.event(&ClusterEvent::NodeAdded(&Node::default()), at(200));
    assert_eq!((depth(&queue), queue.next_due()), ((0, 3, 0), Some(at(1100))));
    queue.tick(at(1100));
    assert_eq!(depth(&queue), (3, 0, 0));
    // Refused again they wait longer, unless another comes and makes the group another.
    let out: Vec<ObjectKey> = std::iter::from_fn(|| queue.pop()).map(|next| next.key).collect();
    queue.give_up(&group, &out, &fit, at(1200));
    queue.event(&ClusterEvent::NodeAdded(&Node::default()), at(1300));
    assert_eq!((depth(&queue), queue.next_due()), ((0, 3, 0), Some(at(3200))));
    queue.put(member("a3", "a"), &profile, at(1400));
    assert_eq!(depth(&queue), (4, 0, 0));
    for name in ["a0", "a1", "a2", "a3"] {
        queue.remove(&key(name));
    }
    assert_eq!((depth(&queue), queue.pop().is_none()), ((0, 0, 0), true));
}

#[test]
fn what_is_given_back_helps_only_those_that_were_tried_while_it_was_held() {
    let (mut queue, profile) = (Queue::default(), with_gangs());
    for name in ["before", "held", "after"] {
        queue.put(pod(name, 0), &profile, at(0));
    }
    let fit = || Failure::Refused(vec!["NodeResourcesFit".to_owned()]);
    assert_eq!(pop(&mut queue).unwrap(), "before");
    queue.failed(&key("before"), fit(), at(0));
    assert_eq!(pop(&mut queue).unwrap(), "held");
    assert_eq!(pop(&mut queue).unwrap(), "after");
    queue.failed(&key("after"), fit(), at(0));
    queue.gave_back(&key("held"), at(10));
    assert_eq!(
        (queue.place_of(&key("before")), queue.place_of(&key("after"))),
        (Some("unschedulable"), Some("backoff"))
    );
}
