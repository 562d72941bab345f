//! Nodes are emptied as an administrator does it: `kubectl drain` against disruption budgets.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

mod common;

use std::process::Stdio;

use common::{Machine, eventually, on_own_network, texts};

const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: { name: web }
spec:
  replicas: 2
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{ name: web, image: web:1 }]
      topologySpreadConstraints:
      - { maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: { matchLabels: { app: web } } }
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: { name: web }
spec: { minAvailable: 2, selector: { matchLabels: { app: web } } }
"#;

/// The nodes that the pods of the deployment are on.
fn places(machine: &Machine) -> Vec<String> {
    let path = "jsonpath={range .items[?(@.status.phase=='Running')]}{.spec.nodeName}{'\\n'}{end}";
    let mut nodes: Vec<String> =
        machine.ask(&["get", "pods", "-l", "app=web", "-o", path]).lines().map(str::to_owned).collect();
    nodes.sort();
    nodes
}

#[test]
fn a_drain_waits_until_the_budget_lets_its_pods_go() {
    on_own_network(&["kubectl", "ip"], || {
        let machine = Machine::new();
        machine.up(&["--runtime", "simulated", "--nodes", "2", "--store", "memory"]);
        let web = machine.write("web.yaml", WEB);
        machine.ask(&["apply", "-f", &web]);
        eventually("a pod runs on each node", || (places(&machine) == ["node-1", "node-2"]).then_some(()));
        eventually("the budget has counted them", || {
            let path = "jsonpath={.status.currentHealthy}/{.status.desiredHealthy} {.status.conditions[0].reason}";
            (machine.ask(&["get", "pdb", "web", "-o", path]) == "2/2 InsufficientPods").then_some(())
        });

        // Two of two must stay: the drain gives up, and the pod is where it was.
        let refused = machine.kubectl(&["drain", "node-1", "--timeout=2s"]).output().unwrap();
        let (out, err) = texts(&refused);
        assert!(!refused.status.success(), "{out}");
        assert!(out.contains("evicting pod default/web-"), "{out}");
        assert!(err.contains("Cannot evict pod as it would violate the pod's disruption budget."), "{err}");
        assert_eq!(places(&machine), ["node-1", "node-2"]);

        // With one more than must be there it goes through, although it was told to wait at first.
        let mut drain = machine.kubectl(&["drain", "node-1", "--timeout=80s"]).stdout(Stdio::piped()).spawn().unwrap();
        machine.ask(&["scale", "deployment/web", "--replicas=3"]);
        assert!(drain.wait().unwrap().success());
        eventually("all are on the other node", || (places(&machine) == ["node-2"; 3]).then_some(()));
        assert_eq!(machine.ask(&["get", "pdb", "web", "-o", "jsonpath={.spec.minAvailable}"]), "2");
        assert!(machine.ask(&["get", "node", "node-1"]).contains("Ready,SchedulingDisabled"));
        machine.ask(&["uncordon", "node-1"]);
        assert!(!machine.ask(&["get", "node", "node-1"]).contains("SchedulingDisabled"));
    });
}
