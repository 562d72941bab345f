//! `longshore simulate`, as a user runs it.

#![allow(clippy::unwrap_used, reason = "a panic is how tests fail")]

use std::path::Path;
use std::process::{Command, Output};

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
