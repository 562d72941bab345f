//! Logs from a node agent on a port of its own: found by its Node, reached with a certificate, streamed.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

mod common;

use std::convert::Infallible;

use axum::body::Body;
use common::Running;
use futures::StreamExt;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use longshore_apiserver::http::Identity;
use serde_json::json;
use tokio::task::JoinSet;

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

#[tokio::test]
async fn a_remote_agent_is_asked_and_its_answer_streams() {
    let server = Running::with_agent(tower::service_fn(agent)).await;
    server.node("down", 1).await;
    let pods = "/api/v1/namespaces/default/pods";
    for (name, node) in [("p", "n1"), ("q", "down")] {
        let spec = json!({ "nodeName": node, "containers": [{ "name": "c", "image": "i" }] });
        server.create(pods, json!({ "metadata": { "name": name }, "spec": spec })).await;
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
}
