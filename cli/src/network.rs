//! Options of the network of pods.

use std::path::PathBuf;

use clap::Args;
use longshore_cluster::remote::ServiceRanges;
use longshore_cluster::{NetworkKind, NetworkOptions, RangeOptions};
use longshore_core::network::Ranges;

/// How pods are connected.
#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct Network {
    /// What connects pods: Longshore's own bridge, this machine's CNI plugins, `host` for the node's network itself, or `none` for
    /// no more than a loopback each; with the last two Services are not served [default: bridge, or what was recorded]
    #[arg(long, value_name = "bridge|cni|host|none")]
    network: Option<NetworkKind>,
    /// Where networks are configured, for --network cni; the first file by name counts [default: /etc/cni/net.d]
    #[arg(long, value_name = "DIRECTORY")]
    cni_conf_dir: Option<PathBuf>,
    /// Where CNI plugins are; may be given several times [default: /opt/cni/bin and /usr/lib/cni]
    #[arg(long = "cni-bin-dir", value_name = "DIRECTORY")]
    cni_bin_dirs: Vec<PathBuf>,
}

impl Network {
    pub(crate) fn options(self) -> NetworkOptions {
        NetworkOptions { kind: self.network, cni_configuration: self.cni_conf_dir, cni_plugins: self.cni_bin_dirs }
    }
}

/// Which addresses a cluster has.
#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
pub(crate) struct Addresses {
    /// Give pods and Services addresses of both families, IPv4 first, out of ranges that are free on this machine; only when a cluster
    /// is made
    #[arg(long, conflicts_with = "join")]
    dual_stack: bool,
    /// Addresses of all nodes' pods: a range, or one of each family as in 10.1.0.0/16,fd00:1::/56, the primary first; a node gets a /24
    /// of IPv4, a /64 of IPv6 [default: free on this machine, or what was recorded]
    #[arg(long, value_name = "RANGE[,RANGE]", conflicts_with = "join")]
    cluster_cidr: Option<Ranges>,
    /// Addresses of Services: a range, or one of each family as in 10.96.0.0/16,fd00:2::/112, the primary first [default: free on this
    /// machine, or what was recorded]
    #[arg(long, value_name = "RANGE[,RANGE]", conflicts_with = "join")]
    service_range: Option<ServiceRanges>,
}

impl Addresses {
    pub(crate) fn options(self) -> RangeOptions {
        RangeOptions { dual_stack: self.dual_stack, cluster: self.cluster_cidr, services: self.service_range }
    }
}
