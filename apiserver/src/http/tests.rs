//! Requests against the service, without a port.

use std::sync::Arc;

use axum::body::Body;
use http_body_util::BodyExt;
use longshore_core::clock::VirtualClock;
use longshore_core::store::MemoryStore;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::HttpService;
use crate::registry::{Options, Registry};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn service() -> HttpService {
    timed().await.0
}

async fn timed() -> (HttpService, VirtualClock) {
    let (store, clock) = (Arc::new(MemoryStore::new()), VirtualClock::new());
    let registry = Registry::start(store, Arc::new(clock.clone()), Options::new(1)).await.unwrap();
    (HttpService::new(registry), clock)
}

/// The next event of a watch.
async fn event(body: &mut Body) -> Value {
    serde_json::from_slice(&body.frame().await.unwrap().unwrap().into_data().unwrap()).unwrap()
}

async fn send(
    service: &HttpService,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Body>,
) -> (u16, ::http::HeaderMap, Value) {
    let mut request = ::http::Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = service.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    (head.status.as_u16(), head.headers, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

fn map(name: &str) -> String {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"key": "1"}}).to_string()
}

#[tokio::test]
async fn objects_are_created_read_patched_and_deleted() {
    let service = service().await;
    let (code, _, created) = send(&service, "POST", MAPS, &[("user-agent", "kubectl/v1.32")], map("a")).await;
    assert_eq!(code, 201, "{created}");
    assert_eq!(created["metadata"]["managedFields"][0]["manager"], "kubectl");
    let path = format!("{MAPS}/a");
    let patch = [("content-type", "application/strategic-merge-patch+json")];
    let (code, _, patched) = send(&service, "PATCH", &path, &patch, r#"{"data":{"more":"2"}}"#).await;
    assert_eq!((code, &patched["data"]), (200, &json!({"key": "1", "more": "2"})));
    let yaml = [("content-type", "application/apply-patch+yaml")];
    let config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\ndata: {x: z}\n";
    let (code, _, applied) = send(&service, "PATCH", &format!("{MAPS}/b?fieldManager=me"), &yaml, config).await;
    assert!(code == 200 || code == 201, "{applied}");
    let (_, _, list) = send(&service, "GET", MAPS, &[], "").await;
    assert_eq!((list["kind"].as_str(), list["items"].as_array().map(Vec::len)), (Some("ConfigMapList"), Some(2)));
    let (code, _, gone) = send(&service, "DELETE", &path, &[], "").await;
    assert_eq!((code, gone["status"].as_str()), (200, Some("Success")));
    let (code, _, missing) = send(&service, "GET", &path, &[], "").await;
    assert_eq!(code, 404);
    assert_eq!(missing["message"], "configmaps \"a\" not found");
    assert_eq!(missing["details"], json!({"name": "a", "kind": "configmaps"}));
}

#[tokio::test]
async fn tables_and_discovery_are_what_kubectl_asks_for() {
    let service = service().await;
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")];
    let (_, _, table) = send(&service, "GET", "/api/v1/namespaces", &accept, "").await;
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["columnDefinitions"][0]["name"], "Name");
    assert_eq!(table["rows"].as_array().map(Vec::len), Some(4));
    let accept = [("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json")];
    let (_, headers, all) = send(&service, "GET", "/api", &accept, "").await;
    assert_eq!(headers["content-type"], "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
    let resources = all["items"][0]["versions"][0]["resources"].as_array().unwrap();
    assert!(resources.iter().any(|resource| resource["resource"] == "configmaps"));
    let (_, _, plain) = send(&service, "GET", "/api/v1", &[], "").await;
    assert!(plain["resources"].as_array().unwrap().iter().any(|resource| resource["name"] == "namespaces"));
    let (code, _, version) = send(&service, "GET", "/version", &[], "").await;
    assert_eq!((code, version["minor"].as_str()), (200, Some("35")));
}

#[tokio::test]
async fn bad_requests_are_answered_as_upstream_does_and_store_nothing() {
    let service = service().await;
    let deep =
        format!(r#"{{"kind":"ConfigMap","apiVersion":"v1","data":{}1{}}}"#, "[".repeat(10_001), "]".repeat(10_001));
    let strict = format!("{MAPS}?fieldValidation=Strict");
    let unknown = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"extra":1}"#;
    let cases: [(&str, &str, &str, String, u16); 9] = [
        ("POST", MAPS, "application/json", "x".repeat(4 << 20), 413),
        ("POST", MAPS, "application/json", deep, 400),
        ("POST", MAPS, "application/json", "{\"kind\":\"Conf".to_owned(), 400),
        ("POST", MAPS, "application/cbor", map("a"), 415),
        ("POST", &strict, "application/json", unknown.to_owned(), 400),
        ("POST", "/api/v1/configmaps", "application/json", map("a"), 405),
        ("POST", "/api/v1/namespaces/nowhere/configmaps", "application/json", map("a"), 404),
        ("GET", "/api/v1/nothings", "", String::new(), 404),
        ("POST", MAPS, "application/json", map("a/b"), 422),
    ];
    for (method, path, content_type, body, expected) in cases {
        let (code, _, status) = send(&service, method, path, &[("content-type", content_type)], body).await;
        assert_eq!(code, expected, "{method} {path} {content_type}: {status}");
        assert_eq!((status["kind"].as_str(), status["code"].as_u64()), (Some("Status"), Some(expected.into())));
    }
    let (_, _, list) = send(&service, "GET", MAPS, &[], "").await;
    assert_eq!(list["items"], json!([]));
    let (code, headers, _) = send(&service, "POST", MAPS, &[("content-type", "application/json")], unknown).await;
    assert_eq!((code, headers["warning"].to_str().unwrap()), (201, "299 - \"unknown field \\\"extra\\\"\""));
}

#[tokio::test]
async fn a_watch_sends_lines_and_a_made_up_token_is_refused() {
    let service = service().await;
    let request = ::http::Request::get(format!("{MAPS}?watch=1&sendInitialEvents=true&allowWatchBookmarks=true"));
    let response = service.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let mut body = response.into_body();
    let bookmark = body.frame().await.unwrap().unwrap().into_data().unwrap();
    let bookmark: Value = serde_json::from_slice(&bookmark).unwrap();
    assert_eq!(bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    send(&service, "POST", MAPS, &[], map("a")).await;
    let added = body.frame().await.unwrap().unwrap().into_data().unwrap();
    let added: Value = serde_json::from_slice(&added).unwrap();
    assert_eq!((added["type"].as_str(), added["object"]["metadata"]["name"].as_str()), (Some("ADDED"), Some("a")));
    // A token that nobody gave out.
    let (code, _, error) = send(&service, "GET", &format!("{MAPS}?limit=1&continue=%21"), &[], "").await;
    assert_eq!((code, error["reason"].as_str()), (400, Some("BadRequest")));
}

#[tokio::test]
async fn a_watch_without_news_is_told_how_far_it_is() {
    let (service, clock) = timed().await;
    let path = format!("{MAPS}?watch=1&resourceVersion=1&allowWatchBookmarks=true&fieldSelector=metadata.name%3Dnone");
    let request = ::http::Request::get(path).body(Body::empty()).unwrap();
    let mut body = service.clone().oneshot(request).await.unwrap().into_body();
    let (_, _, created) = send(&service, "POST", MAPS, &[], map("a")).await;
    let next = tokio::join!(event(&mut body), async {
        // The watch sleeps until its bookmark is due, and until its own end.
        while clock.sleepers() < 2 {
            tokio::task::yield_now().await;
        }
        clock.advance(std::time::Duration::from_secs(60));
    });
    assert_eq!(next.0["type"], "BOOKMARK");
    assert_eq!(next.0["object"]["metadata"]["resourceVersion"], created["metadata"]["resourceVersion"]);
    assert_eq!(next.0["object"]["kind"], "ConfigMap");
}

#[tokio::test]
async fn large_answers_are_compressed_for_who_takes_that() {
    let service = service().await;
    let large = json!({"metadata": {"name": "a"}, "data": {"key": "x".repeat(200_000)}}).to_string();
    send(&service, "POST", MAPS, &[], large).await;
    let request = ::http::Request::get(MAPS).header("accept-encoding", "br, gzip").body(Body::empty()).unwrap();
    let response = service.clone().oneshot(request).await.unwrap();
    assert_eq!(response.headers()["content-encoding"], "gzip");
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    assert!(bytes.len() < 20_000, "{}", bytes.len());
    let list: Value = serde_json::from_reader(flate2::read::GzDecoder::new(&bytes[..])).unwrap();
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1));
    let (_, headers, _) = send(&service, "GET", MAPS, &[("accept-encoding", "gzip;q=0")], "").await;
    assert!(headers.get("content-encoding").is_none());
}

#[tokio::test]
async fn only_metadata_where_that_is_asked_for() {
    let service = service().await;
    send(&service, "POST", MAPS, &[], map("a")).await;
    let accept = [("accept", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json")];
    let (_, _, list) = send(&service, "GET", MAPS, &accept, "").await;
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(list["items"][0]["kind"], "PartialObjectMetadata");
    assert_eq!((&list["items"][0]["metadata"]["name"], &list["items"][0]["data"]), (&json!("a"), &Value::Null));
    let accept = [("accept", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json")];
    let (_, _, one) = send(&service, "GET", &format!("{MAPS}/a"), &accept, "").await;
    assert_eq!((one["kind"].as_str(), one.get("data")), (Some("PartialObjectMetadata"), None));
}

/// Knows one pod.
#[derive(Debug)]
struct OnePod;

#[async_trait::async_trait]
impl super::Explainer for OnePod {
    async fn explain(&self, pod: &longshore_core::api::Pod, form: super::Form) -> Result<Body, super::ExplainError> {
        match (pod.metadata.name.as_deref(), form) {
            (Some("known"), super::Form::Json) => Ok(json!({"name": "known"}).to_string().into()),
            (Some("known"), super::Form::Text) => Ok("because\n".into()),
            _ => Err(super::ExplainError::UnknownPod("never heard of it".to_owned())),
        }
    }
}

#[tokio::test]
async fn the_scheduler_is_asked_why_a_pod_is_where_it_is() {
    const PODS: &str = "/api/v1/namespaces/default/pods";
    let alone = service().await;
    for name in ["known", "foreign"] {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
        let (code, _, created) = send(&alone, "POST", PODS, &[], pod.to_string()).await;
        assert_eq!(code, 201, "{created}");
    }
    let known = format!("{PODS}/known/explain");
    let (code, _, status) = send(&alone, "GET", &known, &[], "").await;
    assert_eq!((code, status["reason"].as_str()), (501, Some("NotImplemented")), "{status}");
    let service = alone.with_explainer(Arc::new(OnePod));
    let (code, _, value) = send(&service, "GET", &known, &[("accept", "application/json, */*")], "").await;
    assert_eq!((code, value), (200, json!({"name": "known"})));
    let (code, headers, _) = send(&service, "GET", &known, &[("accept", "text/plain")], "").await;
    assert_eq!((code, headers["content-type"].to_str().unwrap()), (200, "text/plain; charset=utf-8"));
    let (code, _, status) = send(&service, "GET", &format!("{PODS}/foreign/explain"), &[], "").await;
    assert_eq!((code, status["message"].as_str()), (404, Some("never heard of it")));
    let (code, _, status) = send(&service, "GET", &format!("{PODS}/nobody/explain"), &[], "").await;
    assert_eq!((code, status["message"].as_str()), (404, Some("pods \"nobody\" not found")));
    assert_eq!(send(&service, "DELETE", &known, &[], "").await.0, 405);
    assert_eq!(send(&service, "GET", &known, &[("accept", "image/png")], "").await.0, 406);
    assert_eq!(send(&service, "GET", "/api/v1/namespaces/default/explain", &[], "").await.0, 404);
    let (_, _, list) = send(&service, "GET", "/api/v1", &[], "").await;
    let explain = list["resources"].as_array().unwrap().iter().find(|resource| resource["name"] == "pods/explain");
    assert_eq!(explain.unwrap()["verbs"], json!(["get"]));
}

#[tokio::test]
async fn metrics_are_shown_if_there_are_any() {
    let service = service().await;
    assert_eq!(send(&service, "GET", "/metrics", &[], "").await.0, 404);
    let mut metrics = prometheus_client::registry::Registry::default();
    let counter = prometheus_client::metrics::counter::Counter::<u64>::default();
    metrics.register("things", "Things", counter.clone());
    counter.inc();
    let service = service.with_metrics(Arc::new(metrics));
    let request = ::http::Request::get("/metrics").body(Body::empty()).unwrap();
    let body = service.oneshot(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&body).contains("things_total 1"));
}
