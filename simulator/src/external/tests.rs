//! Choosers that choose well, and programs that do not.

use std::time::Duration;

use longshore_core::api::{Node, Pod};
use longshore_core::scheduling::TieBreak;
use longshore_scheduler::{Engine, Unplaced};

use super::*;
use crate::openb::{Machine, Request};
use crate::{objects, what_fits};

/// Long enough for any program here, on any machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn node(name: &str, milli_cpu: i64, gpus: i64) -> Node {
    objects::node(&Machine { name: name.to_owned(), milli_cpu, memory_mib: 1024, gpus, model: "T4".to_owned() })
}

fn pod(name: &str, gpus: i64, milli: i64) -> Arc<Pod> {
    let name = name.to_owned();
    let request = Request { name, milli_cpu: 1000, memory_mib: 16, gpus, milli, models: String::new() };
    let mut pod = objects::pod(&request);
    pod.metadata.name = Some(request.name);
    Arc::new(pod)
}

/// Nodes a, b and c of 2, 4 and 8 cores; the last has two GPUs.
fn engine(external: &External) -> Engine {
    let mut engine = Engine::new(what_fits("external").with(external.clone()), TieBreak::First);
    for (name, milli_cpu, gpus) in [("a", 2000, 0), ("b", 4000, 0), ("c", 8000, 2)] {
        engine.cluster_mut().put_node(Arc::new(node(name, milli_cpu, gpus)));
    }
    engine
}

fn program(script: &str) -> Result<Program, ExternalError> {
    Program::start(&format!("sh -c '{script}'"), 7, PATIENCE)
}

/// A script that greets and then does this.
fn after_greeting(script: &str) -> String {
    format!("read hello; echo {GREETING}; {script}")
}

const GREETING: &str = r#""{\"protocol\": \"longshore-policy/1\"}""#;

/// What becomes of a pod whose place this program chooses.
fn failure(script: &str) -> String {
    let external = External::new(program(&after_greeting(script)).unwrap());
    let mut engine = engine(&external);
    assert!(engine.place(&pod("p", 0, 0)).is_err());
    let failure = external.failure().unwrap().to_string();
    assert!(engine.place(&pod("q", 0, 0)).is_err(), "nothing more is asked");
    assert_eq!(external.failure().unwrap().to_string(), failure);
    failure
}

#[test]
fn a_closure_is_told_what_there_is_and_chooses() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = seen.clone();
    let external = External::new(move |question: &Question<'_>| {
        told.lock().unwrap().push(serde_json::to_string(question).unwrap());
        Choice::Scores(question.candidates.iter().map(|node| (node.node.to_owned(), node.pods as f64)).collect())
    });
    let mut engine = engine(&external);
    assert_eq!(engine.place(&pod("p", 1, 300)).unwrap().node, "c");
    assert_eq!(engine.place(&pod("q", 0, 0)).unwrap().node, "c", "it has a pod");
    assert_eq!(external.failure(), None);
    let seen = seen.lock().unwrap();
    let only = r#"{"pod":{"name":"default/p","cpu":1000,"memory":16777216,"gpus":1,"gpu_milli":300},"candidates":[{"node":"c","cpu":{"free":8000,"total":8000},"memory":{"free":1073741824,"total":1073741824},"gpus":[1000,1000],"model":"T4","pods":0}]}"#;
    assert_eq!(seen[0], only);
    assert!(
        seen[1].contains(r#""gpus":[700,1000]"#) && seen[1].contains(r#"{"node":"a","cpu":{"free":2000"#),
        "{seen:?}"
    );
}

#[test]
fn the_first_of_equal_scores_is_taken_and_a_refusal_is_told() {
    let equal = External::new(|question: &Question<'_>| {
        Choice::Scores(question.candidates.iter().rev().map(|node| (node.node.to_owned(), 1.0)).collect())
    });
    assert_eq!(engine(&equal).place(&pod("p", 0, 0)).unwrap().node, "a");
    let refusing = External::new(|_: &Question<'_>| Choice::Refuse("not on a Monday".to_owned()));
    let refused = engine(&refusing).place(&pod("p", 0, 0)).unwrap_err();
    assert!(matches!(refused, Unplaced::Refused(_)));
    assert!(refused.to_string().contains("not on a Monday"), "{refused}");
    assert_eq!(refusing.failure(), None);
}

#[test]
fn only_pods_that_some_node_can_take_are_asked_about() {
    let never = External::new(|_: &Question<'_>| -> Choice { panic!("no node can take it") });
    assert!(engine(&never).place(&pod("p", 3, 1000)).is_err());
}

#[test]
fn a_program_chooses_by_lines() {
    let script = after_greeting(r#"n=a; while read question; do echo "{\"node\": \"$n\"}"; n=b; done"#);
    let external = External::new(program(&script).unwrap());
    let mut engine = engine(&external);
    let nodes: Vec<String> = ["p", "q", "r"].map(|name| engine.place(&pod(name, 0, 0)).unwrap().node).to_vec();
    assert_eq!((nodes, external.failure()), (vec!["a".to_owned(), "b".to_owned(), "b".to_owned()], None));
}

#[test]
fn what_a_program_does_wrong_is_told() {
    for (script, expected) in [
        ("read it; exit 3", r#"ended (exit status: 3) and did not answer about pod "default/p""#),
        ("read it; echo soon", r#"answered about pod "default/p" by "soon": expected value"#),
        (r#"read it; echo "{}""#, "it must have one of node, scores and refuse"),
        (r#"read it; echo "{\"node\": \"a\", \"refuse\": \"b\"}""#, "it must have one of node, scores and refuse"),
        (r#"read it; echo "{\"nodes\": \"a\"}""#, "unknown field `nodes`"),
        (r#"read it; echo "{\"node\": \"z\"}""#, r#"chose "z" for pod "default/p", which is none of its 3 candidates"#),
        (r#"read it; echo "{\"scores\": {\"a\": 1, \"z\": 2}}""#, r#"chose "z""#),
        (r#"read it; echo "{\"scores\": {}}""#, "gave no scores"),
        ("read it; printf half", "and did not answer"),
    ] {
        let failure = failure(script);
        assert!(failure.contains(expected), "{script}: {failure}");
    }
}

#[test]
fn who_does_not_greet_is_not_asked() {
    let ended = program("exit 0").unwrap_err().to_string();
    assert!(ended.contains("did not answer the greeting"), "{ended}");
    let other = program(r#"read hello; echo "{\"protocol\": \"longshore-policy/9\"}""#).unwrap_err().to_string();
    assert!(other.contains("it speaks another protocol than longshore-policy/1"), "{other}");
    let none = Program::start("/nowhere/at-all", 1, PATIENCE).unwrap_err().to_string();
    assert!(none.contains("exit status: 127"), "{none}");
}

#[test]
fn the_greeting_has_the_seed() {
    let script = format!(
        r#"read hello; echo {GREETING}; read it; case $hello in *:7}}) echo "{{\"refuse\": \"seven\"}}";; *) echo "$hello";; esac"#
    );
    let external = External::new(program(&script).unwrap());
    let refused = engine(&external).place(&pod("p", 0, 0)).unwrap_err().to_string();
    assert!(refused.contains("seven"), "{refused} {:?}", external.failure());
}

#[test]
fn a_program_that_is_silent_is_not_waited_for_and_ends() {
    // It reads nothing, so that the question fills the pipe as well.
    let silent = format!("sh -c 'read hello; echo {GREETING}; exec tail -f /dev/null'");
    let mut program = Program::start(&silent, 7, PATIENCE).unwrap();
    program.patience = Duration::from_millis(300);
    let external = External::new(program);
    let mut engine = Engine::new(what_fits("external").with(external.clone()), TieBreak::First);
    for place in 0..2000 {
        engine.cluster_mut().put_node(Arc::new(node(&format!("n{place}"), 8000, 0)));
    }
    assert!(engine.place(&pod("p", 0, 0)).is_err());
    drop(engine);
    let failure = external.failure().unwrap().to_string();
    assert!(failure.contains("did not answer about pod \"default/p\" within 300 ms"), "{failure}");
}
