//! A runtime on an engine of the tests' own, with an instance and a directory of its own.

#![allow(clippy::unwrap_used, dead_code, unreachable_pub, reason = "a panic is how tests fail; not all use everything")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use longshore_core::clock::{Clock, SystemClock};
use longshore_core::runtime::{Image, Runtime};
use longshore_core::testing::runtime::Fixture;
use longshore_runtime_docker::testing::{EngineNetwork, OwnEngine};
use longshore_runtime_docker::{DockerRuntime, ImageFile, Options};

const BUSYBOX: &str = "/bin/busybox";

/// The engine that tests which run at the same time share: their instances keep apart.
fn shared() -> Result<Arc<OwnEngine>, String> {
    static SHARED: Mutex<Weak<OwnEngine>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(engine) = shared.upgrade() {
        return Ok(engine);
    }
    let engine = Arc::new(OwnEngine::start(EngineNetwork::Own)?);
    *shared = Arc::downgrade(&engine);
    Ok(engine)
}

pub struct Node {
    pub engine: Arc<OwnEngine>,
    pub instance: String,
    pub directory: tempfile::TempDir,
    clock: SystemClock,
}

impl Node {
    /// A node whose containers an engine runs, or why there can be none.
    pub fn new() -> Result<Self, String> {
        // Images are the engine's: who takes one away must be alone.
        let alone = std::thread::current().name().is_some_and(|name| name.contains("images"));
        if alone { Self::alone() } else { Self::on(shared()?) }
    }

    /// A node with an engine that no other test uses.
    pub fn alone() -> Result<Self, String> {
        Self::on(Arc::new(OwnEngine::start(EngineNetwork::Own)?))
    }

    fn on(engine: Arc<OwnEngine>) -> Result<Self, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !Path::new(BUSYBOX).exists() {
            return Err(format!("{BUSYBOX} is missing (apt-get install busybox-static)"));
        }
        let instance = format!("test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Ok(Self { engine, instance, directory: tempfile::tempdir().unwrap(), clock: SystemClock::new() })
    }

    pub fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    pub fn options(&self) -> Options {
        Options { host: self.engine.host(), state: self.state(), instance: self.instance.clone() }
    }

    pub async fn open_docker(&self) -> DockerRuntime {
        DockerRuntime::open(self.options(), Arc::new(SystemClock::new())).await.unwrap()
    }

    /// Whatever of this node is left on the machine.
    pub async fn traces(&self) -> Vec<String> {
        let mut traces = Vec::new();
        let group = format!("longshore-{}", self.instance);
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup").unwrap().map(|entry| entry.unwrap().path());
        let groups = hierarchies.chain(["/sys/fs/cgroup".into()]).map(|hierarchy| hierarchy.join(&group));
        traces.extend(groups.filter(|path| path.exists()).map(|path| path.display().to_string()));
        let containers = self.engine.directory().join("data/containers");
        for container in std::fs::read_dir(containers).unwrap().flatten() {
            let config = std::fs::read_to_string(container.path().join("config.v2.json")).unwrap_or_default();
            if config.contains(&self.instance) {
                traces.push(config);
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
        Arc::new(self.open_docker().await)
    }

    async fn image(&self, name: &str) -> Image {
        let applets = "sh sleep echo cat env pwd hostname touch printf true test dd mkdir grep stty nc ip unshare";
        let files = applets.split(' ').map(|applet| ImageFile {
            target: format!("/bin/{applet}").into(),
            source: BUSYBOX.into(),
            mode: 0o755,
        });
        self.open_docker().await.build_image(name, files.collect(), vec!["/bin/sh".into()]).await.unwrap()
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
        self.open_docker().await.clean_up().await.unwrap();
        assert_eq!(self.traces().await, [""; 0]);
    }
}
