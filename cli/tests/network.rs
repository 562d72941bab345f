//! How pods are connected: policies between real containers, both address families, the machine's CNI plugins, the node's own network,
//! and none.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::lan::{join, machines};
use common::{Machine, eventually, get, mounted_below, on_own_network, resolve, run};

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

/// Two more Services before the demonstration's pods, with addresses of both families and without any.
const BOTH: &str = "apiVersion: v1
kind: Service
metadata: {name: both}
spec: {ipFamilyPolicy: RequireDualStack, selector: {app: web}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: peers}
spec: {clusterIP: None, ipFamilyPolicy: RequireDualStack, selector: {app: web}, ports: [{port: 80, targetPort: http}]}
---
";

/// Whether a pod gets an answer from the demonstration's Service.
fn reaches(machine: &Machine, pod: &str) -> bool {
    let ip = machine.ask(&["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"]);
    connects(machine, pod, &ip, 80)
}

/// Whether a pod gets a connection to a port of an address.
fn connects(machine: &Machine, pod: &str, ip: &str, port: u16) -> bool {
    let uid = machine.ask(&["get", "pod", pod, "-o", "jsonpath={.metadata.uid}"]);
    // In the pod's network, but by the machine's program: a busybox without libraries finds no host to connect to.
    let namespace = machine.data_dir().join("runtime/state/sandboxes").join(uid).join("netns");
    let mut call = machine.command("nsenter");
    call.arg(format!("--net={}", namespace.display()));
    let output = call.args(["timeout", "1", "bash", "-c", &format!("exec 3<>/dev/tcp/{ip}/{port}")]).output().unwrap();
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

/// Whether a test of IPv6 can be made here; says so if not.
fn has_ipv6() -> bool {
    let found = Path::new("/proc/net/if_inet6").exists();
    if !found {
        println!("SKIPPED: the kernel has no IPv6");
    }
    found
}

#[test]
fn pods_of_two_nodes_reach_each_other_by_both_families() {
    on_own_network(PROGRAMS, || {
        if !has_ipv6() {
            return;
        }
        let mut machines = machines(2);
        for (number, machine) in (1..).zip(&machines) {
            let address = format!("fd09::{number}/64");
            run(machine.command("ip").args(["address", "add", &address, "dev", "eth0", "nodad"]));
        }
        let control = machines.remove(0);
        run(&mut control.longshore(&["up", "--detach", "--dual-stack", "--demo", "--listen", "0.0.0.0:0"]));
        let _workers = join(&control, machines, &control);
        let own = control.ask(&[
            "get",
            "nodes",
            "-l",
            "kubernetes.io/hostname!=worker-1",
            "-o",
            "jsonpath={.items[0].metadata.name}",
        ]);
        let at = |node: &str| format!("spec:\n  nodeName: {node}");
        let near = pod("near").replace("spec:", &at(&own));
        let far = pod("far")
            .replace("spec:", &at("worker-1"))
            .replace("[sleep, '3600']", "[/bin/busybox, httpd, -f, -p, '80']");
        let service = BOTH.replace("app: web", "app: far").replace("targetPort: http", "targetPort: 80");
        control.ask(&["apply", "-f", &control.write("pods.yaml", &(service + &near + &far))]);
        control.ask(&["wait", "--for=condition=Ready", "--timeout=60s", "pod/near", "pod/far"]);
        let addresses = control.ask(&[
            "get",
            "node",
            "worker-1",
            "-o",
            "jsonpath={.status.addresses[?(@.type=='InternalIP')].address}",
        ]);
        assert_eq!(addresses, "192.0.2.2 fd09::2");
        for what in [["{.status.podIPs[*].ip}", "pod/far"], ["{.spec.clusterIPs[*]}", "service/both"]] {
            let ips = control.ask(&["get", "-o", &format!("jsonpath={}", what[0]), what[1]]);
            assert_eq!(ips.split(' ').count(), 2, "{ips}");
            for ip in ips.split(' ') {
                eventually(&format!("{ip} of {} is reached", what[1]), || {
                    connects(&control, "near", ip, 80).then_some(())
                });
            }
        }
    });
}

#[test]
fn services_and_pods_have_addresses_of_both_families() {
    on_own_network(PROGRAMS, || {
        if !has_ipv6() {
            return;
        }
        let machine = Machine::new();
        let file = machine.write("both.yaml", &(BOTH.to_owned() + &pod("client")));
        machine.up(&["--dual-stack", "--demo", "-f", &file]);
        let list = |what: &[&str]| -> Vec<String> {
            machine.ask(&[&["get", "-o"], what].concat()).split_whitespace().map(str::to_owned).collect()
        };
        let families = |addresses: &[String]| addresses.iter().map(|it| it.contains(':')).collect::<Vec<_>>();
        let shown = machine.ask(&["get", "service", "both", "-o", "yaml"]);
        assert!(shown.contains("ipFamilyPolicy: RequireDualStack"), "{shown}");
        assert!(shown.contains("  ipFamilies:\n  - IPv4\n  - IPv6\n"), "{shown}");
        let both = list(&["jsonpath={.spec.clusterIPs[*]}", "service", "both"]);
        assert_eq!(families(&both), [false, true]);
        assert!(both.iter().all(|ip| shown.contains(&format!("\n  - {ip}\n"))), "{shown}");
        let ranges = list(&["jsonpath={.items[0].spec.podCIDRs[*]}", "nodes"]);
        assert_eq!(families(&ranges), [false, true]);
        let slices = ["-l", "kubernetes.io/service-name=both"];
        let mut types = list(&[&["jsonpath={.items[*].addressType}", "endpointslices"], &slices[..]].concat());
        types.sort();
        assert_eq!(types, ["IPv4", "IPv6"]);
        assert_eq!(
            families(&list(&["jsonpath={.spec.clusterIPs[*]}", "service", "web"])),
            [false],
            "who asks for nothing has one"
        );

        // A Service's and a pod's own, from a pod and from the node.
        let web = list(&["jsonpath={.items[0].status.podIPs[*].ip}", "pods", "-l", "app=web"]);
        assert_eq!(families(&web), [false, true]);
        for (ips, port) in [(&both, 80), (&web, 8080)] {
            for ip in ips {
                eventually(&format!("{ip} is reached"), || connects(&machine, "client", ip, port).then_some(()));
            }
        }
        for ip in &both {
            let answer = get(std::net::SocketAddr::new(ip.parse().unwrap(), 80)).unwrap();
            assert!(answer.contains("hello from web"), "{answer}");
        }
        for (name, addresses) in [("both", &both), ("peers", &web)] {
            for ip in addresses {
                resolve(&machine, "client", &format!("{name}.default.svc.cluster.local"), ip);
            }
        }
        for ip in &both {
            resolve(&machine, "client", ip, "both.default.svc.cluster.local");
        }
        let hosts = machine.ask(&["exec", "client", "--", "cat", "/etc/hosts"]);
        let own = list(&["jsonpath={.status.podIPs[*].ip}", "pod", "client"]);
        assert!(own.len() == 2 && own.iter().all(|ip| hosts.contains(&format!("{ip}\tclient"))), "{hosts}");

        // Another start keeps both; a Service gives the second address back and gets another.
        machine.kill();
        machine.up(&[]);
        assert!(both.iter().all(|ip| connects(&machine, "client", ip, 80)));
        let policy = |policy: &str| {
            machine.ask(&[
                "patch",
                "service",
                "both",
                "--type=merge",
                "-p",
                &format!("{{\"spec\":{{\"ipFamilyPolicy\":\"{policy}\"}}}}"),
            ]);
            list(&["jsonpath={.spec.clusterIPs[*]}", "service", "both"])
        };
        assert_eq!(policy("SingleStack"), both[..1]);
        eventually("the second address is given back", || (!connects(&machine, "client", &both[1], 80)).then_some(()));
        assert!(connects(&machine, "client", &both[0], 80));
        let again = policy("PreferDualStack");
        assert_eq!((families(&again), &again[0]), (vec![false, true], &both[0]));
        eventually("the new one is reached", || connects(&machine, "client", &again[1], 80).then_some(()));

        machine.kill();
        let other = machine.longshore(&["up", "--cluster-cidr", "10.1.0.0/16"]).output().unwrap();
        let (_, complaint) = common::texts(&other);
        assert!(!other.status.success() && complaint.contains("was made with --cluster-cidr"), "{complaint}");
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
