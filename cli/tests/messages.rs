//! What people are told when something is not as it must be.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

mod common;

use std::fs::File;
use std::io::Read;
use std::net::TcpListener;
use std::process::Command;

use common::{Machine, on_own_network, run, texts};

/// Runs a command that must fail, and returns its exit code and what it said.
#[track_caller]
fn fails(command: &mut Command) -> (i32, String) {
    let output = command.output().unwrap();
    let (_, said) = texts(&output);
    assert!(!output.status.success(), "{command:?} succeeded: {said}");
    (output.status.code().unwrap(), said)
}

/// Every pod has a shim that is this program: see `build.rs`.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn the_program_is_linked_to_a_fixed_place() {
    let mut head = [0; 18];
    File::open(env!("CARGO_BIN_EXE_longshore")).unwrap().read_exact(&mut head).unwrap();
    // Of an ELF file: executable (2), not shared object (3), as what can be anywhere is.
    assert_eq!((&head[..4], &head[16..]), (&b"\x7fELF"[..], &[2, 0][..]));
}

#[test]
fn wrong_options_are_refused_with_what_to_do() {
    let machine = Machine::new();
    let (code, said) = fails(machine.longshore(&["up"]).args(["--store", "paper"]));
    assert_eq!(code, 2);
    assert!(said.contains("paper") && said.contains("embedded"), "{said}");
    if cfg!(not(feature = "etcd")) {
        let (code, said) = fails(machine.longshore(&["apiserver"]).args(["--store", "etcd=http://127.0.0.1:2379"]));
        assert!(code == 2 && said.contains("--features etcd") && said.contains("protobuf-compiler"), "{said}");
    }
    let (code, said) = fails(machine.longshore(&["store", "status"]).args(["--store", "memory"]));
    assert!(code == 1 && said.contains("part of the process"), "{said}");
    let (code, said) = fails(&mut machine.longshore(&["store", "status"]));
    assert!(code == 1 && said.contains("there is no cluster in"), "{said}");
    let (code, said) = fails(machine.longshore(&["up"]).args(["--runtime", "oci", "--nodes", "3"]));
    assert_eq!(code, 1);
    assert!(said.contains("--runtime simulated"), "{said}");
    for (option, value, why) in [
        ("--cluster-domain", "a..b", "\"a..b\" is not a domain"),
        ("--cluster-dns", "some", "neither an IP address nor none"),
        ("--dns-upstream", "dns.example", "not the address of a DNS server"),
        ("--dns-stub", "corp.example", "is not DOMAIN=ADDRESS"),
        ("--dns-ttl", "5s", "from 0 to 3600 seconds"),
        ("--dns-pods", "all", "disabled, insecure, verified"),
        (
            "--service-range",
            "10.96.0.0/16,10.97.0.0/16",
            "are of one family: give one range, or one of IPv4 and one of IPv6",
        ),
        ("--service-range", "10.96.0.0/16,fd00::/127", "has no room for two addresses"),
        ("--cluster-cidr", "10.1.0.0/16,fd00::", "cannot read range \"fd00::\""),
    ] {
        let (code, said) = fails(machine.longshore(&["up"]).args([option, value]));
        assert!(code == 2 && said.contains(option) && said.contains(why), "{said}");
    }
    for (options, why) in [
        (&["--cluster-cidr", "10.1.0.0/16", "--service-range", "10.1.4.0/24"][..], "have no address in common"),
        (
            &["--cluster-cidr", "10.1.0.0/16,fd00::/56", "--service-range", "10.2.0.0/16"],
            "are not of the same families",
        ),
        (&["--cluster-cidr", "10.1.0.0/28"], "10.1.0.0/28 has no room for a node's pods, which have a /24"),
        (&["--dual-stack", "--service-range", "10.2.0.0/16"], "give a range of each family"),
    ] {
        let (code, said) = fails(machine.longshore(&["up", "--runtime", "simulated"]).args(options));
        assert!(code == 1 && said.contains(why), "{said}");
    }
    let (_, said) = fails(machine.longshore(&["up"]).args(["-f", "/no/such/file", "--runtime", "simulated"]));
    assert!(said.contains("/no/such/file"), "{said}");
    assert!(!machine.data_dir().exists(), "nothing was made");
    let (_, said) = fails(&mut machine.longshore(&["kubeconfig"]));
    assert!(said.contains("there is no cluster in"), "{said}");
    let (_, said) = fails(&mut machine.longshore(&["explain", "web"]));
    assert!(said.contains("there is no cluster in"), "{said}");
    run(&mut machine.longshore(&["down"]));
    run(&mut machine.longshore(&["down", "--purge"]));
}

#[test]
fn a_scheduler_configuration_that_cannot_be_used_is_named() {
    let machine = Machine::new();
    let wrong = machine.write(
        "scheduler.yaml",
        "apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
profiles: [{ plugins: { score: { enabled: [{ name: NodeName }] } } }]",
    );
    let place = "profiles[0].plugins.score.enabled[0]: plugin \"NodeName\" does not extend ScorePlugin plugin";
    let mut scheduler = Command::new(env!("CARGO_BIN_EXE_longshore"));
    let (code, said) = fails(scheduler.args(["scheduler", "--kubeconfig", "/no/such/kubeconfig", "--config", &wrong]));
    assert_eq!((code, said.trim()), (1, format!("error: {wrong}: {place}").as_str()));
    let up = ["--runtime", "simulated", "--scheduler-config"];
    let (code, said) = fails(machine.longshore(&["up"]).args(up).arg(&wrong));
    assert_eq!((code, said.trim()), (1, format!("error: {wrong}: {place}").as_str()));
    let (_, said) = fails(machine.longshore(&["up"]).args(up).arg("/no/such/file"));
    assert!(said.contains("/no/such/file"), "{said}");
    assert!(!machine.data_dir().exists(), "nothing was made");
}

#[test]
fn a_cluster_places_pods_by_the_profiles_of_its_configuration() {
    on_own_network(&["kubectl"], || {
        let machine = Machine::new();
        let config = machine.write(
            "scheduler.yaml",
            "apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
profiles:
- schedulerName: default-scheduler
- schedulerName: packing
  pluginConfig:
  - name: NodeResourcesFit
    args: { scoringStrategy: { type: MostAllocated } }
  plugins: { score: { disabled: [{ name: '*' }], enabled: [{ name: NodeResourcesFit }] } }",
        );
        let up = ["--runtime", "simulated", "--nodes", "3", "--store", "memory", "--scheduler-config", &config];
        machine.up(&up);
        let pod = |name: &str| {
            format!(
                r#"{{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "{name}"}}, "spec": {{"schedulerName": "packing",
                "containers": [{{"name": "c", "image": "web:1", "resources": {{"requests": {{"cpu": "2"}}}}}}]}}}}"#
            )
        };
        for name in ["a", "b", "c"] {
            let manifest = machine.write("pod.yaml", &pod(name));
            machine.ask(&["apply", "-f", &manifest]);
            machine.ask(&["wait", "--for=condition=PodScheduled", &format!("pod/{name}"), "--timeout=60s"]);
        }
        let nodes = machine.ask(&["get", "pods", "-o", "jsonpath={.items[*].spec.nodeName}"]);
        let first = nodes.split(' ').next().unwrap_or_default();
        assert_eq!(nodes, [first; 3].join(" "), "all on one node");
    });
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let output = Command::new(env!("CARGO_BIN_EXE_longshore"))
        .args(["up", "--runtime", "simulated", "--data-dir", "/proc/longshore"])
        .output()
        .unwrap();
    let (_, said) = texts(&output);
    assert!(!output.status.success() && said.contains("/proc/longshore"), "{said}");
}

#[test]
fn a_simulated_cluster_needs_nothing_and_refuses_a_second() {
    on_own_network(&["kubectl"], || {
        let machine = Machine::new();
        machine.up(&["--runtime", "simulated", "--nodes", "3", "--store", "memory"]);
        assert_eq!(machine.ask(&["get", "nodes", "--no-headers"]).lines().count(), 3);
        let (code, said) = fails(&mut machine.longshore(&["up"]));
        assert_eq!(code, 1);
        assert!(said.contains("runs in") && said.contains(&machine.pid().to_string()), "{said}");
        let config = run(&mut machine.longshore(&["kubeconfig"]));
        assert!(config.contains("client-certificate-data"), "{config}");
        run(&mut machine.longshore(&["status"]));
        machine.ask(&["run", "web", "--image=web:1", "--overrides={\"spec\":{\"nodeSelector\":{\"disk\":\"ssd\"}}}"]);
        let explained = run(&mut machine.longshore(&["explain", "web"]));
        assert!(explained.contains("without nodeSelector disk=ssd: 3 nodes"), "{explained}");
        let explained = run(&mut machine.longshore(&["explain", "web", "-n", "default", "-o", "json"]));
        assert!(explained.contains(r#""kind":"PodExplanation""#), "{explained}");
        let file = tempfile::NamedTempFile::new().unwrap();
        let manifest = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: app}\nspec:\n  replicas: 3\n  selector: \
                        {matchLabels: {a: b}}\n  template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: \
                        i, resources: {requests: {cpu: CPU}}}]}}\n";
        std::fs::write(file.path(), manifest.replace("CPU", "1")).unwrap();
        let path = file.path().to_str().unwrap();
        let found = run(&mut machine.longshore(&["what-if", "-f", path]));
        assert!(found.contains("default/app-2  node-") && found.contains("placed 3 of 3"), "{found}");
        // With a profile that packs, all go where the first one went.
        let config = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nprofiles:\n- schedulerName: default-scheduler\n- schedulerName: packing\n  plugins: {multiPoint: {disabled: [{name: PodTopologySpread}, {name: NodeResourcesBalancedAllocation}]}}\n  pluginConfig: [{name: NodeResourcesFit, args: {scoringStrategy: {type: MostAllocated, resources: [{name: cpu}]}}}]\n";
        let config = machine.write("scheduler.yaml", config);
        let nodes = |found: &str| {
            let rows = found.lines().filter(|line| line.starts_with("default/app-"));
            rows.map(|line| line.split_whitespace().nth(1).unwrap().to_owned())
                .collect::<std::collections::BTreeSet<_>>()
        };
        let found = run(&mut machine.longshore(&["what-if", "-f", path, "--config", &config]));
        assert_eq!(nodes(&found).len(), 3, "{found}");
        let found = run(&mut machine.longshore(&["what-if", "-f", path, "--config", &config, "--profile", "packing"]));
        assert_eq!(nodes(&found).len(), 1, "{found}");
        let (code, said) =
            fails(&mut machine.longshore(&["what-if", "-f", path, "--config", &config, "--profile", "no"]));
        assert!(code == 1 && said.contains("there is no profile \"no\""), "{said}");
        std::fs::write(file.path(), manifest.replace("CPU", "1000")).unwrap();
        let output = machine.longshore(&["what-if", "-f", path, "-o", "json"]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(texts(&output).0.contains("0/3 nodes are available: 3 Insufficient cpu."));
        assert_eq!(machine.ask(&["get", "deployments", "--no-headers"]), "", "nothing was made");
        // As it is now it can be simulated from.
        machine.ask(&["run", "placed", "--image=web:1"]);
        machine.ask(&["wait", "pod/placed", "--for=condition=Ready", "--timeout=60s"]);
        let (directory, kubeconfig) = (tempfile::tempdir().unwrap(), file.path());
        std::fs::write(kubeconfig, run(&mut machine.longshore(&["kubeconfig"]))).unwrap();
        let snapshot = directory.path().join("cluster.json");
        let taken = || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_longshore"));
            command.args(["snapshot", "--kubeconfig"]).arg(kubeconfig).arg(&snapshot);
            command
        };
        let told = run(&mut taken());
        assert!(told.contains("cluster.json: ") && told.contains("3 Node") && told.contains("2 Pod,"), "{told}");
        let (_, said) = fails(taken().args(["--context", "other"]));
        assert!(said.contains("there is no context \"other\"; there is longshore"), "{said}");
        let experiment = directory.path().join("x.yaml");
        let text = "simulation:\n  source: { kubernetes: { path: cluster.json } }\n  until: 60\n";
        std::fs::write(&experiment, text).unwrap();
        let mut simulate = Command::new(env!("CARGO_BIN_EXE_longshore"));
        let found = run(simulate.args(["simulate", "--json"]).arg(&experiment));
        let found: serde_json::Value = serde_json::from_str(&found).unwrap();
        let waiting = found["summary"].as_array().unwrap().iter().find(|of| of["figure"] == "pods waiting at the end");
        assert_eq!(waiting.unwrap()["mean"], 1.0, "no node has an SSD");
        let (code, said) = fails(&mut machine.longshore(&["explain", "nobody"]));
        assert!(code == 1 && said.contains("pods \"nobody\" not found"), "{said}");
        let (_, said) = fails(&mut machine.longshore(&["explain", "no/body"]));
        assert!(said.contains("cannot be the name"), "{said}");
        run(&mut machine.longshore(&["down"]));
        assert_eq!(machine.longshore(&["status"]).status().unwrap().code(), Some(3));
        let (_, said) = fails(&mut machine.longshore(&["explain", "web"]));
        assert!(said.contains("cannot reach the API server") && !said.contains('\u{1b}'), "{said}");
        // What was chosen when it was made stays.
        let (_, said) = fails(machine.longshore(&["up"]).args(["--store", "embedded"]));
        assert!(said.contains("made with --store memory"), "{said}");
    });
}

#[test]
fn a_taken_port_is_named() {
    on_own_network(&[], || {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let machine = Machine::new();
        let (code, said) = fails(machine.longshore(&["up"]).args(["--runtime", "simulated", "--listen", &address]));
        assert_eq!(code, 1);
        assert!(said.contains(&address), "{said}");
    });
}

#[test]
fn unsupported_fields_are_refused_or_at_the_users_risk() {
    on_own_network(&["kubectl"], || {
        let pod = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": {"runtimeClassName": "gvisor",
            "containers": [{"name": "web", "image": "web:1"}]}}"#;
        let machine = Machine::new();
        machine.up(&["--runtime", "simulated", "--store", "memory"]);
        let manifest = machine.write("pod.yaml", pod);
        let (_, said) = fails(&mut machine.kubectl(&["apply", "-f", &manifest]));
        assert!(said.contains("spec.runtimeClassName"), "{said}");
        run(&mut machine.longshore(&["down"]));
        machine.up(&["--unsupported=warn"]);
        machine.ask(&["apply", "-f", &manifest]);
    });
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_longshore"))
        .args(["completion", "bash"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", texts(&output).1);
}
