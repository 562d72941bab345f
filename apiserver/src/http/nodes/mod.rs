//! How the API server reaches the agents of nodes: in the same process, or over TLS.

mod remote;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use ::http::{Request, Response};
use async_trait::async_trait;
use axum::body::Body;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

use super::Service;

pub use remote::RemoteNodes;

/// The way to the agents of nodes.
///
/// # Contract
/// The request's path is the agent's (`/containerLogs/…`); host and scheme are the connector's business. The answer is
/// handed over as it begins, its body as it comes; dropping it ends the request at the agent. An answer that grants an
/// upgrade carries a [`Takeover`](longshore_core::connection::Takeover) in its extensions: what is to be done with the
/// connection of whoever asked for it.
#[async_trait]
pub trait NodeConnector: fmt::Debug + Send + Sync + 'static {
    /// Sends a request to the agent of a node.
    ///
    /// # Errors
    /// The node is not known, or its agent cannot be reached. What the agent answers, be it an error, is no error here.
    async fn call(&self, node: &str, request: Request<Body>) -> Result<Response<Body>, NodeError>;
}

/// Why a node's agent could not be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// No agent of this node is known.
    #[error("the agent of node {node:?} is not known here; is it running?")]
    Unknown {
        /// The node.
        node: String,
    },
    /// The agent does not answer.
    #[error("cannot reach the agent of node {node:?} at {address}: {reason}")]
    Unreachable {
        /// The node.
        node: String,
        /// Where its agent should be.
        address: String,
        /// What happened.
        reason: String,
    },
}

type Agent = BoxCloneSyncService<Request<Body>, Response<Body>, std::convert::Infallible>;

/// The agents that run in the same process. Cheap to clone; clones share the agents.
#[derive(Clone, Default)]
pub struct LocalNodes {
    agents: Arc<RwLock<BTreeMap<String, Agent>>>,
}

impl fmt::Debug for LocalNodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let agents = self.agents.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_set().entries(agents.keys()).finish()
    }
}

impl LocalNodes {
    /// No agents yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes an agent known, in place of an earlier one of the same node.
    pub fn insert(&self, node: &str, agent: impl Service) {
        let mut agents = self.agents.write().unwrap_or_else(PoisonError::into_inner);
        agents.insert(node.to_owned(), BoxCloneSyncService::new(agent));
    }

    /// Forgets an agent.
    pub fn remove(&self, node: &str) {
        self.agents.write().unwrap_or_else(PoisonError::into_inner).remove(node);
    }

    /// Whether an agent is known.
    pub fn has(&self, node: &str) -> bool {
        self.get(node).is_some()
    }

    fn get(&self, node: &str) -> Option<Agent> {
        self.agents.read().unwrap_or_else(PoisonError::into_inner).get(node).cloned()
    }
}

#[async_trait]
impl NodeConnector for LocalNodes {
    async fn call(&self, node: &str, request: Request<Body>) -> Result<Response<Body>, NodeError> {
        let agent = self.get(node).ok_or_else(|| NodeError::Unknown { node: node.to_owned() })?;
        let Ok(response) = agent.oneshot(request).await;
        Ok(response)
    }
}
