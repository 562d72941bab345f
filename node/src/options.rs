//! How an agent is set up.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use longshore_core::api::ResourceList;
use longshore_core::api::node::Taint;
use longshore_core::runtime::LogLimits;

use crate::devices::DevicePlugin;

/// How a [`NodeAgent`](crate::NodeAgent) is set up. Start from [`Options::new`] and change what differs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Name of the node.
    pub node_name: String,
    /// Directory of the agent; what belongs to a pod lies in `pods/<uid>` below it, volumes that outlive pods in `volumes`,
    /// and seccomp profiles for pods to name in `seccomp`. Not used by runtimes whose
    /// containers are not real.
    pub root_dir: PathBuf,
    /// Directory of the pods' logs: `<namespace>_<name>_<uid>/<container>/<attempt>.log`.
    pub log_dir: PathBuf,
    /// Addresses of the node, the primary first.
    pub addresses: Vec<IpAddr>,
    /// Port at which the agent's service is reached, for `status.daemonEndpoints`; 0 if it is reached otherwise.
    pub port: u16,
    /// What the node has. Resources not named here are read from the machine, if the containers are real.
    pub capacity: ResourceList,
    /// What of the capacity pods may not use.
    pub reserved: ResourceList,
    /// Labels of the node when it registers.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the node when it registers.
    pub annotations: BTreeMap<String, String>,
    /// Taints of the node when it registers.
    pub taints: Vec<Taint>,
    /// Address ranges of the node's pods, for `spec.podCIDRs`.
    pub pod_cidrs: Vec<String>,
    /// Most pods on the node; 110 by default.
    pub max_pods: u32,
    /// Version that the node reports as its agent's.
    pub version: String,
    /// Domain of the cluster's names; `cluster.local` by default.
    pub cluster_domain: String,
    /// Servers of the cluster's names; none by default, and pods then use the node's.
    pub cluster_dns: Vec<IpAddr>,
    /// Kernel parameters that pods may set beyond the safe ones: names, or beginnings of names before a `*`. None by default.
    pub allowed_unsafe_sysctls: Vec<String>,
    /// How much of a container's log is kept; 5 files of 10 MiB by default.
    pub log_limits: LogLimits,
    /// Time between renewals of the node's lease; 10 s by default.
    pub lease_interval: Duration,
    /// Time after which others hold the node for lost; 40 s by default.
    pub lease_duration: Duration,
    /// Time between reports of the node's status when nothing changes; 5 min by default.
    pub status_interval: Duration,
    /// Time between looks at whether the node's own state changed; 10 s by default.
    pub check_interval: Duration,
    /// Time between refreshes of the volumes of running pods; 60 s by default.
    pub volume_interval: Duration,
    /// Whether every pod uses the node's network, as with `hostNetwork: true`; not by default.
    pub host_network: bool,
    /// Whether the agent programmes Services, policies and the ways to other nodes' pods into the network; `None`, the default:
    /// if the containers are real.
    pub proxy: Option<bool>,
    /// When images that nobody uses are removed.
    pub image_gc: ImageGc,
    /// Whether the agent makes and removes the volumes of class `local-path` that are meant for its node; `None`, the default:
    /// if the containers are real.
    pub provision: Option<bool>,
    /// Plug-ins for devices in this process; see [`devices`](crate::devices).
    pub device_plugins: Vec<Arc<dyn DevicePlugin>>,
    /// Where plug-ins of other processes register, at `kubelet.sock`; nowhere by default.
    pub device_plugin_dir: Option<PathBuf>,
    /// Kinds of devices of which pods may ask for parts: `example.com/gpu` makes the node offer `example.com/gpu-milli`, too.
    pub shared_devices: BTreeSet<String>,
    /// Seed of the agent's jitter.
    pub seed: u64,
}

/// When images that nobody uses are removed from the node. Images that no registry gave stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageGc {
    /// Hundredths of the images' disk in use from which on images are removed; 85 by default, never at 100.
    pub high_percent: u8,
    /// Hundredths at which that ends; 80 by default.
    pub low_percent: u8,
    /// How long an image is on the node at least; 2 min by default.
    pub min_age: Duration,
}

impl Default for ImageGc {
    fn default() -> Self {
        Self { high_percent: 85, low_percent: 80, min_age: Duration::from_secs(120) }
    }
}

impl Options {
    /// The usual setting of a node that keeps its things in `root_dir`. The seed is for jitter.
    pub fn new(node_name: impl Into<String>, root_dir: impl Into<PathBuf>, seed: u64) -> Self {
        let root_dir = root_dir.into();
        Self {
            node_name: node_name.into(),
            log_dir: root_dir.join("logs"),
            root_dir,
            addresses: Vec::new(),
            port: 0,
            capacity: ResourceList::new(),
            reserved: ResourceList::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            taints: Vec::new(),
            pod_cidrs: Vec::new(),
            max_pods: 110,
            version: concat!("v1.35.4+longshore-", env!("CARGO_PKG_VERSION")).to_owned(),
            cluster_domain: "cluster.local".to_owned(),
            cluster_dns: Vec::new(),
            allowed_unsafe_sysctls: Vec::new(),
            log_limits: LogLimits::default(),
            lease_interval: Duration::from_secs(10),
            lease_duration: Duration::from_secs(40),
            status_interval: Duration::from_secs(300),
            check_interval: Duration::from_secs(10),
            volume_interval: Duration::from_secs(60),
            host_network: false,
            proxy: None,
            image_gc: ImageGc::default(),
            provision: None,
            device_plugins: Vec::new(),
            device_plugin_dir: None,
            shared_devices: BTreeSet::new(),
            seed,
        }
    }

    /// Directory of the volumes that outlive pods.
    pub(crate) fn volumes_dir(&self) -> PathBuf {
        self.root_dir.join("volumes")
    }

    /// Directory of one pod.
    pub(crate) fn pod_dir(&self, uid: &str) -> PathBuf {
        self.root_dir.join("pods").join(uid)
    }

    /// Directory of one pod's logs.
    pub(crate) fn pod_log_dir(&self, namespace: &str, name: &str, uid: &str) -> PathBuf {
        self.log_dir.join(format!("{namespace}_{name}_{uid}"))
    }
}
