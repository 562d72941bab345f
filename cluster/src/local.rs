//! A cluster on this machine, in this process: what `longshore up` runs.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use longshore_apiserver::ServiceRanges;
use longshore_apiserver::admission::Unsupported;
use longshore_apiserver::http::{RemoteNodes, Server};
use longshore_apiserver::pki::{Authority, ServerNames, kubeconfig, open_token_key};
use longshore_apiserver::token::{BearerTokens, TokenIssuer};
use longshore_core::api::{Node, Service};
use longshore_core::client::Client;
use longshore_core::clock::{Clock, SystemClock};
use longshore_core::kind::{DynObject, KindType};
#[cfg(doc)]
use longshore_network::cni;
use longshore_scheduler::config::Configuration;
use tokio_util::sync::CancellationToken;

use crate::cluster_info::ClusterInfo;
use crate::control_plane::{ControlPlane, ControlPlaneOptions};
use crate::data_dir::{DataDir, Lock, Settings};
use crate::dns::{self, DnsAddress, DnsOptions};
use crate::join::control_plane::{self, ControlPlaneJoin};
use crate::leading::LeaderOptions;
use crate::machine;
use crate::manifests::{self, Entry};
use crate::parts::Parts;
use crate::progress::{Observer, Progress};
use crate::ranges::{RangeOptions, check_family};
use crate::signing::{self, SigningOptions};
use crate::store::{self, EtcdAccess, Opened, StoreKind};
use crate::upkeep::Upkeep;
use crate::waiting::{self, Awaited};
use crate::{Error, Offer, demo, random, requirements};

/// Where the API listens if nothing else is said: this machine only, at Kubernetes' port.
const DEFAULT_ADDRESS: ([u8; 4], u16) = ([127, 0, 0, 1], 6443);

/// What runs containers where there is no node.
const NOTHING: &str = "none";

/// Declares an option of the command line with a closed set of values.
macro_rules! choice {
    ($(#[$meta:meta])* $name:ident, $option:literal, [$($(#[$doc:meta])* $variant:ident = $text:literal),+ $(,)?]) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$doc])* $variant),+ }

        impl $name {
            /// As it is written on a command line.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(format!(concat!("there is no ", $option, " {:?}; there are: {}"), text, [$($text),+].join(", "))),
                }
            }
        }
    };
}

choice! {
    /// What runs containers.
    RuntimeKind, "runtime", [
        /// Real containers, by runc or crun.
        Oci = "oci",
        /// Real containers, by a Docker Engine on this machine.
        Docker = "docker",
        /// Containers that only pretend; for many nodes on one machine.
        Simulated = "simulated",
    ]
}

choice! {
    /// What connects pods.
    NetworkKind, "network", [
        /// A bridge of Longshore's own.
        Bridge = "bridge",
        /// The CNI plugins of this machine.
        Cni = "cni",
        /// Nothing: every pod uses the node's network. Services are not served, policies not enforced.
        Host = "host",
        /// Nothing: a pod has its loopback alone.
        None = "none",
    ]
}

/// How pods are connected; what is `None` or empty is as recorded, else as usual.
#[derive(Debug, Clone, Default)]
pub struct NetworkOptions {
    /// What connects them; a bridge as usual. Pods that only pretend have no choice.
    pub kind: Option<NetworkKind>,
    /// Where CNI configurations are; [`cni::CONFIGURATION`] as usual.
    pub cni_configuration: Option<PathBuf>,
    /// Where CNI plugins are; [`cni::PLUGINS`] as usual.
    pub cni_plugins: Vec<PathBuf>,
}

impl NetworkOptions {
    /// Records the choice for a node that is made now or was made with these settings.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is nothing to choose.
    pub(crate) fn settle(&self, settings: &mut Settings) -> Result<(), Error> {
        if settings.runtime == RuntimeKind::Simulated.as_str() {
            return match self.kind {
                None => Ok(()),
                Some(kind) => Err(Error::Missing {
                    what: format!(
                        "--network {kind} with --runtime simulated: pods that only pretend are not connected"
                    ),
                    remedy: "leave --network out, or choose another --runtime".to_owned(),
                }),
            };
        }
        if let Some(kind) = self.kind {
            kind.as_str().clone_into(&mut settings.network);
        }
        if self.cni_configuration.is_some() {
            settings.cni_configuration.clone_from(&self.cni_configuration);
        }
        if !self.cni_plugins.is_empty() {
            settings.cni_plugins.clone_from(&self.cni_plugins);
        }
        Ok(())
    }
}

/// What cluster to start.
#[derive(Debug)]
pub struct UpOptions {
    /// Where it keeps everything.
    pub data_dir: DataDir,
    /// Where objects are kept; `None` for what was recorded, else embedded.
    pub store: Option<StoreKind>,
    /// How it is reached if it is an etcd.
    pub etcd: EtcdAccess,
    /// What runs containers; `None` for what was recorded, else real ones.
    pub runtime: Option<RuntimeKind>,
    /// Where the Docker Engine is, as in `DOCKER_HOST`; `None` for what was recorded, else its usual socket.
    pub docker_host: Option<String>,
    /// How pods are connected.
    pub network: NetworkOptions,
    /// Which addresses pods and Services have.
    pub ranges: RangeOptions,
    /// How many nodes; `None` for what was recorded, else one. Over an etcd there may be none: then machines join as nodes.
    pub nodes: Option<u32>,
    /// How this machine becomes part of a control plane that others began, unless it is; `None` to begin one. It runs no node then.
    pub join: Option<ControlPlaneJoin>,
    /// How patiently a leader is elected, over an etcd, among the controllers and schedulers of several control planes.
    pub leader: LeaderOptions,
    /// Where the API listens; port 0 for what was recorded, else a free one.
    pub listen: Option<SocketAddr>,
    /// What is done about fields that nothing acts on yet and that it would be unsafe to ignore.
    pub unsupported: Unsupported,
    /// How pods are placed.
    pub scheduler: Configuration,
    /// How names are resolved; pods that only pretend resolve none.
    pub dns: DnsOptions,
    /// Objects to apply once the API serves.
    pub manifests: Vec<Entry>,
    /// Whether the demonstration's image is to be made.
    pub demo: bool,
    /// How long certificates of nodes that join are valid; `None` for a year.
    pub certificate_life: Option<Duration>,
    /// How long a node may be silent before it counts as lost; `None` for 40 s.
    pub node_monitor_grace_period: Option<Duration>,
    /// What each node offers beyond what its machine tells.
    pub offer: Offer,
    /// How each node keeps house.
    pub upkeep: Upkeep,
}

/// A cluster that runs. Dropping it aborts the control plane; pods go on.
pub struct Cluster {
    settings: Settings,
    clock: Arc<dyn Clock>,
    client: Arc<dyn Client>,
    control: ControlPlane,
    /// The API's port, and the nodes.
    parts: Parts,
    awaited: Vec<Awaited>,
    observer: Observer,
    store: Opened,
    /// Given up last.
    _lock: Lock,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// What makes tokens of service accounts, with the key that all API servers of the cluster share.
pub(crate) fn token_issuer(directory: &DataDir, settings: &Settings) -> Result<TokenIssuer, Error> {
    let key = open_token_key(&directory.join("pki")).map_err(failed("certificates"))?;
    Ok(TokenIssuer::new(key, &settings.cluster_domain))
}

impl Cluster {
    /// Starts the control plane and the nodes, and applies manifests.
    ///
    /// # Errors
    /// Says what is missing or taken, and what to do about it; nothing runs then.
    pub async fn start(options: UpOptions, observer: Observer) -> Result<Self, Error> {
        let directory = options.data_dir.clone();
        // Asked before anything is made, and again when the directory is ours.
        let runtime = settle(&directory, &options)?.runtime;
        if runtime != NOTHING {
            requirements::check(&runtime, options.demo)?;
        }
        let lock = directory.lock()?;
        let mut settings = settle(&directory, &options)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let step = |text: String| observer(Progress::Step(text));

        let opened = store::open(&settings, &directory, &options.etcd).await?;
        step(format!("store: {} in {}", settings.store, directory.path().display()));
        if let Some(join) = &options.join {
            control_plane::join(join, &directory, &mut settings, opened.store(), &clock).await?;
        }
        options.ranges.choose(&mut settings).await?;
        let authority = Authority::open(&directory.join("pki"), clock.clone()).map_err(failed("certificates"))?;
        let authority = Arc::new(authority);

        let services: ServiceRanges = settings.service_range.parse().map_err(failed("service range"))?;
        check_family(machine::called(settings.address).ip(), &services)?;
        let seed = random::seed().map_err(failed("randomness"))?;
        let mut plane = ControlPlaneOptions::new(seed)
            .root_ca(authority.certificate())
            .tokens(token_issuer(&directory, &settings)?)
            .service_ranges(services)
            .node_ranges(settings.cluster_range.parse().ok(), settings.service_range.parse().ok())
            .node_monitor_grace_period(options.node_monitor_grace_period)
            .scheduler_configuration(options.scheduler)
            .unsupported(options.unsupported);
        if settings.is_shared() {
            // The directory is one process's at a time, so who starts again in it is the same candidate.
            let identity = format!("{}_{}", machine::host_name()?, settings.instance);
            plane = plane.elected(&identity, options.leader)?;
        }
        let mut control = ControlPlane::start(opened.store(), clock.clone(), plane).await?;
        let client = control.client("longshore");

        let caller = authority.issue_client("kube-apiserver", &["system:masters"]).map_err(failed("certificates"))?;
        let tls = authority.client_tls(Some(&caller)).map_err(failed("certificates"))?;
        control.reach_other_nodes(RemoteNodes::new(client.clone(), tls));

        let addresses = machine::addresses_of(settings.address.ip()).into_iter().chain([services.primary().at(1)]);
        let names = ServerNames::apiserver(addresses);
        let certified = authority.issue_server("kube-apiserver", &names).map_err(failed("certificates"))?;
        let tls = authority.server_tls(&certified).map_err(failed("certificates"))?;
        let server =
            Server::bind(settings.address, tls, opened.kept(control.service())).await.map_err(failed("API server"))?;
        let server = server.with_tokens(Arc::new(BearerTokens::new(control.registry().clone())));
        settings.address = server.local_addr();
        let called = machine::called(settings.address);
        if !settings.is_shared() {
            control.registry().advertise(called).await.map_err(failed("API server"))?;
        }
        directory.record(&settings)?;
        let address = if runtime == RuntimeKind::Simulated.as_str() {
            None
        } else if options.join.is_some() {
            // As whoever began the cluster has it.
            match settings.cluster_dns.parse() {
                Ok(DnsAddress::At(address)) => Some(address),
                _ => None,
            }
        } else {
            dns::publish(&client, &options.dns, &services.primary()).await?
        };
        let url = format!("https://{called}");
        let info = ClusterInfo {
            server: url.clone(),
            servers: Vec::new(),
            authority: authority.certificate().to_owned(),
            service_range: settings.service_range.clone(),
            domain: settings.cluster_domain.clone(),
            dns: address.map_or(options.dns.address, DnsAddress::At),
        };
        info.publish(client.clone()).await.map_err(failed("API server"))?;
        let admin = authority.issue_client("admin", &["system:masters"]).map_err(failed("certificates"))?;
        directory.write("kubeconfig", kubeconfig("longshore", &url, &authority, &admin).as_bytes())?;
        let mut parts = Parts::default();
        parts.start("API server", |cancel| async move {
            server.serve(cancel).await;
            Ok(())
        });
        if settings.is_shared() {
            let registry = control.registry().clone();
            parts.start("endpoints", |cancel| async move {
                registry.stay_advertised(called, cancel).await;
                Ok(())
            });
        }
        let signing = SigningOptions::new(options.certificate_life, names.addresses);
        let signing = signing::manager(client.clone(), authority, clock.clone(), signing, seed.wrapping_add(3));
        parts.start("certificates", |cancel| async move {
            signing.run(cancel).await;
            Ok(())
        });
        step(format!("API: {url}"));

        let dns = address.map(|address| (&options.dns, address));
        let (seed, demo, lease) = (seed, options.demo, options.node_monitor_grace_period);
        let choices = machine::Choices { seed, demo, lease, dns, offer: &options.offer, upkeep: &options.upkeep };
        let names = if settings.nodes == 0 {
            Vec::new()
        } else {
            machine::start_nodes(&mut control, &directory, &settings, &clock, choices).await?
        };
        let mut awaited: Vec<_> = names.iter().map(|name| Awaited::new(KindType::of::<Node>(), "", name)).collect();
        match settings.nodes {
            0 => step("nodes: those that join".to_owned()),
            nodes => step(format!("nodes: {nodes} ({})", settings.runtime)),
        }

        let applied = manifests::apply(&client, &options.manifests).await?;
        awaited.extend(applied.iter().map(Awaited::of));
        if let Some(url) = applied.iter().find_map(demo_url).filter(|_| options.demo) {
            step(format!("each replica answers with its name: curl {url}"));
        }
        Ok(Self { settings, clock, client, control, parts, awaited, observer, store: opened, _lock: lock })
    }

    /// What the cluster was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// A client of the cluster.
    pub fn client(&self) -> &Arc<dyn Client> {
        &self.client
    }

    /// Waits until all nodes are ready and what was applied is available.
    ///
    /// # Errors
    /// [`Error::NotReady`] after `patience`, or at once if something failed for good; [`Error::Part`] if a part broke.
    pub async fn ready(&mut self, patience: Duration) -> Result<(), Error> {
        let ready = waiting::until_ready(&self.client, &*self.clock, &self.awaited, patience, &self.observer);
        tokio::select! {
            ready = ready => ready,
            error = broken(&mut self.control, &mut self.parts) => Err(error),
        }
    }

    /// Runs until cancelled, then stops the control plane and leaves pods running.
    ///
    /// # Errors
    /// [`Error::Part`] if a part ended by itself.
    pub async fn run(mut self, cancel: CancellationToken) -> Result<(), Error> {
        let ended = tokio::select! {
            () = cancel.cancelled() => Ok(()),
            error = broken(&mut self.control, &mut self.parts) => Err(error),
        };
        self.stop().await;
        ended
    }

    /// Stops the control plane and leaves pods running.
    pub async fn stop(self) {
        self.parts.stop().await;
        self.control.stop().await;
        self.store.close().await;
    }
}

async fn broken(control: &mut ControlPlane, parts: &mut Parts) -> Error {
    let (part, reason) = tokio::select! {
        broken = control.broken() => broken,
        broken = parts.broken() => broken,
    };
    Error::Part { part, reason }
}

/// Where the demonstration answers, if this is its Service.
fn demo_url(object: &DynObject) -> Option<String> {
    let service = object.as_any().downcast_ref::<Service>()?;
    let port = service.spec.ports.first().map(|port| port.node_port).filter(|port| *port > 0)?;
    (service.metadata.name.as_deref() == Some(demo::SERVICE)).then(|| format!("http://127.0.0.1:{port}"))
}

pub(crate) fn failed<E: fmt::Display>(part: &'static str) -> impl Fn(E) -> Error {
    move |error| Error::Part { part, reason: error.to_string() }
}

/// What was recorded, as far as the options do not contradict it; else what the options say.
fn settle(directory: &DataDir, options: &UpOptions) -> Result<Settings, Error> {
    let recorded = directory.settings()?;
    // `DOCKER_HOST` may be set for other programs' sake.
    let asked_host = |runtime: &str| options.docker_host.clone().filter(|_| runtime == RuntimeKind::Docker.as_str());
    let mut settings = match recorded {
        Some(mut settings) => {
            let runtime = options.runtime.map(RuntimeKind::as_str);
            let store = options.store.as_ref().filter(|store| !store.continues(&settings.store));
            let nodes = options.nodes.map(|nodes| nodes.to_string());
            let docker_host =
                |host: Option<String>| host.unwrap_or_else(|| longshore_runtime_docker::DEFAULT_SOCKET.to_owned());
            let domain = options.dns.domain.as_ref().map(ToString::to_string);
            for (option, recorded, asked) in [
                ("store", settings.store.clone(), store.map(StoreKind::to_string)),
                ("runtime", settings.runtime.clone(), runtime.map(str::to_owned)),
                ("network", settings.network.clone(), options.network.kind.map(|kind| kind.to_string())),
                ("nodes", settings.nodes.to_string(), nodes),
                ("docker-socket", docker_host(settings.docker_host.clone()), asked_host(&settings.runtime)),
                ("cluster-domain", settings.cluster_domain.clone(), domain),
            ] {
                if let Some(asked) = asked.filter(|asked| *asked != recorded) {
                    return Err(Error::OtherSettings { directory: directory.path().into(), option, recorded, asked });
                }
            }
            if let Some(store) = &options.store {
                settings.store = store.to_string();
            }
            settings
        }
        None => {
            let store = options.store.as_ref().unwrap_or(&StoreKind::Embedded).to_string();
            let nodes = options.nodes.unwrap_or(u32::from(options.join.is_none()));
            let runtime = options.runtime.unwrap_or(RuntimeKind::Oci).as_str();
            let runtime = if nodes == 0 { NOTHING } else { runtime };
            let instance = random::instance().map_err(failed("randomness"))?;
            let mut settings = Settings::new(instance, &store, runtime, nodes);
            settings.docker_host = asked_host(runtime);
            settings.address = DEFAULT_ADDRESS.into();
            if let Some(domain) = &options.dns.domain {
                settings.cluster_domain = domain.to_string();
            }
            if options.listen.is_some_and(|listen| listen.port() == 0) {
                settings.address.set_port(0);
            }
            settings
        }
    };
    options.network.settle(&mut settings)?;
    options.ranges.check(directory, &settings)?;
    if options.join.is_some() && !settings.is_shared() {
        return Err(Error::Missing {
            what: format!("--join with --store {}: control planes of one cluster share a store", settings.store),
            remedy: "give --store etcd=URL,URL,URL, as `longshore token create --control-plane` prints it".to_owned(),
        });
    }
    if options.join.is_some() && settings.nodes > 0 {
        return Err(Error::Missing {
            what: "--join with --nodes: a control plane that joins runs no node in its process".to_owned(),
            remedy: "leave --nodes out, and make the machine a node with `longshore node`".to_owned(),
        });
    }
    if settings.nodes == 0 && !settings.is_shared() {
        let (what, remedy) = ("a cluster without nodes runs nothing".to_owned(), "use --nodes 1 or more".to_owned());
        return Err(Error::Missing { what, remedy });
    }
    if settings.nodes > 0 && settings.runtime != RuntimeKind::Simulated.as_str() && settings.nodes > 1 {
        let Settings { nodes, runtime, .. } = settings;
        return Err(Error::Missing {
            what: format!("--nodes {nodes} with --runtime {runtime}: a machine is one node of real containers"),
            remedy: "leave --nodes out, or use --runtime simulated".to_owned(),
        });
    }
    if let Some(listen) = options.listen {
        settings.address.set_ip(listen.ip());
        if listen.port() != 0 {
            settings.address.set_port(listen.port());
        }
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(directory: &DataDir) -> UpOptions {
        UpOptions {
            data_dir: directory.clone(),
            store: None,
            etcd: EtcdAccess::default(),
            runtime: None,
            docker_host: None,
            network: NetworkOptions::default(),
            ranges: RangeOptions::default(),
            nodes: None,
            join: None,
            leader: LeaderOptions::default(),
            listen: None,
            scheduler: Configuration::default(),
            dns: DnsOptions::default(),
            unsupported: Unsupported::Refuse,
            manifests: Vec::new(),
            demo: false,
            certificate_life: None,
            node_monitor_grace_period: None,
            offer: Offer::default(),
            upkeep: Upkeep::default(),
        }
    }

    #[test]
    fn what_was_recorded_stays() {
        let temp = tempfile::tempdir().unwrap();
        let directory = DataDir::new(temp.path());
        let simulated = UpOptions { runtime: Some(RuntimeKind::Simulated), nodes: Some(3), ..options(&directory) };
        let mut made = settle(&directory, &simulated).unwrap();
        assert_eq!((made.store.as_str(), made.nodes, made.address.port()), ("embedded", 3, 6443));
        made.address.set_port(7777);
        directory.record(&made).unwrap();
        assert_eq!(settle(&directory, &options(&directory)).unwrap(), made);
        let free = UpOptions { listen: Some("127.0.0.1:0".parse().unwrap()), ..options(&directory) };
        assert_eq!(settle(&directory, &free).unwrap().address.port(), 7777);
        let other = UpOptions { nodes: Some(4), ..options(&directory) };
        let error = settle(&directory, &other).unwrap_err().to_string();
        assert!(error.contains("made with --nodes 3, not 4"), "{error}");
    }

    #[test]
    fn pods_stay_on_the_engine_that_has_them() {
        let temp = tempfile::tempdir().unwrap();
        let directory = DataDir::new(temp.path());
        let at = |host: &str| UpOptions { docker_host: Some(host.to_owned()), ..options(&directory) };
        assert_eq!(settle(&directory, &at("unix:///a")).unwrap().docker_host, None, "runc needs no engine");
        let docker = UpOptions { runtime: Some(RuntimeKind::Docker), ..at("unix:///a") };
        directory.record(&settle(&directory, &docker).unwrap()).unwrap();
        assert_eq!(settle(&directory, &options(&directory)).unwrap().docker_host.as_deref(), Some("unix:///a"));
        assert!(settle(&directory, &at("unix:///a")).is_ok());
        let error = settle(&directory, &at("unix:///b")).unwrap_err().to_string();
        assert!(error.contains("made with --docker-socket unix:///a, not unix:///b"), "{error}");
    }

    #[test]
    fn a_control_plane_without_nodes_is_over_a_store_that_others_reach() {
        let directory = DataDir::new("/no/such/directory");
        let join = Some(ControlPlaneJoin::default());
        let error = |options: UpOptions| settle(&directory, &options).unwrap_err().to_string();
        assert!(error(UpOptions { join: join.clone(), ..options(&directory) }).contains("share a store"));
        let store = Some(StoreKind::Etcd(vec!["http://a:2379".into()]));
        let joined = UpOptions { join: join.clone(), store: store.clone(), ..options(&directory) };
        let settings = settle(&directory, &joined).unwrap();
        assert_eq!((settings.nodes, settings.runtime.as_str()), (0, "none"));
        let both = UpOptions { join, store: store.clone(), nodes: Some(1), ..options(&directory) };
        assert!(error(both).contains("`longshore node`"));
        assert_eq!(settle(&directory, &UpOptions { store, nodes: Some(0), ..options(&directory) }).unwrap().nodes, 0);
    }

    #[test]
    fn a_machine_is_one_node_of_real_containers() {
        let directory = DataDir::new("/no/such/directory");
        let two = UpOptions { nodes: Some(2), ..options(&directory) };
        assert!(settle(&directory, &two).unwrap_err().to_string().contains("--runtime simulated"));
        assert!(settle(&directory, &UpOptions { nodes: Some(0), ..options(&directory) }).is_err());
    }
}
