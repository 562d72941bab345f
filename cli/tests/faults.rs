//! The short form of the fault harness: the whole cluster in processes of its own, under half a minute of faults.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

use std::path::Path;
use std::time::Duration;

use longshore_faults::cluster::{Leases, isolate, missing_program};
use longshore_faults::plan::Pace;
use longshore_faults::{Options, run};

#[test]
fn promises_are_kept_while_processes_die_links_break_and_disks_fill() {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: needs root");
        return;
    }
    if let Some(program) = missing_program() {
        println!("SKIPPED: {program} is missing");
        return;
    }
    let options = Options {
        program: Path::new(env!("CARGO_BIN_EXE_longshore")).to_owned(),
        seed: 1,
        duration: Duration::from_secs(25),
        pace: Pace::SHORT,
        leases: Leases::Fast,
        logs: None,
    };
    // The network and the mounts are the thread's own, and the processes end with it.
    let report = std::thread::spawn(move || {
        isolate().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(&options, &|line| println!("{line}"))).unwrap()
    });
    let report = report.join().unwrap();
    println!("{report}");
    assert!(report.faults.len() >= 6, "{:?}", report.faults);
    assert!(report.violations.is_empty(), "{report}");
}
