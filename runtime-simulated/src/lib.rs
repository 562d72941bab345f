//! Containers that run in virtual time, for thousands of hollow nodes.
//!
//! A [`SimulatedRuntime`] keeps a few hundred bytes a container and no task: when a container ends is known the moment
//! it starts, so its state is worked out when somebody looks, and [`Runtime::events`] sleeps until the next end.
//!
//! What a container does is told by [annotations or its command](Behaviour):
//!
//! ```
//! use std::sync::Arc;
//! use longshore_core::{clock::VirtualClock, runtime::Runtime};
//! use longshore_runtime_simulated::{Options, SimulatedRuntime};
//!
//! let runtime = SimulatedRuntime::new(Arc::new(VirtualClock::new()), Options::default());
//! assert!(!runtime.info().capabilities.real);
//! ```

mod behaviour;
mod host;
mod images;
mod network;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};
use longshore_core::clock::Clock;
use longshore_core::connection::Connection;
use longshore_core::runtime::{
    Capabilities, Container, ContainerConfig, ContainerRef, ContainerState, Credentials, Error, Event, ExecRequest,
    ImageName, Images, Info, Resources, Runtime, Sandbox, SandboxConfig, Session, Usage,
};
use tokio::sync::broadcast;

pub use behaviour::{ANNOTATION_PREFIX, Behaviour};
use host::{Host, Life, SimulatedContainer, SimulatedSandbox};
use images::SimulatedImages;
pub use network::SimulatedNetwork;

const NAME: &str = "simulated";

/// How a simulated node behaves where no annotation says otherwise.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What containers do by default: start at once and run for ever.
    pub behaviour: Behaviour,
    /// How long a pull takes.
    pub pull_delay: Duration,
}

/// A node's containers in virtual time. Clones share them, as if the caller had restarted and opened the node again.
#[derive(Debug, Clone)]
pub struct SimulatedRuntime {
    host: Arc<Host>,
    images: Arc<SimulatedImages>,
}

impl SimulatedRuntime {
    /// An empty node whose containers live by `clock`.
    pub fn new(clock: Arc<dyn Clock>, options: Options) -> Self {
        let host = Arc::new(Host::new(clock, options));
        let images = Arc::new(SimulatedImages { host: host.clone(), names: Mutex::default() });
        Self { host, images }
    }

    /// Puts an image on the node without a pull.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a malformed name.
    pub fn add_image(&self, name: &str) -> Result<(), Error> {
        let name = ImageName::parse(name)?;
        self.images.names().present.insert(name);
        Ok(())
    }

    /// Makes pulls of an image fail, as if its registry had none of this name.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a malformed name.
    pub fn forbid_image(&self, name: &str) -> Result<(), Error> {
        let name = ImageName::parse(name)?;
        self.images.names().absent.insert(name);
        Ok(())
    }

    /// Makes pulls of an image fail without this login.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a malformed name.
    pub fn require_login(&self, name: &str, login: Credentials) -> Result<(), Error> {
        let name = ImageName::parse(name)?;
        self.images.names().guarded.insert(name, login);
        Ok(())
    }

    /// Gives the node's images a disk of `capacity` bytes, of which each takes `image` bytes. Without this they take no
    /// room.
    pub fn set_image_disk(&self, capacity: u64, image: u64) {
        self.images.names().disk = Some((capacity, image));
    }

    /// Ends a running container now, as a crash would: for tests and fault injection. Without effect on others.
    pub fn end_container(&self, container: &ContainerRef, code: i32) {
        self.host.end(container, code, 0);
    }

    /// Breaks a sandbox, as if its namespaces were lost: its containers die and it is no longer ready.
    pub fn break_sandbox(&self, pod_uid: &str) {
        self.host.break_sandbox(pod_uid);
    }
}

fn not_found(what: impl std::fmt::Display) -> Error {
    Error::NotFound { what: what.to_string() }
}

fn unsupported(what: &str) -> Error {
    Error::Unsupported { runtime: NAME.to_owned(), what: what.to_owned() }
}

#[async_trait]
impl Runtime for SimulatedRuntime {
    fn info(&self) -> Info {
        Info {
            name: NAME.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            capabilities: Capabilities { pull: true, ..Capabilities::default() },
        }
    }

    fn images(&self) -> &dyn Images {
        self.images.as_ref()
    }

    async fn list(&self) -> Result<Vec<Sandbox>, Error> {
        self.host.settle();
        Ok(self.host.lock().sandboxes.iter().map(|(uid, sandbox)| sandbox.view(uid)).collect())
    }

    async fn sandbox(&self, pod_uid: &str) -> Result<Option<Sandbox>, Error> {
        self.host.settle();
        Ok(self.host.lock().sandboxes.get(pod_uid).map(|sandbox| sandbox.view(pod_uid)))
    }

    async fn events(&self) -> Result<BoxStream<'static, Event>, Error> {
        let state = (self.host.clone(), self.host.subscribe());
        let events = stream::unfold(state, |(host, mut receiver)| async move {
            loop {
                let wait = host.settle();
                let received = tokio::select! {
                    biased;
                    received = receiver.recv() => received,
                    () = host.sleep(wait) => continue,
                };
                return match received {
                    Ok(event) => Some((event, (host, receiver))),
                    Err(broadcast::error::RecvError::Lagged(_)) => Some((Event::Resync, (host, receiver))),
                    Err(broadcast::error::RecvError::Closed) => None,
                };
            }
        });
        Ok(events.boxed())
    }

    async fn create_sandbox(&self, config: &SandboxConfig) -> Result<Sandbox, Error> {
        let uid = &config.pod.uid;
        let mut state = self.host.lock();
        if state.sandboxes.contains_key(uid) {
            return Err(Error::AlreadyExists { what: format!("sandbox of pod {}", config.pod) });
        }
        let sandbox = SimulatedSandbox {
            pod: config.pod.clone(),
            ready: true,
            created_at: self.host.clock.now(),
            log_directory: config.log_directory.clone(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            containers: BTreeMap::new(),
        };
        let view = sandbox.view(uid);
        state.sandboxes.insert(uid.clone(), sandbox);
        drop(state);
        self.host.emit(Event::Sandbox { pod_uid: uid.clone() });
        Ok(view)
    }

    async fn remove_sandbox(&self, pod_uid: &str) -> Result<(), Error> {
        if self.host.lock().sandboxes.remove(pod_uid).is_some() {
            self.host.emit(Event::Sandbox { pod_uid: pod_uid.to_owned() });
        }
        Ok(())
    }

    async fn create_container(&self, config: &ContainerConfig) -> Result<Container, Error> {
        let name = &config.container;
        if !self.images.has(&config.image) {
            let reason = "it is not on the node; pull it first".to_owned();
            return Err(Error::Image { image: config.image_name.clone(), reason });
        }
        let mut state = self.host.lock();
        let sandbox = state
            .sandboxes
            .get_mut(&name.pod_uid)
            .ok_or_else(|| not_found(format_args!("sandbox of pod {}", name.pod_uid)))?;
        if !sandbox.ready {
            return Err(Error::WrongState {
                operation: "create a container in".to_owned(),
                what: format!("sandbox of pod {}", name.pod_uid),
                state: "not ready".to_owned(),
            });
        }
        let behaviour = self.host.options.behaviour.of(&sandbox.annotations, config)?;
        let key = (name.name.clone(), name.attempt);
        if sandbox.containers.contains_key(&key) {
            return Err(Error::AlreadyExists { what: format!("container {name}") });
        }
        let container = SimulatedContainer {
            behaviour,
            created_at: self.host.clock.now(),
            life: Life::Created,
            resources: config.resources,
            image: config.image.clone(),
            image_name: config.image_name.clone(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
        };
        let view = container.view(name, &sandbox.log_directory);
        sandbox.containers.insert(key, container);
        drop(state);
        self.host.emit(Event::Container(name.clone()));
        Ok(view)
    }

    async fn start_container(&self, container: &ContainerRef) -> Result<(), Error> {
        let check = |found: &mut SimulatedContainer| match found.life {
            Life::Created => Ok(found.behaviour),
            _ => Err(host::wrong_state("start", container, &found.life)),
        };
        let delay = self.host.with(container, check)??.start_delay;
        self.host.clock.sleep(delay).await;
        let (now, at) = (self.host.clock.elapsed(), self.host.clock.now());
        self.host.with(container, |found| {
            let behaviour = check(found)?;
            let ends = behaviour.run_for.and_then(|run_for| now.checked_add(run_for));
            found.life = Life::Running { since: now, started_at: at, ends };
            Ok::<_, Error>(())
        })??;
        self.host.emit(Event::Container(container.clone()));
        Ok(())
    }

    async fn stop_container(&self, container: &ContainerRef, grace: Duration) -> Result<(), Error> {
        self.host.settle();
        let ignores = match self.host.with(container, |found| match found.life {
            Life::Exited(_) => None,
            _ => Some(found.behaviour.ignore_term),
        }) {
            Ok(Some(ignores)) => ignores,
            Ok(None) | Err(_) => return Ok(()),
        };
        let signal = if ignores || grace.is_zero() { 9 } else { 15 };
        if ignores && !grace.is_zero() {
            let ends = self.host.with(container, |found| found.life.ends()).ok().flatten();
            let left = ends.map(|ends| ends.saturating_sub(self.host.clock.elapsed()));
            self.host.clock.sleep(left.map_or(grace, |left| left.min(grace))).await;
            self.host.settle();
        }
        self.host.end(container, 128 + signal, signal);
        Ok(())
    }

    async fn remove_container(&self, container: &ContainerRef) -> Result<(), Error> {
        let key = (container.name.clone(), container.attempt);
        let mut state = self.host.lock();
        let removed = state.sandboxes.get_mut(&container.pod_uid).and_then(|sandbox| sandbox.containers.remove(&key));
        drop(state);
        if removed.is_some() {
            self.host.emit(Event::Container(container.clone()));
        }
        Ok(())
    }

    async fn exec(&self, container: &ContainerRef, _request: &ExecRequest) -> Result<Session, Error> {
        self.host.running("exec in", container)?;
        Err(unsupported("exec"))
    }

    async fn attach(&self, container: &ContainerRef, _stdin: bool) -> Result<Session, Error> {
        self.host.running("attach to", container)?;
        Err(unsupported("attach"))
    }

    async fn connect(&self, _pod_uid: &str, _port: u16) -> Result<Box<dyn Connection>, Error> {
        Err(unsupported("connections into pods"))
    }

    async fn update_container(&self, container: &ContainerRef, resources: &Resources) -> Result<(), Error> {
        self.host.running("resize", container)?;
        self.host.with(container, |found| found.resources = *resources)?;
        self.host.emit(Event::Container(container.clone()));
        Ok(())
    }

    async fn update_sandbox(&self, pod_uid: &str, _resources: &Resources) -> Result<(), Error> {
        // The limits of a pod change nothing about containers that need nothing.
        let known = self.host.lock().sandboxes.contains_key(pod_uid);
        if known { Ok(()) } else { Err(not_found(format_args!("sandbox of pod {pod_uid}"))) }
    }

    async fn usage(&self, container: &ContainerRef) -> Result<Usage, Error> {
        let since = self.host.running("measure", container)?;
        let ran = self.host.clock.elapsed().saturating_sub(since);
        self.host.with(container, |found| {
            let cpu = ran.as_nanos().saturating_mul(found.resources.cpu_request_milli.into()) / 1000;
            let cpu_time = Duration::from_nanos(u64::try_from(cpu).unwrap_or(u64::MAX));
            Usage { cpu_time, memory_working_set: found.behaviour.memory }
        })
    }
}

/// The state as [`Runtime::list`] shows it.
impl From<&Life> for ContainerState {
    fn from(life: &Life) -> Self {
        match life {
            Life::Created => ContainerState::Created,
            Life::Running { started_at, .. } => ContainerState::Running { started_at: *started_at, pid: 0 },
            Life::Exited(exit) => ContainerState::Exited {
                started_at: exit.started_at,
                finished_at: exit.finished_at,
                code: exit.code,
                signal: exit.signal,
                oom_killed: false,
                message: String::new(),
            },
        }
    }
}
