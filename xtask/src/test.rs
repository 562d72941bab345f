//! All tests, and one line of totals.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use clap::Args;

use crate::leftovers::Host;
use crate::{Result, cargo, install};

/// Which tests to run.
#[derive(Args)]
pub(crate) struct Options {
    /// Do not install anything
    #[arg(long)]
    no_install: bool,
    /// Only tests whose name contains this
    filter: Option<String>,
}

/// Sums over all test programs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Totals {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Totals {
    /// Reads one line of a test program's output.
    fn read(&mut self, line: &str) {
        if let Some(rest) = line.strip_prefix("test result: ") {
            for part in rest.split(['.', ';']) {
                let mut words = part.split_whitespace();
                let (Some(count), Some(what)) = (words.next().and_then(|word| word.parse::<u64>().ok()), words.next())
                else {
                    continue;
                };
                match what {
                    "passed" => self.passed += count,
                    "failed" => self.failed += count,
                    "ignored" => self.skipped += count,
                    _ => {}
                }
            }
        } else if line.starts_with("SKIPPED: ") {
            // The test itself counts as passed, since it returned.
            self.skipped += 1;
            self.passed = self.passed.saturating_sub(1);
        }
    }
}

/// Runs the chore.
pub(crate) fn run(options: &Options) -> Result<()> {
    if !options.no_install {
        install::missing_packages()?;
    }
    let before = Host::look();
    let mut totals = Totals::default();
    let mut ended_well = true;
    // Not the benchmarks, which would run. The examples in docs cannot be asked for together with other targets.
    for targets in [&["--lib", "--bins", "--tests", "--examples"][..], &["--doc"][..]] {
        let mut command = cargo();
        command.args(["test", "--workspace", "--all-features", "--no-fail-fast"]).args(targets).arg("--");
        command.arg("--show-output").args(&options.filter);
        let mut child =
            command.stdout(Stdio::piped()).spawn().map_err(|error| format!("cannot start {command:?}: {error}"))?;
        let stdout = child.stdout.take().expect("standard output was asked for");
        for line in BufReader::new(stdout).lines() {
            let line = line.map_err(|error| format!("cannot read the tests' output: {error}"))?;
            totals.read(&line);
            println!("{line}");
        }
        let status = child.wait().map_err(|error| format!("cannot wait for {command:?}: {error}"))?;
        ended_well &= status.success();
    }
    let after = Host::look();
    for left in after.new_since(&before) {
        println!("LEFT BEHIND: {left}");
        totals.failed += 1;
    }
    let Totals { passed, failed, skipped } = totals;
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    if !ended_well || failed > 0 {
        return Err("tests failed, see above".to_owned());
    }
    if skipped > 0 && std::env::var("CI").is_ok_and(|ci| ci == "true") {
        return Err(format!("{skipped} tests were skipped, which CI does not allow"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_add_up_over_programs() {
        let mut totals = Totals::default();
        totals.read("running 3 tests");
        totals.read("test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s");
        totals.read("SKIPPED: runc is missing");
        totals
            .read("test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s");
        assert_eq!(totals, Totals { passed: 5, failed: 2, skipped: 2 });
    }
}
