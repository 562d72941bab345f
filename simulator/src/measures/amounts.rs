//! What is counted of pods and nodes: CPU, memory and GPUs.

use std::ops::{Add, AddAssign, Mul, Sub, SubAssign};

use longshore_core::api::Node;
use longshore_core::api::pod::Pod;
use longshore_core::api::pod::helpers::{ResourceOptions, pod_requests};
use longshore_core::devices::{WHOLE, share_name};
use longshore_core::quantity::Quantity;
use longshore_core::scheduling::NodeId;
use longshore_core::scheduling::cluster::{Cluster, ResourceId};
use longshore_scheduler::policies::gpu::GPU;

/// The names of what is counted, in the order of [`Amounts::parts`].
pub const RESOURCES: [&str; 3] = ["cpu", "memory", "gpu"];

/// An amount of each resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amounts {
    /// Thousandths of a core.
    pub milli_cpu: i64,
    /// Bytes.
    pub memory: i64,
    /// Thousandths of GPUs, those asked for as a whole among them.
    pub gpu_milli: i64,
}

impl Amounts {
    /// What a pod asks for.
    pub fn of(pod: &Pod) -> Self {
        let requests = pod_requests(pod, ResourceOptions::default());
        let value = |name: &str| requests.get(name).map_or(0, Quantity::value);
        Self {
            milli_cpu: requests.get("cpu").map_or(0, Quantity::milli_value),
            memory: value("memory"),
            gpu_milli: value(GPU).saturating_mul(WHOLE).saturating_add(value(&share_name(GPU))),
        }
    }

    /// What a node says it has for pods.
    pub fn of_allocatable(node: &Node) -> Self {
        let all = &node.status.allocatable;
        Self {
            milli_cpu: all.get("cpu").map_or(0, Quantity::milli_value),
            memory: all.get("memory").map_or(0, Quantity::value),
            gpu_milli: all.get(GPU).map_or(0, Quantity::value).saturating_mul(WHOLE),
        }
    }

    /// What a node has for pods; nothing if there is no such node.
    pub fn of_node(cluster: &Cluster, node: NodeId) -> Self {
        let Some(_) = cluster.node(node) else { return Self::default() };
        Self {
            milli_cpu: at(cluster.allocatable(ResourceId::CPU), node),
            memory: at(cluster.allocatable(ResourceId::MEMORY), node),
            gpu_milli: named(cluster, GPU, |gpu| at(cluster.allocatable(gpu), node)).saturating_mul(WHOLE),
        }
    }

    /// What the pods on a node asked for; nothing if there is no such node.
    pub fn used_on(cluster: &Cluster, node: NodeId) -> Self {
        let Some(_) = cluster.node(node) else { return Self::default() };
        let requested = |name: &str| named(cluster, name, |resource| at(cluster.requested(resource), node));
        Self {
            milli_cpu: at(cluster.requested(ResourceId::CPU), node),
            memory: at(cluster.requested(ResourceId::MEMORY), node),
            gpu_milli: requested(GPU).saturating_mul(WHOLE).saturating_add(requested(&share_name(GPU))),
        }
    }

    /// One by one, as [`RESOURCES`] names them.
    pub fn parts(self) -> [i64; 3] {
        [self.milli_cpu, self.memory, self.gpu_milli]
    }

    /// Each in percent of another; `None` where the other is nothing.
    pub fn percent_of(self, whole: Self) -> [Option<f64>; 3] {
        let (parts, wholes) = (self.parts(), whole.parts());
        std::array::from_fn(|place| (wholes[place] > 0).then(|| 100.0 * parts[place] as f64 / wholes[place] as f64))
    }
}

fn at(column: &[i64], node: NodeId) -> i64 {
    column.get(node.index()).copied().unwrap_or(0)
}

fn named(cluster: &Cluster, name: &str, amount: impl FnOnce(ResourceId) -> i64) -> i64 {
    cluster.resource(name).map_or(0, amount)
}

impl Add for Amounts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            milli_cpu: self.milli_cpu.saturating_add(other.milli_cpu),
            memory: self.memory.saturating_add(other.memory),
            gpu_milli: self.gpu_milli.saturating_add(other.gpu_milli),
        }
    }
}

impl Sub for Amounts {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            milli_cpu: self.milli_cpu.saturating_sub(other.milli_cpu),
            memory: self.memory.saturating_sub(other.memory),
            gpu_milli: self.gpu_milli.saturating_sub(other.gpu_milli),
        }
    }
}

impl Mul<i64> for Amounts {
    type Output = Self;

    fn mul(self, times: i64) -> Self {
        Self {
            milli_cpu: self.milli_cpu.saturating_mul(times),
            memory: self.memory.saturating_mul(times),
            gpu_milli: self.gpu_milli.saturating_mul(times),
        }
    }
}

impl AddAssign for Amounts {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Amounts {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl std::iter::Sum for Amounts {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}
