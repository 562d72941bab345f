//! What everything looks like once nothing goes wrong any more.

use serde_json::Value;

use crate::history::name;

/// Everything that is there in the end.
#[derive(Debug, Clone, Default)]
pub struct Listed {
    /// Deployments.
    pub deployments: Vec<Value>,
    /// StatefulSets.
    pub stateful_sets: Vec<Value>,
    /// Pods.
    pub pods: Vec<Value>,
    /// Nodes.
    pub nodes: Vec<Value>,
}

/// What is not yet as it shall be.
pub fn missing(listed: &Listed) -> Option<String> {
    let number = |value: &Value| value.as_i64().unwrap_or(0);
    let mut wanted = 0;
    for object in listed.deployments.iter().chain(&listed.stateful_sets) {
        let (status, replicas) = (&object["status"], number(&object["spec"]["replicas"]));
        wanted += replicas;
        let there =
            ["replicas", "updatedReplicas", "availableReplicas", "readyReplicas"].map(|field| number(&status[field]));
        if number(&status["observedGeneration"]) != number(&object["metadata"]["generation"]) {
            return Some(format!("{} is not observed", name(object)));
        }
        if there != [replicas; 4] {
            return Some(format!("{} has {there:?} of {replicas} pods (all, updated, available, ready)", name(object)));
        }
    }
    for node in &listed.nodes {
        let conditions = node["status"]["conditions"].as_array();
        if !conditions.into_iter().flatten().any(|one| one["type"] == "Ready" && one["status"] == "True") {
            return Some(format!("node {} is not ready", name(node)));
        }
        if node["spec"]["taints"].as_array().is_some_and(|taints| !taints.is_empty()) {
            return Some(format!("node {} has taints", name(node)));
        }
    }
    for pod in &listed.pods {
        if pod["metadata"]["deletionTimestamp"].is_string() {
            return Some(format!("pod {} does not end", name(pod)));
        }
        if pod["status"]["phase"] != "Running" {
            return Some(format!("pod {} does not run", name(pod)));
        }
    }
    let there = i64::try_from(listed.pods.len()).unwrap_or(i64::MAX);
    (there != wanted).then(|| format!("there are {there} pods, and {wanted} are wanted"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn listed() -> Listed {
        let status = json!({ "observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1, "readyReplicas": 1 });
        let set = json!({ "metadata": { "name": "a", "generation": 2 }, "spec": { "replicas": 1 }, "status": status });
        let pod = json!({ "metadata": { "name": "p" }, "status": { "phase": "Running" } });
        let node =
            json!({ "metadata": { "name": "n" }, "status": { "conditions": [{ "type": "Ready", "status": "True" }] } });
        Listed { deployments: vec![set.clone()], stateful_sets: vec![set], pods: vec![pod; 2], nodes: vec![node] }
    }

    #[test]
    fn a_cluster_at_rest_misses_nothing() {
        assert_eq!(missing(&listed()), None);
    }

    #[test]
    fn whatever_is_not_at_rest_is_named() {
        let found = |change: fn(&mut Listed)| {
            let mut listed = listed();
            change(&mut listed);
            missing(&listed).unwrap()
        };
        assert_eq!(found(|all| drop(all.pods.pop())), "there are 1 pods, and 2 are wanted");
        assert_eq!(found(|all| all.pods[0]["status"]["phase"] = "Pending".into()), "pod p does not run");
        assert_eq!(found(|all| all.pods[0]["metadata"]["deletionTimestamp"] = "x".into()), "pod p does not end");
        assert_eq!(found(|all| all.nodes[0]["status"] = Value::Null), "node n is not ready");
        assert_eq!(found(|all| all.deployments[0]["metadata"]["generation"] = 3.into()), "a is not observed");
        let few = "a has [1, 0, 1, 1] of 1 pods (all, updated, available, ready)";
        assert_eq!(found(|all| all.stateful_sets[0]["status"]["updatedReplicas"] = 0.into()), few);
    }
}
