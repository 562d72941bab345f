//! What an embedder writes: types of its own version of Kubernetes beside Longshore's.

use longshore::core::api::Node;
use longshore::core::scheduling::TieBreak;
use longshore::scheduler::{Engine, Profile};

/// An engine that knows the nodes of another API version, by way of the wire format.
pub fn engine(nodes: &[k8s_openapi::api::core::v1::Node]) -> Result<Engine, serde_json::Error> {
    let mut engine = Engine::new(Profile::default_scheduler(), TieBreak::ByName);
    for node in nodes {
        let node: Node = serde_json::from_value(serde_json::to_value(node)?)?;
        engine.cluster_mut().put_node(std::sync::Arc::new(node));
    }
    Ok(engine)
}
