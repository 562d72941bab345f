//! Runs golden vectors: inputs with what upstream Kubernetes v1.35.4 made of them.

mod api;
mod scheduler;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde::Deserialize;
use serde_json::Value;

/// What is compared loosely.
const LOOSE: &str = "Compared loosely:\n  decode: the text of plain decoding errors (it quotes Go types); that there is an error counts\n  defaulting: likewise, where the text quotes Go types\n  quantity: value, milliValue and scaledValue beyond 64 bits (ours are the nearest that fits; upstream wraps around, for\n    negative amounts already where their billionths are beyond), and the last bits of asApproximateFloat64\n  validation, validation_update: with goDiff, the texts behind the first difference of two Go structs";

#[derive(Parser)]
#[command(name = "cargo xtask golden", about = "Compare with what upstream Kubernetes v1.35.4 does")]
struct Options {
    #[command(subcommand)]
    suite: Suite,
}

#[derive(Subcommand)]
enum Suite {
    /// API machinery: JSON lines {"family","name","in","out"}
    #[command(after_help = LOOSE)]
    Api {
        /// Files, or directories whose *.jsonl and *.jsonl.gz are run
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Scheduling: whole clusters with a pod to place, JSON lines {"family","name",…,"expect"}
    Scheduler(scheduler::Options),
}

/// Vectors of one kind: how to run one, and how to compare.
pub(crate) struct Family {
    name: &'static str,
    run: fn(&Value) -> Value,
    same: fn(&Value, &Value) -> bool,
}

#[derive(Deserialize)]
struct Vector {
    family: String,
    name: String,
    #[serde(rename = "in")]
    input: Value,
    out: Value,
}

#[derive(Default)]
struct Tally {
    passed: usize,
    total: usize,
    shown: Vec<String>,
}

fn main() -> ExitCode {
    let done = match Options::parse().suite {
        Suite::Api { paths } => run(api::FAMILIES, &paths),
        Suite::Scheduler(options) => scheduler::run(&options),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("golden: {error}");
            ExitCode::from(2)
        }
    }
}

/// Runs all files and prints what they give; whether all vectors passed.
fn run(families: &[Family], paths: &[PathBuf]) -> Result<bool, String> {
    let tallies = tally(families, paths)?;
    for (family, tally) in &tallies {
        for difference in &tally.shown {
            println!("{difference}");
        }
        println!("{family}: {}/{}", tally.passed, tally.total);
    }
    Ok(tallies.values().all(|tally| tally.passed == tally.total))
}

fn tally<'f>(families: &'f [Family], paths: &[PathBuf]) -> Result<BTreeMap<&'f str, Tally>, String> {
    let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
    for file in files(paths)? {
        for (number, line) in lines(&file)?.into_iter().enumerate() {
            let place = format!("{}:{}", file.display(), number + 1);
            let vector: Vector = serde_json::from_str(&line).map_err(|error| format!("{place}: {error}"))?;
            let family = families.iter().find(|family| family.name == vector.family);
            let family = family.ok_or_else(|| format!("{place}: unknown family {:?}", vector.family))?;
            let tally = tallies.entry(family.name).or_default();
            tally.total += 1;
            let found = (family.run)(&vector.input);
            if (family.same)(&found, &vector.out) {
                tally.passed += 1;
            } else if tally.shown.len() < 10 {
                let mut differences = Vec::new();
                differ("", &vector.out, &found, &mut differences);
                tally.shown.push(format!("{place}: {}\n    {}", vector.name, differences.join("\n    ")));
            }
        }
    }
    if tallies.is_empty() {
        return Err("no vectors found".to_owned());
    }
    Ok(tallies)
}

/// The files named, and those in the directories named.
fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let entries = path.read_dir().map_err(|error| format!("{}: {error}", path.display()))?;
        let mut found: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        found.retain(|file| file.to_str().is_some_and(|name| name.ends_with(".jsonl") || name.ends_with(".jsonl.gz")));
        found.sort();
        files.append(&mut found);
    }
    Ok(files)
}

fn lines(path: &Path) -> Result<Vec<String>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let file = File::open(path).map_err(failed)?;
    let reader: Box<dyn Read> = if path.extension().is_some_and(|extension| extension == "gz") {
        Box::new(flate2::read::MultiGzDecoder::new(file))
    } else {
        Box::new(file)
    };
    BufReader::new(reader).lines().collect::<Result<_, _>>().map_err(failed)
}

/// The places where two values differ, at most five.
fn differ(path: &str, expected: &Value, found: &Value, out: &mut Vec<String>) {
    if expected == found || out.len() >= 5 {
        return;
    }
    match (expected, found) {
        (Value::Object(left), Value::Object(right)) => {
            for (key, expected) in left {
                differ(
                    &format!("{path}.{key}"),
                    expected,
                    right.get(key).unwrap_or(&Value::String("(missing)".into())),
                    out,
                );
            }
            for (key, found) in right.iter().filter(|(key, _)| !left.contains_key(*key)) {
                out.push(format!("{path}.{key}: expected nothing, found {found}"));
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (index, (expected, found)) in left.iter().zip(right).enumerate() {
                differ(&format!("{path}[{index}]"), expected, found, out);
            }
        }
        _ => out.push(format!("{path}: expected {expected}, found {found}")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{api, tally};

    /// Families of the repository's own vectors, with how many pass. A number here may only grow.
    const PASSING: &[(&str, usize)] = &[
        ("decode", 12),
        ("fieldset", 54),
        ("names", 676),
        ("patch", 67),
        ("quantity", 266),
        ("ssa", 37),
        ("validation", 90),
        ("validation_update", 75),
    ];

    #[test]
    fn vectors_pass() {
        let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../core/testdata/golden/api");
        let tallies = tally(api::FAMILIES, &[vectors]).unwrap();
        for (family, least) in PASSING {
            let passed = tallies[family].passed;
            assert!(passed >= *least, "{family}: {passed} pass, {least} did before: {:#?}", tallies[family].shown);
        }
    }

    #[test]
    fn unknown_families_and_empty_input_are_errors() {
        let directory = std::env::temp_dir().join(format!("longshore-golden-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        assert!(tally(api::FAMILIES, std::slice::from_ref(&directory)).is_err());
        let file = directory.join("x.jsonl");
        std::fs::write(&file, r#"{"family":"nonesuch","name":"n","in":{},"out":{}}"#).unwrap();
        assert!(tally(api::FAMILIES, std::slice::from_ref(&file)).is_err());
        std::fs::write(&file, "not JSON").unwrap();
        assert!(tally(api::FAMILIES, std::slice::from_ref(&file)).is_err());
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
