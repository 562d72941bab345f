//! `longshore store` on the embedded store of a cluster, stopped and running.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

mod common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use common::{Machine, eventually, on_own_network, run, texts};

#[test]
fn a_cluster_goes_back_to_a_snapshot() {
    on_own_network(&["kubectl", "ip"], || {
        let machine = Machine::new();
        machine.up(&["--runtime", "simulated"]);
        machine.ask(&["create", "configmap", "kept", "--from-literal=a=1"]);
        run(&mut machine.longshore(&["down"]));

        let file = machine.data_dir().join("copy");
        let told = run(&mut machine.longshore(&["store", "status"]));
        assert!(told.contains("store      embedded") && told.contains("keys"), "{told}");
        run(machine.longshore(&["store", "snapshot"]).arg(&file));
        let again = machine.longshore(&["store", "snapshot"]).arg(&file).output().unwrap();
        assert!(!again.status.success() && texts(&again).1.contains("exists already"), "{again:?}");

        machine.up(&[]);
        let before: u64 =
            machine.ask(&["get", "cm", "kept", "-o", "jsonpath={.metadata.resourceVersion}"]).parse().unwrap();
        machine.ask(&["delete", "configmap", "kept"]);
        machine.ask(&["create", "configmap", "later"]);
        run(&mut machine.longshore(&["down"]));
        let broken = machine.data_dir().join("broken");
        std::fs::write(&broken, "no snapshot").unwrap();
        let refused = machine.longshore(&["store", "restore"]).arg(&broken).output().unwrap();
        assert!(!refused.status.success() && texts(&refused).1.contains("is damaged"), "{refused:?}");
        let told = run(machine.longshore(&["store", "restore"]).arg(&file));
        assert!(told.contains("restored") && told.contains("store-replaced-1"), "{told}");

        machine.up(&[]);
        assert_eq!(machine.ask(&["get", "cm", "kept", "-o", "jsonpath={.data.a}"]), "1");
        assert_eq!(machine.ask(&["get", "cm", "later", "--ignore-not-found"]), "");
        machine.ask(&["annotate", "cm", "kept", "b=2"]);
        let after: u64 =
            machine.ask(&["get", "cm", "kept", "-o", "jsonpath={.metadata.resourceVersion}"]).parse().unwrap();
        assert!(after > before + 1_000_000, "revisions go on beyond what anybody can have seen: {before}, {after}");
    });
}

#[test]
fn a_running_cluster_is_compacted_and_goes_on() {
    on_own_network(&["kubectl", "ip"], || {
        let machine = Machine::new();
        machine.up(&["--runtime", "simulated"]);
        let create = |name| {
            machine.ask(&["create", "configmap", name]);
            machine.ask(&["get", "cm", name, "-o", "jsonpath={.metadata.resourceVersion}"])
        };
        let [first, second] = ["first", "second"].map(create);
        let told = run(&mut machine.longshore(&["store", "compact", "--revision", &second]));
        assert_eq!(told.trim(), format!("compacted: revisions before {second} are gone"));
        let told = run(&mut machine.longshore(&["store", "status"]));
        assert!(told.contains(&format!("compacted until {second}")), "{told}");
        let refused = machine.longshore(&["store", "compact", "--revision", &first]).output().unwrap();
        assert!(!refused.status.success() && texts(&refused).1.contains("too old"), "{refused:?}");
        // What the server said in one line, and nothing of how it was asked.
        let said = texts(&refused).1;
        assert!(said.starts_with("error: store: ") && said.trim().lines().count() == 1, "{said}");
        assert!(!said.contains("ApiError") && !said.contains("kube_client"), "{said}");
        let refused = machine.longshore(&["store", "compact", "--revision", "999999999"]).output().unwrap();
        assert!(!refused.status.success() && texts(&refused).1.contains("999999999"), "{refused:?}");
        // The current revision; and whoever watches goes on.
        let third: u64 = create("third").parse().unwrap();
        let told = run(&mut machine.longshore(&["store", "compact"]));
        let compacted = told.trim().trim_start_matches("compacted: revisions before ").trim_end_matches(" are gone");
        assert!(compacted.parse::<u64>().unwrap() >= third, "{told}");
        machine.ask(&["create", "deployment", "web", "--image=web:0", "--replicas=2"]);
        machine.ask(&["rollout", "status", "deployment/web", "--timeout=80s"]);
        run(&mut machine.longshore(&["down"]));
    });
}

/// One after the other ConfigMaps are made, while a copy is: what it holds is the first so many, each of them whole.
#[test]
fn a_running_cluster_is_copied_while_writes_go_on() {
    on_own_network(&["kubectl", "ip"], || {
        let machine = Machine::new();
        machine.up(&["--runtime", "simulated"]);
        let told = run(&mut machine.longshore(&["store", "status"]));
        assert!(told.contains("store      embedded") && told.contains("keys"), "{told}");
        let (acknowledged, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let file = machine.data_dir().join("copy");
        let create = |index: usize| {
            let (one, other) = (format!("--from-literal=a={index}"), format!("--from-literal=b={index}"));
            machine.ask(&["create", "configmap", &format!("made-{index:04}"), &one, &other]);
            acknowledged.store(index + 1, Ordering::SeqCst);
        };
        let before = std::thread::scope(|scope| {
            let writing = scope.spawn(|| {
                let mut index = 0;
                while !stop.load(Ordering::SeqCst) {
                    create(index);
                    index += 1;
                }
            });
            // Whatever happens here, the writer ends.
            let copied = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                eventually("some are made", || (acknowledged.load(Ordering::SeqCst) >= 3).then_some(()));
                let before = acknowledged.load(Ordering::SeqCst);
                run(machine.longshore(&["store", "snapshot"]).arg(&file));
                let again = machine.longshore(&["store", "snapshot"]).arg(&file).output().unwrap();
                assert!(!again.status.success() && texts(&again).1.contains("exists already"), "{again:?}");
                before
            }));
            stop.store(true, Ordering::SeqCst);
            writing.join().unwrap();
            copied.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        let made = acknowledged.into_inner();
        run(&mut machine.longshore(&["down"]));
        run(machine.longshore(&["store", "restore"]).arg(&file));
        machine.up(&[]);
        let maps = machine.ask(&[
            "get",
            "cm",
            "-o",
            "jsonpath={range .items[*]}{.metadata.name} {.data.a} {.data.b}{\"\\n\"}{end}",
        ]);
        let copied: Vec<&str> = maps.lines().filter(|line| line.starts_with("made-")).collect();
        assert!((before..=made).contains(&copied.len()), "{before} before, {made} after, in the copy {copied:?}");
        for (index, line) in copied.iter().enumerate() {
            assert_eq!(*line, format!("made-{index:04} {index} {index}"));
        }
    });
}
