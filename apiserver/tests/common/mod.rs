//! An API server on a free port, and connections to it.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test program uses a part")]

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use longshore_apiserver::http::{HttpService, Limits, Server};
use longshore_apiserver::pki::{Authority, Certified, ServerNames};
use longshore_apiserver::{Options, Registry};
use longshore_core::clock::SystemClock;
use longshore_core::store::MemoryStore;
use serde_json::Value;
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
        Self { address, authority, admin, registry, cancel, tasks }
    }

    /// Stops the server and waits until it has ended.
    pub async fn stop(mut self) {
        self.cancel.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
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
