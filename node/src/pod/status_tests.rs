use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::pod::observed::{Disk, Failure, Health, Target};
use crate::testing::{condition, pod as a_pod, state, status as status_of};

const NOW: Timestamp = Timestamp::constant(1_735_689_600, 0);

fn pod(spec: Value) -> Pod {
    let mut pod = a_pod("a", spec);
    pod.metadata.uid = Some("u".to_owned());
    pod.metadata.generation = Some(3);
    pod
}

fn exited(code: i32) -> Value {
    json!({"Exited": {
        "started_at": "2024-12-31T23:59:59Z", "finished_at": NOW.to_string(), "code": code, "signal": 0,
        "oom_killed": false, "message": "",
    }})
}

fn running() -> Value {
    json!({"Running": {"started_at": "2024-12-31T23:00:00Z", "pid": 1}})
}

/// A connected pod with these attempts of containers.
fn observed(attempts: &[(&str, u32, Value)]) -> Observed {
    let containers = attempts.iter().map(|(name, attempt, state)| {
        json!({
            "container": {"pod_uid": "u", "name": name, "attempt": attempt}, "id": format!("{name}-{attempt}"),
            "state": state, "created_at": NOW.to_string(), "image": "sha256:1", "image_name": "web", "labels": {},
            "annotations": {"longshore.dev/restart-backoff-seconds": "10"}, "log_path": "/l",
        })
    });
    let sandbox = json!({
        "pod": {"namespace": "ns", "name": "a", "uid": "u"}, "id": "u", "ready": true, "created_at": NOW.to_string(),
        "network_namespace": null, "labels": {}, "annotations": {}, "containers": containers.collect::<Vec<_>>(),
    });
    let health = |attempt| Health { attempt, started: true, ready: true, failed: None };
    Observed {
        sandbox: Some(serde_json::from_value(sandbox).unwrap()),
        net: Net::Attached(vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()]),
        disk: Disk::Ready,
        health: attempts.iter().map(|(name, attempt, _)| ((*name).to_owned(), health(*attempt))).collect(),
        ..Observed::default()
    }
}

/// The pod with the status that is worked out for it.
fn told(pod: &Pod, observed: &Observed) -> Pod {
    let facts = Facts { scheme: "longshore".into(), host_ips: vec!["192.168.0.1".into()] };
    Pod { status: status(pod, observed, &facts, NOW), ..pod.clone() }
}

#[test]
fn a_running_pod_has_all_that_clients_look_for() {
    let pod = pod(json!({}));
    let told = told(&pod, &observed(&[("main", 0, running())]));
    let main = serde_json::to_value(status_of(&told, "main")).unwrap();
    assert_eq!(
        main,
        json!({
            "name": "main", "ready": true, "started": true, "restartCount": 0, "image": "web", "imageID": "sha256:1",
            "containerID": "longshore://main-0", "lastState": {}, "resources": {},
            "state": {"running": {"startedAt": "2024-12-31T23:00:00Z"}},
        })
    );
    let status = &told.status;
    assert_eq!((status.phase.as_str(), status.qos_class.as_str()), ("Running", "BestEffort"));
    assert_eq!((status.pod_ip.as_str(), status.pod_ips.len(), status.host_ip.as_str()), ("10.0.0.1", 2, "192.168.0.1"));
    assert_eq!((status.observed_generation, status.start_time.clone()), (3, Some(Time(NOW))));
    let types: Vec<&str> = status.conditions.iter().map(|condition| condition.type_.as_str()).collect();
    assert_eq!(types, ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"]);
}

#[test]
fn phases_are_upstreams() {
    let two = |policy: &str| json!({"restartPolicy": policy, "containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]});
    for (policy, a, b, expected) in [
        ("Always", None, None, "Pending"),
        ("Always", Some(running()), None, "Pending"),
        ("Always", Some(running()), Some(running()), "Running"),
        ("Always", Some(exited(0)), Some(exited(1)), "Running"),
        ("OnFailure", Some(exited(0)), Some(exited(0)), "Succeeded"),
        ("OnFailure", Some(exited(0)), Some(exited(1)), "Running"),
        ("Never", Some(exited(0)), Some(exited(1)), "Failed"),
        ("Never", Some(exited(0)), Some(exited(0)), "Succeeded"),
        ("Never", Some(exited(1)), Some(running()), "Running"),
        ("Never", Some(exited(1)), None, "Pending"),
    ] {
        let attempts = [a.map(|state| ("a", 0, state)), b.map(|state| ("b", 0, state))];
        let attempts: Vec<_> = attempts.into_iter().flatten().collect();
        let told = told(&pod(two(policy)), &observed(&attempts));
        assert_eq!(told.status.phase.as_str(), expected, "{policy} {attempts:?}");
    }
}

#[test]
fn one_that_is_held_back_waits_and_its_end_is_the_last_state() {
    let told = told(&pod(json!({})), &observed(&[("main", 1, exited(2)), ("main", 2, exited(3))]));
    let main = status_of(&told, "main");
    let waiting = main.state.waiting.as_ref().unwrap();
    assert_eq!(waiting.reason, "CrashLoopBackOff");
    assert_eq!(waiting.message, "back-off 10s restarting failed container=main pod=a_ns(u)");
    assert_eq!(main.last_state.terminated.as_ref().unwrap().exit_code, 3);
    assert_eq!((main.restart_count, main.ready), (2, false));
    let ready = told.status.conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "ContainersNotReady"));
    assert_eq!(ready.message, "containers with unready status: [main]");
}

/// The API lets nothing that ended well under OnFailure run again.
#[test]
fn what_was_stopped_to_be_started_again_waits_though_it_ended_well() {
    let pod = pod(json!({"restartPolicy": "OnFailure"}));
    let mut seen = observed(&[("main", 0, exited(0))]);
    seen.stopped.insert("main".to_owned(), 0);
    let waits = told(&pod, &seen);
    let main = status_of(&waits, "main");
    assert!(main.state.waiting.is_some() && main.last_state.terminated.is_some(), "{main:?}");
    seen.stopped.clear();
    let done = told(&pod, &seen);
    assert!(status_of(&done, "main").state.terminated.is_some());
}

#[test]
fn a_start_that_fails_is_what_the_container_waits_for() {
    let mut seen = observed(&[]);
    let failure = Failure {
        until: Duration::ZERO,
        count: 1,
        reason: "CreateContainerConfigError".into(),
        message: "configmap \"x\" not found".into(),
    };
    seen.failures.insert(Target::Container("main".into()), failure);
    let told = told(&pod(json!({})), &seen);
    assert_eq!(state(&told, "main"), "CreateContainerConfigError");
    assert_eq!(told.status.phase, PodPhase::Pending);
}

#[test]
fn ends_have_their_reasons() {
    let end = |field: &str, value: Value, code: i32| {
        let mut state = exited(code);
        state["Exited"][field] = value;
        let told = told(&pod(json!({"restartPolicy": "Never"})), &observed(&[("main", 0, state)]));
        let ended = status_of(&told, "main").state.terminated.clone().unwrap();
        (ended.reason, ended.message, ended.signal)
    };
    assert_eq!(end("message", json!("done"), 0), ("Completed".into(), "done".into(), 0));
    assert_eq!(end("oom_killed", json!(true), 137).0, "OOMKilled");
    assert_eq!(end("signal", json!(11), 139), ("Error".into(), String::new(), 11));
    assert_eq!(end("started_at", Value::Null, 128).0, "StartError");
}

#[test]
fn the_log_explains_an_error_where_it_may() {
    let spec = json!({"restartPolicy": "Never", "containers": [
        {"name": "main", "image": "i", "terminationMessagePolicy": "FallbackToLogsOnError"},
    ]});
    let mut seen = observed(&[("main", 0, exited(1))]);
    seen.log_tails.insert("main-0".into(), "panic".into());
    let told = told(&pod(spec), &seen);
    assert_eq!(status_of(&told, "main").state.terminated.as_ref().unwrap().message, "panic");
}

#[test]
fn readiness_waits_for_gates() {
    let mut pod = pod(json!({"readinessGates": [{"conditionType": "example.com/gate"}]}));
    let seen = observed(&[("main", 0, running())]);
    let before = told(&pod, &seen);
    assert_eq!((condition(&before, "ContainersReady"), condition(&before, "Ready")), ("True".into(), "False".into()));
    pod.status.conditions =
        vec![serde_json::from_value(json!({"type": "example.com/gate", "status": "True"})).unwrap()];
    let after = told(&pod, &seen);
    assert_eq!(condition(&after, "Ready"), "True");
    assert_eq!(condition(&after, "example.com/gate"), "True", "conditions of others stay");
}

#[test]
fn a_pod_without_its_sandbox_says_so() {
    let pod = pod(json!({"initContainers": [{"name": "init", "image": "i"}]}));
    let told = told(&pod, &Observed::default());
    assert_eq!(condition(&told, "PodReadyToStartContainers"), "False");
    assert_eq!((state(&told, "init"), state(&told, "main")), ("PodInitializing".into(), "PodInitializing".into()));
    let initialized = told.status.conditions.iter().find(|condition| condition.type_ == "Initialized").unwrap();
    assert_eq!(initialized.message, "containers with incomplete status: [init]");
}

#[test]
fn what_runs_beside_the_main_containers_delays_the_end() {
    let spec = json!({"restartPolicy": "Never", "initContainers": [{"name": "side", "image": "i", "restartPolicy": "Always"}]});
    let pod = pod(spec);
    let ending = told(&pod, &observed(&[("side", 0, running()), ("main", 0, exited(0))]));
    assert_eq!(ending.status.phase, PodPhase::Running);
    let ended = told(&pod, &observed(&[("side", 0, exited(143)), ("main", 0, exited(0))]));
    assert_eq!(ended.status.phase, PodPhase::Succeeded);
    assert_eq!(state(&ended, "side"), "Error", "it is not restarted any more");
}

#[test]
fn a_deleted_pod_accounts_for_every_container() {
    let mut pod = pod(json!({}));
    pod.metadata.deletion_timestamp = Some(Time(NOW));
    let told = told(&pod, &observed(&[]));
    assert_eq!(told.status.phase, PodPhase::Failed);
    assert_eq!(state(&told, "main"), "ContainerStatusUnknown");
    let running = told_running(&pod);
    assert_eq!((running.status.phase.as_str(), state(&running, "main")), ("Running", "Running".into()));
}

fn told_running(pod: &Pod) -> Pod {
    told(pod, &observed(&[("main", 0, running())]))
}

#[test]
fn what_is_told_once_is_told_again_the_same_way() {
    let pod = pod(json!({}));
    let mut seen = observed(&[("main", 0, running())]);
    let first = told(&pod, &seen);
    seen.remembered = first.status.clone();
    let facts = Facts { scheme: "longshore".into(), host_ips: vec!["192.168.0.1".into()] };
    let later = NOW + jiff::SignedDuration::from_hours(1);
    assert_eq!(status(&first, &seen, &facts, later), first.status);
}

#[test]
fn debugging_containers_are_told_of_and_count_for_nothing() {
    let debugging =
        json!([{"name": "debug", "image": "web", "targetContainerName": "main"}, {"name": "more", "image": "web"}]);
    let pod = pod(json!({"ephemeralContainers": debugging}));
    let told = told(&pod, &observed(&[("main", 0, running()), ("debug", 0, exited(1))]));
    let statuses = serde_json::to_value(&told.status.ephemeral_container_statuses).unwrap();
    let part = |at: usize, path: &str| statuses[at].pointer(path).cloned().unwrap_or_default();
    assert_eq!(part(0, "/state/terminated/exitCode"), 1);
    assert_eq!([part(0, "/ready"), part(0, "/started")], [json!(false), Value::Null]);
    assert_eq!(part(1, "/state/waiting/reason"), "ContainerCreating");
    assert_eq!((condition(&told, "Ready").as_str(), &told.status.phase), ("True", &PodPhase::Running));
}
