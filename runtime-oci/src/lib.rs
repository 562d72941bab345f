//! Containers run by an OCI runtime (runc, crun), one shim process a pod.
//!
//! [`OciRuntime`] needs root, overlayfs and `runc` or `crun`. All that it makes on the host (control groups, mounts,
//! network namespaces, processes) is below one control group `longshore-<instance>` and one state directory, where it is
//! recorded before it is made; [`OciRuntime::clean_up`] removes it all.
//!
//! The program that uses this crate must hand `argv[1] == "shim"` to [`shim::main`] before anything else.

mod archive;
mod bundle;
mod cgroup;
mod connect;
mod devices;
mod disk;
mod events;
mod exec;
mod host;
mod images;
mod lifecycle;
mod manifest;
mod propagation;
mod pull;
mod seccomp;
mod session;
pub mod shim;
mod terminal;
mod unpack;
mod users;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use longshore_core::clock::Clock;
use longshore_core::connection::Connection;
use longshore_core::runtime::{
    Capabilities, Container, ContainerConfig, ContainerRef, Credentials, Error, Event, ExecRequest, Image, Images,
    Info, Resources, Runtime, Sandbox, SandboxConfig, Session, Usage,
};

use disk::failed;
use host::Host;
pub use images::ImageFile;
use images::{LocalImages, Store};
use pull::Puller;
pub use pull::{PullProgress, Registry};

const NAME: &str = "longshore";

/// Where an [`OciRuntime`] keeps its things and what it runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Directory of the images; on a file system that can be overlayfs' lower directory.
    pub root: PathBuf,
    /// Directory of sandboxes and containers.
    pub state: PathBuf,
    /// What tells this installation from others on the host: letters, digits and `-`.
    pub instance: String,
    /// The OCI runtime; `None` for the first of `runc` and `crun` on `PATH`.
    pub program: Option<PathBuf>,
    /// The program that handles `shim` as its first argument; usually this one.
    pub shim: PathBuf,
    /// How to reach registries, by host (with its port, if an image's name has one). Those that are not here are
    /// reached by TLS with the system's certificates, those on the loopback device without TLS.
    pub registries: BTreeMap<String, Registry>,
}

/// Runs containers by an OCI runtime. Opening it again finds everything that ran.
#[derive(Debug)]
pub struct OciRuntime {
    host: Arc<Host>,
    images: LocalImages,
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::Failed { operation: "run a step".to_owned(), reason: error.to_string() }))
}

/// As [`blocking`], for work on files.
pub(crate) async fn blocking_io<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

impl OciRuntime {
    /// Opens the runtime.
    ///
    /// # Errors
    /// [`Error::Invalid`] if this is not root, there is no OCI runtime or the instance's name is malformed;
    /// [`Error::Failed`] if the directories cannot be made.
    pub fn open(options: Options, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let invalid = |reason: &str| Error::Invalid { reason: reason.to_owned() };
        disk::check_name("instance", &options.instance)?;
        if !nix::unistd::geteuid().is_root() {
            return Err(invalid("running containers needs root: run it with sudo, or choose the simulated runtime"));
        }
        let program = match &options.program {
            Some(program) => program.clone(),
            None => on_path(&["runc", "crun"]).ok_or_else(|| {
                invalid("neither runc nor crun is on PATH: install one of them (apt-get install runc)")
            })?,
        };
        let images = Arc::new(Store::open(options.root.clone())?);
        let puller = Arc::new(Puller::new(images.clone(), clock.clone(), options.registries.clone()));
        let recursive_read_only = has_recursive_read_only(&program);
        let host = Arc::new(Host {
            options,
            program,
            recursive_read_only,
            clock,
            images: images.clone(),
            pods: Mutex::default(),
            shims: Mutex::default(),
        });
        let sandboxes = host.sandboxes();
        for directory in [&host.events(), &host.runtime_root(), &sandboxes] {
            std::fs::create_dir_all(directory).map_err(failed(format!("create {}", directory.display())))?;
        }
        host.remove_half_made()?;
        Ok(Self { host, images: LocalImages { store: images, puller, sandboxes } })
    }

    /// Imports a `docker save` archive or an OCI layout (a directory or a tar file, also compressed).
    ///
    /// # Errors
    /// [`Error::Image`] saying what is wrong with it.
    pub async fn import(&self, path: &Path) -> Result<Vec<Image>, Error> {
        let (store, path) = (self.host.images.clone(), path.to_owned());
        blocking(move || store.import(&path)).await
    }

    /// Pulls an image as [`Images::pull`] does, and tells how far it is.
    ///
    /// # Errors
    /// [`Error::Image`] with the registry's reason.
    pub async fn pull(
        &self,
        name: &str,
        credentials: &Credentials,
        progress: impl Fn(PullProgress) + Send + Sync,
    ) -> Result<Image, Error> {
        self.images.puller.pull_reporting(name, credentials, &progress).await
    }

    /// Makes an image of files of this machine, without a registry.
    ///
    /// # Errors
    /// [`Error::Image`] if a file cannot be read or the name is malformed.
    pub async fn build_image(
        &self,
        name: &str,
        files: Vec<ImageFile>,
        entrypoint: Vec<String>,
    ) -> Result<Image, Error> {
        let (store, name) = (self.host.images.clone(), name.to_owned());
        blocking(move || store.build(&name, &files, &entrypoint)).await
    }

    /// Ends every sandbox and removes whatever the runtime made on the host, save images and logs.
    ///
    /// # Errors
    /// [`Error::Failed`] naming what is left; doing it again is safe.
    pub async fn clean_up(&self) -> Result<(), Error> {
        self.with(Host::clean_up).await
    }

    /// Waits until a container does not run any more.
    async fn ended(&self, container: &ContainerRef) -> Result<(), Error> {
        let directory = self.host.sandbox_directory(&container.pod_uid);
        loop {
            let name = container.clone();
            let record = match self.with(move |host| host.running("stop", &name)).await {
                Ok(record) => record,
                Err(Error::WrongState { .. } | Error::NotFound { .. }) => return Ok(()),
                Err(error) => return Err(error),
            };
            if shim::until_ended(&directory, &record.id).await.is_err() {
                // Its shim is about to end or to begin.
                self.host.clock.sleep(Duration::from_millis(20)).await;
            }
        }
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Host) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let host = self.host.clone();
        blocking(move || work(&host)).await
    }
}

fn on_path(programs: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let directories: Vec<PathBuf> =
        std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]).collect();
    let candidates =
        programs.iter().flat_map(|program| directories.iter().map(move |directory| directory.join(program)));
    candidates.into_iter().find(|path| path.is_file())
}

/// Whether an OCI runtime can make mounts read-only with all that is below, which it tells itself, on a kernel that can
/// (Linux 5.12).
fn has_recursive_read_only(program: &Path) -> bool {
    let features = std::process::Command::new(program).arg("features").output();
    let features = features.map(|output| serde_json::from_slice(&output.stdout).unwrap_or_default());
    let features: serde_json::Value = features.unwrap_or_default();
    let tells = features["mountOptions"].as_array().is_some_and(|options| options.iter().any(|option| option == "rro"));
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    tells && (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (5, 12)
}

#[async_trait]
impl Runtime for OciRuntime {
    fn info(&self) -> Info {
        Info {
            name: NAME.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            capabilities: Capabilities {
                streams: true,
                pull: true,
                real: true,
                recursive_read_only: self.host.recursive_read_only,
            },
        }
    }

    fn images(&self) -> &dyn Images {
        &self.images
    }

    async fn list(&self) -> Result<Vec<Sandbox>, Error> {
        self.with(|host| host.list().map_err(failed("list sandboxes"))).await
    }

    async fn sandbox(&self, pod_uid: &str) -> Result<Option<Sandbox>, Error> {
        disk::check_name("pod uid", pod_uid)?;
        let directory = self.host.sandbox_directory(pod_uid);
        self.with(move |host| host.look(&directory).map_err(failed("look at a sandbox"))).await
    }

    async fn events(&self) -> Result<BoxStream<'static, Event>, Error> {
        events::stream(&self.host).map_err(failed("watch for events"))
    }

    async fn create_sandbox(&self, config: &SandboxConfig) -> Result<Sandbox, Error> {
        let config = config.clone();
        self.with(move |host| host.create_sandbox(&config)).await
    }

    async fn remove_sandbox(&self, pod_uid: &str) -> Result<(), Error> {
        let uid = pod_uid.to_owned();
        self.with(move |host| host.remove_sandbox(&uid)).await
    }

    async fn create_container(&self, config: &ContainerConfig) -> Result<Container, Error> {
        let config = config.clone();
        self.with(move |host| host.create_container(&config)).await
    }

    async fn start_container(&self, container: &ContainerRef) -> Result<(), Error> {
        let container = container.clone();
        self.with(move |host| host.start_container(&container)).await
    }

    async fn stop_container(&self, container: &ContainerRef, grace: Duration) -> Result<(), Error> {
        /// A killed process that is not gone by then hangs in the kernel.
        const KILL_MAX: Duration = Duration::from_secs(10);
        let steps = [(false, grace), (true, KILL_MAX)];
        for (kill, patience) in steps.into_iter().skip(usize::from(grace.is_zero())) {
            let name = container.clone();
            if !self.with(move |host| host.signal(&name, kill)).await? {
                return Ok(());
            }
            tokio::select! {
                biased;
                ended = self.ended(container) => return ended,
                () = self.host.clock.sleep(patience) => {}
            }
        }
        Err(Error::Failed {
            operation: format!("stop container {container}"),
            reason: "its process does not end".to_owned(),
        })
    }

    async fn remove_container(&self, container: &ContainerRef) -> Result<(), Error> {
        let container = container.clone();
        self.with(move |host| host.remove_container(&container)).await
    }

    async fn exec(&self, container: &ContainerRef, request: &ExecRequest) -> Result<Session, Error> {
        let name = container.clone();
        let record = self.with(move |host| host.running("exec in", &name)).await?;
        exec::exec(&self.host, container, &record.id, request).await
    }

    async fn attach(&self, container: &ContainerRef, stdin: bool) -> Result<Session, Error> {
        let name = container.clone();
        let record = self.with(move |host| host.running("attach to", &name)).await?;
        let options = exec::Attach { stdin: stdin && record.config.stdin, tty: record.config.tty };
        exec::attach(&self.host, container, &record.id, options).await
    }

    async fn connect(&self, pod_uid: &str, port: u16) -> Result<Box<dyn Connection>, Error> {
        let uid = pod_uid.to_owned();
        let (directory, record) = self.with(move |host| host.find_sandbox(&uid)).await?;
        let network = (!record.config.host.network).then(|| directory.join("netns"));
        connect::connect(network, port).await
    }

    async fn update_container(&self, container: &ContainerRef, resources: &Resources) -> Result<(), Error> {
        let (container, resources) = (container.clone(), *resources);
        self.with(move |host| host.update_container(&container, &resources)).await
    }

    async fn update_sandbox(&self, pod_uid: &str, resources: &Resources) -> Result<(), Error> {
        let (uid, resources) = (pod_uid.to_owned(), *resources);
        self.with(move |host| host.update_sandbox(&uid, &resources)).await
    }

    async fn usage(&self, container: &ContainerRef) -> Result<Usage, Error> {
        let container = container.clone();
        self.with(move |host| host.usage(&container)).await
    }
}
