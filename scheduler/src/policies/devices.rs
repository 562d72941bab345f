//! Devices: a share of a GPU must be free on one GPU, and whole ones must be free of shares.

use std::borrow::Cow;
use std::sync::Arc;

use longshore_core::api::pod::Pod;
use longshore_core::devices::{
    ANNOTATION, Amounts, Assignment, BestFit, DeviceChoice, Lack, Pool, WHOLE, kind_of_share,
};
use longshore_core::scheduling::{
    Candidates, ClusterEvent, Code, Cycle, Filter, MAX_NODE_SCORE, NodeId, NodeSet, NodeView, Policy, PreFilter,
    PreScore, Reach, Refusal, Reservation, Reserve, Score, Scores, State,
};

/// Looks at each device of a node by itself, where the sums of `NodeResourcesFit` do not tell enough, chooses the devices, and
/// binds the pod with an annotation that names them. See [`longshore_core::devices`] for what pods and nodes say.
///
/// Without a policy of its own kind that says otherwise, a pod prefers the node where its devices would be the fullest, so that
/// whole devices stay free. Pods that ask for no device are no concern of this policy, and neither are nodes that do not
/// tell of devices to share.
#[derive(Debug, Clone)]
pub struct Devices {
    choice: Arc<dyn DeviceChoice>,
}

impl Default for Devices {
    fn default() -> Self {
        Self::choosing(BestFit)
    }
}

impl Devices {
    /// The policy with another way to choose among the devices of a node.
    pub fn choosing(choice: impl DeviceChoice) -> Self {
        Self { choice: Arc::new(choice) }
    }

    /// What the pod would be given on the node; `None` if the node has nothing to choose from.
    fn assign<'n>(&self, pod: &Pod, node: NodeView<'n>) -> Option<Result<(Cow<'n, Pool>, Assignment), Lack>> {
        let pool = node.devices().filter(|pool| pool.concerns(pod))?;
        Some(pool.assign(pod, &*self.choice).map(|assignment| (pool, assignment)))
    }
}

/// Whether the pod asks for anything that could be a device.
fn asks(cycle: Cycle<'_>) -> bool {
    let amounts = cycle.shape().requests().amounts();
    amounts.iter().any(|(resource, _)| cycle.cluster().resource_name(*resource).contains('/'))
}

fn refusal(lack: &Lack) -> Refusal {
    let code = if lack.never { Code::UnschedulableAndUnresolvable } else { Code::Unschedulable };
    Refusal { code, ..Refusal::unschedulable(format!("Insufficient {}", lack.resource)) }
}

impl Policy for Devices {
    fn name(&self) -> &str {
        "Devices"
    }

    fn may_help(&self, _pod: &Pod, event: &ClusterEvent<'_>) -> bool {
        match event {
            ClusterEvent::NodeAdded(_) | ClusterEvent::PodRemoved(_) | ClusterEvent::PodForgotten(_) => true,
            ClusterEvent::NodeUpdated { old, new } => {
                let devices = |node: &longshore_core::api::Node| {
                    node.metadata.annotations.as_ref().and_then(|all| all.get(ANNOTATION).cloned())
                };
                devices(old) != devices(new)
            }
            _ => false,
        }
    }

    fn as_filter(&self) -> Option<&dyn Filter> {
        Some(self)
    }

    fn as_score(&self) -> Option<&dyn Score> {
        Some(self)
    }

    fn as_reserve(&self) -> Option<&dyn Reserve> {
        Some(self)
    }
}

/// What most pods ask for that ask for devices at all: one container, one resource.
#[derive(Debug)]
struct One {
    kind: String,
    devices: usize,
    /// Of each.
    milli: i64,
    /// That there is not enough now, and that there never is.
    refusals: [Refusal; 2],
}

impl One {
    fn of(cycle: Cycle<'_>) -> Option<Self> {
        let [container] = &cycle.pod().spec.containers[..] else { return None };
        let requests = &container.resources.requests;
        let mut asked = requests.iter().map(|(name, amount)| (name, amount.value())).filter(|(_, value)| *value > 0);
        let (resource, amount) = asked.find(|(name, _)| name.contains('/'))?;
        if asked.any(|(name, _)| name.contains('/')) || !cycle.pod().spec.init_containers.is_empty() {
            return None;
        }
        let (kind, devices, milli) = match kind_of_share(resource) {
            Some(kind) => (kind, 1, amount),
            None => (resource.as_str(), usize::try_from(amount).ok()?, WHOLE),
        };
        let refusals = [false, true]
            .map(|never| refusal(&Lack { resource: resource.clone(), asked: amount, available: 0, never }));
        Some(Self { kind: kind.to_owned(), devices, milli, refusals })
    }

    /// What [`Pool::assign`] would say of these devices: the place of a refusal in [`One::refusals`].
    fn lack(&self, left: &Amounts) -> Option<usize> {
        let fitting = left.values().filter(|left| **left >= self.milli).count();
        let never = self.milli > WHOLE || self.devices > left.len();
        (fitting < self.devices).then_some(usize::from(never))
    }
}

impl Filter for Devices {
    fn pre_filter(&self, cycle: Cycle<'_>, state: &mut State) -> Result<PreFilter, Refusal> {
        state.set(One::of(cycle));
        Ok(if asks(cycle) { PreFilter::All } else { PreFilter::Skip })
    }

    fn filter(&self, cycle: Cycle<'_>, state: &State, candidates: &mut Candidates) {
        let one = state.get::<Option<One>>().and_then(Option::as_ref);
        let mut said = [None; 2];
        for node in candidates.nodes().clone().iter() {
            let Some(pool) = cycle.cluster().devices(node) else { continue };
            match one.and_then(|one| Some((one, pool.left_of(&one.kind)?))) {
                Some((one, left)) => {
                    if let Some(lack) = one.lack(left) {
                        let why = *said[lack].get_or_insert_with(|| candidates.reason(one.refusals[lack].clone()));
                        candidates.refuse_for(node, why);
                    }
                }
                None => {
                    if let Err(lack) = pool.assign(cycle.pod(), &*self.choice) {
                        candidates.refuse(node, refusal(&lack));
                    }
                }
            }
        }
    }

    fn reach(&self) -> Reach {
        Reach::Node
    }
}

impl Score for Devices {
    fn pre_score(&self, cycle: Cycle<'_>, _state: &mut State, _feasible: &NodeSet) -> PreScore {
        if asks(cycle) { PreScore::Score } else { PreScore::Skip }
    }

    /// How full the devices would be, on the average, of which the pod would have any.
    fn score(&self, cycle: Cycle<'_>, _state: &State, nodes: &NodeSet, scores: &mut Scores) {
        for node in nodes.iter() {
            let Some(Ok((pool, assignment))) = self.assign(cycle.pod(), cycle.node(node)) else { continue };
            let charge = assignment.charge(cycle.pod());
            let mut pool = pool.into_owned();
            pool.take(&charge);
            let chosen = |kind: &str, device: &str| charge.get(kind).is_some_and(|all| all.contains_key(device));
            let left: Vec<i64> = (pool.left())
                .flat_map(|(kind, left)| {
                    left.iter().filter(move |(device, _)| chosen(kind, device)).map(|(_, left)| *left)
                })
                .collect();
            if !left.is_empty() {
                let used: i64 = left.iter().map(|left| WHOLE - left).sum();
                scores.add(node, used * MAX_NODE_SCORE / (WHOLE * left.len() as i64));
            }
        }
    }

    fn reach(&self) -> Reach {
        Reach::Node
    }
}

impl Reserve for Devices {
    fn reserve(&self, cycle: Cycle<'_>, node: NodeId, reservation: &mut Reservation) -> Result<(), Refusal> {
        // Nobody chooses for us, nor takes what was not asked for.
        match self.assign(cycle.pod(), cycle.node(node)) {
            None => Ok(()),
            Some(Err(lack)) => Err(refusal(&lack)),
            Some(Ok((_, assignment))) => {
                reservation.annotations.insert(ANNOTATION.to_owned(), assignment.to_text());
                Ok(())
            }
        }
    }
}

#[cfg(test)]
#[path = "devices_tests.rs"]
mod tests;
