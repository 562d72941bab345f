use std::sync::Arc;

use longshore_core::api::pod::Container;
use longshore_core::api::{ConfigMap, Secret};
use longshore_core::client::params::PostParams;
use serde_json::{Value, json};

use super::*;
use crate::testing::{World, pod, quantities};

async fn environment_of(container: Value) -> Result<Environment, Missing> {
    environment_in(std::path::Path::new("/nowhere"), container).await
}

async fn environment_in(directory: &std::path::Path, container: Value) -> Result<Environment, Missing> {
    let world = World::new();
    let map = json!({"metadata": {"name": "map"}, "data": {"a": "1", "with space": "2", "b=c": "3"}});
    let secret = json!({"metadata": {"name": "secret"}, "data": {"key": "c2VjcmV0"}});
    let params = PostParams::default();
    world.api::<ConfigMap>().create(serde_json::from_value(map).unwrap(), &params).await.unwrap();
    world.api::<Secret>().create(serde_json::from_value(secret).unwrap(), &params).await.unwrap();
    let container: Container = serde_json::from_value(container).unwrap();
    let mut pod = pod("p", json!({"serviceAccountName": "robot", "containers": [container]}));
    pod.metadata.labels = Some([("app".to_owned(), "web".to_owned())].into());
    let (host_ips, pod_ips) = (vec!["1.1.1.1".into()], vec!["2.2.2.2".into(), "::2".into()]);
    let place = Place { host_ips, pod_ips, directory: Some(directory.to_owned()) };
    let mut sources = Sources::new(Arc::new(world.server.clone()), "ns");
    let services = [("DB_SERVICE_HOST".to_owned(), "10.96.0.9".to_owned())].into();
    let allocatable = quantities(&[("cpu", "4"), ("memory", "1Gi")]);
    environment(&pod, &container, &mut sources, &place, &allocatable, &services).await
}

#[tokio::test]
async fn variables_come_from_everywhere() {
    let env = environment_of(json!({
        "name": "main",
        "resources": {"limits": {"cpu": "1500m"}},
        "envFrom": [
            {"prefix": "M_", "configMapRef": {"name": "map"}},
            {"secretRef": {"name": "absent", "optional": true}},
        ],
        "env": [
            {"name": "PLAIN", "value": "x"},
            {"name": "FIRST", "value": "$(PLAIN)-$(M_a)-$(LATER)-$(DB_SERVICE_HOST)"},
            {"name": "LATER", "value": "y"},
            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {"name": "IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}},
            {"name": "HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}},
            {"name": "ACCOUNT", "valueFrom": {"fieldRef": {"fieldPath": "spec.serviceAccountName"}}},
            {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
            {"name": "MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
            {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "secret", "key": "key"}}},
            {"name": "NONE", "valueFrom": {"configMapKeyRef": {"name": "map", "key": "no", "optional": true}}},
        ],
    }))
    .await
    .unwrap();
    let of = |name: &str| env.get(name).unwrap_or("(unset)");
    for (name, expected) in [
        ("M_a", "1"),
        ("M_with space", "2"),
        ("FIRST", "x-1-$(LATER)-10.96.0.9"),
        ("NAME", "p"),
        ("APP", "web"),
        ("IPS", "2.2.2.2,::2"),
        ("HOST", "1.1.1.1"),
        ("ACCOUNT", "robot"),
        ("CPU", "2"),
        ("MEMORY", "1024"),
        ("SECRET", "secret"),
        ("NONE", "(unset)"),
        ("DB_SERVICE_HOST", "10.96.0.9"),
    ] {
        assert_eq!(of(name), expected, "{name}");
    }
    assert_eq!(env.skipped, ["M_b=c"]);
    assert_eq!(env.expand("$(NAME)/$(NO)"), "p/$(NO)");
}

#[tokio::test]
async fn what_is_missing_is_named_in_upstreams_words() {
    for (env, expected) in [
        (
            json!([{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "no", "key": "k"}}}]),
            "configmap \"no\" not found",
        ),
        (
            json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": "secret", "key": "k"}}}]),
            "couldn't find key k in Secret ns/secret",
        ),
        (
            json!([{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "map", "key": "k"}}}]),
            "couldn't find key k in ConfigMap ns/map",
        ),
    ] {
        let missing = environment_of(json!({"name": "main", "env": env})).await.unwrap_err();
        assert_eq!(missing.message, expected);
    }
    let from = json!({"name": "main", "envFrom": [{"secretRef": {"name": "no"}}]});
    assert_eq!(environment_of(from).await.unwrap_err().message, "secret \"no\" not found");
}

#[test]
fn services_are_told_of_as_docker_links_were() {
    let service = |namespace: &str, name: &str, spec: Value| -> Service {
        serde_json::from_value(json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec})).unwrap()
    };
    let services = [
        service(
            "default",
            "kubernetes",
            json!({"clusterIP": "10.96.0.1", "ports": [{"name": "https", "port": 443, "protocol": "TCP"}]}),
        ),
        service(
            "ns",
            "my-db",
            json!({"clusterIP": "10.96.0.2", "ports": [{"port": 5432}, {"name": "x", "port": 53, "protocol": "UDP"}]}),
        ),
        service("ns", "headless", json!({"clusterIP": "None", "ports": [{"port": 1}]})),
        service("other", "far", json!({"clusterIP": "10.96.0.3", "ports": [{"port": 1}]})),
    ];
    let all = service_variables(&services, "ns", true);
    let text: Vec<String> = all.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let expected = "KUBERNETES_PORT=tcp://10.96.0.1:443
KUBERNETES_PORT_443_TCP=tcp://10.96.0.1:443
KUBERNETES_PORT_443_TCP_ADDR=10.96.0.1
KUBERNETES_PORT_443_TCP_PORT=443
KUBERNETES_PORT_443_TCP_PROTO=tcp
KUBERNETES_SERVICE_HOST=10.96.0.1
KUBERNETES_SERVICE_PORT=443
KUBERNETES_SERVICE_PORT_HTTPS=443
MY_DB_PORT=tcp://10.96.0.2:5432
MY_DB_PORT_53_UDP=udp://10.96.0.2:53
MY_DB_PORT_53_UDP_ADDR=10.96.0.2
MY_DB_PORT_53_UDP_PORT=53
MY_DB_PORT_53_UDP_PROTO=udp
MY_DB_PORT_5432_TCP=tcp://10.96.0.2:5432
MY_DB_PORT_5432_TCP_ADDR=10.96.0.2
MY_DB_PORT_5432_TCP_PORT=5432
MY_DB_PORT_5432_TCP_PROTO=tcp
MY_DB_SERVICE_HOST=10.96.0.2
MY_DB_SERVICE_PORT=5432
MY_DB_SERVICE_PORT_X=53";
    assert_eq!(text.join("\n"), expected);
    assert_eq!(service_variables(&services, "ns", false).len(), 8);
}

#[tokio::test]
async fn variables_come_from_files_that_containers_wrote_and_nothing_else_does() {
    let pod = tempfile::tempdir().unwrap();
    let volume = pod.path().join("volumes/config");
    std::fs::create_dir_all(&volume).unwrap();
    std::fs::write(pod.path().join("secret"), "A='of the node'").unwrap();
    std::fs::write(volume.join("file"), "A='one'\nLONG='".to_owned() + &"x".repeat(40_000) + "'\nwrong").unwrap();
    std::os::unix::fs::symlink("../../secret", volume.join("link")).unwrap();
    nix::unistd::mkfifo(&volume.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let read = async |path: &str, key: &str, optional: bool| {
        let from = json!({"volumeName": "config", "path": path, "key": key, "optional": optional});
        let env = json!([{"name": "V", "valueFrom": {"fileKeyRef": from}}]);
        let env = environment_in(pod.path(), json!({"name": "main", "env": env})).await;
        env.map(|env| env.get("V").map(str::to_owned)).map_err(|missing| missing.message)
    };
    assert_eq!(read("file", "A", false).await, Ok(Some("one".to_owned())));
    assert_eq!(read("absent", "A", true).await, Ok(None));
    let missing = "couldn't parse env file: \"absent\" in volume \"config\": No such file or directory (os error 2)";
    assert_eq!(read("absent", "A", false).await, Err(missing.to_owned()));
    for (path, key, expected) in [
        ("file", "B", "in volume \"config\": invalid environment variable format at line 3"),
        ("file", "LONG", "environment variable value for key \"LONG\" exceeds maximum size of 32KB"),
        ("link", "A", "couldn't parse env file: "),
        ("pipe", "A", "it is no regular file"),
        (".", "A", "it is no regular file"),
    ] {
        let error = read(path, key, true).await.unwrap_err();
        assert!(error.contains(expected), "{path} {key}: {error}");
    }
    std::fs::write(volume.join("file"), "A='one'").unwrap();
    assert_eq!(read("file", "B", true).await, Ok(None));
    let missing = "environment variable key \"B\" not found in file \"file\"";
    assert_eq!(read("file", "B", false).await, Err(missing.to_owned()));
}
