//! The addresses of a node's pods, which the cluster gives to its Node.

use std::time::Duration;

use ipnet::IpNet;
use longshore_core::api::Node;
use longshore_core::client::params::{ListParams, PostParams};
use longshore_core::client::{Api, Error as ClientError};
use longshore_core::clock::Clock;

use super::refused;
use crate::Error;

/// Time between looks at the node.
const POLL: Duration = Duration::from_millis(200);

/// How long the controllers may take to give addresses.
const PATIENCE: Duration = Duration::from_secs(60);

fn unusable(error: ClientError) -> Error {
    refused(error.to_string(), "make sure that the API server runs and is reached from here")
}

/// The range of a node: that of its Node, else the one that it had before unless another has it now, else a new one.
pub(crate) async fn pod_range(api: &Api<Node>, name: &str, recorded: &str, clock: &dyn Clock) -> Result<String, Error> {
    let own = api.get_opt(name).await.map_err(unusable)?;
    if own.is_none() {
        if let Ok(range) = recorded.parse::<IpNet>() {
            let others = api.list(&ListParams::default()).await.map_err(unusable)?.items;
            let mut others =
                others.iter().flat_map(|node| &node.spec.pod_cidrs).filter_map(|text| text.parse::<IpNet>().ok());
            if !others.any(|other| other.contains(&range) || range.contains(&other)) {
                return Ok(recorded.to_owned());
            }
        }
        // Without anything to allocate it gets no pods until the agent says what there is.
        let mut node = Node::default();
        node.metadata.name = Some(name.to_owned());
        match api.create(node, &PostParams::default()).await {
            Err(error) if !error.is_already_exists() => return Err(unusable(error)),
            _ => {}
        }
    }
    let start = clock.elapsed();
    loop {
        if let Some(node) = api.get_opt(name).await.map_err(unusable)?.filter(|node| !node.spec.pod_cidr.is_empty()) {
            return Ok(node.spec.pod_cidr.clone());
        }
        if clock.elapsed().saturating_sub(start) > PATIENCE {
            return Err(refused(
                format!("node {name} got no addresses for its pods within {} s", PATIENCE.as_secs()),
                "make sure that `longshore controllers` runs and has a --cluster-cidr with room, or give --pod-range",
            ));
        }
        clock.sleep(POLL).await;
    }
}
