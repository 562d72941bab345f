use crate::tool::Kubectl;

/// A replica set as the deployment controller makes it.
fn replica_set(name: &str, uid: &str, revision: u32, image: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: ReplicaSet
metadata:
  name: {name}
  labels: {{app: web, pod-template-hash: {name}}}
  annotations: {{deployment.kubernetes.io/revision: '{revision}'}}
  ownerReferences:
  - {{apiVersion: apps/v1, kind: Deployment, name: web, uid: {uid}, controller: true}}
spec:
  replicas: 0
  selector: {{matchLabels: {{app: web, pod-template-hash: {name}}}}}
  template:
    metadata: {{labels: {{app: web, pod-template-hash: {name}}}}}
    spec:
      containers: [{{name: nginx, image: '{image}'}}]
"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn rollouts_are_steered() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.ok("create deployment web --image=nginx:2 --replicas=2").await;
    let uid = kubectl.ok("get deploy web -o 'jsonpath={.metadata.uid}'").await;
    kubectl.create(&replica_set("old", &uid, 1, "nginx:1")).await;
    kubectl.create(&replica_set("new", &uid, 2, "nginx:2")).await;
    let history = kubectl.ok("rollout history deploy/web").await;
    assert!(history.contains("1         <none>\n2         <none>"), "{history}");
    kubectl.says("rollout history deploy/web --revision=1", "nginx:1").await;
    kubectl.says("rollout undo deploy/web", "rolled back").await;
    kubectl.says("get deploy web -o 'jsonpath={.spec.template.spec.containers[0].image}'", "nginx:1").await;
    kubectl.says("rollout undo deploy/web --to-revision=2", "rolled back").await;
    kubectl.says("rollout pause deploy/web", "paused").await;
    kubectl.says("get deploy web -o 'jsonpath={.spec.paused}'", "true").await;
    kubectl.says("rollout resume deploy/web", "resumed").await;
    kubectl.says("rollout restart deploy/web", "restarted").await;
    kubectl.says("get deploy web -o 'jsonpath={.spec.template.metadata.annotations}'", "restartedAt").await;

    let mut status = kubectl.begin("rollout status deploy/web --timeout=60s");
    assert!(status.line().await.starts_with("Waiting for deployment"));
    let done = r#"{"status":{"observedGeneration":99,"replicas":2,"updatedReplicas":2,"readyReplicas":2,"availableReplicas":2}}"#;
    kubectl.ok(&format!("patch deploy web --subresource=status --type=merge -p '{done}'")).await;
    assert_eq!(status.line().await, "deployment \"web\" successfully rolled out\n");
    kubectl.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_workload_is_scaled() {
    let Some(kubectl) = Kubectl::start().await else { return };
    let template = "{metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}";
    for (version, kind, selector, more) in [
        ("v1", "ReplicationController", "{a: b}", ""),
        ("apps/v1", "ReplicaSet", "{matchLabels: {a: b}}", ""),
        ("apps/v1", "Deployment", "{matchLabels: {a: b}}", ""),
        ("apps/v1", "StatefulSet", "{matchLabels: {a: b}}", ", serviceName: s"),
    ] {
        let spec = format!("{{selector: {selector}, template: {template}{more}}}");
        kubectl.create(&format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x}}\nspec: {spec}\n")).await;
        let kind = kind.to_lowercase();
        kubectl.says(&format!("scale {kind} x --replicas=3"), "scaled").await;
        kubectl.says(&format!("get {kind} x -o 'jsonpath={{.spec.replicas}} {{.metadata.generation}}'"), "3 2").await;
        kubectl
            .fails(&format!("scale {kind} x --replicas=4 --current-replicas=1"), "Expected replicas to be 1, was 3")
            .await;
        let scale = kubectl.ok(&format!("get {kind} x --subresource=scale -o json")).await;
        assert!(
            scale.contains("\"apiVersion\": \"autoscaling/v1\"") && scale.contains("\"selector\": \"a=b\""),
            "{scale}"
        );
    }
    kubectl
        .says("get deploy x --show-managed-fields -o 'jsonpath={.metadata.managedFields[*].subresource}'", "scale")
        .await;
    kubectl.server.stop().await;
}
