//! The experiments among the examples, each run in small.

#![allow(clippy::unwrap_used, reason = "a panic is how tests fail")]

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use longshore_simulator::Placement;
use longshore_simulator::experiment::{Experiment, Kind};
use longshore_simulator::report::{Report, Results};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/experiments").join(name)
}

fn run(experiment: &Experiment, jobs: usize) -> Results {
    experiment.run(NonZeroUsize::new(jobs).unwrap(), &|_| ()).unwrap()
}

/// The mean of a figure of a case.
fn mean(results: &Results, case: &str, figure: &str) -> f64 {
    let summary = results.summary();
    let of = summary.iter().find(|of| results.name_of(of.case) == case && of.figure == figure);
    of.unwrap_or_else(|| panic!("{case} has no {figure}")).estimate.mean
}

#[test]
fn fgd_packs_more_than_chance() {
    let mut experiment = Experiment::read(&example("packing.yaml")).unwrap();
    experiment.seeds = 1;
    let Kind::Packing(spec) = &mut experiment.kind else { panic!("{experiment:?}") };
    let (_directory, nodes, pods) = sampled(4);
    (spec.nodes, spec.pods) = (nodes, pods);
    spec.policies = vec![Placement::Random, Placement::Fgd];
    let results = run(&experiment, 2);
    let allocated = |policy| mean(&results, policy, "GPU allocated");
    assert!(allocated("fgd") > allocated("random") + 3.0, "{} and {}", allocated("fgd"), allocated("random"));
    assert_eq!(mean(&results, "fgd", "GPU asked for"), 130.0);
}

/// A sample of the trace: every so-manyth machine and pod.
fn sampled(every: usize) -> (tempfile::TempDir, PathBuf, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let sample = |name: &str| {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/openb").join(name);
        let text = std::fs::read_to_string(from).unwrap();
        let lines = text.lines().enumerate().filter(|(line, _)| *line == 0 || line % every == 1);
        let to = directory.path().join(name);
        std::fs::write(&to, lines.map(|(_, line)| format!("{line}\n")).collect::<String>()).unwrap();
        to
    };
    let (nodes, pods) = (sample("nodes.csv"), sample("default.csv"));
    (directory, nodes, pods)
}

#[test]
fn a_cell_is_compacted_to_no_less_than_its_bounds() {
    let (_directory, nodes, pods) = sampled(16);
    let mut experiment = Experiment::read(&example("compaction.yaml")).unwrap();
    experiment.seeds = 1;
    let Kind::Compaction(spec) = &mut experiment.kind else { panic!("{experiment:?}") };
    (spec.nodes, spec.pods) = (Some(nodes), Some(pods));
    spec.policies = vec![Placement::BestFit];
    let results = run(&experiment, 1);
    let of = |figure| mean(&results, "best-fit", figure);
    let (machines, cell) = (of("machines needed"), of("machines of the cell"));
    assert!(machines < 2.0 * cell, "{machines} of {cell}");
    let (bound, in_order) = (of("lower bound"), of("lower bound in the order of the trial"));
    assert!(bound > 0.5 * cell && bound <= in_order && in_order <= machines, "{bound}, {in_order}, {machines}");
}

#[test]
fn what_a_workload_has_at_a_moment_is_compacted() {
    let text = "
seeds: 2
compaction:
  source:
    merged:
    - nodes: [{ count: 20, cpu: 8, memory: 32Gi }]
    - jobs: { arrivals: { every: { seconds: 10 } }, count: 30, cpu: { constant: 4 }, durationSeconds: { constant: 95 } }
  at: 205
  policies: [first-fit]
";
    let parse = |text: &str| Experiment::parse(text, Path::new("x.yaml")).unwrap();
    let results = run(&parse(text), 1);
    // Nine jobs are alive by then, and two fit on a machine.
    let of = |figure| mean(&results, "first-fit", figure);
    assert_eq!((of("machines of the cell"), of("machines needed"), of("lower bound")), (20.0, 5.0, 5.0));
    let error = parse(&text.replace("  at: 205\n", "")).check().unwrap_err().to_string();
    assert!(error.contains("either nodes and pods, or source and at"), "{error}");
}

#[test]
fn batch_jobs_wait_behind_long_decisions_where_one_scheduler_makes_them() {
    let mut experiment = Experiment::read(&example("simulation.yaml")).unwrap();
    experiment.seeds = 1;
    let Kind::Simulation(spec) = &mut experiment.kind else { panic!("{experiment:?}") };
    spec.service_job_times = vec![60.0];
    let results = run(&experiment, 1);
    let wait = |case| mean(&results, case, "wait of jobs (batch), mean");
    let (one, shared) = (wait("one scheduler"), wait("shared state"));
    assert!(one > 10.0 * shared.max(0.1), "{one} and {shared}");
    let files = |results: &Results| Report::of(results).files().unwrap();
    assert!(files(&results) == files(&run(&experiment, 4)), "the same bytes on any number of threads");
}
