use longshore_core::client::params::{Patch, PatchParams, PostParams};
use longshore_core::client::{Api, Client};
use longshore_core::clock::SystemClock;
use longshore_core::kind::Kind;
use longshore_network::dns::hickory_proto::rr::{Name, RecordType};
use longshore_network::dns::{Found, Options, PodNames, Upstreams};
use serde_json::{Value, json};

use super::*;
use crate::testing::World;

async fn server(pod_names: PodNames) -> Server {
    let options = Options::new("127.0.0.1:0".parse().unwrap(), 7);
    let options = Options { pod_names, upstreams: Upstreams::Fixed(vec![]), ..options };
    Server::bind(options, Arc::new(SystemClock::new())).await.unwrap()
}

/// What a name below `ns.…` stands for, as text.
fn ask(names: &Names, name: &str, kind: RecordType) -> Vec<String> {
    let name = Name::from_ascii(format!("{name}.cluster.local.")).unwrap();
    match names.read().look_up(&name, kind) {
        Found::Records { answers, .. } => answers.iter().map(|record| record.data.to_string()).collect(),
        Found::Alias { target, .. } => vec![target.to_string()],
        other => vec![format!("{other:?}")],
    }
}

async fn create<K: Kind>(world: &World, object: Value) {
    world.api::<K>().create(serde_json::from_value(object).unwrap(), &PostParams::default()).await.unwrap();
}

fn slice(name: &str, ports: Value, endpoints: Value) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "ports": ports, "endpoints": endpoints,
    })
}

async fn create_namespace(client: Arc<dyn Client>) {
    let namespace = serde_json::from_value(json!({"metadata": {"name": "ns"}})).unwrap();
    Api::<Namespace>::all(client).create(namespace, &PostParams::default()).await.unwrap();
}

#[tokio::test]
async fn services_and_their_endpoints_have_names() {
    let mut world = World::new();
    world.options.proxy = Some(true);
    let server = server(PodNames::Insecure).await;
    let names = server.names();
    assert_eq!(ask(&names, "web.ns.svc", RecordType::A), ["Unready"]);
    create_namespace(world.client()).await;
    world.with_agent(world.agent().with_dns(server), async {
        let is = |name: &'static str, expected: &'static [&'static str]| {
            let (world, names) = (&world, &names);
            async move {
                world.until(name, || (ask(names, name, RecordType::A) == expected).then_some(())).await;
            }
        };
        is("web.ns.svc", &["NoName"]).await;
        is("ns.svc", &["NoData"]).await;
        create::<Service>(&world, json!({"metadata": {"name": "web"}, "spec": {"clusterIP": "None", "ports": [{"name": "http", "port": 80}]}})).await;
        let ready = |address: &str, hostname: &str, ready: bool| json!({"addresses": [address], "hostname": hostname, "conditions": {"ready": ready}});
        let http = json!([{"name": "http", "port": 8080, "protocol": "TCP"}]);
        create::<EndpointSlice>(&world, slice("a", http, json!([ready("10.1.0.5", "web-0", true), ready("10.1.0.6", "web-1", false)]))).await;
        // The same endpoint with another port, and one that says nothing of itself.
        let https = json!([{"name": "https", "port": 8443}]);
        create::<EndpointSlice>(&world, slice("b", https, json!([ready("10.1.0.5", "web-0", true), {"addresses": ["10.1.0.7"]}]))).await;
        is("web.ns.svc", &["10.1.0.5", "10.1.0.7"]).await;
        is("web-0.web.ns.svc", &["10.1.0.5"]).await;
        is("web-1.web.ns.svc", &["NoName"]).await;
        is("10-1-0-7.web.ns.svc", &["10.1.0.7"]).await;
        assert_eq!(ask(&names, "_https._tcp.web.ns.svc", RecordType::SRV).len(), 2);
        assert_eq!(ask(&names, "_http._tcp.web.ns.svc", RecordType::SRV), ["0 100 8080 web-0.web.ns.svc.cluster.local."]);

        // A slice that is given away is no longer the service's.
        let away = Patch::Merge(json!({"metadata": {"labels": {"kubernetes.io/service-name": "other"}}}));
        world.api::<EndpointSlice>().patch("b", &away, &PatchParams::default()).await.unwrap();
        is("web.ns.svc", &["10.1.0.5"]).await;
        create::<Service>(&world, json!({"metadata": {"name": "out"}, "spec": {"type": "ExternalName", "externalName": "example.com"}})).await;
        is("out.ns.svc", &["example.com."]).await;
        create::<Service>(&world, json!({"metadata": {"name": "api"}, "spec": {"clusterIP": "10.96.0.7", "ports": [{"port": 80}]}})).await;
        is("api.ns.svc", &["10.96.0.7"]).await;
        is("10-1-0-5.ns.pod", &["10.1.0.5"]).await;
        world.api::<Service>().delete("api", &Default::default()).await.unwrap();
        is("api.ns.svc", &["NoName"]).await;
    })
    .await;
    // With the agent gone, what it told last is still known.
    assert_eq!(ask(&names, "web-0.web.ns.svc", RecordType::A), ["10.1.0.5"]);
}

#[tokio::test]
async fn names_of_pods_are_verified_where_they_must_be() {
    let mut world = World::new();
    world.options.proxy = Some(true);
    let server = server(PodNames::Verified).await;
    let names = server.names();
    world
        .with_agent(world.agent().with_dns(server), async {
            // A pod of another node.
            create::<Pod>(&world, json!({"metadata": {"name": "a"}, "spec": {"containers": []}})).await;
            let told = |status: Value| Patch::Merge(json!({"status": status}));
            let api = world.api::<Pod>();
            api.patch_status(
                "a",
                &told(json!({"podIP": "10.1.0.9", "podIPs": [{"ip": "10.1.0.9"}]})),
                &PatchParams::default(),
            )
            .await
            .unwrap();
            let known = || ask(&names, "10-1-0-9.ns.pod", RecordType::A) == ["10.1.0.9"];
            world.until("it has a name", || known().then_some(())).await;
            assert_eq!(ask(&names, "10-1-0-8.ns.pod", RecordType::A), ["NoName"]);
            api.patch_status("a", &told(json!({"phase": "Succeeded"})), &PatchParams::default()).await.unwrap();
            world.until("its name is gone", || (!known()).then_some(())).await;
        })
        .await;
}

#[tokio::test]
async fn what_is_sent_to_the_clusters_dns_goes_to_the_node() {
    let mut world = World::new();
    world.options.proxy = Some(true);
    world.options.cluster_dns = vec!["10.96.0.10".parse().unwrap()];
    let server = server(PodNames::Insecure).await;
    let address = server.address();
    let backends = |world: &World| {
        let table = world.network.services.lock().unwrap();
        table
            .iter()
            .flat_map(|port| port.backends.iter().map(|of| (port.name.clone(), of.address.to_string(), of.port)))
            .collect::<Vec<_>>()
    };
    let own = |name: &str| (name.to_owned(), address.ip().to_string(), address.port());
    world.with_agent(world.agent().with_dns(server), async {
        let is = |expected: Vec<(String, String, u16)>| {
            let (world, backends) = (&world, &backends);
            async move { world.until("the table is so", || (backends(world) == expected).then_some(())).await }
        };
        is(vec![own("node/dns"), own("node/dns-tcp")]).await;
        // The Service that says so, without endpoints, changes nothing but the names.
        let ports = json!([{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]);
        create::<Service>(&world, json!({"metadata": {"name": "web"}, "spec": {"clusterIP": "10.96.0.10", "ports": ports}})).await;
        is(vec![own("ns/web:dns"), own("ns/web:dns-tcp")]).await;
        // Somebody's own server takes over, for what it serves.
        let ports = json!([{"name": "dns", "port": 5353, "protocol": "UDP"}]);
        create::<EndpointSlice>(&world, slice("a", ports, json!([{"addresses": ["10.1.0.5"]}]))).await;
        is(vec![("ns/web:dns".to_owned(), "10.1.0.5".to_owned(), 5353), own("ns/web:dns-tcp")]).await;
    })
    .await;
}
