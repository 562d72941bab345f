use crate::tool::Kubectl;

#[tokio::test(flavor = "multi_thread")]
async fn objects_go_as_one_says() {
    let Some(kubectl) = Kubectl::start().await else { return };
    for name in ["a", "b", "c"] {
        kubectl.ok(&format!("create configmap {name}")).await;
    }
    kubectl.ok("label cm c x=y").await;
    kubectl.says("delete cm a", "configmap \"a\" deleted").await;
    kubectl.fails("delete cm a", "configmaps \"a\" not found").await;
    kubectl.ok("delete cm a --ignore-not-found").await;
    kubectl.says("delete cm -l x=y", "configmap \"c\" deleted").await;
    kubectl.says("delete cm b --dry-run=server", "deleted (server dry run)").await;
    kubectl.says("delete cm --all", "configmap \"b\" deleted").await;
    kubectl.ok("delete --raw /api/v1/namespaces/default/configmaps").await;

    kubectl.ok("run p --image=busybox").await;
    kubectl.says("delete pod p --now", "pod \"p\" deleted").await;
    kubectl.ok("run q --image=busybox --overrides '{\"spec\":{\"nodeName\":\"n1\"}}'").await;
    // A pod on a node has its grace period, which the node's agent ends.
    kubectl.says("delete pod q --wait=false --grace-period=20", "deleted").await;
    kubectl.says("get pod q -o 'jsonpath={.metadata.deletionGracePeriodSeconds}'", "20").await;
    kubectl.says("delete pod q --grace-period=0 --force", "force deleted").await;
    kubectl.fails("get pod q", "not found").await;
    kubectl.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn finalizers_and_propagation_hold_objects() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.create("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: held, finalizers: [example.com/x]}\n").await;
    let mut deletion = kubectl.begin("delete cm held");
    assert_eq!(deletion.line().await, "configmap \"held\" deleted\n");
    kubectl.says("get cm held -o 'jsonpath={.metadata.deletionTimestamp}'", "20").await;
    kubectl.says("patch cm held -p '{\"metadata\":{\"finalizers\":null}}'", "patched").await;
    // The deletion ends with the object.
    assert_eq!(deletion.line().await, "");
    for (cascade, finalizers) in [("background", ""), ("foreground", "foregroundDeletion"), ("orphan", "orphan")] {
        let name = format!("web-{cascade}");
        kubectl.ok(&format!("create deployment {name} --image=nginx")).await;
        kubectl.says(&format!("delete deploy {name} --cascade={cascade} --wait=false"), "deleted").await;
        let get = format!("get deploy {name} --ignore-not-found -o 'jsonpath={{.metadata.finalizers[*]}}'");
        assert_eq!(kubectl.ok(&get).await, finalizers, "{cascade}");
    }
    kubectl.ok("create namespace foo").await;
    kubectl.says("delete ns foo --wait=false", "deleted").await;
    kubectl.says("get ns foo -o 'jsonpath={.status.phase}'", "Terminating").await;
    kubectl.fails("create configmap late -n foo", "being terminated").await;
    kubectl.server.stop().await;
}
