//! The built-in rules, through the registry.

use std::sync::Arc;
use std::time::Duration;

use longshore_core::api::persistent_volume_claim::PersistentVolumeClaimPhase;
use longshore_core::api::{
    Namespace, PersistentVolume, PersistentVolumeClaim, Pod, PriorityClass, ServiceAccount, StorageClass,
};
use longshore_core::client::params::{DeleteParams, PostParams};
use longshore_core::client::{Api, Client, Error, Target};
use longshore_core::clock::VirtualClock;
use longshore_core::kind::{AnyObject, Kind, KindType};
use longshore_core::store::MemoryStore;
use serde_json::{Value, json};

use super::unsupported::{FIELDS, Field, table};
use super::{Unsupported, built_in};
use crate::token::{SigningKey, TokenIssuer};
use crate::{LocalClient, Options, Registry, Warnings};

async fn registry_with(unsupported: Unsupported) -> (Arc<Registry>, VirtualClock) {
    let clock = VirtualClock::new();
    let mut options = Options::new(1);
    options.admission = built_in(unsupported);
    let store = Arc::new(MemoryStore::new());
    (Registry::start(store, Arc::new(clock.clone()), options).await.unwrap(), clock)
}

async fn registry() -> Arc<Registry> {
    registry_with(Unsupported::Refuse).await.0
}

fn client(registry: &Arc<Registry>) -> Arc<dyn Client> {
    Arc::new(LocalClient::new(Arc::clone(registry), "test"))
}

fn read<K: Kind>(mut value: Value) -> Box<dyn AnyObject> {
    if K::INFO.namespaced && value["metadata"]["namespace"].is_null() {
        value["metadata"]["namespace"] = "default".into();
    }
    Box::new(serde_json::from_value::<K>(value).unwrap())
}

fn pod(name: &str, spec: Value) -> Box<dyn AnyObject> {
    let mut all = json!({ "containers": [{ "name": "c", "image": "i" }] });
    all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    read::<Pod>(json!({ "metadata": { "name": name }, "spec": all }))
}

async fn create(registry: &Registry, object: Box<dyn AnyObject>) -> Result<(Value, Warnings), Error> {
    let (object, warnings) = registry.create(object, &PostParams::default()).await?;
    Ok((object.to_value(), warnings))
}

#[tokio::test]
async fn namespaces_that_a_cluster_needs_stay() {
    let registry = registry().await;
    let kind = KindType::of::<Namespace>();
    for name in ["default", "kube-system", "kube-public"] {
        let target = Target { kind, namespace: "", name };
        let error = registry.delete(target, &DeleteParams::default()).await.unwrap_err();
        assert_eq!(error.code(), 403);
        assert_eq!(error.to_string(), format!("namespaces {name:?} is forbidden: this namespace may not be deleted"));
    }
}

#[tokio::test]
async fn a_pod_has_an_account_that_exists_and_gets_its_pull_secrets() {
    let (registry, clock) = registry_with(Unsupported::Refuse).await;
    let (created, _) = create(&registry, pod("a", json!({}))).await.unwrap();
    assert_eq!(created["spec"]["serviceAccountName"], "default");
    assert_eq!(created["spec"]["serviceAccount"], "default");
    let error = create(&registry, pod("b", json!({ "serviceAccountName": "robot" }))).await.unwrap_err();
    assert_eq!(error.code(), 403);
    assert_eq!(
        error.to_string(),
        "pods \"b\" is forbidden: error looking up service account default/robot: serviceaccount \"robot\" not found"
    );
    let robot = json!({ "metadata": { "name": "robot" }, "imagePullSecrets": [{ "name": "key" }] });
    create(&registry, read::<ServiceAccount>(robot)).await.unwrap();
    let (created, _) = create(&registry, pod("b", json!({ "serviceAccountName": "robot" }))).await.unwrap();
    assert_eq!(created["spec"]["imagePullSecrets"], json!([{ "name": "key" }]));
    let own = json!({ "serviceAccountName": "robot", "imagePullSecrets": [{ "name": "own" }] });
    let (created, _) = create(&registry, pod("c", own)).await.unwrap();
    assert_eq!(created["spec"]["imagePullSecrets"], json!([{ "name": "own" }]));

    // In a new namespace the default account comes a moment later.
    create(&registry, read::<Namespace>(json!({ "metadata": { "name": "new" } }))).await.unwrap();
    let inside = || {
        let mut pod = pod("a", json!({}));
        pod.meta_mut().namespace = Some("new".to_owned());
        pod
    };
    let waiting = create(&registry, inside());
    let account = async {
        let account = json!({ "metadata": { "name": "default", "namespace": "new" } });
        create(&registry, read::<ServiceAccount>(account)).await.unwrap();
    };
    let (created, ()) = tokio::join!(waiting, account);
    assert_eq!(created.unwrap().0["spec"]["serviceAccountName"], "default");
    // But not for ever.
    create(&registry, read::<Namespace>(json!({ "metadata": { "name": "bare" } }))).await.unwrap();
    let mut lost = inside();
    lost.meta_mut().namespace = Some("bare".to_owned());
    let passing = async {
        loop {
            tokio::task::yield_now().await;
            clock.advance_to_next();
        }
    };
    tokio::select! {
        created = create(&registry, lost) => assert_eq!(created.unwrap_err().code(), 403),
        () = passing => unreachable!("time passes without end"),
    }
}

#[tokio::test]
async fn a_class_becomes_a_priority() {
    let registry = registry().await;
    let spec = async |name: &str, spec: Value| {
        let (created, _) = create(&registry, pod(name, spec)).await?;
        let of = |field: &str| created["spec"][field].clone();
        Ok::<_, Error>(json!([of("priorityClassName"), of("priority"), of("preemptionPolicy")]))
    };
    assert_eq!(spec("a", json!({})).await.unwrap(), json!([null, 0, "PreemptLowerPriority"]));
    assert_eq!(
        spec("b", json!({ "priorityClassName": "system-node-critical" })).await.unwrap(),
        json!(["system-node-critical", 2_000_001_000, "PreemptLowerPriority"])
    );
    let class = |name: &str, value: i32| {
        let meta = json!({ "name": name });
        let class = json!({ "metadata": meta, "value": value, "globalDefault": true, "preemptionPolicy": "Never" });
        read::<PriorityClass>(class)
    };
    create(&registry, class("usual", 7)).await.unwrap();
    assert_eq!(
        create(&registry, class("other", 8)).await.unwrap_err().to_string(),
        "priorityclasses.scheduling.k8s.io \"other\" is forbidden: PriorityClass usual is already marked as default. Only \
         one default can exist"
    );
    assert_eq!(spec("c", json!({})).await.unwrap(), json!(["usual", 7, "Never"]));
    for (given, expected) in [
        (json!({ "priorityClassName": "none" }), "no PriorityClass with name none was found"),
        (
            json!({ "priority": 9 }),
            "the integer value of priority (9) must not be provided in pod spec; priority admission controller computed 7 \
             from the given PriorityClass name",
        ),
        (
            json!({ "preemptionPolicy": "PreemptLowerPriority" }),
            "the string value of PreemptionPolicy (PreemptLowerPriority) must not be provided in pod spec; priority \
             admission controller computed Never from the given PriorityClass name",
        ),
    ] {
        let error = spec("d", given).await.unwrap_err();
        assert_eq!(error.to_string(), format!("pods \"d\" is forbidden: {expected}"));
    }
}

#[tokio::test]
async fn a_pod_tolerates_a_failing_node_for_a_while() {
    let registry = registry().await;
    let taints = async |name: &str, spec: Value| {
        let (created, _) = create(&registry, pod(name, spec)).await.unwrap();
        let tolerations = created["spec"]["tolerations"].as_array().unwrap().clone();
        tolerations.iter().map(|of| json!([of["key"], of["tolerationSeconds"]])).collect::<Value>()
    };
    let (not_ready, unreachable) = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable");
    assert_eq!(taints("a", json!({})).await, json!([[not_ready, 300], [unreachable, 300]]));
    let own = json!({ "tolerations": [{
        "key": not_ready, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5,
    }] });
    assert_eq!(taints("b", own).await, json!([[not_ready, 5], [unreachable, 300]]));
    assert_eq!(taints("c", json!({ "tolerations": [{ "operator": "Exists" }] })).await, json!([[null, null]]));
}

#[tokio::test]
async fn fields_that_nothing_acts_on_are_refused_or_warned_about() {
    let registry = registry().await;
    let csi = json!({ "name": "v", "csi": { "driver": "d" } });
    let error = create(&registry, pod("a", json!({ "hostUsers": false, "volumes": [csi] }))).await.unwrap_err();
    assert_eq!(error.code(), 403);
    assert_eq!(
        error.to_string(),
        "pods \"a\" is forbidden: spec.hostUsers \"false\" is not supported: pods have no user namespaces of their own yet; \
         spec.volumes[0].csi is not supported: volumes are emptyDir, hostPath, nfs, claims, configMap, secret, downwardAPI and projected \
         from the last three and tokens"
    );
    let Error::Api(status) = error else { panic!("the server refused") };
    let causes: Vec<_> = status.details.unwrap().causes.into_iter().map(|cause| cause.field).collect();
    assert_eq!(causes, ["spec.hostUsers", "spec.volumes[0].csi"]);
    let windows = json!({ "securityContext": { "windowsOptions": { "runAsUserName": "u" } } });
    let (_, warnings) = create(&registry, pod("b", windows)).await.unwrap();
    assert_eq!(warnings, ["spec.securityContext.windowsOptions is not supported: nodes run Linux"]);

    // A template is only warned about: what is made from it will be refused.
    let deployment = json!({
        "metadata": { "name": "d" },
        "spec": {
            "selector": { "matchLabels": { "app": "d" } },
            "template": {
                "metadata": { "labels": { "app": "d" } },
                "spec": { "hostUsers": false, "containers": [{ "name": "c", "image": "i" }] },
            },
        },
    });
    let (_, warnings) = create(&registry, read::<longshore_core::api::Deployment>(deployment)).await.unwrap();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].starts_with("spec.template.spec.hostUsers \"false\" is not supported"), "{warnings:?}");

    let (lenient, _) = registry_with(Unsupported::Warn).await;
    let (_, warnings) = create(&lenient, pod("a", json!({ "hostUsers": false }))).await.unwrap();
    assert_eq!(warnings.len(), 1);
    // What is there already is not complained about again.
    let pods = Api::<Pod>::namespaced(client(&lenient), "default");
    let mut pod = Pod::clone(&*pods.get("a").await.unwrap());
    pod.metadata.labels.get_or_insert_default().insert("a".into(), "b".into());
    let (_, warnings) = lenient.update(Box::new(pod), None, &PostParams::default()).await.unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
}

/// Every path of the list must exist, or a slip of the pen would let through what should be refused.
#[test]
fn every_listed_field_exists_in_its_kinds_schema() {
    for field in FIELDS {
        let kind = longshore_core::api::kinds().iter().find(|kind| kind.info.kind == field.kind).unwrap();
        let schema = serde_json::to_value((kind.schema)()).unwrap();
        assert!(exists(&schema, field), "{} has no {}", field.kind, field.path);
    }
    let printed = include_str!("../../../docs/unsupported-fields.md");
    let table = table();
    assert!(printed.ends_with(&table), "docs/unsupported-fields.md is to end with:\n{table}");
}

fn exists(root: &Value, field: &Field) -> bool {
    let mut at = resolve(root, root);
    for segment in field.path.replace("{containers}", "containers[*]").split('.') {
        let name = segment.trim_end_matches("[*]");
        let Some(property) = at["properties"].get(name) else { return false };
        at = resolve(root, property);
        if segment.ends_with("[*]") {
            at = resolve(root, &at["items"]);
        }
    }
    true
}

/// Follows references, and looks through what makes a field optional.
fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    if let Some(reference) = schema["$ref"].as_str() {
        return resolve(root, root.pointer(reference.trim_start_matches('#')).unwrap());
    }
    match schema["anyOf"].as_array().or_else(|| schema["allOf"].as_array()) {
        Some(choices) => resolve(root, &choices[0]),
        None => schema,
    }
}

fn claim(name: &str, size: &str) -> Box<dyn AnyObject> {
    let spec = json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": size } } });
    read::<PersistentVolumeClaim>(json!({ "metadata": { "name": name }, "spec": spec }))
}

#[tokio::test]
async fn claims_get_the_default_class_and_stay_while_they_are_used() {
    let (registry, clock) = registry_with(Unsupported::Refuse).await;
    let (made, _) = create(&registry, claim("a", "1Gi")).await.unwrap();
    assert_eq!(made["spec"]["storageClassName"], "local-path");
    assert_eq!(made["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
    let mut own = claim("b", "1Gi");
    own.as_any_mut().downcast_mut::<PersistentVolumeClaim>().unwrap().spec.storage_class_name = Some(String::new());
    assert_eq!(create(&registry, own).await.unwrap().0["spec"]["storageClassName"], "");

    // Of several the newest wins, which is the one that a user marks.
    clock.advance(Duration::from_secs(1));
    let marked = json!({ "storageclass.kubernetes.io/is-default-class": "true" });
    let class = json!({ "metadata": { "name": "fast", "annotations": marked }, "provisioner": "x.io/y" });
    create(&registry, read::<StorageClass>(class)).await.unwrap();
    let (made, _) = create(&registry, claim("c", "1Gi")).await.unwrap();
    assert_eq!(made["spec"]["storageClassName"], "fast");
    let volume = json!({ "metadata": { "name": "v" }, "spec": {
        "capacity": { "storage": "1Gi" }, "accessModes": ["ReadWriteOnce"], "hostPath": { "path": "/data" },
    } });
    let (made, _) = create(&registry, read::<PersistentVolume>(volume)).await.unwrap();
    assert_eq!(made["metadata"]["finalizers"], json!(["kubernetes.io/pv-protection"]));
}

#[tokio::test]
async fn claims_grow_only_where_their_class_allows_it() {
    let registry = registry().await;
    let api = Api::<PersistentVolumeClaim>::namespaced(client(&registry), "default");
    create(&registry, claim("a", "1Gi")).await.unwrap();
    let grow = |claim: &PersistentVolumeClaim| {
        let mut claim = claim.clone();
        claim.spec.resources.requests = [("storage".to_owned(), "2Gi".parse().unwrap())].into();
        claim
    };
    let made = api.get("a").await.unwrap();
    let error = api.update(grow(&made), &PostParams::default()).await.unwrap_err();
    assert_eq!((error.code(), error.to_string().contains("spec is immutable")), (422, true), "{error}");
    let mut bound = (*made).clone();
    bound.spec.volume_name = "v".into();
    api.update(bound, &PostParams::default()).await.unwrap();
    let mut bound = (*api.get("a").await.unwrap()).clone();
    bound.status.phase = PersistentVolumeClaimPhase::Bound;
    let bound = api.update_status(bound, &PostParams::default()).await.unwrap();
    let error = api.update(grow(&bound), &PostParams::default()).await.unwrap_err();
    assert_eq!(error.code(), 403);
    assert!(error.to_string().ends_with("the storageclass that provisions the pvc must support resize"), "{error}");
}

/// A registry that makes tokens.
async fn registry_with_tokens() -> Arc<Registry> {
    let mut options = Options::new(1);
    options.tokens = Some(Arc::new(TokenIssuer::new(SigningKey::generate().unwrap(), "cluster.local")));
    Registry::start(Arc::new(MemoryStore::new()), Arc::new(VirtualClock::new()), options).await.unwrap()
}

#[tokio::test]
async fn containers_find_a_token_unless_somebody_does_not_want_that() {
    let registry = registry_with_tokens().await;
    let quiet = json!({ "metadata": { "name": "quiet" }, "automountServiceAccountToken": false });
    create(&registry, read::<ServiceAccount>(quiet)).await.unwrap();
    let place = "/var/run/secrets/kubernetes.io/serviceaccount";
    let container = |name: &str, mounts: Value| json!({ "name": name, "image": "i", "volumeMounts": mounts });
    let other = json!([{ "name": "v", "mountPath": place }]);
    let own = json!([{ "name": "v", "emptyDir": {} }]);
    // What is asked for, and in how many containers a token is mounted by the rule.
    let cases = [
        (json!({}), 1),
        (json!({ "automountServiceAccountToken": true }), 1),
        (json!({ "automountServiceAccountToken": false }), 0),
        (json!({ "serviceAccountName": "quiet" }), 0),
        (json!({ "serviceAccountName": "quiet", "automountServiceAccountToken": true }), 1),
        (json!({ "initContainers": [container("a", json!([]))] }), 2),
        (json!({ "containers": [container("c", other.clone())], "volumes": own.clone() }), 0),
        (json!({ "containers": [container("c", other), container("d", json!([]))], "volumes": own }), 1),
    ];
    for (number, (spec, expected)) in cases.into_iter().enumerate() {
        let (created, _) = create(&registry, pod(&format!("p{number}"), spec.clone())).await.unwrap();
        let containers = ["containers", "initContainers"].map(|list| created["spec"][list].as_array().cloned());
        let mounts = containers.into_iter().flatten().flatten().flat_map(|of| of["volumeMounts"].as_array().cloned());
        let names: Vec<String> = mounts
            .flatten()
            .filter(|mount| mount["mountPath"] == place && mount["readOnly"] == true)
            .map(|mount| mount["name"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(names.len(), expected, "{spec}");
        let volumes: Vec<Value> = created["spec"]["volumes"].as_array().cloned().unwrap_or_default();
        let volumes: Vec<&Value> = volumes.iter().filter(|volume| !volume["projected"].is_null()).collect();
        assert_eq!(volumes.len(), expected.min(1), "{spec}");
        let Some(volume) = volumes.first() else { continue };
        assert!(
            names.iter().all(|name| name == volume["name"].as_str().unwrap())
                && names[0].starts_with("kube-api-access-")
        );
        let fields =
            json!([{ "path": "namespace", "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" } }]);
        assert_eq!(
            volume["projected"],
            json!({ "defaultMode": 420, "sources": [
                { "serviceAccountToken": { "expirationSeconds": 3607, "path": "token" } },
                { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
                { "downwardAPI": { "items": fields } },
            ] })
        );
    }
    // Where nobody makes tokens, none is mounted.
    let (created, _) = create(&*self::registry().await, pod("p", json!({}))).await.unwrap();
    assert_eq!(created["spec"]["volumes"], Value::Null);
    let mirror = json!({
        "metadata": { "name": "m", "annotations": { "kubernetes.io/config.mirror": "x" } },
        "spec": { "containers": [container("c", json!([]))], "volumes": [
            { "name": "t", "projected": { "sources": [{ "serviceAccountToken": { "path": "token" } }] } },
        ] },
    });
    let error = create(&registry, read::<Pod>(mirror)).await.unwrap_err();
    assert!(error.to_string().contains("a mirror pod may not use ServiceAccountToken volume projections"), "{error}");
}
