//! Options of the network of pods.

use std::path::PathBuf;

use clap::Args;
use longshore_cluster::{NetworkKind, NetworkOptions};

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
