//! What arguments do, and which are refused.

use std::sync::Arc;

use longshore_core::api::pod::Pod;
use longshore_core::api::{Node, Service};
use longshore_core::scheduling::TieBreak;
use serde_json::{Value, json};

use super::*;
use crate::Engine;

/// An engine with a policy's arguments, over nodes with labels and pods on them.
struct World(Engine);

impl World {
    #[track_caller]
    fn with(name: &str, args: &str) -> Self {
        let profile = profile(&format!("pluginConfig: [{{ name: {name}, args: {args} }}]"));
        Self(Engine::new(profile, TieBreak::ByName))
    }

    /// A node with 10 cores, 10 Gi and 4 of a device.
    fn node(mut self, name: &str, labels: Value) -> Self {
        let resources = json!({ "cpu": "10", "memory": "10Gi", "pods": "110", "example.com/device": "4" });
        let value = json!({ "metadata": { "name": name, "labels": labels }, "status": { "allocatable": resources } });
        let node: Node = serde_json::from_value(value).unwrap();
        self.0.cluster_mut().put_node(Arc::new(node));
        self
    }

    fn on(mut self, node: &str, pod: &Value) -> Self {
        let mut pod: Pod = serde_json::from_value(pod.clone()).unwrap();
        node.clone_into(&mut pod.spec.node_name);
        self.0.cluster_mut().put_pod(Arc::new(pod));
        self
    }

    /// What the policy gives each node, by name; nothing if it has nothing to say.
    fn scores(&mut self, policy: &str, pod: &Value) -> Vec<i64> {
        let pod: Pod = serde_json::from_value(pod.clone()).unwrap();
        let feasible = self.0.explain(&pod).unwrap().feasible;
        let of_policy = feasible.iter().flat_map(|node| &node.scores).filter(|score| score.policy == policy);
        of_policy.map(|score| score.score).collect()
    }

    /// What each refused node is refused for, by name.
    fn refusals(&mut self, pod: &Value) -> Vec<String> {
        let pod: Pod = serde_json::from_value(pod.clone()).unwrap();
        let refused = self.0.explain(&pod).unwrap().refused;
        refused.iter().map(|node| format!("{}: {}: {}", node.node, node.policy, node.refusal)).collect()
    }
}

fn pod(name: &str, requests: Value, spec: Value) -> Value {
    let mut pod = json!({
        "metadata": { "name": name, "namespace": "default", "labels": { "app": "web" } },
        "spec": { "containers": [{ "name": "c", "resources": { "requests": requests } }] },
    });
    pod["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    pod
}

#[track_caller]
fn refused(name: &str, args: &str, expected: &[&str]) {
    let error = read(&format!("profiles: [{{ pluginConfig: [{{ name: {name}, args: {args} }}] }}]")).unwrap_err();
    let place = "profiles[0].pluginConfig[0].args";
    let messages: Vec<&str> = error
        .messages()
        .iter()
        .map(|message| message.strip_prefix(place).unwrap_or_else(|| panic!("{message} is not about {place}")))
        .collect();
    assert_eq!(messages, expected, "{args}");
}

#[test]
fn resources_can_be_ignored_by_name_or_by_group() {
    let asks = pod("p", json!({ "cpu": "11", "example.com/device": "5" }), json!({}));
    let refusals = |args: &str| World::with("NodeResourcesFit", args).node("a", json!({})).refusals(&asks);
    assert_eq!(refusals("{}"), ["a: NodeResourcesFit: Insufficient cpu, Insufficient example.com/device"]);
    let without = ["a: NodeResourcesFit: Insufficient cpu"];
    assert_eq!(refusals("{ ignoredResources: [example.com/device] }"), without);
    assert_eq!(refusals("{ ignoredResourceGroups: [example.com] }"), without);
    // Only extended resources are ignored.
    assert_eq!(refusals("{ ignoredResources: [cpu], ignoredResourceGroups: [example.org] }").len(), 1);
    refused(
        "NodeResourcesFit",
        "{ ignoredResources: ['a b'], ignoredResourceGroups: [a.b/c] }",
        &[
            ".ignoredResources[0]: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', \
             and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used \
             for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
            ".ignoredResourceGroups[0]: Invalid value: \"a.b/c\": resource group name can't contain '/'",
        ],
    );
}

#[test]
fn nodes_are_scored_by_resources_with_weights() {
    // With the pod, 20 % of the CPU and 50 % of the memory are in use on a, half of the devices too.
    let asks = pod("p", json!({ "cpu": "2", "memory": "5Gi", "example.com/device": "2" }), json!({}));
    let score = |strategy: &str| {
        let args = format!("{{ scoringStrategy: {{ {strategy} }} }}");
        World::with("NodeResourcesFit", &args).node("a", json!({})).scores("NodeResourcesFit", &asks)
    };
    assert_eq!(score("type: LeastAllocated"), [(80 + 50) / 2]);
    assert_eq!(score("type: MostAllocated"), [(20 + 50) / 2]);
    let resources = "resources: [{ name: cpu, weight: 3 }, { name: memory }]";
    assert_eq!(score(&format!("type: LeastAllocated, {resources}")), [(3 * 80 + 50) / 4]);
    let resources =
        "resources: [{ name: example.com/device, weight: 2 }, { name: cpu, weight: 0 }, { name: none/such }]";
    assert_eq!(score(&format!("type: MostAllocated, {resources}")), [(2 * 50 + 20) / 3]);
    // 20 % in use: 10 + 40 * 20 / 50 = 26; 50 %: 50.
    let ratio = "type: RequestedToCapacityRatio, requestedToCapacityRatio: { shape: [{ utilization: 0, score: 1 }, { utilization: 50, score: 5 }, { utilization: 80, score: 0 }] }";
    assert_eq!(score(ratio), [(26 + 50) / 2]);
    // Rounded, and a resource with score 0 does not count.
    let resources = "resources: [{ name: cpu }, { name: memory, weight: 2 }]";
    assert_eq!(score(&format!("{ratio}, {resources}")), [42]);
    let steep = "type: RequestedToCapacityRatio, requestedToCapacityRatio: { shape: [{ utilization: 40, score: 0 }, { utilization: 60, score: 10 }] }";
    assert_eq!(score(steep), [50]);
}

#[test]
fn a_strategy_that_makes_no_sense_is_refused() {
    let strategy = |strategy: &str, expected: &[&str]| {
        let expected: Vec<String> = expected.iter().map(|text| format!(".scoringStrategy{text}")).collect();
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        refused("NodeResourcesFit", &format!("{{ scoringStrategy: {{ {strategy} }} }}"), &expected);
    };
    strategy(
        "type: Best",
        &[
            ".type: Unsupported value: \"Best\": supported values: \"LeastAllocated\", \"MostAllocated\", \"RequestedToCapacityRatio\"",
        ],
    );
    strategy(
        "type: MostAllocated, resources: [{ name: cpu, weight: 101 }, { name: memory, weight: -1 }], requestedToCapacityRatio: {}",
        &[
            ".resources[0].weight: Invalid value: 101: resource weight of cpu not in valid range (0, 100]",
            ".resources[1].weight: Invalid value: -1: resource weight of memory not in valid range (0, 100]",
            ".requestedToCapacityRatio: Forbidden: must be nil when type is not RequestedToCapacityRatio",
        ],
    );
    strategy(
        "type: RequestedToCapacityRatio",
        &[".requestedToCapacityRatio: Required value: must be specified when type is RequestedToCapacityRatio"],
    );
    let shape = |shape: &str, expected: &[&str]| {
        let expected: Vec<String> =
            expected.iter().map(|text| format!(".requestedToCapacityRatio.shape{text}")).collect();
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        strategy(
            &format!("type: RequestedToCapacityRatio, requestedToCapacityRatio: {{ shape: [{shape}] }}"),
            &expected,
        );
    };
    shape("", &[": Required value: at least one point must be specified"]);
    shape(
        "{ utilization: 50, score: 11 }, { utilization: 50, score: -1 }, { utilization: 101, score: 0 }",
        &[
            "[1].utilization: Invalid value: 50: values must be sorted in increasing order",
            "[0].score: Invalid value: 11: not in valid range [0, 10]",
            "[1].score: Invalid value: -1: not in valid range [0, 10]",
            "[2].utilization: Invalid value: 101: not in valid range [0, 100]",
        ],
    );
}

#[test]
fn other_resources_can_be_balanced() {
    let policy = "NodeResourcesBalancedAllocation";
    let asks = pod("p", json!({ "cpu": "2", "memory": "2Gi", "example.com/device": "2" }), json!({}));
    let score = |args: &str| World::with(policy, args).node("a", json!({})).scores(policy, &asks);
    assert_eq!(score("{}"), [100]);
    // 20 % and 50 % are each 15 % from their mean.
    assert_eq!(score("{ resources: [{ name: cpu }, { name: example.com/device, weight: 1 }] }"), [85]);
    refused(
        policy,
        "{ resources: [{ name: cpu, weight: 2 }, { name: cpu }] }",
        &[".resources[0].weight: Invalid value: 2: must be 1", ".resources[1].name: Duplicate value: \"cpu\""],
    );
}

#[test]
fn every_pod_has_the_added_affinity() {
    let required = "
        { addedAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [
            { matchExpressions: [{ key: pool, operator: In, values: [web] }] },
            { matchFields: [{ key: metadata.name, operator: In, values: [d] }] }] } } }";
    let nodes = |args: &str| {
        World::with("NodeAffinity", args)
            .node("a", json!({ "pool": "web", "disk": "ssd" }))
            .node("b", json!({ "pool": "web" }))
            .node("c", json!({ "disk": "ssd" }))
            .node("d", json!({ "disk": "ssd" }))
    };
    let enforced = "NodeAffinity: node(s) didn't match scheduler-enforced node affinity";
    let any = pod("p", json!({}), json!({}));
    assert_eq!(nodes(required).refusals(&any), [format!("c: {enforced}")]);
    let ssd = pod("p", json!({}), json!({ "nodeSelector": { "disk": "ssd" } }));
    let own = "NodeAffinity: node(s) didn't match Pod's node affinity/selector";
    assert_eq!(nodes(required).refusals(&ssd), [format!("b: {own}"), format!("c: {enforced}")]);
    let preferred = "
        { addedAffinity: { preferredDuringSchedulingIgnoredDuringExecution: [
            { weight: 3, preference: { matchExpressions: [{ key: pool, operator: Exists }] } }] } }";
    assert_eq!(nodes(preferred).scores("NodeAffinity", &any), [100, 100, 0, 0]);
    let prefers = json!({ "affinity": { "nodeAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [
        { "weight": 1, "preference": { "matchExpressions": [{ "key": "disk", "operator": "Exists" }] } }] } } });
    assert_eq!(nodes(preferred).scores("NodeAffinity", &pod("p", json!({}), prefers)), [100, 75, 25, 25]);
    assert_eq!(nodes("{}").scores("NodeAffinity", &any), [0; 0]);
}

#[test]
fn an_affinity_that_cannot_be_read_is_refused() {
    let wrong = "
        { addedAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [
            { matchExpressions: [{ key: pool, operator: Equals, values: [web] }] }] } } }";
    let place = ".addedAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]";
    refused("NodeAffinity", wrong, &[&format!("{place}.matchExpressions[0].operator: Unsupported value: \"Equals\"")]);
    let unknown = "profiles: [{ pluginConfig: [{ name: NodeAffinity, args: { addedAffinity: { required: {} } } }] }]";
    assert_eq!(
        read(unknown).unwrap_err().to_string(),
        "strict decoding error: unknown field \"profiles[0].pluginConfig[0].args.addedAffinity.required\""
    );
}

#[test]
fn what_required_affinity_of_others_counts_is_a_matter_of_configuration() {
    let near = |kind: &str| {
        let term = json!({ "topologyKey": "zone", "labelSelector": { "matchLabels": { "app": "web" } } });
        let list = if kind.starts_with("required") {
            json!([term])
        } else {
            json!([{ "weight": 10, "podAffinityTerm": term }])
        };
        json!({ "affinity": { "podAffinity": { kind: list } } })
    };
    let hard = pod("hard", json!({}), near("requiredDuringSchedulingIgnoredDuringExecution"));
    let soft = pod("soft", json!({}), near("preferredDuringSchedulingIgnoredDuringExecution"));
    let any = pod("p", json!({}), json!({}));
    let scores = |args: &str, incoming: &Value| {
        let world = World::with("InterPodAffinity", args)
            .node("a", json!({ "zone": "a" }))
            .node("b", json!({ "zone": "b" }))
            .on("a", &hard)
            .on("b", &soft);
        world.on("b", &pod("other", json!({}), json!({}))).scores("InterPodAffinity", incoming)
    };
    assert_eq!(scores("{}", &any), [0, 100]);
    assert_eq!(scores("{ hardPodAffinityWeight: 100 }", &any), [100, 0]);
    assert_eq!(scores("{ ignorePreferredTermsOfExistingPods: true }", &any), [0; 0]);
    // A pod with preferences is scored by all of them.
    let prefers = pod("p", json!({}), near("preferredDuringSchedulingIgnoredDuringExecution"));
    let ignoring = "{ ignorePreferredTermsOfExistingPods: true, hardPodAffinityWeight: 0 }";
    assert_eq!(scores(ignoring, &prefers), [0, 100]);
    // Weight 0 is as if there were no such affinity.
    let only_hard = |args: &str| {
        let world = World::with("InterPodAffinity", args).node("a", json!({ "zone": "a" })).node("b", json!({}));
        world.on("a", &hard).scores("InterPodAffinity", &any)
    };
    assert_eq!(only_hard("{}"), [100, 0]);
    assert_eq!(only_hard("{ hardPodAffinityWeight: 0 }"), [0; 0]);
    refused(
        "InterPodAffinity",
        "{ hardPodAffinityWeight: 101 }",
        &[".hardPodAffinityWeight: Invalid value: 101: not in valid range [0, 100]"],
    );
}

#[test]
fn pods_without_constraints_get_those_of_the_configuration() {
    let service: Service = serde_json::from_value(json!({
        "metadata": { "name": "web", "namespace": "default" }, "spec": { "selector": { "app": "web" } },
    }))
    .unwrap();
    let world = |args: &str| {
        World::with("PodTopologySpread", args)
            .node("a", json!({ "rack": "1" }))
            .node("b", json!({ "rack": "2" }))
            .node("c", json!({}))
            .on("a", &pod("one", json!({}), json!({})))
    };
    let hard = "{ defaultingType: List, defaultConstraints: [{ maxSkew: 1, topologyKey: rack, whenUnsatisfiable: DoNotSchedule }] }";
    let any = pod("p", json!({}), json!({}));
    let mut engine = world(hard);
    assert_eq!(engine.refusals(&any), [""; 0], "no service selects the pod");
    engine.0.cluster_mut().put_object(Arc::new(service.clone()));
    let reason = "PodTopologySpread: node(s) didn't match pod topology spread constraints";
    let full = [format!("a: {reason}"), format!("c: {reason} (missing required label)")];
    assert_eq!(engine.refusals(&any), full, "what is remembered follows the services");
    let own = json!({ "topologySpreadConstraints": [
        { "maxSkew": 5, "topologyKey": "rack", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {} }] });
    assert_eq!(engine.refusals(&pod("p", json!({}), own)), [""; 0], "the pod's own come first");
    let scores = |args: &str| {
        let mut engine = world(args);
        engine.0.cluster_mut().put_object(Arc::new(service.clone()));
        engine.scores("PodTopologySpread", &any)
    };
    let soft = "{ defaultingType: List, defaultConstraints: [{ maxSkew: 1, topologyKey: rack, whenUnsatisfiable: ScheduleAnyway }] }";
    assert_eq!(scores(soft), [0, 100, 0]);
    assert_eq!(scores("{ defaultingType: List }"), [0; 0]);
    assert_eq!(scores("{ defaultingType: System }").len(), 3);
}

#[test]
fn default_constraints_that_make_no_sense_are_refused() {
    refused(
        "PodTopologySpread",
        "{ defaultConstraints: [{ maxSkew: 1, topologyKey: rack, whenUnsatisfiable: ScheduleAnyway }] }",
        &[".defaultingType: Invalid value: \"System\": when .defaultConstraints are not empty"],
    );
    refused(
        "PodTopologySpread",
        "{ defaultingType: Some }",
        &[".defaultingType: Unsupported value: \"Some\": supported values: \"System\", \"List\""],
    );
    refused(
        "PodTopologySpread",
        "{ defaultingType: List, defaultConstraints: [
            { maxSkew: 0, labelSelector: {} },
            { maxSkew: 1, topologyKey: a, whenUnsatisfiable: Never },
            { maxSkew: 1, topologyKey: a, whenUnsatisfiable: Never }] }",
        &[
            ".defaultConstraints[0].maxSkew: Invalid value: 0: not in valid range (0, inf)",
            ".defaultConstraints[0].topologyKey: Required value: can not be empty",
            ".defaultConstraints[0].whenUnsatisfiable: Required value: can not be empty",
            ".defaultConstraints[0].labelSelector: Forbidden: constraint must not define a selector, as they deduced for each pod",
            ".defaultConstraints[1].whenUnsatisfiable: Unsupported value: \"Never\": supported values: \"DoNotSchedule\", \"ScheduleAnyway\"",
            ".defaultConstraints[2].whenUnsatisfiable: Unsupported value: \"Never\": supported values: \"DoNotSchedule\", \"ScheduleAnyway\"",
            ".defaultConstraints[2]: Duplicate value: \"{a, Never}\"",
        ],
    );
}

#[test]
fn the_other_arguments_are_checked() {
    profile("pluginConfig: [{ name: VolumeBinding, args: { bindTimeoutSeconds: 0 } }]");
    refused(
        "VolumeBinding",
        "{ shape: [{ score: 1 }] }",
        &[
            ".shape: Invalid value: [{\"score\":1}]: unexpected field `shape`, remove it or turn on the feature gate StorageCapacityScoring",
        ],
    );
    profile(
        "pluginConfig: [{ name: DefaultPreemption, args: { kind: DefaultPreemptionArgs, minCandidateNodesAbsolute: 0 } }]",
    );
    refused(
        "DefaultPreemption",
        "{ minCandidateNodesPercentage: 101, minCandidateNodesAbsolute: -1 }",
        &[
            ".minCandidateNodesPercentage: Invalid value: 101: not in valid range [0, 100]",
            ".minCandidateNodesAbsolute: Invalid value: -1: not in valid range [0, inf)",
        ],
    );
    refused(
        "DefaultPreemption",
        "{ minCandidateNodesPercentage: 0, minCandidateNodesAbsolute: 0 }",
        &[
            ".minCandidateNodesPercentage: Invalid value: 0: cannot be zero at the same time as minCandidateNodesAbsolute",
            ".minCandidateNodesAbsolute: Invalid value: 0: cannot be zero at the same time as minCandidateNodesPercentage",
        ],
    );
    profile("pluginConfig: [{ name: DynamicResources, args: { filterTimeout: 5s } }]");
    refused(
        "DynamicResources",
        "{ filterTimeout: -5s, bindingTimeout: 500ms }",
        &[
            ".filterTimeout: Invalid value: \"-5s\": must be zero or positive",
            ".bindingTimeout: Forbidden: DRADeviceBindingConditions or DRAResourceClaimDeviceStatus feature gate is disabled",
        ],
    );
    profile("pluginConfig: [{ name: Gang, args: { timeoutSeconds: 5 } }]");
}
