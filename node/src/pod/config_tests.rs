use longshore_core::runtime::ImageId;
use serde_json::{Value, json};

use super::*;
use crate::testing::{pod, quantities};

fn image(user: &str) -> Image {
    Image { id: ImageId("sha256:1".into()), tags: vec![], digests: vec![], size: 1, user: user.into(), pinned: false }
}

fn config(spec: Value, user: &str) -> Result<ContainerConfig, String> {
    let pod = pod("a", spec);
    let (image, capacity) = (image(user), quantities(&[("memory", "1Gi")]));
    let env = Environment { variables: vec![("WHO".into(), "world".into())], skipped: vec![] };
    let resolved = Resolved {
        image: &image,
        env,
        mounts: vec![],
        attempt: 2,
        backoff: 20,
        capacity: &capacity,
        target: None,
        profiles: Path::new("/r/seccomp"),
    };
    container(&pod, &pod.spec.containers[0], resolved)
}

#[test]
fn the_spec_is_told_with_everything_resolved() {
    let config = config(
        json!({
            "securityContext": {"runAsUser": 7, "fsGroup": 9, "supplementalGroups": [8]},
            "containers": [{
                "name": "main", "image": "web", "command": ["echo", "hello $(WHO)"], "args": ["$(NOT)"],
                "resources": {"limits": {"cpu": "1500m", "memory": "64Mi"}, "requests": {"cpu": "250m", "memory": "512Mi"}},
                "securityContext": {
                    "runAsUser": 8, "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false,
                    "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
                },
                "lifecycle": {"stopSignal": "SIGINT"}, "terminationMessagePath": "/dev/termination-log",
            }],
        }),
        "",
    )
    .unwrap();
    assert_eq!((config.command, config.args), (vec!["echo".into(), "hello world".into()], vec!["$(NOT)".to_owned()]));
    assert_eq!((config.container.attempt, config.annotations[BACKOFF].as_str()), (2, "20"));
    let resources = config.resources;
    assert_eq!((resources.cpu_request_milli, resources.cpu_limit_milli), (250, Some(1500)));
    assert_eq!((resources.memory_limit, resources.oom_score_adj), (Some(64 << 20), 500));
    let security = config.security;
    assert_eq!((security.user, security.supplemental_groups), (Some(8), vec![8, 9]));
    assert!(security.read_only_root && security.no_new_privileges);
    assert_eq!(
        (security.add_capabilities, security.drop_capabilities),
        (vec!["NET_ADMIN".to_owned()], vec!["ALL".to_owned()])
    );
    assert_eq!(
        (config.stop_signal.as_str(), config.termination_message_path.as_str()),
        ("SIGINT", "/dev/termination-log")
    );
}

#[test]
fn root_is_refused_where_it_must_not_be() {
    let non_root = |user: Value| {
        let mut context = json!({"runAsNonRoot": true});
        if !user.is_null() {
            context["runAsUser"] = user;
        }
        json!({"securityContext": context})
    };
    assert!(config(non_root(json!(1000)), "").is_ok());
    assert!(config(non_root(Value::Null), "1000:1000").is_ok());
    let refused = |user: Value, of_image: &str| config(non_root(user), of_image).unwrap_err();
    assert!(refused(Value::Null, "").starts_with("container has runAsNonRoot and image will run as root (pod: "));
    assert!(refused(Value::Null, "nginx").contains("image has non-numeric user (nginx)"));
    assert!(refused(json!(0), "1000").starts_with("container's runAsUser breaks non-root policy"));
}

#[test]
fn a_sandbox_is_limited_only_where_every_container_is() {
    let options = Options::new("n1", "/r", 3);
    let limits = |limits: Value| json!({"name": "a", "image": "i", "resources": {"limits": limits}});
    let both =
        pod("a", json!({"containers": [limits(json!({"cpu": "1", "memory": "1Mi"})), limits(json!({"cpu": "1"}))]}));
    let config = sandbox(&both, &options, &quantities(&[])).unwrap();
    assert_eq!((config.resources.cpu_limit_milli, config.resources.memory_limit), (Some(2000), None));
    assert_eq!(config.annotations[GRACE_PERIOD], "30");
    assert_eq!(config.log_directory, std::path::Path::new("/r/logs/ns_a_"));
}

#[test]
fn host_names_fit() {
    let mut long = pod(&"x".repeat(80), json!({}));
    assert_eq!(hostname(&long, "n1").len(), 63);
    long.spec.hostname = "db-0".into();
    assert_eq!(hostname(&long, "n1"), "db-0");
    long.spec.host_network = true;
    assert_eq!(hostname(&long, "n1"), "n1");
    let name = format!("{}-z", "x".repeat(62));
    assert_eq!(hostname(&pod(&name, json!({})), "n1"), "x".repeat(62));
}

#[test]
fn ports_of_the_node_are_found() {
    let ports =
        json!([{"containerPort": 80}, {"containerPort": 53, "hostPort": 5353, "protocol": "UDP", "hostIP": "0.0.0.0"}]);
    let found = host_ports(&pod("a", json!({"containers": [{"name": "a", "image": "i", "ports": ports}]})));
    let expected = HostPort { protocol: Protocol::Udp, host_ip: None, host_port: 5353, container_port: 53 };
    assert_eq!(found, [expected]);
}

#[test]
fn the_kernel_knows_the_whole_name_where_it_is_asked_for() {
    let options = Options::new("n1", "/r", 3);
    let name = |spec: Value| kernel_hostname(&pod("a", spec), &options);
    assert_eq!(name(json!({"subdomain": "db", "setHostnameAsFQDN": true})).unwrap(), "a.db.ns.svc.cluster.local");
    assert_eq!(name(json!({"subdomain": "db"})).unwrap(), "a");
    assert_eq!(name(json!({"setHostnameAsFQDN": true})).unwrap(), "a", "without a subdomain it has no other name");
    let why = name(json!({"subdomain": "d".repeat(50), "setHostnameAsFQDN": true})).unwrap_err();
    assert!(why.ends_with("is too long (64 characters is the max, 73 characters requested)"), "{why}");
}

#[test]
fn filters_groups_and_proc_are_as_the_pod_or_else_the_container_says() {
    let security = |of_pod: Value, own: Value| {
        let containers = json!([{"name": "main", "image": "web", "securityContext": own}]);
        config(json!({"securityContext": of_pod, "containers": containers}), "").unwrap().security
    };
    let default = json!({"seccompProfile": {"type": "RuntimeDefault"}});
    let own = json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "web/strict.json"}});
    assert_eq!(security(json!({}), json!({})).seccomp, Seccomp::Unconfined);
    assert_eq!(security(default.clone(), json!({})).seccomp, Seccomp::RuntimeDefault);
    let local = security(default, own).seccomp;
    assert_eq!(local, Seccomp::Localhost("/r/seccomp/web/strict.json".into()));
    let found = security(json!({"supplementalGroupsPolicy": "Strict"}), json!({"procMount": "Unmasked"}));
    assert!(found.strict_groups && found.unmasked_proc);
    let found = security(json!({"supplementalGroupsPolicy": "Merge"}), json!({"procMount": "Default"}));
    assert!(!found.strict_groups && !found.unmasked_proc);
}
