//! Every example of the specification, and what it leaves open as CoreDNS answers it.

use super::*;

fn port(name: &str, protocol: Protocol, number: u16) -> Port {
    Port { name: name.into(), protocol, number }
}

fn endpoint(hostname: &str, address: &str, ports: &[Port]) -> Endpoint {
    let hostname = Some(hostname.to_owned()).filter(|name| !name.is_empty());
    Endpoint { address: address.parse().unwrap(), hostname, ports: ports.to_vec() }
}

fn cluster(addresses: &[&str], ports: &[Port], endpoints: Vec<Endpoint>) -> Service {
    let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
    Service { kind: ServiceKind::Cluster { addresses, ports: ports.to_vec() }, endpoints }
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn zone_with(pod_names: PodNames) -> Zone {
    let mut zone = Zone::new(name("cluster.local"), 5, pod_names, vec!["10.3.0.10".parse().unwrap()]);
    for namespace in ["default", "empty"] {
        zone.set_namespace(namespace, true);
    }
    let https = [port("https", Protocol::Tcp, 443)];
    let kubernetes = cluster(&["10.3.0.1"], &https, vec![endpoint("", "192.0.2.1", &https)]);
    zone.set_service("default", "kubernetes", Some(kubernetes));
    let peers = vec![
        endpoint("my-pet", "10.3.0.100", &https),
        endpoint("my-pet-2", "10.3.0.101", &https),
        endpoint("", "10.3.0.102", &https),
    ];
    zone.set_service("default", "headless", Some(Service { kind: ServiceKind::Headless, endpoints: peers }));
    zone.set_service("default", "lonely", Some(Service { kind: ServiceKind::Headless, endpoints: vec![] }));
    let ports = [port("dns", Protocol::Udp, 53), port("dns", Protocol::Tcp, 53), port("", Protocol::Tcp, 8080)];
    zone.set_service("default", "both", Some(cluster(&["10.3.0.2", "fd00::2"], &ports, vec![])));
    zone.set_service("default", "plain", Some(cluster(&["10.3.0.3"], &[], vec![])));
    let external = |name: &str| Service { kind: ServiceKind::External { name: name.into() }, endpoints: vec![] };
    zone.set_service("default", "foo", Some(external("www.example.com")));
    zone.set_service("default", "number", Some(external("192.0.2.9")));
    let six = vec![endpoint("", "fd00::7", &[])];
    zone.set_service("default", "six", Some(Service { kind: ServiceKind::Headless, endpoints: six }));
    zone.set_ready();
    zone
}

fn zone() -> Zone {
    zone_with(PodNames::Insecure)
}

fn text(record: &Record) -> String {
    record.to_string().replace(" IN ", " ")
}

/// What is found, as text: records, then `+` and those beside them.
fn ask(zone: &Zone, question: &str) -> Vec<String> {
    let (asked, kind) = question.split_once(' ').unwrap();
    match zone.look_up(&name(asked), kind.parse().unwrap()) {
        Found::Records { answers, additionals } => {
            answers.iter().map(text).chain(additionals.iter().map(|record| format!("+ {}", text(record)))).collect()
        }
        Found::Alias { cname, .. } => vec![text(&cname)],
        other => vec![format!("{other:?}")],
    }
}

#[test]
fn the_specifications_examples_are_answered() {
    let zone = zone();
    let cases: &[(&str, &[&str])] = &[
        ("dns-version.cluster.local. TXT", &["dns-version.cluster.local. 28800 TXT 1.1.0"]),
        ("kubernetes.default.svc.cluster.local. A", &["kubernetes.default.svc.cluster.local. 5 A 10.3.0.1"]),
        (
            "_https._tcp.kubernetes.default.svc.cluster.local. SRV",
            &[
                "_https._tcp.kubernetes.default.svc.cluster.local. 5 SRV 0 100 443 kubernetes.default.svc.cluster.local.",
                "+ kubernetes.default.svc.cluster.local. 5 A 10.3.0.1",
            ],
        ),
        ("1.0.3.10.in-addr.arpa. PTR", &["1.0.3.10.in-addr.arpa. 5 PTR kubernetes.default.svc.cluster.local."]),
        (
            "headless.default.svc.cluster.local. A",
            &[
                "headless.default.svc.cluster.local. 5 A 10.3.0.100",
                "headless.default.svc.cluster.local. 5 A 10.3.0.101",
                "headless.default.svc.cluster.local. 5 A 10.3.0.102",
            ],
        ),
        (
            "my-pet.headless.default.svc.cluster.local. A",
            &["my-pet.headless.default.svc.cluster.local. 5 A 10.3.0.100"],
        ),
        (
            "_https._tcp.headless.default.svc.cluster.local. SRV",
            &[
                "_https._tcp.headless.default.svc.cluster.local. 5 SRV 0 33 443 10-3-0-102.headless.default.svc.cluster.local.",
                "_https._tcp.headless.default.svc.cluster.local. 5 SRV 0 33 443 my-pet.headless.default.svc.cluster.local.",
                "_https._tcp.headless.default.svc.cluster.local. 5 SRV 0 33 443 my-pet-2.headless.default.svc.cluster.local.",
                "+ my-pet.headless.default.svc.cluster.local. 5 A 10.3.0.100",
                "+ my-pet-2.headless.default.svc.cluster.local. 5 A 10.3.0.101",
                "+ 10-3-0-102.headless.default.svc.cluster.local. 5 A 10.3.0.102",
            ],
        ),
        (
            "100.0.3.10.in-addr.arpa. PTR",
            &["100.0.3.10.in-addr.arpa. 5 PTR my-pet.headless.default.svc.cluster.local."],
        ),
        ("foo.default.svc.cluster.local. A", &["foo.default.svc.cluster.local. 5 CNAME www.example.com."]),
        ("1-2-3-4.default.pod.cluster.local. A", &["1-2-3-4.default.pod.cluster.local. 5 A 1.2.3.4"]),
    ];
    for (question, expected) in cases {
        assert_eq!(ask(&zone, question), *expected, "{question}");
    }
}

#[test]
fn what_the_specification_leaves_open_is_answered_as_by_coredns() {
    let zone = zone();
    let cases: &[(&str, &[&str])] = &[
        // Both families, and one name with two addresses is one target.
        ("both.default.svc.cluster.local. AAAA", &["both.default.svc.cluster.local. 5 AAAA fd00::2"]),
        (
            "_dns._udp.both.default.svc.cluster.local. SRV",
            &[
                "_dns._udp.both.default.svc.cluster.local. 5 SRV 0 100 53 both.default.svc.cluster.local.",
                "+ both.default.svc.cluster.local. 5 A 10.3.0.2",
                "+ both.default.svc.cluster.local. 5 AAAA fd00::2",
            ],
        ),
        ("_dns._tcp.both.default.svc.cluster.local. A", &["_dns._tcp.both.default.svc.cluster.local. 5 A 10.3.0.2"]),
        (
            "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa. PTR",
            &[
                "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa. 5 PTR both.default.svc.cluster.local.",
            ],
        ),
        // Endpoints of a Service with an address have names, too.
        (
            "192-0-2-1.kubernetes.default.svc.cluster.local. A",
            &["192-0-2-1.kubernetes.default.svc.cluster.local. 5 A 192.0.2.1"],
        ),
        ("fd00--7.six.default.svc.cluster.local. AAAA", &["fd00--7.six.default.svc.cluster.local. 5 AAAA fd00::7"]),
        ("fd00--7.default.pod.cluster.local. AAAA", &["fd00--7.default.pod.cluster.local. 5 AAAA fd00::7"]),
        // Case is ignored and kept.
        ("KuberNetes.DEFAULT.svc.Cluster.Local. A", &["KuberNetes.DEFAULT.svc.Cluster.Local. 5 A 10.3.0.1"]),
        ("cluster.local. NS", &["cluster.local. 5 NS ns.dns.cluster.local.", "+ ns.dns.cluster.local. 5 A 10.3.0.10"]),
        ("ns.dns.cluster.local. A", &["ns.dns.cluster.local. 5 A 10.3.0.10"]),
    ];
    for (question, expected) in cases {
        assert_eq!(ask(&zone, question), *expected, "{question}");
    }
    assert!(
        ask(&zone, "cluster.local. SOA")[0]
            .starts_with("cluster.local. 5 SOA ns.dns.cluster.local. hostmaster.cluster.local.")
    );
    assert_eq!(
        ask(&zone, "both.default.svc.cluster.local. SRV").len(),
        2 + 2,
        "two numbers, also of a port without a name"
    );
}

#[test]
fn a_name_above_others_exists_and_a_wrong_one_does_not() {
    let zone = zone();
    let nothing = [
        "cluster.local. A",
        "svc.cluster.local. A",
        "pod.cluster.local. A",
        "dns.cluster.local. A",
        "dns-version.cluster.local. A",
        "default.svc.cluster.local. A",
        "empty.svc.cluster.local. SRV",
        "default.pod.cluster.local. A",
        "kubernetes.default.svc.cluster.local. AAAA",
        "kubernetes.default.svc.cluster.local. TXT",
        "plain.default.svc.cluster.local. SRV",
        "_tcp.kubernetes.default.svc.cluster.local. SRV",
        "_https._tcp.kubernetes.default.svc.cluster.local. TXT",
        "1.0.3.10.in-addr.arpa. A",
    ];
    for question in nothing {
        assert_eq!(ask(&zone, question), ["NoData"], "{question}");
    }
    let no_name = [
        "other.cluster.local. A",
        "other.svc.cluster.local. A",
        "other.pod.cluster.local. A",
        "other.default.svc.cluster.local. A",
        "lonely.default.svc.cluster.local. A",
        "*.default.svc.cluster.local. A",
        "any.default.svc.cluster.local. A",
        "your-pet.headless.default.svc.cluster.local. A",
        "_udp.kubernetes.default.svc.cluster.local. A",
        "_http._tcp.kubernetes.default.svc.cluster.local. SRV",
        "_https._udp.kubernetes.default.svc.cluster.local. SRV",
        "https.tcp.kubernetes.default.svc.cluster.local. SRV",
        "_._tcp.both.default.svc.cluster.local. SRV",
        "a._https._tcp.kubernetes.default.svc.cluster.local. SRV",
        "a.foo.default.svc.cluster.local. A",
        "number.default.svc.cluster.local. A",
        "1-2-3.default.pod.cluster.local. A",
        "1-2-3-4.other.pod.cluster.local. A",
        "a.1-2-3-4.default.pod.cluster.local. A",
        "a.dns-version.cluster.local. TXT",
    ];
    for question in no_name {
        assert_eq!(ask(&zone, question), ["NoName"], "{question}");
    }
    let bytes = Name::from_labels([&b"\xff"[..], b"default", b"svc", b"cluster", b"local"]).unwrap();
    assert_eq!(zone.look_up(&bytes, RecordType::A), Found::NoName);
    // An endpoint without a name of its own has no name for its address, nor has what is nobody's.
    for question in ["102.0.3.10.in-addr.arpa. PTR", "0.3.10.in-addr.arpa. PTR", "example.com. A", "local. A", ". NS"] {
        assert_eq!(ask(&zone, question), ["Elsewhere"], "{question}");
    }
}

#[test]
fn names_of_pods_are_as_configured() {
    let question = "10-1-0-7.default.pod.cluster.local. A";
    assert_eq!(ask(&zone_with(PodNames::Disabled), question), ["NoName"]);
    assert_eq!(ask(&zone_with(PodNames::Disabled), "pod.cluster.local. A"), ["NoName"]);
    let mut zone = zone_with(PodNames::Verified);
    let address = "10.1.0.7".parse().unwrap();
    assert_eq!(ask(&zone, question), ["NoName"]);
    // For a moment two pods may have one address: the one that ended and the next.
    zone.add_pod("default", address);
    zone.add_pod("default", address);
    zone.remove_pod("default", address);
    assert_eq!(ask(&zone, question), ["10-1-0-7.default.pod.cluster.local. 5 A 10.1.0.7"]);
    assert_eq!(ask(&zone, "10-1-0-7.empty.pod.cluster.local. A"), ["NoName"]);
    zone.remove_pod("default", address);
    zone.remove_pod("default", address);
    assert_eq!(ask(&zone, question), ["NoName"]);
}

#[test]
fn what_changes_or_goes_leaves_nothing() {
    let mut zone = zone();
    let service = |address: &str| Some(cluster(&[address], &[], vec![endpoint("web-0", "10.1.0.8", &[])]));
    zone.set_service("other", "web", service("10.3.0.7"));
    assert_eq!(ask(&zone, "other.svc.cluster.local. A"), ["NoData"], "where a Service is there is a namespace");
    zone.set_service("other", "web", service("10.3.0.8"));
    assert_eq!(ask(&zone, "7.0.3.10.in-addr.arpa. PTR"), ["Elsewhere"]);
    assert_eq!(ask(&zone, "8.0.3.10.in-addr.arpa. PTR"), ["8.0.3.10.in-addr.arpa. 5 PTR web.other.svc.cluster.local."]);
    // Another Service with the same endpoint.
    let peer = endpoint("web-0", "10.1.0.8", &[]);
    zone.set_service("other", "peers", Some(Service { kind: ServiceKind::Headless, endpoints: vec![peer] }));
    assert_eq!(ask(&zone, "8.0.1.10.in-addr.arpa. PTR").len(), 2);
    for name in ["web", "peers", "never"] {
        zone.set_service("other", name, None);
    }
    for question in ["8.0.3.10.in-addr.arpa. PTR", "8.0.1.10.in-addr.arpa. PTR"] {
        assert_eq!(ask(&zone, question), ["Elsewhere"]);
    }
    assert_eq!(ask(&zone, "other.svc.cluster.local. A"), ["NoName"]);
    zone.set_namespace("empty", false);
    assert_eq!(ask(&zone, "empty.svc.cluster.local. A"), ["NoName"]);
}

#[test]
fn before_the_cluster_is_known_nothing_is_denied() {
    let mut zone = Zone::new(name("Cluster.Local."), 5, PodNames::Insecure, vec![]);
    assert_eq!(ask(&zone, "web.default.svc.cluster.local. A"), ["Unready"]);
    assert_eq!(ask(&zone, "1.0.3.10.in-addr.arpa. PTR"), ["Unready"]);
    assert_eq!(ask(&zone, "example.com. A"), ["Elsewhere"]);
    zone.set_ready();
    assert_eq!(ask(&zone, "web.default.svc.cluster.local. A"), ["NoName"]);
}
