//! The engine with what it remembers, against a slow, obvious reference that asks every policy about each node by itself
//! and remembers nothing, over random clusters and random events.

use longshore_core::api::Service;
use longshore_core::scheduling::{Candidates, NodeSet, PreFilter, PreScore, Scores, State};
use proptest::prelude::*;

use super::*;

/// What both must agree on: for each node who refused it and why, or what each policy scores it.
#[derive(Debug, PartialEq)]
enum Verdict {
    Refused(String, Refusal),
    Scored(Vec<(String, i64)>, i64),
}

fn reference(engine: &mut Engine, pod: &Pod) -> BTreeMap<String, Verdict> {
    let profile = engine.profile_of(pod).unwrap().clone();
    let shape = engine.cluster.shape(pod);
    let cluster = &engine.cluster;
    let cycle = Cycle::new(pod, &shape, cluster);
    let mut verdicts = BTreeMap::new();
    let mut feasible = NodeSet::new();
    'nodes: for node in cluster.nodes().iter() {
        let name = cluster.name(node).to_owned();
        // Everything that looks at the pod comes before anything that looks at the node.
        let mut asked = Vec::new();
        for (place, filter) in profile.filters() {
            let mut state = State::default();
            match filter.pre_filter(cycle, &mut state) {
                Err(refusal) => {
                    verdicts.insert(name, Verdict::Refused(profile.name_of(place).to_owned(), refusal));
                    continue 'nodes;
                }
                Ok(PreFilter::Skip) => {}
                Ok(PreFilter::All) => asked.push((place, filter, state)),
                Ok(PreFilter::Only(only)) => {
                    if !only.contains(node) {
                        let policy = profile.name_of(place).to_owned();
                        let why = format!("node(s) didn't satisfy plugin(s) [{policy}]");
                        verdicts.insert(name, Verdict::Refused(policy, Refusal::unresolvable(why)));
                        continue 'nodes;
                    }
                    asked.push((place, filter, state));
                }
            }
        }
        for (place, filter, state) in asked {
            let mut alone = Candidates::new(NodeSet::only(node));
            filter.filter(cycle, &state, &mut alone);
            if let Some((_, refusal)) = alone.refusal(node) {
                verdicts.insert(name, Verdict::Refused(profile.name_of(place).to_owned(), refusal.clone()));
                continue 'nodes;
            }
        }
        feasible.insert(node);
    }
    let mut scores: BTreeMap<String, Vec<(String, i64)>> = BTreeMap::new();
    let mut totals: BTreeMap<String, i64> = BTreeMap::new();
    for node in feasible.iter() {
        scores.insert(cluster.name(node).to_owned(), Vec::new());
        totals.insert(cluster.name(node).to_owned(), 0);
    }
    for (place, policy) in profile.scores().filter(|_| !feasible.is_empty()) {
        let mut state = State::default();
        if policy.pre_score(cycle, &mut state, &feasible) == PreScore::Skip {
            continue;
        }
        let mut column = Scores::zero(cluster.width());
        for node in feasible.iter() {
            policy.score(cycle, &state, &NodeSet::only(node), &mut column);
        }
        if let Some(range) = column.range(&feasible).filter(|_| policy.is_normalised()) {
            let present: NodeSet = feasible.iter().filter(|node| column.get(*node) != Scores::ABSENT).collect();
            policy.normalise(cycle, &state, range, &present, &mut column);
        }
        for node in feasible.iter() {
            let score = if column.get(node) == Scores::ABSENT { 0 } else { column.get(node) };
            let enabled = &profile.policies()[place];
            let name = cluster.name(node);
            scores.get_mut(name).unwrap().push((enabled.policy().name().to_owned(), score));
            *totals.get_mut(name).unwrap() += enabled.weight() * score;
        }
    }
    for (name, list) in scores {
        let total = totals[&name];
        verdicts.insert(name, Verdict::Scored(list, total));
    }
    verdicts
}

fn remembered(engine: &mut Engine, pod: &Pod) -> BTreeMap<String, Verdict> {
    let explanation = engine.explain(pod).unwrap();
    let refused = explanation.refused.into_iter().map(|it| (it.node, Verdict::Refused(it.policy, it.refusal)));
    let scored = explanation.feasible.into_iter().map(|it| {
        let scores = it.scores.into_iter().map(|score| (score.policy, score.score)).collect();
        (it.node, Verdict::Scored(scores, it.total))
    });
    refused.chain(scored).collect()
}

const ZONES: [&str; 3] = ["a", "b", "c"];

fn some_node(name: u8, kind: u8) -> Arc<Node> {
    let zone = ZONES[usize::from(kind) % 3];
    let name = format!("n{name}");
    let taints = match kind % 7 {
        0 => json!([{ "key": "k", "value": "v", "effect": "NoSchedule" }]),
        1 | 2 => json!([{ "key": "soft", "value": zone, "effect": "PreferNoSchedule" }]),
        _ => json!([]),
    };
    let mut labels = json!({ "kubernetes.io/hostname": name, "size": kind.to_string() });
    if !kind.is_multiple_of(5) {
        labels["topology.kubernetes.io/zone"] = zone.into();
    }
    let mut node = Node::clone(&node_with(&name, &format!("{}", 1 + kind % 4), labels, taints));
    node.spec.unschedulable = kind.is_multiple_of(11);
    if kind.is_multiple_of(2) {
        let images = json!([{ "names": ["web:latest"], "sizeBytes": 400_000_000 }]);
        node.status.images = serde_json::from_value(images).unwrap();
    }
    Arc::new(node)
}

/// A pod of one of some shapes that, together, use every built-in policy.
fn some_pod(name: &str, kind: u8) -> Arc<Pod> {
    let app = ["web", "db"][usize::from(kind / 16) % 2];
    let term = json!({
        "labelSelector": { "matchLabels": { "app": app } },
        "topologyKey": if kind.is_multiple_of(2) { "topology.kubernetes.io/zone" } else { "kubernetes.io/hostname" },
    });
    let spread = |action: &str| {
        json!({ "topologySpreadConstraints": [{
            "maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": action,
            "labelSelector": { "matchLabels": { "app": app } },
        }] })
    };
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
    let weighted = json!([{ "weight": 10, "podAffinityTerm": term }]);
    let spec = match kind % 14 {
        0 => json!({ "nodeSelector": { "topology.kubernetes.io/zone": "a" } }),
        1 => json!({ "tolerations": [{ "operator": "Exists" }] }),
        2 => json!({ "affinity": { "podAntiAffinity": { required: [term] } } }),
        3 => json!({ "affinity": { "podAffinity": { required: [term] } } }),
        4 => json!({ "affinity": { "podAntiAffinity": { preferred: weighted } } }),
        5 => json!({ "affinity": { "podAffinity": { preferred: weighted } } }),
        6 => spread("DoNotSchedule"),
        7 => spread("ScheduleAnyway"),
        8 => json!({ "affinity": { "nodeAffinity": {
            required: { "nodeSelectorTerms": [{ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["n1"] }] }] },
        } } }),
        9 => json!({ "affinity": { "nodeAffinity": {
            required: { "nodeSelectorTerms": [{ "matchExpressions": [{ "key": "size", "operator": "Gt", "values": ["100"] }] }] },
            preferred: [{ "weight": 5, "preference": { "matchExpressions": [{ "key": "topology.kubernetes.io/zone", "operator": "NotIn", "values": ["b"] }] } }],
        } } }),
        10 => {
            json!({ "containers": [{ "name": "c", "image": "web", "ports": [{ "containerPort": 1, "hostPort": 80 }] }] })
        }
        11 => json!({ "containers": [{ "name": "c", "image": "web" }] }),
        12 => json!({ "nodeName": "n2" }),
        _ => {
            json!({ "containers": [{ "name": "c", "resources": { "requests": { "cpu": "700m", "memory": "1Gi" } } }] })
        }
    };
    let mut pod = Pod::clone(&pod(name, spec));
    pod.metadata.labels = Some([("app".to_owned(), app.to_owned())].into());
    Arc::new(pod)
}

/// Puts a pod on a node, whatever policies think of that.
fn force(engine: &mut Engine, name: &str, kind: u8, node: u8) {
    let mut placed = Pod::clone(&some_pod(name, kind));
    placed.spec.node_name = format!("n{node}");
    if kind.is_multiple_of(13) {
        placed.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2025-01-01T00:00:00Z")).unwrap());
    }
    engine.cluster_mut().put_pod(Arc::new(placed));
}

fn apply(engine: &mut Engine, step: usize, event: (u8, u8, u8)) {
    let (what, which, kind) = event;
    let name = format!("p{}", which % 24);
    match what % 12 {
        0 | 1 => drop(engine.cluster_mut().put_node(some_node(which % 10, kind))),
        2 => drop(engine.cluster_mut().remove_node(&format!("n{}", which % 10))),
        3..=6 => drop(engine.place(&some_pod(&format!("q{step}"), kind))),
        7 | 8 => force(engine, &name, kind, which % 10),
        9 => drop(engine.cluster_mut().remove_pod("default", &name)),
        10 if kind.is_multiple_of(2) => {
            let service = json!({
                "metadata": { "name": "web", "namespace": "default" },
                "spec": { "selector": { "app": if which.is_multiple_of(2) { "web" } else { "nothing" } } },
            });
            let service: Service = serde_json::from_value(service).unwrap();
            engine.cluster_mut().put_object(Arc::new(service));
        }
        10 => {
            let labels = [("team".to_owned(), (kind % 3).to_string())].into();
            engine.cluster_mut().put_namespace("default", &labels);
        }
        _ => drop(engine.cluster_mut().remove_pod("default", &format!("q{}", usize::from(which) % step.max(1)))),
    }
}

/// The same few cases every time; with `PROPTEST_CASES` set, that many random ones.
fn config() -> ProptestConfig {
    let default = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_some() {
        return default;
    }
    ProptestConfig { cases: 40, rng_seed: proptest::test_runner::RngSeed::Fixed(1), ..default }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_is_remembered_equals_what_is_worked_out_anew(
        events in prop::collection::vec((any::<u8>(), any::<u8>(), any::<u8>()), 1..60),
        asked in prop::collection::vec(any::<u8>(), 1..4),
    ) {
        agree(Profile::default_scheduler(), events, &asked)?;
    }

    #[test]
    fn so_it_does_with_other_arguments(
        events in prop::collection::vec((any::<u8>(), any::<u8>(), any::<u8>()), 1..60),
        asked in prop::collection::vec(any::<u8>(), 1..4),
    ) {
        agree(with_arguments(), events, &asked)?;
    }
}

/// The default policies, each with arguments that make it do something else.
fn with_arguments() -> Profile {
    let text = "
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
profiles:
- plugins: { score: { enabled: [{ name: InterPodAffinity, weight: 3 }], disabled: [{ name: ImageLocality }] } }
  pluginConfig:
  - name: InterPodAffinity
    args: { hardPodAffinityWeight: 20, ignorePreferredTermsOfExistingPods: true }
  - name: NodeAffinity
    args:
      addedAffinity:
        requiredDuringSchedulingIgnoredDuringExecution:
          nodeSelectorTerms: [{ matchExpressions: [{ key: size, operator: Lt, values: ['200'] }] }]
        preferredDuringSchedulingIgnoredDuringExecution:
        - { weight: 5, preference: { matchExpressions: [{ key: size, operator: Gt, values: ['80'] }] } }
  - name: NodeResourcesFit
    args:
      scoringStrategy:
        type: RequestedToCapacityRatio
        resources: [{ name: cpu, weight: 2 }, { name: memory }]
        requestedToCapacityRatio: { shape: [{ utilization: 0, score: 0 }, { utilization: 70, score: 10 }] }
  - name: PodTopologySpread
    args:
      defaultingType: List
      defaultConstraints:
      - { maxSkew: 1, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: DoNotSchedule }
      - { maxSkew: 2, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway }
";
    crate::config::Configuration::from_yaml(text).unwrap().profiles.remove(0)
}

fn agree(profile: Profile, events: Vec<(u8, u8, u8)>, asked: &[u8]) -> Result<(), TestCaseError> {
    let mut engine = Engine::new(profile, TieBreak::Uniform { seed: 3 });
    for which in 0..6 {
        engine.cluster_mut().put_node(some_node(which, which * 37));
    }
    for (step, event) in events.into_iter().enumerate() {
        apply(&mut engine, step, event);
        // The same shapes again and again, so that most answers come from memory.
        for kind in asked {
            let pod = some_pod("asked", *kind);
            let expected = reference(&mut engine, &pod);
            prop_assert_eq!(remembered(&mut engine, &pod), expected, "step {}, kind {}", step, kind);
        }
    }
    Ok(())
}
