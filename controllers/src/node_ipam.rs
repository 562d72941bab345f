//! Gives every node a range of addresses for its pods.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use longshore_core::api::Node;
use longshore_core::events::Severity;

use crate::controller::{Controller, Triggers, View};
use crate::plan::{Action, Plan};

/// The controller that hands out ranges. It looks at all nodes at once, so that no range is given twice.
#[derive(Debug, Clone)]
pub(crate) struct NodeIpamController {
    cluster: IpNet,
    mask: u8,
    services: Option<IpNet>,
}

impl NodeIpamController {
    /// A controller that hands out ranges of this prefix length from the cluster's range, save those of Services.
    pub(crate) fn new(cluster: IpNet, mask: u8, services: Option<IpNet>) -> Self {
        Self { cluster: cluster.trunc(), mask, services }
    }

    /// The ranges there are, in order.
    fn ranges(&self) -> impl Iterator<Item = IpNet> + use<> {
        let (v4, v6) = match (self.cluster, self.mask) {
            (IpNet::V4(cluster), mask) => (cluster.subnets(mask).ok(), None),
            (IpNet::V6(cluster), mask) => (None, cluster.subnets(mask).ok()),
        };
        v4.into_iter().flatten().map(IpNet::V4).chain(v6.into_iter().flatten().map(IpNet::V6))
    }
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
        let (mut exact, mut odd) = (BTreeSet::<IpAddr>::new(), Vec::from_iter(self.services));
        for range in nodes.iter().flat_map(|node| ranges_of(node)) {
            if range.prefix_len() == self.mask {
                exact.insert(range.network());
            } else {
                odd.push(range);
            }
        }
        let taken = |range: &IpNet| exact.contains(&range.network()) || odd.iter().any(|other| overlaps(range, other));
        let mut free = self.ranges().filter(|range| !taken(range));
        let mut plan = Plan::nothing();
        for node in nodes.iter().filter(|node| node.spec.pod_cidr.is_empty()) {
            let Some(range) = free.next() else {
                let text =
                    format!("Node {} status is now: CIDRNotAvailable", node.metadata.name.as_deref().unwrap_or(""));
                plan.push(Action::event(&**node, Severity::Normal, "CIDRNotAvailable", text));
                break;
            };
            let mut new = (**node).clone();
            new.spec.pod_cidr = range.to_string();
            new.spec.pod_cidrs = vec![range.to_string()];
            plan.push(Action::Update { object: Box::new(new), subresource: None });
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

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
            .with_all(|manager| manager.add(NodeIpamController::new(cluster, 24, Some(services))), async {
                add(&world, "a", "").await;
                world.settle().await;
                assert_eq!(world.one::<Node>("a").spec.pod_cidr, "10.244.2.0/24");
            })
            .await;
    }

    #[tokio::test]
    async fn every_node_gets_a_range_of_its_own() {
        let world = World::new(1);
        let cluster: IpNet = "10.244.0.0/22".parse().unwrap();
        world
            .with_all(|manager| manager.add(NodeIpamController::new(cluster, 24, None)), async {
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
