//! What must hold after a run, whatever was measured.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_core::api::pod::Pod;
use longshore_core::scheduling::cluster::{Cluster, ResourceId};
use longshore_scheduler::Engine;

use crate::Outcome;

/// Every pod is placed, no node has more than it can take, and spreading and affinity hold.
pub(crate) fn check(engine: &Engine, pods: &[Arc<Pod>]) -> Outcome {
    let cluster = engine.cluster();
    for pod in pods {
        let meta = &pod.metadata;
        let (namespace, name) = (meta.namespace.as_deref(), meta.name.as_deref());
        let placed = cluster.find_pod(namespace.unwrap_or_default(), name.unwrap_or_default());
        if placed.is_none_or(|placed| placed.node().is_none()) {
            return Err(format!("{name:?} has no node").into());
        }
    }
    for node in cluster.nodes().iter() {
        for resource in [ResourceId::CPU, ResourceId::MEMORY] {
            let at = |column: &[i64]| column.get(node.index()).copied().unwrap_or(0);
            if at(cluster.requested(resource)) > at(cluster.allocatable(resource)) {
                return Err(format!("{} is overcommitted", cluster.name(node)).into());
            }
        }
        let green = cluster.pods_on(node).filter(|pod| color(pod.pod()) == Some("green")).count();
        if green > 1 {
            return Err(format!("{green} pods that keep away from each other are on {}", cluster.name(node)).into());
        }
    }
    if pods.iter().any(|pod| {
        pod.spec.topology_spread_constraints.iter().any(|it| it.when_unsatisfiable.as_str() == "DoNotSchedule")
    }) {
        let by_zone = blue_by_zone(cluster);
        let (least, most) = (by_zone.values().min().unwrap_or(&0), by_zone.values().max().unwrap_or(&0));
        if most - least > 5 {
            return Err(format!("the skew is {}", most - least).into());
        }
    }
    Ok(())
}

fn color(pod: &Pod) -> Option<&str> {
    pod.metadata.labels.as_ref()?.get("color").map(String::as_str)
}

fn blue_by_zone(cluster: &Cluster) -> BTreeMap<&str, usize> {
    let mut count = BTreeMap::new();
    let Some(zones) = cluster.label("topology.kubernetes.io/zone") else { return count };
    for node in cluster.nodes().iter() {
        if let Some(zone) = zones.value(node) {
            let blue = cluster.pods_on(node).filter(|pod| color(pod.pod()) == Some("blue")).count();
            *count.entry(zones.text(zone)).or_insert(0) += blue;
        }
    }
    count
}
