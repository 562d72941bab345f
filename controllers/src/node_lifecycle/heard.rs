//! When nodes were last heard of, by the clock here alone: a heartbeat counts from when it was seen, whatever time is written on it. So
//! clocks that differ or jump, a node's or ours, neither lose a node nor keep one that has gone; upstream measures in the same way.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use longshore_core::api::{Lease, Node};
use longshore_core::clock::Clock;

use super::{LEASES, condition, name};

/// A heartbeat, which differs from the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Beats {
    renewed: Option<Timestamp>,
    reported: Option<Timestamp>,
}

/// Which heartbeats were seen, and when.
#[derive(Debug)]
pub(super) struct Heard {
    clock: Arc<dyn Clock>,
    /// Silence before this moment is not held against a node: we did not listen yet.
    since: Duration,
    nodes: Mutex<BTreeMap<String, (Beats, Duration)>>,
}

impl Heard {
    /// Listens from now on.
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { since: clock.elapsed(), clock, nodes: Mutex::default() }
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<String, (Beats, Duration)>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn beat(&self, node: &str, change: impl FnOnce(&mut Beats)) {
        let mut nodes = self.nodes();
        let (beats, at) = nodes.entry(node.to_owned()).or_insert_with(|| (Beats::default(), self.clock.elapsed()));
        let before = *beats;
        change(beats);
        if *beats != before {
            *at = self.clock.elapsed();
        }
    }

    /// A lease was seen; those of other things than nodes are passed over.
    pub(super) fn lease(&self, lease: &Lease) {
        let meta = &lease.metadata;
        if meta.namespace.as_deref() == Some(LEASES) {
            let renewed = lease.spec.renew_time.as_ref().map(|time| time.0);
            self.beat(meta.name.as_deref().unwrap_or_default(), |beats| beats.renewed = renewed);
        }
    }

    /// A node was seen. Its status counts when it says so itself, not when we write on it.
    pub(super) fn node(&self, node: &Node) {
        let reported = condition(node, "Ready").and_then(|ready| Some(ready.last_heartbeat_time.as_ref()?.0));
        self.beat(name(node), |beats| beats.reported = reported);
    }

    /// A node is no longer there.
    pub(super) fn forget(&self, node: &Node) {
        self.nodes().remove(name(node));
    }

    /// How long a node has been silent.
    pub(super) fn silence(&self, node: &Node) -> Duration {
        let last = self.nodes().get(name(node)).map_or(self.since, |(_, at)| *at);
        self.clock.elapsed().saturating_sub(last)
    }
}
