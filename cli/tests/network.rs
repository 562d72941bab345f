//! How pods are connected: policies between real containers, the machine's CNI plugins, the node's own network, and none.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::{Machine, eventually, get, mounted_below, on_own_network, run};

const PROGRAMS: &[&str] = &["runc", "nft", "busybox", "kubectl", "ip", "nsenter", "bash"];

/// Directory of Debian's CNI plugins.
const PLUGINS: &str = "/usr/lib/cni";

fn pod(name: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{{name: main, image: 'longshore.local/demo:1', command: [sleep, '3600']}}]
---
"
    )
}

const POLICY: &str = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: friend}}}]
    ports: [{port: http}]
";

/// Whether a pod gets an answer from the demonstration's Service.
fn reaches(machine: &Machine, pod: &str) -> bool {
    let ip = machine.ask(&["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"]);
    let uid = machine.ask(&["get", "pod", pod, "-o", "jsonpath={.metadata.uid}"]);
    // In the pod's network, but by the machine's program: a busybox without libraries finds no host to connect to.
    let namespace = machine.data_dir().join("runtime/state/sandboxes").join(uid).join("netns");
    let mut call = machine.command("nsenter");
    call.arg(format!("--net={}", namespace.display()));
    let output = call.args(["timeout", "1", "bash", "-c", &format!("exec 3<>/dev/tcp/{ip}/80")]).output().unwrap();
    output.status.success()
}

fn tables() -> String {
    run(Command::new("nft").args(["list", "tables"]))
}

#[test]
fn a_policy_lets_through_whom_it_names_and_nobody_else() {
    on_own_network(PROGRAMS, || {
        let machine = Machine::new();
        let file = machine.write("pods.yaml", &(pod("friend") + &pod("stranger")));
        machine.up(&["--demo", "-f", &file]);
        for pod in ["friend", "stranger"] {
            eventually("nobody is kept out yet", || reaches(&machine, pod).then_some(()));
        }
        machine.ask(&["apply", "-f", &machine.write("policy.yaml", POLICY)]);
        assert!(machine.ask(&["get", "netpol"]).contains("app=web"));
        eventually("the policy holds", || (!reaches(&machine, "stranger")).then_some(()));
        assert!(reaches(&machine, "friend"));

        // It holds while nobody is there to see to it, and afterwards; the node's own probes pass.
        machine.kill();
        machine.up(&[]);
        assert!(machine.ask(&["get", "pods", "-l", "app=web"]).matches(" 1/1 ").count() == 3);
        assert!(reaches(&machine, "friend") && !reaches(&machine, "stranger"));
        machine.ask(&["label", "pod", "stranger", "--overwrite", "app=friend"]);
        eventually("who becomes a friend is let through", || reaches(&machine, "stranger").then_some(()));
        machine.ask(&["label", "pod", "stranger", "--overwrite", "app=stranger"]);
        eventually("and no longer", || (!reaches(&machine, "stranger")).then_some(()));
        machine.ask(&["delete", "netpol", "web"]);
        eventually("nothing holds any more", || reaches(&machine, "stranger").then_some(()));
        run(&mut machine.longshore(&["down", "--purge"]));
        assert!(!tables().contains("longshore"), "{}", tables());
    });
}

#[test]
fn pods_of_cni_plugins_have_services_and_leave_nothing() {
    on_own_network(PROGRAMS, || {
        if !Path::new(PLUGINS).join("bridge").exists() {
            println!("SKIPPED: there are no CNI plugins (apt-get install containernetworking-plugins)");
            return;
        }
        // A way out, as machines have: by it the node has an address that pods reach, and a way to Services.
        for line in [
            "link add out type veth peer name world",
            "address add 192.0.2.1/24 dev out",
            "link set out up",
            "link set world up",
            "route add default via 192.0.2.2",
        ] {
            run(Command::new("ip").args(line.split(' ')));
        }
        let links = || run(Command::new("ip").args(["-o", "link", "show", "type", "veth"])).lines().count();
        let before = links();
        let machine = Machine::new();
        let addresses = tempfile::tempdir().unwrap();
        let list = serde_json::json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [
            {
                "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
                "ipam": {
                    "type": "host-local", "dataDir": addresses.path(), "ranges": [[{"subnet": "10.222.0.0/24"}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ]});
        let configuration = addresses.path().join("net.d");
        std::fs::create_dir(&configuration).unwrap();
        let directory = configuration.display().to_string();
        let start = |machine: &Machine| {
            machine.longshore(&[
                "up",
                "--detach",
                "--listen",
                "127.0.0.1:0",
                "--network",
                "cni",
                "--cni-conf-dir",
                &directory,
            ])
        };
        let (_, complaint) = common::texts(&start(&machine).output().unwrap());
        let expected = format!("a network's configuration in {directory}");
        assert!(complaint.contains(&expected) && complaint.contains("*.conflist"), "{complaint}");

        std::fs::write(configuration.join("10-pods.conflist"), list.to_string()).unwrap();
        let file = machine.write("pods.yaml", &pod("client"));
        run(start(&machine).args(["--demo", "-f", &file]));
        let ip = machine.ask(&["get", "pod", "client", "-o", "jsonpath={.status.podIP}"]);
        assert!(ip.starts_with("10.222.0."), "{ip}");
        eventually("the Service is reached", || reaches(&machine, "client").then_some(()));
        machine.ask(&["exec", "client", "--", "nslookup", "web.default.svc.cluster.local"]);
        let web = machine.ask(&["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"]);
        assert!(get(format!("{web}:80").parse().unwrap()).unwrap().contains("hello from web"));
        // What was chosen is remembered.
        machine.kill();
        machine.up(&[]);
        eventually("the Service is reached", || reaches(&machine, "client").then_some(()));
        let other = machine.longshore(&["up", "--network", "bridge"]).output().unwrap();
        assert!(!other.status.success());

        machine.kill();
        let directory = machine.data_dir();
        run(&mut machine.longshore(&["down", "--purge"]));
        assert!(!tables().contains("longshore"), "{}", tables());
        let rules = run(Command::new("iptables").args(["-t", "nat", "-S"]));
        assert!(!rules.contains("10.222.0."), "{rules}");
        assert_eq!(links(), before);
        assert!(!directory.exists() && !mounted_below(&directory));
    });
}

/// Starts a cluster whose demonstration, of which only the image is wanted, never becomes ready, and waits for a pod.
fn up(machine: &Machine, network: &str, pod: &str, text: &str) -> Child {
    let file = machine.write("pods.yaml", text);
    let mut up = machine.longshore(&["up", "--listen", "127.0.0.1:0", "--demo", "--network", network, "-f", &file]);
    let child = up.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually(&format!("pod {pod} is ready"), || {
        let wait = machine.kubectl(&["wait", "--for=condition=Ready", "--timeout=1s", "pod", pod]).output().unwrap();
        wait.status.success().then_some(())
    });
    child
}

fn down(machine: &Machine, mut child: Child) {
    run(&mut machine.longshore(&["down", "--purge"]));
    assert!(child.wait().unwrap().success());
    assert_eq!(tables(), "");
}

#[test]
fn pods_can_use_the_nodes_network_or_none() {
    on_own_network(PROGRAMS, || {
        let machine = Machine::new();
        let server = pod("server").replace("[sleep, '3600']", "[/bin/busybox, httpd, -f, -p, '8099']");
        let child = up(&machine, "host", "server", &server);
        assert!(get(([127, 0, 0, 1], 8099).into()).is_err_and(|answer| answer.contains("404")));
        let addresses = machine.ask(&["get", "pod", "server", "-o", "jsonpath={.status.podIP} {.status.hostIP}"]);
        let (pod_ip, host_ip) = addresses.split_once(' ').unwrap();
        assert_eq!(pod_ip, host_ip);
        down(&machine, child);

        let machine = Machine::new();
        let child = up(&machine, "none", "alone", &pod("alone"));
        let interfaces = machine.ask(&["exec", "alone", "--", "/bin/busybox", "ip", "-o", "address"]);
        assert!(interfaces.contains("127.0.0.1/8") && !interfaces.contains("eth0"), "{interfaces}");
        down(&machine, child);
    });
}
