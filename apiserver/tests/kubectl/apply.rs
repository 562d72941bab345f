use std::os::unix::fs::PermissionsExt;

use crate::tool::Kubectl;

const APP: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: app, labels: {app: app}}
spec:
  replicas: 2
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec:
      containers:
      - {name: c, image: 'nginx:1', ports: [{containerPort: 80}]}
";

const IMAGE: &str = "get deploy app -o 'jsonpath={.spec.template.spec.containers[0].image}'";

#[tokio::test(flavor = "multi_thread")]
async fn apply_on_the_client() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.file("app.yaml", APP);
    kubectl.file("new.yaml", &APP.replace("nginx:1", "nginx:2").replace(", ports: [{containerPort: 80}]", ""));
    kubectl.says("apply -f app.yaml --dry-run=server", "created (server dry run)").await;
    kubectl.says("apply -f app.yaml", "deployment.apps/app created").await;
    kubectl.says("apply -f app.yaml", "deployment.apps/app unchanged").await;
    let said = kubectl.ok("diff -f app.yaml").await;
    assert_eq!(said, "");
    kubectl.differs("diff -f new.yaml", "+      - image: nginx:2").await;
    kubectl.says("apply -f new.yaml", "deployment.apps/app configured").await;
    kubectl.says(IMAGE, "nginx:2").await;
    let ports = kubectl.ok("get deploy app -o 'jsonpath={.spec.template.spec.containers[0].ports}'").await;
    assert_eq!(ports, "", "what the configuration no longer says is gone");
    kubectl.file("bad.yaml", &APP.replace("replicas", "replicaz"));
    kubectl.fails("apply -f bad.yaml", "strict decoding error: unknown field \"spec.replicaz\"").await;
    kubectl.warns("apply -f bad.yaml --validate=warn", "unknown field \"spec.replicaz\"").await;
    kubectl.says("apply -f new.yaml", "configured").await;
    kubectl.says("apply view-last-applied deploy app", "nginx:2").await;
    kubectl.file("set.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, labels: {set: x}}\n");
    kubectl.says("apply -f set.yaml", "created").await;
    kubectl.file("set.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b, labels: {set: x}}\n");
    kubectl.says("apply -f set.yaml --prune -l set=x --prune-allowlist=core/v1/ConfigMap", "configmap/a pruned").await;
    kubectl.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn apply_on_the_server() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.file("app.yaml", APP);
    kubectl.file("new.yaml", &APP.replace("nginx:1", "nginx:2"));
    kubectl.says("apply --server-side -f app.yaml", "serverside-applied").await;
    let other = "apply --server-side --field-manager=other -f new.yaml";
    kubectl.fails(other, "conflict with \"kubectl\": .spec.template.spec.containers[name=\"c\"].image").await;
    kubectl.says(IMAGE, "nginx:1").await;
    kubectl.says(&format!("{other} --force-conflicts"), "serverside-applied").await;
    kubectl.says(IMAGE, "nginx:2").await;
    let managers = "get deploy app --show-managed-fields -o 'jsonpath={.metadata.managedFields[*].manager}'";
    kubectl.says(managers, "kubectl other").await;
    kubectl.says("diff --server-side --force-conflicts -f new.yaml --field-manager=other", "").await;
    kubectl.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn edit_replace_and_patch() {
    let Some(kubectl) = Kubectl::start().await else { return };
    let editor = kubectl.file("editor", "#!/bin/sh\nsed -i 's/replicas: .*/replicas: 7/' \"$1\"\n");
    std::fs::set_permissions(&editor, std::fs::Permissions::from_mode(0o700)).unwrap();
    kubectl.file("app.yaml", APP);
    kubectl.says("create -f app.yaml", "created").await;
    let replicas = "get deploy app -o 'jsonpath={.spec.replicas}'";
    kubectl.says("edit deploy app", "edited").await;
    kubectl.says(replicas, "7").await;
    kubectl.says("replace -f app.yaml", "replaced").await;
    kubectl.says(replicas, "2").await;
    let before = kubectl.ok("get deploy app -o 'jsonpath={.metadata.uid}'").await;
    kubectl.says("replace --force -f app.yaml", "replaced").await;
    assert_ne!(kubectl.ok("get deploy app -o 'jsonpath={.metadata.uid}'").await, before);
    for (patch, expected) in [
        (r#"-p '{"spec":{"replicas":3}}'"#, "3"),
        (r#"--type=merge -p '{"spec":{"replicas":4}}'"#, "4"),
        (r#"--type=json -p '[{"op":"replace","path":"/spec/replicas","value":5}]'"#, "5"),
        (r#"--subresource=scale --type=merge -p '{"spec":{"replicas":6}}'"#, "6"),
        (r#"--subresource=status --type=merge -p '{"spec":{"replicas":9},"status":{"replicas":6}}'"#, "6"),
    ] {
        kubectl.says(&format!("patch deploy app {patch}"), "patched").await;
        kubectl.says(replicas, expected).await;
    }
    let image = r#"patch deploy app -p '{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"x"}]}}}}'"#;
    kubectl.says(image, "patched").await;
    kubectl.says("get deploy app -o 'jsonpath={.spec.template.spec.containers[0].ports[0].containerPort}'", "80").await;
    kubectl
        .fails("patch deploy app --type=json -p '[{\"op\":\"test\",\"path\":\"/spec/replicas\",\"value\":1}]'", "")
        .await;
    // A version that is no longer current.
    kubectl.file("stale.yaml", &APP.replace("labels: {app: app}}\nspec", "resourceVersion: '1'}\nspec"));
    kubectl.fails("replace -f stale.yaml", "the object has been modified").await;
    kubectl.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn set_label_and_annotate() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.file("app.yaml", APP);
    kubectl.says("create -f app.yaml", "created").await;
    kubectl.says("set image deploy/app c=nginx:3", "image updated").await;
    kubectl.says(IMAGE, "nginx:3").await;
    kubectl.says("set env deploy/app A=B", "env updated").await;
    kubectl.says("set env deploy/app --list", "A=B").await;
    kubectl.says("set resources deploy/app -c c --limits=cpu=1", "resource requirements updated").await;
    kubectl.says("set serviceaccount deploy/app sa", "serviceaccount updated").await;
    kubectl.says("label deploy app a=b", "labeled").await;
    kubectl.fails("label deploy app a=c", "'a' already has a value (b), and --overwrite is false").await;
    kubectl.says("label deploy app a=c --overwrite", "labeled").await;
    kubectl.says("get deploy -l a=c --show-labels", "a=c,app=app").await;
    kubectl.says("label deploy app a-", "unlabeled").await;
    kubectl.says("annotate deploy app n=m", "annotated").await;
    kubectl.says("get deploy app -o 'jsonpath={.metadata.annotations.n}'", "m").await;
    kubectl.server.stop().await;
}
