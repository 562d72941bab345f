//! The same cluster with pods that a Docker Engine runs, beside the engine's own rules.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

mod common;

use std::process::Command;

use common::{Machine, eventually, get, on_own_network, run};
use longshore_runtime_docker::testing::{EngineNetwork, OwnEngine};

const PROGRAMS: &[&str] = &["dockerd", "containerd", "nft", "iptables", "busybox", "kubectl", "ip"];

/// The engine's containers, as it lists them itself.
fn containers(engine: &OwnEngine) -> String {
    let socket = engine.directory().join("sock");
    run(Command::new("curl").args(["-s", "--unix-socket"]).arg(socket).arg("http://docker/containers/json?all=1"))
}

#[test]
fn the_demonstration_runs_on_a_docker_engine() {
    on_own_network(PROGRAMS, || {
        let engine = OwnEngine::start(EngineNetwork::CallersWithRules).unwrap();
        let machine = Machine::new();
        machine.up(&["--demo", "--runtime", "docker", "--docker-socket", &engine.host()]);
        let node = machine.ask(&["get", "nodes", "-o", "jsonpath={.items[0].status.nodeInfo.containerRuntimeVersion}"]);
        assert!(node.starts_with("docker://"), "{node}");
        let port: u16 =
            machine.ask(&["get", "service", "web", "-o", "jsonpath={.spec.ports[0].nodePort}"]).parse().unwrap();
        let address = machine.ask(&["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"]);
        eventually("a replica answers", || get(([127, 0, 0, 1], port).into()).ok());
        // From one pod to another, which the engine's rules would not forward.
        let wget = format!("wget -q -O - http://{address}");
        let answer = machine.ask(&["exec", "deployment/web", "--", "sh", "-c", &wget]);
        assert!(answer.starts_with("hello from web-"), "{answer}");
        assert!(machine.ask(&["logs", "job/hello"]).contains("hello"), "the job's log is there");
        let pods = || {
            machine.ask(&[
                "get",
                "pods",
                "-l",
                "app=web",
                "-o",
                "jsonpath={.items[*].status.containerStatuses[0].containerID}",
            ])
        };
        let before = pods();
        assert_eq!(before.matches("docker://").count(), 3, "{before}");

        // Pods outlive the control plane, and who comes next finds the engine again.
        machine.kill();
        get(([127, 0, 0, 1], port).into()).unwrap();
        machine.up(&[]);
        assert_eq!(pods(), before);
        run(&mut machine.longshore(&["down", "--purge"]));
        assert_eq!(containers(&engine).trim(), "[]");
    });
}
