//! Whether a leader's write was carried out although another led by then.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;
use longshore_core::api::TokenRequest;
use longshore_core::client::{Deleted, DynList, Error};
use longshore_core::kind::DynObject;
use longshore_core::leader::Fence;
use longshore_core::store::{MemoryStore, Store};
use longshore_faults::check::Violation;
use longshore_faults::history::{Change, Event, Kind};

/// A fenced write that changed something, and the revision that it took.
#[derive(Debug, Clone)]
pub struct Write {
    fence: Arc<Fence>,
    revision: u64,
    what: String,
}

/// Notes fenced writes where they are carried out.
#[derive(Debug)]
pub struct Fences {
    store: Arc<MemoryStore>,
    /// Whether servers are told of fences at all.
    told: bool,
    writes: Mutex<Vec<Write>>,
}

/// The revision of what a request wrote, and a name for it.
pub trait Written {
    /// `None` where no revision is answered, or nothing was written.
    fn written(&self) -> Option<(u64, String)>;
}

impl Written for DynObject {
    fn written(&self) -> Option<(u64, String)> {
        let meta = self.meta();
        let name = meta.name.as_deref().unwrap_or_default();
        Some((meta.resource_version.as_ref()?.parse().ok()?, format!("{} {name}", self.kind_type().info.kind)))
    }
}

impl Written for Deleted {
    fn written(&self) -> Option<(u64, String)> {
        let (Self::Gone(object) | Self::Pending(object)) = self;
        object.written()
    }
}

impl Written for DynList {
    fn written(&self) -> Option<(u64, String)> {
        None
    }
}

impl Written for TokenRequest {
    fn written(&self) -> Option<(u64, String)> {
        None
    }
}

impl Written for () {
    fn written(&self) -> Option<(u64, String)> {
        None
    }
}

impl<T> Written for tokio::sync::mpsc::UnboundedReceiver<T> {
    fn written(&self) -> Option<(u64, String)> {
        None
    }
}

impl Fences {
    /// None yet. If servers are not `told` of fences, they cannot keep them.
    pub fn new(store: Arc<MemoryStore>, told: bool) -> Self {
        Self { store, told, writes: Mutex::default() }
    }

    /// A request as the server carries it out, under its fence if it has one.
    pub fn guard<T: Written + Send + 'static>(
        self: &Arc<Self>,
        fence: Option<Arc<Fence>>,
        work: BoxFuture<'static, Result<T, Error>>,
    ) -> BoxFuture<'static, Result<T, Error>> {
        let Some(fence) = fence else { return work };
        let this = Arc::clone(self);
        async move {
            let before = this.revision();
            let done = if this.told { Arc::clone(&fence).guard(work).await } else { work.await };
            // What was so already takes no revision.
            if let Some((revision, what)) = done.as_ref().ok().and_then(Written::written)
                && revision > before
            {
                this.writes.lock().unwrap_or_else(PoisonError::into_inner).push(Write { fence, revision, what });
            }
            done
        }
        .boxed()
    }

    fn revision(&self) -> u64 {
        let status = self.store.status().now_or_never();
        status.and_then(Result::ok).map_or(0, |status| status.revision)
    }

    /// Checks the writes against the changes of leases.
    pub fn check(&self, events: &[Event]) -> Vec<Violation> {
        let writes = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        check(events, &writes)
    }
}

fn check(events: &[Event], writes: &[Write]) -> Vec<Violation> {
    let mut leases: BTreeMap<&str, BTreeMap<u64, &Event>> = BTreeMap::new();
    for event in events.iter().filter(|event| event.kind == Kind::Lease) {
        leases.entry(&event.name).or_default().insert(event.revision, event);
    }
    let mut violations = Vec::new();
    for Write { fence, revision, what } in writes {
        let lease = leases.get(fence.name.as_str()).and_then(|states| states.range(..*revision).next_back());
        let Some((_, event)) = lease else { continue };
        let spec = &event.object["spec"];
        let same = event.change != Change::Deleted
            && spec["holderIdentity"].as_str() == Some(&fence.holder)
            && spec["leaseTransitions"].as_i64().unwrap_or(0) == i64::from(fence.transitions);
        if !same {
            let now = format!("{} led since transition {}", spec["holderIdentity"], spec["leaseTransitions"]);
            violations
                .push(Violation::new("fences", format!("{what} at {revision} was written by {fence}, but {now}")));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lease(revision: u64, holder: &str, transitions: i32) -> Event {
        let object = json!({ "spec": { "holderIdentity": holder, "leaseTransitions": transitions } });
        Event { kind: Kind::Lease, name: "l".into(), revision, change: Change::Modified, object: Arc::new(object) }
    }

    fn write(revision: u64, holder: &str, transitions: i32) -> Write {
        let fence = Fence { namespace: "kube-system".into(), name: "l".into(), holder: holder.into(), transitions };
        Write { fence: Arc::new(fence), revision, what: "Pod p".into() }
    }

    #[test]
    fn writes_within_their_terms_are_no_violation_and_others_are() {
        let events = [lease(2, "a", 0), lease(5, "b", 1), lease(9, "a", 2)];
        assert_eq!(check(&events, &[write(3, "a", 0), write(6, "b", 1), write(10, "a", 2)]), []);
        assert_eq!(check(&events, &[write(6, "a", 0), write(10, "a", 0), write(4, "b", 1)]).len(), 3);
    }
}
