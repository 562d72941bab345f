use std::net::Ipv4Addr;

use longshore_core::int_or_string::IntOrString;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::testing::pod;

async fn place(listener: &TcpListener) -> Place {
    let port = i64::from(listener.local_addr().unwrap().port());
    let spec =
        json!({"containers": [{"name": "main", "image": "web", "ports": [{"name": "web", "containerPort": port}]}]});
    let container = ContainerRef { pod_uid: "u".into(), name: "main".into(), attempt: 0 };
    Place::new(&pod("a", spec), container, Some(IpAddr::V4(Ipv4Addr::LOCALHOST)))
}

fn get(value: Value) -> HTTPGetAction {
    serde_json::from_value(value).unwrap()
}

/// Answers one request and gives back what was asked.
async fn answer(listener: &TcpListener, answer: &str) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut asked = Vec::new();
    while !asked.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).await.unwrap();
        asked.extend_from_slice(&byte);
    }
    stream.write_all(answer.as_bytes()).await.unwrap();
    String::from_utf8(asked).unwrap()
}

#[tokio::test]
async fn http_codes_below_400_are_success() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = place(&listener).await;
    let action = get(json!({"path": "/healthz?x=1", "port": "web", "httpHeaders": [{"name": "X-A", "value": "b"}]}));
    for (code, expected) in
        [(200, Ok(())), (302, Ok(())), (404, Err("HTTP probe failed with statuscode: 404".to_owned()))]
    {
        let text = format!("HTTP/1.1 {code} x\r\ncontent-length: 2\r\n\r\nok");
        let (result, asked) = tokio::join!(http_get(&place, &action, true), answer(&listener, &text));
        assert_eq!(result, expected);
        assert!(asked.starts_with("GET /healthz?x=1 HTTP/1.1\r\n"), "{asked}");
        let asked = asked.to_lowercase();
        assert!(asked.contains("x-a: b\r\n") && asked.contains("user-agent: kube-probe/1.35\r\n"), "{asked}");
    }
    let (hook, _) = tokio::join!(http_get(&place, &action, false), answer(&listener, "HTTP/1.1 500 x\r\n\r\n"));
    assert_eq!(hook, Ok(()), "a hook only has to be answered");
}

#[tokio::test]
async fn what_does_not_answer_is_not_well() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = place(&listener).await;
    let port = listener.local_addr().unwrap().port();
    connect("127.0.0.1", port).await.unwrap();
    drop(listener);
    let refused = connect("127.0.0.1", port).await.unwrap_err();
    assert_eq!(refused, format!("dial tcp 127.0.0.1:{port}: connect: connection refused"));
    let refused = http_get(&place, &get(json!({"path": "/", "port": "web"})), true).await.unwrap_err();
    assert_eq!(
        refused,
        format!("Get \"http://127.0.0.1:{port}/\": dial tcp 127.0.0.1:{port}: connect: connection refused")
    );
}

#[tokio::test]
async fn ports_are_found_by_number_and_name() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = place(&listener).await;
    assert_eq!(place.port(&IntOrString::String("web".into())), Ok(listener.local_addr().unwrap().port()));
    assert_eq!(place.port(&IntOrString::Int(80)), Ok(80));
    assert!(place.port(&IntOrString::String("no".into())).is_err());
    assert!(place.port(&IntOrString::Int(0)).is_err());
    assert_eq!(place.host("example.com"), Ok("example.com".to_owned()));
}
