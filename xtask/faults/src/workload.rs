//! What clients do while things go wrong. What each does next follows from the seed; only what comes of it does not.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use kube::Client;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::access::{Ask, Failure, Retrying};
use crate::check::acknowledged::value;
use crate::history::{Call, Kind, Outcome, revision};
use crate::recorder::Recorder;

/// Keys that are used as registers.
const REGISTERS: usize = 4;

/// Clients of registers.
const REGISTER_CLIENTS: usize = 3;

/// Deployments.
const DEPLOYMENTS: [&str; 2] = ["d0", "d1"];

/// The one StatefulSet.
const STATEFUL_SET: &str = "web";

/// Most pods that belong to nobody.
const PODS_MAX: usize = 5;

/// Replicas of everything in the end.
pub const REPLICAS_IN_THE_END: u64 = 3;

/// All clients until `stop` is true; then what was begun is finished.
pub async fn run(servers: &[Client], recorder: Rc<Recorder>, seed: u64, stop: watch::Receiver<bool>) {
    let client = |number: usize| {
        let rng = Pcg64::seed_from_u64(seed.wrapping_mul(97).wrapping_add(number as u64));
        Worker {
            access: Retrying::new(servers, number),
            number,
            rng,
            recorder: Rc::clone(&recorder),
            stop: stop.clone(),
        }
    };
    let registers = futures::future::join_all((0..REGISTER_CLIENTS).map(|number| client(number).registers()));
    let [first, second] = [0, 1].map(|index| client(REGISTER_CLIENTS + index).deployment(DEPLOYMENTS[index]));
    let (sets, pods) = (client(REGISTER_CLIENTS + 2).stateful_set(), client(REGISTER_CLIENTS + 3).pods());
    tokio::join!(registers, first, second, sets, pods);
}

struct Worker<'a> {
    access: Retrying<'a>,
    number: usize,
    rng: Pcg64,
    recorder: Rc<Recorder>,
    stop: watch::Receiver<bool>,
}

impl Worker<'_> {
    /// Waits a while; false when it is time to stop.
    async fn goes_on(&mut self, least: u64, most: u64) -> bool {
        let pause = Duration::from_millis(self.rng.random_range(least..most));
        let stopped = async { self.stop.wait_for(|stop| *stop).await.map(|_| ()) };
        tokio::time::timeout(pause, stopped).await.is_err()
    }

    /// Reads, creates, changes and deletes single keys, each by what was read before.
    async fn registers(mut self) {
        let mut known: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
        let mut next = 0_u64;
        while self.goes_on(20, 250).await {
            let register = self.rng.random_range(0..REGISTERS);
            let key = format!("r{register}");
            let choice = self.rng.random_range(0..100);
            let from = self.recorder.now();
            let mut tries = 0;
            loop {
                next += 1;
                tries += 1;
                let unique = (self.number as u64 + 1) * 1_000_000 + next;
                let seen = known.get(&register).copied();
                let (what, answered) = match seen {
                    _ if choice < 30 => ("read", self.read(&key).await),
                    Some((revision, value)) if choice < 85 => {
                        ("update", self.swap(&key, revision, value, unique).await)
                    }
                    Some((revision, value)) => ("delete", self.delete(&key, revision, value).await),
                    None if choice < 60 => ("read", self.read(&key).await),
                    None => ("create", self.create(&key, unique).await),
                };
                match answered {
                    Answer::Has(revision, value) => drop(known.insert(register, (revision, value))),
                    Answer::HasNothing => drop(known.remove(&register)),
                    Answer::Refused => {
                        // What is there now, the next reads.
                        if choice % 2 == 0 {
                            known.remove(&register);
                        }
                    }
                    Answer::None => continue,
                }
                self.recorder.answered(what, from, tries);
                break;
            }
        }
    }

    async fn read(&mut self, key: &str) -> Answer {
        let called = self.recorder.now();
        match self.access.once(&Ask::get(register_path(key))).await {
            Ok(object) => {
                let Some(value) = value(&object) else {
                    self.recorder.unexpected(format!("read of {key}: {object}"));
                    return Answer::HasNothing;
                };
                self.recorder.called(key, called, Call::Read(Some(value)));
                self.recorder.has(key, revision(&object), value);
                Answer::Has(revision(&object), value)
            }
            Err(Failure::Refused(404, _)) => {
                self.recorder.called(key, called, Call::Read(None));
                Answer::HasNothing
            }
            // It has changed nothing: there is nothing to remember.
            Err(failure) => self.not_answered("read", failure),
        }
    }

    async fn create(&mut self, key: &str, value: u64) -> Answer {
        let body = register(key, value);
        let ask = Ask::post(Kind::ConfigMap.path(), body);
        self.write(key, &ask, value, |outcome| Call::Create(value, outcome)).await
    }

    async fn swap(&mut self, key: &str, revision: u64, expected: u64, value: u64) -> Answer {
        let mut body = register(key, value);
        body["metadata"]["resourceVersion"] = revision.to_string().into();
        let ask = Ask::put(register_path(key), body);
        self.write(key, &ask, value, |outcome| Call::Swap(expected, value, outcome)).await
    }

    async fn write(&mut self, key: &str, ask: &Ask, value: u64, call: impl Fn(Outcome) -> Call) -> Answer {
        let called = self.recorder.now();
        match self.access.once(ask).await {
            Ok(object) => {
                let at = revision(&object);
                self.recorder.called(key, called, call(Outcome::Done));
                self.recorder.has(key, at, value);
                self.recorder.acknowledged(Kind::ConfigMap, key, object, false);
                Answer::Has(at, value)
            }
            Err(Failure::Refused(404 | 409, _)) => {
                self.recorder.called(key, called, call(Outcome::Refused));
                Answer::Refused
            }
            Err(failure) => {
                self.recorder.called(key, called, call(Outcome::Unknown));
                self.not_answered("write", failure)
            }
        }
    }

    async fn delete(&mut self, key: &str, revision: u64, expected: u64) -> Answer {
        let called = self.recorder.now();
        let ask =
            Ask::delete(register_path(key), json!({ "preconditions": { "resourceVersion": revision.to_string() } }));
        match self.access.once(&ask).await {
            Ok(status) => {
                self.recorder.called(key, called, Call::Delete(expected, Outcome::Done));
                self.recorder.acknowledged(Kind::ConfigMap, key, deleted(status), true);
                Answer::HasNothing
            }
            Err(Failure::Refused(404 | 409, _)) => {
                self.recorder.called(key, called, Call::Delete(expected, Outcome::Refused));
                Answer::Refused
            }
            Err(failure) => {
                self.recorder.called(key, called, Call::Delete(expected, Outcome::Unknown));
                self.not_answered("delete", failure)
            }
        }
    }

    fn not_answered(&self, what: &str, failure: Failure) -> Answer {
        if let Failure::Refused(code, message) = failure {
            self.recorder.unexpected(format!("{what}: {code} {message}"));
            return Answer::Refused;
        }
        Answer::None
    }

    /// Asks until answered, and records an acknowledged write. `fine` are codes that are answers like others.
    async fn ask(&mut self, what: &'static str, ask: &Ask, kind: Kind, name: &str, fine: &[u16]) -> bool {
        let from = self.recorder.now();
        let (answer, tries) = self.access.until_answered(ask).await;
        self.recorder.answered(what, from, tries);
        match answer {
            Ok(object) => {
                let deletion = what == "delete";
                let object = if deletion { deleted(object) } else { object };
                self.recorder.acknowledged(kind, name, object, deletion);
                true
            }
            Err(Failure::Refused(code, _)) if fine.contains(&code) => false,
            Err(failure) => {
                self.recorder.unexpected(format!("{what} {kind} {name}: {failure:?}"));
                false
            }
        }
    }

    async fn create_object(&mut self, kind: Kind, object: Value) {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        // One that was tried before may be there.
        self.ask("create", &Ask::post(kind.path(), object), kind, &name, &[409]).await;
    }

    async fn patch(&mut self, kind: Kind, name: &str, patch: Value) {
        let what = if patch["spec"]["replicas"].is_u64() { "scale" } else { "update" };
        // It may be on its way out.
        self.ask(what, &Ask::patch(format!("{}/{name}", kind.path()), patch), kind, name, &[404]).await;
    }

    async fn delete_object(&mut self, kind: Kind, name: &str, options: Value) {
        self.ask("delete", &Ask::delete(format!("{}/{name}", kind.path()), options), kind, name, &[404, 409]).await;
    }

    /// Scales, rolls out, and now and then deletes a Deployment.
    async fn deployment(mut self, name: &str) {
        let kind = Kind::Deployment;
        self.create_object(kind, deployment(name)).await;
        while self.goes_on(800, 4_000).await {
            match self.rng.random_range(0..10) {
                0..4 => {
                    let replicas: u64 = self.rng.random_range(1..6);
                    self.patch(kind, name, json!({ "spec": { "replicas": replicas } })).await;
                }
                4..9 => {
                    let image = format!("web:{}", self.rng.random_range(0..100));
                    self.patch(kind, name, template(&image)).await;
                }
                _ => {
                    self.delete_object(kind, name, json!({ "propagationPolicy": "Background" })).await;
                    self.create_object(kind, deployment(name)).await;
                }
            }
        }
        self.create_object(kind, deployment(name)).await;
        self.patch(kind, name, json!({ "spec": { "replicas": REPLICAS_IN_THE_END } })).await;
    }

    /// Scales and rolls out the StatefulSet, and deletes pods of it.
    async fn stateful_set(mut self) {
        let kind = Kind::StatefulSet;
        self.create_object(kind, stateful_set()).await;
        while self.goes_on(800, 4_000).await {
            match self.rng.random_range(0..10) {
                0..3 => {
                    let replicas: u64 = self.rng.random_range(1..5);
                    self.patch(kind, STATEFUL_SET, json!({ "spec": { "replicas": replicas } })).await;
                }
                3..6 => {
                    let image = format!("db:{}", self.rng.random_range(0..100));
                    self.patch(kind, STATEFUL_SET, template(&image)).await;
                }
                _ => {
                    let pod = format!("{STATEFUL_SET}-{}", self.rng.random_range(0..4));
                    self.delete_object(Kind::Pod, &pod, json!({})).await;
                }
            }
        }
        self.patch(kind, STATEFUL_SET, json!({ "spec": { "replicas": REPLICAS_IN_THE_END } })).await;
    }

    /// Creates and deletes pods, of which some find no room.
    async fn pods(mut self) {
        let mut there = std::collections::VecDeque::new();
        let mut next = 0;
        while self.goes_on(200, 1_200).await {
            if there.len() < PODS_MAX {
                let name = format!("p{next}");
                next += 1;
                self.create_object(Kind::Pod, bare_pod(&name)).await;
                there.push_back(name);
            } else if let Some(name) = there.pop_front() {
                self.delete_object(Kind::Pod, &name, json!({})).await;
            }
        }
        for name in there {
            self.delete_object(Kind::Pod, &name, json!({})).await;
        }
    }
}

/// What came of a request about a register.
enum Answer {
    /// It has this revision and value.
    Has(u64, u64),
    /// It is not there.
    HasNothing,
    /// It is not as was thought.
    Refused,
    /// None came.
    None,
}

fn register_path(key: &str) -> String {
    format!("{}/{key}", Kind::ConfigMap.path())
}

fn register(key: &str, value: u64) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": key }, "data": { "value": value.to_string() } })
}

/// The object that an answer to a deletion is about: itself, or named by a status.
fn deleted(answer: Value) -> Value {
    if answer["kind"] == "Status" { json!({ "metadata": { "uid": answer["details"]["uid"] } }) } else { answer }
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
        "apiVersion": "apps/v1", "kind": kind, "metadata": { "name": name },
        "spec": { "replicas": REPLICAS_IN_THE_END, "selector": { "matchLabels": labels }, "template": template },
    })
}

fn deployment(name: &str) -> Value {
    let mut object = workload("Deployment", name, "web:0");
    object["spec"]["strategy"] =
        json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 1 } });
    object
}

fn stateful_set() -> Value {
    let mut object = workload("StatefulSet", STATEFUL_SET, "db:0");
    object["spec"]["serviceName"] = STATEFUL_SET.into();
    object
}

fn bare_pod(name: &str) -> Value {
    let mut object = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name } });
    object["spec"] = pod_spec("300m", "job:1");
    object
}
