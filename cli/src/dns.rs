//! Options of the cluster's DNS.

use std::net::SocketAddr;

use clap::Args;
use longshore_cluster::dns::{DnsAddress, DnsOptions, Domain, PodNames, StubDomain, parse_server, parse_ttl};

/// What all nodes have in common: those that join learn it from the cluster.
#[derive(Debug, Args)]
#[command(next_help_heading = "Names")]
pub(crate) struct ClusterNames {
    /// Domain of the cluster's names [default: what the cluster has, at first cluster.local]
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) cluster_domain: Option<Domain>,
    /// Address of the cluster's DNS, out of those of Services; `none` gives pods the machine's DNS [default: what the cluster has,
    /// at first the tenth]
    #[arg(long, value_name = "ADDRESS|none", hide_default_value = true, default_value = "tenth")]
    pub(crate) cluster_dns: DnsAddress,
}

/// How names are resolved.
#[derive(Debug, Args)]
#[command(next_help_heading = "Names")]
pub(crate) struct Dns {
    #[command(flatten)]
    cluster: ClusterNames,
    /// Who answers names that are not the cluster's; may be given several times [default: as /etc/resolv.conf says]
    #[arg(long, value_name = "ADDRESS[:PORT]", value_parser = parse_server)]
    dns_upstream: Vec<SocketAddr>,
    /// A domain whose names others answer, such as corp.example=10.0.0.53; may be given several times
    #[arg(long, value_name = "DOMAIN=ADDRESS[:PORT],…")]
    dns_stub: Vec<StubDomain>,
    /// For how many seconds answers about the cluster may be remembered [default: 5]
    #[arg(long, value_name = "SECONDS", value_parser = parse_ttl)]
    dns_ttl: Option<u32>,
    /// Which names of the form 10-0-0-1.NAMESPACE.pod.DOMAIN there are: for every address, for those of pods, or none
    #[arg(long, value_name = "insecure|verified|disabled", default_value = "insecure")]
    dns_pods: PodNames,
}

impl Dns {
    pub(crate) fn options(self) -> DnsOptions {
        DnsOptions {
            address: self.cluster.cluster_dns,
            domain: self.cluster.cluster_domain,
            ttl: self.dns_ttl,
            pod_names: self.dns_pods,
            upstreams: self.dns_upstream,
            stub_domains: self.dns_stub,
        }
    }
}
