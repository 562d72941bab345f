//! The state of a simulated node, brought up to date when somebody looks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use longshore_core::clock::Clock;
use longshore_core::runtime::{Container, ContainerRef, Error, Event, ImageId, PodRef, Resources, Sandbox};
use tokio::sync::broadcast;

use crate::{Behaviour, Options, not_found};

/// Events that a slow listener may lag behind before it is told to list.
const EVENTS_MAX: usize = 32;

#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) options: Options,
    state: Mutex<State>,
    events: broadcast::Sender<Event>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    /// By uid of the pod.
    pub(crate) sandboxes: BTreeMap<String, SimulatedSandbox>,
}

#[derive(Debug)]
pub(crate) struct SimulatedSandbox {
    pub(crate) pod: PodRef,
    pub(crate) ready: bool,
    pub(crate) created_at: Timestamp,
    pub(crate) log_directory: PathBuf,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    /// By name and attempt.
    pub(crate) containers: BTreeMap<(String, u32), SimulatedContainer>,
}

#[derive(Debug)]
pub(crate) struct SimulatedContainer {
    pub(crate) behaviour: Behaviour,
    pub(crate) created_at: Timestamp,
    pub(crate) life: Life,
    pub(crate) resources: Resources,
    pub(crate) image: ImageId,
    pub(crate) image_name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
}

#[derive(Debug)]
pub(crate) enum Life {
    Created,
    Running {
        /// By the clock's `elapsed`.
        since: Duration,
        started_at: Timestamp,
        /// When it ends by itself, by the clock's `elapsed`.
        ends: Option<Duration>,
    },
    Exited(Exit),
}

#[derive(Debug)]
pub(crate) struct Exit {
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Timestamp,
    pub(crate) code: i32,
    pub(crate) signal: i32,
}

impl Life {
    pub(crate) fn ends(&self) -> Option<Duration> {
        match self {
            Life::Running { ends, .. } => *ends,
            _ => None,
        }
    }
}

impl Host {
    pub(crate) fn new(clock: Arc<dyn Clock>, options: Options) -> Self {
        Self { clock, options, state: Mutex::default(), events: broadcast::Sender::new(EVENTS_MAX) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    pub(crate) fn emit(&self, event: Event) {
        // Without listeners there is nobody to tell.
        let _ = self.events.send(event);
    }

    /// Ends the containers whose time has come, and says how long it is until the next one's.
    pub(crate) fn settle(&self) -> Option<Duration> {
        let now = self.clock.elapsed();
        let mut next = None;
        let mut ended = Vec::new();
        for (uid, sandbox) in &mut self.lock().sandboxes {
            for ((name, attempt), container) in &mut sandbox.containers {
                let Life::Running { since, started_at, ends: Some(ends) } = container.life else { continue };
                if ends > now {
                    let wait = ends - now;
                    next = Some(next.map_or(wait, |next: Duration| next.min(wait)));
                    continue;
                }
                container.life = Life::Exited(Exit {
                    started_at: Some(started_at),
                    finished_at: started_at.checked_add(ends - since).unwrap_or(Timestamp::MAX),
                    code: container.behaviour.exit_code,
                    signal: 0,
                });
                ended.push((ends, ContainerRef { pod_uid: uid.clone(), name: name.clone(), attempt: *attempt }));
            }
        }
        ended.sort();
        for (_, container) in ended {
            self.emit(Event::Container(container));
        }
        next
    }

    /// Waits; for ever without a duration.
    pub(crate) async fn sleep(&self, duration: Option<Duration>) {
        match duration {
            Some(duration) => self.clock.sleep(duration).await,
            None => std::future::pending().await,
        }
    }

    /// Looks at a container, up to date.
    pub(crate) fn with<T>(
        &self,
        name: &ContainerRef,
        f: impl FnOnce(&mut SimulatedContainer) -> T,
    ) -> Result<T, Error> {
        self.settle();
        let mut state = self.lock();
        let sandbox = state.sandboxes.get_mut(&name.pod_uid);
        let container = sandbox.and_then(|sandbox| sandbox.containers.get_mut(&(name.name.clone(), name.attempt)));
        container.map(f).ok_or_else(|| not_found(format_args!("container {name}")))
    }

    /// Since when a container runs, by the clock's `elapsed`.
    pub(crate) fn running(&self, operation: &str, name: &ContainerRef) -> Result<Duration, Error> {
        self.with(name, |found| match found.life {
            Life::Running { since, .. } => Ok(since),
            _ => Err(wrong_state(operation, name, &found.life)),
        })?
    }

    /// Ends a container that has not ended.
    pub(crate) fn end(&self, name: &ContainerRef, code: i32, signal: i32) {
        let finished_at = self.clock.now();
        let ended = self.with(name, |found| found.end(finished_at, code, signal));
        if ended == Ok(true) {
            self.emit(Event::Container(name.clone()));
        }
    }

    pub(crate) fn break_sandbox(&self, pod_uid: &str) {
        self.settle();
        let now = self.clock.now();
        if let Some(sandbox) = self.lock().sandboxes.get_mut(pod_uid) {
            sandbox.ready = false;
            for container in sandbox.containers.values_mut() {
                container.end(now, 137, 9);
            }
        }
        self.emit(Event::Sandbox { pod_uid: pod_uid.to_owned() });
    }
}

impl State {
    pub(crate) fn uses(&self, image: &ImageId) -> bool {
        self.sandboxes.values().flat_map(|sandbox| sandbox.containers.values()).any(|c| c.image == *image)
    }
}

impl SimulatedSandbox {
    pub(crate) fn view(&self, uid: &str) -> Sandbox {
        let view = |((name, attempt), container): (&(String, u32), &SimulatedContainer)| {
            let name = ContainerRef { pod_uid: uid.to_owned(), name: name.clone(), attempt: *attempt };
            container.view(&name, &self.log_directory)
        };
        Sandbox {
            pod: self.pod.clone(),
            id: uid.to_owned(),
            ready: self.ready,
            created_at: self.created_at,
            network_namespace: None,
            labels: self.labels.clone(),
            annotations: self.annotations.clone(),
            containers: self.containers.iter().map(view).collect(),
        }
    }
}

impl SimulatedContainer {
    pub(crate) fn view(&self, name: &ContainerRef, logs: &Path) -> Container {
        Container {
            container: name.clone(),
            id: format!("{}-{}-{}", name.pod_uid, name.name, name.attempt),
            state: (&self.life).into(),
            created_at: self.created_at,
            image: self.image.clone(),
            image_name: self.image_name.clone(),
            resources: self.resources,
            labels: self.labels.clone(),
            annotations: self.annotations.clone(),
            log_path: logs.join(&name.name).join(format!("{}.log", name.attempt)),
        }
    }

    fn end(&mut self, finished_at: Timestamp, code: i32, signal: i32) -> bool {
        let started_at = match self.life {
            Life::Created => None,
            Life::Running { started_at, .. } => Some(started_at),
            Life::Exited(_) => return false,
        };
        self.life = Life::Exited(Exit { started_at, finished_at, code, signal });
        true
    }
}

pub(crate) fn wrong_state(operation: &str, name: &ContainerRef, life: &Life) -> Error {
    let state = match life {
        Life::Created => "created",
        Life::Running { .. } => "running",
        Life::Exited(_) => "exited",
    };
    Error::WrongState { operation: operation.to_owned(), what: format!("container {name}"), state: state.to_owned() }
}
