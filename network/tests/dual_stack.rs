//! The bridge with addresses of both families and real packets, on machines made of network namespaces.

#![allow(clippy::unwrap_used, reason = "a panic is how tests fail")]

mod support;

use std::io::ErrorKind;

use longshore_core::network::{Backend, Network, Peer, Policy};
use longshore_network::Bridge;
use support::{Machine, Namespace, Served, ask, missing_v6, on_a_machine, pod, run, service, traces, who};

async fn open(machine: &Machine) -> Bridge {
    let mut options = machine.options("test", 1);
    options.pods.push("fd01::/64".parse().unwrap());
    options.services.push("fd02::/112".parse().unwrap());
    Bridge::open(options).await.unwrap()
}

/// Another machine at 2001:db8::2, beside this one, which is its gateway.
fn neighbour(machine: &Machine) -> Namespace {
    let outside = machine.neighbour();
    run("ip address add 2001:db8::1/64 dev near nodad");
    outside.run_now(|| {
        run("ip address add 2001:db8::2/64 dev far nodad");
        run("ip -6 route add default via 2001:db8::1");
    });
    outside
}

fn six(backends: &[&Served]) -> longshore_core::network::ServicePort {
    let mut web = service("default/six:http", "fd02::1", &[]);
    let backend = |served: &&Served| Backend { address: served.addresses[1], port: 81, local: true, fallback: false };
    web.backends = backends.iter().map(backend).collect();
    web
}

#[test]
fn pods_have_an_address_of_each_family() {
    if let Some(reason) = missing_v6() {
        return longshore_core::testing::skip(&reason);
    }
    on_a_machine(async |machine| {
        let outside = neighbour(&machine);
        let _server = outside.serve_v6(81);
        let bridge = open(&machine).await;
        let (a, b) = (pod(&bridge, "a").await, pod(&bridge, "b").await);
        let addresses: Vec<String> = a.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.1.0.2", "fd01::2"]);
        let _servers = [a.namespace.serve_v6(81), b.namespace.serve_v6(81)];
        assert_eq!(a.namespace.ask("10.1.0.3:80").await.unwrap(), "b 10.1.0.2");
        assert_eq!(a.namespace.ask("[fd01::3]:81").await.unwrap(), "b fd01::2");
        assert_eq!(ask("[fd01::2]:81").await.unwrap(), "a fd01::1");
        // The world sees the node.
        assert_eq!(a.namespace.ask("[2001:db8::2]:81").await.unwrap(), "neighbour 2001:db8::1");
        // Another process finds both.
        let attached = bridge.attached().await.unwrap();
        drop(bridge);
        let bridge = open(&machine).await;
        assert_eq!(bridge.attach(&a.namespace.request()).await.unwrap(), attached[0]);
        bridge.clean_up().await.unwrap();
        assert!(!run("nft list tables").contains("longshore"));
    });
}

#[test]
fn services_are_served_in_both_families() {
    if let Some(reason) = missing_v6() {
        return longshore_core::testing::skip(&reason);
    }
    on_a_machine(async |machine| {
        let outside = neighbour(&machine);
        let bridge = open(&machine).await;
        let (a, b) = (pod(&bridge, "a").await, pod(&bridge, "b").await);
        let _servers = [a.namespace.serve_v6(81), b.namespace.serve_v6(81)];
        let mut web = six(&[&a]);
        web.node_port = Some(30_081);
        web.addresses.push("2001:db8:7::1".parse().unwrap());
        let four = service("default/four:http", "10.101.0.1", &[&a]);
        bridge.set_services(&[four.clone(), web.clone()]).await.unwrap();
        for client in [&a.namespace, &b.namespace] {
            assert_eq!(who(&client.ask("[fd02::1]:8080").await.unwrap()), "a");
            assert_eq!(who(&client.ask("10.101.0.1:8080").await.unwrap()), "a");
        }
        assert_eq!(who(&ask("[fd02::1]:8080").await.unwrap()), "a");
        assert_eq!(b.namespace.ask("[fd02::1]:8080").await.unwrap(), "a fd01::3");
        for address in ["[2001:db8::1]:30081", "[2001:db8:7::1]:8080"] {
            assert_eq!(outside.ask(address).await.unwrap(), "a fd01::1", "{address}");
        }
        web.affinity_seconds = Some(60);
        web.backends = six(&[&a, &b]).backends;
        bridge.set_services(&[four, web.clone()]).await.unwrap();
        let first = who(&b.namespace.ask("[fd02::1]:8080").await.unwrap()).to_owned();
        for _ in 0..10 {
            assert_eq!(who(&b.namespace.ask("[fd02::1]:8080").await.unwrap()), first);
        }
        web.backends.clear();
        bridge.set_services(&[web]).await.unwrap();
        assert_eq!(b.namespace.ask("[fd02::1]:8080").await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn policies_hold_in_both_families() {
    if let Some(reason) = missing_v6() {
        return longshore_core::testing::skip(&reason);
    }
    on_a_machine(async |machine| {
        let bridge = open(&machine).await;
        let (a, b) = (pod(&bridge, "a").await, pod(&bridge, "b").await);
        let _server = a.namespace.serve_v6(81);
        let mut policy =
            Policy { name: "default/deny".into(), pods: a.addresses.clone(), ingress: Some(Vec::new()), egress: None };
        bridge.set_policies(std::slice::from_ref(&policy)).await.unwrap();
        assert!(b.namespace.ask("[fd01::2]:81").await.is_err());
        assert!(b.namespace.ask("10.1.0.2:80").await.is_err());
        policy.ingress = Some(vec![longshore_core::network::Allowed {
            pods: None,
            others: Some(longshore_core::network::Others { pods: vec![b.addresses[1]], blocks: Vec::new() }),
            ports: None,
        }]);
        bridge.set_policies(&[policy]).await.unwrap();
        assert_eq!(b.namespace.ask("[fd01::2]:81").await.unwrap(), "a fd01::3");
        assert!(b.namespace.ask("10.1.0.2:80").await.is_err());
    });
}

#[test]
fn nothing_of_either_family_is_left_after_a_crash() {
    if let Some(reason) = missing_v6() {
        return longshore_core::testing::skip(&reason);
    }
    on_a_machine(async |machine| {
        let _outside = neighbour(&machine);
        let before = traces();
        let bridge = open(&machine).await;
        let (a, _b) = (pod(&bridge, "a").await, pod(&bridge, "b").await);
        bridge.set_services(&[six(&[&a]), service("default/four:http", "10.101.0.1", &[&a])]).await.unwrap();
        let peer = |address: &str, pods: &str| Peer {
            node: address.into(),
            address: address.parse().unwrap(),
            pods: vec![pods.parse().unwrap()],
        };
        bridge.set_peers(&[peer("192.0.2.2", "10.2.0.0/24"), peer("2001:db8::2", "fd01:0:0:2::/64")]).await.unwrap();
        assert!(run("ip -6 route").contains("fd01:0:0:2::/64 via 2001:db8::2"));
        drop(bridge);
        Bridge::purge("test", machine.directory.path().join("test")).await.unwrap();
        assert_eq!(traces(), before);
    });
}
