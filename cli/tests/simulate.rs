//! `longshore simulate`, as a user runs it.

#![allow(clippy::unwrap_used, reason = "a panic is how tests fail")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const NODES: &str = "sn,cpu_milli,memory_mib,gpu,model\na,64000,262144,2,T4\nb,32000,131072,1,P100\n";
const PODS: &str = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\np,4000,8192,1,500,\nq,4000,8192,1,1000,P100\nr,1000,1024,0,0,\n";

fn simulate(directory: &Path, arguments: &[&str]) -> Output {
    std::fs::write(directory.join("nodes.csv"), NODES).unwrap();
    std::fs::write(directory.join("pods.csv"), PODS).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_longshore"));
    command.current_dir(directory).args(["simulate", "--nodes", "nodes.csv"]).args(arguments);
    command.output().unwrap()
}

#[test]
fn an_experiment_prints_one_object_and_the_same_again() {
    let directory = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let output = simulate(directory.path(), arguments);
        assert!(output.status.success(), "{output:?}");
        let mut value: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(value.as_object_mut().unwrap().remove("wall_seconds").unwrap().is_number());
        value
    };
    let options = ["--pods", "pods.csv", "--policy", "fgd", "--seed", "7", "--json"];
    let one = run(&options);
    assert_eq!((one["policy"].as_str(), one["seed"].as_u64(), one["placed"].as_u64()), (Some("fgd"), Some(7), Some(3)));
    assert_eq!((one["arrived_percent"].as_u64(), one["gpu_allocation_percent"].as_f64()), (Some(50), Some(50.0)));
    assert_eq!(one["curve"].as_array().unwrap().last().unwrap()["arrived"], 50);
    assert_eq!(run(&options), one);
    let several = run(&[&options[..], &["--seeds", "3", "--tune", "1.3", "--jobs", "2"]].concat());
    assert_eq!(several["runs"].as_array().map(Vec::len), Some(3));
    assert_eq!(run(&[&options[..], &["--seeds", "3", "--tune", "1.3", "--jobs", "1"]].concat()), several);
}

#[test]
fn what_is_wrong_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let cases: [(&[&str], &str); 4] = [
        (&["--pods", "pods.csv", "--policy", "best"], "possible values: random, dot-product"),
        (&["--pods", "none.csv", "--policy", "fgd"], "none.csv: No such file"),
        (&["--pods", "nodes.csv", "--policy", "fgd"], "missing field `name`"),
        (&["--pods", "pods.csv", "--policy", "fgd", "--tune", "0"], "it must be more than 0"),
    ];
    for (arguments, expected) in cases {
        let output = simulate(directory.path(), arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(expected), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_program_may_place_pods_and_what_it_does_wrong_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let script =
        r#"read hello; echo '{"protocol":"longshore-policy/1"}'; while read question; do echo "$ANSWER"; done"#;
    std::fs::write(directory.path().join("policy.sh"), script).unwrap();
    let run = |answer: &str| {
        let command = format!("env ANSWER='{answer}' sh policy.sh");
        simulate(directory.path(), &["--pods", "pods.csv", "--json", "--seeds", "2", "--policy-command", &command])
    };
    // One pod can go to the other node alone.
    let output = run(r#"{"scores": {"a": 1}}"#);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && output.stdout.is_empty());
    assert!(said.contains(r#"the policy chose "a" for pod "default/"#), "{said}");
    let output = run(r#"{"refuse": "no"}"#);
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((value["policy"].as_str(), value["runs"][1]["placed"].as_u64()), (Some("external"), Some(0)));
}

const EXPERIMENT: &str = "name: two policies\nseeds: 3\npacking:\n  nodes: nodes.csv\n  pods: pods.csv\n  policies: [random, fgd]\n  tune: 1.3\n";

/// Runs an experiment of this text in the directory.
fn experiment(directory: &Path, text: &str, arguments: &[&str]) -> Output {
    std::fs::write(directory.join("nodes.csv"), NODES).unwrap();
    std::fs::write(directory.join("pods.csv"), PODS).unwrap();
    std::fs::write(directory.join("x.yaml"), text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_longshore"));
    command.current_dir(directory).args(["simulate", "x.yaml"]).args(arguments).output().unwrap()
}

/// All files of a directory.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(directory).unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())).collect()
}

#[test]
fn an_experiment_writes_a_report_and_the_same_on_any_number_of_threads() {
    let directory = tempfile::tempdir().unwrap();
    for (jobs, out) in [("1", "a/b"), ("4", "c")] {
        let output = experiment(directory.path(), EXPERIMENT, &["--jobs", jobs, "--out", out]);
        assert!(output.status.success(), "{output:?}");
        let told = String::from_utf8(output.stdout).unwrap();
        assert!(told.starts_with("two policies: 6 runs in ") && told.contains("\nfgd "), "{told}");
    }
    let written = files(&directory.path().join("a/b"));
    assert_eq!(written, files(&directory.path().join("c")));
    let names: Vec<&str> = written.keys().map(String::as_str).collect();
    for name in ["report.html", "summary.csv", "summary.parquet", "runs.csv", "curves.parquet", "gpu-allocated.svg"] {
        assert!(names.contains(&name), "{names:?}");
    }
    let runs = String::from_utf8(written["runs.csv"].clone()).unwrap();
    assert!(runs.starts_with("policy,seed,pods arrived,pods placed,") && runs.lines().count() == 7, "{runs}");
    assert!(runs.lines().nth(1).unwrap().starts_with("random,42,"), "{runs}");
}

#[test]
fn an_experiment_prints_one_object_and_options_overrule_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let output = experiment(directory.path(), EXPERIMENT, &["--json", "--seed", "7", "--seeds", "2"]);
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    let seeds: Vec<u64> = value["runs"].as_array().unwrap().iter().map(|run| run["seed"].as_u64().unwrap()).collect();
    assert_eq!(seeds, [7, 8, 7, 8]);
    assert_eq!((value["name"].as_str(), value["cases"][1]["policy"].as_str()), (Some("two policies"), Some("fgd")));
    assert!(value["summary"].as_array().unwrap().iter().any(|of| of["figure"] == "GPU allocated" && of["runs"] == 2));
}

#[test]
fn cells_are_compacted() {
    let directory = tempfile::tempdir().unwrap();
    let text = "seeds: 5\ncompaction:\n  nodes: nodes.csv\n  pods: pods.csv\n  policies: [fgd]\n  pending: 0\n";
    let output = experiment(directory.path(), text, &["--json"]);
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    let of = value["summary"].as_array().unwrap().iter().find(|of| of["figure"] == "machines needed").unwrap();
    assert_eq!((of["runs"].as_u64(), of["min"].as_f64(), of["max"].as_f64()), (Some(5), Some(2.0), Some(2.0)), "{of}");
}

#[test]
fn a_direct_run_writes_a_report_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let output = simulate(directory.path(), &["--pods", "pods.csv", "--policy", "fgd", "--out", "out"]);
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("wrote out/report.html"));
    let page = String::from_utf8(files(&directory.path().join("out"))["report.html"].clone()).unwrap();
    assert!(page.contains("<title>fgd on pods.csv</title>"));
}

#[test]
fn what_is_wrong_with_an_experiment_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let plain = EXPERIMENT.to_owned();
    let cases: [(String, &[&str], &str); 6] = [
        (plain.replace("fgd", "fgdd"), &[], "x.yaml:6:22: there is no policy \"fgdd\"; there are random, dot-product"),
        (
            plain.replace("tune", "tunes"),
            &["--check"],
            "x.yaml:7:3: unknown field `tunes`, expected one of nodes, pods",
        ),
        (plain.replace("nodes.csv", "none.csv"), &["--check"], "none.csv: No such file"),
        (plain.replace("1.3", "-1"), &[], "it must be more than 0"),
        (plain.clone(), &["--out", "x.yaml"], "cannot write x.yaml: "),
        (plain.clone(), &["--policy", "fgd"], "cannot be used with"),
    ];
    for (text, arguments, expected) in cases {
        let output = experiment(directory.path(), &text, arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(expected), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty());
    }
    let output = experiment(directory.path(), &plain, &["--check"]);
    assert!(output.status.success() && output.stdout.starts_with(b"x.yaml: ready to be run"), "{output:?}");
    let none = Command::new(env!("CARGO_BIN_EXE_longshore")).args(["simulate", "/no/such.yaml"]).output().unwrap();
    assert!(String::from_utf8_lossy(&none.stderr).contains("cannot read /no/such.yaml: No such file"));
}

#[test]
fn an_interrupted_experiment_leaves_nothing_half_done() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("nodes.csv"), NODES).unwrap();
    std::fs::write(directory.path().join("pods.csv"), PODS).unwrap();
    std::fs::write(directory.path().join("x.yaml"), EXPERIMENT.replace("seeds: 3", "seeds: 4000000")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_longshore"));
    command.current_dir(directory.path()).args(["simulate", "x.yaml", "--out", "out"]).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    // It makes the directory when it listens, and before it begins.
    while !directory.path().join("out").exists() {
        std::thread::yield_now();
    }
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("interrupted"));
    assert!(files(&directory.path().join("out")).is_empty());
}

#[test]
fn the_examples_are_ready_to_be_run() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/experiments");
    let entries = std::fs::read_dir(examples).unwrap().map(|entry| entry.unwrap().path());
    let mut count = 0;
    for file in entries.filter(|path| path.extension().is_some_and(|end| end == "yaml")) {
        let output =
            Command::new(env!("CARGO_BIN_EXE_longshore")).arg("simulate").arg(&file).arg("--check").output().unwrap();
        assert!(output.status.success(), "{}: {output:?}", file.display());
        count += 1;
    }
    assert!(count >= 2, "{count} examples");
}
