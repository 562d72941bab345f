//! The server on a port: TLS, who may do what, limits, and its end.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

mod common;

use std::time::Duration;

use axum::body::Body;
use common::Running;
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use longshore_apiserver::http::{BindError, HttpService, Limits, Server};
use longshore_apiserver::pki::{Authority, ServerNames};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn only_who_shows_a_certificate_sees_more_than_health_and_version() {
    let server = Running::start().await;
    for path in ["/livez", "/readyz", "/healthz", "/version", "/readyz/ping"] {
        assert_eq!(server.send_as(None, "GET", path, &[], "").await.code, 200, "{path}");
    }
    for path in ["/", "/api", "/apis", "/openapi/v3", MAPS, "/version.json", "//livez", "/metrics"] {
        let answer = server.send_as(None, "GET", path, &[], "").await;
        assert_eq!((answer.code, answer.json()["reason"].as_str()), (401, Some("Unauthorized")), "{path}");
        assert_eq!(answer.json()["kind"], "Status");
    }
    assert_eq!(server.send("GET", MAPS, &[], "").await.code, 200);
    server.stop().await;
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let server = Running::start().await;
    let other = Authority::generate(server.registry.clock().clone()).unwrap();
    let stranger = other.issue_client("kubernetes-admin", &["system:masters"]).unwrap();
    let mut stream = server.connect(Some(&stranger), "http/1.1").await;
    // With TLS 1.3 the client learns of the refusal only when it reads.
    let _ = stream.write_all(b"GET /version HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(stream.read(&mut [0; 100]).await.is_err());
    server.stop().await;
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let server = Running::start().await;
    let authority = Authority::generate(server.registry.clock().clone()).unwrap();
    let certified = authority.issue_server("a", &ServerNames::apiserver([])).unwrap();
    let service = HttpService::new(server.registry.clone());
    let error = Server::bind(server.address, authority.server_tls(&certified).unwrap(), service).await.unwrap_err();
    assert!(matches!(error, BindError::Taken { .. }));
    assert!(error.to_string().contains(&format!("cannot listen on {}: the port is taken", server.address)), "{error}");
    server.stop().await;
}

#[tokio::test]
async fn a_stop_ends_watches_and_lets_clients_know() {
    let server = Running::start().await;
    let stream = TokioIo::new(server.connect(Some(&server.admin), "h2").await);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(connection);
    let uri = format!("https://localhost{MAPS}?watch=true&sendInitialEvents=true&allowWatchBookmarks=true");
    let request = http::Request::get(uri).body(Body::empty()).unwrap();
    let mut body = sender.send_request(request).await.unwrap().into_body();
    assert!(body.frame().await.unwrap().unwrap().into_data().unwrap().starts_with(b"{"));
    server.cancel.cancel();
    // The watch ends as if its time were up, not as if the connection broke.
    while let Some(frame) = body.frame().await {
        frame.unwrap();
    }
    drop(sender);
    server.stop().await;
    assert!(tasks.join_next().await.unwrap().unwrap().is_ok());
}

#[tokio::test]
async fn what_does_not_end_is_cut_off() {
    let mut limits = Limits::default();
    limits.drain = Duration::from_millis(50);
    let server = Running::with(limits, |service| service).await;
    let mut stream = server.connect(Some(&server.admin), "http/1.1").await;
    // A body that never comes.
    let head = format!("POST {MAPS} HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    // The request is under way once another connection, accepted later, is answered.
    assert_eq!(server.send("GET", "/version", &[], "").await.code, 200);
    server.stop().await;
}

#[tokio::test]
async fn too_many_requests_are_sent_away() {
    let mut limits = Limits::default();
    limits.streams = 1;
    let server = Running::with(limits, |service| service).await;
    let watch = format!("GET {MAPS}?watch=1&sendInitialEvents=true HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut stream = server.connect(Some(&server.admin), "http/1.1").await;
    stream.write_all(watch.as_bytes()).await.unwrap();
    assert!(stream.read(&mut [0; 100]).await.unwrap() > 0);
    let answer = server.send("GET", &format!("{MAPS}?watch=1"), &[], "").await;
    assert_eq!((answer.code, answer.headers["retry-after"].to_str().unwrap()), (429, "1"));
    assert_eq!(answer.json()["reason"], "TooManyRequests");
    assert_eq!(server.send("GET", MAPS, &[], "").await.code, 200, "a listing does not count as a watch");
    server.stop().await;
}
