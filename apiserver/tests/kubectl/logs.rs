use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use futures::StreamExt;
use http::{Request, Response};
use longshore_apiserver::http::LocalNodes;

use crate::tool::Kubectl;

/// A node agent that answers with the path that it was asked for, and goes on without end if asked to follow.
async fn agent(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let path = request.uri().to_string();
    if path.contains("previous=true") {
        let mut response = Response::new(Body::from("previous terminated container \"c\" in pod \"p\" not found"));
        *response.status_mut() = http::StatusCode::BAD_REQUEST;
        return Ok(response);
    }
    let first = futures::stream::iter([Ok::<_, Infallible>(format!("{path}\n"))]);
    if path.contains("follow=true") {
        return Ok(Response::new(Body::from_stream(first.chain(futures::stream::pending()))));
    }
    Ok(Response::new(Body::from_stream(first)))
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_come_from_the_node() {
    let nodes = LocalNodes::new();
    nodes.insert("n1", tower::service_fn(agent));
    let Some(kubectl) = Kubectl::with(|service| service.with_nodes(Arc::new(nodes))).await else { return };
    let pod = "apiVersion: v1
kind: Pod
metadata: {name: NAME, labels: {a: b}}
spec:
  nodeName: NODE
  containers: [{name: c, image: i}MORE]
";
    let pod =
        |name: &str, node: &str, more: &str| pod.replace("NAME", name).replace("NODE", node).replace("MORE", more);
    kubectl.create(&pod("p", "n1", "")).await;
    kubectl.create(&pod("two", "n1", ", {name: d, image: i}")).await;
    kubectl.create(&pod("lost", "elsewhere", "")).await;
    kubectl.create(&pod("early", "''", "")).await;
    assert_eq!(kubectl.ok("logs p").await, "/containerLogs/default/p/c\n");
    let said = kubectl.ok("logs p -c c --tail=5 --since=1m --timestamps --limit-bytes=1000").await;
    assert_eq!(said, "/containerLogs/default/p/c?timestamps=true&tailLines=5&limitBytes=1000&sinceSeconds=60\n");
    let said = kubectl.ok("logs p --since-time=2026-01-01T01:00:00+01:00").await;
    assert_eq!(said, "/containerLogs/default/p/c?sinceTime=2026-01-01T00:00:00Z\n");
    let mut follow = kubectl.begin("logs -f p");
    assert_eq!(follow.line().await, "/containerLogs/default/p/c?follow=true\n");
    kubectl.says("logs -l a=b --ignore-errors --prefix", "[pod/p/c]").await;
    kubectl.fails("logs p --previous", "previous terminated container \"c\" in pod \"p\" not found").await;
    kubectl.fails("logs p -c x", "container x is not valid for pod p").await;
    kubectl.says("logs two -c d", "/two/d").await;
    kubectl.says("logs two --all-containers", "/two/c").await;
    kubectl.fails("logs lost", "the agent of node \"elsewhere\" is not known here").await;
    assert_eq!(kubectl.ok("logs early").await, "");
    kubectl.fails("logs nothing", "pods \"nothing\" not found").await;
    drop(follow);
    kubectl.server.stop().await;
}
