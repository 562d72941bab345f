//! Runs golden vectors: inputs with what upstream Kubernetes v1.35.4 made of them.

mod api;
mod scheduler;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde::Deserialize;
use serde_json::Value;

/// What is compared loosely.
const LOOSE: &str = "Compared loosely:\n  decode: the text of plain decoding errors (it quotes Go types); that there is an error counts\n  defaulting: likewise, where the text quotes Go types\n  quantity: value, milliValue and scaledValue beyond 64 bits (ours are the nearest that fits; upstream wraps around, for\n    negative amounts already where their billionths are beyond), and the last bits of asApproximateFloat64\n  validation, validation_update: with goDiff, the texts behind the first difference of two Go structs";

/// Most differences that are printed for one family.
const DIFFERENCES_MAX: usize = 10;

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
pub(crate) struct Tally {
    passed: usize,
    total: usize,
    shown: Vec<String>,
}

fn main() -> ExitCode {
    ExitCode::from(match Options::parse().suite {
        Suite::Api { paths } => report(tally(api::FAMILIES, &paths)),
        Suite::Scheduler(options) => scheduler::run(&options),
    })
}

/// Prints what came out; the process's exit code.
pub(crate) fn report(tallies: Result<BTreeMap<&str, Tally>, String>) -> u8 {
    match tallies {
        Ok(tallies) => {
            for (family, tally) in &tallies {
                for difference in &tally.shown {
                    println!("{difference}");
                }
                println!("{family}: {}/{}", tally.passed, tally.total);
            }
            u8::from(tallies.values().any(|tally| tally.passed < tally.total))
        }
        Err(error) => {
            eprintln!("golden: {error}");
            2
        }
    }
}

fn tally<'f>(families: &'f [Family], paths: &[PathBuf]) -> Result<BTreeMap<&'f str, Tally>, String> {
    let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
    each_line(paths, |place, line| {
        let vector: Vector = serde_json::from_str(line).map_err(|error| format!("{place}: {error}"))?;
        let family = families.iter().find(|family| family.name == vector.family);
        let family = family.ok_or_else(|| format!("{place}: unknown family {:?}", vector.family))?;
        tallies.entry(family.name).or_default().count(place, &vector.name, || {
            let found = (family.run)(&vector.input);
            let mut differences = Vec::new();
            if !(family.same)(&found, &vector.out) {
                differ("", &vector.out, &found, &mut differences);
            }
            differences
        });
        Ok(())
    })?;
    Ok(tallies)
}

impl Tally {
    /// Counts one vector, which passes if running it gives no differences.
    pub(crate) fn count(&mut self, place: &str, name: &str, run: impl FnOnce() -> Vec<String>) {
        self.total += 1;
        let differences = panic::catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| vec!["panicked".to_owned()]);
        if differences.is_empty() {
            self.passed += 1;
        } else if self.shown.len() < DIFFERENCES_MAX {
            self.shown.push(format!("{place}: {name}\n    {}", differences.join("\n    ")));
        }
    }
}

/// Calls `run` with the place and the text of every line of the files named; a path without lines is an error.
pub(crate) fn each_line(
    paths: &[PathBuf],
    mut run: impl FnMut(&str, &str) -> Result<(), String>,
) -> Result<(), String> {
    for path in paths {
        let mut empty = true;
        for file in files(path)? {
            for (number, line) in lines(&file)?.into_iter().enumerate() {
                run(&format!("{}:{}", file.display(), number + 1), &line)?;
                empty = false;
            }
        }
        if empty {
            return Err(format!("{}: no vectors found", path.display()));
        }
    }
    Ok(())
}

/// The file named, or the files of vectors in the directory named.
fn files(path: &Path) -> Result<Vec<PathBuf>, String> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut files = Vec::new();
    for entry in path.read_dir().map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        if file.to_str().is_some_and(|name| name.ends_with(".jsonl") || name.ends_with(".jsonl.gz")) {
            files.push(file);
        }
    }
    files.sort();
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
pub(crate) fn differ(path: &str, expected: &Value, found: &Value, out: &mut Vec<String>) {
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
mod tests;
