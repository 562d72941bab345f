//! Which rules Services become.

use longshore_core::network::{Backend, HostPort, Protocol, ServicePort};

use crate::family::Family;
use crate::nft::{PodPorts, Ruleset, Way, desired, node};

fn backend(address: &str, local: bool) -> Backend {
    Backend { address: address.parse().unwrap(), port: 8080, local, fallback: false }
}

fn web(backends: &[Backend]) -> ServicePort {
    ServicePort {
        name: "default/web:http".into(),
        protocol: Protocol::Tcp,
        addresses: vec!["10.96.0.1".parse().unwrap()],
        balancers: Vec::new(),
        balancer_sources: Vec::new(),
        port: 80,
        node_port: None,
        affinity_seconds: None,
        internal_local: false,
        external_local: false,
        backends: backends.to_vec(),
    }
}

fn rules(service: ServicePort) -> Ruleset {
    desired(&node(), [], &[service])
}

fn chain<'a>(ruleset: &'a Ruleset, name: &str) -> Vec<&'a str> {
    ruleset.chains.get(name).map(|chain| chain.rules.iter().map(String::as_str).collect()).unwrap_or_default()
}

fn elements(ruleset: &Ruleset, set: &str) -> Vec<String> {
    ruleset.sets[set].elements.iter().map(|(key, value)| format!("{key} {value}").trim().to_owned()).collect()
}

#[test]
fn a_cluster_ip_leads_to_any_backend() {
    let ruleset = rules(web(&[backend("10.1.0.2", true), backend("10.1.1.2", false)]));
    assert_eq!(elements(&ruleset, "services"), ["10.96.0.1 . tcp . 80 goto any/default/web/http/tcp"]);
    assert_eq!(
        chain(&ruleset, "any/default/web/http/tcp"),
        [
            "meta l4proto tcp dnat ip to numgen random mod 2 map { 0 : 10.1.0.2 . 8080, 1 : 10.1.1.2 . 8080 }",
            "meta l4proto tcp dnat ip to 10.1.0.2:8080",
        ]
    );
    assert_eq!(chain(&ruleset, "external/default/web/http/tcp"), [""; 0]);
}

#[test]
fn without_backends_connections_are_refused() {
    let mut service = web(&[]);
    service.addresses.push("192.0.2.7".parse().unwrap());
    service.node_port = Some(30080);
    let ruleset = rules(service);
    assert_eq!(elements(&ruleset, "services"), [""; 0]);
    assert_eq!(elements(&ruleset, "refused"), ["192.0.2.7 . tcp . 80"]);
    assert_eq!(elements(&ruleset, "refused-node-ports"), ["tcp . 30080"]);
}

#[test]
fn traffic_policies_choose_the_backends() {
    let mut service = web(&[backend("10.1.0.2", true), backend("10.1.1.2", false)]);
    service.node_port = Some(30080);
    service.internal_local = true;
    service.external_local = true;
    let ruleset = rules(service.clone());
    assert_eq!(elements(&ruleset, "services"), ["10.96.0.1 . tcp . 80 goto local/default/web/http/tcp"]);
    assert_eq!(chain(&ruleset, "local/default/web/http/tcp"), ["meta l4proto tcp dnat ip to 10.1.0.2:8080"]);
    assert_eq!(
        chain(&ruleset, "external/default/web/http/tcp"),
        [
            "ip saddr @cluster goto any/default/web/http/tcp",
            "fib saddr type local meta mark set meta mark | 0x4000 goto any/default/web/http/tcp",
            "goto local/default/web/http/tcp",
        ]
    );

    // Where there is none on this node, as upstream does.
    service.backends.remove(0);
    let ruleset = rules(service);
    assert_eq!(elements(&ruleset, "services"), ["10.96.0.1 . tcp . 80 drop"]);
    assert_eq!(chain(&ruleset, "external/default/web/http/tcp")[2], "drop");
}

#[test]
fn a_backend_on_its_way_out_takes_only_what_must_stay_on_the_node() {
    let mut service = web(&[backend("10.1.0.2", true), backend("10.1.1.2", false)]);
    service.backends[0].fallback = true;
    service.node_port = Some(30080);
    service.external_local = true;
    let ruleset = rules(service);
    assert_eq!(chain(&ruleset, "any/default/web/http/tcp"), ["meta l4proto tcp dnat ip to 10.1.1.2:8080"]);
    assert_eq!(chain(&ruleset, "local/default/web/http/tcp"), ["meta l4proto tcp dnat ip to 10.1.0.2:8080"]);
}

#[test]
fn a_load_balancer_lets_its_sources_through() {
    let mut service = web(&[backend("10.1.0.2", true)]);
    service.balancers = vec!["203.0.113.1".parse().unwrap()];
    let ruleset = rules(service.clone());
    assert_eq!(elements(&ruleset, "services")[1], "203.0.113.1 . tcp . 80 goto external/default/web/http/tcp");
    service.balancer_sources = vec!["192.0.2.0/24".parse().unwrap(), "fd00::/8".parse().unwrap()];
    let ruleset = rules(service.clone());
    assert_eq!(elements(&ruleset, "services")[1], "203.0.113.1 . tcp . 80 goto sources/default/web/http/tcp");
    assert_eq!(
        chain(&ruleset, "sources/default/web/http/tcp"),
        ["ip saddr 192.0.2.0/24 goto external/default/web/http/tcp", "drop"]
    );
    service.backends.clear();
    assert_eq!(elements(&rules(service), "refused"), ["203.0.113.1 . tcp . 80"]);
}

#[test]
fn a_family_has_its_own_backends_and_nothing_without_an_address() {
    let mut service = web(&[backend("10.1.0.2", true), backend("fd01::2", true)]);
    service.node_port = Some(30080);
    let mut six = node();
    (six.family, six.services) = (Family::V6, vec!["fd02::/112".parse().unwrap()]);
    six.way = Way::Bridge { interface: "lst-br".into(), pods: "fd01::/64".parse().unwrap() };
    six.cluster = Vec::new();
    let of_six = desired(&six, [], std::slice::from_ref(&service));
    assert_eq!(elements(&of_six, "services"), [""; 0]);
    assert_eq!(elements(&of_six, "node-ports"), [""; 0]);
    service.addresses.push("fd02::1".parse().unwrap());
    let of_six = desired(&six, [], std::slice::from_ref(&service));
    assert_eq!(elements(&of_six, "services"), ["fd02::1 . tcp . 80 goto any/default/web/http/tcp"]);
    assert_eq!(chain(&of_six, "any/default/web/http/tcp"), ["meta l4proto tcp dnat ip6 to [fd01::2]:8080"]);
    assert_eq!(elements(&rules(service), "services"), ["10.96.0.1 . tcp . 80 goto any/default/web/http/tcp"]);
}

#[test]
fn long_names_are_cut_and_still_differ() {
    let long = |end: char| {
        let mut service = web(&[backend("10.1.0.2", true)]);
        service.name = format!("{}/{}:{}{end}", "n".repeat(63), "s".repeat(63), "p".repeat(62));
        service.affinity_seconds = Some(86_400);
        service
    };
    let ruleset = desired(&node(), [], &[long('a'), long('b')]);
    let names = || ruleset.chains.keys().chain(ruleset.sets.keys());
    assert!(names().all(|name| name.len() <= 255), "{:?}", names().map(String::len).max());
    assert_eq!(names().filter(|name| name.starts_with("backend/")).count(), 2);
}

#[test]
fn one_endpoint_of_a_thousand_services_is_a_small_transaction() {
    let service = |n: u16, first: u8| {
        let mut service = web(&[]);
        service.name = format!("default/service-{n}:http");
        let [high, low] = n.to_be_bytes();
        service.addresses = vec![std::net::Ipv4Addr::new(10, 96, high, low).into()];
        service.backends = (first..first + 10).map(|b| backend(&format!("10.1.{low}.{b}"), false)).collect();
        service
    };
    let mut services: Vec<ServicePort> = (0..1000).map(|n| service(n, 10)).collect();
    let before = desired(&node(), [], &services);
    services[500].backends[9].address = "10.1.9.99".parse().unwrap();
    let after = desired(&node(), [], &services);
    let commands = before.difference(&after, "ip longshore-test");
    // One chain is flushed and gets its two rules again: the map of ten backends, and the first of them.
    assert_eq!(commands.lines().count(), 3, "{commands}");
    assert_eq!(commands.matches("10.1.").count(), 11);
    assert!(commands.len() < 600, "{} bytes: {commands}", commands.len());
    assert!(before.whole("ip longshore-test").len() > 500_000);
}

#[test]
fn clients_stay_with_their_backend() {
    let mut service = web(&[backend("10.1.0.2", true), backend("10.1.0.3", true)]);
    service.affinity_seconds = Some(10);
    let ruleset = rules(service);
    let clients = "clients/default/web/http/tcp/10.1.0.2/8080/10";
    assert!(ruleset.sets[clients].declaration.contains("timeout 10s"));
    let any = chain(&ruleset, "any/default/web/http/tcp");
    assert_eq!(any[0], format!("ip saddr @{clients} goto backend/default/web/http/tcp/10.1.0.2/8080"));
    assert_eq!(any.len(), 4);
    assert_eq!(any[3], "goto backend/default/web/http/tcp/10.1.0.2/8080");
    assert_eq!(
        chain(&ruleset, "backend/default/web/http/tcp/10.1.0.2/8080"),
        [format!("update @{clients} {{ ip saddr }}").as_str(), "meta l4proto tcp dnat ip to 10.1.0.2:8080"]
    );
}

#[test]
fn one_more_backend_changes_one_chain() {
    let old = rules(web(&[backend("10.1.0.2", true)]));
    let new = rules(web(&[backend("10.1.0.2", true), backend("10.1.0.3", true)]));
    let commands = old.difference(&new, "ip t");
    let words: Vec<&str> = commands.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(words, ["flush", "add", "add"], "{commands}");
}

#[test]
fn host_ports_of_one_address_or_all() {
    let port = |host_ip: Option<&str>, host_port| HostPort {
        protocol: Protocol::Udp,
        host_ip: host_ip.map(|ip| ip.parse().unwrap()),
        host_port,
        container_port: 53,
    };
    let ports = [port(None, 1), port(Some("0.0.0.0"), 2), port(Some("192.0.2.1"), 3), port(Some("::1"), 4)];
    let pod = PodPorts { address: "10.1.0.9".parse().unwrap(), host_ports: &ports };
    let ruleset = desired(&node(), [pod], &[]);
    assert_eq!(elements(&ruleset, "host-ports"), ["udp . 1 10.1.0.9 . 53", "udp . 2 10.1.0.9 . 53"]);
    assert_eq!(elements(&ruleset, "host-address-ports"), ["192.0.2.1 . udp . 3 10.1.0.9 . 53"]);
}
