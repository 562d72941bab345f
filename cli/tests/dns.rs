//! Names as pods see them: busybox's nslookup in real containers, the real kubectl, and a server of others' that the test plays.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

mod common;

use std::net::UdpSocket;
use std::process::Command;

use common::{Machine, eventually, on_own_network, resolve, run};

const PROGRAMS: &[&str] = &["runc", "nft", "busybox", "kubectl", "ip"];

const PEERS: &str = r"
apiVersion: v1
kind: Service
metadata: {name: peers}
spec: {clusterIP: None, selector: {app: peers}, ports: [{name: http, port: 80}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: peer}
spec:
  serviceName: peers
  replicas: 2
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: peers}}
  template:
    metadata: {labels: {app: peers}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: main, image: 'longshore.local/demo:1', command: [sleep, '3600']}]
---
apiVersion: v1
kind: Service
metadata: {name: outside}
spec: {type: ExternalName, externalName: www.example.test}
---
apiVersion: v1
kind: Pod
metadata: {name: on-host}
spec:
  hostNetwork: true
  dnsPolicy: ClusterFirstWithHostNet
  terminationGracePeriodSeconds: 0
  containers: [{name: main, image: 'longshore.local/demo:1', command: [sleep, '3600']}]
";

/// Answers every question for an IPv4 address with 192.0.2.53, and that there is no other.
fn play_upstream() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((_, asker)) = socket.recv_from(&mut packet) {
            let mut end = 12;
            while packet[end] != 0 {
                end += usize::from(packet[end]) + 1;
            }
            let question = &packet[12..end + 5];
            let is_a = packet[end + 1..end + 3] == [0, 1];
            let mut answer = [&packet[..2], &[0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0], question].concat();
            if is_a {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 53]);
            }
            socket.send_to(&answer, asker).unwrap();
        }
    });
    port
}

#[test]
fn pods_resolve_services_peers_and_names_outside() {
    on_own_network(PROGRAMS, || {
        let machine = Machine::new();
        let upstream = format!("127.0.0.1:{}", play_upstream());
        let peers = machine.write("peers.yaml", PEERS);
        machine.up(&["--demo", "-f", &peers, "--dns-upstream", &upstream]);
        machine.ask(&["wait", "--for=condition=Ready", "pod/on-host", "--timeout=60s"]);
        let dns = machine.ask(&["get", "service", "-n", "kube-system", "kube-dns", "-o", "jsonpath={.spec.clusterIP}"]);
        let written = machine.ask(&["exec", "peer-0", "--", "cat", "/etc/resolv.conf"]);
        assert!(written.contains(&format!("nameserver {dns}\n")) && written.contains("ndots:5"), "{written}");

        let ask = |what: &[&str]| machine.ask(&[&["get", "-o"], what].concat());
        let web = ask(&["jsonpath={.spec.clusterIP}", "service", "web"]);
        let peer = |name: &str| ask(&["jsonpath={.status.podIP}", "pod", name]);
        for pod in ["peer-0", "on-host"] {
            resolve(&machine, pod, "web.default.svc.cluster.local", &web);
            resolve(&machine, pod, "peer-1.peers.default.svc.cluster.local", &peer("peer-1"));
            resolve(&machine, pod, "peers.default.svc.cluster.local", &peer("peer-0"));
            resolve(&machine, pod, "www.example.test", "192.0.2.53");
            resolve(&machine, pod, "outside.default.svc.cluster.local", "192.0.2.53");
            resolve(&machine, pod, &web, "web.default.svc.cluster.local");
        }

        // A control plane that dies takes the names with it, and brings them back; pods need not notice where.
        machine.kill();
        machine.up(&["--dns-upstream", &upstream]);
        resolve(&machine, "peer-0", "web.default.svc.cluster.local", &web);
        machine.ask(&["delete", "service", "web"]);
        eventually("the name is gone", || {
            let gone = machine.kubectl(&["exec", "peer-0", "--", "nslookup", "web.default.svc.cluster.local"]).output();
            (!gone.unwrap().status.success()).then_some(())
        });
        run(&mut machine.longshore(&["down", "--purge"]));
        let tables = run(Command::new("nft").args(["list", "tables"]));
        assert!(!tables.contains("longshore"), "{tables}");
    });
}
