//! Two-level scheduling: what is free is offered to one scheduler at a time, and locked for the others meanwhile.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use longshore_core::scheduling::cluster::{Cluster, ResourceId};
use longshore_core::scheduling::{Candidates, Cycle, Filter, NodeId, Policy, Reach, Refusal, Requests, State};
use serde::{Deserialize, Serialize};

/// Amounts by resource, then by node.
pub(super) type Amounts = BTreeMap<ResourceId, Vec<i64>>;

/// The pods that a node takes are no resource that anybody asks for, but each takes one.
const PODS: ResourceId = ResourceId::PODS;

fn at(column: &[i64], node: usize) -> i64 {
    column.get(node).copied().unwrap_or(0)
}

fn requested(cluster: &Cluster, resource: ResourceId) -> &[i64] {
    if resource == PODS { cluster.pod_counts() } else { cluster.requested(resource) }
}

/// Who was offered what.
#[derive(Debug, Default)]
pub(super) struct Offers {
    /// Every resource that any node had.
    resources: Vec<ResourceId>,
    /// By scheduler that decides at present.
    pub(super) open: BTreeMap<usize, Amounts>,
    /// What each scheduler's pods take.
    pub(super) taken: Vec<BTreeMap<ResourceId, i64>>,
    /// What is on offer to the one that decides now.
    limit: Limit,
}

impl Offers {
    pub(super) fn new(schedulers: usize, limit: Limit) -> Self {
        Self { taken: vec![BTreeMap::new(); schedulers], limit, ..Self::default() }
    }

    /// A node came that has these resources.
    pub(super) fn node_came(&mut self, cluster: &Cluster, node: NodeId) {
        let names = cluster.node(node).into_iter().flat_map(|node| node.status.allocatable.keys());
        self.resources.extend(names.filter_map(|name| cluster.resource(name)));
        self.resources.sort_unstable();
        self.resources.dedup();
    }

    /// A node is gone, and with it what was offered of it.
    pub(super) fn node_gone(&mut self, node: NodeId) {
        let columns = self.open.values_mut().flat_map(BTreeMap::values_mut);
        columns.filter_map(|column| column.get_mut(node.index())).for_each(|amount| *amount = 0);
    }

    /// Offers a scheduler all that is free; says whether that is anything.
    pub(super) fn make(&mut self, scheduler: usize, cluster: &Cluster) -> bool {
        let free = |resource: ResourceId, node: NodeId| {
            let node = node.index();
            let locked = self.open.values().filter_map(|offer| offer.get(&resource)).map(|column| at(column, node));
            let taken = at(requested(cluster, resource), node) + locked.sum::<i64>();
            (at(cluster.allocatable(resource), node) - taken).max(0)
        };
        let column = |resource: ResourceId| {
            let mut column = vec![0; cluster.width()];
            cluster.nodes().iter().for_each(|node| column[node.index()] = free(resource, node));
            column
        };
        let offer: Amounts = self.resources.iter().map(|resource| (*resource, column(*resource))).collect();
        let any = cluster.nodes().iter().any(|node| {
            let has = |resource: ResourceId| offer.get(&resource).is_some_and(|column| column[node.index()] > 0);
            has(PODS) && self.resources.iter().any(|resource| *resource != PODS && has(*resource))
        });
        if any {
            self.open.insert(scheduler, offer);
        }
        any
    }

    /// Lets the scheduler have what it was offered, and nothing else, until [`Offers::returned`].
    pub(super) fn use_it(&mut self, scheduler: usize, cluster: &Cluster) {
        let mut offer = self.open.remove(&scheduler).unwrap_or_default();
        for (resource, column) in &mut offer {
            let taken = requested(cluster, *resource);
            column.iter_mut().enumerate().for_each(|(node, amount)| *amount += at(taken, node));
        }
        self.limit.set(Some(offer));
    }

    /// What the scheduler did not use is free again.
    pub(super) fn returned(&mut self) {
        self.limit.set(None);
    }

    /// A pod of the scheduler's takes so much, or, with a negative sign, no longer does.
    pub(super) fn charge(&mut self, scheduler: usize, requests: &Requests, sign: i64) {
        let Some(taken) = self.taken.get_mut(scheduler) else { return };
        for (resource, amount) in requests.amounts() {
            *taken.entry(*resource).or_default() += sign * amount;
        }
    }

    /// The largest part of any resource that the scheduler's pods take.
    #[expect(clippy::cast_precision_loss, reason = "shares are compared, and far enough apart")]
    pub(super) fn dominant_share(&self, scheduler: usize, cluster: &Cluster) -> f64 {
        let total = |resource: ResourceId| -> i64 {
            let column = cluster.allocatable(resource);
            cluster.nodes().iter().map(|node| at(column, node.index())).sum()
        };
        let shares = self.taken[scheduler].iter().map(|(resource, taken)| match total(*resource) {
            0 => 0.0,
            total => *taken as f64 / total as f64,
        });
        shares.fold(0.0, f64::max)
    }
}

/// By resource, then by node: up to what may be taken. `None`: all.
#[derive(Debug, Clone, Default)]
pub(super) struct Limit(Arc<Mutex<Option<Amounts>>>);

impl Limit {
    fn set(&self, amounts: Option<Amounts>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = amounts;
    }
}

impl Policy for Limit {
    fn name(&self) -> &str {
        "Offered"
    }

    fn as_filter(&self) -> Option<&dyn Filter> {
        Some(self)
    }
}

impl Filter for Limit {
    fn filter(&self, cycle: Cycle<'_>, _state: &State, candidates: &mut Candidates) {
        let limit = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(limit) = &*limit else { return };
        let cluster = cycle.cluster();
        let wanted = || cycle.shape().requests().amounts().iter().copied().chain([(PODS, 1)]);
        let lacks = |node: NodeId| {
            wanted().any(|(resource, amount)| {
                let most = limit.get(&resource).map_or(0, |column| at(column, node.index()));
                at(requested(cluster, resource), node.index()) + amount > most
            })
        };
        let out: Vec<NodeId> = candidates.nodes().iter().filter(|node| lacks(*node)).collect();
        if out.is_empty() {
            return;
        }
        let why = candidates.reason(Refusal::unschedulable("node(s) had too little on offer"));
        out.into_iter().for_each(|node| candidates.refuse_for(node, why));
    }

    /// What is on offer changes with each decision.
    fn reach(&self) -> Reach {
        Reach::Outside
    }
}

/// What is on offer to a scheduler, by name of the resource, for a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OfferRecord {
    pub(super) scheduler: usize,
    pub(super) amounts: Vec<(String, Vec<i64>)>,
}

impl OfferRecord {
    pub(super) fn of(offers: &Offers, cluster: &Cluster) -> Vec<Self> {
        let named = |(resource, column): (&ResourceId, &Vec<i64>)| {
            (cluster.resource_name(*resource).to_owned(), column.clone())
        };
        let record = |(scheduler, offer): (&usize, &Amounts)| Self {
            scheduler: *scheduler,
            amounts: offer.iter().map(named).collect(),
        };
        offers.open.iter().map(record).collect()
    }

    pub(super) fn restore(self, offers: &mut Offers, cluster: &Cluster) {
        let amounts = self.amounts.into_iter();
        let amounts = amounts.filter_map(|(name, column)| Some((cluster.resource(&name)?, column))).collect();
        offers.open.insert(self.scheduler, amounts);
    }
}
