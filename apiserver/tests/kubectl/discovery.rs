use crate::tool::Kubectl;

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_is_and_offers() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.says("version", "Server Version: v1.35.4+longshore").await;
    kubectl.says("api-versions", "apps/v1\n").await;
    kubectl.says("api-resources", "deployments                  deploy       apps/v1").await;
    kubectl.says("api-resources --api-group=apps -o name", "statefulsets.apps").await;
    kubectl.says("cluster-info", "Kubernetes control plane").await;
    for path in ["/livez", "/readyz", "/healthz"] {
        kubectl.says(&format!("get --raw {path}"), "ok").await;
    }
    kubectl.says("get --raw /", "/openapi/v3").await;
    kubectl.fails("get --raw /nothing", "the server could not find the requested resource").await;
    kubectl.fails("get nothing", "the server doesn't have a resource type \"nothing\"").await;
    kubectl.fails("top pods", "Metrics API not available").await;
    kubectl.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_are_explained() {
    let Some(kubectl) = Kubectl::start().await else { return };
    let out = kubectl.ok("explain pod.spec.containers.livenessProbe.httpGet").await;
    assert!(out.contains("FIELD: httpGet <HTTPGetAction>") && out.contains("  port\t<IntOrString>"), "{out}");
    let out = kubectl.ok("explain deployment --recursive").await;
    assert!(out.contains("GROUP:      apps") && out.contains("maxSurge"), "{out}");
    kubectl.says("explain deploy.spec.strategy.type", "RollingUpdate").await;
    kubectl.fails("explain pod.spec.nothing", "field \"nothing\" does not exist").await;
    kubectl.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_one_is_and_what_one_may() {
    let Some(kubectl) = Kubectl::start().await else { return };
    let out = kubectl.ok("auth whoami").await;
    assert!(out.contains("kubernetes-admin") && out.contains("[system:masters system:authenticated]"), "{out}");
    kubectl.says("auth can-i create deployments.apps", "yes").await;
    kubectl.says("auth can-i --list", "*.*").await;
    kubectl.server.stop().await;
}
