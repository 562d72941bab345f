//! The parts one by one, each in a process of its own, with TLS between them.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use longshore_apiserver::ServiceRanges;
use longshore_apiserver::admission::{Unsupported, built_in};
use longshore_apiserver::http::{RemoteNodes, RemoteSchedulers, SchedulerEndpoint, Server};
use longshore_apiserver::pki::request::Validity;
use longshore_apiserver::pki::{Authority, Certified, ServerNames, kubeconfig};
use longshore_apiserver::token::BearerTokens;
use longshore_apiserver::{HttpService, LocalClient, Options as RegistryOptions, Registry};
use longshore_controllers::{NodeMasks, Options as ControllerOptions};
use longshore_core::api::Node;
use longshore_core::client::{Api, Client};
use longshore_core::clock::{Clock, SystemClock};
use longshore_core::leader::LeaderConfig;
use longshore_core::network::Ranges;
use longshore_node::Options as NodeOptions;
use longshore_node::http::{serve, server_config};
use longshore_scheduler::config::Configuration;
use longshore_scheduler::{Options as SchedulerOptions, Scheduler, SchedulerMetrics};
use prometheus_client::registry::Registry as MetricsRegistry;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::cluster_info::ClusterInfo;
use crate::connection::{Connection, connect, learn};
use crate::data_dir::{DataDir, Settings};
use crate::dns::{self, DnsAddress, DnsOptions, Domain};
pub use crate::join::JoinOptions;
use crate::join::control_plane::{self, ControlPlaneJoin};
use crate::join::identity::NodeIdentity;
use crate::join::range::{pod_range, said_before};
pub use crate::leading::LeaderOptions;
use crate::leading::{self, LEASES};
use crate::local::{NetworkOptions, RuntimeKind, failed, token_issuer};
use crate::process::ProcessMetrics;
use crate::ranges::{RangeOptions, check_family, parsed};
pub use crate::serving::Part;
use crate::signing::{self, SigningOptions};
use crate::store::{self, EtcdAccess, StoreKind};
use crate::upkeep::Upkeep;
use crate::{Error, Offer, machine, random, serving};

/// Addresses of Services where neither the options nor the cluster say.
const SERVICE_RANGE: &str = "10.96.0.0/16";

/// An API server alone.
#[derive(Debug)]
pub struct ApiserverOptions {
    /// Where it keeps objects and certificates.
    pub data_dir: DataDir,
    /// Where objects are kept.
    pub store: Option<StoreKind>,
    /// How it is reached if it is an etcd.
    pub etcd: EtcdAccess,
    /// How it becomes part of a control plane that others began, unless it is; `None` to begin one.
    pub join: Option<ControlPlaneJoin>,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Further addresses by which it is called, for its certificate.
    pub addresses: Vec<IpAddr>,
    /// Addresses of Services: a range, or one of each family, the primary first.
    pub service_range: ServiceRanges,
    /// Domain of the cluster's names; `None` for what was recorded, else `cluster.local`.
    pub cluster_domain: Option<Domain>,
    /// Where pods find the cluster's DNS.
    pub cluster_dns: DnsAddress,
    /// What is done about fields that nothing acts on yet and that it would be unsafe to ignore.
    pub unsupported: Unsupported,
    /// How long certificates of nodes that join are valid; `None` for a year.
    pub certificate_life: Option<Duration>,
}

/// Runs an API server until cancelled. The administrator's kubeconfig is written to the directory.
///
/// # Errors
/// Says what is missing or taken, and what to do about it.
pub async fn apiserver(options: ApiserverOptions, cancel: CancellationToken) -> Result<(), Error> {
    let directory = &options.data_dir;
    let _lock = directory.lock()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let mut settings = match directory.settings()? {
        Some(settings) => match &options.store {
            Some(asked) if !asked.continues(&settings.store) => {
                let (directory, asked) = (directory.path().into(), asked.to_string());
                return Err(Error::OtherSettings { directory, option: "store", recorded: settings.store, asked });
            }
            Some(asked) => Settings { store: asked.to_string(), ..settings },
            None => settings,
        },
        None => {
            let instance = random::instance().map_err(failed("randomness"))?;
            let store = options.store.as_ref().unwrap_or(&StoreKind::Embedded);
            Settings::new(instance, &store.to_string(), "none", 0)
        }
    };
    let opened = store::open(&settings, directory, &options.etcd).await?;
    let mut service_range = options.service_range;
    if let Some(join) = &options.join {
        control_plane::join(join, directory, &mut settings, opened.store(), &clock).await?;
        service_range = settings.service_range.parse().map_err(failed("service range"))?;
    }
    settings.service_range = service_range.to_string();
    check_family(machine::called(options.listen).ip(), &service_range)?;
    let authority = Arc::new(authority(directory, &clock)?);
    if let Some(domain) = &options.cluster_domain {
        settings.cluster_domain = domain.to_string();
    }
    let seed = random::seed().map_err(failed("randomness"))?;
    let mut registry_options = RegistryOptions::new(seed);
    registry_options.service_addresses = service_range;
    registry_options.admission = built_in(options.unsupported);
    registry_options.tokens = Some(Arc::new(token_issuer(directory, &settings)?));
    let registry =
        Registry::start(opened.store(), clock.clone(), registry_options).await.map_err(failed("registry"))?;
    let local: Arc<dyn Client> = Arc::new(LocalClient::new(registry.clone(), "apiserver"));
    let dns = DnsOptions { address: options.cluster_dns, ..DnsOptions::default() };
    let dns = match dns::publish(&local, &dns, &service_range.primary()).await {
        Ok(address) => address.map_or(DnsAddress::None, DnsAddress::At),
        Err(error) if options.cluster_dns == DnsAddress::Tenth => {
            // Nodes serve names all the same.
            tracing::warn!(%error, "there is no Service for the cluster's DNS");
            DnsAddress::Tenth
        }
        Err(error) => return Err(error),
    };
    let caller = authority.issue_client("kube-apiserver", &["system:masters"]).map_err(failed("certificates"))?;
    let tls = authority.client_tls(Some(&caller)).map_err(failed("certificates"))?;
    let schedulers = RemoteSchedulers::new(local.clone(), tls.clone());
    let mut metrics = MetricsRegistry::default();
    metrics.register_collector(Box::new(ProcessMetrics));
    let service = HttpService::new(registry.clone())
        .with_nodes(Arc::new(RemoteNodes::new(local.clone(), tls)))
        .with_explainer(Arc::new(schedulers))
        .with_metrics(Arc::new(metrics));
    let mut addresses = machine::addresses_of(options.listen.ip());
    addresses.extend(&options.addresses);
    addresses.push(service_range.primary().at(1));
    let names = ServerNames::apiserver(addresses);
    let certified = authority.issue_server("kube-apiserver", &names).map_err(failed("certificates"))?;
    let tls = authority.server_tls(&certified).map_err(failed("certificates"))?;
    let server = Server::bind(options.listen, tls, opened.kept(service)).await.map_err(failed("API server"))?;
    let server = server.with_tokens(Arc::new(BearerTokens::new(registry.clone())));
    settings.address = server.local_addr();
    let called = machine::called(settings.address);
    if !settings.is_shared() {
        registry.advertise(called).await.map_err(failed("API server"))?;
    }
    let info = ClusterInfo {
        server: format!("https://{called}"),
        servers: Vec::new(),
        authority: authority.certificate().to_owned(),
        service_range: settings.service_range.clone(),
        domain: settings.cluster_domain.clone(),
        dns,
    };
    info.publish(local.clone()).await.map_err(failed("API server"))?;
    directory.record(&settings)?;
    let text = role_kubeconfig(&authority, called, &Role::User { name: "admin".into(), groups: vec![ADMINS.into()] })?;
    directory.write("kubeconfig", text.as_bytes())?;
    tracing::info!(address = %settings.address, kubeconfig = %directory.kubeconfig().display(), "serving");
    let signing = SigningOptions::new(options.certificate_life, names.addresses);
    let signing = signing::manager(local, authority, clock, signing, seed.wrapping_add(1));
    let staying = async {
        if settings.is_shared() {
            registry.stay_advertised(called, cancel.clone()).await;
        }
    };
    tokio::join!(server.serve(cancel.clone()), signing.run(cancel.clone()), staying);
    registry.stop().await;
    opened.close().await;
    Ok(())
}

/// The group that may do everything.
const ADMINS: &str = "system:masters";

/// Whom a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// A person or program.
    User {
        /// Its name.
        name: String,
        /// The groups that it belongs to.
        groups: Vec<String>,
    },
    /// A scheduler or the controllers, which can serve with the same certificate.
    Part {
        /// Which.
        part: Part,
        /// Addresses by which people and Prometheus call it, beside this machine's loopback.
        addresses: Vec<IpAddr>,
    },
    /// A node's agent, which serves with the same certificate.
    Node {
        /// The node's name.
        name: String,
        /// The node's addresses.
        addresses: Vec<IpAddr>,
    },
}

/// A kubeconfig with a new certificate, for the API server of a directory at `server` (by default where it listens).
///
/// # Errors
/// [`Error::NoCluster`] if no API server was ever started there; [`Error::Part`] if a name cannot stand in a certificate.
pub fn certificate(directory: &DataDir, role: &Role, server: Option<SocketAddr>) -> Result<String, Error> {
    let settings = directory.settings()?.ok_or_else(|| Error::NoCluster { directory: directory.path().into() })?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let server = server.unwrap_or_else(|| machine::called(settings.address));
    role_kubeconfig(&authority(directory, &clock)?, server, role)
}

fn authority(directory: &DataDir, clock: &Arc<dyn Clock>) -> Result<Authority, Error> {
    Authority::open(&directory.join("pki"), clock.clone()).map_err(failed("certificates"))
}

fn role_kubeconfig(authority: &Authority, server: SocketAddr, role: &Role) -> Result<String, Error> {
    let certified = match role {
        Role::User { name, groups } => {
            authority.issue_client(name, &groups.iter().map(String::as_str).collect::<Vec<_>>())
        }
        Role::Part { part, addresses } => authority.issue_part(&part.user(), &[], &part.names(addresses)),
        Role::Node { name, addresses } => authority.issue_node(name, addresses.iter().copied()),
    };
    let certified = certified.map_err(failed("certificates"))?;
    Ok(kubeconfig("longshore", &format!("https://{server}"), authority, &certified))
}

/// A scheduler alone.
#[derive(Debug)]
pub struct SchedulerAloneOptions {
    /// How to reach the API server.
    pub kubeconfig: PathBuf,
    /// Further API servers, beside the kubeconfig's: URLs, or addresses and ports.
    pub servers: Vec<String>,
    /// How pods are placed.
    pub configuration: Configuration,
    /// Where it serves `/healthz`, `/livez`, `/readyz`, `/metrics`, `/explain/{namespace}/{pod}` and `/decisions`; while it leads
    /// the API server finds it there by its lease, and passes `pods/explain` on to it. `None` for nowhere.
    pub listen: Option<SocketAddr>,
    /// How patiently a leader is elected, where it is not as the configuration says.
    pub leader: LeaderOptions,
}

/// Runs a scheduler while it leads, until cancelled.
///
/// # Errors
/// [`Error::File`] if the kubeconfig cannot be used; [`Error::Part`] if it has no certificate to serve with, or the port is taken.
pub async fn scheduler(options: SchedulerAloneOptions, cancel: CancellationToken) -> Result<(), Error> {
    let SchedulerAloneOptions { kubeconfig, servers, configuration, listen, leader } = options;
    let connection = connect(&kubeconfig, &servers)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let seed = random::seed().map_err(failed("randomness"))?;
    let identity = identity(seed)?;
    let leader = configuration.leader(&identity).map(|config| leader.apply(config)).transpose()?;
    let mut options = SchedulerOptions { seed, leader, ..configuration.options() };
    let Some(listen) = listen else {
        let scheduler =
            Scheduler::new(connection.client.clone(), clock.clone(), options).map_err(failed("scheduler"))?;
        tokio::join!(scheduler.run(cancel.clone()), learn_for(&connection, &*clock, &cancel));
        return Ok(());
    };
    let server = serving::bind(Part::Scheduler, listen, &connection, clock.clone()).await?;
    if let Some(leader) = &mut options.leader {
        let profiles = options.profiles.iter().map(|profile| profile.name().to_owned()).collect();
        let address = serving::reachable(server.local_addr(), &connection);
        let endpoint = SchedulerEndpoint { identity, address, profiles };
        leader.annotations.insert(SchedulerEndpoint::ANNOTATION.to_owned(), endpoint.annotation());
    } else {
        tracing::warn!("no election, so no lease tells the API server where this scheduler explains pods");
    }
    let mut metrics = MetricsRegistry::default();
    options.metrics.get_or_insert_with(SchedulerMetrics::default).register(&mut metrics);
    let scheduler = Scheduler::new(connection.client.clone(), clock.clone(), options).map_err(failed("scheduler"))?;
    let server = server.with_service(serving::scheduler(metrics, scheduler.handle()));
    let learning = learn_for(&connection, &*clock, &cancel);
    tokio::join!(scheduler.run(cancel.clone()), server.serve(cancel.clone()), learning);
    Ok(())
}

/// Learns of further API servers while a part runs.
async fn learn_for(connection: &Connection, clock: &dyn Clock, cancel: &CancellationToken) {
    let known = connection.urls().into_iter().next().unwrap_or_default();
    let add = |url| {
        if let Err(error) = connection.servers.add(&url) {
            tracing::warn!(server = %url, %error, "cannot use an API server");
        }
    };
    learn(&connection.client, clock, &known, cancel, add).await;
}

/// The controllers alone.
#[derive(Debug)]
pub struct ControllersAloneOptions {
    /// How to reach the API server.
    pub kubeconfig: PathBuf,
    /// Further API servers, beside the kubeconfig's: URLs, or addresses and ports.
    pub servers: Vec<String>,
    /// Where they serve `/healthz`, `/livez`, `/readyz` and `/metrics`; `None` for nowhere.
    pub listen: Option<SocketAddr>,
    /// Addresses of which every node gets a range for its pods, unless it brings one.
    pub cluster_range: Ranges,
    /// Addresses of Services, which no node gets.
    pub service_range: Option<Ranges>,
    /// How long a node may be silent before it counts as lost.
    pub node_monitor_grace_period: Duration,
    /// How patiently a leader is elected.
    pub leader: LeaderOptions,
}

/// Runs the controllers while they lead, until cancelled.
///
/// # Errors
/// [`Error::File`] if the kubeconfig cannot be used; [`Error::Part`] if it has no certificate to serve with, or the port is taken.
pub async fn controllers(options: ControllersAloneOptions, cancel: CancellationToken) -> Result<(), Error> {
    NodeMasks::default().check(&options.cluster_range).map_err(failed("--cluster-cidr"))?;
    let connection = connect(&options.kubeconfig, &options.servers)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let seed = random::seed().map_err(failed("randomness"))?;
    let leader = options.leader.apply(LeaderConfig::new(LEASES, leading::CONTROLLERS, &identity(seed)?))?;
    let led = ControllerOptions {
        root_ca: Some(connection.root_ca.clone()),
        seed,
        cluster_cidr: Some(options.cluster_range),
        service_cidr: options.service_range,
        node_monitor_grace_period: options.node_monitor_grace_period,
        ..ControllerOptions::default()
    };
    let server = match options.listen {
        Some(listen) => Some(serving::bind(Part::Controllers, listen, &connection, clock.clone()).await?),
        None => None,
    };
    let serve = async {
        let Some(server) = server else { return };
        let mut registry = MetricsRegistry::default();
        led.metrics.register(&mut registry);
        server.with_service(serving::controllers(registry)).serve(cancel.clone()).await;
    };
    let client = connection.client.clone();
    let work = leading::controllers(client, clock.clone(), &led, Some(leader), cancel.clone());
    tokio::join!(work, serve, learn_for(&connection, &*clock, &cancel));
    Ok(())
}

/// What tells this process from other candidates.
fn identity(seed: u64) -> Result<String, Error> {
    Ok(format!("{}_{seed:016x}", machine::host_name()?))
}

/// How a node's agent is known to the cluster.
#[derive(Debug)]
pub enum NodeAccess {
    /// By a kubeconfig with the node's certificate, as [`certificate`] makes it.
    Kubeconfig(PathBuf),
    /// By what an earlier start wrote into the node's directory; if there is nothing, or it has run out, as these options say.
    Joined(Option<JoinOptions>),
}

/// A node's agent alone.
#[derive(Debug)]
pub struct NodeAloneOptions {
    /// How it is known.
    pub access: NodeAccess,
    /// Further API servers, beside those that it knows: URLs, or addresses and ports.
    pub servers: Vec<String>,
    /// Where the node keeps everything.
    pub data_dir: DataDir,
    /// Name of the node; `None` for that of its certificate, or of this machine if it has none yet.
    pub name: Option<String>,
    /// Addresses of the node, the primary first; none for the one that faces the API server.
    pub addresses: Vec<IpAddr>,
    /// Port at which the API server reaches the agent.
    pub port: u16,
    /// What runs containers.
    pub runtime: RuntimeKind,
    /// Where the Docker Engine is, as in `DOCKER_HOST`; `None` for what was recorded, else its usual socket.
    pub docker_host: Option<String>,
    /// How its pods are connected.
    pub network: NetworkOptions,
    /// Addresses of this node's pods; `None` for those that the cluster gives it, or, with a kubeconfig, for a range that is free on
    /// this machine.
    pub pod_range: Option<Ranges>,
    /// Addresses of Services; `None` for what the cluster says.
    pub service_range: Option<ServiceRanges>,
    /// How names are resolved; the same for all nodes of a cluster.
    pub dns: DnsOptions,
    /// How long the node may be silent before others hold it for lost; it is heard of four times in it.
    pub lease_duration: Duration,
    /// What the node offers beyond what its machine tells.
    pub offer: Offer,
    /// How the node keeps house.
    pub upkeep: Upkeep,
}

/// Who the node of a process is.
enum Known {
    Fixed(Connection),
    Joined(Box<NodeIdentity>),
}

/// Runs a node's agent until cancelled; its pods go on.
///
/// # Errors
/// [`Error::Join`] if it is not, and cannot become, a node of the cluster; others say what is missing or taken, and what to do about
/// it.
pub async fn node(options: NodeAloneOptions, cancel: CancellationToken) -> Result<(), Error> {
    crate::requirements::check(options.runtime.as_str(), false)?;
    let directory = &options.data_dir;
    let _lock = directory.lock()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let seed = random::seed().map_err(failed("randomness"))?;
    let mut settings = match directory.settings()? {
        Some(settings) => {
            if let Some(asked) = options.network.kind.filter(|asked| asked.as_str() != settings.network) {
                let (recorded, asked) = (settings.network, asked.to_string());
                return Err(Error::OtherSettings {
                    directory: directory.path().into(),
                    option: "network",
                    recorded,
                    asked,
                });
            }
            settings
        }
        None => {
            let instance = random::instance().map_err(failed("randomness"))?;
            Settings::new(instance, "none", options.runtime.as_str(), 1)
        }
    };
    if settings.runtime != options.runtime.as_str() {
        // The other would never find the pods that run.
        let (recorded, asked) = (settings.runtime, options.runtime.to_string());
        return Err(Error::OtherSettings { directory: directory.path().into(), option: "runtime", recorded, asked });
    }
    options.network.settle(&mut settings)?;
    if options.docker_host.is_some() {
        settings.docker_host.clone_from(&options.docker_host);
    }
    let (name, known, addresses) = match &options.access {
        NodeAccess::Kubeconfig(path) => {
            let connection = connect(path, &options.servers)?;
            let name = options.name.clone().map_or_else(machine::host_name, Ok)?;
            let addresses = own_addresses(&options, &connection);
            (name, Known::Fixed(connection), addresses)
        }
        NodeAccess::Joined(join) => {
            let connection = joined(&options, join.as_ref(), &*clock).await?;
            let addresses = own_addresses(&options, &connection);
            let identity = NodeIdentity::open(directory, &addresses, &options.servers, clock.clone(), seed).await?;
            (identity.node().to_owned(), Known::Joined(Box::new(identity)), addresses)
        }
    };
    let client = match &known {
        Known::Fixed(connection) => connection.client.clone(),
        Known::Joined(identity) => identity.client(),
    };
    if let Some(range) = &options.pod_range {
        settings.pod_range = range.to_string();
    } else if let Known::Joined(_) = known {
        let api: Api<Node> = Api::all(client.clone());
        settings.pod_range = pod_range(&api, &name, &settings.pod_range, &*clock).await?;
    }
    // Of as many families as Services have, as far as that is known before the cluster is asked.
    let ranges = RangeOptions { services: options.service_range, ..RangeOptions::default() };
    ranges.choose(&mut settings).await?;
    let dns = in_common(&options, &client, &mut settings).await?;
    let [pods, services] = [&settings.pod_range, &settings.service_range].map(|text| parsed("range", text));
    if let (Ok(pods), Ok(services)) = (pods, services)
        && services.is_dual()
        && !pods.is_dual()
    {
        tracing::warn!(%pods, %services, "Services have addresses of both families, this node's pods of one: see --pod-range");
    }
    directory.record(&settings)?;
    let address = SocketAddr::new(addresses.first().copied().unwrap_or([0, 0, 0, 0].into()), options.port);
    let listener = TcpListener::bind(address).await;
    let listener = listener.map_err(|error| failed("node")(format!("cannot listen at {address}: {error}")))?;
    let mut node = NodeOptions::new(&name, directory.join("node"), seed);
    node.addresses = addresses;
    node.port = options.port;
    node.lease_duration = options.lease_duration;
    node.lease_interval = options.lease_duration / 4;
    options.offer.apply(&mut node);
    options.upkeep.apply(&mut node)?;
    let agent = match options.runtime {
        RuntimeKind::Oci | RuntimeKind::Docker => {
            let services: ServiceRanges = settings.service_range.parse().map_err(failed("service range"))?;
            let dns = dns.address(&services.primary()).map(|address| (&dns, address));
            machine::real(client, directory, &settings, &clock, node, dns, false).await?
        }
        RuntimeKind::Simulated => machine::hollow(client, parsed("podRange", &settings.pod_range)?, &clock, node),
    };
    let tls = match &known {
        Known::Fixed(connection) => serving(&connection.root_ca, &connection.certified),
        Known::Joined(identity) => identity.server_tls(),
    };
    let tls = tls.map_err(failed("certificates"))?;
    tracing::info!(node = name, %address, "running");
    let service = agent.service();
    let renewing = async {
        match &known {
            Known::Joined(identity) => identity.run(&cancel).await,
            Known::Fixed(connection) => learn_for(connection, &*clock, &cancel).await,
        }
    };
    tokio::join!(agent.run(cancel.clone()), serve(listener, tls, service, cancel.clone()), renewing);
    Ok(())
}

/// Settles what all nodes of a cluster have in common, the options before what the cluster says, and returns how names are resolved.
async fn in_common(
    options: &NodeAloneOptions,
    client: &Arc<dyn Client>,
    settings: &mut Settings,
) -> Result<DnsOptions, Error> {
    match ClusterInfo::fetch(client.clone()).await {
        Ok(info) => {
            let said = |text: Option<&String>| text.filter(|text| !text.is_empty()).cloned();
            settings.service_range =
                said(info.as_ref().map(|info| &info.service_range)).unwrap_or_else(|| SERVICE_RANGE.to_owned());
            if let Some(domain) = said(info.as_ref().map(|info| &info.domain)) {
                settings.cluster_domain = domain;
            }
            settings.cluster_dns = info.map(|info| info.dns.to_string()).unwrap_or_default();
        }
        Err(_) if options.service_range.is_some() => {}
        Err(error) => drop(said_before(error, &settings.service_range).map_err(failed("node"))?),
    }
    if let Some(range) = options.service_range {
        settings.service_range = range.to_string();
    }
    if let Some(domain) = &options.dns.domain {
        settings.cluster_domain = domain.to_string();
    }
    let mut dns = options.dns.clone();
    if dns.address == DnsAddress::Tenth {
        dns.address = settings.cluster_dns.parse().unwrap_or_default();
    } else {
        settings.cluster_dns = dns.address.to_string();
    }
    Ok(dns)
}

/// The addresses that a node is given, else the one that faces its API server.
fn own_addresses(options: &NodeAloneOptions, connection: &Connection) -> Vec<IpAddr> {
    if !options.addresses.is_empty() {
        return options.addresses.clone();
    }
    vec![serving::reachable(SocketAddr::from(([0, 0, 0, 0], 0)), connection).ip()]
}

/// Access to the cluster that the node of a directory belongs to, or joins now.
async fn joined(
    options: &NodeAloneOptions,
    join: Option<&JoinOptions>,
    clock: &dyn Clock,
) -> Result<Connection, Error> {
    let (directory, path) = (&options.data_dir, options.data_dir.kubeconfig());
    let new = "`longshore token create` where the API server runs prints the command to join";
    let mut why = format!("the node in {} belongs to no cluster yet", directory.path().display());
    if path.exists() {
        let connection = connect(&path, &options.servers)?;
        let unusable = |reason: String| Error::File { tried: "use the kubeconfig", path: path.clone(), reason };
        let validity = Validity::of(&connection.certified.certificate).map_err(|error| unusable(error.to_string()))?;
        let own = validity.node().unwrap_or_default();
        if let Some(asked) = options.name.as_deref().filter(|asked| *asked != own) {
            return Err(Error::Join {
                what: format!("the node in {} joined as {own:?}, not {asked:?}", directory.path().display()),
                remedy: "leave --name out, or choose another --data-dir".to_owned(),
            });
        }
        if validity.until > clock.now() {
            return Ok(connection);
        }
        why = format!("the certificate of node {own:?} ran out at {}", validity.until);
    }
    match join {
        Some(join) if join.token.is_some() || join.token_file.is_some() => {
            let name = options.name.clone().map_or_else(machine::host_name, Ok)?;
            crate::join::join(join, &name, directory, clock).await?;
            connect(&path, &options.servers)
        }
        _ => Err(Error::Join { what: why, remedy: new.to_owned() }),
    }
}

/// How a node serves with the certificate of its kubeconfig; who calls must show one of the same authority.
fn serving(root_ca: &str, certified: &Certified) -> Result<Arc<rustls::ServerConfig>, String> {
    let read = |what: &str, error: rustls_pki_types::pem::Error| format!("the kubeconfig's {what}: {error}");
    let chain = CertificateDer::from_pem_slice(certified.certificate.as_bytes());
    let chain = chain.map_err(|error| read("client certificate", error))?;
    let key = PrivateKeyDer::from_pem_slice(certified.key.as_bytes()).map_err(|error| read("client key", error))?;
    let authority = CertificateDer::from_pem_slice(root_ca.as_bytes());
    let authority = authority.map_err(|error| read("certificate authority", error))?;
    server_config(vec![chain], key, authority).map(Arc::new).map_err(|error| error.to_string())
}
