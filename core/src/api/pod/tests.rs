use serde_json::json;

use super::*;

fn pod(value: Value) -> Pod {
    serde_json::from_value(value).unwrap()
}

#[test]
fn what_is_left_out_is_filled() {
    let mut pod = pod(json!({
        "metadata": { "name": "p", "namespace": "ns" },
        "spec": { "hostNetwork": true, "volumes": [{ "name": "v" }], "containers": [{
            "name": "c", "image": "registry:5000/web", "ports": [{ "containerPort": 80 }],
            "livenessProbe": { "httpGet": { "port": "http" } },
            "resources": { "limits": { "cpu": "100u" } },
        }] },
    }));
    Kind::set_defaults(&mut pod);
    let once = pod.clone();
    Kind::set_defaults(&mut pod);
    assert_eq!(pod, once, "defaulting twice changes nothing");
    let value = serde_json::to_value(&pod.spec).unwrap();
    assert_eq!(
        value,
        json!({
            "containers": [{
                "name": "c", "image": "registry:5000/web", "imagePullPolicy": "Always",
                "ports": [{ "containerPort": 80, "hostPort": 80, "protocol": "TCP" }],
                "livenessProbe": {
                    "httpGet": { "path": "/", "port": "http", "scheme": "HTTP" },
                    "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
                },
                "resources": { "limits": { "cpu": "1m" }, "requests": { "cpu": "1m" } },
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            }],
            "volumes": [{ "name": "v", "emptyDir": {} }],
            "dnsPolicy": "ClusterFirst", "enableServiceLinks": true, "hostNetwork": true, "restartPolicy": "Always",
            "schedulerName": "default-scheduler", "securityContext": {}, "terminationGracePeriodSeconds": 30,
        })
    );
}

#[test]
fn the_class_follows_from_the_resources() {
    let class = |resources: Value| {
        qos_class(&pod(json!({ "spec": { "containers": [{ "name": "c", "resources": resources }] } })).spec)
    };
    assert_eq!(class(json!({})), PodQosClass::BestEffort);
    assert_eq!(class(json!({ "requests": { "cpu": "1" } })), PodQosClass::Burstable);
    let both = json!({ "cpu": "1", "memory": "1Gi" });
    assert_eq!(class(json!({ "requests": both, "limits": both })), PodQosClass::Guaranteed);
}

#[test]
fn a_status_update_touches_nothing_else() {
    let old = pod(json!({ "metadata": { "name": "p", "generation": 3 }, "spec": { "nodeName": "n" } }));
    let mut new = pod(json!({
        "metadata": { "name": "p" }, "spec": { "nodeName": "m" }, "status": { "phase": "Running" },
    }));
    Kind::prepare_for_update(&mut new, &old, Some(Subresource::Status));
    assert_eq!((new.spec.node_name.as_str(), &new.status.phase), ("n", &PodPhase::Running));
    assert_eq!(new.metadata.generation, Some(3));
}

#[test]
fn the_table_says_what_holds_a_pod_up() {
    let now: Timestamp = "2025-01-01T00:10:00Z".parse().unwrap();
    let cells = |value: Value| {
        let row = Kind::row(&pod(value), now);
        format!("{} {} {}", row[1].as_str().unwrap(), row[2].as_str().unwrap(), row[3].as_str().unwrap())
    };
    let spec = json!({ "initContainers": [{ "name": "i" }], "containers": [{ "name": "c" }] });
    let status = |status: Value| cells(json!({ "metadata": { "name": "p" }, "spec": spec, "status": status }));
    assert_eq!(
        status(json!({ "phase": "Pending", "initContainerStatuses": [{ "name": "i", "state": { "running": {} } }] })),
        "0/1 Init:0/1 0"
    );
    let ended = json!({ "terminated": { "exitCode": 0, "reason": "Completed" } });
    let crash = json!({
        "phase": "Running",
        "initContainerStatuses": [{ "name": "i", "state": ended }],
        "containerStatuses": [{
            "name": "c", "restartCount": 2, "state": { "waiting": { "reason": "CrashLoopBackOff" } },
            "lastState": { "terminated": { "exitCode": 1, "finishedAt": "2025-01-01T00:09:00Z" } },
        }],
    });
    assert_eq!(status(crash), "0/1 CrashLoopBackOff 2 (60s ago)");
    let running = json!({
        "phase": "Running",
        "initContainerStatuses": [{ "name": "i", "state": ended }],
        "containerStatuses": [{ "name": "c", "ready": true, "state": { "running": {} } }],
    });
    assert_eq!(status(running), "1/1 Running 0");
}

#[test]
fn a_pod_stays_small() {
    // Hundreds of thousands of pods are held decoded; what is rare is boxed.
    assert!(size_of::<Container>() <= 720, "{}", size_of::<Container>());
    assert!(size_of::<Volume>() <= 280, "{}", size_of::<Volume>());
}
