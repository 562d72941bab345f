//! Machines join a cluster by a token, and are nodes of it from then on.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

mod common;

use std::collections::BTreeSet;
use std::process::Command;

use common::lan::{Fleet, address, invitation, join, machines};
use common::{Machine, Part, certificate, eventually, on_own_network, processes, resolve, run, texts};

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
      tolerations:
      - { key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 1 }
      - { key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 1 }
      topologySpreadConstraints:
      - { maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: { matchLabels: { app: web } } }
      containers:
      - name: web
        image: longshore.local/demo:1
        command: [/bin/busybox, sh, -c]
        args: ["mkdir -p /www; echo $POD > /www/index.html; exec /bin/busybox httpd -f -p 8080 -h /www"]
        env: [{ name: POD, valueFrom: { fieldRef: { fieldPath: metadata.name } } }]
        readinessProbe: { httpGet: { path: /, port: 8080 }, periodSeconds: 1 }
---
apiVersion: v1
kind: Service
metadata: { name: web }
spec: { type: NodePort, selector: { app: web }, ports: [{ port: 80, targetPort: 8080 }] }
"#;

const PEERS: &str = r"
apiVersion: v1
kind: Service
metadata: { name: peers }
spec: { clusterIP: None, selector: { app: peers }, ports: [{ port: 80 }] }
---
apiVersion: apps/v1
kind: StatefulSet
metadata: { name: peer }
spec:
  serviceName: peers
  replicas: 2
  podManagementPolicy: Parallel
  selector: { matchLabels: { app: peers } }
  template:
    metadata: { labels: { app: peers } }
    spec:
      terminationGracePeriodSeconds: 0
      topologySpreadConstraints:
      - { maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: { matchLabels: { app: peers } } }
      containers: [{ name: main, image: 'longshore.local/demo:1', command: [sleep, '3600'] }]
";

/// Name, node and address of the pods that run and are meant to.
fn pods(control: &Machine) -> Vec<[String; 3]> {
    let path = "jsonpath={range .items[*]}{.metadata.deletionTimestamp}|{.status.conditions[?(@.type=='Ready')].status}|\
                {.metadata.name}|{.spec.nodeName}|{.status.podIP}{'\\n'}{end}";
    let text = control.ask(&["get", "pods", "-l", "app=web", "-o", path]);
    let ready = text.lines().filter_map(|line| line.strip_prefix("|True|"));
    let mut pods: Vec<[String; 3]> =
        ready.map(|line| line.split('|').map(str::to_owned).collect::<Vec<_>>().try_into().unwrap()).collect();
    pods.sort_by(|a, b| a[1].cmp(&b[1]));
    pods
}

/// Waits until the pods are on these nodes.
#[track_caller]
fn placed(control: &Machine, nodes: &[&str]) -> Vec<[String; 3]> {
    eventually(&format!("pods on {nodes:?}"), || {
        let pods = pods(control);
        (pods.iter().map(|pod| pod[1].as_str()).collect::<Vec<_>>() == nodes).then_some(pods)
    })
}

/// Pods on two nodes find the Service and each other by name.
#[track_caller]
fn names_resolve(control: &Machine, domain: &str) {
    control.ask(&["apply", "-f", &control.write("peers.yaml", PEERS)]);
    control.ask(&["rollout", "status", "statefulset/peer", "--timeout=60s"]);
    let ask = |path: &str, what: &[&str]| control.ask(&[&["get", "-o", &format!("jsonpath={path}")], what].concat());
    let web = ask("{.spec.clusterIP}", &["service", "web"]);
    let [(first, a), (second, b)] = ["peer-0", "peer-1"].map(|pod| {
        let found = ask("{.spec.nodeName} {.status.podIP}", &["pod", pod]);
        let (node, address) = found.split_once(' ').unwrap();
        (node.to_owned(), address.to_owned())
    });
    assert_ne!(first, second, "they are on two nodes");
    for pod in ["peer-0", "peer-1"] {
        resolve(control, pod, &format!("web.default.svc.{domain}"), &web);
        resolve(control, pod, &format!("peer-0.peers.default.svc.{domain}"), &a);
        resolve(control, pod, &format!("peer-1.peers.default.svc.{domain}"), &b);
        // What pods search by themselves.
        resolve(control, pod, "web", &web);
    }
    control.ask(&["delete", "statefulset/peer", "service/peers"]);
    control.ask(&["wait", "--for=delete", "pods", "-l", "app=peers", "--timeout=60s"]);
}

/// Who answers at a URL, out of many requests of one pod or machine.
fn answers(mut ask: impl FnMut() -> Command) -> BTreeSet<String> {
    (0..20).map(|_| run(&mut ask()).trim().to_owned()).collect()
}

#[track_caller]
fn is_ready(control: &Machine, node: &str, status: &str) {
    let path = "jsonpath={.status.conditions[?(@.type=='Ready')].status}";
    eventually(&format!("{node} is ready: {status}"), || {
        (control.ask(&["get", "node", node, "-o", path]) == status).then_some(())
    });
}

#[test]
fn pods_of_two_machines_reach_each_other_move_and_outlive_their_agents() {
    on_own_network(&["runc", "nft", "busybox", "kubectl", "ip", "nsenter"], || {
        let mut fleet = Fleet::start(2);
        let control = &fleet.control;
        control.ask(&["apply", "-f", &control.write("web.yaml", WEB)]);
        let found = placed(control, &["worker-1", "worker-2"]);
        let names: BTreeSet<String> = found.iter().map(|pod| pod[0].clone()).collect();

        // From pod to pod, from a pod to the Service, and from every machine to every machine's node port.
        for (from, to) in [(&found[0], &found[1]), (&found[1], &found[0])] {
            let wget = ["exec", &from[0], "--", "wget", "-qO-"];
            let url = format!("http://{}:8080/", to[2]);
            assert_eq!(run(control.kubectl(&wget).arg(url)).trim(), to[0]);
        }
        let service =
            control.ask(&["get", "service", "web", "-o", "jsonpath={.spec.clusterIP} {.spec.ports[0].nodePort}"]);
        let (cluster_ip, node_port) = service.split_once(' ').unwrap();
        let in_pod = ["exec", &found[0][0], "--", "wget", "-qO-"];
        assert_eq!(
            answers(|| {
                let mut ask = control.kubectl(&in_pod);
                ask.arg(format!("http://{cluster_ip}/"));
                ask
            }),
            names
        );
        for to in 1..=3 {
            let url = format!("http://{}:{node_port}/", address(to));
            for from in fleet.workers.iter().map(|worker| &worker.machine).chain([control]) {
                let ask = || {
                    let mut ask = from.command("busybox");
                    ask.args(["wget", "-qO-", &url]);
                    ask
                };
                assert_eq!(answers(ask), names, "{url}");
            }
        }

        names_resolve(control, "cluster.local");

        // An agent that dies harms no pod, and needs no token to come back.
        let instance = fleet.workers[1].machine.instance();
        let servers = || processes(&instance, "/bin/busybox httpd ");
        let before = servers();
        assert_eq!(before.len(), 1);
        fleet.workers[1].kill();
        fleet.workers[1].start(&[]);
        is_ready(control, "worker-2", "True");
        assert_eq!(servers(), before);
        assert_eq!(control.ask(&["exec", &found[1][0], "--", "cat", "/www/index.html"]), found[1][0]);

        control.ask(&["drain", "worker-1", "--timeout=60s"]);
        placed(control, &["worker-2", "worker-2"]);
        control.ask(&["uncordon", "worker-1"]);

        // A machine that is lost gives its pods up to the others; when it is back it knows that they are no longer its.
        fleet.workers[1].kill();
        is_ready(control, "worker-2", "Unknown");
        placed(control, &["worker-1", "worker-1"]);
        assert_eq!(servers().len(), 2, "nobody is there to end them");
        fleet.workers[1].start(&[]);
        is_ready(control, "worker-2", "True");
        eventually("what moved away ends", || servers().is_empty().then_some(()));
        assert_eq!(control.ask(&["get", "pods", "-o", "name"]).lines().count(), 2);
    });
}

#[test]
fn an_agent_that_stood_still_gives_up_what_others_have_got() {
    on_own_network(&["runc", "nft", "busybox", "kubectl", "ip", "nsenter"], || {
        let fleet = Fleet::start(2);
        let (control, worker) = (&fleet.control, &fleet.workers[1]);
        let patient = WEB.replace("terminationGracePeriodSeconds: 0", "terminationGracePeriodSeconds: 1");
        control.ask(&["apply", "-f", &control.write("web.yaml", &patient)]);
        let before = placed(control, &["worker-1", "worker-2"]);
        let instance = worker.machine.instance();
        let servers = || processes(&instance, "/bin/busybox httpd ");
        let taints = || control.ask(&["get", "node", "worker-2", "-o", "jsonpath={.spec.taints[*].key}"]);

        worker.suspend(true);
        is_ready(control, "worker-2", "Unknown");
        eventually("it is tainted", || taints().contains("node.kubernetes.io/unreachable").then_some(()));
        let others = placed(control, &["worker-1", "worker-1"]);
        assert!(others.contains(&before[0]) && !others.contains(&before[1]), "who ran well stays: {others:?}");
        assert_eq!(servers().len(), 1, "nobody is there to end it");
        let all = || control.ask(&["get", "pods", "-o", "name"]).lines().count();
        assert_eq!(all(), 3, "whether it ended only its node can say");

        worker.suspend(false);
        is_ready(control, "worker-2", "True");
        eventually("what has moved ends", || (servers().is_empty() && all() == 2).then_some(()));
        eventually("it is as good as others", || taints().is_empty().then_some(()));
        assert_eq!(placed(control, &["worker-1", "worker-1"]), others, "nothing moves back");
        control.ask(&["scale", "deployment/web", "--replicas=3"]);
        placed(control, &["worker-1", "worker-1", "worker-2"]);
    });
}

#[test]
fn a_cluster_of_parts_takes_machines_by_token_and_tells_them_its_names() {
    on_own_network(&["runc", "nft", "busybox", "kubectl", "ip", "nsenter"], || {
        let mut machines = machines(3);
        let control = machines.remove(0);
        let images = Machine::new();
        images.up(&["--demo"]);
        let temp = tempfile::tempdir().unwrap();
        let options = ["--listen", "0.0.0.0:0", "--cluster-domain", "corp.internal", "--cluster-dns", "10.96.0.53"];
        let api = Part::start(control.longshore(&["apiserver"]).args(options), "serving");
        let [scheduler, controllers] = ["scheduler", "controllers"].map(|part| {
            let kubeconfig = certificate(&control, temp.path(), part, &[part]);
            let mut command = control.command(env!("CARGO_BIN_EXE_longshore"));
            Part::start(command.arg(part).arg("--kubeconfig").arg(kubeconfig), "became leader")
        });
        let mut workers = join(&control, machines, &images);
        control.ask(&["apply", "-f", &control.write("web.yaml", WEB)]);
        placed(&control, &["worker-1", "worker-2"]);
        names_resolve(&control, "corp.internal");
        let pod = pods(&control)[1][0].clone();
        let written = control.ask(&["exec", &pod, "--", "cat", "/etc/resolv.conf"]);
        assert!(written.contains("nameserver 10.96.0.53\n"), "{written}");

        // An agent that starts while nobody can be asked knows it from before.
        workers[0].kill();
        api.stop();
        workers[0].start(&[]);
        let mut api = control.longshore(&["apiserver"]);
        let port = invited_port(&workers[0].machine);
        let api =
            Part::start(api.args(["--listen", &format!("0.0.0.0:{port}"), "--cluster-dns", "10.96.0.53"]), "serving");
        is_ready(&control, "worker-1", "True");
        names_resolve(&control, "corp.internal");
        for worker in &mut workers {
            worker.kill();
        }
        for part in [scheduler, controllers, api] {
            part.stop();
        }
    });
}

/// The port of the API server that a node knows.
#[track_caller]
fn invited_port(worker: &Machine) -> u16 {
    let kubeconfig = std::fs::read_to_string(worker.data_dir().join("kubeconfig")).unwrap();
    let (_, rest) = kubeconfig.split_once("https://192.0.2.1:").unwrap();
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
}

/// What a command says that fails.
#[track_caller]
fn refused(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (_, err) = texts(&output);
    assert!(!output.status.success(), "{command:?}");
    err
}

#[test]
fn a_token_is_good_for_one_machine_and_what_is_wrong_is_said() {
    on_own_network(&["kubectl", "ip", "nsenter"], || {
        let mut machines = machines(2);
        let (worker, control) = (machines.remove(1), machines.remove(0));
        let listen = format!("{}:0", address(1));
        let up = ["up", "--detach", "--store", "memory", "--runtime", "simulated", "--nodes", "1"];
        run(control.longshore(&up).args(["--cluster-signing-duration", "10s", "--listen", &listen]));
        let options = invitation(&control);
        let [_, server, _, token, _, hash] = &options[..] else { panic!("{options:?}") };
        let node = |name: &str| worker.longshore(&["node", "--runtime", "simulated", "--name", name]);
        let join = |server: &str, token: &str, hash: &str| {
            let mut command = node("worker");
            command.args(["--server", server, "--token", token, "--ca-hash", hash]);
            command
        };
        let wrong = format!("sha256:{:064}", 0);
        let error = refused(&mut join(server, token, &wrong));
        assert!(
            error.contains(&wrong) && error.contains(hash) && error.contains("check --server and --ca-hash"),
            "{error}"
        );
        let error = refused(&mut join("https://192.0.2.77:1", token, hash));
        assert!(error.contains("no API server answers at https://192.0.2.77:1"), "{error}");
        let error = refused(&mut join(server, "abcdef", hash));
        assert!(error.contains("a token looks like abcdef.0123456789abcdef"), "{error}");
        let error = refused(&mut join(server, "abcdef.0123456789abcdef", hash));
        assert!(
            error.contains("there is no bootstrap token \"abcdef\"") && error.contains("longshore token create"),
            "{error}"
        );
        let error = refused(&mut node("worker"));
        assert!(error.contains("belongs to no cluster yet"), "{error}");

        // None of this used the token up. In a file it is nobody else's to see.
        let file = worker.write("token", token);
        let agent =
            Part::start(node("worker").args(["--server", server, "--token-file", &file, "--ca-hash", hash]), "running");
        control.ask(&["wait", "--for=condition=Ready", "node/worker", "--timeout=60s"]);
        let id = token.split('.').next().unwrap();
        assert!(run(&mut control.longshore(&["token", "list"])).contains(&format!("{id}  used")));
        let other = Machine::new();
        let mut again = worker.command(env!("CARGO_BIN_EXE_longshore"));
        again
            .args(["node", "--runtime", "simulated", "--name", "other", "--data-dir"])
            .arg(other.data_dir())
            .args(&options);
        let error = refused(&mut again);
        assert!(error.contains("was used already") && error.contains("`longshore token create`"), "{error}");
        // Another machine cannot pose as one that is there; its token is not used up by trying.
        let mut pose = worker.command(env!("CARGO_BIN_EXE_longshore"));
        pose.args(["node", "--runtime", "simulated", "--name", "worker", "--data-dir"])
            .arg(other.data_dir())
            .args(invitation(&control));
        let error = refused(&mut pose);
        assert!(
            error.contains("is taken by a node that is alive") && error.contains("choose another --name"),
            "{error}"
        );

        // What is not a node's own waits for a person.
        let first = control.ask(&["get", "csr", "-o", "jsonpath={.items[0].spec.request}"]);
        let asked = format!(
            "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata: {{name: strange}}\n\
             spec: {{request: {first}, signerName: kubernetes.io/kube-apiserver-client-kubelet, username: x, \
             usages: [digital signature, client auth]}}\n"
        );
        control.ask(&["create", "-f", &control.write("strange.yaml", &asked)]);
        let row = control.ask(&["get", "csr", "strange", "--no-headers"]);
        assert!(row.contains(" admin ") && row.ends_with("Pending"), "{row}");
        control.ask(&["certificate", "deny", "strange"]);
        assert!(control.ask(&["get", "csr", "strange", "--no-headers"]).ends_with("Denied"));

        // Certificates are renewed while the node runs, for both of its uses, and used: they live for 10 s.
        let requests = || {
            let all = control.ask(&["get", "csr", "--no-headers"]);
            let of = |signer: &str| {
                all.lines().filter(|line| line.contains(signer) && line.ends_with("Approved,Issued")).count()
            };
            (of("kube-apiserver-client-kubelet"), of("kubelet-serving"))
        };
        eventually("both certificates were renewed twice", || {
            let (client, serving) = requests();
            (client > 2 && serving > 2).then_some(())
        });
        control.ask(&["create", "deployment", "web", "--image=web:1"]);
        control.ask(&["cordon", "node-1"]);
        control.ask(&["rollout", "restart", "deployment/web"]);
        eventually("a pod on the worker shows its log", || {
            let on =
                control.ask(&["get", "pods", "-o", "jsonpath={.items[?(@.spec.nodeName=='worker')].metadata.name}"]);
            let logs = control.kubectl(&["logs", on.split(' ').next()?]).output().unwrap();
            (!on.is_empty() && logs.status.success()).then_some(())
        });
        agent.stop();

        // A start without token: it is known by what it has, unless that has run out.
        let agent = Part::start(&mut node("worker"), "running");
        control.ask(&["wait", "--for=condition=Ready", "node/worker", "--timeout=60s"]);
        agent.stop();
        assert!(refused(&mut node("somebody")).contains("joined as \"worker\", not \"somebody\""));
        let error = eventually("the certificate runs out", || {
            let output = node("worker").args(["--address", "192.0.2.99"]).output().unwrap();
            Some(texts(&output).1).filter(|error| error.contains("ran out"))
        });
        assert!(error.contains("`longshore token create`"), "{error}");
    });
}
