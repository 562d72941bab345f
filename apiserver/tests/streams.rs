//! Connections that go on after their request, on their way from a client through the API server to a node's agent on a
//! port of its own.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

mod common;

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use common::Running;
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use longshore_apiserver::http::{HttpService, Limits, LocalNodes, NodeConnector};
use longshore_core::connection::Takeover;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Refuses `refused`, fails for `broken`; else tells its path and what upgrade was asked for, then sends back what it is sent, and at the end
/// or when the server stops says goodbye.
async fn agent(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let mut response = Response::new(Body::empty());
    if request.uri().path().ends_with("/broken") {
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        *response.body_mut() = Body::from("list sandboxes failed: no space left");
        return Ok(response);
    }
    if request.uri().path().ends_with("/refused") {
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        *response.body_mut() = Body::from("container not found (\"refused\")");
        return Ok(response);
    }
    let protocol = request.headers()[header::SEC_WEBSOCKET_PROTOCOL].clone();
    let greeting = format!("{} {}\n", request.uri(), protocol.to_str().unwrap());
    let takeover = Takeover::new(async move |connection, stopping: CancellationToken| {
        let (mut reader, mut writer) = tokio::io::split(connection);
        writer.write_all(greeting.as_bytes()).await.unwrap();
        let _ = stopping.run_until_cancelled(tokio::io::copy(&mut reader, &mut writer)).await;
        // One who is gone hears none.
        let _ = writer.write_all(b"goodbye").await;
        let _ = writer.shutdown().await;
    });
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(header::CONNECTION, "Upgrade".parse().unwrap());
    response.headers_mut().insert(header::UPGRADE, "websocket".parse().unwrap());
    response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    response.extensions_mut().insert(takeover);
    Ok(response)
}

const POD: &str = "/api/v1/namespaces/default/pods";

async fn pods(server: &Running) {
    let containers =
        json!([{ "name": "c", "image": "i" }, { "name": "refused", "image": "i" }, { "name": "broken", "image": "i" }]);
    for (name, node) in [("p", "n1"), ("lost", "n2"), ("early", "")] {
        let spec = json!({ "nodeName": node, "containers": containers });
        server.create(POD, json!({ "metadata": { "name": name }, "spec": spec })).await;
    }
}

const UPGRADE: [(&str, &str); 4] = [
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("sec-websocket-protocol", "v5.channel.k8s.io"),
];

type Connection = TokioIo<hyper::upgrade::Upgraded>;

/// Asks for an upgrade; the connection, or the code and text of a refusal. The tasks carry the connection.
async fn upgrade(server: &Running, path: &str, tasks: &mut JoinSet<()>) -> Result<Connection, (u16, String)> {
    let stream = TokioIo::new(server.connect(Some(&server.admin), "http/1.1").await);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    tasks.spawn(async move { drop(connection.with_upgrades().await) });
    let mut request = Request::get(format!("{POD}/{path}")).header("host", "localhost");
    for (name, value) in UPGRADE {
        request = request.header(name, value);
    }
    let mut answer = sender.send_request(request.body(Body::empty()).unwrap()).await.unwrap();
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        assert_eq!(answer.headers()[header::SEC_WEBSOCKET_PROTOCOL], "v5.channel.k8s.io");
        return Ok(TokioIo::new(hyper::upgrade::on(&mut answer).await.unwrap()));
    }
    let code = answer.status().as_u16();
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    Err((code, String::from_utf8(text.to_vec()).unwrap()))
}

async fn line(connection: &mut Connection) -> String {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        line.push(connection.read_u8().await.unwrap());
    }
    String::from_utf8(line).unwrap()
}

/// What holds however the API server reaches the agent.
async fn streams_pass(server: Running) {
    let mut tasks = JoinSet::new();
    pods(&server).await;
    let asked = [
        (
            "p/exec?container=c&command=sh&command=-c&command=a%20%26%2B&stdin=true&stdout=1&stderr=false&tty=true",
            "/exec/default/p/c?command=sh&command=-c&command=a%20%26%2B&input=1&output=1&tty=1",
        ),
        ("p/attach?container=c&stdout=true", "/attach/default/p/c?output=1"),
        ("p/portforward?ports=80,81", "/portForward/default/p?port=80%2C81"),
        ("p/portforward", "/portForward/default/p"),
    ];
    for (path, expected) in asked {
        let mut connection = upgrade(&server, path, &mut tasks).await.unwrap();
        assert_eq!(line(&mut connection).await, format!("{expected} v5.channel.k8s.io\n"));
        connection.write_all(b"there and back\n").await.unwrap();
        assert_eq!(line(&mut connection).await, "there and back\n");
    }
    for (path, code, expected) in [
        ("p/exec?command=a", 400, "a container name must be specified for pod p, choose one of: [c refused broken]"),
        ("p/exec?command=a&container=x", 400, "container x is not valid for pod p"),
        ("p/attach?container=broken", 500, "Internal error occurred: list sandboxes failed: no space left"),
        ("early/attach?container=c", 400, "pod early does not have a host assigned"),
        ("nobody/portforward", 404, "pods \\\"nobody\\\" not found"),
        (
            "lost/exec?command=a&container=c",
            500,
            "error dialing backend: the agent of node \\\"n2\\\" is not known here",
        ),
    ] {
        let (got, text) = upgrade(&server, path, &mut tasks).await.unwrap_err();
        assert!(got == code && text.contains("\"Status\"") && text.contains(expected), "{path}: {got} {text}");
    }
    let refused = upgrade(&server, "p/exec?command=a&container=refused", &mut tasks).await.unwrap_err();
    assert_eq!(refused, (500, "container not found (\"refused\")".into()), "the agent's words");
    let answer = server.send("GET", &format!("{POD}/p/exec?command=a&container=c"), &[], "").await;
    assert_eq!((answer.code, &answer.json()["message"]), (400, &json!("Upgrade request required")));
    // When the server stops, what is open ends.
    let mut connection = upgrade(&server, "p/portforward", &mut tasks).await.unwrap();
    line(&mut connection).await;
    server.stop().await;
    let mut rest = Vec::new();
    let _ = connection.read_to_end(&mut rest).await;
}

#[tokio::test]
async fn streams_pass_to_an_agent_in_the_process() {
    let nodes = LocalNodes::new();
    nodes.insert("n1", tower::service_fn(agent));
    let nodes: Arc<dyn NodeConnector> = Arc::new(nodes);
    let server = Running::with_registry(|registry| HttpService::new(registry).with_nodes(nodes)).await;
    streams_pass(server).await;
}

#[tokio::test]
async fn a_connection_counts_until_it_ends() {
    let nodes = LocalNodes::new();
    nodes.insert("n1", tower::service_fn(agent));
    let mut limits = Limits::default();
    limits.streams = 1;
    let server = Running::with(limits, |service| service.with_nodes(Arc::new(nodes))).await;
    let mut tasks = JoinSet::new();
    pods(&server).await;
    let mut first = upgrade(&server, "p/portforward", &mut tasks).await.unwrap();
    line(&mut first).await;
    assert_eq!(upgrade(&server, "p/portforward", &mut tasks).await.unwrap_err().0, 429);
    first.shutdown().await.unwrap();
    let mut rest = Vec::new();
    first.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"goodbye");
    while upgrade(&server, "p/portforward", &mut tasks).await.is_err() {}
}

#[tokio::test]
async fn streams_pass_to_an_agent_elsewhere() {
    streams_pass(Running::with_agent(tower::service_fn(agent)).await).await;
}
