//! Containers run by Docker Engine 20.10 or later, on this machine.
//!
//! A pod's sandbox is a container that does nothing: it holds the pod's network, its IPC and, if asked, its process ids, and the
//! pod's containers join these. Everything about a pod is in the labels of its containers, so [`DockerRuntime`] finds it
//! again after a restart, and two instances on one engine do not see each other's. In the state directory are only the files
//! into which containers write termination messages, and notes about containers that never ran.
//!
//! The engine must be on this machine, reached by its Unix socket, and be root's: the pod's network is attached by its namespace
//! in `/proc`, and logs are copied from the engine's own files (`json-file`) into those of CRI, by whoever has the runtime open
//! and without loss or repetition after a time when nobody had.
//!
//! What Docker cannot do, and what follows:
//! - Host names are equal in a pod, but each container has a UTS namespace of its own: one that changes it changes its own.
//! - It does not say by which signal a process ended. A code from 129 to 192 is taken for one.
//! - A user's groups in the image's `/etc/group` are always added, and the process' own group is among the further ones.
//! - Images are also for others on the machine, so unused ones stay, however full the disk is: `docker image prune`.
//! - Memory limits below 6 MiB are refused.
//! - Its logs are text: bytes that are not UTF-8 arrive as U+FFFD. It keeps the last 80 MiB of each container, so that
//!   more than this, written while no runtime is open, is lost.
//! - With its setting `live-restore` off, containers end with the engine; they are then reported as ended.
//! - An exec'd process ends with its session, but if this process is killed it ends only when the runtime is opened again.

mod archive;
mod cgroup;
mod config;
mod connect;
mod engine;
mod events;
mod exec;
mod follow;
mod hijack;
mod images;
mod lifecycle;
mod list;
mod logs;
mod notes;
mod pause;
mod privileged;
mod session;
mod streams;
#[cfg(feature = "testing")]
pub mod testing;
mod usage;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use longshore_core::clock::Clock;
use longshore_core::connection::Connection;
use longshore_core::runtime::{
    Capabilities, Container, ContainerConfig, ContainerRef, Credentials, Error, Event, ExecRequest, Image, Images,
    Info, Resources, Runtime, Sandbox, SandboxConfig, Session, Usage,
};
use tokio::task::JoinSet;

pub use archive::ImageFile;
use engine::{Engine, failed};
use images::EngineImages;

const NAME: &str = "docker";

/// The socket of Debian's and Docker's own packages.
pub const DEFAULT_SOCKET: &str = "unix:///var/run/docker.sock";

/// Which engine a [`DockerRuntime`] uses, and where it keeps its files.
#[derive(Debug, Clone)]
pub struct Options {
    /// The engine's address, as in `DOCKER_HOST`; only `unix://` is understood.
    pub host: String,
    /// Directory of termination messages and notes.
    pub state: PathBuf,
    /// What tells this installation from others on the engine: letters, digits and `-`.
    pub instance: String,
}

/// Runs containers by Docker Engine. Opening it again finds everything that ran.
#[derive(Debug)]
pub struct DockerRuntime {
    engine: Arc<Engine>,
    images: EngineImages,
    /// Copies logs; ends with the runtime.
    _follower: JoinSet<()>,
}

impl DockerRuntime {
    /// Opens the runtime.
    ///
    /// # Errors
    /// [`Error::Invalid`] if this is not root, the address is not a Unix socket's, or the engine is too old, says nothing, or is not
    /// root's; [`Error::Failed`] if it refuses something.
    pub async fn open(options: Options, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let engine = Arc::new(Engine::open(options, clock).await?);
        let follower = engine.logs.follow();
        engine.remove_half_made().await?;
        engine.end_left_execs().await;
        engine.list().await?;
        Ok(Self { images: EngineImages { engine: engine.clone() }, engine, _follower: follower })
    }

    /// Hands the engine a `docker save` archive (or, if the engine knows these, an OCI layout): a file, also compressed, or a
    /// directory.
    ///
    /// # Errors
    /// [`Error::Image`] with the engine's reason.
    pub async fn import(&self, path: &Path) -> Result<Vec<Image>, Error> {
        self.images.import(path).await
    }

    /// Has the engine pull an image, and tells how many bytes of how many are here.
    ///
    /// # Errors
    /// [`Error::Image`] with the registry's reason.
    pub async fn pull(
        &self,
        name: &str,
        credentials: &Credentials,
        progress: impl Fn(u64, u64) + Send + Sync,
    ) -> Result<Image, Error> {
        self.images.pull_reporting(name, credentials, &progress).await
    }

    /// Makes an image of files of this machine, without a registry.
    ///
    /// # Errors
    /// [`Error::Image`] if a file cannot be read or the engine refuses it.
    pub async fn build_image(
        &self,
        name: &str,
        files: Vec<ImageFile>,
        entrypoint: Vec<String>,
    ) -> Result<Image, Error> {
        self.images.build(name, files, entrypoint).await
    }

    /// Ends every sandbox of this instance and removes whatever it has on the engine and the host, save images and logs.
    ///
    /// # Errors
    /// [`Error::Failed`] naming what is left; doing it again is safe.
    pub async fn clean_up(&self) -> Result<(), Error> {
        self.engine.clean_up().await
    }
}

#[async_trait]
impl Runtime for DockerRuntime {
    fn info(&self) -> Info {
        Info {
            name: NAME.to_owned(),
            version: self.engine.version.clone(),
            capabilities: Capabilities {
                streams: true,
                pull: true,
                real: true,
                recursive_read_only: self.engine.recursive,
            },
        }
    }

    fn images(&self) -> &dyn Images {
        &self.images
    }

    async fn list(&self) -> Result<Vec<Sandbox>, Error> {
        self.engine.list().await
    }

    async fn sandbox(&self, pod_uid: &str) -> Result<Option<Sandbox>, Error> {
        self.engine.sandbox(pod_uid).await
    }

    async fn events(&self) -> Result<BoxStream<'static, Event>, Error> {
        events::stream(&self.engine).await
    }

    async fn create_sandbox(&self, config: &SandboxConfig) -> Result<Sandbox, Error> {
        let (engine, config) = (self.engine.clone(), config.clone());
        self.engine.finish(async move { engine.create_sandbox(&config).await }).await
    }

    async fn remove_sandbox(&self, pod_uid: &str) -> Result<(), Error> {
        let (engine, uid) = (self.engine.clone(), pod_uid.to_owned());
        self.engine.finish(async move { engine.remove_sandbox(&uid).await }).await
    }

    async fn create_container(&self, config: &ContainerConfig) -> Result<Container, Error> {
        let (engine, config) = (self.engine.clone(), config.clone());
        self.engine.finish(async move { engine.create_container(&config).await }).await
    }

    async fn start_container(&self, container: &ContainerRef) -> Result<(), Error> {
        let (engine, name) = (self.engine.clone(), container.clone());
        self.engine.finish(async move { engine.start_container(&name).await }).await
    }

    async fn stop_container(&self, container: &ContainerRef, grace: Duration) -> Result<(), Error> {
        self.engine.stop_container(container, grace).await
    }

    async fn remove_container(&self, container: &ContainerRef) -> Result<(), Error> {
        let (engine, name) = (self.engine.clone(), container.clone());
        self.engine.finish(async move { engine.remove_container(&name).await }).await
    }

    async fn exec(&self, container: &ContainerRef, request: &ExecRequest) -> Result<Session, Error> {
        exec::exec(&self.engine, container, request).await
    }

    async fn attach(&self, container: &ContainerRef, stdin: bool) -> Result<Session, Error> {
        streams::attach(&self.engine, container, stdin).await
    }

    async fn connect(&self, pod_uid: &str, port: u16) -> Result<Box<dyn Connection>, Error> {
        let found = self.engine.find_sandbox(pod_uid).await?;
        if !found.sandbox.ready {
            return Err(failed(format!("connect to port {port}"))("the pod's sandbox is not ready"));
        }
        connect::connect(found.sandbox.network_namespace, port).await
    }

    async fn update_container(&self, container: &ContainerRef, resources: &Resources) -> Result<(), Error> {
        let (engine, name, resources) = (self.engine.clone(), container.clone(), *resources);
        self.engine.finish(async move { engine.update_container(&name, &resources).await }).await
    }

    async fn update_sandbox(&self, pod_uid: &str, resources: &Resources) -> Result<(), Error> {
        let (engine, uid, resources) = (self.engine.clone(), pod_uid.to_owned(), *resources);
        self.engine.finish(async move { engine.update_sandbox(&uid, &resources).await }).await
    }

    async fn usage(&self, container: &ContainerRef) -> Result<Usage, Error> {
        let found = self.engine.running("measure", container).await?;
        self.engine.usage(&found.container).await
    }
}
