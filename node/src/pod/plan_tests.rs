use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use longshore_core::runtime::{Container, ImageId, Resources, Sandbox};
use serde_json::json;

use super::*;
use crate::pod::config::pod_ref;
use crate::pod::observed::{Failure, Health};
use crate::pod::status::{Facts, status};
use crate::testing::pod as a_pod;

const NOW: Timestamp = Timestamp::constant(1_735_689_600, 0);
const TIME: crate::probes::Time = crate::probes::Time { now: NOW, elapsed: Duration::from_secs(100) };

fn pod(spec: serde_json::Value) -> Pod {
    let mut pod = a_pod("a", spec);
    pod.metadata.uid = Some("u".to_owned());
    pod
}

fn running() -> ContainerState {
    ContainerState::Running { started_at: NOW, pid: 1 }
}

fn exited(code: i32, seconds_ago: i64) -> ContainerState {
    ContainerState::Exited {
        started_at: Some(NOW - SignedDuration::from_secs(seconds_ago + 1)),
        finished_at: NOW - SignedDuration::from_secs(seconds_ago),
        code,
        signal: 0,
        oom_killed: false,
        message: String::new(),
    }
}

fn container(name: &str, attempt: u32, backoff: u64, state: ContainerState) -> Container {
    Container {
        container: ContainerRef { pod_uid: "u".into(), name: name.into(), attempt },
        id: format!("{name}-{attempt}"),
        state,
        created_at: NOW,
        image: ImageId("sha256:1".into()),
        image_name: "web".into(),
        resources: Resources::default(),
        labels: BTreeMap::new(),
        annotations: [(BACKOFF.to_owned(), backoff.to_string())].into(),
        log_path: "/log".into(),
    }
}

fn sandbox(pod: &Pod, containers: Vec<Container>) -> Sandbox {
    Sandbox {
        pod: pod_ref(pod),
        id: "u".into(),
        ready: true,
        created_at: NOW,
        network_namespace: None,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        containers,
    }
}

/// A pod that is connected and has its volumes, with these containers.
fn observed(pod: &Pod, containers: Vec<Container>) -> Observed {
    let health = containers.iter().filter(|container| container.state == running());
    let health = health.map(|container| {
        let attempt = container.container.attempt;
        (container.container.name.clone(), Health { attempt, started: true, ready: true, failed: None })
    });
    Observed {
        health: health.collect(),
        sandbox: Some(sandbox(pod, containers)),
        net: Net::Attached(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]),
        disk: Disk::Ready,
        ..Observed::default()
    }
}

fn check(pod: &Pod, observed: &Observed, expected: &[Step]) -> Plan {
    let plan = plan(pod, observed, TIME);
    assert_eq!(plan.steps, expected);
    plan
}

fn start(name: &str, attempt: u32, backoff: u64) -> Step {
    Step::Start { name: name.into(), attempt, backoff }
}

fn stop(name: &str, seconds: i64, why: Why) -> Step {
    let container = ContainerRef { pod_uid: "u".into(), name: name.into(), attempt: 0 };
    Step::Stop { container, deadline: NOW + SignedDuration::from_secs(seconds), why }
}

#[test]
fn a_new_pod_is_built_from_the_ground_up() {
    let pod = pod(json!({}));
    let mut seen = Observed { net: Net::Detached, ..Observed::default() };
    check(&pod, &seen, &[Step::PrepareVolumes]);
    seen.disk = Disk::Ready;
    check(&pod, &seen, &[Step::CreateSandbox]);
    seen.sandbox = Some(sandbox(&pod, vec![]));
    check(&pod, &seen, &[Step::Attach]);
    seen.net = observed(&pod, vec![]).net;
    check(&pod, &seen, &[start("main", 0, 0)]);
}

#[test]
fn an_old_connection_is_cut_before_a_sandbox_is_made() {
    let pod = pod(json!({}));
    let mut seen = Observed { net: Net::Unknown, disk: Disk::Ready, ..Observed::default() };
    check(&pod, &seen, &[Step::Detach]);
    seen.sandbox = Some(Sandbox { ready: false, ..sandbox(&pod, vec![]) });
    check(&pod, &seen, &[Step::RemoveSandbox]);
}

#[test]
fn what_failed_a_moment_ago_waits() {
    let pod = pod(json!({}));
    let mut seen = Observed { net: Net::Detached, disk: Disk::Ready, ..Observed::default() };
    let until = TIME.elapsed + Duration::from_secs(3);
    let failure = Failure { until, count: 1, reason: String::new(), message: "no".into() };
    seen.failures.insert(Target::Sandbox, failure);
    let plan = check(&pod, &seen, &[]);
    assert_eq!(plan.wake, Some(until));
}

#[test]
fn a_wait_for_a_time_of_day_looks_at_the_clock_meanwhile() {
    let main = container("main", 0, 300, exited(1, 0));
    let pod = pod(json!({"activeDeadlineSeconds": 10}));
    let mut seen = observed(&pod, vec![main]);
    assert_eq!(check(&pod, &seen, &[]).wake, Some(TIME.elapsed + LOOK_AT_CLOCK), "of 300 s");
    seen.remembered.start_time = Some(Time(NOW));
    assert_eq!(check(&pod, &seen, &[]).wake, Some(TIME.elapsed + Duration::from_secs(10)));
}

#[test]
fn containers_are_kept_as_their_policy_wants() {
    for (policy, state, backoff, expected) in [
        ("Always", running(), 0, vec![]),
        ("Always", ContainerState::Created, 10, vec![start("main", 0, 10)]),
        ("Always", exited(0, 0), 0, vec![start("main", 1, 10)]),
        ("Always", exited(1, 9), 10, vec![]),
        ("Always", exited(1, 10), 10, vec![start("main", 1, 20)]),
        ("Always", exited(1, 999), 300, vec![start("main", 1, 300)]),
        ("OnFailure", exited(1, 0), 0, vec![start("main", 1, 10)]),
    ] {
        let pod = pod(json!({"restartPolicy": policy}));
        check(&pod, &observed(&pod, vec![container("main", 0, backoff, state)]), &expected);
    }
}

#[test]
fn one_that_ran_for_ten_minutes_starts_at_once() {
    let pod = pod(json!({}));
    let mut ended = exited(1, 0);
    if let ContainerState::Exited { started_at, .. } = &mut ended {
        *started_at = Some(NOW - SignedDuration::from_mins(10));
    }
    check(&pod, &observed(&pod, vec![container("main", 4, 300, ended)]), &[start("main", 5, 10)]);
}

#[test]
fn restarts_are_counted_on_over_a_lost_sandbox() {
    let mut pod = pod(json!({}));
    pod.status = serde_json::from_value(json!({"containerStatuses": [
        {"name": "main", "restartCount": 4, "containerID": "x://1", "state": {"running": {}}}
    ]}))
    .unwrap();
    let mut seen = observed(&pod, vec![]);
    seen.remembered = pod.status.clone();
    check(&pod, &seen, &[start("main", 5, 10)]);
}

#[test]
fn what_ended_well_is_not_run_again_in_a_new_sandbox() {
    let mut pod = pod(json!({
        "restartPolicy": "OnFailure",
        "containers": [{"name": "done", "image": "web"}, {"name": "main", "image": "web"}],
    }));
    pod.status = serde_json::from_value(json!({"containerStatuses": [
        {"name": "done", "containerID": "x://1", "state": {"terminated": {"exitCode": 0}}},
        {"name": "main", "containerID": "x://2", "state": {"running": {}}},
    ]}))
    .unwrap();
    let mut seen = observed(&pod, vec![]);
    seen.remembered = pod.status.clone();
    check(&pod, &seen, &[start("main", 1, 10)]);
}

#[test]
fn old_attempts_are_forgotten_but_the_last() {
    let pod = pod(json!({}));
    let attempts = vec![
        container("main", 1, 10, exited(1, 90)),
        container("main", 2, 20, exited(1, 60)),
        container("main", 3, 40, running()),
    ];
    let forgotten = ContainerRef { pod_uid: "u".into(), name: "main".into(), attempt: 1 };
    check(&pod, &observed(&pod, attempts), &[Step::Forget { container: forgotten }]);
}

#[test]
fn init_containers_come_first_one_by_one() {
    let pod = pod(json!({
        "initContainers": [
            {"name": "one", "image": "web"},
            {"name": "side", "image": "web", "restartPolicy": "Always"},
            {"name": "two", "image": "web"},
        ],
    }));
    let one = || container("one", 0, 0, exited(0, 1));
    let side = || container("side", 0, 0, running());
    let two = || container("two", 0, 0, exited(0, 1));
    check(&pod, &observed(&pod, vec![]), &[start("one", 0, 0)]);
    check(&pod, &observed(&pod, vec![container("one", 0, 0, running())]), &[]);
    check(&pod, &observed(&pod, vec![container("one", 0, 0, exited(2, 1))]), &[start("one", 1, 10)]);
    check(&pod, &observed(&pod, vec![one()]), &[start("side", 0, 0)]);
    let mut starting = observed(&pod, vec![one(), side()]);
    starting.health.get_mut("side").unwrap().started = false;
    check(&pod, &starting, &[]);
    check(&pod, &observed(&pod, vec![one(), side()]), &[start("two", 0, 0)]);
    check(&pod, &observed(&pod, vec![one(), side(), two()]), &[start("main", 0, 0)]);
    // A sidecar that crashed later holds nothing up.
    let crashed = container("side", 0, 0, exited(1, 0));
    let seen = observed(&pod, vec![one(), crashed, two(), container("main", 0, 0, exited(1, 0))]);
    check(&pod, &seen, &[start("side", 1, 10), start("main", 1, 10)]);
}

#[test]
fn a_failed_init_container_ends_a_pod_that_is_not_restarted() {
    let pod = pod(json!({"restartPolicy": "Never", "initContainers": [{"name": "one", "image": "web"}]}));
    let mut seen = observed(&pod, vec![container("one", 0, 0, exited(1, 0))]);
    assert_eq!(ending(&pod, &seen, NOW), Some(Ending::Finished));
    seen.reported = true;
    check(&pod, &seen, &[Step::RemoveSandbox]);
}

#[test]
fn a_failed_probe_stops_its_container() {
    let pod = pod(json!({"containers": [
        {"name": "main", "image": "web", "livenessProbe": {"terminationGracePeriodSeconds": 3}},
    ]}));
    let mut seen = observed(&pod, vec![container("main", 0, 0, running())]);
    seen.health.get_mut("main").unwrap().failed = Some("liveness");
    check(&pod, &seen, &[stop("main", 3, Why::Probe("liveness"))]);
    // What a probe said of an earlier attempt is no matter.
    seen.health.get_mut("main").unwrap().attempt = 7;
    check(&pod, &seen, &[]);
}

#[test]
fn a_deleted_pod_is_taken_down_from_the_top() {
    let mut pod = pod(json!({"initContainers": [
        {"name": "a", "image": "web", "restartPolicy": "Always"},
        {"name": "b", "image": "web", "restartPolicy": "Always"},
    ]}));
    pod.metadata.deletion_timestamp = Some(Time(NOW + SignedDuration::from_secs(20)));
    pod.metadata.deletion_grace_period_seconds = Some(30);
    let all = |main: ContainerState, b: ContainerState, a: ContainerState| {
        let containers = vec![container("main", 0, 0, main), container("b", 0, 0, b), container("a", 0, 0, a)];
        observed(&pod, containers)
    };
    check(&pod, &all(running(), running(), running()), &[stop("main", 20, Why::PodEnds)]);
    check(&pod, &all(exited(0, 1), running(), running()), &[stop("b", 20, Why::PodEnds)]);
    check(&pod, &all(exited(0, 1), exited(0, 1), running()), &[stop("a", 20, Why::PodEnds)]);
    let mut seen = all(exited(0, 1), exited(0, 1), exited(0, 1));
    check(&pod, &seen, &[]);
    seen.reported = true;
    check(&pod, &seen, &[Step::RemoveSandbox]);
    seen.sandbox = None;
    check(&pod, &seen, &[Step::Detach]);
    seen.net = Net::Detached;
    check(&pod, &seen, &[Step::RemoveVolumes { logs: true }]);
    seen.disk = Disk::Removed;
    assert!(!check(&pod, &seen, &[Step::DeleteObject]).finished);
    seen.deleted = true;
    assert!(check(&pod, &seen, &[]).finished);
}

#[test]
fn a_pod_that_is_gone_leaves_nothing_behind() {
    let pod = pod(json!({"terminationGracePeriodSeconds": 7}));
    let mut seen = observed(&pod, vec![container("main", 0, 0, running())]);
    (seen.gone, seen.reported) = (true, true);
    check(&pod, &seen, &[stop("main", 7, Why::PodEnds)]);
    seen.sandbox = Some(sandbox(&pod, vec![]));
    check(&pod, &seen, &[Step::RemoveSandbox]);
    (seen.sandbox, seen.net, seen.disk) = (None, Net::Detached, Disk::Removed);
    assert!(check(&pod, &seen, &[]).finished);
}

#[test]
fn a_refused_pod_is_only_reported() {
    let pod = pod(json!({}));
    let refusal = crate::pod::observed::Refusal { reason: "OutOfcpu".into(), message: "x".into() };
    let mut seen = Observed { net: Net::Detached, refusal: Some(refusal), ..Observed::default() };
    check(&pod, &seen, &[]);
    seen.reported = true;
    check(&pod, &seen, &[Step::RemoveVolumes { logs: false }]);
    seen.disk = Disk::Emptied;
    assert!(check(&pod, &seen, &[]).finished);
    // Its object went while its directory was being removed.
    seen.gone = true;
    check(&pod, &seen, &[Step::RemoveVolumes { logs: true }]);
}

#[test]
fn what_was_stopped_to_be_started_again_is_whatever_code_it_ended_with() {
    let policy = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    let main =
        json!({"name": "main", "image": "web", "resources": {"limits": {"memory": "1Gi"}}, "resizePolicy": policy});
    let pod = pod(json!({"restartPolicy": "OnFailure", "containers": [main]}));
    check(&pod, &observed(&pod, vec![container("main", 0, 0, running())]), &[stop("main", 30, Why::Resize)]);
    let mut seen = observed(&pod, vec![container("main", 0, 0, exited(0, 9))]);
    assert_eq!(ending(&pod, &seen, NOW), Some(Ending::Finished), "it had done its work");
    seen.stopped.insert("main".to_owned(), 0);
    check(&pod, &seen, &[start("main", 1, 10)]);
    // The next attempt's end is its own.
    seen = observed(&pod, vec![container("main", 0, 0, exited(0, 9)), container("main", 1, 0, exited(0, 9))]);
    seen.stopped.insert("main".to_owned(), 0);
    assert_eq!(ending(&pod, &seen, NOW), Some(Ending::Finished));
}

#[test]
fn a_debugging_container_runs_once_whatever_the_others_do() {
    let debugging = json!([{"name": "debug", "image": "web"}]);
    let mut pod = pod(json!({"initContainers": [{"name": "init", "image": "web"}], "ephemeralContainers": debugging}));
    check(&pod, &observed(&pod, vec![]), &[start("debug", 0, 0), start("init", 0, 0)]);
    let init = || container("init", 0, 0, running());
    check(&pod, &observed(&pod, vec![init(), container("debug", 0, 0, running())]), &[]);
    check(&pod, &observed(&pod, vec![init(), container("debug", 0, 0, exited(1, 99))]), &[]);
    // Neither does it hold the pod's end up, nor outlive it.
    pod.spec.restart_policy = pod::RestartPolicy::Never;
    let done = || vec![container("init", 0, 0, exited(0, 9)), container("main", 0, 0, exited(0, 9))];
    let mut seen = observed(&pod, [done(), vec![container("debug", 0, 0, running())]].concat());
    assert_eq!(ending(&pod, &seen, NOW), Some(Ending::Finished));
    check(&pod, &seen, &[stop("debug", 30, Why::PodEnds)]);
    // One that was lost with its sandbox is not made again.
    seen = observed(&pod, vec![init()]);
    seen.remembered.ephemeral_container_statuses =
        serde_json::from_value(json!([{"name": "debug", "containerID": "x://1", "state": {"running": {}}}])).unwrap();
    check(&pod, &seen, &[]);
}

/// A node whose every operation works, as steps change it.
struct Model {
    pod: Pod,
    seen: Observed,
    stored: longshore_core::api::pod::PodStatus,
    gone: bool,
}

impl Model {
    /// Carries a step out; containers end well as soon as they are started.
    fn apply(&mut self, step: &Step) {
        let seen = &mut self.seen;
        match step {
            Step::PrepareVolumes => seen.disk = Disk::Ready,
            Step::RemoveVolumes { logs } => seen.disk = if *logs { Disk::Removed } else { Disk::Emptied },
            Step::CreateSandbox => {
                assert!(seen.sandbox.is_none());
                seen.sandbox = Some(sandbox(&self.pod, vec![]));
            }
            Step::RemoveSandbox => seen.sandbox = None,
            Step::Attach => seen.net = Net::Attached(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]),
            Step::Detach => seen.net = Net::Detached,
            Step::Start { name, attempt, backoff } => {
                let sandbox = seen.sandbox.as_mut().expect("a container is started in a sandbox");
                sandbox.containers.push(container(name, *attempt, *backoff, exited(0, 0)));
            }
            Step::Stop { .. } | Step::Forget { .. } | Step::Resize { .. } => {}
            Step::DeleteObject => (seen.deleted, self.gone) = (true, true),
        }
    }

    /// A new agent: what was only in the old one's memory is lost.
    fn restart(&mut self) {
        let sandbox = self.seen.sandbox.take();
        self.seen = Observed { sandbox, remembered: self.stored.clone(), ..Observed::default() };
    }

    fn look(&mut self) -> Plan {
        let facts = Facts { scheme: "x".into(), host_ips: vec!["1.2.3.4".into()] };
        self.pod.status = self.stored.clone();
        let status = status(&self.pod, &self.seen, &facts, NOW);
        self.seen.remembered = status.clone();
        self.seen.reported = self.stored == status;
        let plan = plan(&self.pod, &self.seen, TIME);
        if !self.seen.reported {
            self.stored = status;
        }
        plan
    }
}

#[test]
fn an_agent_may_die_between_any_two_steps() {
    let spec = json!({"restartPolicy": "Never", "initContainers": [{"name": "init", "image": "web"}]});
    for deaths in 0..0x1000_u32 {
        let pod = pod(spec.clone());
        let mut model = Model { pod, seen: Observed::default(), stored: Default::default(), gone: false };
        let mut deleted = false;
        for turn in 0.. {
            assert!(turn < 80, "deaths {deaths:b}: it never ends");
            let plan = model.look();
            for step in &plan.steps {
                model.apply(step);
            }
            if plan.finished && !deleted {
                assert_eq!(model.stored.phase.as_str(), "Succeeded", "deaths {deaths:b}");
                assert!(model.stored.container_statuses.iter().all(|found| found.restart_count == 0));
                model.pod.metadata.deletion_timestamp = Some(Time(NOW));
                deleted = true;
            }
            if model.gone {
                assert!(model.seen.sandbox.is_none() && model.seen.net == Net::Detached);
                break;
            }
            if deaths >> turn & 1 == 1 {
                model.restart();
            }
        }
    }
}
