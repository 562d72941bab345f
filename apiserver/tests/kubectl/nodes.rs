use crate::tool::Kubectl;

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_cordoned_and_tainted() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.create("apiVersion: v1\nkind: Node\nmetadata: {name: n1}\n").await;
    let spec = "get node n1 -o 'jsonpath={.spec}'";
    kubectl.says("cordon n1", "node/n1 cordoned").await;
    kubectl.says(spec, r#""unschedulable":true"#).await;
    kubectl.says("uncordon n1", "node/n1 uncordoned").await;
    kubectl.says("taint node n1 a=b:NoSchedule", "node/n1 tainted").await;
    kubectl.says(spec, r#"{"effect":"NoSchedule","key":"a","value":"b"}"#).await;
    kubectl.says("taint node n1 a-", "node/n1 untainted").await;
    kubectl.says("describe node n1", "Unschedulable:      false").await;
    kubectl.says("get nodes", "n1     Unknown").await;
    kubectl.says("drain n1", "node/n1 drained").await;
    kubectl.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_keeps_to_the_budget() {
    let Some(kubectl) = Kubectl::start().await else { return };
    kubectl.create("apiVersion: v1\nkind: Node\nmetadata: {name: n1}\n").await;
    for name in ["a", "b"] {
        let overrides = r#"{"spec":{"nodeName":"n1"}}"#;
        kubectl.ok(&format!("run {name} --image=i --labels=app=web --overrides '{overrides}'")).await;
        let ready = r#"{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}"#;
        kubectl.ok(&format!("patch pod {name} --subresource=status --type=merge -p '{ready}'")).await;
    }
    kubectl.ok("create pdb web --selector=app=web --min-available=1").await;
    let status = |allowed: u32| {
        let status = format!(
            r#"{{"observedGeneration":1,"disruptionsAllowed":{allowed},"currentHealthy":2,"desiredHealthy":1,"expectedPods":2}}"#
        );
        format!("patch pdb web --subresource=status --type=merge -p '{{\"status\":{status}}}'")
    };
    kubectl.ok(&status(0)).await;
    let drain = "drain n1 --force --grace-period=0 --timeout=1s";
    kubectl.fails(drain, "Cannot evict pod as it would violate the pod's disruption budget.").await;
    kubectl.says("get pods -o name", "pod/a\npod/b").await;
    kubectl.ok(&status(1)).await;
    // One goes, the other has to wait.
    kubectl.fails(drain, "Cannot evict pod").await;
    assert_eq!(kubectl.ok("get pods -o name").await.lines().count(), 1);
    kubectl.says("get pdb web -o 'jsonpath={.status.disruptionsAllowed}'", "0").await;
    kubectl.ok(&status(1)).await;
    kubectl.says("drain n1 --force --grace-period=0", "node/n1 drained").await;
    assert_eq!(kubectl.ok("get pods -o name").await, "");
    kubectl.server.stop().await;
}
