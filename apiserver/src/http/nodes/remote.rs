//! Agents on other machines, found by what their Node says.

use std::sync::Arc;

use ::http::{Request, Response};
use async_trait::async_trait;
use axum::body::Body;
use longshore_core::api::Node;
use longshore_core::api::node::NodeAddressType;
use longshore_core::client::{Api, Client};

use super::{NodeConnector, NodeError};
use crate::http::call::call;

/// Where an agent listens that does not say.
const DEFAULT_PORT: u16 = 10250;

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
    async fn call(&self, node: &str, request: Request<Body>) -> Result<Response<Body>, NodeError> {
        let (host, port) = self.address(node).await?;
        let at = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let called = call(&self.tls, &at, &host, request).await;
        called.map_err(|reason| NodeError::Unreachable { node: node.to_owned(), address: at, reason })
    }
}
