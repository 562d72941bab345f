//! The bridge with real packets, on machines made of network namespaces.

#![allow(clippy::unwrap_used, reason = "a panic is how tests fail")]

mod support;

use std::collections::BTreeSet;
use std::io::ErrorKind;

use longshore_core::network::{Network, Peer, Protocol};
use longshore_network::{Bridge, ranges};
use support::{Namespace, ask, on_a_machine, pod, run, seen, service, traces, who};

/// Who answers when asked often enough to hear from everybody.
async fn answers(from: Option<&Namespace>, to: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for _ in 0..60 {
        let greeting = match from {
            Some(namespace) => namespace.ask(to).await,
            None => ask(to).await,
        };
        names.insert(who(&greeting.unwrap_or_else(|error| panic!("{to}: {error}"))).to_owned());
    }
    names
}

#[test]
fn pods_reach_each_other_their_node_and_themselves() {
    on_a_machine(async |machine| {
        let bridge = machine.open().await;
        let (a, b) = (pod(&bridge, "a").await, pod(&bridge, "b").await);
        assert_eq!((a.address.to_string(), b.address.to_string()), ("10.1.0.2".into(), "10.1.0.3".into()));
        // Nobody stands between two pods: each sees the other's address.
        assert_eq!(a.namespace.ask("10.1.0.3:80").await.unwrap(), "b 10.1.0.2");
        assert_eq!(b.namespace.ask("10.1.0.2:80").await.unwrap(), "a 10.1.0.3");
        assert_eq!(a.namespace.ask("127.0.0.1:80").await.unwrap(), "a 127.0.0.1");
        assert_eq!(ask("10.1.0.2:80").await.unwrap(), "a 10.1.0.1");
        let node = support::serve(std::net::TcpListener::bind("0.0.0.0:81").unwrap(), "node");
        assert_eq!(a.namespace.ask("10.1.0.1:81").await.unwrap(), "node 10.1.0.2");
        drop(node);
    });
}

#[test]
fn pods_reach_the_world_as_their_node() {
    on_a_machine(async |machine| {
        let outside = machine.neighbour();
        let _server = outside.serve(80);
        let bridge = machine.open().await;
        let a = pod(&bridge, "a").await;
        assert_eq!(a.namespace.ask("192.0.2.2:80").await.unwrap(), "neighbour 192.0.2.1");
    });
}

#[test]
fn a_cluster_ip_reaches_every_backend() {
    on_a_machine(async |machine| {
        let bridge = machine.open().await;
        let (a, b, c) = (pod(&bridge, "a").await, pod(&bridge, "b").await, pod(&bridge, "c").await);
        let web = service("default/web:http", "10.101.0.1", &[&a, &b, &c]);
        bridge.set_services(std::slice::from_ref(&web)).await.unwrap();
        let all: BTreeSet<String> = ["a", "b", "c"].map(String::from).into();
        assert_eq!(answers(None, "10.101.0.1:8080").await, all);
        // Each pod gets to itself, too.
        for pod in [&a, &b] {
            assert_eq!(answers(Some(&pod.namespace), "10.101.0.1:8080").await, all);
        }
        // No other port and no other address is served: refused at once, not after a timeout.
        for nobody in ["10.101.0.1:8081", "10.101.0.2:8080"] {
            assert_eq!(ask(nobody).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
            assert_eq!(a.namespace.ask(nobody).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        }
        // Between pods, a Service leaves the caller's address as it is.
        bridge.set_services(&[service("default/web:http", "10.101.0.1", &[&b])]).await.unwrap();
        assert_eq!(a.namespace.ask("10.101.0.1:8080").await.unwrap(), "b 10.1.0.2");
        bridge.set_services(&[service("default/web:http", "10.101.0.1", &[])]).await.unwrap();
        assert_eq!(a.namespace.ask("10.101.0.1:8080").await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn services_work_where_bridged_packets_pass_the_rules() {
    on_a_machine(async |machine| {
        // As on every machine with Docker.
        if std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "1").is_err() {
            return longshore_core::testing::skip("the module br_netfilter is not loaded");
        }
        let bridge = machine.open().await;
        let (a, b) = (pod(&bridge, "a").await, pod(&bridge, "b").await);
        bridge.set_services(&[service("default/web:http", "10.101.0.1", &[&a, &b])]).await.unwrap();
        let all: BTreeSet<String> = ["a", "b"].map(String::from).into();
        assert_eq!(answers(Some(&a.namespace), "10.101.0.1:8080").await, all);
        assert_eq!(a.namespace.ask("10.1.0.3:80").await.unwrap(), "b 10.1.0.2");
    });
}

#[test]
fn a_node_port_answers_at_every_address_of_the_node() {
    on_a_machine(async |machine| {
        let outside = machine.neighbour();
        let bridge = machine.open().await;
        let (a, b, client) = (pod(&bridge, "a").await, pod(&bridge, "b").await, pod(&bridge, "client").await);
        let mut web = service("default/web:http", "10.101.0.1", &[&a, &b]);
        web.node_port = Some(30080);
        bridge.set_services(std::slice::from_ref(&web)).await.unwrap();
        let all: BTreeSet<String> = ["a", "b"].map(String::from).into();
        for address in ["127.0.0.1", "192.0.2.1", "10.1.0.1"] {
            assert_eq!(answers(None, &format!("{address}:30080")).await, all, "{address}");
        }
        assert_eq!(answers(Some(&outside), "192.0.2.1:30080").await, all);
        assert_eq!(answers(Some(&client.namespace), "192.0.2.1:30080").await, all);
        assert_eq!(answers(Some(&a.namespace), "192.0.2.1:30080").await, all);
        // Pods must not get at what the node keeps to itself.
        let node = support::serve(std::net::TcpListener::bind("127.0.0.1:81").unwrap(), "node");
        client.namespace.run_now(|| {
            run("ip route add 127.0.0.9/32 via 10.1.0.1 dev eth0");
            run("ip address del 127.0.0.1/8 dev lo");
        });
        assert!(client.namespace.ask("127.0.0.9:81").await.is_err());
        drop(node);

        // Traffic of the policy Local keeps its address.
        web.external_local = true;
        bridge.set_services(std::slice::from_ref(&web)).await.unwrap();
        assert_eq!(seen(&outside.ask("192.0.2.1:30080").await.unwrap()), "192.0.2.2");
        assert_eq!(answers(None, "127.0.0.1:30080").await, all);
        web.backends.clear();
        bridge.set_services(std::slice::from_ref(&web)).await.unwrap();
        assert_eq!(ask("127.0.0.1:30080").await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert_eq!(outside.ask("192.0.2.1:30080").await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn external_addresses_lead_to_services_from_everywhere() {
    on_a_machine(async |machine| {
        let outside = machine.neighbour();
        let bridge = machine.open().await;
        let (a, client) = (pod(&bridge, "a").await, pod(&bridge, "client").await);
        let mut web = service("default/web:http", "10.101.0.1", &[&a]);
        web.addresses.push("203.0.113.7".parse().unwrap());
        web.balancers = vec!["203.0.113.8".parse().unwrap()];
        bridge.set_services(std::slice::from_ref(&web)).await.unwrap();
        run("ip route add default via 192.0.2.2");
        for address in ["203.0.113.7:8080", "203.0.113.8:8080"] {
            assert_eq!(outside.ask(address).await.unwrap(), "a 10.1.0.1", "{address}");
            assert_eq!(who(&client.namespace.ask(address).await.unwrap()), "a", "{address}");
            assert_eq!(who(&ask(address).await.unwrap()), "a", "{address}");
        }
        // A load balancer's sources are nobody else's business.
        web.balancer_sources = vec!["198.51.100.0/24".parse().unwrap()];
        bridge.set_services(std::slice::from_ref(&web)).await.unwrap();
        assert!(outside.ask("203.0.113.8:8080").await.is_err());
        assert!(outside.ask("203.0.113.7:8080").await.is_ok());
        web.balancer_sources = vec!["192.0.2.0/24".parse().unwrap()];
        web.backends.clear();
        bridge.set_services(std::slice::from_ref(&web)).await.unwrap();
        for address in ["203.0.113.7:8080", "203.0.113.8:8080"] {
            assert_eq!(outside.ask(address).await.unwrap_err().kind(), ErrorKind::ConnectionRefused, "{address}");
        }
    });
}

#[test]
fn a_change_leaves_open_connections_alone() {
    on_a_machine(async |machine| {
        let bridge = machine.open().await;
        let (a, b, client) = (pod(&bridge, "a").await, pod(&bridge, "b").await, pod(&bridge, "client").await);
        let one = service("default/one:http", "10.101.0.1", &[&a]);
        let other = service("default/two:http", "10.101.0.2", &[&b]);
        bridge.set_services(&[one.clone(), other.clone()]).await.unwrap();
        let mut open = client.namespace.connect("10.101.0.1:8080").await.unwrap();
        assert_eq!(who(&open.greeting), "a");
        bridge.set_services(&[service("default/one:http", "10.101.0.1", &[&b]), other]).await.unwrap();
        assert_eq!(open.echo("still there").await.unwrap(), "still there");
        assert_eq!(who(&client.namespace.ask("10.101.0.1:8080").await.unwrap()), "b");
        // Also while the whole table is made anew, by another process that knows nothing of it.
        drop(bridge);
        let bridge = machine.open().await;
        assert_eq!(open.echo("and now").await.unwrap(), "and now");
        assert_eq!(who(&client.namespace.ask("10.101.0.1:8080").await.unwrap()), "b");
        bridge.set_services(&[]).await.unwrap();
        assert_eq!(open.echo("and then").await.unwrap(), "and then");
    });
}

#[test]
fn no_connection_fails_while_services_change() {
    on_a_machine(async |machine| {
        let bridge = machine.open().await;
        let (a, b, client) = (pod(&bridge, "a").await, pod(&bridge, "b").await, pod(&bridge, "client").await);
        let tables = [
            vec![service("default/web:http", "10.101.0.1", &[&a])],
            vec![service("default/web:http", "10.101.0.1", &[&a, &b])],
            vec![service("default/web:http", "10.101.0.1", &[&b]), service("default/x:x", "10.101.0.2", &[&a])],
        ];
        bridge.set_services(&tables[0]).await.unwrap();
        let changes = async {
            for n in 0..60 {
                bridge.set_services(&tables[n % tables.len()]).await.unwrap();
            }
        };
        let calls = async {
            for n in 0..300 {
                let answer = client.namespace.ask("10.101.0.1:8080").await;
                assert!(answer.is_ok(), "call {n}: {answer:?}");
            }
        };
        tokio::join!(changes, calls);
    });
}

#[test]
fn clients_stay_with_their_backend() {
    on_a_machine(async |machine| {
        let bridge = machine.open().await;
        let (a, b, client) = (pod(&bridge, "a").await, pod(&bridge, "b").await, pod(&bridge, "client").await);
        let mut web = service("default/web:http", "10.101.0.1", &[&a, &b]);
        web.affinity_seconds = Some(60);
        bridge.set_services(std::slice::from_ref(&web)).await.unwrap();
        let first = answers(Some(&client.namespace), "10.101.0.1:8080").await;
        assert_eq!(first.len(), 1, "{first:?}");
        // A change of something else does not make it forget.
        bridge.set_services(&[web.clone(), service("default/x:x", "10.101.0.2", &[&a])]).await.unwrap();
        assert_eq!(answers(Some(&client.namespace), "10.101.0.1:8080").await, first);
        // Its backend goes.
        web.backends.retain(|backend| (backend.address == a.address) != first.contains("a"));
        bridge.set_services(&[web]).await.unwrap();
        assert_ne!(answers(Some(&client.namespace), "10.101.0.1:8080").await, first);
    });
}

#[test]
fn udp_and_host_ports() {
    on_a_machine(async |machine| {
        let outside = machine.neighbour();
        let bridge = machine.open().await;
        let dns = Namespace::new("dns");
        let attached = bridge.attach(&dns.request_with(Protocol::Udp, 5353, 53)).await.unwrap();
        let _server = dns.serve_udp(53);
        let client = pod(&bridge, "client").await;
        let mut service = service("kube-system/dns:dns", "10.101.0.10", &[]);
        service.protocol = Protocol::Udp;
        let backend =
            longshore_core::network::Backend { address: attached.addresses[0], port: 53, local: true, fallback: false };
        service.backends = vec![backend];
        bridge.set_services(&[service]).await.unwrap();
        assert_eq!(client.namespace.ask_udp("10.101.0.10:8080").await.unwrap(), "dns 10.1.0.3");
        // Who calls from elsewhere keeps its address at a host port.
        assert_eq!(outside.ask_udp("192.0.2.1:5353").await.unwrap(), "dns 192.0.2.2");
        bridge.detach(&dns.pod()).await.unwrap();
        assert!(outside.ask_udp("192.0.2.1:5353").await.is_err());
    });
}

#[test]
fn another_process_finds_what_was_attached() {
    on_a_machine(async |machine| {
        let bridge = machine.open().await;
        let (a, b) = (pod(&bridge, "a").await, pod(&bridge, "b").await);
        let attached = bridge.attached().await.unwrap();
        drop(bridge);
        let bridge = machine.open().await;
        assert_eq!(bridge.attached().await.unwrap(), attached);
        assert_eq!(bridge.attach(&a.namespace.request()).await.unwrap(), attached[0]);
        assert_eq!(a.namespace.ask("10.1.0.3:80").await.unwrap(), "b 10.1.0.2");
        drop(bridge);
        // One loses its interface, as all do when the machine is started anew.
        run("ip link delete lstest-2");
        let bridge = machine.open().await;
        assert_eq!(bridge.attached().await.unwrap(), attached[1..]);
        let again = bridge.attach(&a.namespace.request()).await.unwrap();
        assert_ne!(again, attached[0], "an address that was just in use is given last");
        assert!(b.namespace.ask(&format!("{}:80", again.addresses[0])).await.is_ok());
        // A pod whose sandbox was made anew is connected anew.
        let anew = Namespace::new("b");
        bridge.attach(&anew.request()).await.unwrap();
        assert!(anew.ask(&format!("{}:80", again.addresses[0])).await.is_ok());
    });
}

#[test]
fn repair_puts_back_what_somebody_removed() {
    on_a_machine(async |machine| {
        run("iptables -P FORWARD DROP");
        run("iptables -N DOCKER-USER");
        run("iptables -A FORWARD -j DOCKER-USER");
        let bridge = machine.open().await;
        let (a, b) = (pod(&bridge, "a").await, pod(&bridge, "b").await);
        bridge.set_services(&[service("default/web:http", "10.101.0.1", &[&b])]).await.unwrap();
        assert!(a.namespace.ask("10.101.0.1:8080").await.is_ok());
        let rules = run("iptables -S DOCKER-USER");
        assert_eq!(rules.matches("--comment longshore-test").count(), 2, "{rules}");
        // As when dockerd starts anew.
        run("iptables -F DOCKER-USER");
        bridge.repair().await.unwrap();
        assert_eq!(run("iptables -S DOCKER-USER"), rules);
        bridge.repair().await.unwrap();
        assert_eq!(run("iptables -S DOCKER-USER"), rules);
        for damage in [
            "nft delete table ip longshore-test",
            "nft flush chain ip longshore-test prerouting",
            "nft flush chain ip longshore-test any/default/web/http/tcp",
            "sysctl -q net.ipv4.ip_forward=0",
        ] {
            run(damage);
            bridge.repair().await.unwrap();
            assert!(a.namespace.ask("10.101.0.1:8080").await.is_ok(), "{damage}");
        }
        bridge.clean_up().await.unwrap();
        assert!(!run("iptables -S DOCKER-USER").contains("longshore"));
    });
}

#[test]
fn two_clusters_live_side_by_side() {
    on_a_machine(async |machine| {
        let before = traces();
        let one = Bridge::open(machine.options("one", 1)).await.unwrap();
        let error = Bridge::open(machine.options("two", 1)).await.unwrap_err().to_string();
        assert!(error.contains("choose another range"), "{error}");
        let taken = ranges::taken().await.unwrap();
        let free = ranges::free(&["10.1.0.0/16".parse().unwrap()], 24, &taken).unwrap();
        assert_eq!(free.to_string(), "10.1.1.0/24");
        let two = Bridge::open(machine.options("two", 2)).await.unwrap();
        let (a, b) = (pod(&one, "a").await, pod(&two, "b").await);
        one.set_services(&[service("default/web:http", "10.101.0.1", &[&a])]).await.unwrap();
        two.set_services(&[service("default/web:http", "10.102.0.1", &[&b])]).await.unwrap();
        assert_eq!(who(&ask("10.101.0.1:8080").await.unwrap()), "a");
        assert_eq!(who(&ask("10.102.0.1:8080").await.unwrap()), "b");
        one.clean_up().await.unwrap();
        one.clean_up().await.unwrap();
        one.repair().await.unwrap();
        assert!(!traces().contains("lsone") && !traces().contains("longshore-one"), "{}", traces());
        assert_eq!(who(&ask("10.102.0.1:8080").await.unwrap()), "b");
        two.clean_up().await.unwrap();
        assert_eq!(traces(), before);
    });
}

#[test]
fn nothing_is_left_after_a_crash() {
    on_a_machine(async |machine| {
        let _outside = machine.neighbour();
        let before = traces();
        let bridge = machine.open().await;
        let (_a, _b) = (pod(&bridge, "a").await, pod(&bridge, "b").await);
        let peers = [Peer {
            node: "other".into(),
            address: "192.0.2.2".parse().unwrap(),
            pods: vec!["10.1.1.0/24".parse().unwrap()],
        }];
        bridge.set_peers(&peers).await.unwrap();
        assert!(run("ip route").contains("10.1.1.0/24 via 192.0.2.2"));
        drop(bridge);
        // The record of one is gone, as after a disk that lost it; one was not marked yet.
        let state = machine.directory.path().join("test");
        std::fs::remove_file(state.join("pods/uid-a.json")).unwrap();
        run("ip link add lstest-9 type bridge");
        Bridge::purge("test", state.clone()).await.unwrap();
        assert_eq!(traces(), before);
        assert!(!state.exists());
        Bridge::purge("test", state).await.unwrap();
        Bridge::purge("unknown", machine.directory.path().join("unknown")).await.unwrap();
    });
}

#[test]
fn routes_to_other_nodes_follow_the_peers() {
    on_a_machine(async |machine| {
        let outside = machine.neighbour();
        let bridge = machine.open().await;
        let a = pod(&bridge, "a").await;
        let peer = |node: &str, pods: &str| Peer {
            node: node.into(),
            address: "192.0.2.2".parse().unwrap(),
            pods: vec![pods.parse().unwrap()],
        };
        bridge.set_peers(&[peer("x", "10.9.0.0/24"), peer("y", "10.9.1.0/24")]).await.unwrap();
        // The neighbour plays the other node, with a pod at 10.9.0.7.
        outside.run_now(|| run("ip address add 10.9.0.7/32 dev lo"));
        let _server = outside.serve(80);
        // Pods of one cluster see each other's addresses, also those out of the range first told.
        assert_eq!(a.namespace.ask("10.9.0.7:80").await.unwrap(), "neighbour 10.1.0.2");
        bridge.set_peers(&[peer("y", "10.9.1.0/24"), peer("z", "10.9.2.0/24")]).await.unwrap();
        let routes = run("ip route");
        assert!(!routes.contains("10.9.0.0") && routes.contains("10.9.1.0") && routes.contains("10.9.2.0"), "{routes}");
        run("ip route delete 10.9.1.0/24");
        bridge.repair().await.unwrap();
        assert!(run("ip route").contains("10.9.1.0/24"));
        // Another process finds the routes, and takes away those that are no peer's any more.
        drop(bridge);
        let bridge = machine.open().await;
        assert!(run("ip route").contains("10.9.1.0/24"));
        bridge.set_peers(&[]).await.unwrap();
        assert!(!run("ip route").contains("10.9."), "{}", run("ip route"));
    });
}

#[test]
fn others_interfaces_are_never_touched() {
    on_a_machine(async |machine| {
        run("ip link add lstest-br type bridge");
        run("ip link set lstest-br alias somebody");
        let error = Bridge::open(machine.options("test", 1)).await.unwrap_err().to_string();
        assert!(error.contains("belongs to somebody"), "{error}");
        Bridge::purge("test", machine.directory.path().join("test")).await.unwrap();
        assert!(run("ip link").contains("lstest-br"));
    });
}
