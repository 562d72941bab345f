//! Claiming what was chosen on a copy of the cell's state that may be old.

use longshore_core::scheduling::NodeId;
use longshore_scheduler::Engine;

use super::configuration::Conflicts;
use super::plan::{Plan, Planned, evict, restore};

/// When nodes changed last, by the numbers of changes.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// The number of the last change.
    pub(super) last: u64,
    /// The number of the last one that gave room.
    pub(super) freed: u64,
    /// By node: of its last change.
    pub(super) changed: Vec<u64>,
    /// By node: of when it came.
    pub(super) came: Vec<u64>,
}

impl Record {
    /// Something came to the node, or went from it.
    pub(super) fn change(&mut self, node: NodeId) {
        self.last += 1;
        *at(&mut self.changed, node) = self.last;
    }

    /// The node came.
    pub(super) fn come(&mut self, node: NodeId) {
        self.free(node);
        *at(&mut self.came, node) = self.last;
    }

    /// Something went from the node, or the node is other than before.
    pub(super) fn free(&mut self, node: NodeId) {
        self.change(node);
        self.freed = self.last;
    }

    fn is_in_conflict(&self, node: NodeId, since: u64, conflicts: Conflicts) -> bool {
        let of = |column: &[u64]| column.get(node.index()).copied().unwrap_or(0) > since;
        // Another node at the same place is not the one that was chosen.
        of(&self.came) || (conflicts == Conflicts::Coarse && of(&self.changed))
    }
}

fn at(column: &mut Vec<u64>, node: NodeId) -> &mut u64 {
    if node.index() >= column.len() {
        column.resize(node.index() + 1, 0);
    }
    &mut column[node.index()]
}

/// Carries out a plan that was made when the record's last change was number `since`, as far as it can be. What is left of it is
/// what was carried out; says how many pods were in conflict.
pub(super) fn claim(
    plan: &mut Plan,
    engine: &mut Engine,
    (record, since): (&Record, u64),
    conflicts: Conflicts,
    gang: bool,
) -> u64 {
    let planned = std::mem::take(&mut plan.placed);
    let mut in_conflict = 0;
    for mut planned in planned {
        if !record.is_in_conflict(planned.node, since, conflicts) && carry_out(&mut planned, engine) {
            plan.placed.push(planned);
        } else {
            in_conflict += 1;
        }
    }
    if gang && in_conflict > 0 {
        plan.take_back(engine);
        plan.placed.clear();
    }
    in_conflict
}

/// Says whether it could be.
fn carry_out(planned: &mut Planned, engine: &mut Engine) -> bool {
    let node = planned.node;
    let cluster = engine.cluster();
    planned.victims.retain(|victim| {
        let meta = &victim.metadata;
        let there =
            cluster.find_pod(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
        there.is_some_and(|there| there.node() == Some(node))
    });
    evict(engine, &planned.victims);
    let done = engine.place_on(&planned.pod, node).is_ok();
    if !done {
        restore(engine, &planned.victims, node);
    }
    done
}
