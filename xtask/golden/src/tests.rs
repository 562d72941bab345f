//! The runner itself, and the repository's own vectors.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::{Family, api, report, tally};

/// Vectors of the repository that do not pass, by family: a list that Go writes as `null` or `[]`, as it was read.
const FAILING: &[(&str, usize)] = &[("decode", 1)];

#[test]
fn vectors_pass() {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../core/testdata/golden/api");
    let tallies = tally(api::FAMILIES, &[vectors]).unwrap();
    for (family, tally) in &tallies {
        let failing = FAILING.iter().find(|(name, _)| name == family).map_or(0, |(_, failing)| *failing);
        assert!(tally.total - tally.passed <= failing, "{family}: {:#?}", tally.shown);
    }
    let without: Vec<&str> =
        api::FAMILIES.iter().map(|family| family.name).filter(|name| !tallies.contains_key(name)).collect();
    assert!(without.is_empty(), "families without vectors: {without:?}");
}

/// Answers its input; panics if told to.
const ECHO: &[Family] = &[Family {
    name: "echo",
    run: |input| {
        assert!(*input != "panic", "as told");
        input.clone()
    },
    same: |found, expected| found == expected,
}];

const PASSES: &str = r#"{"family":"echo","name":"n","in":1,"out":1}"#;
const DIFFERS: &str = r#"{"family":"echo","name":"n","in":1,"out":2}"#;

fn execute(families: &[Family], paths: &[PathBuf]) -> u8 {
    report(tally(families, paths))
}

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn add(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn execute(&self) -> u8 {
        execute(ECHO, &[self.0.path().to_owned()])
    }
}

#[test]
fn agreement_is_0_and_difference_1() {
    let files = Files::new();
    let passing = files.add("a.jsonl", &format!("{PASSES}\n{PASSES}\n"));
    assert_eq!(execute(ECHO, &[passing]), 0);
    files.add("b.jsonl", DIFFERS);
    assert_eq!(files.execute(), 1);
    let tallies = tally(ECHO, &[files.0.path().to_owned()]).unwrap();
    assert_eq!((tallies["echo"].passed, tallies["echo"].total), (2, 3));
    assert!(tallies["echo"].shown[0].contains("b.jsonl:1: n"), "{:?}", tallies["echo"].shown);
}

#[test]
fn a_panic_is_a_difference() {
    let files = Files::new();
    files.add("a.jsonl", r#"{"family":"echo","name":"n","in":"panic","out":1}"#);
    assert_eq!(files.execute(), 1);
}

#[test]
fn no_more_than_ten_differences_are_shown() {
    let files = Files::new();
    files.add("a.jsonl", &format!("{DIFFERS}\n").repeat(30));
    let tallies = tally(ECHO, &[files.0.path().to_owned()]).unwrap();
    assert_eq!((tallies["echo"].total, tallies["echo"].shown.len()), (30, 10));
}

#[test]
fn directories_mean_their_files_of_vectors_packed_ones_too() {
    let files = Files::new();
    files.add("FORMAT.md", "no vectors");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(PASSES.as_bytes()).unwrap();
    std::fs::write(files.0.path().join("a.jsonl.gz"), packed.finish().unwrap()).unwrap();
    assert_eq!(files.execute(), 0);
}

#[test]
fn what_cannot_be_run_is_2() {
    for text in ["", "not JSON", "{}", r#"{"family":"other","name":"n","in":1,"out":1}"#, "\n"] {
        let files = Files::new();
        let path = files.add("a.jsonl", text);
        assert_eq!(execute(ECHO, &[path]), 2, "{text:?}");
    }
    let files = Files::new();
    assert_eq!(files.execute(), 2, "a directory without vectors");
    let passing = files.add("a.jsonl", PASSES);
    let empty = files.add("b.jsonl", "");
    assert_eq!(execute(ECHO, &[passing, empty]), 2, "one of the files is empty");
    assert_eq!(execute(ECHO, &[files.0.path().join("none.jsonl")]), 2, "no such file");
    let broken = files.add("c.jsonl.gz", "not packed");
    assert_eq!(execute(ECHO, &[broken]), 2, "not packed");
}
