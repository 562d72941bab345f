//! The parts of a cluster, each a process of its own, with TLS between them.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

mod common;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::{Machine, eventually, on_own_network, run, texts};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A part that runs; it is killed when the test forgets it.
struct Part {
    child: Child,
}

impl Part {
    /// Starts a part and waits until it logs `sign`.
    #[track_caller]
    fn start(command: &mut Command, sign: &str) -> Self {
        let child = command.args(["--log-format", "json"]).stderr(Stdio::piped()).spawn().unwrap();
        let mut part = Self { child };
        let mut lines = BufReader::new(part.child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let seen: Vec<String> = lines.by_ref().take_while(|line| !line.contains(sign)).collect();
        assert!(part.child.try_wait().unwrap().is_none(), "it ended: {seen:?}");
        // Who stops reading would block who writes.
        std::thread::spawn(move || lines.for_each(drop));
        part
    }

    /// Asks it to end, as a service manager does.
    #[track_caller]
    fn stop(mut self) {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM).unwrap();
        let status = eventually("the part ends", || self.child.try_wait().unwrap());
        assert!(status.success(), "{status}");
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A kubeconfig for a part, made by the API server's authority.
fn certificate(machine: &Machine, directory: &Path, name: &str, role: &[&str]) -> PathBuf {
    let text = run(machine.longshore(&["certificate"]).args(role));
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn part(subcommand: &str, kubeconfig: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longshore"));
    command.arg(subcommand).arg("--kubeconfig").arg(kubeconfig);
    command
}

#[test]
fn parts_in_processes_of_their_own_make_a_cluster() {
    on_own_network(&["kubectl"], || {
        let machine = Machine::new();
        let temp = tempfile::tempdir().unwrap();
        let api = Part::start(machine.longshore(&["apiserver"]).args(["--listen", "127.0.0.1:0"]), "serving");
        let admins = ["user", "part", "--group", "system:masters"];
        let kubeconfig = certificate(&machine, temp.path(), "part", &admins);
        let controllers = Part::start(&mut part("controllers", &kubeconfig), "lead");
        let config = temp.path().join("scheduler.yaml");
        let text = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";
        std::fs::write(&config, text).unwrap();
        let scheduler = Part::start(part("scheduler", &kubeconfig).arg("--config").arg(&config), "lead");
        let role = ["node", "worker", "--address", "127.0.0.1"];
        let kubeconfig = certificate(&machine, temp.path(), "worker", &role);
        let mut node = part("node", &kubeconfig);
        node.args(["--name", "worker", "--address", "127.0.0.1", "--runtime", "simulated", "--data-dir"]);
        let node = Part::start(node.arg(temp.path().join("node")), "running");

        machine.ask(&["create", "deployment", "web", "--image=web:1", "--replicas=2"]);
        machine.ask(&["rollout", "status", "deployment/web", "--timeout=60s"]);
        let nodes = machine.ask(&["get", "pods", "-o", "jsonpath={.items[*].spec.nodeName}"]);
        assert_eq!(nodes, "worker worker");
        // The API server asks the node over TLS, and each knows the other.
        machine.ask(&["logs", "deployment/web"]);
        // The scheduler is elsewhere: what needs it says so, what needs the cluster's state alone works.
        let pod = machine.ask(&["get", "pods", "-o", "jsonpath={.items[0].metadata.name}"]);
        let explained = machine.longshore(&["explain", &pod]).output().unwrap();
        assert!(!explained.status.success() && texts(&explained).1.contains("without a scheduler"), "{explained:?}");
        let manifest = temp.path().join("pod.yaml");
        let text = "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: a, image: a}]}}";
        std::fs::write(&manifest, text).unwrap();
        let found = run(machine.longshore(&["what-if"]).arg("-f").arg(&manifest));
        assert!(found.contains("default/a  worker"), "{found}");

        for part in [node, scheduler, controllers, api] {
            part.stop();
        }
    });
}
