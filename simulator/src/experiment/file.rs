//! The file of an experiment.

use std::num::NonZeroU32;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde_saphyr::Spanned;

use super::{CompactionSpec, Experiment, ExperimentError, Kind, PackingSpec, Place, SimulationSpec};
use crate::{Placement, TRIALS};

/// The first seed of an experiment that does not say which.
const SEED: u64 = 42;

/// As it stands there.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    description: String,
    #[serde(default)]
    seed: Option<u64>,
    #[serde(default)]
    seeds: Option<NonZeroU32>,
    #[serde(default)]
    packing: Option<Spanned<PackingSpec>>,
    #[serde(default)]
    compaction: Option<Spanned<CompactionSpec>>,
    #[serde(default)]
    simulation: Option<Spanned<SimulationSpec>>,
}

/// A policy by its name.
impl<'de> Deserialize<'de> for Placement {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Experiment {
    /// Reads a file. Paths in it are relative to where it is.
    ///
    /// # Errors
    /// It cannot be read, or something in it cannot be; the error says where, what, and what would be right.
    pub fn read(file: &Path) -> Result<Self, ExperimentError> {
        let text =
            std::fs::read_to_string(file).map_err(|source| ExperimentError::Read { file: file.to_owned(), source })?;
        Self::parse(&text, file)
    }

    /// Reads the text of a file of this name, which need not be there.
    ///
    /// # Errors
    /// As [`Experiment::read`].
    pub fn parse(text: &str, file: &Path) -> Result<Self, ExperimentError> {
        let wrong = |place: Place, reason: String| ExperimentError::File { file: file.to_owned(), place, reason };
        let document: Document = serde_saphyr::from_str(text).map_err(|error| {
            let place = error.location().map_or_else(Place::default, of);
            wrong(place, reason(&error))
        })?;
        let base = file.parent().unwrap_or(Path::new(""));
        let mut kinds: Vec<(Kind, u32, Place)> = Vec::new();
        if let Some(Spanned { mut value, referenced, .. }) = document.packing {
            value.resolve(base);
            kinds.push((Kind::Packing(value), 1, of(referenced)));
        }
        if let Some(Spanned { mut value, referenced, .. }) = document.compaction {
            value.resolve(base);
            kinds.push((Kind::Compaction(Box::new(value)), TRIALS, of(referenced)));
        }
        if let Some(Spanned { mut value, referenced, .. }) = document.simulation {
            value.resolve(base);
            kinds.push((Kind::Simulation(Box::new(value)), 1, of(referenced)));
        }
        if let Some((_, _, place)) = kinds.get(1) {
            let reason = "there is more than one thing to run: give one of packing, compaction, simulation in a file";
            return Err(wrong(*place, reason.to_owned()));
        }
        let Some((kind, seeds, _)) = kinds.pop() else {
            let reason = "there is nothing to run: give one of packing, compaction, simulation";
            return Err(wrong(Place::default(), reason.to_owned()));
        };
        let stem = || file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        Ok(Self {
            name: document.name.or_else(stem).unwrap_or_else(|| "experiment".to_owned()),
            description: document.description.trim().to_owned(),
            seed: document.seed.unwrap_or(SEED),
            seeds: document.seeds.map_or(seeds, NonZeroU32::get),
            kind,
        })
    }
}

fn of(location: serde_saphyr::Location) -> Place {
    Place { line: location.line(), column: location.column() }
}

/// What is wrong, in one line and without the place, which is told anyway.
fn reason(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let first = text.lines().next().unwrap_or_default();
    let told = error.location().map(|at| {
        (
            format!(" at line {}, column {}", at.line(), at.column()),
            format!("error: line {} column {}: ", at.line(), at.column()),
        )
    });
    match told {
        Some((behind, before)) => first.trim_end_matches(&behind).trim_start_matches(&before).to_owned(),
        None => first.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Experiment, String> {
        Experiment::parse(text, Path::new("dir/x.yaml")).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let text = "packing:\n  nodes: ../n.csv\n  pods: /p.csv\n  policies: [fgd]\n";
        let experiment = parse(text).unwrap();
        assert_eq!((experiment.name.as_str(), experiment.seed, experiment.seeds), ("x", 42, 1));
        let Kind::Packing(spec) = &experiment.kind else { panic!("{experiment:?}") };
        assert_eq!((spec.nodes.to_str(), spec.pods.to_str(), spec.tune), (Some("dir/../n.csv"), Some("/p.csv"), None));
        assert_eq!(spec.policies, [Placement::Fgd]);
        let text = "compaction:\n  nodes: n.csv\n  pods: p.csv\n";
        let experiment = parse(text).unwrap();
        let Kind::Compaction(spec) = &experiment.kind else { panic!("{experiment:?}") };
        assert_eq!((experiment.seeds, spec.policies.as_slice(), spec.pending), (11, &Placement::ALL[..], 0.002));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place_and_what_would_be_right() {
        let packing = "packing:\n  nodes: n\n  pods: p\n  policies: [fgd]\n";
        let cases = [
            (format!("{packing}  tunes: 1\n"), "dir/x.yaml:5:3: ", "tunes", "tune"),
            (packing.replace("fgd", "fgdd"), "dir/x.yaml:4:14: ", "no policy \"fgdd\"", "random, dot-product"),
            (packing.replace("  pods: p\n", ""), "dir/x.yaml:3:3: ", "pods", "missing"),
            (format!("{packing}seeds: 0\n"), "dir/x.yaml:5:1: ", "integer `0`", "nonzero"),
            (format!("{packing}seeds: many\n"), "dir/x.yaml:5:", "", "u32"),
            (format!("{packing}compaction:\n  nodes: n\n  pods: p\n"), "dir/x.yaml:6:3: ", "more than one thing", ""),
            ("name: x\n".to_owned(), "dir/x.yaml: ", "nothing to run", "packing, compaction, simulation"),
            (format!("{packing}sed: 1\n"), "dir/x.yaml:5:1: ", "sed", "seed"),
            ("packing: [\n".to_owned(), "dir/x.yaml:", "", ""),
        ];
        for (text, place, what, right) in cases {
            let error = parse(&text).unwrap_err();
            assert!(error.starts_with(place) && error.contains(what) && error.contains(right), "{text}\n{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
