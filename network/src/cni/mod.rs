//! Pods connected by CNI plugins, of whoever's making, and Services through nftables.
//!
//! An administrator puts a network's configuration into a directory (`/etc/cni/net.d`), as for any Kubernetes node; the first
//! file by name counts. Plugins are run as the CNI specification says, versions 0.3 to 1.1, with `ADD`, `CHECK` and `DEL`; the
//! capability `portMappings` is used where a plugin has it, else ports of the node are opened by our own rules.
//!
//! What was made is recorded with the configuration it was made by, before it is made: it can be removed after that changed.
//! The pod's namespace is kept until then, below the directory of records.
//!
//! # Limits
//!
//! Policies and the way to other nodes' pods are the plugins' business, as with Kubernetes. The node reaches cluster IPs itself
//! only if it has a default route. Between two pods of this node, a Service shows its backend the node's address instead of the
//! caller's: such pods may be on a bridge past which answers would go untranslated. `GC` and `STATUS` of CNI 1.1 are not used.

mod config;
mod namespace;
mod plugin;

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use ipnet::IpNet;
use longshore_core::network::{Attach, Attached, Error, HostPort, Network, Peer, Policy, ServicePort};
use longshore_core::runtime::PodRef;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::bridge::{blocking, check_uid, may_make_interfaces};
use crate::disk;
use crate::family::Family;
use crate::names::Names;
use crate::netlink::{self, failed};
use crate::nft::{self, Node, PodPorts, Table, Way};
use config::List;

/// Where plugins are: their own project's place, and Debian's.
pub const PLUGINS: [&str; 2] = ["/opt/cni/bin", "/usr/lib/cni"];
/// Where configurations are.
pub const CONFIGURATION: &str = "/etc/cni/net.d";

/// What a [`Cni`] is made from.
#[derive(Debug, Clone)]
pub struct Options {
    /// What tells this cluster from others on the machine: letters, digits, `-` and `.`.
    pub instance: String,
    /// Directory of the network's records.
    pub state: PathBuf,
    /// Directory of configurations.
    pub configuration: PathBuf,
    /// Directories of plugins, the first with a plugin of the wanted name counts.
    pub plugins: Vec<PathBuf>,
    /// Addresses of all nodes' pods. Who is not of it gets this node's address when it comes to a Service; if empty, nobody does
    /// who comes to a cluster IP.
    pub cluster: Vec<IpNet>,
    /// Addresses of Services.
    pub services: Vec<IpNet>,
}

/// The pod network of one node, made by CNI plugins. See the [module's documentation](self).
///
/// Opening it again, in this or another process, finds what was attached and served. Clones share it.
#[derive(Debug, Clone)]
pub struct Cni {
    options: Arc<Options>,
    list: Arc<List>,
    state: Arc<Mutex<State>>,
}

/// What is kept of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    pod: PodRef,
    /// What plugins know it by.
    container: String,
    /// Where its network namespace is kept.
    namespace: PathBuf,
    host_ports: Vec<HostPort>,
    list: List,
    plugins: Vec<PathBuf>,
    /// The last plugin's; `None` until all have done their part.
    result: Option<Value>,
}

impl Record {
    fn addresses(&self) -> Vec<IpAddr> {
        let ips = self.result.as_ref().and_then(|result| result.get("ips")).and_then(Value::as_array);
        let address = |ip: &Value| ip.get("address")?.as_str()?.parse::<IpNet>().ok().map(|net| net.addr());
        ips.into_iter().flatten().filter_map(address).collect()
    }

    fn attached(&self) -> Attached {
        Attached { pod: self.pod.clone(), addresses: self.addresses() }
    }
}

#[derive(Debug, Default)]
struct State {
    /// By uid.
    pods: BTreeMap<String, Record>,
    services: Arc<Vec<ServicePort>>,
    /// What the kernel has, as far as we know.
    applied: Option<Table>,
    /// Nothing is left of this instance, and nothing is to be put back.
    removed: bool,
}

impl Cni {
    /// Reads the configuration and what earlier processes recorded, removes what a crash left half-made, and serves the Services
    /// recorded last.
    ///
    /// # Errors
    /// [`Error::Missing`] without root, a configuration, one of its plugins or `nft`; [`Error::Failed`].
    pub async fn open(options: Options) -> Result<Self, Error> {
        blocking(|| {
            may_make_interfaces()?;
            let list = List::load(&options.configuration)?;
            plugin::find_all(&list, &options.plugins)?;
            let directory = pods_directory(&options.state);
            fs::create_dir_all(&directory).map_err(failed(format!("create {}", directory.display())))?;
            let mut services: Vec<ServicePort> =
                disk::read_parts(&options.state.join("services")).map_err(failed("read the services"))?;
            services.sort_by(|a, b| a.name.cmp(&b.name));
            let mut state = State { services: Arc::new(services), ..State::default() };
            for record in records(&options.state)? {
                if record.result.is_some() {
                    state.pods.insert(record.pod.uid.clone(), record);
                } else if let Err(error) = remove(&options.state, &record) {
                    // One pod's rest must not keep all others from their network.
                    tracing::warn!(pod = %record.pod, %error, "what was left half-made could not be removed");
                }
            }
            let network = Self {
                options: Arc::new(options),
                list: Arc::new(list),
                state: Arc::new(Mutex::new(State::default())),
            };
            network.apply(&mut state)?;
            *network.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
            Ok(network)
        })
        .await
    }

    /// Removes everything of an instance from the node, without opening it. Instances that are unknown or gone are none.
    ///
    /// # Errors
    /// [`Error::Failed`] naming what is left; doing it again is safe.
    pub async fn purge(instance: &str, state: PathBuf) -> Result<(), Error> {
        let instance = instance.to_owned();
        blocking(move || purge(&instance, &state)).await
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self, &mut State) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let this = self.clone();
        // On a thread of its own, a step that was begun is ended, also if nobody waits for it any more.
        blocking(move || work(&this, &mut this.state.lock().unwrap_or_else(PoisonError::into_inner))).await
    }

    fn apply(&self, state: &mut State) -> Result<(), Error> {
        let Options { instance, cluster, services, .. } = &*self.options;
        let mut pods = Vec::new();
        for record in state.pods.values() {
            let host_ports = if record.list.maps_ports() { &[][..] } else { &record.host_ports };
            pods.extend(record.addresses().into_iter().map(|address| PodPorts { address, host_ports }));
        }
        let mut table = Table::new(&Names::new(instance).mark);
        for family in [Family::V4, Family::V6] {
            let (cluster, services) = (family.ranges(cluster), family.ranges(services));
            if family == Family::V4 || !services.is_empty() {
                let node = Node { family, way: Way::Other, cluster, services };
                table.add(node, &pods, &state.services, &Arc::default());
            }
        }
        table.replace(&mut state.applied)
    }

    fn attach(&self, state: &mut State, request: &Attach) -> Result<Attached, Error> {
        let uid = &request.pod.uid;
        check_uid(uid)?;
        if let Some(known) = state.pods.get(uid) {
            let same = namespace::is_same(&known.namespace, &request.network_namespace)
                && known.host_ports == request.host_ports;
            if same && (!known.list.has_check() || plugin::check(known).is_ok()) {
                return Ok(known.attached());
            }
            // Its sandbox was made anew, or its ports changed.
            self.detach(state, uid)?;
        }
        netlink::loopback(&request.network_namespace)?;
        let mut record = Record {
            pod: request.pod.clone(),
            container: format!("{}-{uid}", self.options.instance),
            namespace: self.options.state.join("namespaces").join(uid),
            host_ports: request.host_ports.clone(),
            list: (*self.list).clone(),
            plugins: self.options.plugins.clone(),
            result: None,
        };
        plugin::find_all(&record.list, &record.plugins)?;
        write(&self.options.state, &record)?;
        let kept = namespace::keep(&request.network_namespace, &record.namespace);
        let made = kept.and_then(|()| plugin::add(&record)).and_then(|result| {
            record.result = Some(result);
            write(&self.options.state, &record)?;
            state.pods.insert(uid.clone(), record.clone());
            self.apply(state)
        });
        if let Err(error) = made {
            state.pods.remove(uid);
            // The first error is the one to tell; what cannot be removed now is found again when the network is opened.
            record.result = None;
            let _ = write(&self.options.state, &record).and_then(|()| remove(&self.options.state, &record));
            return Err(explain(error, state));
        }
        Ok(record.attached())
    }

    fn detach(&self, state: &mut State, uid: &str) -> Result<(), Error> {
        check_uid(uid)?;
        let half_made = || disk::read(&path(&self.options.state, uid)).map_err(failed("read a pod's record"));
        let record: Option<Record> = match state.pods.remove(uid) {
            Some(record) => Some(record),
            None => half_made()?,
        };
        let Some(record) = record else { return Ok(()) };
        let removed = self.apply(state).and_then(|()| remove(&self.options.state, &record));
        if removed.is_err() && record.result.is_some() {
            state.pods.insert(uid.to_owned(), record);
        }
        removed
    }
}

/// The reference plugins' words for a range that is full.
fn explain(error: Error, state: &State) -> Error {
    match &error {
        Error::Failed { reason, .. } if reason.contains("no IP addresses available") => {
            let range = reason.rsplit("range set: ").next().unwrap_or_default().to_owned();
            Error::NoAddress { range, used: state.pods.len() }
        }
        _ => error,
    }
}

fn pods_directory(state: &Path) -> PathBuf {
    state.join("pods")
}

fn path(state: &Path, uid: &str) -> PathBuf {
    pods_directory(state).join(format!("{uid}.json"))
}

fn write(state: &Path, record: &Record) -> Result<(), Error> {
    disk::write(&path(state, &record.pod.uid), record).map_err(failed(format!("record pod {}", record.pod)))
}

/// Has plugins remove what they made for a pod, and then forgets it.
fn remove(state: &Path, record: &Record) -> Result<(), Error> {
    plugin::delete(record)?;
    namespace::release(&record.namespace)?;
    disk::remove(&path(state, &record.pod.uid)).map_err(failed(format!("forget pod {}", record.pod)))
}

fn records(state: &Path) -> Result<Vec<Record>, Error> {
    let read = || disk::records(&pods_directory(state))?.iter().map(|path| disk::read(path)).collect();
    let records: std::io::Result<Vec<Option<Record>>> = read();
    Ok(records.map_err(failed("read the records of pods"))?.into_iter().flatten().collect())
}

fn purge(instance: &str, state: &Path) -> Result<(), Error> {
    records(state)?.iter().try_for_each(|record| remove(state, record))?;
    match nft::remove(&Names::new(instance).mark) {
        // Without the program nobody has made a table.
        Ok(()) | Err(Error::Missing { .. }) => {}
        Err(error) => return Err(error),
    }
    match fs::remove_dir_all(state) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(failed(format!("remove {}", state.display()))(error))
        }
        _ => Ok(()),
    }
}

#[async_trait]
impl Network for Cni {
    async fn attach(&self, request: &Attach) -> Result<Attached, Error> {
        let request = request.clone();
        self.with(move |this, state| this.attach(state, &request)).await
    }

    async fn detach(&self, pod: &PodRef) -> Result<(), Error> {
        let uid = pod.uid.clone();
        self.with(move |this, state| this.detach(state, &uid)).await
    }

    async fn attached(&self) -> Result<Vec<Attached>, Error> {
        self.with(|_, state| Ok(state.pods.values().map(Record::attached).collect())).await
    }

    async fn set_services(&self, services: &[ServicePort]) -> Result<(), Error> {
        let services = services.to_vec();
        self.with(move |this, state| {
            if services == *state.services {
                return Ok(());
            }
            let before = std::mem::replace(&mut state.services, Arc::new(services));
            if let Err(error) = this.apply(state) {
                state.services = before;
                return Err(error);
            }
            disk::write_parts(&this.options.state.join("services"), &before, &state.services, |service| &service.name)
                .map_err(failed("record the services"))
        })
        .await
    }

    async fn set_policies(&self, _policies: &[Policy]) -> Result<(), Error> {
        Ok(())
    }

    /// They are the plugins' business.
    fn enforces_policies(&self) -> bool {
        false
    }

    async fn set_peers(&self, _peers: &[Peer]) -> Result<(), Error> {
        Ok(())
    }

    async fn repair(&self) -> Result<(), Error> {
        self.with(|this, state| {
            let complete = match &state.applied {
                Some(applied) => applied.is_complete()?,
                None => false,
            };
            if complete || state.removed {
                return Ok(());
            }
            state.applied = None;
            this.apply(state)
        })
        .await
    }

    async fn clean_up(&self) -> Result<(), Error> {
        self.with(|this, state| {
            purge(&this.options.instance, &this.options.state)?;
            *state = State { removed: true, ..State::default() };
            Ok(())
        })
        .await
    }
}
