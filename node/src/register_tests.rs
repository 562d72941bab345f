use super::*;

fn observation(not_ready: &str, memory: bool) -> Observation {
    let pressure = Pressure { memory, disk: false };
    Observation { pressure, images: Vec::new(), not_ready: not_ready.to_owned() }
}

#[test]
fn conditions_keep_the_time_of_their_change() {
    let (first, later): (Timestamp, Timestamp) =
        ("2025-01-01T00:00:00Z".parse().unwrap(), "2025-01-01T01:00:00Z".parse().unwrap());
    let before = conditions(&observation("", false), &[], first);
    let names: Vec<&str> = before.iter().map(|condition| condition.type_.as_str()).collect();
    assert_eq!(names, ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"]);
    let after = conditions(&observation("container runtime is down", true), &before, later);
    let of = |type_: &str| after.iter().find(|condition| condition.type_ == type_).unwrap();
    assert_eq!(of("MemoryPressure").status, ConditionStatus::True);
    assert_eq!(of("MemoryPressure").reason, "KubeletHasInsufficientMemory");
    assert_eq!(of("MemoryPressure").last_transition_time, Some(Time(later)));
    assert_eq!(of("DiskPressure").last_transition_time, Some(Time(first)));
    assert_eq!(of("DiskPressure").last_heartbeat_time, Some(Time(later)));
    assert_eq!((of("Ready").status.as_str(), of("Ready").reason.as_str()), ("False", "KubeletNotReady"));
}

#[test]
fn conditions_of_others_stay() {
    let foreign = NodeCondition { type_: "NetworkUnavailable".to_owned(), ..NodeCondition::default() };
    let after = conditions(&observation("", false), &[foreign], Timestamp::UNIX_EPOCH);
    assert_eq!(after.len(), 5);
    assert_eq!(after[4].type_, "NetworkUnavailable");
}

#[test]
fn what_is_reserved_is_not_allocatable() {
    let mut options = Options::new("n", "/nowhere", 3);
    options.capacity = crate::testing::quantities(&[("cpu", "4"), ("memory", "1Gi"), ("example.com/gpu", "2")]);
    options.reserved = crate::testing::quantities(&[("cpu", "500m"), ("memory", "2Gi")]);
    let (capacity, allocatable) = resources(&options, false);
    assert_eq!(capacity["cpu"].to_string(), "4");
    assert_eq!(allocatable["cpu"].to_string(), "3500m");
    assert_eq!(allocatable["memory"].value(), 0);
    assert_eq!(allocatable["example.com/gpu"].value(), 2);
    assert_eq!(allocatable["pods"].value(), 110);
}

#[test]
fn memory_in_huge_pages_is_no_other_memory() {
    let mut options = Options::new("n", "/nowhere", 3);
    options.capacity = crate::testing::quantities(&[("memory", "4Gi"), ("hugepages-2Mi", "1Gi")]);
    options.reserved = crate::testing::quantities(&[("memory", "1Gi")]);
    let (capacity, allocatable) = resources(&options, false);
    assert_eq!((capacity["memory"].value(), allocatable["memory"].value()), (4 << 30, 2 << 30));
    assert_eq!(allocatable["hugepages-2Mi"].value(), 1 << 30);
}

#[test]
fn a_node_that_registered_before_gets_the_agents_labels_only() {
    let node = |labels: &[(&str, &str)]| Node {
        metadata: ObjectMeta {
            labels: Some(labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()),
            ..ObjectMeta::default()
        },
        ..Node::default()
    };
    let existing = node(&[("kubernetes.io/os", "linux"), ("mine", "1")]);
    assert_eq!(reconcile_metadata(&existing, &node(&[("kubernetes.io/os", "linux")])), None);
    let patch = reconcile_metadata(&existing, &node(&[("kubernetes.io/os", "linux"), ("zone", "a")])).unwrap();
    assert_eq!(patch, json!({"metadata": {"labels": {"zone": "a"}}}));
}
