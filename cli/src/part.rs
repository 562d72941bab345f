//! `longshore apiserver`, `scheduler`, `controllers`, `node` and `certificate`: one part a process.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use longshore_cluster::remote::{self, JoinOptions, NodeAccess, Part, Role, ServiceRanges};
use longshore_cluster::tokens::BootstrapToken;
use longshore_cluster::{
    ControlPlaneJoin, ControlPlaneToken, Error, LeaderOptions, RuntimeKind, SchedulerConfiguration, StoreKind,
    Unsupported, read_scheduler_configuration,
};
use longshore_core::go_duration;
use longshore_core::network::Ranges;

use crate::device_plugin::OfferOptions;
use crate::dns::{ClusterNames, Dns};
use crate::network::Network;
use crate::output::say;
use crate::store::{CompactionOptions, EtcdOptions};
use crate::upkeep::UpkeepOptions;
use crate::{Place, signals};

/// Options of `apiserver`.
#[derive(Debug, Args)]
#[command(after_help = "The administrator's kubeconfig is in the directory; `longshore certificate` makes more.")]
pub(crate) struct ApiserverOptions {
    #[command(flatten)]
    place: Place,
    /// Where objects are kept [default: what the directory says, or embedded]
    #[arg(long, value_name = "memory|embedded|etcd=URL,URL...")]
    store: Option<StoreKind>,
    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:6443")]
    listen: SocketAddr,
    /// Further address by which clients call this server; may be given several times
    #[arg(long = "address", value_name = "ADDRESS")]
    addresses: Vec<IpAddr>,
    /// Addresses of Services: a range, or one of each family as in 10.96.0.0/16,fd00:2::/112; the first is that of Services which do not
    /// ask for another
    #[arg(long, value_name = "RANGE[,RANGE]", default_value = "10.96.0.0/16")]
    service_range: ServiceRanges,
    #[command(flatten)]
    names: ClusterNames,
    /// What to do about fields that nothing acts on yet and that it would be unsafe to ignore
    #[arg(long, value_name = "refuse|warn", default_value = "refuse")]
    unsupported: Unsupported,
    #[command(flatten)]
    signing: SigningOptions,
    #[command(flatten)]
    joining: ControlPlaneOptions,
    #[command(flatten)]
    etcd: EtcdOptions,
    #[command(flatten)]
    compaction: CompactionOptions,
}

/// How a machine becomes part of a control plane.
#[derive(Debug, Args)]
pub(crate) struct ControlPlaneOptions {
    /// Be one more control plane over the etcd of --store: takes the cluster's authority by a token of `longshore token create
    /// --control-plane`, unless this directory has it already
    #[arg(long, requires = "store")]
    join: bool,
    /// That token; other users of this machine can see it: --token-file and the variable are better there
    #[arg(long, env = "LONGSHORE_CONTROL_PLANE_TOKEN", hide_env_values = true, conflicts_with = "token_file")]
    token: Option<ControlPlaneToken>,
    /// File that holds the token
    #[arg(long, value_name = "FILE", requires = "join")]
    token_file: Option<PathBuf>,
}

impl ControlPlaneOptions {
    pub(crate) fn join(self) -> Option<ControlPlaneJoin> {
        let Self { join, token, token_file } = self;
        join.then_some(ControlPlaneJoin { token, token_file })
    }
}

/// How patiently a leader is elected.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct ElectionOptions {
    /// How long others wait after the last renewal of a leader's lease that they saw, in whole seconds [default: 15s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    leader_elect_lease_duration: Option<Duration>,
    /// How long a leader tries to renew its lease before it gives up [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    leader_elect_renew_deadline: Option<Duration>,
    /// Time between attempts to take or renew the lease [default: 2s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    leader_elect_retry_period: Option<Duration>,
}

impl ElectionOptions {
    pub(crate) fn leader(self) -> LeaderOptions {
        LeaderOptions {
            lease_duration: self.leader_elect_lease_duration,
            renew_deadline: self.leader_elect_renew_deadline,
            retry_period: self.leader_elect_retry_period,
        }
    }
}

/// How nodes get certificates.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct SigningOptions {
    /// How long certificates of nodes that join are valid, such as 720h; they are renewed in time
    #[arg(long, value_name = "DURATION", default_value = "8760h", value_parser = duration)]
    cluster_signing_duration: Duration,
}

impl SigningOptions {
    pub(crate) fn life(self) -> Option<Duration> {
        Some(self.cluster_signing_duration)
    }
}

/// When nodes are given up.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct MonitorOptions {
    /// How long a node may be silent before it counts as lost
    #[arg(long, value_name = "DURATION", default_value = "40s", value_parser = duration)]
    pub(crate) node_monitor_grace_period: Duration,
}

/// Reads a duration as Kubernetes' programs write them: 24h, 1m30s.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let nanoseconds = go_duration::parse(text)?;
    match u64::try_from(nanoseconds) {
        Ok(nanoseconds) if nanoseconds > 0 => Ok(Duration::from_nanos(nanoseconds)),
        _ => Err("it must be longer than 0".to_owned()),
    }
}

/// Options of parts that only need access.
#[derive(Debug, Args)]
pub(crate) struct RemoteOptions {
    /// How to reach the API server
    #[arg(long, value_name = "FILE", env = "KUBECONFIG")]
    kubeconfig: PathBuf,
    /// Further API server, beside the kubeconfig's and those that the cluster tells of; may be given several times
    #[arg(long = "server", value_name = "URL", value_delimiter = ',')]
    servers: Vec<String>,
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
    /// Addresses of which nodes get ranges for their pods, those that bring none: a range, or one of each family as in
    /// 10.244.0.0/16,fd00:1::/56, the primary first; a node gets a /24 of IPv4, a /64 of IPv6
    #[arg(long, value_name = "RANGE[,RANGE]", default_value = "10.244.0.0/16")]
    cluster_cidr: Ranges,
    /// Addresses of Services, as the API server has it: no node gets them
    #[arg(long, value_name = "RANGE[,RANGE]", default_value = "10.96.0.0/16")]
    service_range: Ranges,
    #[command(flatten)]
    monitor: MonitorOptions,
    #[command(flatten)]
    election: ElectionOptions,
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
    #[command(flatten)]
    election: ElectionOptions,
}

/// Where a Docker Engine is.
#[derive(Debug, Args)]
pub(crate) struct DockerOptions {
    /// Socket of the Docker Engine on this machine, for --runtime docker [default: unix:///var/run/docker.sock]
    #[arg(long = "docker-socket", value_name = "unix:///PATH", env = "DOCKER_HOST", hide_env_values = true)]
    pub(crate) socket: Option<String>,
}

/// Options of `node`.
#[derive(Debug, Args)]
#[command(
    after_help = "`longshore token create` prints the command that joins a machine. It is needed once: later starts know the \
                        cluster by the node's own certificate, which is renewed while it runs."
)]
pub(crate) struct NodeOptions {
    /// Join the cluster of this API server, unless this node has joined already; may be given several times: the agent goes over
    /// from one that does not answer to the next, also to those that the cluster tells of
    #[arg(long = "server", value_name = "URL", value_delimiter = ',')]
    servers: Vec<String>,
    /// Token of `longshore token create`; other users of this machine can see it: --token-file and the variable are better there
    #[arg(long, env = "LONGSHORE_TOKEN", hide_env_values = true, conflicts_with = "token_file")]
    token: Option<BootstrapToken>,
    /// File that holds the token
    #[arg(long, value_name = "FILE", requires = "servers")]
    token_file: Option<PathBuf>,
    /// Hash of the key of the cluster's authority, sha256:…, by which the API server is known
    #[arg(long, value_name = "HASH", requires = "servers")]
    ca_hash: Option<String>,
    /// Do not join, but be known by a kubeconfig of `longshore certificate node`
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
    /// Name of the node, as in its certificate [default: this machine's]
    #[arg(long)]
    name: Option<String>,
    /// Address of the node; may be given several times, the primary first [default: the one that faces the API server, and where pods
    /// have both families the one of the other by which this machine reaches others]
    #[arg(long = "address", value_name = "ADDRESS")]
    addresses: Vec<IpAddr>,
    /// Port at which the API server reaches this agent
    #[arg(long, default_value_t = 10250)]
    port: u16,
    /// What runs containers
    #[arg(long, value_name = "oci|docker|simulated", default_value = "oci")]
    runtime: RuntimeKind,
    #[command(flatten)]
    docker: DockerOptions,
    /// Addresses of this node's pods: a range, or one of each family, the primary first [default: what the cluster gives it; with
    /// --kubeconfig what is free on this machine, of the families of --service-range]
    #[arg(long, value_name = "RANGE[,RANGE]")]
    pod_range: Option<Ranges>,
    /// Addresses of Services: a range, or one of each family [default: what the cluster says]
    #[arg(long, value_name = "RANGE[,RANGE]")]
    service_range: Option<ServiceRanges>,
    #[command(flatten)]
    network: Network,
    #[command(flatten)]
    dns: Dns,
    /// How long this node may be silent before others hold it for lost; it is heard of four times in it
    #[arg(long, value_name = "DURATION", default_value = "40s", value_parser = duration)]
    node_lease_duration: Duration,
    #[command(flatten)]
    offer: OfferOptions,
    #[command(flatten)]
    upkeep: UpkeepOptions,
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
        etcd: options.etcd.access(Some(options.compaction))?,
        listen: options.listen,
        addresses: options.addresses,
        service_range: options.service_range,
        cluster_domain: options.names.cluster_domain,
        cluster_dns: options.names.cluster_dns,
        unsupported: options.unsupported,
        certificate_life: options.signing.life(),
        join: options.joining.join(),
    };
    signals::until_asked(async |cancel| remote::apiserver(options, cancel).await).await.map(|()| ExitCode::SUCCESS)
}

/// Runs a scheduler.
pub(crate) async fn scheduler(options: SchedulerOptions) -> Result<ExitCode, Error> {
    let configuration = scheduler_configuration(options.config.as_deref())?;
    let options = remote::SchedulerAloneOptions {
        kubeconfig: options.remote.kubeconfig,
        servers: options.remote.servers,
        configuration,
        listen: options.listening.listen,
        leader: options.election.leader(),
    };
    signals::until_asked(async |cancel| remote::scheduler(options, cancel).await).await.map(|()| ExitCode::SUCCESS)
}

/// The configuration in a file; without one, that of Kubernetes' default scheduler, which honours pod groups and shared devices besides.
pub(crate) fn scheduler_configuration(file: Option<&Path>) -> Result<SchedulerConfiguration, Error> {
    file.map_or_else(|| Ok(SchedulerConfiguration::default().with_gangs().with_devices()), read_scheduler_configuration)
}

/// Runs the controllers.
pub(crate) async fn controllers(options: ControllersOptions) -> Result<ExitCode, Error> {
    let options = remote::ControllersAloneOptions {
        kubeconfig: options.remote.kubeconfig,
        servers: options.remote.servers,
        leader: options.election.leader(),
        listen: options.listening.listen,
        cluster_range: options.cluster_cidr,
        service_range: Some(options.service_range),
        node_monitor_grace_period: options.monitor.node_monitor_grace_period,
    };
    signals::until_asked(async |cancel| remote::controllers(options, cancel).await).await.map(|()| ExitCode::SUCCESS)
}

/// Runs a node's agent.
pub(crate) async fn node(options: NodeOptions) -> Result<ExitCode, Error> {
    let (token, token_file, ca_hash) = (options.token, options.token_file, options.ca_hash);
    let servers = options.servers;
    let join = (!servers.is_empty()).then(|| JoinOptions { servers: servers.clone(), token, token_file, ca_hash });
    let options = remote::NodeAloneOptions {
        access: options.kubeconfig.map_or(NodeAccess::Joined(join), NodeAccess::Kubeconfig),
        servers,
        data_dir: options.place.directory(),
        name: options.name,
        addresses: options.addresses,
        port: options.port,
        runtime: options.runtime,
        docker_host: options.docker.socket,
        network: options.network.options(),
        pod_range: options.pod_range,
        service_range: options.service_range,
        lease_duration: options.node_lease_duration,
        dns: options.dns.options(),
        offer: options.offer.offer(),
        upkeep: options.upkeep.upkeep(),
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
