//! What exists, as the engine tells it.

use std::path::PathBuf;
use std::sync::PoisonError;

use bollard::models::{ContainerInspectResponse, ContainerState as EngineState, ContainerStateStatusEnum as Status};
use bollard::query_parameters::{InspectContainerOptions, ListContainersOptionsBuilder};
use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;
use longshore_core::runtime::{Container, ContainerRef, ContainerState, Error, Sandbox};

use crate::config::{self, ATTEMPT, CONTAINER, ContainerRecord, INSTANCE, SandboxRecord, UID};
use crate::engine::{Engine, check_name, failed, status};

/// How many containers the engine is asked about at a time.
const ASKED_AT_ONCE: usize = 8;

/// A signal that ends a process makes its exit code this much more than its number.
const SIGNALLED: i32 = 128;

/// The highest number of a signal.
const SIGNAL_MAX: i32 = 64;

/// A sandbox without its containers, and what is kept of it.
#[derive(Debug)]
pub(crate) struct FoundSandbox {
    pub(crate) sandbox: Sandbox,
    pub(crate) record: SandboxRecord,
    /// Whether it was made, but not started yet.
    pub(crate) half_made: bool,
}

/// A container and how it was made.
#[derive(Debug, Clone)]
pub(crate) struct FoundContainer {
    pub(crate) container: Container,
    pub(crate) stdin: bool,
    pub(crate) stdin_once: bool,
    pub(crate) tty: bool,
    /// As configured, else the image's; may be empty.
    pub(crate) stop_signal: String,
}

/// One of the engine's containers that is this instance's.
enum Found {
    Sandbox(Box<FoundSandbox>),
    Container(Box<Container>),
}

pub(crate) fn wrong_state(operation: &str, name: &ContainerRef, state: &ContainerState) -> Error {
    let state = match state {
        ContainerState::Created => "created",
        ContainerState::Running { .. } => "running",
        ContainerState::Exited { .. } => "exited",
    };
    Error::WrongState { operation: operation.to_owned(), what: format!("container {name}"), state: state.to_owned() }
}

fn no_container(name: &ContainerRef) -> Error {
    Error::NotFound { what: format!("container {name}") }
}

/// A time of the engine's; `None` for what has not been yet, which is year 1.
fn time(text: Option<&str>) -> Option<Timestamp> {
    text?.parse().ok().filter(|time: &Timestamp| time.as_second() > 0)
}

fn label(inspected: &ContainerInspectResponse, name: &str) -> Option<String> {
    inspected.config.as_ref()?.labels.as_ref()?.get(name).cloned()
}

fn container_ref(inspected: &ContainerInspectResponse) -> Option<ContainerRef> {
    let label = |name| label(inspected, name);
    Some(ContainerRef { pod_uid: label(UID)?, name: label(CONTAINER)?, attempt: label(ATTEMPT)?.parse().ok()? })
}

impl Engine {
    /// The engine's ids of this instance's containers, also of one pod.
    pub(crate) async fn ids(&self, uid: Option<&str>) -> Result<Vec<String>, Error> {
        let mut labels = vec![format!("{INSTANCE}={}", self.instance)];
        labels.extend(uid.map(|uid| format!("{UID}={uid}")));
        let options = ListContainersOptionsBuilder::default().all(true).filters(&[("label", labels)].into()).build();
        let listed = self.client.list_containers(Some(options)).await;
        let listed = listed.map_err(|error| self.failed("list containers", &error))?;
        Ok(listed.into_iter().filter_map(|summary| summary.id).collect())
    }

    pub(crate) async fn inspect(&self, name: &str) -> Result<Option<ContainerInspectResponse>, Error> {
        match self.client.inspect_container(name, None::<InspectContainerOptions>).await {
            Ok(inspected) => Ok(Some(inspected)),
            Err(error) if status(&error) == 404 => Ok(None),
            Err(error) => Err(self.failed(format!("look at {name}"), &error)),
        }
    }

    /// Everything that exists, save sandboxes that are just being made.
    pub(crate) async fn list(&self) -> Result<Vec<Sandbox>, Error> {
        let ids = self.ids(None).await?;
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).retain(|id, _| ids.contains(id));
        self.sandboxes(ids).await
    }

    /// What of this there is of one pod.
    pub(crate) async fn sandbox(&self, uid: &str) -> Result<Option<Sandbox>, Error> {
        Ok(self.sandboxes(self.ids(Some(uid)).await?).await?.pop())
    }

    async fn sandboxes(&self, ids: Vec<String>) -> Result<Vec<Sandbox>, Error> {
        let found: Vec<_> = stream::iter(ids).map(|id| self.look(id)).buffered(ASKED_AT_ONCE).try_collect().await?;
        let (mut sandboxes, mut containers) = (Vec::new(), Vec::new());
        for found in found.into_iter().flatten() {
            match found {
                Found::Sandbox(found) if found.half_made => {}
                Found::Sandbox(found) => sandboxes.push(found.sandbox),
                Found::Container(container) => containers.push(*container),
            }
        }
        for container in containers {
            // One whose sandbox is just being removed goes with it.
            if let Some(sandbox) = sandboxes.iter_mut().find(|sandbox| sandbox.pod.uid == container.container.pod_uid) {
                sandbox.containers.push(container);
            }
        }
        Ok(sandboxes)
    }

    async fn look(&self, id: String) -> Result<Option<Found>, Error> {
        let known = self.ended.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        if let Some(known) = known {
            return Ok(Some(Found::Container(Box::new(known))));
        }
        let Some(inspected) = self.inspect(&id).await? else { return Ok(None) };
        if label(&inspected, CONTAINER).is_some() {
            let found = self.container(&inspected).await?;
            return Ok(found.map(|found| Found::Container(Box::new(found.container))));
        }
        Ok(sandbox(&inspected).map(|found| Found::Sandbox(Box::new(found))))
    }

    /// The sandbox of a pod.
    pub(crate) async fn find_sandbox(&self, uid: &str) -> Result<FoundSandbox, Error> {
        check_name("pod uid", uid)?;
        let inspected = self.inspect(&self.sandbox_name(uid)).await?;
        let found = inspected.as_ref().and_then(sandbox).filter(|found| !found.half_made);
        found.ok_or_else(|| Error::NotFound { what: format!("sandbox of pod {uid}") })
    }

    /// A container as it is now.
    pub(crate) async fn find(&self, name: &ContainerRef) -> Result<FoundContainer, Error> {
        check_name("pod uid", &name.pod_uid)?;
        check_name("container name", &name.name)?;
        let inspected = self.inspect(&self.container_name(name)).await?.ok_or_else(|| no_container(name))?;
        self.container(&inspected).await?.ok_or_else(|| no_container(name))
    }

    /// A container that runs.
    pub(crate) async fn running(&self, operation: &str, name: &ContainerRef) -> Result<FoundContainer, Error> {
        let found = self.find(name).await?;
        match found.container.state {
            ContainerState::Running { .. } => Ok(found),
            state => Err(wrong_state(operation, name, &state)),
        }
    }

    /// What the engine says of a container, whose log is followed from here on, and complete if it has ended.
    pub(crate) async fn container(
        &self,
        inspected: &ContainerInspectResponse,
    ) -> Result<Option<FoundContainer>, Error> {
        let Some(name) = container_ref(inspected) else { return Ok(None) };
        let Some(record) = config::record::<ContainerRecord>(|name| label(inspected, name)) else { return Ok(None) };
        let id = inspected.id.clone().unwrap_or_default();
        let created_at = time(inspected.created.as_deref()).unwrap_or_default();
        let state = self.state(inspected.state.as_ref(), &name, created_at);
        let config = inspected.config.clone().unwrap_or_default();
        let log = inspected.log_path.as_ref().filter(|path| !path.is_empty()).map(PathBuf::from);
        if let Some(log) = log.filter(|_| state != ContainerState::Created) {
            self.logs
                .add(&id, log, record.log_path.clone(), record.log_limits)
                .await
                .map_err(failed(format!("log container {name}")))?;
        }
        let container = Container {
            resources: self.notes.resources(&name).unwrap_or(record.resources),
            container: name,
            id: id.clone(),
            state,
            created_at,
            image: record.image,
            image_name: record.image_name,
            labels: record.labels,
            annotations: record.annotations,
            log_path: record.log_path,
        };
        if matches!(container.state, ContainerState::Exited { .. }) {
            self.logs.sync(&id).await.map_err(failed(format!("log container {}", container.container)))?;
            self.ended.lock().unwrap_or_else(PoisonError::into_inner).insert(id, container.clone());
        }
        Ok(Some(FoundContainer {
            container,
            stdin: config.open_stdin.unwrap_or_default(),
            stdin_once: config.stdin_once.unwrap_or_default(),
            tty: config.tty.unwrap_or_default(),
            stop_signal: config.stop_signal.unwrap_or_default(),
        }))
    }

    fn state(&self, state: Option<&EngineState>, name: &ContainerRef, created_at: Timestamp) -> ContainerState {
        let unknown = EngineState::default();
        let state = state.unwrap_or(&unknown);
        let code = i32::try_from(state.exit_code.unwrap_or_default()).unwrap_or(SIGNALLED);
        let error = state.error.clone().unwrap_or_default();
        let started_at = time(state.started_at.as_deref());
        match (state.status.unwrap_or(Status::EMPTY), started_at) {
            (Status::RUNNING | Status::PAUSED | Status::RESTARTING | Status::STOPPING, Some(started_at)) => {
                let pid = u32::try_from(state.pid.unwrap_or_default()).unwrap_or_default();
                ContainerState::Running { started_at, pid }
            }
            // For the engine one that could not be started is as it was before, but for the error.
            (_, None) => match self.notes.unstarted(name) {
                None if error.is_empty() => ContainerState::Created,
                noted => {
                    let (finished_at, code, message) =
                        noted.map_or((created_at, code, error), |noted| (noted.finished_at, noted.code, noted.message));
                    let signal = signal(code);
                    ContainerState::Exited { started_at, finished_at, code, signal, oom_killed: false, message }
                }
            },
            (_, Some(_)) => ContainerState::Exited {
                started_at,
                finished_at: time(state.finished_at.as_deref()).unwrap_or(created_at),
                code,
                signal: signal(code),
                oom_killed: state.oom_killed.unwrap_or_default(),
                message: if error.is_empty() { self.notes.message(name) } else { error },
            },
        }
    }
}

/// The signal that an exit code stands for, or 0.
fn signal(code: i32) -> i32 {
    let number = code - SIGNALLED;
    if (1..=SIGNAL_MAX).contains(&number) { number } else { 0 }
}

fn sandbox(inspected: &ContainerInspectResponse) -> Option<FoundSandbox> {
    let record: SandboxRecord = config::record(|name| label(inspected, name))?;
    let state = inspected.state.clone().unwrap_or_default();
    let pid = state.pid.unwrap_or_default();
    let ready = state.status == Some(Status::RUNNING) && pid > 0;
    Some(FoundSandbox {
        sandbox: Sandbox {
            pod: record.pod.clone(),
            id: inspected.id.clone()?,
            ready,
            created_at: time(inspected.created.as_deref()).unwrap_or_default(),
            network_namespace: (ready && !record.host_network).then(|| format!("/proc/{pid}/ns/net").into()),
            labels: record.labels.clone(),
            annotations: record.annotations.clone(),
            containers: Vec::new(),
        },
        record,
        half_made: state.status == Some(Status::CREATED),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_tell_of_signals() {
        assert_eq!([0, 1, 127, 128, 137, 143, 192, 193, 255].map(signal), [0, 0, 0, 0, 9, 15, 64, 0, 0]);
    }

    #[test]
    fn what_has_not_been_yet_has_no_time() {
        assert_eq!(time(Some("0001-01-01T00:00:00Z")), None);
        assert_eq!(time(None), None);
        assert_eq!(time(Some("2026-11-28T18:00:00.5Z")).unwrap().subsec_nanosecond(), 500_000_000);
    }
}
