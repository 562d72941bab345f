//! Whole clusters with a pod to place, and what kube-scheduler decided.

mod case;
mod outcome;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;

use crate::{Tally, differ, each_line, report};

/// What to run.
#[derive(Args)]
pub(crate) struct Options {
    /// Files, or directories whose *.jsonl and *.jsonl.gz are run
    #[arg(required = true)]
    paths: Vec<PathBuf>,
}

/// Families of cases. They differ in what the objects draw on, not in how a case is run.
const FAMILIES: &[&str] = &[
    "default-spread",
    "host-ports",
    "image-locality",
    "mixed",
    "node-affinity",
    "node-name",
    "pod-affinity",
    "preemption",
    "resources",
    "scheduling-gates",
    "taints",
    "topology-spread",
    "unschedulable",
    "volumes",
];

/// Runs all files and prints what they give; the process's exit code.
pub(crate) fn run(options: &Options) -> u8 {
    report(tally(&options.paths))
}

fn tally(paths: &[PathBuf]) -> Result<BTreeMap<&'static str, Tally>, String> {
    let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
    each_line(paths, |place, line| {
        let case: case::Case = serde_json::from_str(line).map_err(|error| format!("{place}: {error}"))?;
        let family = FAMILIES.iter().find(|family| **family == case.family);
        let family = family.ok_or_else(|| format!("{place}: unknown family {:?}", case.family))?;
        tallies.entry(family).or_default().count(place, &case.name, || {
            let mut differences = Vec::new();
            differ("", &case.expect, &outcome::of(&case), &mut differences);
            differences
        });
        Ok(())
    })?;
    Ok(tallies)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::tally;

    /// Families of the repository's own cases, with how many pass. A number here may only grow.
    const PASSING: &[(&str, usize)] = &[
        ("default-spread", 40),
        ("host-ports", 40),
        ("image-locality", 40),
        ("mixed", 25),
        ("node-affinity", 40),
        ("node-name", 40),
        ("pod-affinity", 40),
        ("preemption", 40),
        ("resources", 40),
        ("scheduling-gates", 40),
        ("taints", 40),
        ("topology-spread", 40),
        ("unschedulable", 40),
    ];

    #[test]
    fn cases_pass() {
        let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scheduler/testdata/golden");
        let tallies = tally(&[cases]).unwrap();
        for (family, least) in PASSING {
            let passed = tallies[family].passed;
            assert!(passed >= *least, "{family}: {passed} pass, {least} did before: {:#?}", tallies[family].shown);
        }
    }
}
