//! A scheduler behind a port and TLS, found by its lease.

use std::convert::Infallible;
use std::net::IpAddr;

use ::http::Response;
use longshore_core::client::params::PostParams;
use longshore_core::clock::{Clock, VirtualClock};
use longshore_core::store::MemoryStore;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tower::service_fn;

use super::*;
use crate::LocalClient;
use crate::http::Server;
use crate::pki::{Authority, ServerNames};
use crate::registry::{Options, Registry};

/// A scheduler that knows the pod `known`, and repeats what it was asked for.
async fn answer(request: ::http::Request<Body>) -> Result<Response<Body>, Infallible> {
    let wanted = request.headers()[::http::header::ACCEPT].to_str().unwrap().to_owned();
    let path = request.uri().path().to_owned();
    let (code, text) =
        if path.ends_with("/known") { (200, format!("{path} {wanted}")) } else { (404, "never heard of it\n".into()) };
    Ok(Response::builder().status(code).body(text.into()).unwrap())
}

fn pod(name: &str, scheduler: &str) -> Pod {
    let value = json!({"metadata": {"name": name, "namespace": "default"}, "spec": {"schedulerName": scheduler}});
    serde_json::from_value(value).unwrap()
}

fn lease(holder: &str, endpoint: &SchedulerEndpoint) -> Lease {
    let annotations = json!({ SchedulerEndpoint::ANNOTATION: endpoint.annotation() });
    serde_json::from_value(json!({
        "metadata": {"name": "leader", "namespace": "kube-system", "annotations": annotations},
        "spec": {"holderIdentity": holder},
    }))
    .unwrap()
}

/// What is said of a pod, by a scheduler whose certificate has `name`, when `holder` leads.
async fn ask(name: &str, holder: &str, pod: &Pod, form: Form) -> Result<String, ExplainError> {
    let clock: Arc<dyn Clock> = Arc::new(VirtualClock::new());
    let registry = Registry::start(Arc::new(MemoryStore::new()), clock.clone(), Options::new(1)).await.unwrap();
    let client: Arc<dyn Client> = Arc::new(LocalClient::new(registry, "test"));
    let authority = Authority::generate(clock).unwrap();
    let names = ServerNames { dns: vec![name.to_owned()], addresses: vec![IpAddr::from([127, 0, 0, 1])] };
    let tls = authority.server_tls(&authority.issue_part("a", &[], &names).unwrap()).unwrap();
    let server = Server::bind("127.0.0.1:0".parse().unwrap(), tls, service_fn(answer)).await.unwrap();
    let endpoint = SchedulerEndpoint {
        identity: "one".to_owned(),
        address: server.local_addr(),
        profiles: vec!["fast".to_owned()],
    };
    let leases = Api::<Lease>::namespaced(client.clone(), "kube-system");
    leases.create(lease(holder, &endpoint), &PostParams::default()).await.unwrap();
    let own = authority.issue_client("kube-apiserver", &[]).unwrap();
    let schedulers = RemoteSchedulers::new(client, authority.client_tls(Some(&own)).unwrap());
    let cancel = CancellationToken::new();
    let asked = async {
        let answer = async {
            let body = schedulers.explain(pod, form).await?;
            let bytes = http_body_util::BodyExt::collect(body).await.unwrap().to_bytes();
            Ok(String::from_utf8(bytes.to_vec()).unwrap())
        };
        let answer = answer.await;
        cancel.cancel();
        answer
    };
    tokio::join!(server.serve(cancel.clone()), asked).1
}

#[tokio::test]
async fn the_scheduler_that_a_pod_names_is_asked() {
    let answer = ask(SERVER_NAME, "one", &pod("known", "fast"), Form::Json).await;
    assert_eq!(answer.unwrap(), "/explain/default/known application/json");
    let answer = ask(SERVER_NAME, "one", &pod("known", "fast"), Form::Text).await;
    assert_eq!(answer.unwrap(), "/explain/default/known text/plain; charset=utf-8");
    let error = ask(SERVER_NAME, "one", &pod("other", "fast"), Form::Json).await.unwrap_err();
    assert_eq!(error, ExplainError::UnknownPod("never heard of it".to_owned()));
}

#[tokio::test]
async fn a_scheduler_of_another_name_is_not_asked() {
    let error = ask(SERVER_NAME, "one", &pod("known", ""), Form::Json).await.unwrap_err().to_string();
    assert!(error.starts_with("no scheduler of the name \"default-scheduler\" leads that could be asked"), "{error}");
}

#[tokio::test]
async fn what_an_earlier_leader_left_is_not_believed() {
    let error = ask(SERVER_NAME, "two", &pod("known", "fast"), Form::Json).await.unwrap_err().to_string();
    assert!(error.starts_with("no scheduler of the name \"fast\" leads"), "{error}");
}

#[tokio::test]
async fn a_lease_cannot_lead_to_who_has_no_schedulers_certificate() {
    let error = ask("node-1", "one", &pod("known", "fast"), Form::Json).await.unwrap_err().to_string();
    assert!(
        error.starts_with("cannot ask the scheduler one at 127.0.0.1:") && error.contains("certificate"),
        "{error}"
    );
}
