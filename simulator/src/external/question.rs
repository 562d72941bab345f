//! What a chooser is told.

use longshore_core::devices::{WHOLE, share_name};
use longshore_core::scheduling::{Cycle, NodeId, NodeView};
use longshore_scheduler::policies::gpu::{GPU, GPU_MODEL};
use serde::Serialize;

/// A pod, and the nodes that can take it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Question<'c> {
    /// The pod.
    pub pod: AskedPod,
    /// The nodes, in the order of their places, which never changes while they are there.
    pub candidates: Vec<Candidate<'c>>,
}

/// What a pod asks for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AskedPod {
    /// Namespace and name, with a `/` between them.
    pub name: String,
    /// Thousandths of a core.
    pub cpu: i64,
    /// Bytes.
    pub memory: i64,
    /// How many GPUs; 1 if it is a part of one.
    pub gpus: i64,
    /// Thousandths of each GPU: 1000 unless it is a part of one.
    pub gpu_milli: i64,
}

/// A node that can take the pod.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Candidate<'c> {
    /// Its name.
    pub node: &'c str,
    /// Thousandths of cores.
    pub cpu: Amount,
    /// Bytes.
    pub memory: Amount,
    /// What is left of each GPU in thousandths, in the order of their names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<i64>,
    /// Of which model they are: the node's label `gpu-model`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<&'c str>,
    /// How many pods it has.
    pub pods: i64,
}

/// Of a resource of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// What nobody asked for.
    pub free: i64,
    /// What there is for pods.
    pub total: i64,
}

impl<'c> Question<'c> {
    pub(super) fn of(cycle: Cycle<'c>, nodes: &[NodeId]) -> Self {
        let meta = &cycle.pod().metadata;
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let (gpus, gpu_milli) = match (cycle.request(GPU), cycle.request(&share_name(GPU))) {
            (0, 0) => (0, 0),
            (0, milli) => (1, milli),
            (gpus, _) => (gpus, WHOLE),
        };
        let pod = AskedPod {
            name: format!("{}/{}", text(&meta.namespace), text(&meta.name)),
            cpu: cycle.request("cpu"),
            memory: cycle.request("memory"),
            gpus,
            gpu_milli,
        };
        Self { pod, candidates: nodes.iter().map(|node| Candidate::of(cycle.node(*node))).collect() }
    }
}

impl<'c> Candidate<'c> {
    fn of(node: NodeView<'c>) -> Self {
        let amount = |resource| Amount { free: node.free(resource), total: node.allocatable(resource) };
        let pool = node.devices();
        let gpus = pool.as_deref().and_then(|pool| pool.left_of(GPU)).into_iter().flatten().map(|(_, left)| *left);
        Self {
            node: node.name(),
            cpu: amount("cpu"),
            memory: amount("memory"),
            gpus: gpus.collect(),
            model: node.label(GPU_MODEL),
            pods: node.requested("pods"),
        }
    }
}
