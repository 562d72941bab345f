//! Which rules Services become.

use longshore_core::network::{Backend, HostPort, Protocol, ServicePort};

use crate::nft::{PodPorts, Ruleset, desired, node};

fn backend(address: &str, local: bool) -> Backend {
    Backend { address: address.parse().unwrap(), port: 8080, local }
}

fn web(backends: &[Backend]) -> ServicePort {
    ServicePort {
        name: "default/web:http".into(),
        protocol: Protocol::Tcp,
        addresses: vec!["10.96.0.1".parse().unwrap()],
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

    service.backends.remove(0);
    let ruleset = rules(service);
    assert_eq!(elements(&ruleset, "services"), [""; 0]);
    assert_eq!(chain(&ruleset, "external/default/web/http/tcp")[2], "drop");
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
    let commands = old.difference(&new, "t");
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
