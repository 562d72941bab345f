use longshore_core::client::params::{DeleteParams, PostParams};
use longshore_core::informer::Selection;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use serde_json::{Value, from_value, json};

use super::*;
use crate::testing::World;

fn service(spec: Value) -> Arc<Service> {
    let object = json!({"metadata": {"namespace": "ns", "name": "web"}, "spec": spec});
    Arc::new(serde_json::from_value(object).unwrap())
}

fn slice(name: &str, ports: Value, endpoints: Value) -> Arc<EndpointSlice> {
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"namespace": "ns", "name": name, "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4", "ports": ports, "endpoints": endpoints,
        }))
        .unwrap(),
    )
}

fn endpoint(address: &str, node: &str, ready: bool, serving: bool, terminating: bool) -> Value {
    let conditions = json!({"ready": ready, "serving": serving, "terminating": terminating});
    json!({"addresses": [address], "nodeName": node, "conditions": conditions})
}

fn service_ports(services: &[Arc<Service>], slices: &[Arc<EndpointSlice>], node: &str) -> Vec<ServicePort> {
    let of_each = services.iter().map(|service| (ObjectKey::of(&**service), of_service(service, slices, node)));
    Table { services: of_each.collect(), zone: None }.ports()
}

fn backends(ports: &[ServicePort]) -> Vec<String> {
    let text = |backend: &Backend| {
        let place = if backend.local { " local" } else { "" };
        format!("{}:{}{place}{}", backend.address, backend.port, if backend.fallback { " fallback" } else { "" })
    };
    ports.iter().flat_map(|port| &port.backends).map(text).collect()
}

#[test]
fn a_port_goes_to_ready_endpoints_by_its_name() {
    let service = service(json!({
        "clusterIP": "10.96.0.10", "type": "NodePort", "externalIPs": ["1.2.3.4"], "sessionAffinity": "ClientIP",
        "ports": [
            {"name": "metrics", "port": 9000, "targetPort": "m"},
            {"name": "http", "port": 80, "targetPort": "web", "nodePort": 30080},
        ],
    }));
    let ports = json!([{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "metrics", "port": 9999}]);
    let slices = [
        slice(
            "a",
            ports.clone(),
            json!([endpoint("10.0.0.2", "n1", true, true, false), endpoint("10.0.0.1", "n2", true, true, false)]),
        ),
        slice(
            "b",
            ports,
            json!([endpoint("10.0.0.3", "n2", false, false, false), endpoint("10.0.0.2", "n1", true, true, false)]),
        ),
    ];
    let table = service_ports(&[service], &slices, "n1");
    assert_eq!(table.iter().map(|port| port.name.as_str()).collect::<Vec<_>>(), ["ns/web:http", "ns/web:metrics"]);
    let http = &table[0];
    assert_eq!(http.addresses, ["10.96.0.10".parse::<IpAddr>().unwrap(), "1.2.3.4".parse().unwrap()]);
    assert_eq!((http.port, http.node_port, http.affinity_seconds), (80, Some(30080), Some(10_800)));
    assert_eq!(backends(&table[..1]), ["10.0.0.1:8080", "10.0.0.2:8080 local"]);
    assert_eq!(backends(&table[1..]), ["10.0.0.1:9999", "10.0.0.2:9999 local"]);
    assert_eq!(table[1].node_port, None);
}

#[test]
fn services_without_an_address_are_left_out_and_those_without_endpoints_are_not() {
    let ports = json!([{"port": 80}]);
    for spec in [
        json!({"clusterIP": "None", "ports": ports}),
        json!({"clusterIP": "", "ports": ports}),
        json!({"type": "ExternalName", "externalName": "example.com", "ports": ports}),
    ] {
        assert_eq!(service_ports(&[service(spec)], &[], "n1"), []);
    }
    let table = service_ports(&[service(json!({"clusterIP": "10.96.0.1", "ports": ports}))], &[], "n1");
    assert_eq!((table[0].name.as_str(), table[0].backends.len()), ("ns/web:80", 0));
}

#[test]
fn endpoints_on_their_way_out_serve_when_nobody_else_does() {
    let spec = |policy: &str| json!({"clusterIP": "10.96.0.1", "type": "NodePort", "externalTrafficPolicy": policy, "ports": [{"port": 80}]});
    let leaving = endpoint("10.0.0.1", "n1", false, true, true);
    let dead = endpoint("10.0.0.2", "n1", false, false, true);
    let ready = endpoint("10.0.0.3", "n2", true, true, false);
    for (policy, endpoints, expected) in [
        ("Cluster", json!([leaving, dead]), &["10.0.0.1:8080 local"][..]),
        ("Cluster", json!([leaving, dead, ready]), &["10.0.0.3:8080"]),
        ("Local", json!([leaving, dead, ready]), &["10.0.0.1:8080 local fallback", "10.0.0.3:8080"]),
    ] {
        let slices = [slice("a", json!([{"port": 8080}]), endpoints)];
        let table = service_ports(&[service(spec(policy))], &slices, "n1");
        assert_eq!(backends(&table), expected, "{policy}");
        assert_eq!(table[0].external_local, policy == "Local");
    }
}

#[test]
fn internal_traffic_can_stay_on_the_node() {
    let spec = json!({"clusterIP": "10.96.0.1", "internalTrafficPolicy": "Local", "externalTrafficPolicy": "Local", "ports": [{"port": 53, "protocol": "UDP"}]});
    let table =
        service_ports(&[service(spec)], &[slice("a", json!([{"port": 5353, "protocol": "TCP"}]), json!([]))], "n1");
    assert!(table[0].internal_local);
    assert!(!table[0].external_local, "nothing comes from outside");
    assert!(table[0].backends.is_empty(), "another protocol is another port");
}

#[test]
fn addresses_of_load_balancers_stand_by_themselves() {
    let object = json!({
        "metadata": {"namespace": "ns", "name": "web"},
        "spec": {
            "clusterIP": "10.96.0.1", "type": "LoadBalancer", "ports": [{"port": 80}],
            "loadBalancerSourceRanges": ["192.0.2.0/24", " fd00::/8"],
        },
        "status": {"loadBalancer": {"ingress": [
            {"ip": "203.0.113.1"}, {"ip": "203.0.113.2", "ipMode": "Proxy"}, {"hostname": "example.com"},
        ]}},
    });
    let table = service_ports(&[Arc::new(serde_json::from_value(object).unwrap())], &[], "n1");
    assert_eq!(table[0].addresses.len(), 1);
    assert_eq!(table[0].balancers, ["203.0.113.1".parse::<IpAddr>().unwrap()]);
    let sources: Vec<String> = table[0].balancer_sources.iter().map(ToString::to_string).collect();
    assert_eq!(sources, ["192.0.2.0/24", "fd00::/8"]);
}

#[test]
fn endpoints_of_somebody_elses_making_count_like_ours() {
    // A service without a selector: whoever made the slice says who answers.
    let service = service(json!({"clusterIP": "10.96.0.1", "ports": [{"port": 80}]}));
    let slices = [slice(
        "by-hand",
        json!([{"name": "", "port": 9376, "protocol": "TCP"}]),
        json!([{"addresses": ["192.0.2.42"]}]),
    )];
    assert_eq!(backends(&service_ports(&[service], &slices, "n1")), ["192.0.2.42:9376"]);
}

#[test]
fn families_choose_for_themselves() {
    let spec = json!({"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd02::1"], "ports": [{"port": 80}]});
    let four = slice("four", json!([{"port": 8080}]), json!([endpoint("10.0.0.1", "n1", true, true, false)]));
    let six = slice("six", json!([{"port": 8080}]), json!([endpoint("fd01::1", "n1", false, true, true)]));
    let table = service_ports(&[service(spec)], &[four, six], "n1");
    assert_eq!(backends(&table), ["10.0.0.1:8080 local", "fd01::1:8080 local"]);
}

/// Whoever saw every change has what one has who looks at everything now.
#[tokio::test]
async fn services_that_changed_are_worked_out_and_no_others() {
    let world = World::new();
    let clock = || Arc::new(world.clock.clone());
    let services: Informer<Service> = Informer::new(world.client(), clock(), Selection::default(), 1);
    let slices: Informer<EndpointSlice> = Informer::new(world.client(), clock(), Selection::default(), 2);
    let seen = Services::new(services.clone(), slices.clone());
    let mut table = Table::default();
    let mut random = Pcg64::seed_from_u64(4);
    let (api_of_services, api_of_slices) = (world.api::<Service>(), world.api::<EndpointSlice>());
    for step in 0..120 {
        let (service, n) = (format!("s{}", random.random_range(0..4)), random.random_range(0..6));
        let slice = format!("slice-{n}");
        // Whether they were there is of no interest.
        match random.random_range(0..4) {
            0 => drop(api_of_services.delete(&service, &DeleteParams::default()).await),
            1 => drop(api_of_slices.delete(&slice, &DeleteParams::default()).await),
            2 => {
                let port = random.random_range(80..83);
                let object = json!({"metadata": {"name": service}, "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": port}]}});
                drop(api_of_services.delete(&service, &DeleteParams::default()).await);
                api_of_services.create(from_value(object).unwrap(), &PostParams::default()).await.unwrap();
            }
            _ => {
                let hints = if random.random() { json!({"forZones": [{"name": "1"}]}) } else { Value::Null };
                let endpoint = json!({"addresses": [format!("10.0.0.{}", random.random_range(1..5))], "hints": hints});
                let object = json!({
                    "metadata": {"name": slice, "labels": {"kubernetes.io/service-name": service}},
                    "addressType": "IPv4", "ports": [{"port": 8080}], "endpoints": [endpoint],
                });
                drop(api_of_slices.delete(&slice, &DeleteParams::default()).await);
                api_of_slices.create(from_value(object).unwrap(), &PostParams::default()).await.unwrap();
            }
        }
        services.refresh().await.unwrap();
        slices.refresh().await.unwrap();
        let here = Here { node: "n1", zone: Some(["1", "2"][usize::from(random.random_bool(0.1))]) };
        table.update(&seen, &here);
        let mut whole = Table::default();
        whole.update(&Services::new(services.clone(), slices.clone()), &here);
        assert_eq!(table.ports(), whole.ports(), "step {step}");
    }
    assert!(!table.ports().is_empty());
    // Nothing changed: nothing is looked at.
    assert!(seen.take().is_empty());
}
