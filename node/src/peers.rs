//! The way to other nodes' pods: their address ranges, from the nodes' objects to what [`Network::set_peers`] takes.
//!
//! [`Network::set_peers`]: longshore_core::network::Network::set_peers

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use longshore_core::api::Node;
use longshore_core::api::node::NodeAddressType;
use longshore_core::informer::Informer;
use longshore_core::network::Peer;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::shared::Shared;

/// Wait before trying again after the network refused.
const RETRY: Duration = Duration::from_secs(1);

/// Keeps the network's peers current.
#[derive(Debug)]
pub(crate) struct Peers {
    nodes: Informer<Node>,
    changed: Arc<Notify>,
}

impl Peers {
    pub(crate) fn new(nodes: Informer<Node>) -> Self {
        let changed = Arc::new(Notify::new());
        let notify = changed.clone();
        nodes.on_change(move |_| notify.notify_one());
        Self { nodes, changed }
    }

    pub(crate) async fn run(&self, shared: &Shared, cancel: &CancellationToken) {
        tokio::join!(self.nodes.run(cancel.clone()), cancel.run_until_cancelled(self.keep_current(shared)));
    }

    async fn keep_current(&self, shared: &Shared) {
        self.nodes.synced().await;
        let mut set = Vec::new();
        loop {
            let peers = peers(&self.nodes.list(), &shared.options.node_name);
            if set != peers {
                match shared.network.set_peers(&peers).await {
                    Ok(()) => set = peers,
                    Err(error) => {
                        tracing::warn!(%error, "cannot make other nodes' pods reachable, trying again");
                        shared.clock.sleep(RETRY).await;
                        continue;
                    }
                }
            }
            self.changed.notified().await;
        }
    }
}

/// The other nodes that have an address and pods, one for each family of which they have both, sorted. A range that overlaps this
/// node's own belongs to a node that shares this one's network and needs no way.
fn peers(nodes: &[Arc<Node>], own: &str) -> Vec<Peer> {
    let is_own = |node: &Node| node.metadata.name.as_deref() == Some(own);
    let ranges = |node: &Node| -> Vec<ipnet::IpNet> {
        node.spec.pod_cidrs.iter().filter_map(|range| range.parse().ok()).collect()
    };
    let own: Vec<ipnet::IpNet> = nodes.iter().filter(|node| is_own(node)).flat_map(|node| ranges(node)).collect();
    let overlaps = |range: &ipnet::IpNet| own.iter().any(|own| own.contains(range) || range.contains(own));
    let peer = |node: &Node, v4: bool| {
        let internal = node.status.addresses.iter().filter(|of| of.type_ == NodeAddressType::InternalIP);
        let mut addresses = internal.filter_map(|of| of.address.parse::<IpAddr>().ok());
        let address = addresses.find(|address| address.is_ipv4() == v4)?;
        let pods = ranges(node).into_iter().filter(|range| range.addr().is_ipv4() == v4 && !overlaps(range));
        let pods: Vec<_> = pods.collect();
        (!pods.is_empty()).then(|| Peer { node: node.metadata.name.clone().unwrap_or_default(), address, pods })
    };
    let others = nodes.iter().filter(|node| !is_own(node));
    let mut peers: Vec<Peer> =
        others.flat_map(|node| [true, false].into_iter().filter_map(|v4| peer(node, v4))).collect();
    peers.sort();
    peers
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str, addresses: &[&str], ranges: &[&str]) -> Arc<Node> {
        let mut all = vec![json!({"type": "Hostname", "address": name})];
        all.extend(addresses.iter().map(|address| json!({"type": "InternalIP", "address": address})));
        let object = json!({"metadata": {"name": name}, "spec": {"podCIDRs": ranges}, "status": {"addresses": all}});
        Arc::new(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn nodes_with_an_address_and_pods_of_their_own_are_peers() {
        let nodes = [
            node("me", &["192.168.0.1"], &["10.1.0.0/24"]),
            node("z", &["192.168.0.3"], &["10.3.0.0/24"]),
            node("b", &["192.168.0.2"], &["10.2.0.0/24"]),
            node("same", &["192.168.0.1"], &["10.1.0.0/24"]),
            node("lost", &[""], &["10.4.0.0/24"]),
            node("odd", &["192.168.0.5"], &["nothing"]),
        ];
        let peers = peers(&nodes, "me");
        let found: Vec<_> = peers.iter().map(|peer| (peer.node.as_str(), peer.pods[0].to_string())).collect();
        assert_eq!(found, [("b", "10.2.0.0/24".to_owned()), ("z", "10.3.0.0/24".to_owned())]);
    }
    #[test]
    fn each_familys_pods_are_behind_the_nodes_address_of_it() {
        let nodes = [
            node("me", &["192.168.0.1", "fd09::1"], &["10.1.0.0/24", "fd00:0:0:1::/64"]),
            node("both", &["192.168.0.2", "fd09::2"], &["10.2.0.0/24", "fd00:0:0:2::/64"]),
            node("v6-first", &["fd09::3", "192.168.0.3"], &["fd00:0:0:3::/64", "10.3.0.0/24"]),
            node("without-v6", &["192.168.0.4"], &["10.4.0.0/24", "fd00:0:0:4::/64"]),
        ];
        let shown = |peer: &Peer| format!("{} {} {}", peer.node, peer.address, peer.pods[0]);
        let found: Vec<_> = peers(&nodes, "me").iter().map(shown).collect();
        let expected = [
            "both 192.168.0.2 10.2.0.0/24",
            "both fd09::2 fd00:0:0:2::/64",
            "v6-first 192.168.0.3 10.3.0.0/24",
            "v6-first fd09::3 fd00:0:0:3::/64",
            "without-v6 192.168.0.4 10.4.0.0/24",
        ];
        assert_eq!(found, expected);
    }
}
