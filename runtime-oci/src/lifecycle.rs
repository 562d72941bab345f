//! Making, starting and removing, step by step; everything here may block.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use longshore_core::runtime::{
    Container, ContainerConfig, ContainerRef, ContainerState, Error, Resources, Sandbox, SandboxConfig,
};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::disk::{self, Exit, check_name, directory_name, failed};
use crate::host::{ContainerRecord, Host, SandboxRecord, event_name, hold_alone, runtime_id, shim_lives, wrong_state};
use crate::shim::{self, Orders, Request, Start};
use crate::{bundle, cgroup};

impl Host {
    pub(crate) fn create_sandbox(&self, config: &SandboxConfig) -> Result<Sandbox, Error> {
        check_name("pod uid", &config.pod.uid)?;
        self.alone(&config.pod.uid, || self.make_sandbox(config))
    }

    fn make_sandbox(&self, config: &SandboxConfig) -> Result<Sandbox, Error> {
        let directory = self.sandbox_directory(&config.pod.uid);
        if directory.join("sandbox.json").exists() {
            return Err(Error::AlreadyExists { what: format!("sandbox of pod {}", config.pod) });
        }
        // What a crash left behind half-made.
        self.unmake_sandbox(&config.pod.uid)?;
        let failed = |error| failed(format!("create sandbox of pod {}", config.pod))(error);
        fs::create_dir_all(directory.join("containers")).map_err(failed)?;
        let record = SandboxRecord { config: config.clone(), created_at: self.clock.now() };
        let made = cgroup::limit(&self.pod_group(&config.pod.uid), &config.resources)
            .and_then(|()| self.start_shim(&directory, config))
            .and_then(|()| disk::note(&directory.join("sandbox.json"), &record))
            .and_then(|()| self.sandbox(&directory, record));
        match made {
            Ok(sandbox) => {
                self.tell(&config.pod.uid);
                Ok(sandbox)
            }
            Err(error) => {
                // The first error is the one to tell; the rest is found again when the runtime is opened.
                let _ = self.unmake_sandbox(&config.pod.uid);
                Err(failed(error))
            }
        }
    }

    fn start_shim(&self, directory: &Path, config: &SandboxConfig) -> io::Result<()> {
        let orders = Orders {
            directory: directory.to_owned(),
            cgroup: format!("{}/shim", self.pod_group(&config.pod.uid)),
            hostname: config.hostname.clone(),
            host_network: config.host.network,
            host_ipc: config.host.ipc,
            // What is the node's anyway cannot be the pod's alone.
            share_process_namespace: config.share_process_namespace && !config.host.pid,
            sysctls: config.sysctls.clone(),
            events: self.events(),
            pod_uid: config.pod.uid.clone(),
        };
        disk::note(&directory.join("orders.json"), &orders)?;
        let shim = shim::start(&self.options.shim, directory)?;
        self.shims.lock().unwrap_or_else(PoisonError::into_inner).insert(config.pod.uid.clone(), shim);
        Ok(())
    }

    pub(crate) fn remove_sandbox(&self, uid: &str) -> Result<(), Error> {
        check_name("pod uid", uid)?;
        // Before waiting for others: what they wait for in turn may be what is killed here.
        cgroup::destroy(&self.pod_group(uid));
        self.alone(uid, || self.unmake_sandbox(uid))
    }

    fn unmake_sandbox(&self, uid: &str) -> Result<(), Error> {
        let failed = |error| failed(format!("remove sandbox of pod {uid}"))(error);
        let directory = self.sandbox_directory(uid);
        if !cgroup::destroy(&self.pod_group(uid)) {
            return Err(failed(io::Error::other("its processes do not end")));
        }
        let shim = self.shims.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
        if let Some(mut shim) = shim {
            shim.wait().map_err(failed)?;
        }
        if !directory.exists() {
            return Ok(());
        }
        // Whoever lists sees the shim gone, and may be about to end what it left: not what is made here next.
        let _held = hold_alone(&directory).map_err(failed)?;
        for container in disk::directories(&directory.join("containers")).map_err(failed)? {
            unmount(&container.join("rootfs")).map_err(failed)?;
            let name = container.file_name().unwrap_or_default().to_string_lossy();
            disk::remove_tree(&self.runtime_root().join(runtime_id(uid, &name))).map_err(failed)?;
        }
        unmount(&directory.join("netns")).map_err(failed)?;
        // The record goes last, so that one that could not be removed is still listed.
        disk::remove_tree(&directory.join("containers")).map_err(failed)?;
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name() != "sandbox.json" {
                fs::remove_file(entry.path()).map_err(failed)?;
            }
        }
        disk::remove_tree(&directory).map_err(failed)?;
        self.tell(uid);
        Ok(())
    }

    /// Removes what a crash left half-made: sandboxes without a record.
    pub(crate) fn remove_half_made(&self) -> Result<(), Error> {
        for directory in disk::directories(&self.sandboxes()).map_err(failed("list sandboxes"))? {
            let record = disk::noted::<SandboxRecord>(&directory.join("sandbox.json"));
            if record.map_err(failed("read the sandbox's record"))?.is_none() {
                self.remove_sandbox(&directory.file_name().unwrap_or_default().to_string_lossy())?;
            }
        }
        Ok(())
    }

    pub(crate) fn create_container(&self, config: &ContainerConfig) -> Result<Container, Error> {
        let name = &config.container;
        check_name("pod uid", &name.pod_uid)?;
        check_name("container name", &name.name)?;
        self.alone(&name.pod_uid, || self.make_container(config))
    }

    fn make_container(&self, config: &ContainerConfig) -> Result<Container, Error> {
        let name = &config.container;
        let (place, sandbox) = self.find_sandbox(&name.pod_uid)?;
        if !shim_lives(&place) {
            let operation = "create a container in".to_owned();
            let state = shim::last_words(&place).map_or("not ready".to_owned(), |words| format!("not ready: {words}"));
            return Err(Error::WrongState { operation, what: format!("sandbox of pod {}", name.pod_uid), state });
        }
        let directory = self.directory(name);
        if directory.join("container.json").exists() {
            return Err(Error::AlreadyExists { what: format!("container {name}") });
        }
        let failed = |error| failed(format!("create container {name}"))(error);
        let image = self.images.configuration(&config.image).map_err(failed)?.ok_or_else(|| Error::Image {
            image: config.image_name.clone(),
            reason: "it is not on the node; load it first".to_owned(),
        })?;
        self.unmake_container(name)?;
        let make = || -> Result<ContainerRecord, Error> {
            for part in ["rootfs", "upper", "work"] {
                fs::create_dir_all(directory.join(part)).map_err(failed)?;
            }
            fs::write(directory.join("message"), "").map_err(failed)?;
            let layers = self.images.layers(&image).map_err(failed)?;
            overlay(&layers, &directory).map_err(failed)?;
            let shim = disk::noted(&place.join("shim.json")).map_err(failed)?;
            let processes_of = match &config.process_namespace_of {
                Some(other) => Some(self.process(other)?),
                None => disk::noted(&place.join("init.json")).map_err(failed)?,
            };
            let place = bundle::Place {
                sandbox: &sandbox.config,
                shim: shim.ok_or_else(|| failed(io::Error::other("the sandbox is not ready")))?,
                processes_of,
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
            disk::note(&directory.join("container.json"), &record).map_err(failed)?;
            Ok(record)
        };
        match make() {
            Ok(record) => {
                self.tell(&event_name(name));
                self.container(&directory, record, &sandbox.config, true).map_err(failed)
            }
            Err(error) => {
                let _ = self.unmake_container(name);
                Err(error)
            }
        }
    }

    pub(crate) fn start_container(&self, name: &ContainerRef) -> Result<(), Error> {
        self.alone(&name.pod_uid, || {
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
                log_limits: self.find_sandbox(&name.pod_uid)?.1.config.log_limits,
                cgroup: self.container_group(name),
                event: event_name(name),
                stdin: record.config.stdin,
                stdin_once: record.config.stdin_once,
                tty: record.config.tty,
            };
            shim::ask(&self.sandbox_directory(&name.pod_uid), &Request::Start(start))
        })
    }

    /// The process of a container that runs.
    fn process(&self, name: &ContainerRef) -> Result<u32, Error> {
        match self.find(name)?.0.state {
            ContainerState::Running { pid, .. } => Ok(pid),
            state => Err(wrong_state("join the processes of", name, &state)),
        }
    }

    pub(crate) fn update_container(&self, name: &ContainerRef, resources: &Resources) -> Result<(), Error> {
        self.alone(&name.pod_uid, || {
            let (container, mut record) = self.find(name)?;
            match container.state {
                ContainerState::Running { .. } => self.update_running(name, resources)?,
                state => return Err(wrong_state("resize", name, &state)),
            }
            record.config.resources = *resources;
            let directory = self.directory(name);
            disk::note(&directory.join("container.json"), &record)
                .map_err(failed(format!("resize container {name}")))?;
            self.tell(&event_name(name));
            Ok(())
        })
    }

    fn update_running(&self, name: &ContainerRef, resources: &Resources) -> Result<(), Error> {
        let operation = format!("resize container {name}");
        let used = self.usage(name)?.memory_working_set;
        if let Some(limit) = resources.memory_limit.filter(|limit| *limit < used) {
            // Version 2 would kill for it.
            let reason = format!("it uses {used} bytes of memory, and would have {limit}");
            return Err(Error::Failed { operation, reason });
        }
        cgroup::limit(&self.container_group(name), resources).map_err(failed(operation))
    }

    pub(crate) fn update_sandbox(&self, uid: &str, resources: &Resources) -> Result<(), Error> {
        self.alone(uid, || {
            let (directory, mut record) = self.find_sandbox(uid)?;
            let failed = |error| failed(format!("resize pod {}", record.config.pod))(error);
            cgroup::limit(&self.pod_group(uid), resources).map_err(failed)?;
            let failed = format!("resize pod {}", record.config.pod);
            record.config.resources = *resources;
            disk::note(&directory.join("sandbox.json"), &record).map_err(disk::failed(failed))
        })
    }

    /// Asks a container to end, or kills it and all that it started; answers whether it still ran.
    pub(crate) fn signal(&self, name: &ContainerRef, kill: bool) -> Result<bool, Error> {
        let (container, record) = match self.find(name) {
            Err(Error::NotFound { .. }) => return Ok(false),
            found => found?,
        };
        match container.state {
            ContainerState::Exited { .. } => Ok(false),
            ContainerState::Created => self.alone(&name.pod_uid, || self.end_created(name)),
            ContainerState::Running { .. } => {
                let signal = if kill { "SIGKILL".to_owned() } else { record.stop_signal };
                let request = Request::Signal { id: record.id, signal };
                match shim::ask(&self.sandbox_directory(&name.pod_uid), &request) {
                    // With its shim gone it has ended.
                    Err(error @ Error::Failed { .. }) => self.running("stop", name).map_or(Ok(false), |_| Err(error)),
                    answer => answer.map(|()| true),
                }
            }
        }
    }

    /// Ends a container that was not started; answers whether somebody has started it meanwhile.
    fn end_created(&self, name: &ContainerRef) -> Result<bool, Error> {
        match self.find(name) {
            Ok((container, _)) if container.state == ContainerState::Created => {}
            Ok((container, _)) => return Ok(matches!(container.state, ContainerState::Running { .. })),
            Err(Error::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
        let exit =
            Exit { finished_at: self.clock.now(), code: 137, signal: 9, oom_killed: false, message: String::new() };
        disk::note(&self.directory(name).join("exit.json"), &exit).map_err(failed(format!("stop container {name}")))?;
        self.tell(&event_name(name));
        Ok(false)
    }

    pub(crate) fn remove_container(&self, name: &ContainerRef) -> Result<(), Error> {
        check_name("pod uid", &name.pod_uid)?;
        check_name("container name", &name.name)?;
        // As for sandboxes: whoever starts it waits for what is killed here.
        cgroup::destroy(&self.container_group(name));
        self.alone(&name.pod_uid, || self.unmake_container(name))
    }

    fn unmake_container(&self, name: &ContainerRef) -> Result<(), Error> {
        let failed = |error| failed(format!("remove container {name}"))(error);
        let directory = self.directory(name);
        if !cgroup::destroy(&self.container_group(name)) {
            return Err(failed(io::Error::other("its processes do not end")));
        }
        if !directory.exists() {
            return Ok(());
        }
        unmount(&directory.join("rootfs")).map_err(failed)?;
        let state = self.runtime_root().join(runtime_id(&name.pod_uid, &directory_name(name)));
        disk::remove_tree(&state).map_err(failed)?;
        disk::remove_tree(&directory).map_err(failed)?;
        self.tell(&event_name(name));
        Ok(())
    }

    /// Ends and removes every sandbox, also half-made ones.
    pub(crate) fn clean_up(&self) -> Result<(), Error> {
        for directory in disk::directories(&self.sandboxes()).map_err(failed("list sandboxes"))? {
            self.remove_sandbox(&directory.file_name().unwrap_or_default().to_string_lossy())?;
        }
        if !cgroup::destroy(&self.group()) {
            return Err(failed("clean up")(io::Error::other("processes do not end")));
        }
        disk::remove_tree(&self.options.state).map_err(failed("clean up"))
    }
}

fn overlay(layers: &[PathBuf], directory: &Path) -> io::Result<()> {
    let lower: Vec<String> = layers.iter().rev().map(|layer| layer.display().to_string()).collect();
    let part = |name: &str| directory.join(name).display().to_string();
    let options = format!("lowerdir={},upperdir={},workdir={}", lower.join(":"), part("upper"), part("work"));
    mount(Some("overlay"), &directory.join("rootfs"), Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        .map_err(|error| io::Error::other(format!("overlayfs cannot be mounted on {}: {error}", directory.display())))
}

/// Unmounts whatever is mounted there, however often.
fn unmount(path: &Path) -> io::Result<()> {
    use nix::errno::Errno;
    loop {
        match umount2(path, MntFlags::MNT_DETACH) {
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
