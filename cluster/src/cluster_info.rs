//! What a machine has to know of a cluster before it belongs to it, where kubeadm has it: the config map `cluster-info` in `kube-public`,
//! which everybody may read.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_apiserver::pki::{Credentials, kubeconfig_of};
use longshore_core::api::ConfigMap;
use longshore_core::client::params::PostParams;
use longshore_core::client::{Api, Client, Error};
use longshore_core::decode::{self, Format};

use crate::connection::decoded;
use crate::dns::DnsAddress;

/// Namespace and name of the config map.
const PLACE: (&str, &str) = ("kube-public", "cluster-info");

/// Where the API server serves it.
pub(crate) const PATH: &str = "/api/v1/namespaces/kube-public/configmaps/cluster-info";

/// Key of a kubeconfig that names server and authority, and no user.
const KUBECONFIG: &str = "kubeconfig";

/// Keys of what every node has to know besides. Not kubeadm's.
const SERVICE_RANGE: &str = "service-range";
const CLUSTER_DOMAIN: &str = "cluster-domain";
const CLUSTER_DNS: &str = "cluster-dns";

/// Key of the URLs of all API servers that ever published themselves, with blanks in between. Who tries one that is gone goes on to the
/// next, so nobody is taken out.
const SERVERS: &str = "servers";

/// How often it is published anew, should others do so at the same time.
const ATTEMPTS: usize = 16;

/// Where a cluster is, and what its nodes have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClusterInfo {
    /// URL of the API server that published it.
    pub(crate) server: String,
    /// URLs of all API servers.
    pub(crate) servers: Vec<String>,
    /// The authority's certificate, PEM.
    pub(crate) authority: String,
    /// Addresses of Services.
    pub(crate) service_range: String,
    /// Domain of the cluster's names; empty if it does not say.
    pub(crate) domain: String,
    /// Where pods find the cluster's DNS.
    pub(crate) dns: DnsAddress,
}

impl ClusterInfo {
    /// Publishes it, in place of what was there, of which only other API servers stay.
    ///
    /// # Errors
    /// What a write says.
    pub(crate) async fn publish(&self, client: Arc<dyn Client>) -> Result<(), Error> {
        let api: Api<ConfigMap> = Api::namespaced(client, PLACE.0);
        for _ in 1..ATTEMPTS {
            match self.publish_once(&api).await {
                Err(error) if error.is_already_exists() || error.is_conflict() => {}
                done => return done,
            }
        }
        self.publish_once(&api).await
    }

    async fn publish_once(&self, api: &Api<ConfigMap>) -> Result<(), Error> {
        let there = api.get_opt(PLACE.1).await?;
        let before = there.as_ref().and_then(|map| Self::of(map)).map(|info| info.servers);
        let mut servers = before.unwrap_or_default();
        for server in self.servers.iter().chain([&self.server]) {
            if !servers.contains(server) {
                servers.push(server.clone());
            }
        }
        let kubeconfig = kubeconfig_of("", &[&self.server], &self.authority, Credentials::Nobody);
        let data = [
            (KUBECONFIG, kubeconfig),
            (SERVERS, servers.join(" ")),
            (SERVICE_RANGE, self.service_range.clone()),
            (CLUSTER_DOMAIN, self.domain.clone()),
            (CLUSTER_DNS, self.dns.to_string()),
        ];
        let data: BTreeMap<String, String> = data.map(|(key, text)| (key.to_owned(), text)).into();
        let mut map = ConfigMap { data, ..ConfigMap::default() };
        map.metadata.name = Some(PLACE.1.to_owned());
        map.metadata.namespace = Some(PLACE.0.to_owned());
        match there {
            None => api.create(map, &PostParams::default()).await.map(drop),
            Some(there) => {
                map.metadata.resource_version.clone_from(&there.metadata.resource_version);
                api.update(map, &PostParams::default()).await.map(drop)
            }
        }
    }

    /// Reads what a cluster publishes.
    ///
    /// # Errors
    /// What a read says; [`Error::is_not_found`] also if it cannot be understood.
    pub(crate) async fn fetch(client: Arc<dyn Client>) -> Result<Option<Self>, Error> {
        let api: Api<ConfigMap> = Api::namespaced(client, PLACE.0);
        Ok(api.get_opt(PLACE.1).await?.and_then(|map| Self::of(&map)))
    }

    /// What a config map says; `None` if it is not understood.
    pub(crate) fn of(map: &ConfigMap) -> Option<Self> {
        let (value, _) = decode::parse(map.data.get(KUBECONFIG)?.as_bytes(), Format::Yaml).ok()?;
        let cluster = &value["clusters"][0]["cluster"];
        Some(Self {
            server: cluster["server"].as_str()?.to_owned(),
            servers: map.data.get(SERVERS).into_iter().flat_map(|text| text.split(' ')).map(str::to_owned).collect(),
            authority: decoded(&cluster["certificate-authority-data"])?,
            service_range: map.data.get(SERVICE_RANGE).cloned().unwrap_or_default(),
            domain: map.data.get(CLUSTER_DOMAIN).cloned().unwrap_or_default(),
            dns: map.data.get(CLUSTER_DNS).and_then(|text| text.parse().ok()).unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use longshore_apiserver::{LocalClient, Options, Registry};
    use longshore_core::clock::VirtualClock;
    use longshore_core::store::MemoryStore;

    use super::*;

    #[tokio::test]
    async fn what_is_published_is_read_and_published_again() {
        let (store, clock) = (Arc::new(MemoryStore::new()), Arc::new(VirtualClock::new()));
        let registry = Registry::start(store, clock, Options::new(1)).await.unwrap();
        let client: Arc<dyn Client> = Arc::new(LocalClient::new(registry, "test"));
        assert_eq!(ClusterInfo::fetch(client.clone()).await.unwrap(), None);
        let mut info = ClusterInfo {
            server: "https://192.0.2.1:6443".into(),
            servers: vec!["https://192.0.2.1:6443".into()],
            authority: "a certificate".into(),
            service_range: "10.96.0.0/16".into(),
            domain: "corp.internal".into(),
            dns: DnsAddress::At([10, 96, 0, 10].into()),
        };
        for dns in [info.dns, DnsAddress::None] {
            info.dns = dns;
            info.publish(client.clone()).await.unwrap();
            assert_eq!(ClusterInfo::fetch(client.clone()).await.unwrap().as_ref(), Some(&info));
        }
        let other = ClusterInfo { server: "https://192.0.2.2:6443".into(), servers: Vec::new(), ..info };
        other.publish(client.clone()).await.unwrap();
        let seen = ClusterInfo::fetch(client.clone()).await.unwrap().unwrap();
        assert_eq!((seen.server, seen.servers.len()), (other.server, 2), "each adds itself");
    }
}
