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
    /// By the slow reference that remembers nothing, instead of the engine with its caches
    #[arg(long)]
    reference: bool,
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
    report(tally(&options.paths, options.reference))
}

fn tally(paths: &[PathBuf], by_reference: bool) -> Result<BTreeMap<&'static str, Tally>, String> {
    let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
    each_line(paths, |place, line| {
        let case = case::Case::read(line).map_err(|error| format!("{place}: {error}"))?;
        let family = FAMILIES.iter().find(|family| **family == case.family);
        let family = family.ok_or_else(|| format!("{place}: unknown family {:?}", case.family))?;
        tallies.entry(family).or_default().count(place, &case.name, || {
            let mut differences = Vec::new();
            differ("", &case.expect, &outcome::of(&case, by_reference), &mut differences);
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

    #[test]
    fn every_case_passes() {
        let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scheduler/testdata/golden");
        for by_reference in [false, true] {
            let tallies = tally(std::slice::from_ref(&cases), by_reference).unwrap();
            assert_eq!(tallies.len(), super::FAMILIES.len());
            for (family, tally) in tallies {
                assert_eq!(tally.passed, tally.total, "{family}: {:#?}", tally.shown);
            }
        }
    }
}
