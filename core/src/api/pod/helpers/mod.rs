//! What controllers, scheduler and node ask about a pod, answered as upstream's helpers do.

mod affinity_keys;
mod claims;
mod node_affinity;
mod readiness;
mod resources;
mod restart;
mod taints;

pub use affinity_keys::merge_label_keys;
pub use claims::{claim_name, owns_claim};
pub use node_affinity::{
    NodeAffinityError, node_affinity_errors, node_affinity_score, node_matches, node_selector_matches,
    node_selector_selects,
};
pub use readiness::{
    condition, containers_ready, is_available, is_ready, is_terminal, set_condition, update_condition,
};
pub use resources::{
    ResourceOptions, has_pod_level_resources, is_pod_level_resource, pod_limits, pod_requests, resource_request,
};
pub use restart::{is_restartable, restart_rule, should_restart};
pub use taints::{find_untolerated_taint, tolerates};
