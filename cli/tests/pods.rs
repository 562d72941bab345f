//! What becomes of real pods that are configured by files and resized, driven by the real kubectl.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

mod common;

use common::{Machine, eventually, on_own_network};
use serde_json::{Value, json};

const PODS: &str = r##"
apiVersion: v1
kind: Pod
metadata: {name: configured}
spec:
  restartPolicy: Never
  volumes: [{name: config, emptyDir: {}}]
  initContainers:
  - name: write
    image: longshore.local/demo:1
    command: [/bin/busybox, sh, -c]
    args: ["printf '%s\n' \"# made at the start\" \"PLACE='over the\" \"  sea'\" > /config/env"]
    volumeMounts: [{name: config, mountPath: /config}]
  containers:
  - name: read
    image: longshore.local/demo:1
    command: [/bin/busybox, sh, -c]
    args: ['echo "$PLACE|${OTHER-unset}"']
    env:
    - {name: PLACE, valueFrom: {fileKeyRef: {volumeName: config, path: env, key: PLACE}}}
    - {name: OTHER, valueFrom: {fileKeyRef: {volumeName: config, path: env, key: OTHER, optional: true}}}
---
apiVersion: v1
kind: Pod
metadata: {name: resized}
spec:
  restartPolicy: OnFailure
  containers:
  - name: main
    image: longshore.local/demo:1
    command: [/bin/busybox, sh, -c]
    args: ['trap "exit 0" TERM; sleep 100000 & wait']
    resources: {requests: {cpu: 10m}, limits: {memory: 64Mi}}
    resizePolicy: [{resourceName: memory, restartPolicy: RestartContainer}]
"##;

#[test]
fn pods_read_what_was_written_for_them_and_change_their_size() {
    on_own_network(&["runc", "nft", "busybox", "kubectl", "ip"], || {
        let machine = Machine::new();
        machine.up(&["--demo", "-f", &machine.write("pods.yaml", PODS)]);
        machine.ask(&["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/configured", "--timeout=60s"]);
        assert_eq!(machine.ask(&["logs", "configured"]), "over the\n  sea|unset");

        let resize = |resources: Value| {
            let patch = json!({"spec": {"containers": [{"name": "main", "resources": resources}]}}).to_string();
            machine.ask(&["patch", "pod", "resized", "--subresource", "resize", "-p", &patch]);
        };
        let told = |path: &str| machine.ask(&["get", "pod", "resized", "-o", &format!("jsonpath={path}")]);
        // What it runs ends well when it is stopped, and is started again all the same.
        resize(json!({"limits": {"memory": "96Mi"}}));
        let main = "{.status.phase} {.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].ready}";
        eventually("it runs again", || (told(main) == "Running 1 true").then_some(()));
        resize(json!({"requests": {"cpu": "4000"}}));
        let pending = "{.status.conditions[?(@.type=='PodResizePending')].reason}";
        eventually("it is too much", || (told(pending) == "Infeasible").then_some(()));
        resize(json!({"requests": {"cpu": "20m"}}));
        let allocated = "{.status.containerStatuses[0].allocatedResources.cpu}";
        eventually("it is granted", || (told(pending).is_empty() && told(allocated) == "20m").then_some(()));
        assert_eq!(told(main), "Running 1 true");
    });
}
