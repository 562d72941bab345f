//! A scheduler that runs is asked: what it decided, why, and what would be.

use super::*;
use crate::shell::{AskError, DecisionFilter, Verdict};

fn placed(verdict: &Verdict) -> Option<&str> {
    match verdict {
        Verdict::Placed { node, .. } => Some(node),
        _ => None,
    }
}

#[tokio::test]
async fn decisions_are_kept_with_reasons_and_tries() {
    let mut world = World::new();
    world.node("a", "2").await;
    world.pod("small", "500m", json!({})).await;
    world.pod("large", "3", json!({})).await;
    let asked = world.start(Profile::default_scheduler(), 1);
    world.until("told", |world| world.events("FailedScheduling").len() == 1 && world.bound().len() == 1).await;
    let all = asked.decisions(DecisionFilter::default()).await.unwrap();
    assert_eq!(all.len(), 2);
    let small = all.iter().find(|decision| &*decision.name == "small").unwrap();
    assert_eq!((placed(&small.verdict), small.attempt, &*small.profile), (Some("a"), 1, "default-scheduler"));
    let large = all.iter().find(|decision| &*decision.name == "large").unwrap();
    let Verdict::Refused { message, reasons, policies, nominated } = &large.verdict else { panic!("{large:?}") };
    assert!(message.starts_with("0/1 nodes are available: 1 Insufficient cpu."), "{message}");
    assert_eq!(
        (reasons["Insufficient cpu"], &policies[..], nominated),
        (1, &["NodeResourcesFit".to_owned()][..], &None)
    );
    // Room comes: the next try is the second, and is kept too.
    world.node("b", "4").await;
    world.until("the large one is bound", |world| world.bound().len() == 2).await;
    let of_large = asked.decisions(DecisionFilter::pod("default", "large")).await.unwrap();
    let tries: Vec<_> = of_large.iter().map(|decision| (decision.attempt, placed(&decision.verdict))).collect();
    assert_eq!(tries, [(1, None), (2, Some("b"))]);
    let refused = asked.decisions(DecisionFilter { refused: true, ..DecisionFilter::default() }).await.unwrap();
    assert_eq!(refused.len(), 1);
    world.stop().await;
    assert_eq!(asked.decisions(DecisionFilter::default()).await, Err(AskError::NotRunning));
}

#[tokio::test]
async fn the_oldest_decisions_make_room_for_the_newest() {
    let mut world = World::new();
    world.node("a", "8").await;
    for index in 0..7 {
        world.pod(&format!("p{index}"), "100m", json!({})).await;
    }
    let asked = world.start_with(Options { decisions: 3, ..Options::default() });
    world.until("all are bound", |world| world.bound().len() == 7).await;
    let kept = asked.decisions(DecisionFilter::default()).await.unwrap();
    assert_eq!(kept.iter().map(|decision| decision.number).collect::<Vec<_>>(), [5, 6, 7]);
    let last = asked.decisions(DecisionFilter { limit: Some(1), ..DecisionFilter::default() }).await.unwrap();
    assert_eq!(last, kept[2..]);
    world.stop().await;
}

#[tokio::test]
async fn a_pending_pod_is_explained_with_what_would_help() {
    let mut world = World::new();
    world.node("a", "2").await;
    world.node("b", "1").await;
    world.pod("large", "3", json!({})).await;
    let asked = world.start(Profile::default_scheduler(), 1);
    world.until("told", |world| world.events("FailedScheduling").len() == 1).await;
    let found = asked.explain("default", "large").await.unwrap();
    assert_eq!((found.node.as_deref(), found.queue, found.feasible.len()), (None, Some("unschedulable"), 0));
    assert_eq!(found.message, "0/2 nodes are available: 2 Insufficient cpu.");
    assert_eq!((found.reasons["Insufficient cpu"], found.policies["NodeResourcesFit"]), (2, 2));
    let remedies: Vec<_> = found.remedies.iter().map(|remedy| (&*remedy.change, remedy.nodes)).collect();
    assert_eq!(
        remedies,
        [("2 less cpu", 2), ("1 less cpu", 1)],
        "no node of theirs is large enough, so another one would not help"
    );
    assert_eq!(found.decisions.len(), 1);
    let text = found.to_string();
    for line in [
        "pod default/large, profile default-scheduler: pending (unschedulable)",
        "It waits until something changes that may help.",
        "  1 less cpu: 1 node",
        "a     NodeResourcesFit  cpu: 3 asked for, 2 of 2 free",
        "     2  Insufficient cpu",
    ] {
        assert!(text.lines().any(|other| other == line), "{line:?} in\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let value = serde_json::to_value(&found).unwrap();
    assert_eq!(value["refused"][0]["reasons"], json!(["Insufficient cpu"]));
    assert_eq!(value["decisions"][0]["verdict"], "refused");
    let unknown = asked.explain("default", "nobody").await.unwrap_err();
    assert!(matches!(unknown, AskError::UnknownPod { .. }));
    world.stop().await;
}

/// The lines of an explanation of `pod`, once it is known to have no place.
async fn refused(mut world: World, pod: &str) -> Vec<String> {
    let asked = world.start(Profile::default_scheduler(), 1);
    world.until("told", |world| !world.events("FailedScheduling").is_empty()).await;
    let text = asked.explain("default", pod).await.unwrap().to_string();
    world.stop().await;
    text.lines().map(str::to_owned).collect()
}

#[track_caller]
fn says(lines: &[String], wanted: &[&str]) {
    for line in wanted {
        assert!(lines.iter().any(|other| other == line), "{line:?} in\n{}", lines.join("\n"));
    }
}

#[tokio::test]
async fn free_room_in_pieces_is_shown_and_another_node_would_help() {
    let world = World::new();
    for (node, used) in [("a", "3"), ("b", "3500m")] {
        world.node(node, "4").await;
        world.pod(&format!("on-{node}"), used, json!({ "spec": { "nodeName": node } })).await;
    }
    world.pod("large", "1500m", json!({})).await;
    let lines = refused(world, "large").await;
    says(
        &lines,
        &[
            "  500m less cpu: 1 node",
            "  another node, empty, like a: 1 node",
            "a     NodeResourcesFit  cpu: 1500m asked for, 1 of 4 free",
            "b     NodeResourcesFit  cpu: 1500m asked for, 500m of 4 free",
        ],
    );
    assert!(lines.last().unwrap().ends_with("refused, as above"), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("like b")), "both are of one kind: {lines:?}");
}

#[tokio::test]
async fn the_taint_and_the_label_that_are_in_the_way_are_named() {
    let world = World::new();
    for (name, label, taints) in [
        ("a", json!({ "disk": "ssd" }), json!([])),
        ("b", json!({}), json!([])),
        ("c", json!({}), json!([{ "key": "only", "value": "db", "effect": "NoSchedule" }])),
    ] {
        let resources = json!({ "cpu": "4", "memory": "32Gi", "pods": "110" });
        let node = json!({ "metadata": { "name": name, "labels": label }, "spec": { "taints": taints }, "status": { "allocatable": resources } });
        world.create::<Node>(node).await;
    }
    world.pod("slip", "1", json!({ "spec": { "nodeSelector": { "disk": "sdd" } } })).await;
    let lines = refused(world, "slip").await;
    says(
        &lines,
        &[
            "No node has disk=sdd; there is ssd (1).",
            "  without nodeSelector disk=sdd: 2 nodes",
            "a     NodeAffinity     disk is ssd, not sdd",
            "b     NodeAffinity     no label disk",
            "c     TaintToleration  taint only=db:NoSchedule",
        ],
    );
}

#[tokio::test]
async fn the_pods_that_are_in_the_way_and_how_they_are_spread_are_named() {
    let zone = |zone: &str| json!({ "topology.kubernetes.io/zone": zone });
    let selector = json!({ "matchLabels": { "app": "db" } });
    let world = World::new();
    for (name, zone, used) in [("a", zone("east"), "1"), ("b", zone("west"), "4")] {
        let mut labels = zone;
        labels["kubernetes.io/hostname"] = name.into();
        let resources = json!({ "cpu": "4", "memory": "32Gi", "pods": "110" });
        world
            .create::<Node>(
                json!({ "metadata": { "name": name, "labels": labels }, "status": { "allocatable": resources } }),
            )
            .await;
        let labels = if name == "a" { json!({ "app": "db" }) } else { json!({}) };
        world
            .pod(&format!("on-{name}"), used, json!({ "metadata": { "labels": labels }, "spec": { "nodeName": name } }))
            .await;
    }
    let away = json!({ "requiredDuringSchedulingIgnoredDuringExecution": [{ "topologyKey": "kubernetes.io/hostname", "labelSelector": selector }] });
    let spread = json!([{ "maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector }]);
    let spec = json!({ "affinity": { "podAntiAffinity": away }, "topologySpreadConstraints": spread });
    world.pod("db", "1", json!({ "metadata": { "labels": { "app": "db" } }, "spec": spec })).await;
    let lines = refused(world, "db").await;
    says(
        &lines,
        &[
            "Spread over topology.kubernetes.io/zone now: west 0, east 1; maxSkew is 1.",
            "  another node, empty, like b: 1 node",
        ],
    );
}

#[tokio::test]
async fn a_pod_in_the_way_a_volume_elsewhere_and_a_cordoned_node_are_named() {
    let world = World::new();
    for name in ["a", "b", "c"] {
        let labels = json!({ "kubernetes.io/hostname": name });
        let allocatable = json!({ "cpu": "4", "memory": "32Gi", "pods": "110" });
        let node = json!({ "metadata": { "name": name, "labels": labels }, "spec": { "unschedulable": name == "c" }, "status": { "allocatable": allocatable } });
        world.create::<Node>(node).await;
    }
    let in_the_way = json!({ "metadata": { "labels": { "app": "db" } }, "spec": { "nodeName": "b" } });
    world.pod("first", "1", in_the_way).await;
    let on_b = json!({ "nodeSelectorTerms": [{ "matchExpressions": [{ "key": "kubernetes.io/hostname", "operator": "In", "values": ["b"] }] }] });
    world
        .create::<PersistentVolume>(json!({ "metadata": { "name": "disk" }, "spec": {
            "capacity": { "storage": "1Gi" }, "accessModes": ["ReadWriteOnce"], "local": { "path": "/d" },
            "claimRef": { "namespace": "default", "name": "data", "uid": "1" }, "nodeAffinity": { "required": on_b },
        } }))
        .await;
    world
        .create::<PersistentVolumeClaim>(json!({
            "metadata": { "namespace": "default", "name": "data", "uid": "1", "annotations": { "pv.kubernetes.io/bind-completed": "yes" } },
            "spec": { "volumeName": "disk", "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
            "status": { "phase": "Bound" },
        }))
        .await;
    let away = json!({ "requiredDuringSchedulingIgnoredDuringExecution": [{
        "topologyKey": "kubernetes.io/hostname", "labelSelector": { "matchLabels": { "app": "db" } },
    }] });
    let volumes = json!([{ "name": "data", "persistentVolumeClaim": { "claimName": "data" } }]);
    world.pod("db", "1", json!({ "spec": { "affinity": { "podAntiAffinity": away }, "volumes": volumes } })).await;
    let lines = refused(world, "db").await;
    says(
        &lines,
        &[
            "a     VolumeBinding      claim data has volume disk, which is elsewhere",
            "b     InterPodAffinity   keeps away from pod first",
            "c     NodeUnschedulable  cordoned; `kubectl uncordon c` opens it",
        ],
    );
}

#[tokio::test]
async fn a_placed_pod_is_explained_as_if_it_were_not_there() {
    let mut world = World::new();
    world.node("a", "2").await;
    world.node("b", "2").await;
    world.pod("only", "1500m", json!({})).await;
    let asked = world.start(Profile::default_scheduler(), 1);
    world.until("bound", |world| world.bound().len() == 1).await;
    let found = asked.explain("default", "only").await.unwrap();
    let (node, last) = (found.node.clone().unwrap(), found.decisions.last().unwrap());
    assert_eq!(placed(&last.verdict), Some(&*node));
    assert!(found.assuming.contains("not there yet") && found.message.is_empty() && found.remedies.is_empty());
    assert_eq!(found.best, ["a", "b"], "without itself both are alike");
    let sums = found.feasible.iter().map(|node| {
        let sum: i64 = node.scores.iter().map(|score| score.score * score.weight).sum();
        sum == node.total
    });
    assert!(sums.into_iter().all(|adds_up| adds_up));
    let text = found.to_string();
    assert!(text.contains("NODE   TOTAL    A") && text.contains("0 for every node: "), "{text}");
    assert_eq!(text.lines().filter(|line| line.ends_with("  best  it is here")).count(), 1, "{text}");
    world.stop().await;
}

#[tokio::test]
async fn what_if_is_worked_out_beside_a_scheduler_that_places_on() {
    let mut world = World::new();
    world.node("a", "4").await;
    let asked = world.start(Profile::default_scheduler(), 1);
    world.until("idle", |_| true).await;
    let pods: Vec<Arc<Pod>> = (0..3)
        .map(|index| {
            let value = json!({
                "metadata": { "name": format!("if{index}"), "namespace": "default" },
                "spec": { "containers": [{ "name": "c", "resources": { "requests": { "cpu": "1500m" } } }] },
            });
            Arc::new(serde_json::from_value(value).unwrap())
        })
        .collect();
    let found = asked.what_if(None, pods).await.unwrap();
    assert_eq!((found.placed, found.refused, found.cpu.after), (2, 1, 3000));
    world.pod("real", "4", json!({})).await;
    world.until("the node is whole", |world| world.bound().len() == 1).await;
    world.stop().await;
}

#[tokio::test]
async fn a_binding_that_was_lost_is_in_the_record() {
    let mut world = World::new();
    world.node("a", "4").await;
    for index in 0..8 {
        world.pod(&format!("p{index}"), "500m", json!({})).await;
    }
    let faults = longshore_core::testing::client::Faults { refused: 0.5, ..Default::default() };
    world.server.set_faults(faults);
    let asked = world.start(Profile::default_scheduler(), 1);
    world.until("all are bound", |world| world.bound().len() == 8).await;
    let all = asked.decisions(DecisionFilter::default()).await.unwrap();
    let lost = all.iter().filter(|decision| matches!(decision.verdict, Verdict::Lost { .. })).count();
    let placed = all.iter().filter(|decision| placed(&decision.verdict).is_some()).count();
    assert!(lost > 0, "{all:?}");
    assert_eq!(placed, 8 + lost, "each that was lost was given a node again");
    world.stop().await;
}
