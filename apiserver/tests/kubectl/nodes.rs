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
