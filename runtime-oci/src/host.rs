//! What happens on the host, step by step; everything here may block.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use jiff::Timestamp;
use longshore_core::clock::Clock;
use longshore_core::runtime::{
    Container, ContainerConfig, ContainerRef, ContainerState, Error, ImageId, Sandbox, SandboxConfig, Usage,
};
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde::{Deserialize, Serialize};

use crate::disk::{self, Exit, Started, check_name, directory_name, failed};
use crate::images::Store;
use crate::shim::{self, Orders, Start};
use crate::{Options, bundle, cgroup};

/// What is kept of a sandbox.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SandboxRecord {
    pub(crate) config: SandboxConfig,
    created_at: Timestamp,
}

/// What is kept of a container.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    pub(crate) config: ContainerConfig,
    created_at: Timestamp,
    pub(crate) id: String,
    pub(crate) stop_signal: String,
}

#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) options: Options,
    pub(crate) program: PathBuf,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) images: Arc<Store>,
}

impl Host {
    pub(crate) fn events(&self) -> PathBuf {
        self.options.state.join("events")
    }

    fn sandbox_directory(&self, uid: &str) -> PathBuf {
        self.options.state.join("sandboxes").join(uid)
    }

    fn directory(&self, container: &ContainerRef) -> PathBuf {
        self.sandbox_directory(&container.pod_uid).join("containers").join(directory_name(container))
    }

    fn group(&self) -> String {
        format!("/longshore-{}", self.options.instance)
    }

    fn pod_group(&self, uid: &str) -> String {
        format!("{}/{uid}", self.group())
    }

    fn container_group(&self, container: &ContainerRef) -> String {
        format!("{}/{}", self.pod_group(&container.pod_uid), directory_name(container))
    }

    pub(crate) fn runtime_root(&self) -> PathBuf {
        self.options.state.join("oci")
    }

    pub(crate) fn list(&self) -> io::Result<Vec<Sandbox>> {
        let mut sandboxes = Vec::new();
        for directory in disk::directories(&self.options.state.join("sandboxes"))? {
            let Some(record) = disk::read::<SandboxRecord>(&directory.join("sandbox.json"))? else { continue };
            sandboxes.push(self.sandbox(&directory, record)?);
        }
        Ok(sandboxes)
    }

    fn sandbox(&self, directory: &Path, record: SandboxRecord) -> io::Result<Sandbox> {
        let ready = shim_lives(directory);
        if !ready {
            // Nobody reaps or logs for what runs on: the pod has to be made again.
            cgroup::destroy(&self.pod_group(&record.config.pod.uid));
        }
        let mut containers = Vec::new();
        for container in disk::directories(&directory.join("containers"))? {
            let Some(found) = disk::read::<ContainerRecord>(&container.join("container.json"))? else { continue };
            containers.push(self.container(&container, found, &record.config, ready)?);
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

    fn container(
        &self,
        directory: &Path,
        record: ContainerRecord,
        sandbox: &SandboxConfig,
        ready: bool,
    ) -> io::Result<Container> {
        let started: Option<Started> = disk::read(&directory.join("started.json"))?;
        let mut exit: Option<Exit> = disk::read(&directory.join("exit.json"))?;
        if exit.is_none() && !ready {
            let lost = Exit {
                finished_at: self.clock.now(),
                code: 137,
                signal: 9,
                oom_killed: false,
                message: "the pod's shim ended".to_owned(),
            };
            disk::write(&directory.join("exit.json"), &lost)?;
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
            labels: config.labels,
            annotations: config.annotations,
        })
    }

    pub(crate) fn create_sandbox(&self, config: &SandboxConfig) -> Result<Sandbox, Error> {
        check_name("pod uid", &config.pod.uid)?;
        if config.share_process_namespace || !config.sysctls.is_empty() {
            let what = "shared process namespaces and sysctls".to_owned();
            return Err(Error::Unsupported { runtime: crate::NAME.to_owned(), what });
        }
        let directory = self.sandbox_directory(&config.pod.uid);
        if directory.join("sandbox.json").exists() {
            return Err(Error::AlreadyExists { what: format!("sandbox of pod {}", config.pod) });
        }
        // What a crash left behind half-made.
        self.remove_sandbox(&config.pod.uid)?;
        let failed = |error| failed(format!("create sandbox of pod {}", config.pod))(error);
        fs::create_dir_all(directory.join("containers")).map_err(failed)?;
        let record = SandboxRecord { config: config.clone(), created_at: self.clock.now() };
        self.start_shim(&directory, config)
            .and_then(|()| disk::write(&directory.join("sandbox.json"), &record))
            .and_then(|()| self.sandbox(&directory, record))
            .map_err(|error| {
                // The first error is the one to tell; the rest is found again by `clean_up`.
                let _ = self.remove_sandbox(&config.pod.uid);
                failed(error)
            })
    }

    fn start_shim(&self, directory: &Path, config: &SandboxConfig) -> io::Result<()> {
        let orders = Orders {
            directory: directory.to_owned(),
            cgroup: format!("{}/shim", self.pod_group(&config.pod.uid)),
            hostname: config.hostname.clone(),
            host_network: config.host.network,
            host_ipc: config.host.ipc,
            events: self.events(),
            pod_uid: config.pod.uid.clone(),
        };
        disk::write(&directory.join("orders.json"), &orders)?;
        let output = Command::new(&self.options.shim)
            .args(["shim".as_ref(), "start".as_ref(), directory.as_os_str()])
            .stdin(Stdio::null())
            .output()?;
        if output.status.success() {
            Ok(())
        } else {
            Err(io::Error::other(String::from_utf8_lossy(&output.stdout).trim().to_owned()))
        }
    }

    pub(crate) fn remove_sandbox(&self, uid: &str) -> Result<(), Error> {
        check_name("pod uid", uid)?;
        let failed = |error| failed(format!("remove sandbox of pod {uid}"))(error);
        let directory = self.sandbox_directory(uid);
        if !cgroup::destroy(&self.pod_group(uid)) {
            return Err(failed(io::Error::other("its processes do not end")));
        }
        for container in disk::directories(&directory.join("containers")).map_err(failed)? {
            unmount(&container.join("rootfs")).map_err(failed)?;
            let name = container.file_name().unwrap_or_default().to_string_lossy();
            disk::remove_tree(&self.runtime_root().join(runtime_id(uid, &name))).map_err(failed)?;
        }
        unmount(&directory.join("netns")).map_err(failed)?;
        disk::remove_tree(&directory).map_err(failed)?;
        let _ = fs::write(self.events().join(uid), "");
        Ok(())
    }

    pub(crate) fn create_container(&self, config: &ContainerConfig) -> Result<Container, Error> {
        let name = &config.container;
        check_name("container name", &name.name)?;
        let (_, sandbox) = self.find_sandbox(&name.pod_uid)?;
        let directory = self.directory(name);
        if directory.join("container.json").exists() {
            return Err(Error::AlreadyExists { what: format!("container {name}") });
        }
        let failed = |error| failed(format!("create container {name}"))(error);
        let image = self.images.configuration(&config.image).map_err(failed)?.ok_or_else(|| Error::Image {
            image: config.image_name.clone(),
            reason: "it is not on the node; load it first".to_owned(),
        })?;
        self.remove_container(name)?;
        let make = || -> Result<ContainerRecord, Error> {
            for part in ["rootfs", "upper", "work"] {
                fs::create_dir_all(directory.join(part)).map_err(failed)?;
            }
            fs::write(directory.join("message"), "").map_err(failed)?;
            let layers = self.images.layers(&image).map_err(failed)?;
            overlay(&layers, &directory).map_err(failed)?;
            let shim = disk::read(&self.sandbox_directory(&name.pod_uid).join("shim.json")).map_err(failed)?;
            let place = bundle::Place {
                sandbox: &sandbox.config,
                shim: shim.ok_or_else(|| failed(io::Error::other("the sandbox is not ready")))?,
                cgroup: &self.container_group(name),
                root: &directory.join("rootfs"),
                message: &directory.join("message"),
            };
            bundle::write(&bundle::spec(config, &image.config, &place)?, &directory).map_err(failed)?;
            let signal = [config.stop_signal.as_str(), &image.config.stop_signal, "SIGTERM"];
            let record = ContainerRecord {
                config: config.clone(),
                created_at: self.clock.now(),
                id: runtime_id(&name.pod_uid, &directory_name(name)),
                stop_signal: signal.into_iter().find(|signal| !signal.is_empty()).unwrap_or("SIGTERM").to_owned(),
            };
            disk::write(&directory.join("container.json"), &record).map_err(failed)?;
            Ok(record)
        };
        match make() {
            Ok(record) => self.container(&directory, record, &sandbox.config, true).map_err(failed),
            Err(error) => {
                let _ = self.remove_container(name);
                Err(error)
            }
        }
    }

    fn find_sandbox(&self, uid: &str) -> Result<(PathBuf, SandboxRecord), Error> {
        check_name("pod uid", uid)?;
        let directory = self.sandbox_directory(uid);
        let record = disk::read(&directory.join("sandbox.json")).map_err(failed("read the sandbox's record"))?;
        Ok((directory, record.ok_or_else(|| Error::NotFound { what: format!("sandbox of pod {uid}") })?))
    }

    /// A container as it is now, and its record.
    pub(crate) fn find(&self, name: &ContainerRef) -> Result<(Container, ContainerRecord), Error> {
        let missing = || Error::NotFound { what: format!("container {name}") };
        check_name("container name", &name.name)?;
        let (sandbox_directory, sandbox) = self.find_sandbox(&name.pod_uid).map_err(|_| missing())?;
        let directory = self.directory(name);
        let failed = |error| failed(format!("read container {name}"))(error);
        let read = || disk::read::<ContainerRecord>(&directory.join("container.json")).map_err(failed);
        let (Some(record), Some(again)) = (read()?, read()?) else { return Err(missing()) };
        let container = self.container(&directory, record, &sandbox.config, shim_lives(&sandbox_directory));
        Ok((container.map_err(failed)?, again))
    }

    /// The record of a container that runs.
    pub(crate) fn running(&self, operation: &str, name: &ContainerRef) -> Result<ContainerRecord, Error> {
        let (container, record) = self.find(name)?;
        match container.state {
            ContainerState::Running { .. } => Ok(record),
            state => Err(wrong_state(operation, name, &state)),
        }
    }

    pub(crate) fn start_container(&self, name: &ContainerRef) -> Result<(), Error> {
        let (container, record) = self.find(name)?;
        if container.state != ContainerState::Created {
            return Err(wrong_state("start", name, &container.state));
        }
        let start = Start {
            program: self.program.clone(),
            runtime_root: self.runtime_root(),
            id: record.id,
            directory: self.directory(name),
            log: container.log_path,
            cgroup: self.container_group(name),
            event: format!("{}_{}", name.pod_uid, directory_name(name)),
        };
        shim::ask(&self.sandbox_directory(&name.pod_uid), &start)
    }

    /// Sends a signal to a container's first process; answers whether it still runs.
    pub(crate) fn signal(&self, name: &ContainerRef, kill: bool) -> Result<bool, Error> {
        let (container, record) = match self.find(name) {
            Err(Error::NotFound { .. }) => return Ok(false),
            found => found?,
        };
        match container.state {
            ContainerState::Exited { .. } => Ok(false),
            ContainerState::Created => {
                let exit = Exit {
                    finished_at: self.clock.now(),
                    code: 137,
                    signal: 9,
                    oom_killed: false,
                    message: String::new(),
                };
                let written = disk::write(&self.directory(name).join("exit.json"), &exit);
                written.map(|()| false).map_err(failed(format!("stop container {name}")))
            }
            ContainerState::Running { .. } => {
                let signal = if kill { "SIGKILL" } else { &record.stop_signal };
                // It fails if the process has just ended, which is what is wanted.
                Command::new(&self.program)
                    .arg("--root")
                    .arg(self.runtime_root())
                    .args(["kill", &record.id, signal])
                    .stdin(Stdio::null())
                    .output()
                    .map(|_| true)
                    .map_err(failed(format!("stop container {name}")))
            }
        }
    }

    pub(crate) fn remove_container(&self, name: &ContainerRef) -> Result<(), Error> {
        check_name("pod uid", &name.pod_uid)?;
        check_name("container name", &name.name)?;
        let failed = |error| failed(format!("remove container {name}"))(error);
        let directory = self.directory(name);
        if !cgroup::destroy(&self.container_group(name)) {
            return Err(failed(io::Error::other("its processes do not end")));
        }
        if !directory.exists() {
            return Ok(());
        }
        unmount(&directory.join("rootfs")).map_err(failed)?;
        disk::remove_tree(&self.runtime_root().join(runtime_id(&name.pod_uid, &directory_name(name))))
            .map_err(failed)?;
        disk::remove_tree(&directory).map_err(failed)
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

    /// Ends and removes every sandbox, also half-made ones.
    pub(crate) fn clean_up(&self) -> Result<(), Error> {
        for directory in disk::directories(&self.options.state.join("sandboxes")).map_err(failed("list sandboxes"))? {
            self.remove_sandbox(&directory.file_name().unwrap_or_default().to_string_lossy())?;
        }
        if !cgroup::destroy(&self.group()) {
            return Err(failed("clean up")(io::Error::other("processes do not end")));
        }
        disk::remove_tree(&self.options.state).map_err(failed("clean up"))
    }
}

pub(crate) fn used_images(sandboxes: &Path) -> io::Result<Vec<ImageId>> {
    let mut used = Vec::new();
    for sandbox in disk::directories(sandboxes)? {
        for container in disk::directories(&sandbox.join("containers"))? {
            let record: Option<ContainerRecord> = disk::read(&container.join("container.json"))?;
            used.extend(record.map(|record| record.config.image));
        }
    }
    Ok(used)
}

fn runtime_id(uid: &str, name: &str) -> String {
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

fn shim_lives(directory: &Path) -> bool {
    let Ok(lock) = OpenOptions::new().write(true).open(directory.join("lock")) else { return false };
    // The lock is the shim's for life; sharing it is enough to know, and does not disturb another who asks.
    Flock::lock(lock, FlockArg::LockSharedNonblock).is_err()
}

fn overlay(layers: &[PathBuf], directory: &Path) -> io::Result<()> {
    let lower: Vec<String> = layers.iter().rev().map(|layer| layer.display().to_string()).collect();
    let part = |name: &str| directory.join(name).display().to_string();
    let options = format!("lowerdir={},upperdir={},workdir={}", lower.join(":"), part("upper"), part("work"));
    mount(Some("overlay"), &directory.join("rootfs"), Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        .map_err(|error| io::Error::other(format!("overlayfs cannot be mounted on {}: {error}", directory.display())))
}

fn unmount(path: &Path) -> io::Result<()> {
    use nix::errno::Errno;
    match umount2(path, MntFlags::MNT_DETACH) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn wrong_state(operation: &str, name: &ContainerRef, state: &ContainerState) -> Error {
    let state = match state {
        ContainerState::Created => "created",
        ContainerState::Running { .. } => "running",
        ContainerState::Exited { .. } => "exited",
    };
    Error::WrongState { operation: operation.to_owned(), what: format!("container {name}"), state: state.to_owned() }
}
