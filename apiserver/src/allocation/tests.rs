//! Services through the registry: what they are given, what they are refused, what they let go.

use std::collections::BTreeSet;
use std::sync::Arc;

use longshore_core::api::{EndpointSlice, Endpoints, Service};
use longshore_core::client::params::{DeleteParams, Patch, PatchParams, PostParams};
use longshore_core::client::{Api, Client, Error};
use longshore_core::clock::VirtualClock;
use longshore_core::store::{ListOptions, MemoryStore, Store};
use longshore_core::testing::faults::{Faults, FaultyStore};
use serde_json::{Value, json};

use super::{ADDRESSES, AddressRange, NODE_PORTS, PortRange, held};
use crate::{LocalClient, Options, Registry};

async fn client(store: Arc<dyn Store>, seed: u64, addresses: &str, ports: &str) -> Arc<dyn Client> {
    let mut options = Options::new(seed);
    options.service_addresses = addresses.parse().unwrap();
    options.node_ports = ports.parse().unwrap();
    let registry = Registry::start(store, Arc::new(VirtualClock::new()), options).await.unwrap();
    Arc::new(LocalClient::new(registry, "test"))
}

pub(super) struct Cluster {
    store: Arc<dyn Store>,
    pub(super) services: Api<Service>,
}

impl Cluster {
    async fn start() -> Self {
        Self::of("10.96.0.0/16").await
    }

    /// With these addresses of services.
    pub(super) async fn of(addresses: &str) -> Self {
        Self::over(Arc::new(MemoryStore::new()), 1, addresses).await
    }

    /// Over the same store, with other addresses.
    pub(super) async fn restarted(self, addresses: &str) -> Self {
        Self::over(self.store, 2, addresses).await
    }

    async fn over(store: Arc<dyn Store>, seed: u64, addresses: &str) -> Self {
        let client = client(Arc::clone(&store), seed, addresses, "30000-32767").await;
        Self { store, services: Api::namespaced(client, "default") }
    }

    pub(super) async fn create(&self, name: &str, spec: Value) -> Result<Arc<Service>, Error> {
        self.services.create(service(name, spec), &PostParams::default()).await
    }

    pub(super) async fn patch(&self, name: &str, spec: Value) -> Result<Arc<Service>, Error> {
        self.services.patch(name, &Patch::Merge(json!({ "spec": spec })), &PatchParams::default()).await
    }

    /// What is given away, without prefixes.
    pub(super) async fn given(&self) -> BTreeSet<String> {
        given(&*self.store).await
    }
}

async fn given(store: &dyn Store) -> BTreeSet<String> {
    let mut given = BTreeSet::new();
    for prefix in [ADDRESSES, NODE_PORTS] {
        let page = store.list(prefix, ListOptions::default()).await.unwrap();
        given.extend(page.entries.into_iter().map(|entry| entry.key[prefix.len()..].to_owned()));
    }
    given
}

fn service(name: &str, spec: Value) -> Service {
    let mut all = json!({ "ports": [{ "name": "http", "port": 80 }], "selector": { "app": "web" } });
    all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    serde_json::from_value(json!({ "metadata": { "name": name }, "spec": all })).unwrap()
}

pub(super) fn texts(items: &[&str]) -> BTreeSet<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}

#[tokio::test]
async fn a_service_is_given_an_address_that_goes_back_with_it() {
    let cluster = Cluster::start().await;
    assert_eq!(cluster.given().await, texts(&["10.96.0.1"]), "the service kubernetes has the first");
    let kubernetes = cluster.services.get("kubernetes").await.unwrap();
    assert_eq!(kubernetes.spec.cluster_ip, "10.96.0.1");
    let web = cluster.create("web", json!({})).await.unwrap();
    let range: AddressRange = "10.96.0.0/16".parse().unwrap();
    assert!(range.place(web.spec.cluster_ip.parse().unwrap()).unwrap() > 256, "{}", web.spec.cluster_ip);
    assert_eq!(web.spec.cluster_ips, std::slice::from_ref(&web.spec.cluster_ip));
    assert_eq!(web.spec.ip_families, ["IPv4"]);
    assert_eq!(json!(web.spec.ip_family_policy), "SingleStack");
    assert_eq!(cluster.given().await, texts(&["10.96.0.1", &web.spec.cluster_ip]));
    // A replacement that leaves it out keeps it.
    let mut bare = service("web", json!({ "selector": { "app": "other" } }));
    bare.metadata.namespace = Some("default".to_owned());
    let kept = cluster.services.update(bare, &PostParams::default()).await.unwrap();
    assert_eq!(kept.spec.cluster_ip, web.spec.cluster_ip);
    cluster.services.delete("web", &DeleteParams::default()).await.unwrap();
    assert_eq!(cluster.given().await, texts(&["10.96.0.1"]));
}

#[tokio::test]
async fn a_chosen_address_or_port_is_honoured_or_refused() {
    let cluster = Cluster::start().await;
    let chosen = json!({ "clusterIP": "10.96.0.10", "type": "NodePort", "ports": [{ "port": 80, "nodePort": 30080 }] });
    let web = cluster.create("web", chosen).await.unwrap();
    assert_eq!((web.spec.cluster_ip.as_str(), web.spec.ports[0].node_port), ("10.96.0.10", 30080));
    for (spec, expected) in [
        (
            json!({ "clusterIP": "10.96.0.10" }),
            "spec.clusterIPs: Invalid value: [\"10.96.0.10\"]: failed to allocate IP 10.96.0.10: provided IP is already \
             allocated",
        ),
        (
            json!({ "clusterIP": "10.97.0.10" }),
            "spec.clusterIPs: Invalid value: [\"10.97.0.10\"]: failed to allocate IP 10.97.0.10: the provided IP \
             (10.97.0.10) is not in the valid range. The range of valid IPs is 10.96.0.0/16",
        ),
        (
            json!({ "clusterIP": "fd00::1" }),
            "spec.clusterIPs[0]: Invalid value: [\"fd00::1\"]: IPv6 is not configured on this cluster",
        ),
        (
            json!({ "ipFamilyPolicy": "RequireDualStack" }),
            "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack \
             services",
        ),
        (
            json!({ "ipFamilies": ["IPv6"] }),
            "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster",
        ),
        (
            json!({ "type": "NodePort", "ports": [{ "port": 80, "nodePort": 30080 }] }),
            "spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated",
        ),
        (
            json!({ "type": "NodePort", "ports": [{ "port": 80, "nodePort": 80 }] }),
            "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports \
             is 30000-32767",
        ),
    ] {
        let error = cluster.create("other", spec).await.unwrap_err();
        assert_eq!(error.code(), 422);
        assert_eq!(error.to_string(), format!("Service \"other\" is invalid: {expected}"));
    }
    assert_eq!(cluster.given().await, texts(&["10.96.0.1", "10.96.0.10", "30080"]), "who is refused keeps nothing");
}

#[tokio::test]
async fn a_change_of_type_gives_and_takes() {
    let cluster = Cluster::start().await;
    let web = cluster.create("web", json!({})).await.unwrap();
    let ip = web.spec.cluster_ip.clone();
    let web = cluster.patch("web", json!({ "type": "NodePort" })).await.unwrap();
    let port = web.spec.ports[0].node_port;
    assert!((30000..=32767).contains(&port));
    assert_eq!(web.spec.cluster_ip, ip);
    assert_eq!(cluster.given().await, texts(&["10.96.0.1", &ip, &port.to_string()]));
    // A port that is changed keeps its node port by its name.
    let web = cluster.patch("web", json!({ "ports": [{ "name": "http", "port": 81 }] })).await.unwrap();
    assert_eq!((web.spec.ports[0].port, web.spec.ports[0].node_port), (81, port));
    let local = json!({ "type": "LoadBalancer", "externalTrafficPolicy": "Local" });
    let web = cluster.patch("web", local).await.unwrap();
    assert_eq!(web.spec.ports[0].node_port, port);
    let check = web.spec.health_check_node_port;
    assert!(check != 0 && check != port);
    assert_eq!(cluster.given().await, texts(&["10.96.0.1", &ip, &port.to_string(), &check.to_string()]));
    let web = cluster.patch("web", json!({ "type": "ClusterIP" })).await.unwrap();
    assert_eq!((web.spec.ports[0].node_port, web.spec.health_check_node_port), (0, 0));
    assert_eq!(web.spec.external_traffic_policy.as_str(), "");
    assert_eq!(cluster.given().await, texts(&["10.96.0.1", &ip]));
    let external = json!({ "type": "ExternalName", "externalName": "example.com" });
    let web = cluster.patch("web", external).await.unwrap();
    assert_eq!((web.spec.cluster_ip.as_str(), web.spec.cluster_ips.len(), web.spec.ip_families.len()), ("", 0, 0));
    assert_eq!(cluster.given().await, texts(&["10.96.0.1"]));
    let web = cluster.patch("web", json!({ "type": "ClusterIP", "externalName": null })).await.unwrap();
    assert_eq!(cluster.given().await, texts(&["10.96.0.1", &web.spec.cluster_ip]));
}

#[tokio::test]
async fn headless_services_balancers_without_node_ports_and_twins_take_what_they_need() {
    let cluster = Cluster::start().await;
    let headless = cluster.create("headless", json!({ "clusterIP": "None" })).await.unwrap();
    assert_eq!(headless.spec.cluster_ips, ["None"]);
    assert_eq!(headless.spec.ip_families, ["IPv4"]);
    let manual = cluster.create("manual", json!({ "clusterIP": "None", "selector": {} })).await;
    let manual = manual.unwrap();
    assert_eq!(
        json!([manual.spec.ip_families, manual.spec.ip_family_policy]),
        json!([["IPv4", "IPv6"], "RequireDualStack"])
    );
    let external = json!({ "type": "ExternalName", "externalName": "example.com" });
    let external = cluster.create("external", external).await.unwrap();
    assert_eq!((external.spec.cluster_ip.as_str(), external.spec.ip_family_policy.is_none()), ("", true));
    assert_eq!(cluster.given().await, texts(&["10.96.0.1"]));
    let bare = json!({ "type": "LoadBalancer", "allocateLoadBalancerNodePorts": false });
    assert_eq!(cluster.create("bare", bare).await.unwrap().spec.ports[0].node_port, 0);
    let twins = json!([{ "name": "u", "port": 53, "protocol": "UDP" }, { "name": "t", "port": 53, "protocol": "TCP" }]);
    let dns = cluster.create("dns", json!({ "type": "LoadBalancer", "ports": twins })).await.unwrap();
    let ports: BTreeSet<i32> = dns.spec.ports.iter().map(|port| port.node_port).collect();
    assert_eq!(ports.len(), 1, "one number for both protocols");
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let before = cluster.given().await;
    let shown = cluster.services.create(service("dry", json!({ "type": "NodePort" })), &dry).await.unwrap();
    assert!(!shown.spec.cluster_ip.is_empty() && shown.spec.ports[0].node_port != 0);
    assert_eq!(cluster.given().await, before, "a trial takes nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_servers_on_a_failing_store_never_give_a_thing_twice() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    // Room for 29 addresses besides the first and 31 of the other family, and 32 ports.
    let (addresses, ports) = ("10.0.0.0/27,fd00::/123", "30000-30031");
    let mut apis = Vec::new();
    for seed in [1, 2] {
        let faulty = Arc::new(FaultyStore::new(Arc::clone(&store), Faults::none(), seed));
        apis.push(Api::<Service>::namespaced(client(faulty.clone(), seed, addresses, ports).await, "default"));
        faulty.set_faults(Faults { delay: 0.0, ..Faults::some() });
    }
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..8 {
        let services = apis[worker % 2].clone();
        workers.spawn(async move {
            for round in 0..12 {
                let name = format!("s{worker}-{round}");
                // A number that is not there any more, or an outcome that is not known: as it may be.
                let both = json!({ "type": "NodePort", "ipFamilyPolicy": "RequireDualStack" });
                let _ = services.create(service(&name, both), &PostParams::default()).await;
                if round % 3 == 0 {
                    let _ = services.delete(&name, &DeleteParams::default()).await;
                } else if round % 3 == 1 {
                    let less = json!({ "type": "ClusterIP", "ipFamilyPolicy": "SingleStack" });
                    let patch = Patch::Merge(json!({ "spec": less }));
                    let _ = services.patch(&name, &patch, &PatchParams::default()).await;
                }
            }
        });
    }
    workers.join_all().await;
    let page = store.list("/registry//services/", ListOptions::default()).await.unwrap();
    let mut total = 0;
    let mut all = BTreeSet::new();
    for entry in &page.entries {
        let service: Service = serde_json::from_slice(&entry.value).unwrap();
        let held = held(&service);
        assert!(!held.is_empty());
        total += held.len();
        all.extend(held.into_iter().map(|key| key.rsplit('/').next().unwrap().to_owned()));
    }
    assert_eq!(all.len(), total, "nothing is held twice");
    assert_eq!(given(&*store).await, all, "what is given is what is held");
    assert!(page.entries.len() > 15, "{}", page.entries.len());
}

#[tokio::test]
async fn a_server_says_where_it_is() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let registry = Registry::start(store, Arc::new(VirtualClock::new()), Options::new(1)).await.unwrap();
    let client: Arc<dyn Client> = Arc::new(LocalClient::new(Arc::clone(&registry), "test"));
    let services = Api::<Service>::namespaced(Arc::clone(&client), "default");
    let slices = Api::<EndpointSlice>::namespaced(Arc::clone(&client), "default");
    registry.advertise("127.0.0.1:7001".parse().unwrap()).await.unwrap();
    assert!(slices.get_opt("kubernetes").await.unwrap().is_none(), "nobody else reaches it there");
    for port in [7001, 7002] {
        registry.advertise(format!("192.0.2.7:{port}").parse().unwrap()).await.unwrap();
        let service = services.get("kubernetes").await.unwrap();
        let slice = slices.get("kubernetes").await.unwrap();
        assert_eq!(
            json!(service.spec.ports),
            json!([{ "name": "https", "port": 443, "protocol": "TCP", "targetPort": port }])
        );
        assert_eq!((slice.endpoints[0].addresses[0].as_str(), slice.ports[0].port), ("192.0.2.7", Some(port)));
        let endpoints = Api::<Endpoints>::namespaced(Arc::clone(&client), "default").get("kubernetes").await.unwrap();
        assert_eq!(endpoints.subsets[0].ports[0].port, port);
    }
}

#[test]
fn ranges_are_read_and_count_what_can_be_given() {
    let range: AddressRange = "10.96.1.7/24".parse().unwrap();
    assert_eq!((range.to_string().as_str(), range.size()), ("10.96.1.0/24", 254));
    assert_eq!(range.at(1).to_string(), "10.96.1.1");
    assert_eq!(range.at(254).to_string(), "10.96.1.254");
    assert_eq!(range.place("10.96.1.254".parse().unwrap()), Some(254));
    for outside in ["10.96.1.0", "10.96.1.255", "10.96.2.1", "10.96.0.255", "fd00::1"] {
        assert_eq!(range.place(outside.parse().unwrap()), None, "{outside}");
    }
    let range: AddressRange = "fd00:1::/108".parse().unwrap();
    assert_eq!((range.family(), range.at(1).to_string().as_str()), ("IPv6", "fd00:1::1"));
    for wrong in ["10.96.0.0", "10.96.0/16", "10.96.0.0/31", "10.96.0.0/x", "fd00::/127"] {
        assert!(wrong.parse::<AddressRange>().is_err(), "{wrong}");
    }
    let ports: PortRange = "100-200".parse().unwrap();
    assert_eq!((ports.size(), ports.at(100), ports.contains(200), ports.contains(99)), (101, 200, true, false));
    for wrong in ["100", "0-5", "9-5", "1-65536"] {
        assert!(wrong.parse::<PortRange>().is_err(), "{wrong}");
    }
}
