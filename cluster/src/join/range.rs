//! The addresses of a node's pods, which the cluster gives to its Node; of both families, if the cluster has both.

use std::time::Duration;

use ipnet::IpNet;
use longshore_core::api::Node;
use longshore_core::client::params::{ListParams, PostParams};
use longshore_core::client::{Api, Error as ClientError};
use longshore_core::clock::Clock;
use longshore_core::network::Ranges;

use super::refused;
use crate::Error;

/// Time between looks at the node.
const POLL: Duration = Duration::from_millis(200);

/// How long the controllers may take to give addresses.
const PATIENCE: Duration = Duration::from_secs(60);

/// The ranges of a node: those of its Node, else those that it had before unless another has one of them now, else new ones.
pub(crate) async fn pod_range(api: &Api<Node>, name: &str, recorded: &str, clock: &dyn Clock) -> Result<String, Error> {
    let unusable =
        |error: ClientError| refused(error.to_string(), "make sure that the API server runs and is reached from here");
    match ask(api, name, recorded, clock).await {
        Ok(Some(range)) => Ok(range),
        Ok(None) => Err(refused(
            format!("node {name} got no addresses for its pods within {} s", PATIENCE.as_secs()),
            "make sure that `longshore controllers` runs and has a --cluster-cidr with room, or give --pod-range",
        )),
        Err(error) => said_before(error, recorded).map_err(unusable),
    }
}

async fn ask(api: &Api<Node>, name: &str, recorded: &str, clock: &dyn Clock) -> Result<Option<String>, ClientError> {
    if api.get_opt(name).await?.is_none() {
        if let Ok(ranges) = recorded.parse::<Ranges>() {
            let others = api.list(&ListParams::default()).await?.items;
            let others = others.iter().flat_map(|node| &node.spec.pod_cidrs);
            let mut others = others.filter_map(|text| text.parse::<IpNet>().ok());
            if !others.any(|other| ranges.overlap(&other.into()).is_some()) {
                return Ok(Some(recorded.to_owned()));
            }
        }
        // Without anything to allocate it gets no pods until the agent says what there is.
        let mut node = Node::default();
        node.metadata.name = Some(name.to_owned());
        match api.create(node, &PostParams::default()).await {
            Err(error) if !error.is_already_exists() => return Err(error),
            _ => {}
        }
    }
    let start = clock.elapsed();
    while clock.elapsed().saturating_sub(start) <= PATIENCE {
        if let Some(node) = api.get_opt(name).await?.filter(|node| !node.spec.pod_cidr.is_empty()) {
            return Ok(Some(if node.spec.pod_cidrs.is_empty() {
                node.spec.pod_cidr.clone()
            } else {
                node.spec.pod_cidrs.join(",")
            }));
        }
        clock.sleep(POLL).await;
    }
    Ok(None)
}

/// What the cluster said before, if it cannot be asked now: a node starts, and keeps its pods, also without its API server.
pub(crate) fn said_before(error: ClientError, before: &str) -> Result<String, ClientError> {
    if !matches!(error, ClientError::Unavailable { .. }) || before.is_empty() {
        return Err(error);
    }
    tracing::warn!(%error, before, "the API server does not answer; going on with what it said before");
    Ok(before.to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use longshore_apiserver::{LocalClient, Options, Registry};
    use longshore_core::clock::VirtualClock;
    use longshore_core::store::MemoryStore;

    use super::*;

    async fn api() -> (Api<Node>, VirtualClock) {
        let clock = VirtualClock::new();
        let (store, options) = (Arc::new(MemoryStore::new()), Options::new(1));
        let registry = Registry::start(store, Arc::new(clock.clone()), options).await.unwrap();
        (Api::all(Arc::new(LocalClient::new(registry, "test"))), clock)
    }

    async fn add(api: &Api<Node>, name: &str, range: &str) {
        let mut node = Node::default();
        node.metadata.name = Some(name.into());
        node.spec.pod_cidrs = range.split(',').map(str::to_owned).collect();
        node.spec.pod_cidr = node.spec.pod_cidrs[0].clone();
        api.create(node, &PostParams::default()).await.unwrap();
    }

    #[tokio::test]
    async fn a_node_keeps_its_range_unless_another_has_it_now() {
        let (api, clock) = api().await;
        let range = async |name, recorded| pod_range(&api, name, recorded, &clock).await.unwrap();
        add(&api, "a", "10.1.0.0/24").await;
        assert_eq!(range("a", "10.9.0.0/24").await, "10.1.0.0/24", "what the Node says counts");
        assert_eq!(range("b", "10.2.0.0/24").await, "10.2.0.0/24", "its Node was deleted, and nobody else came");
        add(&api, "both", "10.3.0.0/24,fd00::/64").await;
        assert_eq!(range("both", "").await, "10.3.0.0/24,fd00::/64");
        // Somebody else got it: the node registers and waits for another.
        let patient = async {
            while clock.advance_to_next().is_some() || clock.elapsed() <= PATIENCE {
                tokio::task::yield_now().await;
            }
        };
        let (refused, ()) = tokio::join!(pod_range(&api, "c", "10.1.0.0/25", &clock), patient);
        assert!(refused.unwrap_err().to_string().contains("got no addresses for its pods within 60 s"));
        assert_eq!(api.get("c").await.unwrap().spec.pod_cidr, "");
    }

    #[test]
    fn a_node_starts_without_its_api_server_if_it_knows_enough() {
        let away = ClientError::Unavailable { operation: "get".into(), reason: "gone".into() };
        assert_eq!(said_before(away.clone(), "10.1.0.0/24").unwrap(), "10.1.0.0/24");
        assert!(said_before(away, "").is_err());
    }
}
