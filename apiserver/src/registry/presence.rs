//! Where API servers are: the endpoints of the Service `kubernetes`.
//!
//! Of several over one store each renews a lease of its own, with upstream's label, and the endpoints are those whose leases are renewed. All
//! of them see to that, and come to the same, so nobody has to be elected.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use longshore_core::api::endpoint_slice::{self, AddressType, EndpointConditions, EndpointPort};
use longshore_core::api::endpoints::{self, EndpointAddress, EndpointSubset};
use longshore_core::api::lease::LeaseSpec;
use longshore_core::api::{EndpointSlice, Endpoints, Lease, Protocol, Service};
use longshore_core::client::params::{DeleteParams, PatchParams};
use longshore_core::client::{Error, Target};
use longshore_core::kind::{AnyObject, KindType};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::bootstrap::{KUBERNETES, NAMESPACE, PORT_NAME, kubernetes};
use super::{PatchBody, Registry, name_of, namespace_of};

/// The label of an API server's lease, and the leases' namespace.
const IDENTITY: (&str, &str) = ("apiserver.kubernetes.io/identity", "kube-apiserver");
const LEASES: &str = "kube-system";

/// The label by which a slice belongs to a Service.
const SERVICE: &str = "kubernetes.io/service-name";

/// Time between renewals, and after how long without one a server counts as gone; upstream's time and three of them.
const RENEW: Duration = Duration::from_secs(10);
const GONE: Duration = Duration::from_secs(30);

/// When each server's lease was last seen renewed: with what time in it, and when by our own clock.
type Seen = BTreeMap<SocketAddr, (Option<MicroTime>, Duration)>;

impl Registry {
    /// Tells the cluster where this server, which is the only one, can be reached: behind the service `kubernetes` in namespace
    /// `default`. Of an address that only this machine reaches, only the port is told.
    ///
    /// # Errors
    /// What a write says.
    pub async fn advertise(&self, address: SocketAddr) -> Result<(), Error> {
        self.tell_port(address.port()).await?;
        self.tell(&[address].into()).await
    }

    async fn tell_port(&self, port: u16) -> Result<(), Error> {
        let target = json!({ "spec": { "ports": [{ "port": 443, "protocol": "TCP", "targetPort": port }] } });
        let service = Target { kind: KindType::of::<Service>(), namespace: NAMESPACE, name: KUBERNETES };
        self.patch(service, None, &PatchBody::Strategic(target), &PatchParams::default()).await.map(drop)
    }

    /// Tells the same of a server that is one of several over a store, until cancelled; then it is no longer counted.
    pub async fn stay_advertised(&self, address: SocketAddr, cancel: CancellationToken) {
        let mut seen = Seen::new();
        let staying = async {
            if let Err(error) = self.tell_port(address.port()).await {
                tracing::warn!(%error, "cannot tell at which port the API servers are");
            }
            loop {
                if let Err(error) = self.show_up(address, &mut seen).await {
                    tracing::warn!(%error, "cannot tell where the API servers are");
                }
                self.clock.sleep(RENEW).await;
            }
        };
        cancel.run_until_cancelled(staying).await;
        let name = lease_name(address);
        let target = Target { kind: KindType::of::<Lease>(), namespace: LEASES, name: &name };
        if let Err(error) = self.delete(target, &DeleteParams::default()).await {
            tracing::debug!(%error, "the others will notice that this API server is gone");
        }
    }

    async fn show_up(&self, address: SocketAddr, seen: &mut Seen) -> Result<(), Error> {
        self.replace(Box::new(lease(address, MicroTime(self.clock.now())))).await?;
        let now = self.clock.elapsed();
        let leases = self.cached_objects(KindType::of::<Lease>());
        let leases: BTreeMap<SocketAddr, Option<MicroTime>> = leases.iter().filter_map(|it| presence(&**it)).collect();
        seen.retain(|server, _| leases.contains_key(server));
        for (server, renewed) in leases {
            let known = seen.entry(server).or_insert_with(|| (renewed.clone(), now));
            if known.0 != renewed {
                *known = (renewed, now);
            }
        }
        let present = seen.iter().filter(|(_, (_, since))| now.saturating_sub(*since) < GONE);
        self.tell(&present.map(|(server, _)| *server).chain([address]).collect()).await
    }

    /// Makes the endpoints those of these servers, as far as others reach them.
    async fn tell(&self, servers: &BTreeSet<SocketAddr>) -> Result<(), Error> {
        let reached = servers.iter().copied();
        let reached = reached.filter(|server| !server.ip().is_loopback() && !server.ip().is_unspecified());
        let mut groups: BTreeMap<(bool, u16), Vec<String>> = BTreeMap::new();
        for server in reached {
            groups.entry((server.is_ipv6(), server.port())).or_default().push(server.ip().to_string());
        }
        let slices: Vec<EndpointSlice> = groups.iter().enumerate().map(slice).collect();
        for slice in &slices {
            self.replace_changed(slice).await?;
        }
        let subsets: Vec<EndpointSubset> = groups.iter().map(subset).collect();
        if !subsets.is_empty() {
            self.replace_changed(&Endpoints { metadata: kubernetes(), subsets, ..Endpoints::default() }).await?;
        }
        for old in self.cached_objects(KindType::of::<EndpointSlice>()) {
            let (namespace, name) = (namespace_of(&*old), name_of(&*old));
            let of = old.meta().labels.as_ref().and_then(|labels| labels.get(SERVICE));
            let ours = namespace == NAMESPACE && of.is_some_and(|service| service == KUBERNETES);
            if ours && !slices.is_empty() && slices.iter().all(|slice| name_of(slice) != name) {
                let target = Target { kind: KindType::of::<EndpointSlice>(), namespace, name };
                match self.delete(target, &DeleteParams::default()).await {
                    Err(error) if !error.is_not_found() => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Puts an object in the place of one that says something else.
    async fn replace_changed<K: AnyObject + Clone + PartialEq>(&self, object: &K) -> Result<(), Error> {
        let target = Target { kind: object.kind_type(), namespace: namespace_of(object), name: name_of(object) };
        if let Some(there) = self.cached(target)
            && let Some(there) = there.as_any().downcast_ref::<K>()
        {
            let mut wanted = object.clone();
            *wanted.meta_mut() = there.meta().clone();
            if wanted == *there {
                return Ok(());
            }
        }
        self.replace(Box::new(object.clone())).await
    }
}

/// The name of a server's lease: its address, in letters that a name may have.
fn lease_name(address: SocketAddr) -> String {
    let ip = address.ip().to_string().replace([':', '.'], "-");
    format!("apiserver-{}-{}", ip.trim_matches('-'), address.port())
}

fn lease(address: SocketAddr, now: MicroTime) -> Lease {
    let (key, value) = IDENTITY;
    let mut lease = Lease {
        metadata: ObjectMeta {
            name: Some(lease_name(address)),
            namespace: Some(LEASES.to_owned()),
            labels: Some([(key.to_owned(), value.to_owned())].into()),
            ..ObjectMeta::default()
        },
        ..Lease::default()
    };
    lease.spec = LeaseSpec {
        holder_identity: Some(address.to_string()),
        lease_duration_seconds: i32::try_from(GONE.as_secs()).ok(),
        renew_time: Some(now),
        ..LeaseSpec::default()
    };
    lease
}

/// Where the server is whose lease this is, and when it renewed it.
fn presence(object: &dyn AnyObject) -> Option<(SocketAddr, Option<MicroTime>)> {
    let lease = object.as_any().downcast_ref::<Lease>()?;
    let labels = lease.metadata.labels.as_ref()?;
    if namespace_of(lease) != LEASES || labels.get(IDENTITY.0).is_none_or(|value| value != IDENTITY.1) {
        return None;
    }
    Some((lease.spec.holder_identity.as_deref()?.parse().ok()?, lease.spec.renew_time.clone()))
}

type Group<'a> = (&'a (bool, u16), &'a Vec<String>);

/// All servers with one port and family of addresses.
fn slice((at, ((is_ipv6, port), addresses)): (usize, Group<'_>)) -> EndpointSlice {
    let mut metadata = kubernetes();
    if at > 0 {
        metadata.name = Some(format!("{KUBERNETES}-{}-{port}", if *is_ipv6 { "ipv6" } else { "ipv4" }));
    }
    metadata.labels = Some([(SERVICE.to_owned(), KUBERNETES.to_owned())].into());
    let endpoint = |address: &String| endpoint_slice::Endpoint {
        addresses: vec![address.clone()],
        conditions: EndpointConditions { ready: Some(true), ..EndpointConditions::default() },
        ..endpoint_slice::Endpoint::default()
    };
    EndpointSlice {
        metadata,
        address_type: if *is_ipv6 { AddressType::IPv6 } else { AddressType::IPv4 },
        endpoints: addresses.iter().map(endpoint).collect(),
        ports: vec![EndpointPort {
            name: Some(PORT_NAME.to_owned()),
            port: Some(i32::from(*port)),
            protocol: Some(Protocol::Tcp),
            ..EndpointPort::default()
        }],
        ..EndpointSlice::default()
    }
}

fn subset(((_, port), addresses): Group<'_>) -> EndpointSubset {
    let address = |ip: &String| EndpointAddress { ip: ip.clone(), ..EndpointAddress::default() };
    EndpointSubset {
        addresses: addresses.iter().map(address).collect(),
        ports: vec![endpoints::EndpointPort {
            name: PORT_NAME.to_owned(),
            port: i32::from(*port),
            protocol: Protocol::Tcp,
            ..endpoints::EndpointPort::default()
        }],
        ..EndpointSubset::default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use longshore_core::clock::VirtualClock;
    use longshore_core::store::{MemoryStore, Store};

    use super::*;
    use crate::registry::Options;

    fn told(registry: &Registry) -> Vec<(String, Vec<String>)> {
        let slices = registry.cached_objects(KindType::of::<EndpointSlice>());
        let slices = slices.iter().filter_map(|slice| slice.as_any().downcast_ref::<EndpointSlice>());
        let of = |slice: &EndpointSlice| {
            let addresses = slice.endpoints.iter().map(|endpoint| endpoint.addresses[0].clone());
            (name_of(slice).to_owned(), addresses.collect())
        };
        slices.map(of).collect()
    }

    #[tokio::test]
    async fn servers_that_renew_are_endpoints_and_those_that_died_are_none() {
        let clock = VirtualClock::new();
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let start = async |seed| {
            Registry::start(Arc::clone(&store), Arc::new(clock.clone()), Options::new(seed)).await.unwrap()
        };
        let (one, two) = (start(1).await, start(2).await);
        let [a, b, c] = ["192.0.2.1:6443", "192.0.2.2:6443", "192.0.2.3:7443"].map(|text| text.parse().unwrap());
        let (mut first, mut second, mut third) = (Seen::new(), Seen::new(), Seen::new());
        one.show_up(a, &mut first).await.unwrap();
        one.refresh().await.unwrap();
        two.refresh().await.unwrap();
        two.show_up(b, &mut second).await.unwrap();
        two.show_up(c, &mut third).await.unwrap();
        two.refresh().await.unwrap();
        let both = vec!["192.0.2.1".to_owned(), "192.0.2.2".to_owned()];
        let expected =
            [("kubernetes".to_owned(), both.clone()), ("kubernetes-ipv4-7443".to_owned(), vec!["192.0.2.3".into()])];
        assert_eq!(told(&two), expected);
        // The third dies; the others go on, and come to the same.
        for _ in 0..4 {
            clock.advance(RENEW);
            for (registry, address, seen) in [(&one, a, &mut first), (&two, b, &mut second)] {
                registry.refresh().await.unwrap();
                registry.show_up(address, seen).await.unwrap();
            }
        }
        one.refresh().await.unwrap();
        assert_eq!(told(&one), [("kubernetes".to_owned(), both)]);
        // One that is stopped is gone at once.
        let cancel = CancellationToken::new();
        cancel.cancel();
        two.stay_advertised(b, cancel).await;
        one.refresh().await.unwrap();
        one.show_up(a, &mut first).await.unwrap();
        one.refresh().await.unwrap();
        assert_eq!(told(&one), [("kubernetes".to_owned(), vec!["192.0.2.1".to_owned()])]);
    }
}
