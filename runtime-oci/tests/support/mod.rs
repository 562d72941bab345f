//! A runtime on this machine, with an instance and a directory of its own.

#![allow(clippy::unwrap_used, dead_code, unreachable_pub, reason = "a panic is how tests fail; not all use everything")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use longshore_core::clock::{Clock, SystemClock};
use longshore_core::runtime::{ContainerConfig, ContainerRef, Image, Resources, Runtime, SandboxConfig};
use longshore_core::testing::runtime::{Fixture, configs};
use longshore_runtime_oci::{ImageFile, OciRuntime, Options, Registry};

/// A program that needs no other files.
pub const BUSYBOX: &str = "/bin/busybox";

/// A program on `PATH` or where only root's has it.
pub fn find(program: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"]
        .iter()
        .map(|directory| Path::new(directory).join(program))
        .find(|path| path.exists())
}

/// crun wants no controllers of version 2 beside those of version 1. Where there are, it gets to see version 1 alone.
fn alone_with_version_1(crun: &Path, directory: &Path) -> PathBuf {
    let controllers = std::fs::read_to_string("/sys/fs/cgroup/unified/cgroup.controllers").unwrap_or_default();
    if controllers.trim().is_empty() {
        return crun.to_owned();
    }
    let script = directory.join("crun");
    let inner = format!("umount /sys/fs/cgroup/unified && exec {} \"$@\"", crun.display());
    std::fs::write(&script, format!("#!/bin/sh\nexec unshare -m sh -c '{inner}' crun \"$@\"\n")).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    script
}

pub struct Node {
    pub instance: String,
    pub program: PathBuf,
    pub directory: tempfile::TempDir,
    clock: SystemClock,
}

impl Node {
    /// A node whose containers this OCI runtime runs, or why there can be none.
    pub fn new(program: &str) -> Result<Self, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !nix::unistd::geteuid().is_root() {
            return Err("running containers needs root".into());
        }
        if !Path::new(BUSYBOX).exists() {
            return Err(format!("{BUSYBOX} is missing (apt-get install busybox-static)"));
        }
        let program = find(program).ok_or_else(|| format!("{program} is missing (apt-get install {program})"))?;
        let instance = format!("test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let directory = tempfile::tempdir().unwrap();
        let program =
            if program.ends_with("crun") { alone_with_version_1(&program, directory.path()) } else { program };
        Ok(Self { instance, program, directory, clock: SystemClock::new() })
    }

    pub fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    pub fn open_oci(&self) -> OciRuntime {
        self.open_oci_at(self.directory.path())
    }

    pub fn open_oci_at(&self, directory: &Path) -> OciRuntime {
        self.open(directory, BTreeMap::new())
    }

    pub fn open_oci_with(&self, registries: BTreeMap<String, Registry>) -> OciRuntime {
        self.open(self.directory.path(), registries)
    }

    fn open(&self, directory: &Path, registries: BTreeMap<String, Registry>) -> OciRuntime {
        let options = Options {
            root: directory.join("images"),
            state: directory.join("state"),
            instance: self.instance.clone(),
            program: Some(self.program.clone()),
            shim: env!("CARGO_BIN_EXE_longshore_shim").into(),
            registries,
        };
        OciRuntime::open(options, Arc::new(SystemClock::new())).unwrap()
    }

    /// The group's directories in all hierarchies that have it.
    pub fn groups(&self) -> Vec<PathBuf> {
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup").unwrap().map(|entry| entry.unwrap().path());
        let group = format!("longshore-{}", self.instance);
        hierarchies
            .chain(["/sys/fs/cgroup".into()])
            .map(|hierarchy| hierarchy.join(&group))
            .filter(|path| path.exists())
            .collect()
    }

    /// Whatever of this node is left on the machine.
    pub fn traces(&self) -> Vec<String> {
        let directory = self.directory.path().to_str().unwrap();
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        let mut traces: Vec<String> =
            mounts.lines().filter(|line| line.contains(directory)).map(str::to_owned).collect();
        traces.extend(self.groups().into_iter().map(|path| path.display().to_string()));
        for process in std::fs::read_dir("/proc").unwrap().flatten() {
            let command = std::fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
            if command.contains(directory) {
                traces.push(command.replace('\0', " "));
            }
        }
        if self.state().exists() {
            traces.push(self.state().display().to_string());
        }
        traces
    }
}

#[async_trait]
impl Fixture for Node {
    async fn open(&self) -> Arc<dyn Runtime> {
        Arc::new(self.open_oci())
    }

    async fn image(&self, name: &str) -> Image {
        let applets = "sh sleep echo cat env pwd hostname touch printf true test dd mkdir grep stty nc ip unshare";
        let files = applets.split(' ').map(|applet| ImageFile {
            target: format!("/bin/{applet}").into(),
            source: BUSYBOX.into(),
            mode: 0o755,
        });
        self.open_oci().build_image(name, files.collect(), vec!["/bin/sh".into()]).await.unwrap()
    }

    fn directory(&self) -> PathBuf {
        self.directory.path().to_owned()
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(self.clock.clone())
    }

    async fn pass(&self) {
        SystemClock::new().sleep(Duration::from_millis(10)).await;
    }

    async fn clean_up(&self) {
        self.open_oci().clean_up().await.unwrap();
        assert_eq!(self.traces(), [""; 0]);
    }
}

/// Runs a case on a node of its own, and removes what it leaves, also after it failed.
pub fn on_a_node(case: impl AsyncFnOnce(&Node)) {
    let node = match Node::new("runc") {
        Ok(node) => node,
        Err(reason) => return longshore_core::testing::skip(&reason),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let case = tokio::time::timeout(Duration::from_secs(60), case(&node));
        let done = futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(case)).await;
        node.clean_up().await;
        match done {
            Ok(done) => done.expect("it hangs"),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    });
}

pub fn sandbox(node: &Node, uid: &str) -> SandboxConfig {
    configs::sandbox(uid, &node.directory.path().join("logs"))
}

pub fn container(image: &Image, uid: &str, name: &str, script: &str) -> ContainerConfig {
    ContainerConfig {
        command: configs::script(script),
        resources: Resources { memory_limit: Some(32 << 20), ..Resources::default() },
        ..configs::container(uid, name, &image.id)
    }
}

/// A container's log once it holds this.
pub async fn logged(node: &Node, name: &ContainerRef, what: &str) -> String {
    let path = node.directory.path().join("logs").join(&name.pod_uid).join(&name.name).join("0.log");
    loop {
        let log = std::fs::read_to_string(&path).unwrap_or_default();
        if log.contains(what) {
            return log;
        }
        SystemClock::new().sleep(Duration::from_millis(10)).await;
    }
}
