//! The manifests of `examples/`, run as their first lines say.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::{Machine, eventually, get, on_own_network};

const PROGRAMS: &[&str] = &["runc", "nft", "busybox", "kubectl", "ip"];

fn manifest(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/manifests").join(name);
    path.display().to_string()
}

/// A command that goes on until the test is over.
struct Beside(Child);

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn web_is_updated_and_taken_back() {
    on_own_network(PROGRAMS, || {
        let machine = Machine::new();
        machine.up(&["--demo", "-f", &manifest("web.yaml")]);
        let address = machine.ask(&["get", "service", "shop", "-o", "jsonpath={.spec.clusterIP}"]);
        let says = |word: &str| {
            eventually(word, || {
                get(format!("{address}:80").parse().unwrap()).ok().filter(|text| text.starts_with(word))
            })
        };
        says("hello from shop-");
        machine.ask(&["set", "env", "deployment/shop", "GREETING=hi"]);
        machine.ask(&["rollout", "status", "deployment/shop", "--timeout=80s"]);
        says("hi from shop-");
        machine.ask(&["rollout", "undo", "deployment/shop"]);
        machine.ask(&["rollout", "status", "deployment/shop", "--timeout=80s"]);
        says("hello from shop-");
        let allowed = ["get", "pdb", "shop", "-o", "jsonpath={.status.disruptionsAllowed}"];
        eventually("one may be disrupted", || (machine.ask(&allowed) == "1").then_some(()));
    });
}

#[test]
fn a_collector_reads_the_logs_of_its_node() {
    on_own_network(PROGRAMS, || {
        let machine = Machine::new();
        // The cluster of the test is not at the usual place.
        let logs = machine.data_dir().join("node/logs").display().to_string();
        let text = std::fs::read_to_string(manifest("logs.yaml")).unwrap();
        assert!(text.contains("/var/lib/longshore/node/logs"));
        let path = machine.write("logs.yaml", &text.replace("/var/lib/longshore/node/logs", &logs));
        machine.up(&["--demo", "-f", &path]);
        eventually("the job's line is counted", || {
            let log = machine.ask(&["logs", "daemonset/collector"]);
            log.lines().any(|line| line.contains(" default_hello-") && line.ends_with(" 1")).then_some(())
        });
        let wanted = "jsonpath={.status.numberReady}/{.status.desiredNumberScheduled}";
        assert_eq!(machine.ask(&["get", "daemonset", "collector", "-o", wanted]), "1/1");
    });
}

#[test]
fn each_piece_of_the_queue_is_done_once() {
    on_own_network(PROGRAMS, || {
        let machine = Machine::new();
        machine.up(&["--demo", "-f", &manifest("queue.yaml")]);
        machine.ask(&["wait", "--for=condition=complete", "job/queue", "--timeout=80s"]);
        let log = machine.ask(&["logs", "-l", "job-name=queue", "--tail=-1", "--max-log-requests=20"]);
        let mut lines: Vec<(u32, &str)> = log
            .lines()
            .filter_map(|line| {
                let mut words = line.split(' ');
                Some((words.next()?.parse().ok()?, words.next()?))
            })
            .collect();
        lines.sort_unstable();
        let words = "amphora ballast capstan davit ensign fathom gangway halyard inboard jetty keel lighter";
        assert_eq!(lines, (0..).zip(words.split(' ')).collect::<Vec<_>>());
        let done =
            machine.ask(&["get", "job", "queue", "-o", "jsonpath={.status.succeeded} {.status.completedIndexes}"]);
        assert_eq!(done, "12 0-11");
    });
}

#[test]
fn a_quorum_has_a_leader_as_long_as_most_members_see_each_other() {
    on_own_network(PROGRAMS, || {
        let machine = Machine::new();
        machine.up(&["--demo", "-f", &manifest("quorum.yaml")]);
        let known = |member: &str| {
            let output =
                machine.kubectl(&["exec", member, "--", "/bin/busybox", "cat", "/www/leader"]).output().unwrap();
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        };
        let agree = |members: &[&str], leader: &str| {
            let what = format!("{members:?} follow {leader}");
            eventually(&what, || members.iter().all(|member| known(member) == leader).then_some(()));
        };
        let changes = || -> u32 {
            let text = machine.ask(&["exec", "quorum-0", "--", "/bin/busybox", "cat", "/data/changes"]);
            text.parse().unwrap()
        };
        agree(&["quorum-0", "quorum-1", "quorum-2"], "quorum-0");
        let before = changes();
        // As long as its successor finds no place, another leads; it has the same name and the same volume.
        let node = machine.ask(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]);
        machine.ask(&["cordon", &node]);
        machine.ask(&["delete", "pod", "quorum-0", "--wait=false"]);
        agree(&["quorum-1", "quorum-2"], "quorum-1");
        machine.ask(&["uncordon", &node]);
        agree(&["quorum-0", "quorum-1", "quorum-2"], "quorum-0");
        assert!(changes() > before);
        // One of three is no quorum, and nobody is sent to it.
        machine.ask(&["scale", "statefulset", "quorum", "--replicas=1"]);
        agree(&["quorum-0"], "none");
        let ready = ["get", "pod", "quorum-0", "-o", "jsonpath={.status.containerStatuses[0].ready}"];
        eventually("it is not ready", || (machine.ask(&ready) == "false").then_some(()));
        machine.ask(&["scale", "statefulset", "quorum", "--replicas=3"]);
        agree(&["quorum-0", "quorum-1", "quorum-2"], "quorum-0");
    });
}

#[test]
fn pods_with_and_without_gpus_share_a_node() {
    on_own_network(PROGRAMS, || {
        let machine = Machine::new();
        machine.up(&["--demo", "--share-device", "longshore.dev/gpu"]);
        let mut plugin = machine.longshore(&["device-plugin", "fake-gpu", "--count", "2"]);
        let _plugin = Beside(plugin.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        machine.ask(&["apply", "-f", &manifest("gpu.yaml")]);
        for pod in ["share-0", "share-1", "whole"] {
            machine.ask(&["wait", "--for=condition=ready", &format!("pod/{pod}"), "--timeout=80s"]);
        }
        machine.ask(&["rollout", "status", "deployment/plain", "--timeout=80s"]);
        let said = |pod: &str| machine.ask(&["logs", pod]);
        let (first, second, whole) = (said("share-0"), said("share-1"), said("whole"));
        assert_eq!(first, second, "both have a half of the same GPU");
        let (device, share) = first.split_once(' ').unwrap();
        assert_eq!(share, "500");
        assert!(!whole.is_empty() && whole != device, "{whole} is somebody else's");
        // Nothing is left for a third share, and the scheduler says why.
        machine.ask(&["scale", "statefulset", "share", "--replicas=3"]);
        let why = ["get", "pod", "share-2", "-o", "jsonpath={.status.conditions[?(@.type=='PodScheduled')].message}"];
        eventually("the third share waits", || {
            let output = Command::output(&mut machine.kubectl(&why)).unwrap();
            String::from_utf8_lossy(&output.stdout).contains("Insufficient longshore.dev/gpu-milli").then_some(())
        });
    });
}
