//! Whether an object is as far as its owner wanted, and how to say it in a few words.

use longshore_core::api::job::JobCondition;
use longshore_core::api::pod::PodPhase;
use longshore_core::api::{
    ConditionStatus, DaemonSet, Deployment, Job, Node, Pod, ReplicaSet, ReplicationController, StatefulSet,
};
use longshore_core::kind::AnyObject;

/// How far an object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// Whether nothing more is to be waited for.
    pub ready: bool,
    /// Whether waiting is in vain.
    pub failed: bool,
    /// In words, such as `2/3 available`.
    pub text: String,
}

impl Readiness {
    fn of(ready: bool, text: impl Into<String>) -> Self {
        Self { ready, failed: false, text: text.into() }
    }

    fn counted(current: bool, have: i32, want: i32, word: &str) -> Self {
        Self::of(current && have >= want, format!("{have}/{want} {word}"))
    }
}

/// How far an object is. Kinds that have nothing to wait for are ready when they exist.
pub fn readiness(object: &dyn AnyObject) -> Readiness {
    let any = object.as_any();
    let generation = object.meta().generation.unwrap_or_default();
    if let Some(pod) = any.downcast_ref::<Pod>() {
        return of_pod(pod);
    }
    if let Some(node) = any.downcast_ref::<Node>() {
        let ready = node.status.conditions.iter().find(|condition| condition.type_ == "Ready");
        return match ready {
            Some(condition) if condition.status == ConditionStatus::True => Readiness::of(true, "Ready"),
            Some(condition) => Readiness::of(false, format!("NotReady: {}", condition.message)),
            None => Readiness::of(false, "NotReady"),
        };
    }
    if let Some(it) = any.downcast_ref::<Deployment>() {
        let (want, status) = (it.spec.replicas.unwrap_or(1), &it.status);
        let current = status.observed_generation >= generation && status.updated_replicas >= want;
        return Readiness::counted(current, status.available_replicas, want, "available");
    }
    if let Some(it) = any.downcast_ref::<ReplicaSet>() {
        let current = it.status.observed_generation >= generation;
        return Readiness::counted(current, it.status.available_replicas, it.spec.replicas.unwrap_or(1), "available");
    }
    if let Some(it) = any.downcast_ref::<ReplicationController>() {
        let current = it.status.observed_generation >= generation;
        return Readiness::counted(current, it.status.available_replicas, it.spec.replicas.unwrap_or(1), "available");
    }
    if let Some(it) = any.downcast_ref::<StatefulSet>() {
        let current = it.status.observed_generation >= generation;
        return Readiness::counted(current, it.status.available_replicas, it.spec.replicas.unwrap_or(1), "available");
    }
    if let Some(it) = any.downcast_ref::<DaemonSet>() {
        let current = it.status.observed_generation >= generation;
        let want = it.status.desired_number_scheduled;
        return Readiness::counted(current, it.status.number_available, want, "available");
    }
    if let Some(job) = any.downcast_ref::<Job>() {
        return of_job(job);
    }
    Readiness::of(true, "exists")
}

fn of_pod(pod: &Pod) -> Readiness {
    let phase = &pod.status.phase;
    let ready = pod.status.conditions.iter().any(|it| it.type_ == "Ready" && it.status == ConditionStatus::True);
    match phase {
        PodPhase::Succeeded => Readiness::of(true, "Succeeded"),
        PodPhase::Failed => {
            let text = format!("Failed: {} {}", pod.status.reason, pod.status.message).trim_end().to_owned();
            Readiness { ready: false, failed: true, text }
        }
        _ if ready => Readiness::of(true, "Ready"),
        _ => {
            let waiting = pod.status.container_statuses.iter().find_map(|status| status.state.waiting.as_ref());
            let unscheduled = pod
                .status
                .conditions
                .iter()
                .find(|it| it.type_ == "PodScheduled" && it.status == ConditionStatus::False);
            let why = match (waiting, unscheduled) {
                (Some(waiting), _) if waiting.message.is_empty() => waiting.reason.clone(),
                (Some(waiting), _) => format!("{}: {}", waiting.reason, waiting.message),
                (None, Some(condition)) => format!("{}: {}", condition.reason, condition.message),
                (None, None) => phase.as_str().to_owned(),
            };
            Readiness::of(false, why)
        }
    }
}

fn of_job(job: &Job) -> Readiness {
    let holds = |type_: &str| {
        let of_type = |it: &&JobCondition| it.type_ == type_ && it.status == ConditionStatus::True;
        job.status.conditions.iter().find(of_type)
    };
    if holds("Complete").is_some() {
        return Readiness::of(true, "Complete");
    }
    if let Some(condition) = holds("Failed") {
        let text = format!("Failed: {}: {}", condition.reason, condition.message);
        return Readiness { ready: false, failed: true, text };
    }
    let want = job.spec.completions.map_or("-".to_owned(), |count| count.to_string());
    Readiness::of(false, format!("{}/{want} completed", job.status.succeeded))
}

#[cfg(test)]
mod tests {
    use longshore_core::api::ConfigMap;
    use serde_json::json;

    use super::*;

    fn of(value: serde_json::Value) -> (bool, bool, String) {
        let kind = longshore_core::api::find(value["apiVersion"].as_str().unwrap(), value["kind"].as_str().unwrap());
        let Readiness { ready, failed, text } = readiness(&*(kind.unwrap().from_value)(value).unwrap());
        (ready, failed, text)
    }

    #[test]
    fn workloads_count_what_is_available_of_the_present_generation() {
        let deployment = |observed: i64, updated: i32, available: i32| {
            of(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"generation": 2},
                "spec": {"replicas": 3, "selector": {}, "template": {}},
                "status": {"observedGeneration": observed, "updatedReplicas": updated, "availableReplicas": available}}))
        };
        assert_eq!(deployment(2, 3, 3), (true, false, "3/3 available".into()));
        assert!(!deployment(1, 3, 3).0);
        assert!(!deployment(2, 2, 3).0);
        assert_eq!(deployment(2, 3, 2), (false, false, "2/3 available".into()));
        assert!(readiness(&ConfigMap::default()).ready);
    }

    #[test]
    fn pods_and_jobs_say_why_they_are_not_there_yet() {
        let pod = |status: serde_json::Value| {
            of(json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": []}, "status": status}))
        };
        let waiting = json!({"phase": "Pending", "containerStatuses": [{"name": "a", "image": "", "imageID": "",
            "ready": false, "restartCount": 0, "state": {"waiting": {"reason": "ErrImagePull", "message": "no"}}}]});
        assert_eq!(pod(waiting), (false, false, "ErrImagePull: no".into()));
        assert_eq!(pod(json!({"phase": "Failed", "reason": "Evicted"})), (false, true, "Failed: Evicted".into()));
        let job = |conditions: serde_json::Value| {
            of(json!({"apiVersion": "batch/v1", "kind": "Job", "spec": {"completions": 2, "template": {}},
                "status": {"succeeded": 1, "conditions": conditions}}))
        };
        assert_eq!(job(json!([])), (false, false, "1/2 completed".into()));
        assert!(job(json!([{"type": "Complete", "status": "True"}])).0);
        assert!(job(json!([{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}])).1);
    }
}
