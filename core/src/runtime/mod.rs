//! The container runtime: sandboxes, containers, images and streams, in the shape of Kubernetes' CRI.
//!
//! # Contract
//!
//! 1. **State is the runtime's.** [`Runtime::list`] tells everything that exists, also after the caller restarted.
//!    Sandboxes and containers outlive the object that implements this trait and the process that holds it.
//! 2. **Idempotent endings.** Stopping what is stopped and removing what is gone succeed.
//! 3. **Names are the caller's.** A sandbox is known by its pod's uid, a container by its pod's uid, its name and its
//!    attempt. Creating one that exists is [`Error::AlreadyExists`], so a caller that crashed in between finds it.
//! 4. **States only go forward**: created, running, exited, gone. A container that exited keeps its exit code and logs
//!    until it is removed.
//! 5. **Dropped futures.** An operation whose future was dropped may have happened, wholly or not at all as far as
//!    `list` shows; doing it again is safe.
//! 6. **Events are hints.** [`Runtime::events`] says that something changed soon after it did; after a gap
//!    ([`Event::Resync`]) or a reconnect the caller lists.
//! 7. **A process has somebody who wants it.** What [`Runtime::exec`] started is killed with all of its session when its
//!    [`Session`] is dropped, or whoever held it dies. A container waits for nobody who is attached to it.

mod image_name;

pub use image_name::ImageName;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::Sink;
use futures::stream::BoxStream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::connection::Connection;

/// The identity of a pod on a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PodRef {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub name: String,
    /// Uid of the pod: what tells it from a later pod of the same name.
    pub uid: String,
}

impl fmt::Display for PodRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A container of a pod; `attempt` counts its restarts from 0.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ContainerRef {
    /// Uid of the pod.
    pub pod_uid: String,
    /// Name of the container in the pod's spec.
    pub name: String,
    /// How many containers of this name the pod had before.
    pub attempt: u32,
}

impl fmt::Display for ContainerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}#{}", self.pod_uid, self.name, self.attempt)
    }
}

/// Which of the node's namespaces a pod uses instead of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HostNamespaces {
    /// The node's network.
    pub network: bool,
    /// The node's process ids.
    pub pid: bool,
    /// The node's IPC.
    pub ipc: bool,
}

/// What a pod's containers share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SandboxConfig {
    /// The pod.
    pub pod: PodRef,
    /// Host name inside the pod.
    pub hostname: String,
    /// Namespaces taken from the node.
    pub host: HostNamespaces,
    /// Whether containers of the pod see each other's processes.
    pub share_process_namespace: bool,
    /// Directory for the pod's logs; a container's is `<name>/<attempt>.log` in it, in CRI's format.
    pub log_directory: PathBuf,
    /// How much of a container's log is kept.
    #[serde(default)]
    pub log_limits: LogLimits,
    /// Limits of the whole pod.
    pub resources: Resources,
    /// Kernel parameters by name.
    pub sysctls: BTreeMap<String, String>,
    /// Labels kept with the sandbox.
    pub labels: BTreeMap<String, String>,
    /// Annotations kept with the sandbox: the caller's notes, returned by `list`.
    pub annotations: BTreeMap<String, String>,
}

/// How much of a container's log is kept: a log that would grow beyond its size becomes `<attempt>.log.1`, what was that
/// `<attempt>.log.2`, and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLimits {
    /// Most bytes of a file; 0 for no limit.
    pub max_bytes: u64,
    /// Most files, the one that is written included; at least 2.
    pub max_files: u32,
}

impl Default for LogLimits {
    /// Upstream's: 10 MiB, 5 files.
    fn default() -> Self {
        Self { max_bytes: 10 << 20, max_files: 5 }
    }
}

/// Limits and shares of CPU and memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Resources {
    /// CPU share in thousandths of a core that was asked for; 0 for the least.
    pub cpu_request_milli: u64,
    /// Most CPU in thousandths of a core; `None` for no limit.
    pub cpu_limit_milli: Option<u64>,
    /// Most memory in bytes; `None` for no limit.
    pub memory_limit: Option<u64>,
    /// How readily the kernel kills this container when memory is short, -1000 to 1000.
    pub oom_score_adj: i32,
}

/// How a mount made on one side appears on the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Propagation {
    /// Not at all.
    #[default]
    Private,
    /// The node's mounts appear in the container.
    HostToContainer,
    /// Both ways.
    Bidirectional,
}

/// A directory or file of the node inside a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Path on the node.
    pub source: PathBuf,
    /// Path in the container.
    pub target: PathBuf,
    /// Whether writes are refused.
    pub read_only: bool,
    /// Whether they are also refused in what is mounted below; needs [`Capabilities::recursive_read_only`].
    #[serde(default)]
    pub recursive_read_only: bool,
    /// Propagation of mounts below.
    pub propagation: Propagation,
}

/// A device of the node inside a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Path on the node.
    pub source: PathBuf,
    /// Path in the container.
    pub target: PathBuf,
    /// Any of `r`, `w`, `m`.
    pub permissions: String,
}

/// Which system calls a container may make.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Seccomp {
    /// Those that the runtime holds for harmless.
    #[default]
    RuntimeDefault,
    /// All.
    Unconfined,
    /// Those that this file of the node allows, in the OCI runtimes' JSON.
    Localhost(PathBuf),
}

/// Who a container runs as and what it may do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Security {
    /// User id; `None` for the image's.
    pub user: Option<i64>,
    /// Group id; `None` for the image's.
    pub group: Option<i64>,
    /// Further groups.
    pub supplemental_groups: Vec<i64>,
    /// Whether the groups that the image's `/etc/group` gives its user are left out.
    #[serde(default)]
    pub strict_groups: bool,
    /// Capabilities added to the default set, without `CAP_`.
    pub add_capabilities: Vec<String>,
    /// Capabilities taken from the default set, without `CAP_`; `ALL` for all.
    pub drop_capabilities: Vec<String>,
    /// All capabilities and devices.
    pub privileged: bool,
    /// Whether the root file system is read-only.
    pub read_only_root: bool,
    /// Whether a process may not gain privileges.
    pub no_new_privileges: bool,
    /// Its filter of system calls; one that is privileged has none.
    #[serde(default)]
    pub seccomp: Seccomp,
    /// Whether all of `/proc` can be seen and written.
    #[serde(default)]
    pub unmasked_proc: bool,
}

/// All that a container is made from. Values are final: variables are expanded, volumes are on the node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerConfig {
    /// The container.
    pub container: ContainerRef,
    /// The image as [`Images::resolve`] returned it.
    pub image: ImageId,
    /// The image as the pod's spec names it.
    pub image_name: String,
    /// Replaces the image's entry point if not empty.
    pub command: Vec<String>,
    /// Replaces the image's arguments if not empty, or if `command` is not.
    pub args: Vec<String>,
    /// Working directory; empty for the image's.
    pub working_dir: String,
    /// Environment, over the image's, in order.
    pub env: Vec<(String, String)>,
    /// Mounts.
    pub mounts: Vec<Mount>,
    /// Devices.
    pub devices: Vec<Device>,
    /// Limits.
    pub resources: Resources,
    /// Identity and rights.
    pub security: Security,
    /// A running container of the pod whose processes this one shares; `None` for what the sandbox says.
    #[serde(default)]
    pub process_namespace_of: Option<ContainerRef>,
    /// Whether standard input stays open for [`Runtime::attach`].
    pub stdin: bool,
    /// Whether standard input is closed after the first attach ends.
    pub stdin_once: bool,
    /// Whether the container has a terminal.
    pub tty: bool,
    /// Signal that asks the container to stop; empty for the image's, else SIGTERM.
    pub stop_signal: String,
    /// File in the container whose content explains its end.
    pub termination_message_path: String,
    /// Labels kept with the container.
    pub labels: BTreeMap<String, String>,
    /// Annotations kept with the container: the caller's notes, returned by `list`.
    pub annotations: BTreeMap<String, String>,
}

/// Where a container is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    /// Made, not started.
    Created,
    /// Running.
    Running {
        /// Since when.
        started_at: Timestamp,
        /// Process id on the node; 0 where there is none.
        pid: u32,
    },
    /// Ended.
    Exited {
        /// When it was started; `None` if it never was.
        started_at: Option<Timestamp>,
        /// When it ended.
        finished_at: Timestamp,
        /// Exit code; 128 + signal for one killed by a signal.
        code: i32,
        /// The signal that killed it, or 0.
        signal: i32,
        /// Whether the kernel killed it for want of memory.
        oom_killed: bool,
        /// Why it could not be run, or what its termination message file said; may be empty.
        message: String,
    },
}

/// A container that exists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Container {
    /// Which.
    pub container: ContainerRef,
    /// The runtime's own id, such as `longshore://3f…` without the scheme.
    pub id: String,
    /// Its state.
    pub state: ContainerState,
    /// When it was made.
    pub created_at: Timestamp,
    /// The image's id.
    pub image: ImageId,
    /// The image as the pod's spec named it.
    pub image_name: String,
    /// Its limits, as given last.
    #[serde(default)]
    pub resources: Resources,
    /// As given at creation.
    pub labels: BTreeMap<String, String>,
    /// As given at creation.
    pub annotations: BTreeMap<String, String>,
    /// The container's log on the node.
    pub log_path: PathBuf,
}

/// A sandbox that exists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sandbox {
    /// The pod.
    pub pod: PodRef,
    /// The runtime's own id.
    pub id: String,
    /// Whether containers can run in it. A sandbox that lost its shim or namespaces is not ready and must be remade.
    pub ready: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// The pod's network namespace; `None` with the node's network or where there is none.
    pub network_namespace: Option<PathBuf>,
    /// As given at creation.
    pub labels: BTreeMap<String, String>,
    /// As given at creation.
    pub annotations: BTreeMap<String, String>,
    /// Its containers of every attempt not yet removed.
    pub containers: Vec<Container>,
}

/// Something changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A container changed its state.
    Container(ContainerRef),
    /// A sandbox appeared, broke or went.
    Sandbox {
        /// Uid of the pod.
        pod_uid: String,
    },
    /// Events may have been lost: list.
    Resync,
}

/// What a caller sends to a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Bytes for standard input. Closing the sink closes standard input.
    Data(Bytes),
    /// The terminal's new size in characters.
    Resize {
        /// Columns.
        width: u16,
        /// Rows.
        height: u16,
    },
}

/// What a process sends back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Bytes of standard output.
    Stdout(Bytes),
    /// Bytes of standard error.
    Stderr(Bytes),
    /// The process ended with this code; nothing follows.
    Exit(i32),
}

/// A process that streams. Dropping the output kills an exec'd process and its session, and detaches from a container's own.
pub struct Session {
    /// To the process; `None` if no input was asked for or none can be given.
    pub input: Option<Pin<Box<dyn Sink<Input, Error = Error> + Send>>>,
    /// From the process; ends with [`Output::Exit`].
    pub output: BoxStream<'static, Result<Output, Error>>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("input", &self.input.is_some()).finish_non_exhaustive()
    }
}

/// A process to run inside a container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExecRequest {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Whether to open standard input.
    pub stdin: bool,
    /// Whether to run it on a terminal; standard error then arrives as output.
    pub tty: bool,
}

/// What a container or pod uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time used so far.
    pub cpu_time: Duration,
    /// Bytes of memory in use without caches that can be dropped.
    pub memory_working_set: u64,
}

/// The id of an image's content: `sha256:…` of its configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ImageId(pub String);

/// An image that is on the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Its id.
    pub id: ImageId,
    /// Names with tags, such as `docker.io/library/web:1`.
    pub tags: Vec<String>,
    /// Names with digests.
    pub digests: Vec<String>,
    /// Bytes on disk.
    pub size: u64,
    /// User that the image asks for; empty for root.
    pub user: String,
    /// Whether it could not be had again, as no registry gave it: it is not removed to free the disk.
    pub pinned: bool,
}

/// The disk that holds a node's images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageDisk {
    /// Bytes that it has.
    pub capacity: u64,
    /// Bytes of them that are free.
    pub available: u64,
}

/// How to log in to a registry. What is secret of it is not in its `Debug` form.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// No login.
    Anonymous,
    /// User and password.
    Basic {
        /// User.
        user: String,
        /// Password.
        password: String,
    },
    /// A token of the registry's.
    Token(String),
    /// What the registry's token service gives tokens for: OAuth 2's refresh token, docker's `identitytoken`.
    IdentityToken(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("Anonymous"),
            Self::Basic { user, .. } => f.debug_struct("Basic").field("user", user).finish_non_exhaustive(),
            Self::Token(_) => f.write_str("Token(..)"),
            Self::IdentityToken(_) => f.write_str("IdentityToken(..)"),
        }
    }
}

/// What a runtime can do beyond the basics.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// Exec, attach and connections into pods work.
    pub streams: bool,
    /// Images can be pulled from registries.
    pub pull: bool,
    /// Containers are real processes on this node, so that probes, volumes and a pod network make sense.
    pub real: bool,
    /// Mounts can be read-only with all that is mounted below them.
    pub recursive_read_only: bool,
}

/// Who the runtime is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Name, the scheme of container ids in pod status.
    pub name: String,
    /// Version.
    pub version: String,
    /// Abilities.
    pub capabilities: Capabilities,
}

/// What can go wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such thing.
    #[error("{what} does not exist")]
    NotFound {
        /// Sandbox, container or image, with its name.
        what: String,
    },
    /// It is there already.
    #[error("{what} exists already")]
    AlreadyExists {
        /// Sandbox or container, with its name.
        what: String,
    },
    /// The operation does not fit the state, such as starting a container that exited.
    #[error("cannot {operation} {what}: it is {state}")]
    WrongState {
        /// What was tried.
        operation: String,
        /// On what.
        what: String,
        /// The state it is in.
        state: String,
    },
    /// The configuration cannot be run: the caller must change it.
    #[error("invalid configuration: {reason}")]
    Invalid {
        /// What is wrong and what to do.
        reason: String,
    },
    /// The image is not on the node or cannot be had.
    #[error("image {image}: {reason}")]
    Image {
        /// The image's name.
        image: String,
        /// What happened.
        reason: String,
    },
    /// The runtime does not offer this; see [`Capabilities`].
    #[error("the {runtime} runtime does not support {what}")]
    Unsupported {
        /// The runtime's name.
        runtime: String,
        /// What was asked for.
        what: String,
    },
    /// Something failed that may work another time.
    #[error("{operation} failed: {reason}")]
    Failed {
        /// What was tried, on what.
        operation: String,
        /// What happened.
        reason: String,
    },
}

/// Images on the node. See the [module's contract](self).
#[async_trait]
pub trait Images: fmt::Debug + Send + Sync + 'static {
    /// The image of this name (short names get `docker.io/library/` and `:latest`), if it is on the node.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a malformed name.
    async fn resolve(&self, name: &str) -> Result<Option<Image>, Error>;

    /// Fetches an image from its registry.
    ///
    /// # Errors
    /// [`Error::Image`] with the registry's reason; [`Error::Unsupported`] without [`Capabilities::pull`].
    async fn pull(&self, name: &str, credentials: &Credentials) -> Result<Image, Error>;

    /// All images on the node.
    ///
    /// # Errors
    /// [`Error::Failed`].
    async fn list(&self) -> Result<Vec<Image>, Error>;

    /// Takes a name away from an image, and the image's content with its last name. An id stands for all its names.
    ///
    /// # Errors
    /// [`Error::WrongState`] if a container uses it.
    async fn remove(&self, name: &str) -> Result<(), Error>;

    /// The disk that holds the images; `None`, the default, where images take no room of this node's.
    ///
    /// # Errors
    /// [`Error::Failed`].
    async fn disk(&self) -> Result<Option<ImageDisk>, Error> {
        Ok(None)
    }
}

/// Runs sandboxes and containers. See the [module's contract](self).
#[async_trait]
pub trait Runtime: fmt::Debug + Send + Sync + 'static {
    /// Who it is and what it can do.
    fn info(&self) -> Info;

    /// The images it runs from.
    fn images(&self) -> &dyn Images;

    /// Everything that exists.
    ///
    /// # Errors
    /// [`Error::Failed`].
    async fn list(&self) -> Result<Vec<Sandbox>, Error>;

    /// The sandbox of a pod with its containers; `None` if there is none. What it costs should not depend on how many others
    /// there are.
    ///
    /// # Errors
    /// [`Error::Failed`].
    async fn sandbox(&self, pod_uid: &str) -> Result<Option<Sandbox>, Error>;

    /// A stream of changes from now on.
    ///
    /// # Errors
    /// [`Error::Failed`].
    async fn events(&self) -> Result<BoxStream<'static, Event>, Error>;

    /// Makes a sandbox: its namespaces, its cgroup and whatever keeps them alive. Its network is for the caller to attach.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`], [`Error::Invalid`], [`Error::Failed`].
    async fn create_sandbox(&self, config: &SandboxConfig) -> Result<Sandbox, Error>;

    /// Kills what runs in a sandbox and removes it with its containers (their logs stay).
    ///
    /// # Errors
    /// [`Error::Failed`]; a sandbox that does not exist is none.
    async fn remove_sandbox(&self, pod_uid: &str) -> Result<(), Error>;

    /// Makes a container in a sandbox.
    ///
    /// # Errors
    /// [`Error::NotFound`] without the sandbox, [`Error::AlreadyExists`], [`Error::Image`], [`Error::Invalid`], [`Error::Failed`].
    async fn create_container(&self, config: &ContainerConfig) -> Result<Container, Error>;

    /// Starts a created container.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::WrongState`]; [`Error::Invalid`] if the program cannot be run, after which the container has
    /// exited (code 127 or 128) with the reason as its message.
    async fn start_container(&self, container: &ContainerRef) -> Result<(), Error>;

    /// Asks a container to stop and kills it when `grace` has passed (at once if zero); returns when it has ended.
    ///
    /// # Errors
    /// [`Error::Failed`]; one that does not exist or has exited is none.
    async fn stop_container(&self, container: &ContainerRef, grace: Duration) -> Result<(), Error>;

    /// Removes a container, killing it if need be. Its log stays.
    ///
    /// # Errors
    /// [`Error::Failed`]; one that does not exist is none.
    async fn remove_container(&self, container: &ContainerRef) -> Result<(), Error>;

    /// Runs a process in a running container.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::WrongState`], [`Error::Unsupported`].
    async fn exec(&self, container: &ContainerRef, request: &ExecRequest) -> Result<Session, Error>;

    /// Connects to a running container's own process: to what it says from now on and, where its configuration has
    /// `stdin` and this asks for it, to its standard input. Several may be connected; one that does not keep up is cut off.
    /// Closing the input closes the container's where its configuration has `stdin_once`, and so does the end of a
    /// session that had asked for input.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::WrongState`], [`Error::Unsupported`].
    async fn attach(&self, container: &ContainerRef, stdin: bool) -> Result<Session, Error>;

    /// Connects to a TCP port on the loopback address of a pod's network, 127.0.0.1 or else `::1`.
    ///
    /// # Errors
    /// [`Error::NotFound`] without the sandbox; [`Error::Unsupported`]; [`Error::Failed`] if nobody listens there.
    async fn connect(&self, pod_uid: &str, port: u16) -> Result<Box<dyn Connection>, Error>;

    /// Changes the limits of a container that runs. One whose memory would be less than what it uses keeps its
    /// limits.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::WrongState`], [`Error::Unsupported`], [`Error::Failed`].
    async fn update_container(&self, container: &ContainerRef, resources: &Resources) -> Result<(), Error> {
        let _ = (container, resources);
        Err(Error::Unsupported { runtime: self.info().name, what: "resizing containers".to_owned() })
    }

    /// Changes the limits of a whole pod.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Unsupported`], [`Error::Failed`].
    async fn update_sandbox(&self, pod_uid: &str, resources: &Resources) -> Result<(), Error> {
        let _ = (pod_uid, resources);
        Err(Error::Unsupported { runtime: self.info().name, what: "resizing pods".to_owned() })
    }

    /// What a container uses now.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::WrongState`].
    async fn usage(&self, container: &ContainerRef) -> Result<Usage, Error>;
}
