//! What a trace tells, as the objects that the scheduler knows.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use longshore_core::api::Node;
use longshore_core::api::pod::{
    Affinity, Container, NodeAffinity, NodeSelector, NodeSelectorOperator, NodeSelectorRequirement, NodeSelectorTerm,
    Pod,
};
use longshore_core::devices::{ANNOTATION, Pool, WHOLE, share_name};
use longshore_core::quantity::Quantity;
use longshore_scheduler::policies::gpu::{GPU, GPU_MODEL, PodType};

use crate::measures::Amounts;
use crate::openb::{Machine, Request};

/// More pods than any node of these traces ever has.
const PODS_MAX: i64 = 1001;

const MIB: i64 = 1 << 20;

fn value(amount: i64) -> Quantity {
    Quantity::from_value(amount, Default::default())
}

/// The machine as a node.
pub(crate) fn node(machine: &Machine) -> Node {
    let mut node = Node::default();
    node.metadata.name = Some(machine.name.clone());
    let allocatable = &mut node.status.allocatable;
    allocatable.insert("cpu".to_owned(), Quantity::from_milli(machine.milli_cpu, Default::default()));
    allocatable.insert("memory".to_owned(), value(machine.memory_mib * MIB));
    allocatable.insert("pods".to_owned(), value(PODS_MAX));
    if machine.gpus > 0 {
        allocatable.insert(GPU.to_owned(), value(machine.gpus));
        allocatable.insert(share_name(GPU), value(machine.gpus * WHOLE));
        // In the order of their numbers, which is that of their names.
        let names: Vec<String> = (0..machine.gpus).map(|gpu| format!("gpu-{gpu:03}")).collect();
        let pool = Pool::new([(GPU, names.iter().map(String::as_str))]);
        node.metadata.annotations = Some(BTreeMap::from([(ANNOTATION.to_owned(), pool.to_text())]));
        node.metadata.labels = Some(BTreeMap::from([(GPU_MODEL.to_owned(), machine.model.clone())]));
    }
    node
}

/// The pod, as yet without a name.
pub(crate) fn pod(request: &Request) -> Pod {
    let mut container = Container { name: "main".to_owned(), ..Container::default() };
    let requests = &mut container.resources.requests;
    requests.insert("cpu".to_owned(), Quantity::from_milli(request.milli_cpu, Default::default()));
    requests.insert("memory".to_owned(), value(request.memory_mib * MIB));
    match (request.gpus, request.milli) {
        (0, _) => {}
        (1, milli) if milli < WHOLE => drop(requests.insert(share_name(GPU), value(milli))),
        (gpus, _) => drop(requests.insert(GPU.to_owned(), value(gpus))),
    }
    let metadata = ObjectMeta { namespace: Some("default".to_owned()), ..ObjectMeta::default() };
    let mut pod = Pod { metadata, ..Pod::default() };
    pod.spec.containers = vec![container];
    if request.gpus > 0 && !request.models.is_empty() {
        let models = NodeSelectorRequirement {
            key: GPU_MODEL.to_owned(),
            operator: NodeSelectorOperator::In,
            values: request.models.split('|').map(str::to_owned).collect(),
        };
        let term = NodeSelectorTerm { match_expressions: vec![models], ..NodeSelectorTerm::default() };
        let required = NodeSelector { node_selector_terms: vec![term] };
        let node_affinity = NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(required),
            ..NodeAffinity::default()
        };
        pod.spec.affinity = Some(Box::new(Affinity { node_affinity: Some(node_affinity), ..Affinity::default() }));
    }
    pod
}

/// What counts for fragmentation of a pod, as [`pod`] makes them.
pub(crate) fn pod_type(pod: &Pod) -> PodType {
    let Amounts { milli_cpu, gpu_milli, .. } = Amounts::of(pod);
    let (gpus, milli) =
        if gpu_milli < WHOLE { (i64::from(gpu_milli > 0), gpu_milli) } else { (gpu_milli / WHOLE, WHOLE) };
    let affinity = pod.spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|of| of.required_during_scheduling_ignored_during_execution.as_ref());
    let terms = required.into_iter().flat_map(|selector| &selector.node_selector_terms);
    let named = terms
        .flat_map(|term| &term.match_expressions)
        .find(|expression| expression.key == GPU_MODEL && expression.operator == NodeSelectorOperator::In);
    let models = named.map(|expression| expression.values.join("|")).unwrap_or_default();
    PodType { milli_cpu, milli, gpus, models }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_type_is_that_of_its_request() {
        for (gpus, milli, models) in [(0, 0, ""), (1, 460, "T4|P100"), (1, 1000, ""), (8, 1000, "V100M32")] {
            let request = Request {
                name: "p".to_owned(),
                milli_cpu: 6000,
                memory_mib: 9,
                gpus,
                milli,
                models: models.to_owned(),
            };
            assert_eq!(pod_type(&pod(&request)), request.pod_type());
        }
    }
}
