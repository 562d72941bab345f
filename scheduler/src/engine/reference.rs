//! The slow, obvious way to decide, which the engine must equal: every policy is asked about each node by itself, and nothing
//! is remembered, grouped or brought up to date.

use longshore_core::api::pod::Pod;
use longshore_core::scheduling::cluster::Cluster;
use longshore_core::scheduling::{
    Candidates, Cycle, Filter, NodeId, NodeSet, PreFilter, PreScore, Refusal, Scores, State,
};

use super::explain::{Explanation, NodeRefusal, NodeScore, PolicyScore};
use super::{Engine, Unplaced};
use crate::Profile;

/// The filters that care about a pod, and what each worked out beforehand.
struct Asked<'p> {
    filters: Vec<(usize, &'p dyn Filter, State)>,
    /// Nodes to which policies confine the pod, and the names of these.
    only: Option<(NodeSet, Vec<&'p str>)>,
}

/// Has filters look at the pod. `only_these`: the others are not asked, and none refuses the pod as a whole.
fn ask<'p>(
    cycle: Cycle<'_>,
    profile: &'p Profile,
    only_these: Option<&[usize]>,
) -> Result<Asked<'p>, (String, Refusal)> {
    let mut asked = Asked { filters: Vec::new(), only: None };
    for (place, filter) in profile.filters().filter(|(place, _)| only_these.is_none_or(|these| these.contains(place))) {
        let mut state = State::default();
        match filter.pre_filter(cycle, &mut state) {
            Ok(PreFilter::Skip) => continue,
            Err(refusal) if only_these.is_none() => return Err((profile.name_of(place).to_owned(), refusal)),
            Ok(PreFilter::Only(nodes)) if only_these.is_none() => {
                let (only, names) = asked.only.get_or_insert_with(|| (nodes.clone(), Vec::new()));
                only.intersect(&nodes);
                names.push(profile.name_of(place));
            }
            _ => {}
        }
        asked.filters.push((place, filter, state));
    }
    Ok(asked)
}

impl Asked<'_> {
    /// Who refuses the node, and why.
    fn refusal(&self, cycle: Cycle<'_>, profile: &Profile, node: NodeId) -> Option<(String, Refusal)> {
        self.filters.iter().find_map(|(place, filter, state)| {
            let mut alone = Candidates::new(NodeSet::only(node));
            filter.filter(cycle, state, &mut alone);
            let (_, refusal) = alone.refusal(node)?;
            Some((profile.name_of(*place).to_owned(), refusal.clone()))
        })
    }

    /// Who excluded the node before it was looked at.
    fn excluded(&self, node: NodeId) -> Option<(String, Refusal)> {
        let (_, names) = self.only.as_ref().filter(|(only, _)| !only.contains(node))?;
        let mut names = names.clone();
        names.sort_unstable();
        let why = format!("node(s) didn't satisfy plugin(s) [{}]", names.join(" "));
        Some((names.join(","), Refusal::unresolvable(why)))
    }
}

impl Engine {
    /// What [`Engine::explain`] must say, worked out the slow, obvious way; without the message for people.
    ///
    /// # Errors
    /// [`Unplaced::NoProfile`].
    pub fn explain_by_reference(&self, pod: &Pod) -> Result<Explanation, Unplaced> {
        let place = self.profile_place(pod).ok_or_else(|| Unplaced::no_profile(pod))?;
        let mut explanation = Explanation::default();
        if let Err(Unplaced::Held { policy, refusal }) = self.held(place, pod) {
            explanation.held = Some((policy, refusal));
            return Ok(explanation);
        }
        // As upstream: without nodes no policy is asked.
        if self.cluster.nodes().is_empty() {
            return Ok(explanation);
        }
        let (profile, mut cluster) = (&self.profiles[place], self.cluster.clone());
        let shape = cluster.shape(pod);
        let name = |node: NodeId| self.cluster.name(node).to_owned();
        let mut refuse = |node: NodeId, (policy, refusal): (String, Refusal)| {
            explanation.refused.push(NodeRefusal { node: name(node), policy, refusal });
        };
        let mut feasible = NodeSet::new();
        match ask(Cycle::new(pod, &shape, &cluster), profile, None) {
            Err(refused) => {
                cluster.nodes().iter().for_each(|node| refuse(node, refused.clone()));
                explanation.pre_filter = Some(refused);
            }
            Ok(asked) => {
                let places: Vec<usize> = asked.filters.iter().map(|(place, ..)| *place).collect();
                for node in cluster.nodes().iter() {
                    if let Some(refused) = asked.excluded(node) {
                        refuse(node, refused);
                        continue;
                    }
                    let together = together_with_nominated(&cluster, pod, node).and_then(|with| {
                        let cycle = Cycle::new(pod, &shape, &with);
                        ask(cycle, profile, Some(&places)).ok()?.refusal(cycle, profile, node)
                    });
                    match together.or_else(|| asked.refusal(Cycle::new(pod, &shape, &cluster), profile, node)) {
                        Some(refused) => refuse(node, refused),
                        None => drop(feasible.insert(node)),
                    }
                }
            }
        }
        explanation.feasible = scored(Cycle::new(pod, &shape, &cluster), profile, &feasible);
        explanation.conclude(pod);
        Ok(explanation)
    }
}

/// The cluster with the pods on the node for which room is being made there, as far as they go before the pod, which must
/// fit together with them and without them; `None` if there are none.
fn together_with_nominated(cluster: &Cluster, pod: &Pod, node: NodeId) -> Option<Cluster> {
    let priority = |pod: &Pod| pod.spec.priority.unwrap_or(0);
    let (meta, least) = (&pod.metadata, priority(pod));
    let ahead = cluster.nominated(node).iter().filter(|other| {
        let is_itself = other.metadata.name == meta.name && other.metadata.namespace == meta.namespace;
        !is_itself && priority(other) >= least
    });
    let ahead: Vec<_> = ahead.cloned().collect();
    if ahead.is_empty() {
        return None;
    }
    let mut with = cluster.clone();
    ahead.into_iter().for_each(|other| with.place(other, node));
    Some(with)
}

/// The scores of these nodes.
fn scored(cycle: Cycle<'_>, profile: &Profile, feasible: &NodeSet) -> Vec<NodeScore> {
    let name = |node: NodeId| cycle.cluster().name(node).to_owned();
    let mut nodes: Vec<(NodeId, NodeScore)> =
        feasible.iter().map(|node| (node, NodeScore { node: name(node), scores: Vec::new(), total: 0 })).collect();
    for (place, policy) in profile.scores().filter(|_| !feasible.is_empty()) {
        let mut state = State::default();
        if policy.pre_score(cycle, &mut state, feasible) == PreScore::Skip {
            continue;
        }
        let mut column = Scores::zero(cycle.cluster().width());
        for node in feasible.iter() {
            policy.score(cycle, &state, &NodeSet::only(node), &mut column);
        }
        if let Some(range) = column.range(feasible).filter(|_| policy.is_normalised()) {
            let present: NodeSet = feasible.iter().filter(|node| column.get(*node) != Scores::ABSENT).collect();
            policy.normalise(cycle, &state, range, &present, &mut column);
        }
        let enabled = &profile.policies()[place];
        for (node, of_node) in &mut nodes {
            let score = if column.get(*node) == Scores::ABSENT { 0 } else { column.get(*node) };
            let (policy, weight) = (enabled.policy().name().to_owned(), enabled.weight());
            of_node.scores.push(PolicyScore { policy, score, weight });
            of_node.total += weight * score;
        }
    }
    nodes.into_iter().map(|(_, score)| score).collect()
}
