//! What is said to help does help, and on as many nodes as is said.

use super::*;
use crate::engine::Remedy;

fn engine(nodes: &[Arc<Node>]) -> Engine {
    let mut engine = Engine::new(Profile::default_scheduler(), TieBreak::ByName);
    for node in nodes {
        engine.cluster_mut().put_node(node.clone());
    }
    engine
}

/// What is said of the pod; each remedy was applied and found to fit on as many nodes as it says.
fn said(engine: &mut Engine, pod: &Pod) -> Vec<String> {
    let remedies = engine.remedies(pod).unwrap();
    for remedy in &remedies {
        let changed = remedy.apply(pod).unwrap();
        let fits = engine.explain(&changed).unwrap().feasible.len();
        assert_eq!(fits, remedy.nodes, "{remedy}");
    }
    remedies.iter().map(Remedy::to_string).collect()
}

#[test]
fn the_smallest_reduction_is_exact_and_a_larger_one_opens_half_of_the_nodes() {
    let sizes = ["1800m", "1500m", "1200m", "1", "500m"];
    let nodes: Vec<_> = sizes.iter().map(|cpu| node(&format!("n-{cpu}"), cpu)).collect();
    let mut engine = engine(&nodes);
    let pod = asking("p", "2");
    assert_eq!(said(&mut engine, &pod), ["800m less cpu: 3 nodes", "200m less cpu: 1 node"]);
    // One thousandth less than said is not enough.
    let almost = Change::Less { resource: "cpu".to_owned(), by: 199 }.apply(&pod).unwrap();
    assert!(engine.decide(&almost).is_err());
}

#[test]
fn reductions_count_all_containers_overhead_and_requests_of_the_pod_as_a_whole() {
    let mut engine = engine(&[node("a", "1")]);
    let several = json!({
        "overhead": { "cpu": "100m" },
        "initContainers": [{ "name": "i", "resources": { "requests": { "cpu": "1500m" } } }],
        "containers": [
            { "name": "c", "resources": { "requests": { "cpu": "700m" } } },
            { "name": "d", "resources": { "requests": { "cpu": "400m" } } },
        ],
    });
    assert_eq!(said(&mut engine, &pod("several", several)), ["600m less cpu: 1 node"]);
    let whole = json!({ "resources": { "requests": { "cpu": "1250m" } } });
    assert_eq!(said(&mut engine, &pod("whole", whole)), ["250m less cpu: 1 node"]);
    let memory = json!({ "containers": [{ "name": "c", "resources": { "requests": { "memory": "33Gi" } } }] });
    assert_eq!(said(&mut engine, &pod("memory", memory)), ["1Gi less memory: 1 node"]);
}

#[test]
fn pods_for_which_room_is_made_count_as_if_they_were_there() {
    let mut engine = engine(&[node("a", "2")]);
    let mut ahead = Pod::clone(&asking("ahead", "1500m"));
    ahead.spec.priority = Some(10);
    let place = engine.cluster().node_id("a").unwrap();
    engine.cluster_mut().nominate(Arc::new(ahead), place);
    assert_eq!(said(&mut engine, &asking("p", "1")), ["500m less cpu: 1 node"]);
}

#[test]
fn taints_are_named_with_the_nodes_that_a_toleration_opens() {
    let taint = |key: &str, value: &str, effect: &str| json!({ "key": key, "value": value, "effect": effect });
    let gpu = taint("dedicated", "gpu", "NoSchedule");
    let down = taint("down", "", "NoExecute");
    let mut cordoned = Node::clone(&node("cordoned", "4"));
    cordoned.spec.unschedulable = true;
    let mut engine = engine(&[
        node_with("a", "4", json!({}), json!([gpu])),
        node_with("b", "4", json!({}), json!([gpu])),
        node_with("both", "4", json!({}), json!([gpu, down])),
        node_with("down", "4", json!({}), json!([down])),
        node_with("small", "50m", json!({}), json!([gpu])),
        Arc::new(cordoned),
    ]);
    let said = said(&mut engine, &pod("p", json!({})));
    let expected = [
        "tolerate dedicated=gpu:NoSchedule: 2 nodes",
        "tolerate down:NoExecute: 1 node",
        "tolerate node.kubernetes.io/unschedulable:NoSchedule: 1 node",
    ];
    assert_eq!(said, expected);
}

#[test]
fn selectors_and_required_affinity_to_nodes_are_what_may_go() {
    let ssd = json!({ "disk": "ssd" });
    let mut engine = engine(&[node_with("a", "4", ssd, json!([])), node("b", "4")]);
    let selects = json!({ "nodeSelector": { "disk": "ssd", "zone": "x" } });
    assert_eq!(said(&mut engine, &pod("selects", selects)), ["without nodeSelector zone=x: 1 node"]);
    let needs = json!({ "matchExpressions": [{ "key": "zone", "operator": "Exists" }] });
    let needs = json!({ "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [needs] } });
    let needs = pod("needs", json!({ "affinity": { "nodeAffinity": needs } }));
    assert_eq!(said(&mut engine, &needs), ["without required node affinity: 2 nodes"]);
}

#[test]
fn spreading_and_other_pods_are_what_may_go() {
    let host = |name: &str| node_with(name, "4", json!({ "kubernetes.io/hostname": name, "zone": "z" }), json!([]));
    let mut engine = engine(&[host("a"), host("b")]);
    let with_labels = |name: &str, labels: Value, spec: Value| {
        let mut pod = Pod::clone(&pod(name, spec));
        pod.metadata.labels = Some(serde_json::from_value(labels).unwrap());
        Arc::new(pod)
    };
    let web = json!({ "app": "web" });
    let by = |key: &str, app: &str| json!([{ "topologyKey": key, "labelSelector": { "matchLabels": { "app": app } } }]);
    let required = |terms: Value| json!({ "requiredDuringSchedulingIgnoredDuringExecution": terms });
    let alone = json!({ "affinity": { "podAntiAffinity": required(by("zone", "web")) } });
    engine.place(&with_labels("first", web.clone(), alone.clone())).unwrap();
    let second = with_labels("second", json!({ "app": "other" }), alone);
    assert_eq!(said(&mut engine, &second), ["without pod anti-affinity by zone: 2 nodes"]);
    let near = json!({ "affinity": { "podAffinity": required(by("zone", "nobody")) } });
    let near = with_labels("near", json!({ "app": "other" }), near);
    assert_eq!(said(&mut engine, &near), ["without pod affinity by zone: 2 nodes"]);
    let spread = json!({ "topologySpreadConstraints": [{
        "maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": { "matchLabels": { "app": "other" } },
    }] });
    let spread = with_labels("spread", json!({ "app": "other" }), spread);
    assert_eq!(said(&mut engine, &spread), ["without topology spread over rack: 2 nodes"]);
}

#[test]
fn a_port_that_is_taken_may_be_another() {
    let mut engine = engine(&[node("a", "4"), node("b", "50m")]);
    let with_port = |name: &str| {
        pod(name, json!({ "containers": [{ "name": "c", "ports": [{ "containerPort": 80, "hostPort": 8080 }] }] }))
    };
    for name in ["first", "second"] {
        engine.place(&with_port(name)).unwrap();
    }
    assert_eq!(said(&mut engine, &with_port("third")), ["another host port than 8080/TCP: 2 nodes"]);
}

#[test]
fn two_changes_are_named_only_where_one_does_not_help() {
    let taint = json!([{ "key": "dedicated", "value": "gpu", "effect": "NoSchedule" }]);
    let mut engine = engine(&[node_with("a", "1", json!({}), taint), node("tiny", "10m")]);
    let large = json!({ "nodeSelector": { "disk": "ssd" },
        "containers": [{ "name": "c", "resources": { "requests": { "cpu": "20m" } } }] });
    assert_eq!(
        said(&mut engine, &pod("large", large)),
        [
            "tolerate dedicated=gpu:NoSchedule and without nodeSelector disk=ssd: 1 node",
            "without nodeSelector disk=ssd and 10m less cpu: 1 node",
        ]
    );
    let both =
        json!({ "containers": [{ "name": "c", "resources": { "requests": { "cpu": "30m", "memory": "33Gi" } } }] });
    assert_eq!(
        said(&mut engine, &pod("both", both)),
        ["20m less cpu and 1Gi less memory: 1 node", "tolerate dedicated=gpu:NoSchedule and 1Gi less memory: 1 node",]
    );
}

#[test]
fn a_pod_that_fits_needs_no_remedy_and_looking_for_one_disturbs_nothing() {
    let mut engine = engine_of(Profile::default_scheduler(), TieBreak::Uniform { seed: 3 }, &["a", "b", "c"]);
    let mut other = engine_of(Profile::default_scheduler(), TieBreak::Uniform { seed: 3 }, &["a", "b", "c"]);
    assert!(engine.remedies(&asking("fits", "1")).unwrap().is_empty());
    for index in 0..20 {
        let pod = asking(&format!("p{index}"), "500m");
        engine.remedies(&asking("large", "100")).unwrap();
        assert_eq!(engine.place(&pod).unwrap(), other.place(&pod).unwrap());
        assert_eq!(engine.cluster().generation(), other.cluster().generation());
    }
    let gated = pod("gated", json!({ "schedulingGates": [{ "name": "later" }] }));
    assert!(engine.remedies(&gated).unwrap().is_empty());
}
