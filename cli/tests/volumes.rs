//! Volumes of real pods, driven by the real kubectl: what outlives what, and which mounts reach whom.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Machine, eventually, on_own_network, run, texts};

const PROGRAMS: &[&str] = &["runc", "nft", "busybox", "kubectl", "ip"];

const DATABASE: &str = r#"
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: db
        image: longshore.local/demo:1
        command: [/bin/busybox, sh, -c]
        args: ['echo started >> /data/starts; trap exit TERM; sleep 100000 & wait']
        env: [{name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
        volumeMounts: [{name: data, mountPath: /data, subPathExpr: of-$(POD)}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 8Mi}}}
"#;

/// Waits until the database has written down that it started so many times.
#[track_caller]
fn started(machine: &Machine, times: usize) {
    eventually(&format!("the database has started {times} times"), || {
        let output = machine.kubectl(&["exec", "db-0", "--", "cat", "/data/starts"]).output().unwrap();
        let (out, _) = texts(&output);
        assert!(out.lines().count() <= times, "it has lost nothing and started no more often: {out}");
        (output.status.success() && out.lines().count() == times).then_some(())
    });
}

/// The words of a table's line.
fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[test]
fn data_of_a_stateful_set_outlives_its_pod_its_agent_and_the_clusters_sleep() {
    on_own_network(PROGRAMS, || {
        let machine = Machine::new();
        machine.up(&["--demo"]);
        let file = machine.write("db.yaml", DATABASE);
        machine.ask(&["create", "-f", &file]);
        started(&machine, 1);

        let table = machine.ask(&["get", "pv"]);
        let header =
            "NAME CAPACITY ACCESS MODES RECLAIM POLICY STATUS CLAIM STORAGECLASS VOLUMEATTRIBUTESCLASS REASON AGE";
        assert_eq!(words(table.lines().next().unwrap()).join(" "), header);
        let volume = words(table.lines().nth(1).unwrap());
        assert_eq!(volume[1..8], ["8Mi", "RWO", "Delete", "Bound", "default/data-db-0", "local-path", "<unset>"]);
        let table = machine.ask(&["get", "pvc"]);
        let header = "NAME STATUS VOLUME CAPACITY ACCESS MODES STORAGECLASS VOLUMEATTRIBUTESCLASS AGE";
        assert_eq!(words(table.lines().next().unwrap()).join(" "), header);
        let claim = words(table.lines().nth(1).unwrap());
        assert_eq!(claim[..7], ["data-db-0", "Bound", volume[0], "8Mi", "RWO", "local-path", "<unset>"]);
        let classes = machine.ask(&["get", "sc"]);
        let class = words(classes.lines().nth(1).unwrap());
        let expected =
            ["local-path", "(default)", "longshore.io/local-path", "Delete", "WaitForFirstConsumer", "false"];
        assert_eq!(class[..6], expected);

        machine.ask(&["delete", "pod", "db-0"]);
        started(&machine, 2);
        machine.kill();
        machine.up(&[]);
        started(&machine, 2);
        run(&mut machine.longshore(&["down"]));
        machine.up(&[]);
        started(&machine, 3);

        // A claim that a pod uses stays; then its volume goes with it.
        machine.ask(&["delete", "pvc", "data-db-0", "--wait=false"]);
        assert!(machine.ask(&["get", "pvc", "data-db-0"]).contains("Terminating"));
        let directory = machine.data_dir().join("node/volumes").join(volume[0]);
        assert!(directory.join("of-db-0/starts").exists());
        machine.ask(&["delete", "statefulset", "db"]);
        eventually("claim and volume are gone", || {
            machine.ask(&["get", "pv,pvc", "-o", "name"]).is_empty().then_some(())
        });
        assert!(!directory.exists());
    });
}

#[test]
fn a_pod_waits_for_a_claim_and_says_so() {
    on_own_network(PROGRAMS, || {
        let machine = Machine::new();
        machine.up(&["--demo"]);
        let file = machine.write(
            "pods.yaml",
            r#"
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: manual}
spec: {accessModes: [ReadWriteOnce], storageClassName: "", resources: {requests: {storage: 1Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  restartPolicy: Never
  containers: [{name: c, image: "longshore.local/demo:1", command: [/bin/cat, /data/greeting], volumeMounts: [{name: d, mountPath: /data}]}]
  volumes: [{name: d, persistentVolumeClaim: {claimName: manual, readOnly: true}}]
---
apiVersion: v1
kind: Pod
metadata: {name: b}
spec:
  containers: [{name: c, image: "longshore.local/demo:1"}]
  volumes: [{name: d, persistentVolumeClaim: {claimName: missing}}]
"#,
        );
        machine.ask(&["create", "-f", &file]);
        let said = |pod: &str, what: &str| {
            let events = machine.ask(&["get", "events", "--field-selector", &format!("involvedObject.name={pod}")]);
            events.contains(what).then_some(())
        };
        eventually("a says why", || said("a", "pod has unbound immediate PersistentVolumeClaims"));
        eventually("b says why", || said("b", "persistentvolumeclaim \"missing\" not found"));

        let place = machine.data_dir().parent().unwrap().join("place");
        std::fs::create_dir(&place).unwrap();
        std::fs::write(place.join("greeting"), "hello from a volume\n").unwrap();
        let volume = format!(
            "apiVersion: v1\nkind: PersistentVolume\nmetadata: {{name: manual}}\nspec: {{accessModes: [ReadWriteOnce], \
             capacity: {{storage: 1Mi}}, hostPath: {{path: {}, type: Directory}}}}\n",
            place.display()
        );
        machine.ask(&["create", "-f", &machine.write("pv.yaml", &volume)]);
        machine.ask(&["wait", "pod/a", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s"]);
        assert_eq!(machine.ask(&["logs", "a"]), "hello from a volume");

        machine.ask(&["delete", "pod", "a"]);
        machine.ask(&["delete", "pvc", "manual"]);
        eventually("the volume is kept for an administrator", || {
            (machine.ask(&["get", "pv", "manual", "-o", "jsonpath={.status.phase}"]) == "Released").then_some(())
        });
        assert!(place.join("greeting").exists());
    });
}

/// A directory of the host that passes mounts on, as the whole of `/` does on most machines.
struct SharedDirectory(PathBuf);

impl SharedDirectory {
    fn new(path: PathBuf) -> Self {
        std::fs::create_dir(&path).unwrap();
        run(Command::new("mount").arg("--bind").args([&path, &path]));
        let shared = Self(path);
        run(Command::new("mount").arg("--make-shared").arg(&shared.0));
        shared
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SharedDirectory {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["--recursive", "--lazy"]).arg(&self.0).output();
    }
}

/// A pod that sleeps and has a directory of the host at `/h`.
fn pod(name: &str, path: &Path, propagation: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 0\n  \
         containers: [{{name: c, image: \"longshore.local/demo:1\", command: [/bin/sleep, \"100000\"], \
         volumeMounts: [{{name: h, mountPath: /h, mountPropagation: {propagation}}}]}}]\n  \
         volumes: [{{name: h, hostPath: {{path: {}}}}}]\n---\n",
        path.display()
    )
}

#[test]
fn a_mount_of_the_host_reaches_only_containers_that_want_it() {
    on_own_network(PROGRAMS, || {
        let machine = Machine::new();
        machine.up(&["--demo"]);
        let shared = SharedDirectory::new(machine.data_dir().parent().unwrap().join("shared"));
        let pods = pod("none", shared.path(), "None") + &pod("follows", shared.path(), "HostToContainer");
        let file = machine.write("pods.yaml", &pods);
        machine.ask(&["create", "-f", &file]);
        machine.ask(&["wait", "-f", &file, "--for=condition=Ready", "--timeout=60s"]);

        let inner = shared.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        run(Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&inner));
        std::fs::write(inner.join("file"), "x").unwrap();
        assert_eq!(machine.ask(&["exec", "follows", "--", "ls", "/h/inner"]), "file");
        assert_eq!(machine.ask(&["exec", "none", "--", "ls", "/h/inner"]), "");
    });
}

/// A pod that mounts a file system of its own making, and keeps it until it is told to end. Its programs are the host's.
fn mounting(shared: &Path) -> String {
    let host = ["usr", "lib", "lib64"].map(|name| {
        (
            format!("{{name: {name}, hostPath: {{path: /{name}, type: Directory}}}}"),
            format!("{{name: {name}, mountPath: /{name}, readOnly: true}}"),
        )
    });
    let (volumes, mounts): (Vec<String>, Vec<String>) = host.into_iter().unzip();
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: mounts}}\nspec:\n  terminationGracePeriodSeconds: 5\n  \
         containers:\n  - name: c\n    image: longshore.local/demo:1\n    command: [/bin/sh, -c]\n    \
         args: ['mkdir /own; echo hello from a pod > /own/file; /usr/bin/bindfs -f /own /h/mnt & \
         trap \"kill $!; wait; exit 0\" TERM; wait']\n    \
         securityContext: {{privileged: true}}\n    \
         readinessProbe: {{exec: {{command: [/bin/cat, /h/mnt/file]}}, periodSeconds: 1}}\n    \
         volumeMounts: [{{name: h, mountPath: /h, mountPropagation: Bidirectional}}, {}]\n  \
         volumes: [{{name: h, hostPath: {{path: {}}}}}, {}]\n",
        mounts.join(", "),
        shared.display(),
        volumes.join(", ")
    )
}

#[test]
fn a_mount_that_one_pod_makes_is_seen_by_another() {
    on_own_network(&[PROGRAMS, &["bindfs"]].concat(), || {
        let machine = Machine::new();
        machine.up(&["--demo"]);
        let shared = SharedDirectory::new(machine.data_dir().parent().unwrap().join("shared"));
        std::fs::create_dir(shared.path().join("mnt")).unwrap();
        // The one that looks is there first: the mount comes to it while it runs.
        let looks = machine.write("looks.yaml", &pod("looks", shared.path(), "HostToContainer"));
        machine.ask(&["create", "-f", &looks]);
        machine.ask(&["wait", "-f", &looks, "--for=condition=Ready", "--timeout=60s"]);
        let mounts = machine.write("mounts.yaml", &mounting(shared.path()));
        machine.ask(&["create", "-f", &mounts]);
        machine.ask(&["wait", "-f", &mounts, "--for=condition=Ready", "--timeout=60s"]);
        assert_eq!(machine.ask(&["exec", "looks", "--", "cat", "/h/mnt/file"]), "hello from a pod");
        assert_eq!(std::fs::read_to_string(shared.path().join("mnt/file")).unwrap(), "hello from a pod\n");
        machine.ask(&["exec", "looks", "--", "sh", "-c", "echo and back > /h/mnt/reply"]);
        assert_eq!(machine.ask(&["exec", "mounts", "--", "cat", "/own/reply"]), "and back");

        machine.ask(&["delete", "pod", "mounts"]);
        assert_eq!(machine.ask(&["exec", "looks", "--", "ls", "/h/mnt"]), "");
    });
}
