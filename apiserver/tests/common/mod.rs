//! An API server on a free port, and connections to it.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test program uses a part")]

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use longshore_apiserver::http::{HttpService, Limits, RemoteNodes, Server, Service};
use longshore_apiserver::pki::{Authority, Certified, ServerNames};
use longshore_apiserver::{LocalClient, Options, Registry};
use longshore_core::clock::SystemClock;
use longshore_core::store::MemoryStore;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

/// A running server. Dropping it ends it.
pub struct Running {
    pub address: SocketAddr,
    pub authority: Authority,
    pub admin: Certified,
    pub registry: Arc<Registry>,
    pub cancel: CancellationToken,
    tasks: JoinSet<()>,
    agent: (CancellationToken, JoinSet<()>),
}

/// What came back.
pub struct Answer {
    pub code: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

impl Running {
    pub async fn start() -> Self {
        Self::with(Limits::default(), |service| service).await
    }

    /// A server with these limits; `change` may add to the service.
    pub async fn with(limits: Limits, change: impl FnOnce(HttpService) -> HttpService) -> Self {
        Self::of(limits, |registry| change(HttpService::new(registry))).await
    }

    /// A server of the service that `make` makes of the registry.
    pub async fn with_registry(make: impl FnOnce(Arc<Registry>) -> HttpService) -> Self {
        Self::of(Limits::default(), make).await
    }

    async fn of(limits: Limits, make: impl FnOnce(Arc<Registry>) -> HttpService) -> Self {
        let clock = Arc::new(SystemClock::new());
        let store = Arc::new(MemoryStore::new());
        let registry = Registry::start(store, clock.clone(), Options::new(1)).await.unwrap();
        let authority = Authority::generate(clock).unwrap();
        let certified = authority.issue_server("kube-apiserver", &ServerNames::apiserver([])).unwrap();
        let admin = authority.issue_client("kubernetes-admin", &["system:masters"]).unwrap();
        let service = make(Arc::clone(&registry));
        let tls = authority.server_tls(&certified).unwrap();
        let server = Server::bind(([127, 0, 0, 1], 0).into(), tls, service).await.unwrap().with_limits(limits);
        let (address, cancel) = (server.local_addr(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(server.serve(cancel.clone()));
        Self { address, authority, admin, registry, cancel, tasks, agent: Default::default() }
    }

    /// A server that finds agents by their Nodes, and the agent of the node `n1` on a port of its own, which ends after it.
    pub async fn with_agent(agent: impl Service) -> Self {
        // The API server's authority is made first, so that the agent's certificate is of the same one.
        let authority = Authority::generate(Arc::new(SystemClock::new())).unwrap();
        let names = ServerNames::node("n1", [[127, 0, 0, 1].into()]);
        let tls = authority.server_tls(&authority.issue_server("system:node:n1", &names).unwrap()).unwrap();
        let node = Server::bind(([127, 0, 0, 1], 0).into(), tls, agent).await.unwrap();
        let own = authority.issue_client("kube-apiserver-kubelet-client", &["system:masters"]).unwrap();
        let tls = authority.client_tls(Some(&own)).unwrap();
        let mut server = Self::with_registry(|registry| {
            let client = Arc::new(LocalClient::new(Arc::clone(&registry), "test"));
            HttpService::new(registry).with_nodes(Arc::new(RemoteNodes::new(client, tls)))
        })
        .await;
        server.node("n1", node.local_addr().port()).await;
        server.agent.1.spawn(node.serve(server.agent.0.clone()));
        server
    }

    /// Makes a node whose agent is to be found at this port.
    pub async fn node(&self, name: &str, port: u16) {
        self.create("/api/v1/nodes", json!({ "metadata": { "name": name } })).await;
        let status = json!({ "status": {
            "addresses": [{ "type": "Hostname", "address": "nowhere" }, { "type": "InternalIP", "address": "127.0.0.1" }],
            "daemonEndpoints": { "kubeletEndpoint": { "Port": port } },
        } });
        let patch = [("content-type", "application/merge-patch+json")];
        let path = format!("/api/v1/nodes/{name}/status");
        assert_eq!(self.send("PATCH", &path, &patch, status.to_string()).await.code, 200);
    }

    pub async fn create(&self, path: &str, object: Value) {
        let answer = self.send("POST", path, &[("content-type", "application/json")], object.to_string()).await;
        assert_eq!(answer.code, 201, "{}", answer.json());
    }

    /// Stops the server and waits until it has ended.
    pub async fn stop(self) {
        let (agent, agents) = self.agent;
        for (cancel, mut tasks) in [(self.cancel, self.tasks), (agent, agents)] {
            cancel.cancel();
            while let Some(ended) = tasks.join_next().await {
                ended.unwrap();
            }
        }
    }

    /// A TLS connection that speaks `protocol`.
    pub async fn connect(&self, certified: Option<&Certified>, protocol: &str) -> TlsStream<TcpStream> {
        let mut config = (*self.authority.client_tls(certified).unwrap()).clone();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = rustls::pki_types::ServerName::from(self.address.ip());
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
    }

    /// Sends a request as the administrator over HTTP/1.1.
    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        self.send_as(Some(&self.admin), method, path, headers, body).await
    }

    /// Sends a request over a connection of its own.
    pub async fn send_as(
        &self,
        certified: Option<&Certified>,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let stream = TokioIo::new(self.connect(certified, "http/1.1").await);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.into()).unwrap();
        let exchange = async {
            let response = sender.send_request(request).await.unwrap();
            let (head, body) = response.into_parts();
            let body = body.collect().await.unwrap().to_bytes().to_vec();
            Answer { code: head.status.as_u16(), headers: head.headers, body }
        };
        let mut exchange = std::pin::pin!(exchange);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            answer = &mut exchange => answer,
            // The connection may end first; the answer is then already here.
            _ = &mut connection => exchange.await,
        }
    }
}
