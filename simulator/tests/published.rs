//! Outcomes beside those that FGD's authors published. A few runs only: `cargo bench --bench openb` makes the whole table.

#![allow(clippy::unwrap_used, reason = "a panic is how tests fail")]

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use longshore_simulator::{Packing, Placement, openb, sweep};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/openb").join(name)
}

/// The published mean and standard deviation of the GPUs in use at the end.
fn published(workload: &str, policy: &str) -> (f64, f64) {
    let text = std::fs::read_to_string(file("published.csv")).unwrap();
    let start = format!("openb_pod_list_{workload},{policy},alloc_ratio_pct,130,10,");
    let row = text.lines().find_map(|line| line.strip_prefix(&start)).unwrap();
    let (mean, deviation) = row.split_once(',').unwrap();
    (mean.parse().unwrap(), deviation.parse().unwrap())
}

#[test]
fn policies_fill_the_cluster_as_published() {
    let machines = openb::machines(&file("nodes.csv")).unwrap();
    let workloads =
        ["default", "gpuspec33"].map(|name| (name, openb::requests(&file(&format!("{name}.csv"))).unwrap()));
    let policies = [(Placement::Random, "01-Random"), (Placement::BestFit, "05-BestFit"), (Placement::Fgd, "06-FGD")];
    let mut experiments = Vec::new();
    for (_, requests) in &workloads {
        for (placement, _) in policies {
            experiments.push(Packing { machines: &machines, requests, placement, tune: Some(1.3), seed: 42 });
        }
    }
    let jobs = NonZeroUsize::new(2).unwrap();
    let outcomes = sweep(&experiments, jobs, |_| ()).unwrap();
    let expected = workloads.iter().flat_map(|(name, _)| policies.map(|(_, policy)| published(name, policy)));
    for (outcome, (mean, deviation)) in outcomes.iter().zip(expected) {
        let away = (outcome.gpu_allocation_percent - mean).abs();
        assert_eq!(outcome.arrived_percent, 130);
        assert!(away < 4.0 * deviation, "{outcome:?}: {away} from {mean}, where the deviation is {deviation}");
    }
    let alone = experiments[2].run(|_, _| ()).unwrap();
    assert_eq!(alone, outcomes[2], "the same seed, the same outcome, whatever else goes on");
}

#[test]
fn expected_use_fills_it_more_than_fgd() {
    let machines = openb::machines(&file("nodes.csv")).unwrap();
    let requests = openb::requests(&file("gpuspec33.csv")).unwrap();
    let run = |placement| {
        let packing = Packing { machines: &machines, requests: &requests, placement, tune: Some(1.3), seed: 42 };
        packing.run(|_, _| ()).unwrap().gpu_allocation_percent
    };
    let (ours, fgd) = (run(Placement::ExpectedUse), run(Placement::Fgd));
    // A point on the average of ten seeds, with a deviation of a quarter.
    assert!(ours > fgd + 0.3, "{ours} and {fgd}");
}

#[test]
fn every_policy_places_pods_and_is_found_by_its_name() {
    let machines = openb::machines(&file("nodes.csv")).unwrap();
    let requests = openb::requests(&file("default.csv")).unwrap();
    let experiments = Placement::ALL.map(|placement| {
        assert_eq!(placement.name().parse(), Ok(placement));
        Packing { machines: &machines[..100], requests: &requests[..300], placement, tune: Some(0.5), seed: 1 }
    });
    for outcome in sweep(&experiments, NonZeroUsize::new(2).unwrap(), |_| ()).unwrap() {
        // A cluster half full has room for nearly all, wherever they go.
        assert!(
            outcome.placed * 100 >= outcome.pods * 95,
            "{}: {} of {}",
            outcome.policy,
            outcome.placed,
            outcome.pods
        );
    }
    assert!("fgdd".parse::<Placement>().unwrap_err().to_string().contains("expected-use"));
}
