//! What clients should not send: it is answered in upstream's words, memory stays bounded, and nothing is stored.

#![allow(clippy::unwrap_used, reason = "the whole file is a test")]

mod common;

use std::time::Duration;

use common::{Answer, Running};
use longshore_apiserver::http::Limits;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const JSON: [(&str, &str); 1] = [("content-type", "application/json")];
const YAML: [(&str, &str); 1] = [("content-type", "application/yaml")];

/// Checks that the answer is a Status with this code and reason, and something of its message.
#[track_caller]
fn refused(answer: &Answer, code: u16, reason: &str, message: &str) {
    let status = answer.json();
    let text = String::from_utf8_lossy(&answer.body);
    assert_eq!(
        (answer.code, status["kind"].as_str(), status["status"].as_str()),
        (code, Some("Status"), Some("Failure")),
        "{text}"
    );
    assert_eq!((status["reason"].as_str(), status["code"].as_u64()), (Some(reason), Some(code.into())), "{text}");
    assert!(status["message"].as_str().unwrap().contains(message), "{text}");
}

async fn nothing_is_stored(server: &Running) {
    let answer = server.send("GET", MAPS, &[], "").await;
    assert_eq!((answer.code, &answer.json()["items"]), (200, &json!([])));
}

#[tokio::test]
async fn broken_documents() {
    let server = Running::start().await;
    let map = |rest: &str| format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"a"}}{rest}}}"#);
    let strict = format!("{MAPS}?fieldValidation=Strict");
    for (path, headers, body, message) in [
        (MAPS, JSON, "{\"kind\":\"Conf".to_owned(), "unexpected end of JSON input"),
        (MAPS, JSON, String::new(), "<empty>"),
        (MAPS, JSON, "[]".to_owned(), "the object provided is unrecognized"),
        (MAPS, JSON, "\u{0}\u{1}".to_owned(), "the object provided is unrecognized"),
        (MAPS, YAML, "a: [b".to_owned(), "yaml"),
        (MAPS, YAML, "a: b\n\tc: d".to_owned(), "yaml"),
        (MAPS, JSON, map(",\"data\":{\"a\":1}"), "cannot be handled as a ConfigMap: json: cannot unmarshal number"),
        (MAPS, JSON, map(",\"data\":[]"), "cannot unmarshal array"),
        (MAPS, JSON, r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"}}"#.to_owned(), "Pod"),
        (MAPS, JSON, r#"{"apiVersion":"v2","kind":"ConfigMap"}"#.to_owned(), "v2"),
        (strict.as_str(), JSON, map(",\"extra\":1"), "strict decoding error: unknown field \"extra\""),
        (strict.as_str(), JSON, map(",\"data\":{\"a\":\"b\",\"a\":\"c\"}"), "duplicate field"),
    ] {
        refused(&server.send("POST", path, &headers, body).await, 400, "BadRequest", message);
    }
    let protobuf = [("content-type", "application/vnd.kubernetes.protobuf")];
    for body in [&b"k8s\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"[..], b"k8s\0", b"{}", b"k8s\0\x0a\x7f"] {
        refused(&server.send("POST", MAPS, &protobuf, body).await, 400, "BadRequest", "");
    }
    let cbor = [("content-type", "application/cbor")];
    refused(&server.send("POST", MAPS, &cbor, "x").await, 415, "UnsupportedMediaType", "unknown format");
    let accept = [("accept", "text/html")];
    refused(&server.send("GET", MAPS, &accept, "").await, 406, "NotAcceptable", "application/json");
    nothing_is_stored(&server).await;
    server.stop().await;
}

#[tokio::test]
async fn bad_names_versions_and_parameters() {
    let server = Running::start().await;
    let named =
        |name: &str| json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name } }).to_string();
    for name in ["A", "a_b", "a/b", "..", "a%20", &"x".repeat(254), "-a", "ü"] {
        let answer = server.send("POST", MAPS, &JSON, named(name)).await;
        refused(&answer, 422, "Invalid", "metadata.name");
        assert!(answer.json()["details"]["causes"].is_array());
    }
    refused(&server.send("POST", MAPS, &JSON, named("")).await, 422, "Invalid", "name or generateName is required");
    let elsewhere = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"b"}}"#;
    refused(&server.send("POST", MAPS, &JSON, elsewhere).await, 400, "BadRequest", "does not match the namespace");
    for query in ["dryRun=Some", "fieldValidation=Perhaps"] {
        let answer = server.send("POST", &format!("{MAPS}?{query}"), &JSON, named("a")).await;
        refused(&answer, 422, "Invalid", "");
    }
    for query in [
        "labelSelector=a%20in",
        "labelSelector=%3D",
        "fieldSelector=nonsense%3D1",
        "limit=many",
        "continue=%21%21",
        "resourceVersion=new",
        "watch=1&resourceVersion=new",
        "watch=1&timeoutSeconds=x",
        &format!("labelSelector={}", "(".repeat(10_000)),
    ] {
        let answer = server.send("GET", &format!("{MAPS}?{query}"), &[], "").await;
        assert!(answer.code == 400 || answer.code == 422, "{query}: {} {}", answer.code, answer.json());
        assert_eq!(answer.json()["kind"], "Status", "{query}");
    }
    let ahead = server.send("GET", &format!("{MAPS}?resourceVersion=999999999"), &[], "").await;
    refused(&ahead, 504, "Timeout", "Too large resource version: 999999999");
    nothing_is_stored(&server).await;
    server.stop().await;
}

#[tokio::test]
async fn a_stale_version_conflicts() {
    let server = Running::start().await;
    let created = server.send("POST", MAPS, &JSON, r#"{"metadata":{"name":"a"},"data":{"n":"1"}}"#).await;
    assert_eq!(created.code, 201);
    let old = created.json();
    let path = format!("{MAPS}/a");
    let mut new = old.clone();
    new["data"]["n"] = "2".into();
    assert_eq!(server.send("PUT", &path, &JSON, new.to_string()).await.code, 200);
    let mut stale = old.clone();
    stale["data"]["n"] = "3".into();
    let answer = server.send("PUT", &path, &JSON, stale.to_string()).await;
    let message = "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your \
                   changes to the latest version and try again";
    refused(&answer, 409, "Conflict", message);
    let merge = [("content-type", "application/merge-patch+json")];
    let patch = json!({ "metadata": { "resourceVersion": old["metadata"]["resourceVersion"] }, "data": { "n": "4" } });
    refused(&server.send("PATCH", &path, &merge, patch.to_string()).await, 409, "Conflict", "has been modified");
    let options = json!({ "preconditions": { "resourceVersion": old["metadata"]["resourceVersion"] } });
    refused(&server.send("DELETE", &path, &JSON, options.to_string()).await, 409, "Conflict", "Precondition failed");
    assert_eq!(server.send("GET", &path, &[], "").await.json()["data"]["n"], "2");
    server.stop().await;
}

#[tokio::test]
async fn bodies_that_are_too_large() {
    let server = Running::start().await;
    let large = json!({ "metadata": { "name": "a" }, "data": { "a": "x".repeat(4 << 20) } }).to_string();
    let answer = server.send("POST", MAPS, &JSON, large.clone()).await;
    refused(&answer, 413, "RequestEntityTooLarge", "Request entity is too large: limit is 3145728");
    // Without a length that is known before.
    let pieces: Vec<Result<bytes::Bytes, std::io::Error>> =
        large.as_bytes().chunks(60_000).map(|piece| Ok(bytes::Bytes::copy_from_slice(piece))).collect();
    let stream = axum::body::Body::from_stream(futures::stream::iter(pieces));
    refused(&server.send("POST", MAPS, &JSON, stream).await, 413, "RequestEntityTooLarge", "limit is 3145728");
    // It may be sent, but is more than the store takes.
    let labels: serde_json::Map<String, Value> =
        (0..100_000).map(|at| (format!("label-{at:06}"), Value::from("v"))).collect();
    let labelled = json!({ "metadata": { "name": "a", "labels": labels } }).to_string();
    assert!(labelled.len() < 3 << 20);
    let answer = server.send("POST", MAPS, &JSON, labelled).await;
    refused(&answer, 413, "RequestEntityTooLarge", "too large");
    nothing_is_stored(&server).await;
    server.stop().await;
}

#[tokio::test]
async fn documents_that_are_nested_too_deep_or_grow() {
    let server = Running::start().await;
    assert_eq!(server.send("POST", MAPS, &JSON, r#"{"metadata":{"name":"kept"}}"#).await.code, 201);
    let lists = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    let objects = format!("{}1{}", "{\"a\":".repeat(10_000), "}".repeat(10_000));
    let path = format!("{MAPS}/kept");
    for deep in [&lists, &objects] {
        let body = format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"a"}},"data":{deep}}}"#);
        refused(&server.send("POST", MAPS, &JSON, body.clone()).await, 400, "BadRequest", "");
        refused(&server.send("POST", MAPS, &YAML, body.clone()).await, 400, "BadRequest", "");
        refused(&server.send("PUT", &path, &JSON, body.clone()).await, 400, "BadRequest", "");
        refused(&server.send("DELETE", &path, &JSON, body.clone()).await, 400, "BadRequest", "");
        for type_ in ["merge-patch+json", "strategic-merge-patch+json", "apply-patch+yaml"] {
            let type_ = format!("application/{type_}");
            let path = format!("{path}?fieldManager=m");
            let answer = server.send("PATCH", &path, &[("content-type", type_.as_str())], body.clone()).await;
            refused(&answer, 400, "BadRequest", "");
        }
        let patch = format!(r#"[{{"op":"add","path":"/data","value":{deep}}}]"#);
        let type_ = [("content-type", "application/json-patch+json")];
        refused(&server.send("PATCH", &path, &type_, patch).await, 400, "BadRequest", "");
    }
    // Each line has the one before ten times.
    let bomb: String =
        (1..10).map(|at| format!("a{at}: &a{at} [{}]\n", vec![format!("*a{}", at - 1); 10].join(", "))).collect();
    let answer = server.send("POST", MAPS, &YAML, format!("a0: &a0 x\n{bomb}")).await;
    refused(&answer, 400, "BadRequest", "");
    let copies: Vec<Value> = (0..60).map(|_| json!({ "op": "copy", "from": "/data", "path": "/data/a" })).collect();
    let mut patch = vec![json!({ "op": "add", "path": "/data", "value": { "x": "y".repeat(1000) } })];
    patch.extend(copies);
    let type_ = [("content-type", "application/json-patch+json")];
    let answer = server.send("PATCH", &path, &type_, Value::from(patch).to_string()).await;
    assert!((400..500).contains(&answer.code), "{}", answer.json());
    assert!(server.send("GET", &path, &[], "").await.json()["data"].is_null());
    assert_eq!(server.send("GET", MAPS, &[], "").await.json()["items"].as_array().unwrap().len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn memory_for_bodies_is_bounded() {
    let mut limits = Limits::default();
    limits.bodies = 1 << 20;
    let server = Running::with(limits, |service| service).await;
    let body = json!({ "metadata": { "name": "a" }, "data": { "a": "x".repeat(2 << 20) } }).to_string();
    refused(&server.send("POST", MAPS, &JSON, body).await, 429, "TooManyRequests", "try again later");
    let small = r#"{"metadata":{"name":"a"}}"#;
    assert_eq!(server.send("POST", MAPS, &JSON, small).await.code, 201, "what was read is given back");
    server.stop().await;
}

fn short() -> Limits {
    let mut limits = Limits::default();
    limits.handshake = Duration::from_millis(300);
    limits.head_timeout = Duration::from_millis(300);
    limits.body_timeout = Duration::from_millis(300);
    limits.drain = Duration::from_millis(300);
    limits
}

/// Everything that comes until the server closes the connection.
async fn rest(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut read = Vec::new();
    // A connection that is closed hard has said all that it will say, too.
    let _ = stream.read_to_end(&mut read).await;
    String::from_utf8_lossy(&read).into_owned()
}

#[tokio::test]
async fn truncated_requests_and_slow_clients() {
    let server = Running::with(short(), |service| service).await;
    let head =
        format!("POST {MAPS} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 40\r\n\r\n");
    let body = r#"{"metadata":{"name":"a"},"#;

    // Nothing at all, not even TLS.
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(rest(&mut silent).await, "");
    // TLS, then nothing.
    let mut idle = server.connect(Some(&server.admin), "http/1.1").await;
    assert_eq!(rest(&mut idle).await, "");
    // Half a head.
    let mut slow = server.connect(Some(&server.admin), "http/1.1").await;
    slow.write_all(&head.as_bytes()[..20]).await.unwrap();
    let said = rest(&mut slow).await;
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{said}");
    // Half a body.
    let mut slow = server.connect(Some(&server.admin), "http/1.1").await;
    slow.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let said = rest(&mut slow).await;
    assert!(said.starts_with("HTTP/1.1 408") && said.contains("\"reason\":\"Timeout\""), "{said}");
    // Half a body, then gone.
    let mut gone = server.connect(Some(&server.admin), "http/1.1").await;
    gone.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    gone.shutdown().await.unwrap();
    let said = rest(&mut gone).await;
    assert!(!said.contains("201"), "{said}");
    // A head that does not end.
    let mut long = server.connect(Some(&server.admin), "http/1.1").await;
    let line = format!("x-filler: {}\r\n", "x".repeat(8000));
    let _ = long.write_all(format!("GET /version HTTP/1.1\r\nhost: a\r\n{}", line.repeat(20)).as_bytes()).await;
    let said = rest(&mut long).await;
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 431"), "{said}");
    // No HTTP.
    let mut noise = server.connect(Some(&server.admin), "http/1.1").await;
    noise.write_all(b"\x00\x01\x02 nonsense\r\n\r\n").await.unwrap();
    let said = rest(&mut noise).await;
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 400"), "{said}");
    // No TLS.
    let mut plain = TcpStream::connect(server.address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert!(rest(&mut plain).await.contains("Client sent an HTTP request to an HTTPS server."));

    nothing_is_stored(&server).await;
    server.stop().await;
}
