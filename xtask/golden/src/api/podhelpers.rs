//! Family `podhelpers`: resources, readiness, restarts, node affinity and taints.

use jiff::Timestamp;
use longshore_core::api::node::{Node, Taint};
use longshore_core::api::pod::helpers::{self, ResourceOptions};
use longshore_core::api::pod::{Pod, PodCondition, Toleration, qos_class};
use longshore_core::int_or_string::IntOrString;
use serde_json::{Value, json};

use super::read;

/// What the library makes of one vector's input.
pub(crate) fn run(input: &Value) -> Value {
    match input["op"].as_str().unwrap_or_default() {
        "resources" => resources(&read(&input["pod"])),
        "ready" => ready(input),
        "updatePodCondition" => update_condition(input),
        "scaledIntOrPercent" => scaled(input),
        "containerShouldRestart" => restart(&read(&input["pod"])),
        "nodeAffinity" => node_affinity(&read(&input["pod"]), &read(&input["node"])),
        "findUntoleratedTaint" => taint(input),
        op => json!({ "error": format!("unknown op {op:?}") }),
    }
}

fn resources(pod: &Pod) -> Value {
    let all = ResourceOptions::default();
    let bare = ResourceOptions { exclude_overhead: true, ..all };
    json!({
        "qos": qos_class(&pod.spec),
        "isPodLevelResourcesSet": helpers::has_pod_level_resources(pod),
        "requests": helpers::pod_requests(pod, all),
        "limits": helpers::pod_limits(pod, all),
        "requestsExcludeOverhead": helpers::pod_requests(pod, bare),
        "limitsExcludeOverhead": helpers::pod_limits(pod, bare),
        "requestsSkipPodLevel": helpers::pod_requests(pod, ResourceOptions { skip_pod_level: true, ..all }),
        "requestsUseStatus": helpers::pod_requests(pod, ResourceOptions { use_status: true, ..all }),
        "resourceRequestCPUMilli": helpers::resource_request(pod, "cpu"),
        "resourceRequestMemoryValue": helpers::resource_request(pod, "memory"),
    })
}

fn ready(input: &Value) -> Value {
    let pod: Pod = read(&input["pod"]);
    let now: Timestamp = read(&input["now"]);
    json!({
        "ready": helpers::is_ready(&pod),
        "containersReady": helpers::containers_ready(&pod),
        "available": helpers::is_available(&pod, read(&input["minReadySeconds"]), now),
        "terminal": helpers::is_terminal(&pod),
    })
}

fn update_condition(input: &Value) -> Value {
    let mut conditions: Vec<PodCondition> = read(&input["conditions"]);
    // Later than any time in a vector, so that a fresh stamp can be told from an old one.
    let now = Timestamp::MAX;
    let changed = helpers::update_condition(&mut conditions, read(&input["condition"]), now);
    let mut list = json!(conditions);
    for (condition, written) in conditions.iter().zip(list.as_array_mut().into_iter().flatten()) {
        if condition.last_transition_time.as_ref().is_some_and(|time| time.0 == now) {
            written["lastTransitionTime"] = "$NOW".into();
        }
    }
    json!({ "changed": changed, "conditions": list })
}

fn scaled(input: &Value) -> Value {
    let value: IntOrString = read(&input["value"]);
    let total: i32 = read(&input["total"]);
    let round = |up| match value.scaled(total, up) {
        Ok(number) => json!(number),
        Err(error) => json!({ "error": error.to_string() }),
    };
    json!({
        "roundUp": round(true),
        "roundDown": round(false),
        "string": value.to_string(),
        "intValue": value.int_value(),
    })
}

fn restart(pod: &Pod) -> Value {
    let Some(container) = pod.spec.containers.first() else { return json!({ "error": "no container" }) };
    let after = |exit_code| helpers::should_restart(container, &pod.spec, exit_code);
    json!({
        "exit0": after(0),
        "exit1": after(1),
        "exit2": after(2),
        "exit42": after(42),
        "restartable": helpers::is_restartable(container, &pod.spec),
    })
}

fn node_affinity(pod: &Pod, node: &Node) -> Value {
    let mut out = json!({});
    match helpers::node_matches(pod, node) {
        Ok(matches) => out["match"] = matches.into(),
        Err(error) => {
            out["match"] = false.into();
            out["matchError"] = error.to_string().into();
        }
    }
    let affinity = pod.spec.affinity.as_deref().and_then(|affinity| affinity.node_affinity.as_ref());
    if affinity.is_none_or(|affinity| affinity.preferred_during_scheduling_ignored_during_execution.is_empty()) {
        return out;
    }
    match helpers::node_affinity_score(pod, node) {
        Ok(score) => out["score"] = score.into(),
        Err(error) => out["scoreError"] = error.to_string().into(),
    }
    out
}

fn taint(input: &Value) -> Value {
    let taints: Vec<Taint> = read(&input["taints"]);
    let tolerations: Vec<Toleration> = read(&input["tolerations"]);
    match helpers::find_untolerated_taint(&taints, &tolerations, |_| true) {
        Some(taint) => json!({ "untolerated": true, "taint": taint }),
        None => json!({ "untolerated": false }),
    }
}
