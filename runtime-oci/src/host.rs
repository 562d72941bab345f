//! What is on the host: where things are kept and what state they are in. Everything here may block.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use longshore_core::clock::Clock;
use longshore_core::runtime::{
    Container, ContainerConfig, ContainerRef, ContainerState, Error, ImageId, Sandbox, SandboxConfig, Usage,
};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::disk::{self, Exit, Started, check_name, directory_name, failed};
use crate::images::Store;
use crate::{Options, cgroup};

/// What is kept of a sandbox.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SandboxRecord {
    pub(crate) config: SandboxConfig,
    pub(crate) created_at: Timestamp,
}

/// What is kept of a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    pub(crate) config: ContainerConfig,
    pub(crate) created_at: Timestamp,
    pub(crate) id: String,
    pub(crate) stop_signal: String,
}

#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) options: Options,
    pub(crate) program: PathBuf,
    /// Whether it can make mounts read-only with all that is below.
    pub(crate) recursive_read_only: bool,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) images: Arc<Store>,
    /// Held while something of a pod is made or removed, by the pod's uid: an operation that nobody waits for any more may
    /// still be at work when it is asked for again.
    pub(crate) pods: Mutex<BTreeMap<String, Arc<Mutex<()>>>>,
    /// The shims that this process has started, by the pod's uid, until they are waited for. Others' are not its children.
    pub(crate) shims: Mutex<BTreeMap<String, Child>>,
}

impl Host {
    pub(crate) fn events(&self) -> PathBuf {
        self.options.state.join("events")
    }

    pub(crate) fn sandbox_directory(&self, uid: &str) -> PathBuf {
        self.options.state.join("sandboxes").join(uid)
    }

    pub(crate) fn directory(&self, container: &ContainerRef) -> PathBuf {
        self.sandbox_directory(&container.pod_uid).join("containers").join(directory_name(container))
    }

    pub(crate) fn group(&self) -> String {
        format!("/longshore-{}", self.options.instance)
    }

    pub(crate) fn pod_group(&self, uid: &str) -> String {
        format!("{}/{uid}", self.group())
    }

    pub(crate) fn container_group(&self, container: &ContainerRef) -> String {
        format!("{}/{}", self.pod_group(&container.pod_uid), directory_name(container))
    }

    pub(crate) fn runtime_root(&self) -> PathBuf {
        self.options.state.join("oci")
    }

    pub(crate) fn sandboxes(&self) -> PathBuf {
        self.options.state.join("sandboxes")
    }

    /// Does something with a pod while nobody else does.
    pub(crate) fn alone<T>(&self, uid: &str, work: impl FnOnce() -> T) -> T {
        let pod = self.pods.lock().unwrap_or_else(PoisonError::into_inner).entry(uid.to_owned()).or_default().clone();
        let held = pod.lock().unwrap_or_else(PoisonError::into_inner);
        let done = work();
        drop(held);
        let mut pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        // Two hold it here: the map and this. Whoever else does still needs it.
        if Arc::strong_count(&pod) == 2 {
            pods.remove(uid);
        }
        done
    }

    /// Tells whoever listens that something changed. Who does not hear it lists.
    pub(crate) fn tell(&self, event: &str) {
        let _ = fs::write(self.events().join(event), "");
    }

    pub(crate) fn list(&self) -> io::Result<Vec<Sandbox>> {
        let directories = disk::directories(&self.sandboxes())?;
        directories.iter().filter_map(|directory| self.look(directory).transpose()).collect()
    }

    /// The sandbox that has this directory, if there is one.
    pub(crate) fn look(&self, directory: &Path) -> io::Result<Option<Sandbox>> {
        let Some(record) = disk::noted::<SandboxRecord>(&directory.join("sandbox.json"))? else { return Ok(None) };
        match self.sandbox(directory, record) {
            Ok(sandbox) => Ok(Some(sandbox)),
            // It was removed while we looked.
            Err(_) if !directory.join("sandbox.json").exists() => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn sandbox(&self, directory: &Path, record: SandboxRecord) -> io::Result<Sandbox> {
        let ready = shim_lives(directory);
        if !ready && let Some(_held) = hold_dead(directory) {
            // Nobody reaps or logs for what runs on: the pod has to be made again.
            cgroup::destroy(&self.pod_group(&record.config.pod.uid));
        }
        let mut containers = Vec::new();
        for container in disk::directories(&directory.join("containers"))? {
            let Some(found) = disk::noted::<ContainerRecord>(&container.join("container.json"))? else { continue };
            match self.container(&container, found, &record.config, ready) {
                Ok(container) => containers.push(container),
                // It is being removed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let config = record.config;
        Ok(Sandbox {
            id: config.pod.uid.clone(),
            ready,
            created_at: record.created_at,
            network_namespace: (!config.host.network).then(|| directory.join("netns")),
            pod: config.pod,
            labels: config.labels,
            annotations: config.annotations,
            containers,
        })
    }

    pub(crate) fn container(
        &self,
        directory: &Path,
        record: ContainerRecord,
        sandbox: &SandboxConfig,
        ready: bool,
    ) -> io::Result<Container> {
        // In this order: what has ended was started before.
        let mut exit: Option<Exit> = disk::noted(&directory.join("exit.json"))?;
        let started: Option<Started> = disk::noted(&directory.join("started.json"))?;
        if exit.is_none() && !ready {
            let lost = Exit {
                finished_at: self.clock.now(),
                code: 137,
                signal: 9,
                oom_killed: false,
                message: "the pod's shim ended".to_owned(),
            };
            disk::note(&directory.join("exit.json"), &lost)?;
            exit = Some(lost);
        }
        let state = match (started, exit) {
            (started, Some(exit)) => {
                let message = if exit.message.is_empty() { message(directory) } else { exit.message };
                let started_at = started.map(|started| started.started_at);
                let Exit { finished_at, code, signal, oom_killed, .. } = exit;
                ContainerState::Exited { started_at, finished_at, code, signal, oom_killed, message }
            }
            (Some(Started { started_at, pid }), None) => ContainerState::Running { started_at, pid },
            (None, None) => ContainerState::Created,
        };
        let config = record.config;
        Ok(Container {
            log_path: log_path(sandbox, &config.container),
            container: config.container,
            id: record.id,
            state,
            created_at: record.created_at,
            image: config.image,
            image_name: config.image_name,
            resources: config.resources,
            labels: config.labels,
            annotations: config.annotations,
        })
    }

    pub(crate) fn find_sandbox(&self, uid: &str) -> Result<(PathBuf, SandboxRecord), Error> {
        check_name("pod uid", uid)?;
        let directory = self.sandbox_directory(uid);
        let record = disk::noted(&directory.join("sandbox.json")).map_err(failed("read the sandbox's record"))?;
        Ok((directory, record.ok_or_else(|| Error::NotFound { what: format!("sandbox of pod {uid}") })?))
    }

    /// A container as it is now, and its record.
    pub(crate) fn find(&self, name: &ContainerRef) -> Result<(Container, ContainerRecord), Error> {
        let missing = || Error::NotFound { what: format!("container {name}") };
        check_name("container name", &name.name)?;
        let (sandbox_directory, sandbox) = self.find_sandbox(&name.pod_uid).map_err(|_| missing())?;
        let directory = self.directory(name);
        let failed = |error| failed(format!("read container {name}"))(error);
        let record: Option<ContainerRecord> = disk::noted(&directory.join("container.json")).map_err(failed)?;
        let record = record.ok_or_else(missing)?;
        let container = self.container(&directory, record.clone(), &sandbox.config, shim_lives(&sandbox_directory));
        Ok((container.map_err(failed)?, record))
    }

    /// The record of a container that runs.
    pub(crate) fn running(&self, operation: &str, name: &ContainerRef) -> Result<ContainerRecord, Error> {
        let (container, record) = self.find(name)?;
        match container.state {
            ContainerState::Running { .. } => Ok(record),
            state => Err(wrong_state(operation, name, &state)),
        }
    }

    pub(crate) fn usage(&self, name: &ContainerRef) -> Result<Usage, Error> {
        self.running("measure", name)?;
        let group = self.container_group(name);
        let read = |controller, file| {
            cgroup::read(&group, controller, file).map_err(failed(format!("measure container {name}")))
        };
        let field = |text: &str, name: &str| {
            text.lines().find_map(|l| l.strip_prefix(name)?.trim().parse::<u64>().ok()).unwrap_or(0)
        };
        let number = |text: String| text.trim().parse::<u64>().unwrap_or(0);
        let (cpu_nanos, used) = if cgroup::unified() {
            (field(&read("", "cpu.stat")?, "usage_usec ") * 1000, number(read("", "memory.current")?))
        } else {
            (number(read("cpuacct", "cpuacct.usage")?), number(read("memory", "memory.usage_in_bytes")?))
        };
        let inactive = if cgroup::unified() { "inactive_file " } else { "total_inactive_file " };
        let dropped = field(&read("memory", "memory.stat")?, inactive);
        Ok(Usage {
            cpu_time: std::time::Duration::from_nanos(cpu_nanos),
            memory_working_set: used.saturating_sub(dropped),
        })
    }
}

pub(crate) fn used_images(sandboxes: &Path) -> io::Result<Vec<ImageId>> {
    let mut used = Vec::new();
    for sandbox in disk::directories(sandboxes)? {
        for container in disk::directories(&sandbox.join("containers"))? {
            let record: Option<ContainerRecord> = disk::noted(&container.join("container.json"))?;
            used.extend(record.map(|record| record.config.image));
        }
    }
    Ok(used)
}

/// The file that is touched when a container changes.
pub(crate) fn event_name(name: &ContainerRef) -> String {
    format!("{}_{}", name.pod_uid, directory_name(name))
}

pub(crate) fn runtime_id(uid: &str, name: &str) -> String {
    format!("{uid}_{name}")
}

fn log_path(sandbox: &SandboxConfig, name: &ContainerRef) -> PathBuf {
    sandbox.log_directory.join(&name.name).join(format!("{}.log", name.attempt))
}

/// The termination message: at most upstream's 4096 bytes.
fn message(directory: &Path) -> String {
    let bytes = fs::read(directory.join("message")).unwrap_or_default();
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(4096)..]).into_owned()
}

pub(crate) fn shim_lives(directory: &Path) -> bool {
    let Ok(lock) = OpenOptions::new().write(true).open(directory.join("lock")) else { return false };
    // The lock is the shim's for life; sharing it is enough to know, and does not disturb another who asks.
    Flock::lock(lock, FlockArg::LockSharedNonblock).is_err()
}

/// Keeps the sandbox, whose shim is gone, from being removed; `None` if it was, or if the shim lives. Another sandbox may be in
/// the place of one that was removed, with the same control group.
fn hold_dead(directory: &Path) -> Option<Flock<fs::File>> {
    let lock = OpenOptions::new().write(true).open(directory.join("lock")).ok()?;
    let held = Flock::lock(lock, FlockArg::LockSharedNonblock).ok()?;
    (held.metadata().ok()?.nlink() > 0).then_some(held)
}

/// Waits until nobody [holds](hold_dead) the sandbox, and lets nobody do so from then on.
pub(crate) fn hold_alone(directory: &Path) -> io::Result<Option<Flock<fs::File>>> {
    match OpenOptions::new().write(true).open(directory.join("lock")) {
        Ok(lock) => Ok(Some(Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| io::Error::from(error))?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) fn wrong_state(operation: &str, name: &ContainerRef, state: &ContainerState) -> Error {
    let state = match state {
        ContainerState::Created => "created",
        ContainerState::Running { .. } => "running",
        ContainerState::Exited { .. } => "exited",
    };
    Error::WrongState { operation: operation.to_owned(), what: format!("container {name}"), state: state.to_owned() }
}
