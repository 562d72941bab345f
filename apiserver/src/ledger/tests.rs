//! What a record takes and refuses, and how records are put right.

use std::sync::Arc;

use longshore_core::api::{Node, Pod};
use longshore_core::store::{MemoryStore, Store, Transaction};
use serde_json::{Value, json};

use super::{Claim, Entry, PREFIX, Record, repair};

fn claim(name: &str, container: Value) -> Claim {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "namespace": "default", "name": name, "uid": name },
        "spec": { "nodeName": "n", "containers": [container] },
    }))
    .unwrap();
    Claim::of(&pod).unwrap()
}

fn asks(name: &str, requests: Value) -> Claim {
    claim(name, json!({ "name": "c", "resources": { "requests": requests } }))
}

fn node(allocatable: Value) -> Node {
    serde_json::from_value(json!({ "status": { "allocatable": allocatable } })).unwrap()
}

fn add(record: &mut Record, claim: &Claim) {
    record.pods.insert(claim.uid.clone(), Entry::new(claim, false));
}

#[test]
fn what_does_not_fit_is_told_by_name_and_amount() {
    let node = node(json!({ "cpu": "2", "memory": "1Gi", "pods": "3", "example.com/gpu": "1" }));
    let mut record = Record::default();
    let check = |record: &Record, claim: &Claim| {
        record.check(claim, &node.status.allocatable).map_err(|misfit| misfit.to_string())
    };
    add(&mut record, &asks("a", json!({ "cpu": "1500m", "example.com/gpu": "1" })));
    assert_eq!(
        check(&record, &asks("b", json!({ "cpu": "600m" }))).unwrap_err(),
        "it has too little cpu: the pod asks for 600m, 1500m of 2 are taken"
    );
    assert_eq!(
        check(&record, &asks("b", json!({ "memory": "2Gi" }))).unwrap_err(),
        "it has too little memory: the pod asks for 2Gi, 0 of 1Gi are taken"
    );
    assert_eq!(
        check(&record, &asks("b", json!({ "example.com/gpu": "1" }))).unwrap_err(),
        "it has too little example.com/gpu: the pod asks for 1, 1 of 1 are taken"
    );
    assert!(check(&record, &asks("b", json!({ "example.com/other": "1" }))).is_err(), "what is not there is 0");
    check(&record, &asks("b", json!({ "cpu": "500m", "memory": "1Gi" }))).unwrap();
    add(&mut record, &asks("b", json!({})));
    add(&mut record, &asks("c", json!({})));
    assert_eq!(
        check(&record, &asks("d", json!({}))).unwrap_err(),
        "it has too little pods: the pod asks for 1, 3 of 3 are taken"
    );
    // Who is there already needs room only for what grows.
    check(&record, &asks("a", json!({ "cpu": "2" }))).unwrap();
    assert!(check(&record, &asks("a", json!({ "cpu": "2001m" }))).is_err());
}

#[test]
fn ports_clash_by_protocol_and_address() {
    let node = node(json!({ "pods": "10" }));
    let port = |name: &str, port: Value| claim(name, json!({ "name": "c", "ports": [port] }));
    let mut record = Record::default();
    add(&mut record, &port("a", json!({ "hostPort": 80, "hostIP": "10.0.0.1", "protocol": "TCP" })));
    let check = |claim: &Claim| record.check(claim, &node.status.allocatable).map_err(|misfit| misfit.to_string());
    assert_eq!(
        check(&port("b", json!({ "hostPort": 80 }))).unwrap_err(),
        "its port 80/TCP on 0.0.0.0 is taken by pod default/a"
    );
    check(&port("b", json!({ "hostPort": 80, "hostIP": "10.0.0.2" }))).unwrap();
    check(&port("b", json!({ "hostPort": 80, "protocol": "UDP" }))).unwrap();
    check(&port("b", json!({ "containerPort": 80 }))).unwrap();
}

/// A pod that asks for a share of a GPU, and was told which one.
fn shares(name: &str, milli: i64, device: &str) -> Claim {
    let requests = json!({ "example.com/gpu-milli": milli });
    let told = json!({ "c": { "example.com/gpu": { device: milli } } });
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {
            "namespace": "default", "name": name, "uid": name,
            "annotations": { "longshore.dev/devices": told.to_string() },
        },
        "spec": { "nodeName": "n", "containers": [{ "name": "c", "resources": { "requests": requests } }] },
    }))
    .unwrap();
    Claim::of(&pod).unwrap()
}

#[test]
fn no_device_is_given_out_twice_whatever_the_sums_say() {
    let node = node(json!({ "pods": "10", "example.com/gpu-milli": "2000" }));
    let mut record = Record::default();
    let check = |record: &Record, claim: &Claim| {
        record.check(claim, &node.status.allocatable).map_err(|misfit| misfit.to_string())
    };
    add(&mut record, &shares("a", 600, "gpu-0"));
    check(&record, &shares("b", 400, "gpu-0")).unwrap();
    check(&record, &shares("b", 600, "gpu-1")).unwrap();
    assert_eq!(
        check(&record, &shares("b", 500, "gpu-0")).unwrap_err(),
        "of its example.com/gpu gpu-0 the pod was given 500 thousandths, 600 are taken"
    );
    check(&record, &shares("a", 600, "gpu-0")).unwrap();
    let stored: Record = serde_json::from_value(serde_json::to_value(&record).unwrap()).unwrap();
    assert_eq!(stored, record);
}

#[test]
fn pods_that_are_over_or_nowhere_claim_nothing() {
    let claims = |spec: Value, status: Value| {
        let pod: Pod = serde_json::from_value(json!({ "spec": spec, "status": status })).unwrap();
        Claim::of(&pod).is_some()
    };
    assert!(claims(json!({ "nodeName": "n" }), json!({})));
    assert!(!claims(json!({}), json!({})));
    assert!(!claims(json!({ "nodeName": "n" }), json!({ "phase": "Succeeded" })));
    assert!(!claims(json!({ "nodeName": "n" }), json!({ "phase": "Failed" })));
}

#[tokio::test]
async fn records_are_made_to_agree_with_the_pods() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let mut wrong = Record::default();
    add(&mut wrong, &asks("gone", json!({ "cpu": "1" })));
    let refused = asks("refused", json!({ "cpu": "9" }));
    wrong.pods.insert("refused".to_owned(), Entry::new(&refused, true));
    let transaction = Transaction::new()
        .put(format!("{PREFIX}n"), serde_json::to_vec(&wrong).unwrap())
        .put(format!("{PREFIX}empty"), serde_json::to_vec(&wrong).unwrap())
        .put(format!("{PREFIX}broken"), "{");
    store.commit(transaction).await.unwrap();
    let claims = [refused, asks("a", json!({ "cpu": "1" }))];
    let now = store.status().await.unwrap().revision;
    assert!(repair(&*store, now, claims.iter().cloned()).await.unwrap());
    let value = store.get(&format!("{PREFIX}n")).await.unwrap().value.unwrap().value;
    let record: Value = serde_json::from_slice(&value).unwrap();
    assert_eq!(
        record,
        json!({ "pods": {
            "a": { "pod": "default/a", "amounts": { "cpu": 1000 } },
            "refused": { "pod": "default/refused", "amounts": { "cpu": 9000 }, "uncharged": true },
        } })
    );
    for node in ["empty", "broken"] {
        assert!(store.get(&format!("{PREFIX}{node}")).await.unwrap().value.is_none());
    }
    let before = store.status().await.unwrap().revision;
    assert!(repair(&*store, before, claims.iter().cloned()).await.unwrap());
    assert_eq!(store.status().await.unwrap().revision, before, "what agrees is left alone");
    // A record that changed after the pods were read is not overwritten.
    store.commit(Transaction::new().put(format!("{PREFIX}n"), "{\"pods\":{}}")).await.unwrap();
    assert!(repair(&*store, before, claims.iter().cloned()).await.unwrap(), "as of then it did agree");
    assert!(!repair(&*store, before, std::iter::empty()).await.unwrap());
}
