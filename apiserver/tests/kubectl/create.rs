use crate::tool::Kubectl;

/// kubectl's generators send protobuf.
#[tokio::test(flavor = "multi_thread")]
async fn generators_make_what_they_say() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.file("data.txt", "hello");
    for (line, resource, path, expected) in [
        ("namespace foo", "ns/foo", "{.status.phase}", "Active"),
        ("configmap c --from-literal=a=b --from-file=data.txt", "cm/c", "{.data}", r#"{"a":"b","data.txt":"hello"}"#),
        ("secret generic s --from-literal=a=b", "secret/s", "{.type} {.data.a}", "Opaque Yg=="),
        ("secret docker-registry d --docker-username=u --docker-password=p", "secret/d", "{.type}", "dockerconfigjson"),
        (
            "deployment web --image=nginx --replicas=2 --port=80",
            "deploy/web",
            "{.spec.replicas} {.spec.template.spec.containers[0].ports[0].containerPort}",
            "2 80",
        ),
        ("job j --image=busybox -- date", "job/j", "{.spec.template.spec.containers[0].command}", r#"["date"]"#),
        ("service clusterip x --tcp=80:8080", "svc/x", "{.spec.ports[0].port} {.spec.ports[0].targetPort}", "80 8080"),
        (
            "service nodeport y --tcp=80 --node-port=30080",
            "svc/y",
            "{.spec.type} {.spec.ports[0].nodePort}",
            "NodePort 30080",
        ),
        ("service externalname z --external-name=a.b", "svc/z", "{.spec.externalName}", "a.b"),
        ("serviceaccount sa", "sa/sa", "{.metadata.name}", "sa"),
        ("quota q --hard=cpu=1500m,pods=2", "quota/q", "{.spec.hard}", r#"{"cpu":"1500m","pods":"2"}"#),
        (
            "poddisruptionbudget b --selector=app=web --min-available=50%",
            "pdb/b",
            "{.spec.minAvailable} {.spec.selector.matchLabels.app}",
            "50% web",
        ),
        ("priorityclass p --value=10 --description=d", "pc/p", "{.value} {.description}", "10 d"),
    ] {
        kubectl.says(&format!("create {line}"), "created").await;
        kubectl.says(&format!("get {resource} -o 'jsonpath={path}'"), expected).await;
    }
    kubectl.says("run p --image=busybox --labels=a=b --env=X=Y --port=80 -- sleep 5", "pod/p created").await;
    kubectl.says("expose pod p --port=80 --name=exposed", "service/exposed exposed").await;
    kubectl.says("expose deployment web --target-port=8080", "service/web exposed").await;
    kubectl
        .says("get svc web -o 'jsonpath={.spec.selector} {.spec.ports[0].targetPort}'", r#"{"app":"web"} 8080"#)
        .await;
    kubectl.fails("create namespace foo", "namespaces \"foo\" already exists").await;
    kubectl.fails("create deployment UPPER --image=a", "Invalid").await;
    kubectl.fails("create configmap x -n nowhere", "namespaces \"nowhere\" not found").await;
    kubectl.says("create deployment dry --image=a --dry-run=server -o yaml", "progressDeadlineSeconds: 600").await;
    kubectl.fails("get deploy dry", "not found").await;
    kubectl.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_hold_lists_many_documents_and_generated_names() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl
        .create(
            "apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: one}}
- {apiVersion: v1, kind: ConfigMap, metadata: {name: two}}
",
        )
        .await;
    kubectl
        .create(
            "apiVersion: v1
kind: ConfigMap
metadata: {generateName: made-}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: three}
",
        )
        .await;
    let names = kubectl.ok("get cm -o name").await;
    assert!(names.contains("configmap/one\n") && names.contains("configmap/three\n"), "{names}");
    assert!(names.contains("configmap/made-"), "{names}");
    kubectl.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_fields_are_refused_warned_of_or_dropped() {
    let Some(kubectl) = Kubectl::start().await else { return };
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: NAME}\ndata: {a: b}\nextra: 1\n";
    for (name, how) in [("a", "strict"), ("b", "warn"), ("c", "ignore")] {
        kubectl.file(&format!("{name}.yaml"), &map.replace("NAME", name));
        let line = format!("create -f {name}.yaml --validate={how}");
        match how {
            "strict" => kubectl.fails(&line, "strict decoding error: unknown field \"extra\"").await,
            "warn" => kubectl.warns(&line, "unknown field \"extra\"").await,
            _ => kubectl.says(&line, "configmap/c created").await,
        }
    }
    kubectl.fails("get cm a", "not found").await;
    kubectl.file("types.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: t}\ndata: {a: [1]}\n");
    kubectl.fails("create -f types.yaml", "cannot be handled as a ConfigMap").await;
    kubectl.server.stop().await;
}

const GROUP: &str = "apiVersion: scheduling.x-k8s.io/v1alpha1
kind: PodGroup
metadata: {name: g}
spec: {minMember: 3, minResources: {cpu: \"3\"}, scheduleTimeoutSeconds: 30}
";

#[tokio::test(flavor = "multi_thread")]
async fn pod_groups_are_applied_explained_and_listed() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.file("group.yaml", GROUP);
    kubectl.says("apply -f group.yaml", "podgroup.scheduling.x-k8s.io/g created").await;
    kubectl.says("apply -f group.yaml", "podgroup.scheduling.x-k8s.io/g unchanged").await;
    kubectl.says("get podgroups", "NAME   PHASE   MINMEMBER   RUNNING   SUCCEEDED   FAILED   AGE\ng ").await;
    kubectl.says("get pg -o name", "podgroup.scheduling.x-k8s.io/g").await;
    kubectl.says("explain podgroup.spec.minMember", "FIELD: minMember <integer>").await;
    kubectl.says("api-versions", "scheduling.x-k8s.io/v1alpha1").await;
    let status = "patch pg g --subresource=status --type=merge -p '{\"status\":{\"phase\":\"Running\"},\"spec\":{\"minMember\":9}}'";
    kubectl.ok(status).await;
    kubectl.says("get pg g", "g      Running   3 ").await;
    kubectl.file("wrong.yaml", &GROUP.replace("minMember: 3", "minMember: -3"));
    kubectl.fails("apply -f wrong.yaml", "spec.minMember in body should be greater than or equal to 1").await;
    kubectl.server.stop().await;
}
