use crate::tool::Kubectl;

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_printed_in_every_form() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.ok("create deployment web --image=nginx").await;
    kubectl.ok("create configmap c --from-literal=a=b").await;
    kubectl.ok("create configmap d -n kube-system").await;
    kubectl.says("get deploy", "NAME   READY   UP-TO-DATE   AVAILABLE   AGE\nweb    0/1     0            0 ").await;
    kubectl.says("get deploy -o wide", "CONTAINERS   IMAGES   SELECTOR").await;
    kubectl.says("get deploy --no-headers", "web   0/1").await;
    kubectl.says("get deploy web -o yaml", "kind: Deployment").await;
    kubectl.says("get deploy web -o json", "\"kind\": \"Deployment\"").await;
    kubectl.says("get deploy -o yaml", "kind: List").await;
    kubectl.says("get deploy -o name", "deployment.apps/web").await;
    kubectl.says("get deploy -o 'jsonpath={.items[0].metadata.name}'", "web").await;
    kubectl.says("get deploy -o custom-columns=N:.metadata.name,R:.spec.replicas", "N     R\nweb   1").await;
    kubectl.says("get deploy -o 'go-template={{len .items}}'", "1").await;
    kubectl.says("get deploy --show-labels", "app=web").await;
    kubectl.says("get deploy -L app", "APP\n").await;
    kubectl.says("get all", "deployment.apps/web").await;
    kubectl.says("get cm,deploy", "configmap/c").await;
    kubectl.says("get cm -A", "kube-system   d").await;
    kubectl.says("get cm -A --sort-by=.metadata.name --chunk-size=1", "kube-system").await;
    kubectl.says("get cm --field-selector metadata.name=c", "c      1").await;
    kubectl.warns("get cm -l nothing=here", "No resources found in default namespace.").await;
    kubectl.says("get deploy -l 'app in (web,x),!y'", "web").await;
    kubectl.fails("get pods --field-selector nonsense=1", "field label not supported: nonsense").await;
    kubectl.fails("get pods -l 'a in'", "").await;
    kubectl.fails("get cm nothing", "configmaps \"nothing\" not found").await;
    kubectl.says("get deploy web --subresource=scale", "NAME   DESIRED   AVAILABLE   AGE\nweb    1         0 ").await;
    kubectl.says("get deploy web --subresource=status", "web    0/1").await;
    kubectl.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_described() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.ok("create deployment web --image=nginx").await;
    kubectl.ok("run p --image=busybox").await;
    kubectl.ok("create job j --image=busybox").await;
    kubectl.ok("create secret generic s --from-literal=a=b").await;
    kubectl.ok("create service clusterip x --tcp=80").await;
    kubectl
        .create(
            "apiVersion: v1
kind: Event
metadata: {name: e}
involvedObject: {apiVersion: v1, kind: Pod, name: p, namespace: default}
reason: Tested
message: it works
type: Normal
count: 2
source: {component: test}
firstTimestamp: '2026-01-01T00:00:00Z'
lastTimestamp: '2026-01-01T00:00:00Z'
",
        )
        .await;
    kubectl.says("describe deploy web", "RollingUpdateStrategy:  25% max unavailable, 25% max surge").await;
    kubectl.says("describe pod p", "busybox").await;
    kubectl.says("describe job j", "Completions:      1").await;
    kubectl.says("describe secret s", "a:  1 bytes").await;
    kubectl.says("describe svc x", "TargetPort:               80/TCP").await;
    kubectl.says("describe ns default", "Active").await;
    kubectl.says("events", "it works").await;
    kubectl.says("events --for pod/p", "it works").await;
    kubectl.says("get events", "Tested").await;
    kubectl.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn network_policies_are_applied_explained_and_listed() {
    let Some(kubectl) = Kubectl::start().await else { return };
    let policy = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress, Egress]
  ingress:
  - from:
    - podSelector: {matchLabels: {app: front}}
      namespaceSelector: {matchLabels: {team: a}}
    - ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}
    ports: [{protocol: TCP, port: 80}, {protocol: TCP, port: 8000, endPort: 8100}, {protocol: UDP, port: dns}]
";
    let file = kubectl.file("policy.yaml", policy);
    kubectl.says(&format!("apply -f {}", file.display()), "networkpolicy.networking.k8s.io/web created").await;
    kubectl.says(&format!("apply -f {}", file.display()), "unchanged").await;
    kubectl.says("get netpol", "NAME   POD-SELECTOR   AGE\nweb    app=web        ").await;
    for line in [
        "PodSelector:     app=web",
        "To Port Range: 8000-8100/TCP",
        "Except: 10.1.0.0/16",
        "Policy Types: Ingress, Egress",
    ] {
        kubectl.says("describe netpol web", line).await;
    }
    kubectl.says("explain netpol.spec.ingress.from.ipBlock", "except").await;
    let wrong = kubectl.file("wrong.yaml", &policy.replace("endPort: 8100", "endPort: 80"));
    let reason = "spec.ingress[0].ports[1].endPort: Invalid value: 8000: must be greater than or equal to `port`";
    kubectl.fails(&format!("apply -f {}", wrong.display()), reason).await;
    kubectl.ok("delete netpol web").await;
    kubectl.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_watched_and_waited_for() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.ok("run p --image=busybox").await;
    let mut watch = kubectl.begin("get pods -w --output-watch-events");
    assert!(watch.line().await.starts_with("EVENT"));
    assert!(watch.line().await.starts_with("ADDED      p"));
    kubectl.ok("label pod p a=b").await;
    assert!(watch.line().await.starts_with("MODIFIED   p"));
    let mut wait = kubectl.begin("wait pod/p --for=condition=Ready --timeout=60s");
    let ready = r#"{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}"#;
    kubectl.ok(&format!("patch pod p --subresource=status --type=merge -p '{ready}'")).await;
    assert_eq!(wait.line().await, "pod/p condition met\n");
    assert!(watch.line().await.contains("Running"));
    kubectl.says("wait pod/p --for=jsonpath='{.status.phase}'=Running --timeout=60s", "condition met").await;
    let mut gone = kubectl.begin("wait pod/p --for=delete --timeout=60s");
    kubectl.ok("delete pod p --grace-period=0 --force").await;
    assert!(watch.line().await.starts_with("DELETED    p"));
    // Whether it saw the pod before or after: it ends, and well.
    let said = gone.line().await;
    assert!(said.is_empty() || said.contains("condition met"), "{said}");
    kubectl.fails("wait pod/p --for=condition=Ready --timeout=1s", "not found").await;
    drop(watch);
    kubectl.server.stop().await;
}
