//! The demonstration, as the README tells it: real containers, driven by the real kubectl, in a network of its own.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

mod common;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use common::{Machine, eventually, get, mounted_below, on_own_network, processes, run};

const PROGRAMS: &[&str] = &["runc", "nft", "busybox", "kubectl", "ip"];

/// Who answers at an address, out of many requests.
fn answers(address: SocketAddr) -> BTreeSet<String> {
    (0..60).filter_map(|_| get(address).ok()).collect()
}

fn service(machine: &Machine) -> (SocketAddr, SocketAddr) {
    let text = machine.ask(&["get", "service", "web", "-o", "jsonpath={.spec.clusterIP} {.spec.ports[0].nodePort}"]);
    let (ip, node_port) = text.split_once(' ').unwrap();
    (format!("{ip}:80").parse().unwrap(), format!("127.0.0.1:{node_port}").parse().unwrap())
}

#[test]
fn the_demonstration_runs_survives_and_leaves_nothing() {
    on_own_network(PROGRAMS, || {
        let machine = Machine::new();
        machine.up(&["--demo"]);
        assert!(machine.ask(&["get", "nodes"]).contains(" Ready"));
        let (cluster_ip, node_port) = service(&machine);
        assert_eq!(answers(cluster_ip).len(), 3);
        assert_eq!(answers(node_port), answers(cluster_ip));
        let job = eventually("the job's pod is done", || {
            Some(machine.ask(&["logs", "job/hello"])).filter(|log| !log.is_empty())
        });
        assert_eq!(job, "hello from a job");

        // A control plane that dies harms no pod: the same processes serve when it is back.
        let instance = machine.instance();
        let servers = || processes(&instance, "/bin/busybox httpd ");
        let before = servers();
        assert_eq!(before.len(), 3);
        machine.kill();
        assert_eq!(answers(cluster_ip).len(), 3);
        machine.up(&[]);
        assert_eq!(servers(), before);
        assert!(machine.ask(&["get", "pods", "-l", "app=web"]).matches(" Running ").count() == 3);

        let directory = machine.data_dir();
        run(&mut machine.longshore(&["down", "--purge"]));
        assert!(processes(&instance, "").is_empty());
        assert!(!directory.exists() && !mounted_below(&directory));
        let tables = run(std::process::Command::new("nft").args(["list", "tables"]));
        assert!(!tables.contains("longshore"), "{tables}");
        let links = run(std::process::Command::new("ip").args(["-o", "link"]));
        assert_eq!(links.lines().count(), 1, "only lo is left: {links}");
    });
}

#[test]
fn a_rolling_update_and_its_undo_lose_no_request() {
    on_own_network(PROGRAMS, || {
        let machine = Machine::new();
        machine.up(&["--demo"]);
        let (cluster_ip, _) = service(&machine);
        for change in [&["set", "env", "deployment/web", "VERSION=2"][..], &["rollout", "undo", "deployment/web"]] {
            let old = answers(cluster_ip);
            machine.ask(change);
            let mut status =
                machine.kubectl(&["rollout", "status", "deployment/web", "--timeout=80s"]).spawn().unwrap();
            let (mut served, mut failed) = (0, Vec::new());
            while status.try_wait().unwrap().is_none() || served < 1000 {
                match get(cluster_ip) {
                    Ok(_) => served += 1,
                    Err(how) => failed.push(format!("after {served}: {how}")),
                }
            }
            assert!(status.wait().unwrap().success());
            assert_eq!(failed, Vec::<String>::new(), "of {served} requests");
            eventually("the old pods are gone", || {
                let pods = machine.ask(&["get", "pods", "-l", "app=web", "--no-headers"]);
                (pods.lines().count() == 3).then_some(())
            });
            assert!(answers(cluster_ip).is_disjoint(&old));
        }
    });
}

#[test]
fn two_clusters_live_side_by_side() {
    on_own_network(PROGRAMS, || {
        let (one, two) = (Machine::new(), Machine::new());
        one.up(&["--demo"]);
        two.up(&["--demo"]);
        assert_eq!(answers(service(&one).0).len(), 3);
        assert_eq!(answers(service(&two).0).len(), 3);
        run(&mut one.longshore(&["down", "--purge"]));
        assert_eq!(answers(service(&two).0).len(), 3);
    });
}
