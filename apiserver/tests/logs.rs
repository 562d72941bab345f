//! Logs from a node agent on a port of its own: found by its Node, reached with a certificate, streamed.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

mod common;

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use common::Running;
use futures::StreamExt;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use longshore_apiserver::LocalClient;
use longshore_apiserver::http::{HttpService, Identity, RemoteNodes, Server};
use longshore_apiserver::pki::{Authority, ServerNames};
use longshore_core::client::Client;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Tells who asked, line by line, and then waits for ever.
async fn agent(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let user = request.extensions().get::<Identity>().map(|identity| identity.user.clone()).unwrap_or_default();
    let lines = [format!("{user}\n"), format!("{}\n", request.uri())].map(Ok::<_, Infallible>);
    let lines = futures::stream::iter(lines);
    let body = if request.uri().query().unwrap_or_default().contains("follow") {
        Body::from_stream(lines.chain(futures::stream::pending()))
    } else {
        Body::from_stream(lines)
    };
    Ok(Response::new(body))
}

async fn create(server: &Running, path: &str, object: serde_json::Value) {
    let answer = server.send("POST", path, &[("content-type", "application/json")], object.to_string()).await;
    assert_eq!(answer.code, 201, "{}", answer.json());
}

#[tokio::test]
async fn a_remote_agent_is_asked_and_its_answer_streams() {
    // The API server's authority is made first, so that the agent's certificate is of the same one.
    let clock: Arc<dyn longshore_core::clock::Clock> = Arc::new(longshore_core::clock::SystemClock::new());
    let authority = Authority::generate(clock).unwrap();
    let names = ServerNames::node("n1", [[127, 0, 0, 1].into()]);
    let tls = authority.server_tls(&authority.issue_server("system:node:n1", &names).unwrap()).unwrap();
    let node = Server::bind(([127, 0, 0, 1], 0).into(), tls, tower::service_fn(agent)).await.unwrap();
    let (port, cancel) = (node.local_addr().port(), CancellationToken::new());
    let mut tasks = JoinSet::new();
    tasks.spawn(node.serve(cancel.clone()));

    let own = authority.issue_client("kube-apiserver-kubelet-client", &["system:masters"]).unwrap();
    let tls = authority.client_tls(Some(&own)).unwrap();
    let with_nodes =
        |service: HttpService, client: Arc<dyn Client>| service.with_nodes(Arc::new(RemoteNodes::new(client, tls)));
    let server = Running::with_registry(|registry| {
        let client = Arc::new(LocalClient::new(Arc::clone(&registry), "test"));
        with_nodes(HttpService::new(registry), client)
    })
    .await;
    create(&server, "/api/v1/nodes", json!({ "metadata": { "name": "n1" } })).await;
    create(&server, "/api/v1/nodes", json!({ "metadata": { "name": "down" } })).await;
    for (node, port) in [("n1", port), ("down", 1)] {
        let status = json!({ "status": {
            "addresses": [{ "type": "Hostname", "address": "nowhere" }, { "type": "InternalIP", "address": "127.0.0.1" }],
            "daemonEndpoints": { "kubeletEndpoint": { "Port": port } },
        } });
        let patch = [("content-type", "application/merge-patch+json")];
        let path = format!("/api/v1/nodes/{node}/status");
        assert_eq!(server.send("PATCH", &path, &patch, status.to_string()).await.code, 200);
    }
    let pods = "/api/v1/namespaces/default/pods";
    for (name, node) in [("p", "n1"), ("q", "down")] {
        let spec = json!({ "nodeName": node, "containers": [{ "name": "c", "image": "i" }] });
        create(&server, pods, json!({ "metadata": { "name": name }, "spec": spec })).await;
    }

    let answer = server.send("GET", &format!("{pods}/p/log?tailLines=3"), &[], "").await;
    let text = String::from_utf8(answer.body).unwrap();
    assert_eq!((answer.code, answer.headers["content-type"].to_str().unwrap()), (200, "text/plain"));
    assert_eq!(text, "kube-apiserver-kubelet-client\n/containerLogs/default/p/c?tailLines=3\n");

    let answer = server.send("GET", &format!("{pods}/q/log"), &[], "").await;
    let message = answer.json()["message"].as_str().unwrap().to_owned();
    assert!(
        answer.code == 500 && message.contains("cannot reach the agent of node \"down\" at 127.0.0.1:1"),
        "{message}"
    );
    for query in ["tailLines=-1", "limitBytes=0", "sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z"] {
        let answer = server.send("GET", &format!("{pods}/p/log?{query}"), &[], "").await;
        assert_eq!((answer.code, answer.json()["reason"].as_str()), (422, Some("Invalid")), "{query}");
    }

    // Lines come as they are written, and the stream ends when the server stops.
    let stream = TokioIo::new(server.connect(Some(&server.admin), "h2").await);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let mut connections = JoinSet::new();
    connections.spawn(connection);
    let uri = format!("https://localhost{pods}/p/log?follow=true");
    let mut body = sender.send_request(Request::get(uri).body(Body::empty()).unwrap()).await.unwrap().into_body();
    let mut read = String::new();
    while !read.contains("follow") {
        read.push_str(std::str::from_utf8(&body.frame().await.unwrap().unwrap().into_data().unwrap()).unwrap());
    }
    server.cancel.cancel();
    while let Some(frame) = body.frame().await {
        frame.unwrap();
    }
    drop(sender);
    server.stop().await;
    cancel.cancel();
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}
