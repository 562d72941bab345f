use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};

use http::{HeaderMap, HeaderValue};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use longshore_core::runtime::ContainerRef;
use serde_json::json;
use tokio::net::TcpListener;

use super::*;
use crate::testing::pod;

/// Answers one call with a message and a status in its trailers; gives back the path and the message that were sent.
async fn serve(listener: &TcpListener, message: &'static [u8], status: &'static str) -> (String, Vec<u8>) {
    let (stream, _) = listener.accept().await.unwrap();
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let sender = sender.clone();
        async move {
            assert_eq!(
                (&request.headers()["content-type"], &request.headers()["te"]),
                (&HeaderValue::from_static("application/grpc"), &HeaderValue::from_static("trailers"))
            );
            let path = request.uri().path().to_owned();
            let body = request.into_body().collect().await.unwrap().to_bytes().to_vec();
            sender.send((path, body)).unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static(status));
            trailers.insert("grpc-message", HeaderValue::from_static("why"));
            let frames = [Frame::data(Bytes::from_static(message)), Frame::trailers(trailers)];
            let body = StreamBody::new(futures::stream::iter(frames.map(Ok::<_, Infallible>)));
            Ok::<_, Infallible>(http::Response::new(body))
        }
    });
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    // The client goes as soon as it has its answer.
    let _ = connection.serve_connection(TokioIo::new(stream), service).await;
    receiver.recv().await.unwrap()
}

async fn asked(service: Option<&str>, message: &'static [u8], status: &'static str) -> (Result<(), String>, Vec<u8>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = i32::from(listener.local_addr().unwrap().port());
    let grpc = GRPCAction { port, service: service.map(str::to_owned) };
    let place = place();
    let (result, (path, body)) = tokio::join!(check(&place, &grpc), serve(&listener, message, status));
    assert_eq!(path, "/grpc.health.v1.Health/Check");
    (result, body)
}

fn place() -> Place {
    let container = ContainerRef { pod_uid: "u".into(), name: "main".into(), attempt: 0 };
    Place::new(&pod("a", json!({})), container, Some(IpAddr::V4(Ipv4Addr::LOCALHOST)))
}

#[tokio::test]
async fn a_server_says_whether_it_serves() {
    for (message, expected) in [
        (&[0, 0, 0, 0, 2, 8, 1][..], Ok(())),
        (&[0, 0, 0, 0, 2, 8, 2], Err("service unhealthy (responded with \"NOT_SERVING\")".to_owned())),
        (&[0, 0, 0, 0, 0], Err("service unhealthy (responded with \"UNKNOWN\")".to_owned())),
        (&[0, 0, 0, 0, 9, 8, 1], Err("error: health rpc probe failed: the answer cannot be read".to_owned())),
        (b"?", Err("error: health rpc probe failed: the answer cannot be read".to_owned())),
    ] {
        assert_eq!(asked(None, message, "0").await, (expected, vec![0; 5]));
    }
}

#[tokio::test]
async fn a_server_is_asked_about_one_service() {
    let (result, sent) = asked(Some("web"), &[0, 0, 0, 0, 2, 8, 1], "0").await;
    assert_eq!((result, sent), (Ok(()), [&[0, 0, 0, 0, 5, 10, 3][..], b"web"].concat()));
    let long = "x".repeat(300);
    let (_, sent) = asked(Some(&long), &[0, 0, 0, 0, 2, 8, 1], "0").await;
    assert_eq!(sent[..8], [0, 0, 0, 1, 47, 10, 0xac, 2]);
}

#[tokio::test]
async fn a_server_that_does_not_know_is_not_well() {
    let (result, _) = asked(None, b"", "12").await;
    assert!(result.unwrap_err().contains("does not implement the grpc health protocol"));
    let (result, _) = asked(Some("no"), b"", "5").await;
    assert_eq!(result.unwrap_err(), "error: health rpc probe failed: rpc error: code = 5 desc = why");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let grpc = GRPCAction { port: i32::from(listener.local_addr().unwrap().port()), service: None };
    let place = place();
    let goes = async { drop(listener.accept().await.unwrap()) };
    let (result, ()) = tokio::join!(check(&place, &grpc), goes);
    assert!(result.unwrap_err().starts_with("error: health rpc probe failed: "));
    drop(listener);
    assert!(check(&place, &grpc).await.unwrap_err().starts_with("timeout: failed to connect service "));
}
