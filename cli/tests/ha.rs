//! Several of everything: control planes over three members of an etcd, leaders that are stopped and go on, and `kill -9` of each
//! process in turn.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use k8s_openapi::api::core::v1::ConfigMap;
use longshore_core::leader::Fence;

use common::{Machine, Part, certificate, eventually, on_own_network, part, run};
use nix::sys::signal::Signal;

/// Quick ones, so that a test does not wait for long.
const TIMINGS: [&str; 6] = [
    "--leader-elect-lease-duration",
    "2s",
    "--leader-elect-renew-deadline",
    "1500ms",
    "--leader-elect-retry-period",
    "300ms",
];

/// A member of an etcd of three; killed when the test forgets it.
struct Member {
    child: Child,
    number: usize,
}

/// Ports of a member, for clients and for the others. The network is the test's own.
fn url(number: usize, port: usize) -> String {
    format!("http://127.0.0.1:{}", 2379 + 10 * number + port)
}

impl Member {
    fn start(directory: &Path, number: usize) -> Self {
        let cluster: Vec<String> = (0..3).map(|other| format!("m{other}={}", url(other, 1))).collect();
        let (clients, peers) = (url(number, 0), url(number, 1));
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "etcd", "--log-level", "error", "--logger", "zap"]);
        command.args(["--name", &format!("m{number}"), "--initial-cluster", &cluster.join(",")]);
        command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
        command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers, "--data-dir"]);
        command.arg(directory.join(format!("m{number}"))).stdout(Stdio::null()).stderr(Stdio::null());
        Self { child: command.spawn().unwrap(), number }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn store() -> String {
    format!("etcd={},{},{}", url(0, 0), url(1, 0), url(2, 0))
}

/// How a machine's control plane is started, first and again; its port is its own.
fn up(machine: &Machine, number: usize) -> Command {
    let mut command = machine.longshore(&["up", "--detach", "--store", &store()]);
    command.args(["--listen", &format!("127.0.0.1:{}", 6443 + number)]).args(TIMINGS);
    command
}

/// Changes the deployment and waits until that is everywhere.
#[track_caller]
fn roll_out(machine: &Machine, image: &str) {
    machine.ask(&["set", "image", "deployment/web", &format!("web={image}")]);
    machine.ask(&["rollout", "status", "deployment/web", "--timeout=80s"]);
    let images = ["get", "pods", "-l", "app=web", "--field-selector=status.phase=Running", "-o"];
    eventually("the old pods are gone", || {
        let found = machine.ask(&[&images[..], &["jsonpath={.items[*].spec.containers[0].image}"]].concat());
        (found == [image; 4].join(" ")).then_some(())
    });
}

#[test]
fn three_control_planes_over_three_members_survive_the_death_of_each_process_in_turn() {
    on_own_network(&["kubectl", "etcd"], || {
        let temp = tempfile::tempdir().unwrap();
        let mut members: Vec<Member> = (0..3).map(|number| Member::start(temp.path(), number)).collect();
        let planes = [Machine::new(), Machine::new(), Machine::new()];
        run(up(&planes[0], 0).args(["--nodes", "0"]));
        for (number, plane) in planes.iter().enumerate().skip(1) {
            // The command that the first prints says all but where this one listens.
            let told = run(&mut planes[0].longshore(&["token", "create", "--control-plane"]));
            let (token, rest) =
                told.trim().strip_prefix("LONGSHORE_CONTROL_PLANE_TOKEN=").unwrap().split_once(' ').unwrap();
            assert_eq!(rest, format!("longshore up --join --store {} --listen 0.0.0.0:6443", store()));
            run(up(plane, number).arg("--join").env("LONGSHORE_CONTROL_PLANE_TOKEN", token));
        }
        // Each node knows one API server, and learns of the others.
        let nodes: Vec<Part> = (0..3)
            .map(|number| {
                let name = format!("n{number}");
                let role = ["node", &name, "--address", "127.0.0.1"];
                let kubeconfig = certificate(&planes[number], temp.path(), &name, &role);
                let mut node = part("node", &kubeconfig);
                node.args(["--name", &name, "--address", "127.0.0.1", "--runtime", "simulated", "--port"]);
                node.args([(10250 + number).to_string().as_str(), "--node-lease-duration", "8s", "--data-dir"]);
                Part::start(node.arg(temp.path().join(format!("data-{name}"))), "running")
            })
            .collect();
        planes[0].ask(&["create", "deployment", "web", "--image=web:0", "--replicas=4"]);
        planes[0].ask(&["rollout", "status", "deployment/web", "--timeout=80s"]);

        for (at, plane) in planes.iter().enumerate() {
            let member = members.remove(0);
            let number = member.number;
            drop(member);
            roll_out(plane, &format!("web:member-{at}"));
            members.push(Member::start(temp.path(), number));
        }
        for (number, plane) in planes.iter().enumerate() {
            plane.kill();
            let other = &planes[(number + 1) % 3];
            roll_out(other, &format!("web:plane-{number}"));
            let ready = ["wait", "--for=condition=Ready", "node", "--all", "--timeout=80s"];
            other.ask(&ready);
            // The same command starts it again; it needs no token any more.
            run(&mut up(plane, number));
        }
        assert_eq!(planes[2].ask(&["get", "pods", "-l", "app=web", "-o", "name"]).lines().count(), 4);
        for node in nodes {
            node.stop();
        }
    });
}

/// The term of the controllers that lead now.
fn term(machine: &Machine) -> Fence {
    let lease = ["get", "lease", "-n", "kube-system", "kube-controller-manager", "-o", "json"];
    let lease: serde_json::Value = serde_json::from_str(&machine.ask(&lease)).unwrap();
    let transitions = i32::try_from(lease["spec"]["leaseTransitions"].as_i64().unwrap_or(0)).unwrap();
    let holder = lease["spec"]["holderIdentity"].as_str().unwrap().to_owned();
    Fence { namespace: "kube-system".to_owned(), name: "kube-controller-manager".to_owned(), holder, transitions }
}

/// Writes as whoever leads in a term would; answers the code, and the reason of a refusal.
fn write_as(machine: &Machine, term: &Fence) -> (u16, String) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let config = kube::config::Kubeconfig::read_from(machine.data_dir().join("kubeconfig")).unwrap();
        let mut config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await.unwrap();
        config.headers.push((Fence::HEADER.parse().unwrap(), term.to_header().try_into().unwrap()));
        let maps: kube::Api<ConfigMap> = kube::Api::default_namespaced(config.try_into().unwrap());
        let mut map = ConfigMap::default();
        map.metadata.generate_name = Some("decided-".to_owned());
        match maps.create(&Default::default(), &map).await {
            Ok(_) => (201, String::new()),
            Err(kube::Error::Api(status)) => (status.code, status.reason.clone()),
            Err(error) => panic!("{error}"),
        }
    })
}

#[test]
fn a_leader_that_was_stopped_and_goes_on_does_nothing_that_another_did() {
    on_own_network(&["kubectl"], || {
        let machine = Machine::new();
        let temp = tempfile::tempdir().unwrap();
        let listen = ["--listen", "127.0.0.1:0", "--store", "memory"];
        let api = Part::start(machine.longshore(&["apiserver"]).args(listen), "serving");
        let kubeconfig = certificate(&machine, temp.path(), "controllers", &["controllers"]);
        let controllers = |sign| {
            let mut command = part("controllers", &kubeconfig);
            Part::start(command.args(TIMINGS).args(["--listen", "127.0.0.1:0"]), sign)
        };
        let old = controllers("became leader");
        let new = controllers("listening");
        machine.ask(&["create", "deployment", "web", "--image=web:0", "--replicas=3"]);
        let replicas = |count: &str| {
            eventually("the replica set has its pods", || {
                let path = "jsonpath={.items[0].status.replicas}";
                (machine.ask(&["get", "replicasets", "-o", path]) == count).then_some(())
            });
        };
        replicas("3");
        let term = term(&machine);
        old.signal(Signal::SIGSTOP);
        // What the old one has not seen yet when it goes on, it would do as well.
        machine.ask(&["scale", "deployment", "web", "--replicas=5"]);
        eventually("another leads", || new.logged("became leader").then_some(()));
        replicas("5");
        machine.ask(&["scale", "deployment", "web", "--replicas=7"]);
        old.signal(Signal::SIGCONT);
        eventually("the old one notices", || old.logged("no longer lead").then_some(()));
        replicas("7");
        // What it had decided and not sent yet would have been refused, and is.
        assert_eq!(write_as(&machine, &term), (409, "Fenced".to_owned()));
        let now = self::term(&machine);
        assert!(now.holder != term.holder && now.transitions > term.transitions, "{now:?} after {term:?}");
        assert_eq!(write_as(&machine, &now), (201, String::new()));
        assert_eq!(machine.ask(&["get", "pods", "-o", "name"]).lines().count(), 7);
        for part in [old, new, api] {
            part.stop();
        }
    });
}
