//! What a machine has to know of a cluster before it belongs to it, where kubeadm has it: the config map `cluster-info` in `kube-public`,
//! which everybody may read.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_apiserver::pki::{Credentials, kubeconfig_of};
use longshore_core::api::ConfigMap;
use longshore_core::client::params::PostParams;
use longshore_core::client::{Api, Client, Error};
use longshore_core::decode::{self, Format};

use crate::dns::DnsAddress;
use crate::remote::decoded;

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

/// Where a cluster is, and what its nodes have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClusterInfo {
    /// URL of the API server.
    pub(crate) server: String,
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
    /// Publishes it, in place of what was there.
    ///
    /// # Errors
    /// What a write says.
    pub(crate) async fn publish(&self, client: Arc<dyn Client>) -> Result<(), Error> {
        let api: Api<ConfigMap> = Api::namespaced(client, PLACE.0);
        let kubeconfig = kubeconfig_of("", &self.server, &self.authority, Credentials::Nobody);
        let data = [
            (KUBECONFIG, kubeconfig),
            (SERVICE_RANGE, self.service_range.clone()),
            (CLUSTER_DOMAIN, self.domain.clone()),
            (CLUSTER_DNS, self.dns.to_string()),
        ];
        let data: BTreeMap<String, String> = data.map(|(key, text)| (key.to_owned(), text)).into();
        let mut map = ConfigMap { data, ..ConfigMap::default() };
        map.metadata.name = Some(PLACE.1.to_owned());
        map.metadata.namespace = Some(PLACE.0.to_owned());
        match api.create(map.clone(), &PostParams::default()).await {
            Err(error) if error.is_already_exists() => api.update(map, &PostParams::default()).await.map(drop),
            created => created.map(drop),
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
    }
}
