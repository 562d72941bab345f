//! PrioritySort: the more important pod first, of equals the one that waits longer.

use std::cmp::Ordering;

use longshore_core::api::pod::Pod;
use longshore_core::scheduling::{ClusterEvent, Policy, QueueOrder, QueuedPod};

/// Orders the queue by priority, then by time.
#[derive(Debug, Clone, Copy, Default)]
pub struct PrioritySort;

impl Policy for PrioritySort {
    fn name(&self) -> &str {
        "PrioritySort"
    }

    fn may_help(&self, _pod: &Pod, _event: &ClusterEvent<'_>) -> bool {
        false
    }

    fn as_queue_order(&self) -> Option<&dyn QueueOrder> {
        Some(self)
    }
}

impl QueueOrder for PrioritySort {
    fn compare(&self, a: QueuedPod<'_>, b: QueuedPod<'_>) -> Ordering {
        let priority = |pod: &Pod| pod.spec.priority.unwrap_or(0);
        priority(b.pod).cmp(&priority(a.pod)).then(a.since.cmp(&b.since))
    }
}
