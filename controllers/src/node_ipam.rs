//! Gives every node a range of addresses for its pods.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use longshore_core::api::Node;
use longshore_core::events::Severity;
use longshore_core::network::Ranges;

use crate::controller::{Controller, Triggers, View};
use crate::plan::{Action, Plan};

/// Lengths of the prefixes of nodes' ranges, in bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeMasks {
    /// Of IPv4; 24 by default.
    pub v4: u8,
    /// Of IPv6; 64 by default.
    pub v6: u8,
}

impl Default for NodeMasks {
    fn default() -> Self {
        Self { v4: 24, v6: 64 }
    }
}

impl NodeMasks {
    /// The length for a range of nodes out of this one.
    pub fn of(&self, cluster: &IpNet) -> u8 {
        if cluster.addr().is_ipv4() { self.v4 } else { self.v6 }
    }

    /// Whether nodes can have ranges out of these.
    ///
    /// # Errors
    /// [`ClusterRangeError`], for the first that has too little or too much.
    pub fn check(&self, cluster: &Ranges) -> Result<(), ClusterRangeError> {
        for range in cluster.iter() {
            let mask = self.of(&range);
            if range.prefix_len() > mask {
                return Err(ClusterRangeError::TooSmall { range, mask });
            }
            if mask - range.prefix_len() > DEPTH_MAX {
                return Err(ClusterRangeError::TooLarge { range, least: mask - DEPTH_MAX });
            }
        }
        Ok(())
    }
}

/// Most bits between the cluster's prefix and a node's: 65536 nodes, as upstream.
const DEPTH_MAX: u8 = 16;

/// Why nodes cannot have ranges of a cluster's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClusterRangeError {
    /// There is no room for one node.
    #[error(
        "{range} has no room for a node's pods, which have a /{mask}: give a range whose prefix has at most {mask} bits"
    )]
    TooSmall {
        /// The range.
        range: IpNet,
        /// Length of a node's prefix.
        mask: u8,
    },
    /// There is room for more nodes than can be looked after.
    #[error("{range} is more than 65536 nodes can have: give a range whose prefix has at least {least} bits")]
    TooLarge {
        /// The range.
        range: IpNet,
        /// Least length of its prefix.
        least: u8,
    },
}

/// The controller that hands out ranges, one of each family that the cluster has. It looks at all nodes at once, so that no range is given
/// twice.
#[derive(Debug, Clone)]
pub(crate) struct NodeIpamController {
    cluster: Ranges,
    masks: NodeMasks,
    services: Option<Ranges>,
}

impl NodeIpamController {
    /// A controller that hands out ranges of these prefix lengths from the cluster's ranges, save those of Services.
    pub(crate) fn new(cluster: Ranges, masks: NodeMasks, services: Option<Ranges>) -> Self {
        Self { cluster, masks, services }
    }
}

/// The ranges there are of a cluster's, in order.
fn parts(cluster: IpNet, mask: u8) -> impl Iterator<Item = IpNet> {
    cluster.subnets(mask).into_iter().flatten()
}

fn ranges_of(node: &Node) -> impl Iterator<Item = IpNet> {
    let all = node.spec.pod_cidrs.iter().chain(Some(&node.spec.pod_cidr).filter(|range| !range.is_empty()));
    all.filter_map(|range| range.parse().ok())
}

fn overlaps(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

impl Controller for NodeIpamController {
    type Key = ();

    fn name(&self) -> &'static str {
        "node_ipam"
    }

    fn component(&self) -> String {
        "cidrAllocator".to_owned()
    }

    fn triggers(&self, triggers: &Triggers<()>) {
        triggers.on::<Node, _>(|change| {
            let wants = change.current().is_some_and(|node| node.spec.pod_cidr.is_empty());
            // A node that goes gives its range back, which others may wait for.
            (wants || change.current().is_none()).then_some(())
        });
    }

    fn reconcile(&self, view: &View<'_>, (): &(), _now: Timestamp) -> Plan {
        let nodes = view.of::<Node>().list();
        let (mut exact, mut odd) = (BTreeSet::<IpAddr>::new(), Vec::new());
        odd.extend(self.services.iter().flat_map(Ranges::iter));
        for range in nodes.iter().flat_map(|node| ranges_of(node)) {
            if range.prefix_len() == self.masks.of(&range) {
                exact.insert(range.network());
            } else {
                odd.push(range);
            }
        }
        let taken = |range: &IpNet| exact.contains(&range.network()) || odd.iter().any(|other| overlaps(range, other));
        let mut free: Vec<_> = (self.cluster.iter())
            .map(|cluster| parts(cluster, self.masks.of(&cluster)).filter(|range| !taken(range)))
            .collect();
        let mut plan = Plan::nothing();
        for node in nodes.iter().filter(|node| node.spec.pod_cidr.is_empty()) {
            // Of each family or of none: a node with half of what its pods need is no use.
            let Some(ranges) = free.iter_mut().map(Iterator::next).collect::<Option<Vec<_>>>() else {
                let text =
                    format!("Node {} status is now: CIDRNotAvailable", node.metadata.name.as_deref().unwrap_or(""));
                plan.push(Action::event(&**node, Severity::Normal, "CIDRNotAvailable", text));
                break;
            };
            let mut new = (**node).clone();
            new.spec.pod_cidrs = ranges.iter().map(ToString::to_string).collect();
            new.spec.pod_cidr = new.spec.pod_cidrs.first().cloned().unwrap_or_default();
            plan.push(Action::Update { object: Box::new(new), subresource: None });
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    #[test]
    fn ranges_that_no_nodes_can_have_are_refused() {
        let check = |ranges: &str| NodeMasks::default().check(&ranges.parse().unwrap());
        for good in ["10.244.0.0/16", "10.0.0.0/24", "10.0.0.0/8,fd00::/48", "fd00::/64"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, complaint) in [
            ("10.0.0.0/25", "10.0.0.0/25 has no room for a node's pods, which have a /24"),
            ("10.0.0.0/16,fd00::/108", "fd00::/108 has no room for a node's pods, which have a /64"),
            ("fd00::/32", "at least 48 bits"),
        ] {
            let error = check(bad).unwrap_err().to_string();
            assert!(error.contains(complaint), "{error}");
        }
    }

    fn controller(cluster: Ranges, services: Option<Ranges>) -> NodeIpamController {
        NodeIpamController::new(cluster, NodeMasks::default(), services)
    }

    async fn add(world: &World, name: &str, range: &str) {
        let mut node = Node::default();
        node.metadata.name = Some(name.into());
        node.spec.pod_cidr = range.into();
        world.create(node).await;
    }

    #[tokio::test]
    async fn no_node_gets_the_addresses_of_services() {
        let world = World::new(1);
        let [cluster, services] = ["10.244.0.0/22", "10.244.0.0/23"].map(|range| range.parse().unwrap());
        world
            .with_all(|manager| manager.add(controller(cluster, Some(services))), async {
                add(&world, "a", "").await;
                world.settle().await;
                assert_eq!(world.one::<Node>("a").spec.pod_cidr, "10.244.2.0/24");
            })
            .await;
    }

    #[tokio::test]
    async fn a_node_gets_a_range_of_each_family_or_none() {
        let world = World::new(1);
        // Room for four nodes in the first, for three in the second: one part of it is of Services.
        let [cluster, services] =
            ["10.244.0.0/22,fd00::/62", "10.96.0.0/16,fd00:0:0:1::/112"].map(|ranges| ranges.parse().unwrap());
        world
            .with_all(|manager| manager.add(controller(cluster, Some(services))), async {
                for name in ["a", "b", "c", "d"] {
                    add(&world, name, "").await;
                }
                world.settle().await;
                let mut given: Vec<_> = world.all::<Node>().into_iter().map(|node| node.spec.pod_cidrs).collect();
                given.sort();
                let expected: [&[&str]; 4] = [
                    &[],
                    &["10.244.0.0/24", "fd00::/64"],
                    &["10.244.1.0/24", "fd00:0:0:2::/64"],
                    &["10.244.2.0/24", "fd00:0:0:3::/64"],
                ];
                assert_eq!(given, expected);
            })
            .await;
    }

    #[tokio::test]
    async fn every_node_gets_a_range_of_its_own() {
        let world = World::new(1);
        let cluster = "10.244.0.0/22".parse().unwrap();
        world
            .with_all(|manager| manager.add(controller(cluster, None)), async {
                add(&world, "given", "10.244.1.0/25").await;
                for name in ["a", "b", "c", "d"] {
                    add(&world, name, "").await;
                }
                world.settle().await;
                let mut ranges: Vec<_> = world.all::<Node>().into_iter().map(|node| node.spec.pod_cidr).collect();
                ranges.sort();
                assert_eq!(ranges, ["", "10.244.0.0/24", "10.244.1.0/25", "10.244.2.0/24", "10.244.3.0/24"]);
                world.server.remove(crate::ObjectRef::of(&world.one::<Node>("given")).target());
                world.settle().await;
                assert!(world.all::<Node>().iter().any(|node| node.spec.pod_cidr == "10.244.1.0/24"));
            })
            .await;
    }
}
