//! `longshore store` on the embedded store of a cluster that is stopped.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

mod common;

use common::{Machine, on_own_network, run, texts};

#[test]
fn a_cluster_goes_back_to_a_snapshot() {
    on_own_network(&["kubectl", "ip"], || {
        let machine = Machine::new();
        machine.up(&["--runtime", "simulated"]);
        machine.ask(&["create", "configmap", "kept", "--from-literal=a=1"]);
        let running = machine.longshore(&["store", "status"]).output().unwrap();
        assert!(!running.status.success() && texts(&running).1.contains("runs in"), "{running:?}");
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
