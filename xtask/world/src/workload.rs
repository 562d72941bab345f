//! What clients do while things go wrong. What each does next follows from the seed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use longshore_core::api::ConfigMap;
use longshore_core::client::params::{
    DeleteParams, GetParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy,
};
use longshore_core::client::{Client, Deleted, Error, Target};
use longshore_core::clock::Clock;
use longshore_core::kind::{DynObject, KindType};
use longshore_faults::history::{Call, Kind, Outcome};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::log::{Log, kind_type, revision};

/// Keys that are used as registers.
const REGISTERS: usize = 2;

/// Most pods that belong to nobody.
const PODS_MAX: usize = 2;

/// Between tries of a request that was not answered.
const BACK_OFF: Duration = Duration::from_millis(200);

/// Replicas in the end.
const REPLICAS: i64 = 2;

/// Completions of a Job.
pub(crate) const COMPLETIONS: i64 = 3;

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// Reads, creates, changes and deletes single keys.
    Registers,
    /// Scales and rolls out a Deployment.
    Deployment,
    /// Scales and rolls out a StatefulSet, and deletes its pods.
    StatefulSet,
    /// Creates and deletes pods.
    Pods,
    /// Has work done.
    Jobs,
}

impl Task {
    /// Some of them: two clients of registers, and one other or two.
    pub(crate) fn some(rng: &mut Pcg64) -> Vec<Self> {
        let mut others = [Self::Deployment, Self::StatefulSet, Self::Pods, Self::Jobs];
        others.shuffle(rng);
        let registers = [Self::Registers; 2];
        // The less there is in a world, the more worlds there can be.
        let count = if rng.random_ratio(1, 4) { 2 } else { 1 };
        registers.into_iter().chain(others.into_iter().take(count)).collect()
    }
}

/// A client.
#[derive(Debug)]
pub(crate) struct Worker {
    client: Arc<dyn Client>,
    clock: Arc<dyn Clock>,
    log: Arc<Log>,
    stop: watch::Receiver<bool>,
    number: u64,
    rng: Pcg64,
}

/// What came of a request.
enum Answer {
    Is(DynObject),
    Gone(Option<DynObject>),
    /// It was not as was thought.
    Refused,
    Unknown,
}

impl Worker {
    /// The client of this number.
    pub(crate) fn new(
        client: Arc<dyn Client>,
        clock: Arc<dyn Clock>,
        log: Arc<Log>,
        stop: watch::Receiver<bool>,
        (number, seed): (u64, u64),
    ) -> Self {
        Self { client, clock, log, stop, number, rng: Pcg64::seed_from_u64(seed) }
    }

    /// Works until told to stop; then what was begun is finished.
    pub(crate) async fn run(self, task: Task) {
        match task {
            Task::Registers => self.registers().await,
            Task::Deployment => self.deployment().await,
            Task::StatefulSet => self.stateful_set().await,
            Task::Pods => self.pods().await,
            Task::Jobs => self.jobs().await,
        }
    }

    /// Waits a while; false when it is time to stop.
    async fn goes_on(&mut self, least: u64, most: u64) -> bool {
        let pause = Duration::from_millis(self.rng.random_range(least..most));
        tokio::select! {
            biased;
            _ = self.stop.wait_for(|stop| *stop) => false,
            () = self.clock.sleep(pause) => true,
        }
    }

    /// Looks at an answer; `fine` are refusals that are answers like others.
    fn answer(&self, what: &str, result: Result<Answer, Error>, fine: &[u16]) -> Answer {
        match result {
            Ok(answer) => answer,
            Err(Error::Api(status)) if status.code < 500 && status.code != 429 => {
                tracing::debug!(at = ?self.clock.elapsed(), client = self.number, what, status.message, "refused");
                if !fine.contains(&status.code) {
                    self.log.unexpected(format!("{what}: {} {}", status.code, status.message));
                }
                Answer::Refused
            }
            Err(_) => Answer::Unknown,
        }
    }

    async fn registers(mut self) {
        let mut known: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
        let mut next = 0_u64;
        while self.goes_on(200, 1_500).await {
            let register = self.rng.random_range(0..REGISTERS);
            let key = format!("r{register}");
            next += 1;
            let unique = (self.number + 1) * 1_000_000 + next;
            let choice = self.rng.random_range(0..100);
            let called = self.log.moment();
            let (answer, call): (Answer, Box<dyn Fn(Outcome) -> Call + Send>) = match known.get(&register).copied() {
                Some((at, value)) if choice >= 85 => {
                    let preconditions =
                        Preconditions { resource_version: Some(at.to_string()), ..Preconditions::default() };
                    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
                    (
                        self.delete_once(Kind::ConfigMap, &key, &params).await,
                        Box::new(move |end| Call::Delete(value, end)),
                    )
                }
                Some((at, value)) if choice >= 30 => {
                    let object = register_object(&key, unique, Some(at));
                    let answer = self.client.update(object, None, &PostParams::default()).await;
                    let answer = self.answer("update", answer.map(Answer::Is), &[404, 409]);
                    (answer, Box::new(move |end| Call::Swap(value, unique, end)))
                }
                None if choice >= 60 => {
                    let object = register_object(&key, unique, None);
                    let answer = self.client.create(object, &PostParams::default()).await;
                    let answer = self.answer("create", answer.map(Answer::Is), &[409]);
                    (answer, Box::new(move |end| Call::Create(unique, end)))
                }
                _ => {
                    self.read(&key, called, known.entry(register)).await;
                    continue;
                }
            };
            match answer {
                Answer::Is(object) => {
                    self.log.called(&key, called, call(Outcome::Done));
                    self.log.has(&key, revision(&object), unique);
                    self.log.acknowledged(Kind::ConfigMap, &object, false);
                    known.insert(register, (revision(&object), unique));
                }
                Answer::Gone(object) => {
                    self.log.called(&key, called, call(Outcome::Done));
                    if let Some(object) = object {
                        self.log.acknowledged(Kind::ConfigMap, &object, true);
                    }
                    known.remove(&register);
                }
                Answer::Refused => {
                    self.log.called(&key, called, call(Outcome::Refused));
                    // What is there now, the next reads.
                    known.remove(&register);
                }
                Answer::Unknown => self.log.called(&key, called, call(Outcome::Unknown)),
            }
        }
    }

    async fn read(
        &self,
        key: &str,
        called: Duration,
        known: std::collections::btree_map::Entry<'_, usize, (u64, u64)>,
    ) {
        let target = Target { kind: KindType::of::<ConfigMap>(), namespace: "default", name: key };
        let answer = self.client.get(target, &GetParams::default()).await.map(Answer::Is);
        match self.answer("get", answer, &[404]) {
            Answer::Is(object) => {
                let map = object.as_any().downcast_ref::<ConfigMap>();
                let Some(value) = map.and_then(|map| map.data.get("value")?.parse().ok()) else {
                    return self.log.unexpected(format!("read of {key}: {object:?}"));
                };
                self.log.called(key, called, Call::Read(Some(value)));
                self.log.has(key, revision(&object), value);
                known.insert_entry((revision(&object), value));
            }
            Answer::Refused => {
                self.log.called(key, called, Call::Read(None));
                if let std::collections::btree_map::Entry::Occupied(known) = known {
                    known.remove();
                }
            }
            Answer::Gone(_) | Answer::Unknown => {}
        }
    }

    async fn delete_once(&self, kind: Kind, name: &str, params: &DeleteParams) -> Answer {
        let target = Target { kind: kind_type(kind), namespace: "default", name };
        let deleted = self.client.delete(target, params).await.map(|deleted| match deleted {
            Deleted::Gone(object) => Answer::Gone(Some(object)),
            Deleted::Pending(object) => Answer::Is(object),
        });
        self.answer("delete", deleted, &[404, 409])
    }

    /// Creates an object; one that was tried before may be there.
    async fn create(&self, kind: Kind, object: &Value) {
        loop {
            let Ok(new) = (kind_type(kind).from_value)(object.clone()) else {
                return self.log.unexpected(format!("{object} is no {kind}"));
            };
            let answer = self.client.create(new, &PostParams::default()).await.map(Answer::Is);
            match self.answer("create", answer, &[409]) {
                Answer::Is(object) => return self.log.acknowledged(kind, &object, false),
                Answer::Gone(_) | Answer::Refused => return,
                Answer::Unknown => self.clock.sleep(BACK_OFF).await,
            }
        }
    }

    /// Changes an object, which may be on its way out.
    async fn patch(&self, kind: Kind, name: &str, patch: Value) {
        let target = Target { kind: kind_type(kind), namespace: "default", name };
        let patch = Patch::Merge(patch);
        loop {
            let answer = self.client.patch(target, None, &patch, &PatchParams::default()).await.map(Answer::Is);
            match self.answer("patch", answer, &[404]) {
                Answer::Is(object) => return self.log.acknowledged(kind, &object, false),
                Answer::Gone(_) | Answer::Refused => return,
                Answer::Unknown => self.clock.sleep(BACK_OFF).await,
            }
        }
    }

    async fn delete(&self, kind: Kind, name: &str, params: &DeleteParams) {
        loop {
            match self.delete_once(kind, name, params).await {
                Answer::Is(object) | Answer::Gone(Some(object)) => return self.log.acknowledged(kind, &object, true),
                Answer::Gone(None) | Answer::Refused => return,
                Answer::Unknown => self.clock.sleep(BACK_OFF).await,
            }
        }
    }

    async fn deployment(mut self) {
        let (kind, name) = (Kind::Deployment, "web");
        let mut object = workload("Deployment", name, "web:0");
        object["spec"]["strategy"] =
            json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 1 } });
        self.create(kind, &object).await;
        while self.goes_on(1_500, 7_000).await {
            match self.rng.random_range(0..10) {
                0..4 => {
                    let replicas: i64 = self.rng.random_range(1..4);
                    self.patch(kind, name, json!({ "spec": { "replicas": replicas } })).await;
                }
                4..9 => {
                    let image = format!("web:{}", self.rng.random_range(0..100));
                    self.patch(kind, name, template(&image)).await;
                }
                _ => {
                    self.delete(kind, name, &background()).await;
                    self.create(kind, &object).await;
                }
            }
        }
        self.create(kind, &object).await;
        self.patch(kind, name, json!({ "spec": { "replicas": REPLICAS } })).await;
    }

    async fn stateful_set(mut self) {
        let (kind, name) = (Kind::StatefulSet, "db");
        let mut object = workload("StatefulSet", name, "db:0");
        object["spec"]["serviceName"] = name.into();
        self.create(kind, &object).await;
        while self.goes_on(1_500, 7_000).await {
            match self.rng.random_range(0..10) {
                0..3 => {
                    let replicas: i64 = self.rng.random_range(1..4);
                    self.patch(kind, name, json!({ "spec": { "replicas": replicas } })).await;
                }
                3..6 => {
                    let image = format!("db:{}", self.rng.random_range(0..100));
                    self.patch(kind, name, template(&image)).await;
                }
                _ => {
                    let pod = format!("{name}-{}", self.rng.random_range(0..3));
                    self.delete(Kind::Pod, &pod, &DeleteParams::default()).await;
                }
            }
        }
        self.patch(kind, name, json!({ "spec": { "replicas": REPLICAS } })).await;
    }

    async fn pods(mut self) {
        let mut there = VecDeque::new();
        let mut next = 0;
        while self.goes_on(800, 5_000).await {
            if there.len() < PODS_MAX {
                let name = format!("p{next}");
                next += 1;
                let mut pod =
                    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": "default" } });
                pod["spec"] = pod_spec("300m", "one:1");
                self.create(Kind::Pod, &pod).await;
                there.push_back(name);
            } else if let Some(name) = there.pop_front() {
                self.delete(Kind::Pod, &name, &DeleteParams::default()).await;
            }
        }
        for name in there {
            self.delete(Kind::Pod, &name, &DeleteParams::default()).await;
        }
    }

    async fn jobs(mut self) {
        let mut next = 0;
        while self.goes_on(500, 4_000).await {
            let name = format!("j{next}");
            let job = job(&name, self.rng.random_range(1..6));
            self.create(Kind::Job, &job).await;
            if !self.goes_on(8_000, 20_000).await {
                break;
            }
            next += 1;
            self.delete(Kind::Job, &name, &background()).await;
        }
    }
}

fn background() -> DeleteParams {
    DeleteParams { propagation_policy: Some(PropagationPolicy::Background), ..DeleteParams::default() }
}

fn register_object(key: &str, value: u64, at: Option<u64>) -> Box<dyn longshore_core::kind::AnyObject> {
    let mut map = ConfigMap::default();
    (map.metadata.name, map.metadata.namespace) = (Some(key.to_owned()), Some("default".to_owned()));
    map.metadata.resource_version = at.map(|at| at.to_string());
    map.data.insert("value".to_owned(), value.to_string());
    Box::new(map)
}

fn pod_spec(cpu: &str, image: &str) -> Value {
    let container = json!({ "name": "c", "image": image, "resources": { "requests": { "cpu": cpu } } });
    let tolerate =
        |key: &str| json!({ "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 3 });
    json!({
        "containers": [container], "terminationGracePeriodSeconds": 1,
        "tolerations": [tolerate("node.kubernetes.io/not-ready"), tolerate("node.kubernetes.io/unreachable")],
    })
}

fn template(image: &str) -> Value {
    json!({ "spec": { "template": { "spec": pod_spec("200m", image) } } })
}

fn workload(kind: &str, name: &str, image: &str) -> Value {
    let labels = json!({ "app": name });
    let template = json!({ "metadata": { "labels": labels }, "spec": pod_spec("200m", image) });
    json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": { "name": name, "namespace": "default" },
        "spec": { "replicas": REPLICAS, "selector": { "matchLabels": labels }, "template": template },
    })
}

fn job(name: &str, seconds: u64) -> Value {
    let mut spec = pod_spec("100m", "work:1");
    spec["restartPolicy"] = "Never".into();
    let annotations = json!({ "simulated.longshore.dev/run-for": format!("{seconds}s") });
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": name, "namespace": "default" },
        "spec": {
            "completions": COMPLETIONS, "parallelism": 2, "backoffLimit": 100,
            "template": { "metadata": { "annotations": annotations }, "spec": spec },
        },
    })
}
