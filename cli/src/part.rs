//! `longshore apiserver`, `scheduler`, `controllers`, `node` and `certificate`: one part a process.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use longshore_cluster::remote::{self, AddressRange, Part, Role};
use longshore_cluster::{
    Error, RuntimeKind, SchedulerConfiguration, StoreKind, Unsupported, read_scheduler_configuration,
};

use crate::dns::Dns;
use crate::output::say;
use crate::{Place, signals};

/// Options of `apiserver`.
#[derive(Debug, Args)]
#[command(after_help = "The administrator's kubeconfig is in the directory; `longshore certificate` makes more.")]
pub(crate) struct ApiserverOptions {
    #[command(flatten)]
    place: Place,
    /// Where objects are kept
    #[arg(long, value_name = "memory|embedded", default_value = "embedded")]
    store: StoreKind,
    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:6443")]
    listen: SocketAddr,
    /// Further address by which clients call this server; may be given several times
    #[arg(long = "address", value_name = "ADDRESS")]
    addresses: Vec<IpAddr>,
    /// Addresses of Services
    #[arg(long, value_name = "RANGE", default_value = "10.96.0.0/16")]
    service_range: AddressRange,
    /// What to do about fields that nothing acts on yet and that it would be unsafe to ignore
    #[arg(long, value_name = "refuse|warn", default_value = "refuse")]
    unsupported: Unsupported,
}

/// Options of parts that only need access.
#[derive(Debug, Args)]
pub(crate) struct RemoteOptions {
    /// How to reach the API server
    #[arg(long, value_name = "FILE", env = "KUBECONFIG")]
    kubeconfig: PathBuf,
}

/// Where a part can be asked.
#[derive(Debug, Args)]
struct Listening {
    /// Where to serve /healthz, /livez, /readyz and /metrics over TLS, as Kubernetes does at 0.0.0.0:10257 (controllers) and
    /// 0.0.0.0:10259 (scheduler); needs a certificate of `longshore certificate` for this part [default: nowhere]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
}

/// Options of `controllers`.
#[derive(Debug, Args)]
pub(crate) struct ControllersOptions {
    #[command(flatten)]
    remote: RemoteOptions,
    #[command(flatten)]
    listening: Listening,
}

/// Options of `scheduler`.
#[derive(Debug, Args)]
#[command(after_help = "With --listen, `longshore explain` asks it through the API server.")]
pub(crate) struct SchedulerOptions {
    #[command(flatten)]
    remote: RemoteOptions,
    #[command(flatten)]
    listening: Listening,
    /// Kubernetes' KubeSchedulerConfiguration: profiles, plugins and their arguments
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Options of `node`.
#[derive(Debug, Args)]
pub(crate) struct NodeOptions {
    #[command(flatten)]
    remote: RemoteOptions,
    #[command(flatten)]
    place: Place,
    /// Name of the node, as in its certificate
    #[arg(long)]
    name: String,
    /// Address of the node; may be given several times, the primary first
    #[arg(long = "address", value_name = "ADDRESS", required = true)]
    addresses: Vec<IpAddr>,
    /// Port at which the API server reaches this agent
    #[arg(long, default_value_t = 10250)]
    port: u16,
    /// What runs containers
    #[arg(long, value_name = "oci|simulated", default_value = "oci")]
    runtime: RuntimeKind,
    /// Addresses of this node's pods [default: a range that is free on this machine]
    #[arg(long, value_name = "RANGE")]
    pod_range: Option<String>,
    /// Addresses of Services, as the API server has it
    #[arg(long, value_name = "RANGE", default_value = "10.96.0.0/16")]
    service_range: AddressRange,
    #[command(flatten)]
    dns: Dns,
}

/// Options of `certificate`.
#[derive(Debug, Args)]
pub(crate) struct CertificateOptions {
    #[command(flatten)]
    place: Place,
    /// Where the API server is called [default: where it listens]
    #[arg(long, value_name = "ADDRESS:PORT")]
    server: Option<SocketAddr>,
    #[command(subcommand)]
    role: RoleOptions,
}

#[derive(Debug, Subcommand)]
enum RoleOptions {
    /// For a scheduler
    Scheduler(PartRole),
    /// For the controllers
    Controllers(PartRole),
    /// For a person or a program
    User {
        /// Its name
        name: String,
        /// A group that it belongs to; system:masters may do everything
        #[arg(long = "group", value_name = "GROUP")]
        groups: Vec<String>,
    },
    /// For a node's agent
    Node {
        /// The node's name
        name: String,
        /// An address of the node; may be given several times
        #[arg(long = "address", value_name = "ADDRESS", required = true)]
        addresses: Vec<IpAddr>,
    },
}

#[derive(Debug, Args)]
struct PartRole {
    /// An address at which it listens, beside this machine's loopback; may be given several times
    #[arg(long = "address", value_name = "ADDRESS")]
    addresses: Vec<IpAddr>,
}

/// Runs an API server.
pub(crate) async fn apiserver(options: ApiserverOptions) -> Result<ExitCode, Error> {
    let options = remote::ApiserverOptions {
        data_dir: options.place.directory(),
        store: options.store,
        listen: options.listen,
        addresses: options.addresses,
        service_range: options.service_range,
        unsupported: options.unsupported,
    };
    signals::until_asked(async |cancel| remote::apiserver(options, cancel).await).await.map(|()| ExitCode::SUCCESS)
}

/// Runs a scheduler.
pub(crate) async fn scheduler(options: SchedulerOptions) -> Result<ExitCode, Error> {
    let configuration = scheduler_configuration(options.config.as_deref())?;
    let listen = options.listening.listen;
    let run = async |cancel| remote::scheduler(&options.remote.kubeconfig, configuration, listen, cancel).await;
    signals::until_asked(run).await.map(|()| ExitCode::SUCCESS)
}

/// The configuration in a file; without one, that of Kubernetes' default scheduler, which honours pod groups besides.
pub(crate) fn scheduler_configuration(file: Option<&Path>) -> Result<SchedulerConfiguration, Error> {
    file.map_or_else(|| Ok(SchedulerConfiguration::default().with_gangs()), read_scheduler_configuration)
}

/// Runs the controllers.
pub(crate) async fn controllers(options: ControllersOptions) -> Result<ExitCode, Error> {
    let listen = options.listening.listen;
    let run = async |cancel| remote::controllers(&options.remote.kubeconfig, listen, cancel).await;
    signals::until_asked(run).await.map(|()| ExitCode::SUCCESS)
}

/// Runs a node's agent.
pub(crate) async fn node(options: NodeOptions) -> Result<ExitCode, Error> {
    let options = remote::NodeAloneOptions {
        kubeconfig: options.remote.kubeconfig,
        data_dir: options.place.directory(),
        name: options.name,
        addresses: options.addresses,
        port: options.port,
        runtime: options.runtime,
        pod_range: options.pod_range,
        service_range: options.service_range,
        dns: options.dns.options(),
    };
    signals::until_asked(async |cancel| remote::node(options, cancel).await).await.map(|()| ExitCode::SUCCESS)
}

/// Prints a kubeconfig.
pub(crate) fn certificate(options: CertificateOptions) -> Result<ExitCode, Error> {
    let role = match options.role {
        RoleOptions::Scheduler(role) => Role::Part { part: Part::Scheduler, addresses: role.addresses },
        RoleOptions::Controllers(role) => Role::Part { part: Part::Controllers, addresses: role.addresses },
        RoleOptions::User { name, groups } => Role::User { name, groups },
        RoleOptions::Node { name, addresses } => Role::Node { name, addresses },
    };
    let text = remote::certificate(&options.place.directory(), &role, options.server)?;
    say(text.trim_end());
    Ok(ExitCode::SUCCESS)
}
