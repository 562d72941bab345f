//! Several API servers over one etcd, and what `longshore store` does with it.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::{Machine, Part, on_own_network, run, texts};

/// The network is the test's own, and so are all ports.
const STORE: &str = "etcd=http://127.0.0.1:2379";

/// An etcd of one member; killed when the test forgets it.
struct Etcd(Child);

impl Etcd {
    fn start(directory: &Path) -> Self {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "etcd", "--log-level", "error", "--logger", "zap", "--data-dir"]);
        Self(command.arg(directory).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn apiserver(machine: &Machine) -> Part {
    let mut command = machine.longshore(&["apiserver"]);
    Part::start(command.args(["--listen", "127.0.0.1:0", "--store", STORE]), "serving")
}

#[test]
fn two_api_servers_over_one_etcd_are_one_api() {
    on_own_network(&["kubectl", "etcd", "etcdctl"], || {
        let temp = tempfile::tempdir().unwrap();
        let _etcd = Etcd::start(&temp.path().join("etcd"));
        let (one, other) = (Machine::new(), Machine::new());
        let first = apiserver(&one);
        // Servers of one cluster share its authority.
        std::fs::create_dir(other.data_dir()).unwrap();
        run(Command::new("cp").arg("-r").arg(one.data_dir().join("pki")).arg(other.data_dir()));
        let second = apiserver(&other);

        one.ask(&["create", "configmap", "a", "--from-literal=x=1"]);
        let read = ["get", "configmap", "a", "-o", "jsonpath={.data.x}"];
        assert_eq!(other.ask(&read), "1", "what one has acknowledged, the other answers");
        other.ask(&["patch", "configmap", "a", "-p", "{\"data\":{\"x\":\"2\"}}"]);
        assert_eq!(one.ask(&read), "2");
        for (machine, name) in [(&one, "b"), (&other, "c")] {
            let service = ["create", "service", "clusterip", name, "--tcp=80"];
            machine.ask(&service);
        }
        let addresses = one.ask(&["get", "services", "b", "c", "-o", "jsonpath={.items[*].spec.clusterIP}"]);
        let addresses: Vec<&str> = addresses.split(' ').collect();
        assert!(addresses.len() == 2 && addresses[0] != addresses[1], "{addresses:?}");
        let taken = one.kubectl(&["create", "service", "clusterip", "c", "--tcp=80"]).output().unwrap();
        assert!(texts(&taken).1.contains("already exists"), "{taken:?}");
        // A watch at one server sees what the other does.
        let wait = one.kubectl(&["wait", "--for=delete", "configmap/a", "--timeout=60s"]).spawn().unwrap();
        other.ask(&["delete", "configmap", "a"]);
        assert!(wait.wait_with_output().unwrap().status.success());

        let status = run(&mut one.longshore(&["store", "status"]));
        assert!(status.contains(STORE) && status.contains("etcd 3.") && status.contains("leads"), "{status}");
        let compacted = run(&mut one.longshore(&["store", "compact"]));
        assert!(compacted.contains("compacted: revisions before "), "{compacted}");
        let copy = temp.path().join("copy.db");
        run(one.longshore(&["store", "snapshot"]).arg(&copy));
        let told = run(one.longshore(&["store", "restore"]).arg(&copy));
        let command = told.lines().find(|line| line.trim().starts_with("etcdctl snapshot restore ")).unwrap();
        assert!(command.contains("--initial-cluster default=http://localhost:2380"), "{told}");
        let broken = temp.path().join("broken.db");
        std::fs::write(&broken, "no snapshot").unwrap();
        let refused = one.longshore(&["store", "restore"]).arg(&broken).output().unwrap();
        assert!(texts(&refused).1.contains("no snapshot of etcd's"), "{refused:?}");

        // One server goes, and the other is not disturbed.
        first.kill();
        other.ask(&["create", "configmap", "d"]);
        let first = apiserver(&one);
        one.ask(&["get", "configmap", "d"]);
        first.stop();
        second.stop();
    });
}

#[test]
fn a_whole_cluster_keeps_its_objects_in_etcd() {
    on_own_network(&["kubectl", "etcd"], || {
        let temp = tempfile::tempdir().unwrap();
        let _etcd = Etcd::start(&temp.path().join("etcd"));
        let machine = Machine::new();
        let up = ["--runtime", "simulated", "--store", STORE];
        machine.up(&up);
        machine.ask(&["create", "deployment", "web", "--image=web:1", "--replicas=2"]);
        machine.ask(&["rollout", "status", "deployment/web", "--timeout=60s"]);
        machine.kill();
        machine.up(&[]);
        assert_eq!(machine.ask(&["get", "deployment", "web", "-o", "jsonpath={.spec.replicas}"]), "2");
        let refused = machine.longshore(&["up"]).args(["--store", "embedded"]).output().unwrap();
        assert!(texts(&refused).1.contains("made with --store etcd="), "{refused:?}");
    });
}
