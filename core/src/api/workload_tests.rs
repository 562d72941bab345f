//! Defaults, write rules and cells of the workload kinds.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kind::{AnyObject, Subresource};

fn object(api_version: &str, kind: &str, value: Value) -> Box<dyn AnyObject> {
    (super::find(api_version, kind).unwrap().from_value)(value).unwrap()
}

fn check_defaults(api_version: &str, kind: &str, spec: Value, expected: Value) {
    let mut object = object(api_version, kind, json!({ "spec": spec }));
    object.set_defaults();
    let mut found = object.to_value()["spec"].take();
    found.as_object_mut().unwrap().retain(|key, _| key != "template");
    assert_eq!(found, expected, "{kind}");
    let once = object.to_value();
    object.set_defaults();
    assert_eq!(object.to_value(), once, "{kind}: defaults are not idempotent");
}

#[test]
fn defaults() {
    check_defaults("apps/v1", "ReplicaSet", json!({}), json!({ "replicas": 1, "selector": null }));
    check_defaults(
        "apps/v1",
        "Deployment",
        json!({}),
        json!({ "replicas": 1, "selector": null, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600,
                "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": "25%", "maxUnavailable": "25%" } } }),
    );
    check_defaults(
        "apps/v1",
        "Deployment",
        json!({ "replicas": 0, "strategy": { "type": "Recreate" } }),
        json!({ "replicas": 0, "selector": null, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600,
                "strategy": { "type": "Recreate" } }),
    );
    check_defaults(
        "apps/v1",
        "DaemonSet",
        json!({}),
        json!({ "selector": null, "revisionHistoryLimit": 10,
                "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 0, "maxUnavailable": 1 } } }),
    );
    check_defaults(
        "apps/v1",
        "StatefulSet",
        json!({ "serviceName": "db" }),
        json!({ "replicas": 1, "selector": null, "serviceName": "db", "podManagementPolicy": "OrderedReady",
                "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "partition": 0 } },
                "persistentVolumeClaimRetentionPolicy": { "whenDeleted": "Retain", "whenScaled": "Retain" },
                "revisionHistoryLimit": 10 }),
    );
    let job = json!({ "parallelism": 1, "completions": 1, "backoffLimit": 6, "completionMode": "NonIndexed",
                      "suspend": false, "manualSelector": false, "podReplacementPolicy": "TerminatingOrFailed" });
    check_defaults("batch/v1", "Job", json!({}), job.clone());
    let mut parallel = job;
    parallel["parallelism"] = 3.into();
    parallel.as_object_mut().unwrap().remove("completions");
    check_defaults("batch/v1", "Job", json!({ "parallelism": 3 }), parallel);
}

#[test]
fn generation_follows_the_spec_and_status_is_kept_apart() {
    for kind in ["ReplicaSet", "Deployment", "DaemonSet", "StatefulSet"] {
        let mut old = object("apps/v1", kind, json!({ "status": { "observedGeneration": 9 } }));
        old.prepare_for_create();
        assert_eq!(old.meta().generation, Some(1), "{kind}");
        assert_eq!(old.to_value()["status"].get("observedGeneration"), None, "{kind}");

        let change = json!({ "spec": { "minReadySeconds": 5 }, "status": { "observedGeneration": 1 } });
        let mut new = object("apps/v1", kind, change.clone());
        new.prepare_for_update(&*old, None);
        assert_eq!(new.meta().generation, Some(2), "{kind}");
        assert_eq!(new.to_value()["spec"]["minReadySeconds"], 5, "{kind}");
        assert_eq!(new.to_value()["status"].get("observedGeneration"), None, "{kind}");

        let mut new = object("apps/v1", kind, change);
        new.prepare_for_update(&*old, Some(Subresource::Status));
        assert_eq!(new.meta().generation, Some(1), "{kind}");
        assert_eq!(new.to_value()["spec"].get("minReadySeconds"), None, "{kind}");
        assert_eq!(new.to_value()["status"]["observedGeneration"], 1, "{kind}");
    }
}

#[test]
fn a_job_selects_its_pods_by_uid() {
    let mut job = object("batch/v1", "Job", json!({ "metadata": { "name": "j", "uid": "u" } }));
    job.prepare_for_create();
    let value = job.to_value();
    assert_eq!(value["spec"]["selector"], json!({ "matchLabels": { "batch.kubernetes.io/controller-uid": "u" } }));
    assert_eq!(value["spec"]["template"]["metadata"]["labels"]["job-name"], "j");
}

#[test]
fn cells() {
    let row = |api_version, kind, value| Value::from(object(api_version, kind, value).row(Timestamp::UNIX_EPOCH));
    let template = json!({ "spec": { "containers": [{ "name": "a", "image": "x" }, { "name": "b", "image": "y" }] } });
    let selector = json!({ "matchLabels": { "b": "1" }, "matchExpressions": [
        { "key": "a", "operator": "In", "values": ["z", "y"] }, { "key": "c", "operator": "DoesNotExist" }] });
    assert_eq!(
        row(
            "apps/v1",
            "Deployment",
            json!({ "metadata": { "name": "web" }, "status": { "readyReplicas": 2 },
            "spec": { "replicas": 3, "template": template, "selector": selector } })
        ),
        json!(["web", "2/3", 0, 0, "<unknown>", "a,b", "x,y", "a in (y,z),b=1,!c"])
    );
    assert_eq!(
        row(
            "batch/v1",
            "Job",
            json!({ "spec": { "parallelism": 2, "template": template },
            "status": { "succeeded": 1, "startTime": "1969-12-31T23:59:00Z" } })
        ),
        json!(["", "Running", "1/1 of 2", "60s", "<unknown>", "a,b", "x,y", "<none>"])
    );
}
