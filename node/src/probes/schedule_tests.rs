use serde_json::json;

use super::*;
use crate::pod::observed::Health;
use crate::testing::pod as a_pod;

const START: Timestamp = Timestamp::constant(1_735_689_600, 0);

struct World {
    pod: Pod,
    observed: Observed,
    probes: Probes,
    elapsed: u64,
}

impl World {
    fn new(probes: serde_json::Value) -> Self {
        let mut container = json!({"name": "main", "image": "web"});
        for (key, value) in probes.as_object().unwrap() {
            container[key] = value.clone();
        }
        let mut world = Self {
            pod: a_pod("a", json!({"containers": [container]})),
            observed: Observed::default(),
            probes: Probes::default(),
            elapsed: 0,
        };
        world.run(0);
        world
    }

    /// Lets an attempt run.
    fn run(&mut self, attempt: u32) {
        let container = json!({
            "container": {"pod_uid": "u", "name": "main", "attempt": attempt}, "id": format!("main-{attempt}"),
            "state": {"Running": {"started_at": START.to_string(), "pid": 1}}, "created_at": START.to_string(),
            "image": "i", "image_name": "web", "labels": {}, "annotations": {}, "log_path": "/l",
        });
        let sandbox = json!({
            "pod": {"namespace": "ns", "name": "a", "uid": "u"}, "id": "u", "ready": true, "created_at": START.to_string(),
            "network_namespace": null, "labels": {}, "annotations": {}, "containers": [container],
        });
        self.observed.sandbox = Some(serde_json::from_value(sandbox).unwrap());
        self.follow();
    }

    fn follow(&mut self) {
        let elapsed = Duration::from_secs(self.elapsed);
        let time = Time { now: START + elapsed, elapsed };
        self.probes.follow(&self.pod, &self.observed, time);
    }

    /// Lets time pass to the next probe and answers what is due; says when it was and what.
    fn answer(&mut self, good: bool) -> (u64, Vec<Kind>) {
        let next = self.probes.next_due().expect("a probe is due").as_secs();
        self.elapsed = self.elapsed.max(next);
        let due = self.probes.due(&self.pod, Duration::from_secs(self.elapsed));
        for due in &due {
            self.probes.result(due, good, Duration::from_secs(self.elapsed), true);
        }
        (self.elapsed, due.into_iter().map(|due| due.key.1).collect())
    }

    fn health(&self) -> Health {
        self.probes.health()["main"].clone()
    }
}

#[test]
fn without_probes_a_container_is_well_when_it_runs() {
    let world = World::new(json!({}));
    assert_eq!(world.health(), Health { attempt: 0, started: true, ready: true, failed: None });
    assert_eq!(world.probes.next_due(), None);
}

#[test]
fn liveness_fails_after_failures_in_a_row() {
    let probe = json!({"periodSeconds": 10, "failureThreshold": 3, "successThreshold": 1, "initialDelaySeconds": 5});
    let mut world = World::new(json!({"livenessProbe": probe}));
    let times: Vec<u64> = [true, false, false, true, false, false].iter().map(|good| world.answer(*good).0).collect();
    assert_eq!(times, [5, 15, 25, 35, 45, 55]);
    assert_eq!(world.health().failed, None);
    world.answer(false);
    assert_eq!(world.health().failed, Some("liveness"));
    assert_eq!(world.probes.next_due(), None, "it is dead already");
    world.run(1);
    assert_eq!(world.health(), Health { attempt: 1, started: true, ready: true, failed: None });
}

#[test]
fn readiness_comes_and_goes_by_its_thresholds() {
    let probe = json!({"periodSeconds": 1, "failureThreshold": 2, "successThreshold": 2});
    let mut world = World::new(json!({"readinessProbe": probe}));
    let ready: Vec<bool> = [true, true, false, true, false, false, true]
        .iter()
        .map(|good| {
            world.answer(*good);
            world.health().ready
        })
        .collect();
    assert_eq!(ready, [false, true, true, true, true, false, false]);
}

#[test]
fn the_startup_probe_holds_the_others_back() {
    let every = |failures: i32| json!({"periodSeconds": 1, "failureThreshold": failures, "successThreshold": 1});
    let mut world =
        World::new(json!({"startupProbe": every(3), "livenessProbe": every(1), "readinessProbe": every(1)}));
    assert!(!world.health().started && !world.health().ready);
    assert_eq!(world.answer(false).1, [Kind::Startup]);
    assert_eq!(world.answer(true).1, [Kind::Startup]);
    assert!(world.health().started && !world.health().ready);
    assert_eq!(world.answer(true).1, [Kind::Liveness, Kind::Readiness]);
    assert!(world.health().ready);

    let mut world = World::new(json!({"startupProbe": every(2)}));
    world.answer(false);
    world.answer(false);
    assert_eq!(world.health().failed, Some("startup"));
}

#[test]
fn a_new_agent_believes_the_old_ones_findings() {
    let mut world = World::new(json!({"readinessProbe": {}, "startupProbe": {}}));
    assert!(!world.health().ready);
    world.probes = Probes::default();
    world.observed.remembered = serde_json::from_value(json!({"containerStatuses": [
        {"name": "main", "ready": true, "started": true, "containerID": "x://main-0"}
    ]}))
    .unwrap();
    world.follow();
    assert!(world.health().ready && world.health().started);
    // But not of another attempt.
    world.run(1);
    assert!(!world.health().ready);
}
