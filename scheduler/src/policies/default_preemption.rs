//! DefaultPreemption: evicts less important pods for one that no node can take.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use longshore_core::api::ConditionStatus;
use longshore_core::api::PodDisruptionBudget;
use longshore_core::api::pod::helpers::condition;
use longshore_core::api::pod::{Pod, PreemptionPolicy};
use longshore_core::informer::ObjectKey;
use longshore_core::kind::KindType;
use longshore_core::scheduling::cluster::{Change, Cluster};
use longshore_core::scheduling::{
    Candidates, ClusterEvent, Code, NodeId, NodeSet, Nomination, Policy, PostFilter, PostFiltered, Reason, Refusal,
    State, Trial,
};

use super::selector::Selector;

/// What is said of a node whose pods are all as important as the one to be placed.
const NO_VICTIMS: &str = "No preemption victims found for incoming pod";

/// Looks, on each node that evictions could help, for the least dear set of less important pods without which the pod would
/// fit, and takes the least dear of those. Every node is tried: upstream's `minCandidateNodesPercentage` and
/// `minCandidateNodesAbsolute` say how many it must at least try, so they have no effect here.
#[derive(Debug, Clone, Copy, Default)]
pub struct DefaultPreemption;

impl Policy for DefaultPreemption {
    fn name(&self) -> &str {
        "DefaultPreemption"
    }

    fn kinds(&self) -> Vec<&'static KindType> {
        vec![KindType::of::<PodDisruptionBudget>()]
    }

    fn may_help(&self, _pod: &Pod, _event: &ClusterEvent<'_>) -> bool {
        false
    }

    fn as_post_filter(&self) -> Option<&dyn PostFilter> {
        Some(self)
    }
}

/// What came of trying a node: the pods to evict there, or why that does not help.
type Outcome = Result<Nomination, Refusal>;

/// What was tried for pods of one shape, kept as long as it holds.
#[derive(Default)]
struct Tried {
    /// The cluster's generation that this reflects.
    seen: Option<u64>,
    /// By node.
    outcomes: Vec<Option<Outcome>>,
    /// Nodes where evictions help, the least dear first, then by name.
    ways: BTreeSet<Way>,
    /// Whether each outcome depended on its node alone. If not, it may be another now, though nothing happened on the node.
    is_local: bool,
    /// By node: its entry among `ways`.
    entries: BTreeMap<NodeId, Way>,
}

type Way = (Price, Arc<str>, NodeId);

impl Tried {
    /// Forgets what may no longer hold.
    fn refresh(&mut self, cluster: &Cluster) {
        let changes = self.seen.and_then(|seen| cluster.changes_since(seen));
        let changes = changes.filter(|changes| changes.clone().all(|change| change.node().is_some()));
        match changes {
            Some(changes) => changes.filter_map(Change::node).for_each(|node| self.forget(node)),
            None => *self = Self { is_local: self.is_local, ..Self::default() },
        }
        self.outcomes.resize(cluster.width(), None);
        self.seen = Some(cluster.generation());
    }

    fn forget(&mut self, node: NodeId) {
        if let Some(outcome) = self.outcomes.get_mut(node.index()) {
            *outcome = None;
        }
        if let Some(way) = self.entries.remove(&node) {
            self.ways.remove(&way);
        }
    }
}

impl PostFilter for DefaultPreemption {
    fn post_filter(&self, trial: &mut dyn Trial, refused: &Candidates, state: &mut State) -> PostFiltered {
        if let Err(why) = may_preempt(trial.pod(), trial.cluster(), refused) {
            return PostFiltered { message: format!("preemption: {why}"), ..PostFiltered::default() };
        }
        let is_local = trial.is_local();
        if !is_local || !state.get::<Tried>().is_some_and(|tried| tried.is_local) {
            state.set(Tried { is_local, ..Tried::default() });
        }
        let Some(tried) = state.get_mut::<Tried>() else { return PostFiltered::default() };
        tried.refresh(trial.cluster());
        let nodes = trial.cluster().nodes().clone();
        for node in nodes.iter().filter(|node| tried.outcomes[node.index()].is_none()).collect::<Vec<_>>() {
            let outcome = try_on(trial, refused, node);
            if let Ok(way) = &outcome {
                let way: Way = (price(way), trial.cluster().name(node).into(), node);
                tried.entries.insert(node, way.clone());
                tried.ways.insert(way);
            }
            tried.outcomes[node.index()] = Some(outcome);
        }
        chosen(trial, tried, &nodes)
    }
}

fn try_on(trial: &mut dyn Trial, refused: &Candidates, node: NodeId) -> Outcome {
    let hopeful = refused.refusal(node).is_some_and(|(_, refusal)| refusal.code == Code::Unschedulable);
    if !hopeful {
        return Err(Refusal::unresolvable("Preemption is not helpful for scheduling"));
    }
    if trial.cluster().lowest_priority().is_none_or(|lowest| lowest >= priority(trial.pod())) {
        return Err(Refusal::unresolvable(NO_VICTIMS));
    }
    victims_on(trial, node)
}

/// The least dear of the ways that were found.
fn chosen(trial: &dyn Trial, tried: &Tried, nodes: &NodeSet) -> PostFiltered {
    let way = |node: NodeId| match tried.outcomes.get(node.index()) {
        Some(Some(Ok(way))) => Some(way),
        _ => None,
    };
    let Some((least, _, best)) = tried.ways.first() else {
        let mut reasons: BTreeMap<&Reason, usize> = BTreeMap::new();
        let refusals = nodes.iter().filter_map(|node| tried.outcomes[node.index()].as_ref()?.as_ref().err());
        for reason in refusals.flat_map(|refusal| &refusal.reasons) {
            *reasons.entry(reason).or_default() += 1;
        }
        let mut parts: Vec<String> = reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        parts.sort_unstable();
        let message =
            format!("preemption: 0/{} nodes are available: {}.", trial.cluster().node_count(), parts.join(", "));
        return PostFiltered { message, ..PostFiltered::default() };
    };
    let mut result = PostFiltered { nomination: way(*best).cloned(), ..PostFiltered::default() };
    if trial.wants_every_way() {
        result.equal = tried.ways.iter().take_while(|(price, ..)| price == least).map(|(.., node)| *node).collect();
        result.found = nodes.iter().filter_map(way).cloned().collect();
        result.found.sort_by(|a, b| trial.cluster().name(a.node).cmp(trial.cluster().name(b.node)));
    }
    result
}

fn priority(pod: &Pod) -> i32 {
    pod.spec.priority.unwrap_or(0)
}

/// Pods that have not been started yet count as the youngest.
fn started(pod: &Pod) -> Timestamp {
    pod.status.start_time.as_ref().map_or(Timestamp::MAX, |time| time.0)
}

/// Orders pods by importance, the most important first.
fn importance(pod: &Pod) -> (Reverse<i32>, Timestamp) {
    (Reverse(priority(pod)), started(pod))
}

fn may_preempt(pod: &Pod, cluster: &Cluster, refused: &Candidates) -> Result<(), &'static str> {
    if pod.spec.preemption_policy == Some(PreemptionPolicy::Never) {
        return Err("not eligible due to preemptionPolicy=Never.");
    }
    let Some(nominated) = cluster.node_id(&pod.status.nominated_node_name) else { return Ok(()) };
    if refused.refusal(nominated).is_some_and(|(_, refusal)| refusal.code == Code::UnschedulableAndUnresolvable) {
        return Ok(());
    }
    // Room is being made already: wait for it.
    let leaving = |victim: &Pod| {
        victim.metadata.deletion_timestamp.is_some()
            && condition(&victim.status, "DisruptionTarget").is_some_and(|condition| {
                condition.status == ConditionStatus::True && condition.reason == "PreemptionByScheduler"
            })
    };
    let waits = cluster.pods_on(nominated).any(|other| priority(other.pod()) < priority(pod) && leaving(other.pod()));
    if waits { Err("not eligible due to a terminating pod on the nominated node.") } else { Ok(()) }
}

/// The pods to evict from the node: as few and as unimportant as can be.
fn victims_on(trial: &mut dyn Trial, node: NodeId) -> Result<Nomination, Refusal> {
    let least = priority(trial.pod());
    let mut lower: Vec<Arc<Pod>> = (trial.cluster().pods_on(node))
        .map(|placed| placed.pod())
        .filter(|pod| priority(pod) < least)
        .cloned()
        .collect();
    if lower.is_empty() {
        return Err(Refusal::unresolvable(NO_VICTIMS));
    }
    lower.sort_by_key(|pod| importance(pod));
    let mut gone: Vec<ObjectKey> = lower.iter().map(|pod| ObjectKey::of(&**pod)).collect();
    if let Some(refusal) = trial.refusal_without(node, &gone) {
        return Err(refusal);
    }
    let (protected, others) = split_by_budget(trial.cluster(), lower);
    // Everyone gets back in who can, those first whom a budget protects, then the most important.
    let (mut victims, mut violations) = (Vec::new(), 0);
    for (pod, is_protected) in
        protected.into_iter().map(|pod| (pod, true)).chain(others.into_iter().map(|pod| (pod, false)))
    {
        let key = ObjectKey::of(&*pod);
        gone.retain(|other| *other != key);
        if trial.refusal_without(node, &gone).is_some() {
            gone.push(key);
            victims.push(pod);
            violations += usize::from(is_protected);
        }
    }
    victims.sort_by_key(|pod| importance(pod));
    Ok(Nomination { node, victims, violations })
}

/// Pods whose eviction would violate a disruption budget, and the others; both in the order given.
fn split_by_budget(cluster: &Cluster, pods: Vec<Arc<Pod>>) -> (Vec<Arc<Pod>>, Vec<Arc<Pod>>) {
    let mut budgets: Vec<(&PodDisruptionBudget, Selector, i32)> = (cluster.objects::<PodDisruptionBudget>())
        .map(|budget| (budget, Selector::of(budget.spec.selector.as_ref()), budget.status.disruptions_allowed))
        .collect();
    pods.into_iter().partition(|pod| {
        let Some(labels) = pod.metadata.labels.as_ref().filter(|labels| !labels.is_empty()) else { return false };
        let mut violated = false;
        for (budget, selector, allowed) in &mut budgets {
            let about = budget.metadata.namespace == pod.metadata.namespace
                && !selector.is_empty()
                && selector.matches(labels)
                && !budget.status.disrupted_pods.contains_key(pod.metadata.name.as_deref().unwrap_or_default());
            if about {
                *allowed -= 1;
                violated |= *allowed < 0;
            }
        }
        violated
    })
}

/// What a way costs; the least is taken: violated budgets, the highest priority, the sum of priorities, the number of pods,
/// and then, of the pods of the highest priority, the youngest shall go: those that began late have done the least.
type Price = (usize, i32, i64, usize, Reverse<Timestamp>);

fn price(way: &Nomination) -> Price {
    let highest = way.victims.iter().map(|pod| priority(pod)).max().unwrap_or(i32::MIN);
    let sum = way.victims.iter().map(|pod| i64::from(priority(pod)) + i64::from(i32::MAX) + 1).sum();
    let top = way.victims.iter().filter(|pod| priority(pod) == highest);
    let earliest = top.map(|pod| started(pod)).min().unwrap_or(Timestamp::MAX);
    (way.violations, highest, sum, way.victims.len(), Reverse(earliest))
}
