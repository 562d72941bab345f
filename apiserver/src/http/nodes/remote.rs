//! Agents on other machines, found by what their Node says.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::{HeaderValue, Request, Response, header};
use async_trait::async_trait;
use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use longshore_core::api::Node;
use longshore_core::api::node::NodeAddressType;
use longshore_core::client::{Api, Client};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{NodeConnector, NodeError};

/// Where an agent listens that does not say.
const DEFAULT_PORT: u16 = 10250;

/// How long a connection to an agent may take.
const CONNECT: Duration = Duration::from_secs(10);

/// How long an agent may think before its answer begins.
const ANSWER: Duration = Duration::from_secs(30);

/// Reaches agents over HTTPS at the address and port in their Node's status.
#[derive(Debug, Clone)]
pub struct RemoteNodes {
    nodes: Api<Node>,
    tls: Arc<rustls::ClientConfig>,
}

impl RemoteNodes {
    /// Nodes are looked up through `client`; `tls` is
    /// [`Authority::client_tls`](crate::pki::Authority::client_tls) with a certificate that the agents take.
    pub fn new(client: Arc<dyn Client>, tls: Arc<rustls::ClientConfig>) -> Self {
        Self { nodes: Api::all(client), tls }
    }

    async fn address(&self, node: &str) -> Result<(String, u16), NodeError> {
        let unknown = || NodeError::Unknown { node: node.to_owned() };
        let found = match self.nodes.get(node).await {
            Ok(found) => found,
            Err(error) if error.is_not_found() => return Err(unknown()),
            Err(error) => {
                let (node, reason) = (node.to_owned(), error.to_string());
                return Err(NodeError::Unreachable { node, address: "its address".to_owned(), reason });
            }
        };
        let order = [
            NodeAddressType::InternalIP,
            NodeAddressType::ExternalIP,
            NodeAddressType::InternalDNS,
            NodeAddressType::Hostname,
        ];
        let addresses = &found.status.addresses;
        let best = order.iter().find_map(|type_| addresses.iter().find(|address| address.type_ == *type_));
        let port = found.status.daemon_endpoints.kubelet_endpoint.port;
        let port = u16::try_from(port).ok().filter(|port| *port > 0).unwrap_or(DEFAULT_PORT);
        Ok((best.ok_or_else(unknown)?.address.clone(), port))
    }
}

#[async_trait]
impl NodeConnector for RemoteNodes {
    async fn call(&self, node: &str, mut request: Request<Body>) -> Result<Response<Body>, NodeError> {
        let (host, port) = self.address(node).await?;
        let at = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let failed = |reason: String| NodeError::Unreachable { node: node.to_owned(), address: at.clone(), reason };
        let connect = async {
            let stream = TcpStream::connect((host.as_str(), port)).await.map_err(|error| error.to_string())?;
            let name = match host.parse::<IpAddr>() {
                Ok(address) => ServerName::from(address),
                Err(_) => ServerName::try_from(host.clone()).map_err(|error| error.to_string())?,
            };
            let connector = TlsConnector::from(Arc::clone(&self.tls));
            let stream = connector.connect(name, stream).await.map_err(|error| error.to_string())?;
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())
        };
        let connected = tokio::time::timeout(CONNECT, connect).await;
        let connected = connected.unwrap_or_else(|_| Err(format!("no connection within {} s", CONNECT.as_secs())));
        let (mut sender, connection) = connected.map_err(failed)?;
        if let Ok(host) = HeaderValue::from_str(&at) {
            request.headers_mut().insert(header::HOST, host);
        }
        let mut connection: Connection = Box::pin(connection.with_upgrades());
        let mut answer = std::pin::pin!(sender.send_request(request));
        let answer = async {
            tokio::select! {
                biased;
                answer = &mut answer => answer,
                // If the connection ends first, the request learns of it next.
                _ = &mut connection => answer.await,
            }
        };
        let answer = tokio::time::timeout(ANSWER, answer).await;
        let answer = match answer {
            Ok(answer) => answer.map_err(|error| failed(error.to_string()))?,
            Err(_) => return Err(failed(format!("no answer within {} s", ANSWER.as_secs()))),
        };
        Ok(answer.map(|body| Body::new(Driven { body, connection: Some(connection) })))
    }
}

type Connection = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// A body that keeps its connection going while it is read, so that no task of its own is needed.
struct Driven {
    body: Incoming,
    connection: Option<Connection>,
}

impl http_body::Body for Driven {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(connection) = &mut self.connection
            && connection.as_mut().poll(cx).is_ready()
        {
            // How it ended, the body tells.
            self.connection = None;
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
