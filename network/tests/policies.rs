//! Network policies with real packets between two nodes, which are machines made of network namespaces. Policies of one node are the
//! conformance suite's.

#![allow(clippy::unwrap_used, reason = "a panic is how tests fail")]

mod support;

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use longshore_core::network::{Allowed, Network, Others, Peer, Policy};
use longshore_network::{Bridge, Options};
use support::{Namespace, on_a_machine, pod, run};

/// A packet that is dropped gets no answer in this time.
const SILENCE: Duration = Duration::from_millis(300);

/// Does something with a network on the machine whose namespace this is.
fn at<T: Send + 'static>(machine: &Namespace, work: impl AsyncFnOnce() -> T + Send + 'static) -> T {
    machine.run_now(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work())
    })
}

fn misses(from: &Namespace, to: &str) -> bool {
    let to: SocketAddr = to.parse().unwrap();
    from.run_now(move || TcpStream::connect_timeout(&to, SILENCE).is_err())
}

fn peer(address: &str, pods: &str) -> Peer {
    Peer { node: address.into(), address: address.parse().unwrap(), pods: vec![pods.parse().unwrap()] }
}

fn isolated(pod: IpAddr) -> Policy {
    Policy { name: "default/policy".into(), pods: vec![pod], ingress: None, egress: None }
}

fn only(address: IpAddr) -> Option<Vec<Allowed>> {
    let others = Some(Others { pods: vec![address], blocks: Vec::new() });
    Some(vec![Allowed { pods: None, others, ports: None }])
}

#[test]
fn each_node_judges_for_its_own_pods() {
    on_a_machine(async |machine| {
        let other = machine.neighbour();
        let one = machine.open().await;
        one.set_peers(&[peer("192.0.2.2", "10.2.0.0/24")]).await.unwrap();
        let options = Options { services: vec!["10.101.0.0/16".parse().unwrap()], ..machine.options("other", 2) };
        let remote = Namespace::new("remote");
        let request = remote.request();
        let two = at(&other, async move || {
            let bridge = Bridge::open(options).await.unwrap();
            bridge.set_peers(&[peer("192.0.2.1", "10.1.0.0/24")]).await.unwrap();
            bridge.attach(&request).await.unwrap();
            bridge
        });
        let _server = remote.serve(80);
        let (a, b) = (pod(&one, "a").await, pod(&one, "b").await);
        let address: IpAddr = "10.2.0.2".parse().unwrap();
        assert_eq!(a.namespace.ask("10.2.0.2:80").await.unwrap(), "remote 10.1.0.2", "nothing is isolated yet");

        // The receiver's node decides who reaches it, by the address that the other node left as it was.
        let mut policy = isolated(address);
        policy.ingress = only(a.address);
        let (bridge, told) = (two.clone(), policy.clone());
        at(&other, async move || bridge.set_policies(&[told]).await.unwrap());
        assert!(a.namespace.ask("10.2.0.2:80").await.is_ok());
        assert!(misses(&b.namespace, "10.2.0.2:80"));
        let from_other = other.run_now(|| TcpStream::connect(("10.2.0.2", 80)).is_ok());
        assert!(from_other, "its own node always does");
        assert!(
            TcpStream::connect_timeout(&"10.2.0.2:80".parse().unwrap(), SILENCE).is_err(),
            "another node is no such"
        );
        assert_eq!(
            remote.ask("10.1.0.3:80").await.unwrap(),
            "b 10.2.0.2",
            "answers pass, and the other direction is open"
        );

        // The sender's node decides whom it reaches.
        let bridge = two.clone();
        at(&other, async move || bridge.set_policies(&[]).await.unwrap());
        let mut policy = isolated(a.address);
        policy.egress = only(b.address);
        one.set_policies(&[policy]).await.unwrap();
        assert!(misses(&a.namespace, "10.2.0.2:80"));
        assert!(b.namespace.ask("10.2.0.2:80").await.is_ok() && a.namespace.ask("10.1.0.3:80").await.is_ok());
        assert_eq!(remote.ask("10.1.0.2:80").await.unwrap(), "a 10.2.0.2", "what answers was asked");
        at(&other, async move || two.clean_up().await.unwrap());
    });
}

#[test]
fn pods_of_a_node_reach_each_other_by_its_routing_alone() {
    on_a_machine(async |machine| {
        let bridge = machine.open().await;
        let (a, b) = (pod(&bridge, "a").await, pod(&bridge, "b").await);
        // A pod that may give itself addresses, as every pod has link-local ones of IPv6.
        for (pod, address) in [(&a, "198.51.100.1/24"), (&b, "198.51.100.2/24")] {
            pod.namespace.run_now(move || run(&format!("ip address add {address} dev eth0")));
        }
        assert!(misses(&a.namespace, "198.51.100.2:80"), "nothing judges what goes from port to port of the bridge");
        // Also where they know each other's hardware address, which follows from the IP address.
        let link = b.namespace.run_now(|| run("ip -o link show eth0"));
        let hardware = link.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).unwrap().to_owned();
        let neighbour = format!("ip neighbour replace 198.51.100.2 lladdr {hardware} dev eth0");
        a.namespace.run_now(move || run(&neighbour));
        assert!(misses(&a.namespace, "198.51.100.2:80"));
        assert!(a.namespace.ask(&format!("{}:80", b.address)).await.is_ok());
    });
}
