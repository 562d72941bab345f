//! The parts of a cluster, each a process of its own, with TLS between them.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

mod common;

use std::path::Path;
use std::process::Command;

use common::{Machine, Part, certificate, eventually, on_own_network, part, run, texts};

/// What a part answers to somebody whom the cluster knows.
#[track_caller]
fn ask(machine: &Machine, kubeconfig: &Path, port: u16, path: &str) -> String {
    let server = format!("https://127.0.0.1:{port}");
    let mut kubectl = machine.kubectl(&["get", "--raw", path, "--server", &server, "--kubeconfig"]);
    run(kubectl.arg(kubeconfig)).trim().to_owned()
}

#[test]
fn parts_in_processes_of_their_own_make_a_cluster() {
    on_own_network(&["kubectl"], || {
        let machine = Machine::new();
        let temp = tempfile::tempdir().unwrap();
        let api = Part::start(machine.longshore(&["apiserver"]).args(["--listen", "127.0.0.1:0"]), "serving");
        let kubeconfig = certificate(&machine, temp.path(), "controllers", &["controllers"]);
        let mut controllers = part("controllers", &kubeconfig);
        let controllers = Part::start(controllers.args(["--listen", "127.0.0.1:0"]), "lead");
        // Whoever does not serve needs no certificate to serve with.
        let admins = ["user", "part", "--group", "system:masters"];
        let kubeconfig = certificate(&machine, temp.path(), "part", &admins);
        let config = temp.path().join("scheduler.yaml");
        let head = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";
        std::fs::write(&config, head).unwrap();
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
        // The scheduler is elsewhere and listens nowhere: what needs it says so, what needs the cluster's state alone works.
        let pod = machine.ask(&["get", "pods", "-o", "jsonpath={.items[0].metadata.name}"]);
        let refused = |command: &mut Command, reason: &str| {
            let output = command.output().unwrap();
            assert!(!output.status.success() && texts(&output).1.contains(reason), "{output:?}");
        };
        refused(&mut machine.longshore(&["explain", &pod]), "no scheduler of the name \"default-scheduler\" leads");
        let manifest = temp.path().join("pod.yaml");
        let text = "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: a, image: a}]}}";
        std::fs::write(&manifest, text).unwrap();
        let found = run(machine.longshore(&["what-if"]).arg("-f").arg(&manifest));
        assert!(found.contains("default/a  worker"), "{found}");

        // One that listens is found by its lease, also for pods of another of its profiles.
        refused(part("scheduler", &kubeconfig).args(["--listen", "127.0.0.1:0"]), "`longshore certificate scheduler`");
        let kubeconfig = certificate(&machine, temp.path(), "scheduler", &["scheduler"]);
        let taken = format!("127.0.0.1:{}", controllers.port());
        refused(part("scheduler", &kubeconfig).args(["--listen", &taken]), "the port is taken");
        scheduler.stop();
        std::fs::write(
            &config,
            format!("{head}profiles: [{{schedulerName: default-scheduler}}, {{schedulerName: other}}]\n"),
        )
        .unwrap();
        let mut scheduler = part("scheduler", &kubeconfig);
        scheduler.args(["--listen", "0.0.0.0:0", "--config"]).arg(&config);
        let scheduler = Part::start(&mut scheduler, "became leader");
        let unplaced = "apiVersion: v1\nkind: Pod\nmetadata: {name: b}\nspec: {schedulerName: other, nodeSelector: {no: such}, containers: [{name: b, image: b}]}";
        machine.ask(&["apply", "-f", &machine.write("unplaced.yaml", unplaced)]);
        let explained = run(&mut machine.longshore(&["explain", &pod]));
        assert!(explained.contains("profile default-scheduler: on node worker"), "{explained}");
        let path = "/api/v1/namespaces/default/pods/b/explain";
        let explained = eventually("the pod is refused", || {
            let explained = machine.ask(&["get", "--raw", path]);
            explained.contains("\"verdict\":\"refused\"").then_some(explained)
        });
        assert!(
            explained.contains("\"profile\":\"other\"") && explained.contains("node(s) didn't match"),
            "{explained}"
        );
        let refused = ask(&machine, &kubeconfig, scheduler.port(), "/decisions?refused=true&limit=1");
        assert!(refused.contains("\"name\":\"b\""), "{refused}");
        for port in [scheduler.port(), controllers.port()] {
            for path in ["/healthz", "/livez", "/readyz"] {
                assert_eq!(ask(&machine, &kubeconfig, port, path), "ok", "{path}");
            }
            assert!(ask(&machine, &kubeconfig, port, "/metrics").contains("\nprocess_resident_memory_bytes "));
        }
        let metrics = ask(&machine, &kubeconfig, scheduler.port(), "/metrics");
        assert!(
            metrics.contains("scheduler_schedule_attempts_total{result=\"unschedulable\",profile=\"other\"}"),
            "{metrics}"
        );
        let metrics = ask(&machine, &kubeconfig, controllers.port(), "/metrics");
        assert!(metrics.contains("workqueue_adds_total{name=\"replicaset\"}"), "{metrics}");

        for part in [node, scheduler, controllers, api] {
            part.stop();
        }
    });
}
