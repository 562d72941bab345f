//! The built-in policies, each in a file of its own and named as upstream's.

mod default_binder;
mod default_preemption;
mod devices;
mod dynamic_resources;
mod gang;
pub mod gpu;
mod image_locality;
mod inter_pod_affinity;
mod lanes;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources_balanced_allocation;
mod node_resources_fit;
mod node_unschedulable;
mod node_volume_limits;
pub mod packing;
mod pod_topology_spread;
mod preference;
mod priority_sort;
mod scheduling_gates;
mod selector;
mod storage;
mod taint_toleration;
mod volume_binding;
mod volume_restrictions;
mod volume_zone;

use std::sync::Arc;

use longshore_core::scheduling::Policy;

pub use default_binder::DefaultBinder;
pub use default_preemption::DefaultPreemption;
pub use devices::Devices;
pub use dynamic_resources::DynamicResources;
pub use gang::Gang;
pub use image_locality::ImageLocality;
pub use inter_pod_affinity::InterPodAffinity;
pub use node_affinity::NodeAffinity;
pub use node_name::NodeName;
pub use node_ports::NodePorts;
pub use node_resources_balanced_allocation::NodeResourcesBalancedAllocation;
pub use node_resources_fit::{NodeResourcesFit, Strategy};
pub use node_unschedulable::NodeUnschedulable;
pub use node_volume_limits::NodeVolumeLimits;
pub use pod_topology_spread::PodTopologySpread;
pub use priority_sort::PrioritySort;
pub use scheduling_gates::SchedulingGates;
pub use taint_toleration::TaintToleration;
pub use volume_binding::VolumeBinding;
pub use volume_restrictions::VolumeRestrictions;
pub use volume_zone::VolumeZone;

/// Upstream's default profile: the policies in their order, with their weights. A new policy is one more line here.
pub(crate) fn default_profile() -> Vec<(Arc<dyn Policy>, i64)> {
    vec![
        (Arc::new(SchedulingGates), 1),
        (Arc::new(PrioritySort), 1),
        (Arc::new(NodeUnschedulable), 1),
        (Arc::new(NodeName), 1),
        (Arc::new(TaintToleration), 3),
        (Arc::new(NodeAffinity::default()), 2),
        (Arc::new(NodePorts), 1),
        (Arc::new(NodeResourcesFit::default()), 1),
        (Arc::new(VolumeRestrictions), 1),
        (Arc::new(NodeVolumeLimits), 1),
        (Arc::new(VolumeBinding::default()), 1),
        (Arc::new(VolumeZone), 1),
        (Arc::new(PodTopologySpread::default()), 2),
        (Arc::new(InterPodAffinity::default()), 2),
        (Arc::new(DynamicResources), 2),
        (Arc::new(DefaultPreemption), 1),
        (Arc::new(NodeResourcesBalancedAllocation::default()), 1),
        (Arc::new(ImageLocality), 1),
        (Arc::new(DefaultBinder), 1),
    ]
}
