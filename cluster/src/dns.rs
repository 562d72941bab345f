//! The cluster's DNS: what is chosen for it, its server on a node, and the Service by which people know it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use longshore_apiserver::AddressRange;
use longshore_core::api::Service;
use longshore_core::client::params::PostParams;
use longshore_core::client::{Api, Client};
use longshore_core::clock::Clock;
use longshore_network::dns::{DEFAULT_TTL, Options, PORT, Server, Upstreams};
pub use longshore_network::dns::{Domain, PodNames, StubDomain, server as parse_server, ttl as parse_ttl};
use serde_json::json;

use crate::Error;
use crate::local::failed;

/// Where users of Kubernetes look for the Service.
const NAMESPACE: &str = "kube-system";
const NAME: &str = "kube-dns";
/// Which address of the Services' range it has, by custom.
const PLACE: u64 = 10;

/// Where pods find the cluster's DNS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DnsAddress {
    /// The tenth address of the Services' range; another one, if a Service has that already.
    #[default]
    Tenth,
    /// This one, out of the Services' range.
    At(IpAddr),
    /// Nowhere: pods have the node's DNS.
    None,
}

impl fmt::Display for DnsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tenth => f.write_str("tenth"),
            Self::At(address) => address.fmt(f),
            Self::None => f.write_str("none"),
        }
    }
}

impl FromStr for DnsAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "tenth" => Ok(Self::Tenth),
            "none" => Ok(Self::None),
            _ => text.parse().map(Self::At).map_err(|_| format!("{text:?} is neither an IP address nor none")),
        }
    }
}

/// What is chosen for the cluster's DNS.
#[derive(Debug, Clone, Default)]
pub struct DnsOptions {
    /// Where pods find it.
    pub address: DnsAddress,
    /// Domain of the cluster's names; `None` for what was recorded, else `cluster.local`.
    pub domain: Option<Domain>,
    /// How long answers about the cluster may be remembered, in seconds; `None` for 5.
    pub ttl: Option<u32>,
    /// Which pods have names.
    pub pod_names: PodNames,
    /// Who answers other names; none for those of the machine's `/etc/resolv.conf`.
    pub upstreams: Vec<SocketAddr>,
    /// Who answers the names of some domains.
    pub stub_domains: Vec<StubDomain>,
}

impl DnsOptions {
    /// The address without asking anybody; `None` if there shall be no DNS.
    pub(crate) fn address(&self, services: &AddressRange) -> Option<IpAddr> {
        match self.address {
            DnsAddress::Tenth => Some(services.at(PLACE)),
            DnsAddress::At(address) => Some(address),
            DnsAddress::None => None,
        }
    }

    /// A server for the pods of a node, which reach it at `gateway`.
    pub(crate) async fn serve(
        &self,
        domain: Domain,
        (gateway, address): (IpAddr, IpAddr),
        clock: &Arc<dyn Clock>,
        seed: u64,
    ) -> Result<Server, Error> {
        let options = Options {
            domain,
            addresses: vec![address],
            ttl: self.ttl.unwrap_or(DEFAULT_TTL),
            pod_names: self.pod_names,
            upstreams: match self.upstreams.as_slice() {
                [] => Options::new((gateway, PORT).into(), seed).upstreams,
                fixed => Upstreams::Fixed(fixed.to_vec()),
            },
            stub_domains: self.stub_domains.clone(),
            ..Options::new((gateway, PORT).into(), seed)
        };
        // Somebody may serve at all addresses of the machine; pods are led to any port. The usual one is tried first, so
        // that it is the same after a restart.
        match Server::bind(options.clone(), clock.clone()).await {
            Ok(server) => Ok(server),
            Err(_) => {
                let listen = (gateway, 0).into();
                Server::bind(Options { listen, ..options }, clock.clone()).await.map_err(failed("DNS"))
            }
        }
    }
}

/// Makes the Service of the cluster's DNS if there is none, and says its address; `None` if there shall be no DNS. It selects
/// nothing: every node answers its own pods.
pub(crate) async fn publish(
    client: &Arc<dyn Client>,
    options: &DnsOptions,
    services: &AddressRange,
) -> Result<Option<IpAddr>, Error> {
    let Some(address) = options.address(services) else { return Ok(None) };
    let api: Api<Service> = Api::namespaced(client.clone(), NAMESPACE);
    if let Some(found) = api.get_opt(NAME).await.map_err(failed("DNS"))? {
        let known = found.spec.cluster_ip.parse::<IpAddr>().ok();
        return match (known, options.address) {
            (Some(known), DnsAddress::At(asked)) if known != asked => Err(Error::Part {
                part: "DNS",
                reason: format!(
                    "the Service {NAMESPACE}/{NAME} has the address {known}, not {asked}: leave --cluster-dns out, or delete it"
                ),
            }),
            (known, _) => Ok(known.or(Some(address))),
        };
    }
    let create = async |cluster_ip: String| {
        let port = |name: &str, protocol: &str| json!({"name": name, "port": PORT, "protocol": protocol});
        let service = json!({
            "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {"k8s-app": NAME}},
            "spec": {"clusterIP": cluster_ip, "ports": [port("dns", "UDP"), port("dns-tcp", "TCP")]},
        });
        let service: Service = serde_json::from_value(service).map_err(failed("DNS"))?;
        let made = api.create(service, &PostParams::default()).await;
        Ok::<_, Error>(made.map(|service| service.spec.cluster_ip.parse::<IpAddr>().ok()))
    };
    match create(address.to_string()).await? {
        Ok(made) => Ok(made),
        // A cluster that was made before it had DNS may have given the address to another Service.
        Err(error) if options.address == DnsAddress::Tenth && error.is_invalid() => {
            create(String::new()).await?.map_err(failed("DNS"))
        }
        Err(error) => Err(Error::Part { part: "DNS", reason: format!("{error}: choose another --cluster-dns") }),
    }
}

#[cfg(test)]
mod tests {
    use longshore_apiserver::{LocalClient, Options as RegistryOptions, Registry};
    use longshore_core::clock::VirtualClock;
    use longshore_core::store::MemoryStore;

    use super::*;

    /// A new cluster, and its Services' addresses.
    async fn cluster() -> (Arc<dyn Client>, AddressRange) {
        let options = RegistryOptions::new(7);
        let range = options.service_addresses.primary();
        let registry = Registry::start(Arc::new(MemoryStore::new()), Arc::new(VirtualClock::new()), options).await;
        (Arc::new(LocalClient::new(registry.unwrap(), "test")), range)
    }

    #[tokio::test]
    async fn the_service_has_the_tenth_address_or_one_that_is_free() {
        let (client, range) = cluster().await;
        let options = DnsOptions::default();
        assert_eq!(publish(&client, &options, &range).await.unwrap(), Some(range.at(10)));
        assert_eq!(publish(&client, &options, &range).await.unwrap(), Some(range.at(10)), "it is there already");
        let other = DnsOptions { address: DnsAddress::At(range.at(11)), ..DnsOptions::default() };
        let error = publish(&client, &other, &range).await.unwrap_err().to_string();
        assert!(error.contains("leave --cluster-dns out"), "{error}");
        let none = DnsOptions { address: DnsAddress::None, ..DnsOptions::default() };
        assert_eq!(publish(&client, &none, &range).await.unwrap(), None);

        let (client, range) = cluster().await;
        let taken = json!({
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"clusterIP": range.at(10).to_string(), "ports": [{"port": 80}]},
        });
        let api: Api<Service> = Api::namespaced(client.clone(), "default");
        api.create(serde_json::from_value(taken).unwrap(), &PostParams::default()).await.unwrap();
        let address = publish(&client, &options, &range).await.unwrap().unwrap();
        assert!(address != range.at(10) && range.place(address).is_some());
    }

    #[tokio::test]
    async fn an_address_that_cannot_be_had_is_said() {
        let (client, range) = cluster().await;
        let outside = DnsOptions { address: DnsAddress::At("192.0.2.1".parse().unwrap()), ..DnsOptions::default() };
        let error = publish(&client, &outside, &range).await.unwrap_err().to_string();
        assert!(error.contains("choose another --cluster-dns"), "{error}");
        for address in [DnsAddress::Tenth, DnsAddress::None, DnsAddress::At(range.at(11))] {
            assert_eq!(address.to_string().parse(), Ok(address));
        }
        assert!("some".parse::<DnsAddress>().unwrap_err().contains("neither an IP address nor none"));
    }
}
