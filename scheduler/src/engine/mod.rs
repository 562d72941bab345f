//! The engine: where does this pod go?

mod best;
mod cached;
mod change;
mod claim;
mod column;
mod diagnosis;
mod explain;
mod gang;
mod groups;
mod ranking;
mod reference;
mod remedies;
mod sample;
mod trial;
mod what_if;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_core::api::pod::Pod;
use longshore_core::informer::ObjectKey;
use longshore_core::scheduling::cluster::Cluster;
use longshore_core::scheduling::{Candidates, Cycle, NodeId, Refusal, Reservation, ShapeId, TieBreak, Waiting};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use rustc_hash::{FxHashMap, FxHashSet};

use self::cached::{Cached, Question};
use crate::{Error, Profile};

pub use change::Change;
pub(crate) use change::quantity;
pub use claim::Course;
pub use diagnosis::{Diagnosis, Unplaced};
pub use explain::{Explanation, NodeRefusal, NodeScore, PolicyScore};
pub use gang::GangRefused;
pub use remedies::Remedy;
pub use sample::{Sampled, Sampling};
pub(crate) use what_if::unbound;
pub use what_if::{Utilisation, WhatIf};

/// Bytes, roughly, for what was worked out about shapes. Beyond that the shape not asked for longest is forgotten.
const REMEMBERED_BYTES: usize = 96 << 20;
/// Bytes, roughly, that one shape takes for each node: a few columns of scores and a tournament.
const BYTES_PER_NODE: usize = 200;

/// So many shapes are known to have been asked about before.
const ASKED_ONCE: usize = 4096;

/// Where a pod goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The node's name.
    pub node: String,
    /// The node's place in the columns.
    pub id: NodeId,
    /// The sum of weight times score; 0 if no policy scores.
    pub score: i64,
    /// Annotations to bind the pod with: the devices that were chosen. Empty until the pod is reserved.
    pub annotations: BTreeMap<String, String>,
    /// What it cost that not all nodes were looked at; `None` if they were.
    pub sampled: Option<Sampled>,
}

/// Decides where pods go: a cluster, profiles, and what was worked out so far. Deterministic: the same calls with the same
/// seed give the same placements.
#[derive(Debug)]
pub struct Engine {
    cluster: Cluster,
    profiles: Vec<Arc<Profile>>,
    tie_break: TieBreak,
    rng: Pcg64,
    /// The place of the node with which the next sample begins.
    next_sample: usize,
    known: Known,
    /// Shapes that were asked about once, of late.
    asked_once: FxHashSet<(usize, ShapeId)>,
    /// For pods about which nothing is remembered.
    scratch: Box<Cached>,
    used: u64,
}

impl Engine {
    /// An engine over an empty cluster that uses one profile for all pods.
    pub fn new(profile: Profile, tie_break: TieBreak) -> Self {
        Self::build(vec![Arc::new(profile)], tie_break)
    }

    /// An engine over an empty cluster with a profile for each scheduler name.
    ///
    /// # Errors
    /// Two profiles have the same name.
    pub fn with_profiles(profiles: Vec<Profile>, tie_break: TieBreak) -> Result<Self, Error> {
        for (index, profile) in profiles.iter().enumerate() {
            if profiles[..index].iter().any(|other| other.name() == profile.name()) {
                return Err(Error::DuplicateProfile { profile: profile.name().to_owned() });
            }
        }
        Ok(Self::build(profiles.into_iter().map(Arc::new).collect(), tie_break))
    }

    fn build(profiles: Vec<Arc<Profile>>, tie_break: TieBreak) -> Self {
        let seed = if let TieBreak::Uniform { seed } = tie_break { seed } else { 0 };
        Self {
            cluster: Cluster::new(),
            profiles,
            tie_break,
            rng: Pcg64::seed_from_u64(seed),
            next_sample: 0,
            known: FxHashMap::default(),
            asked_once: FxHashSet::default(),
            scratch: Box::default(),
            used: 0,
        }
    }

    /// The cluster.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The cluster, to change. What the engine remembers follows.
    pub fn cluster_mut(&mut self) -> &mut Cluster {
        &mut self.cluster
    }

    /// A copy of the engine to try things out on, with a random sequence of its own.
    pub fn fork(&self, tie_break: TieBreak) -> Self {
        Self { cluster: self.cluster.clone(), ..Self::build(self.profiles.clone(), tie_break) }
    }

    /// A [fork](Self::fork) that breaks ties in the same way.
    pub(crate) fn twin(&self) -> Self {
        self.fork(self.tie_break)
    }

    /// The profiles.
    pub fn profiles(&self) -> impl Iterator<Item = &Profile> {
        self.profiles.iter().map(|profile| &**profile)
    }

    /// The profile for a pod: the one of its `schedulerName`; if there is only one, that.
    pub fn profile_of(&self, pod: &Pod) -> Option<&Arc<Profile>> {
        self.profile_place(pod).map(|place| &self.profiles[place])
    }

    fn profile_place(&self, pod: &Pod) -> Option<usize> {
        if self.profiles.len() == 1 {
            return Some(0);
        }
        let name =
            if pod.spec.scheduler_name.is_empty() { crate::DEFAULT_SCHEDULER_NAME } else { &pod.spec.scheduler_name };
        self.profiles.iter().position(|profile| profile.name() == name)
    }

    /// Says where the pod goes, and changes nothing but the random sequence, and where the next sample begins if the profile
    /// [samples](Profile::with_sampling).
    ///
    /// # Errors
    /// Why it goes nowhere.
    pub fn decide(&mut self, pod: &Pod) -> Result<Placement, Unplaced> {
        let place = self.profile_place(pod).ok_or_else(|| Unplaced::no_profile(pod))?;
        self.held(place, pod)?;
        let (profile, seat) = self.look(place, pod);
        let best = cached_at(&self.known, &self.scratch, seat).best();
        let Some((score, count)) = best.top() else {
            let refusals = self.refusals(&profile, seat, pod);
            let cached = cached_at(&self.known, &self.scratch, seat);
            let diagnosis = Diagnosis::new(&profile, cached, refusals, self.cluster.node_count());
            return Err(Unplaced::Refused(Box::new(diagnosis)));
        };
        let nominated = &pod.status.nominated_node_name;
        let nominated = if nominated.is_empty() { None } else { self.cluster.node_id(nominated) };
        let nominated = nominated.and_then(|node| Some((node, best.score(node)?)));
        if let (None, Some(sampling)) = (nominated, profile.sampling()) {
            let (nodes, sampled) = sample::draw(best, score, &self.cluster, sampling, &mut self.next_sample);
            let node = match self.tie_break {
                TieBreak::Uniform { .. } => Some(nodes[self.rng.random_range(0..nodes.len())]),
                TieBreak::ByName => nodes.iter().copied().min_by_key(|node| self.cluster.name(*node)),
                _ => nodes.first().copied(),
            };
            let node = node.expect("a sample goes on until a node is feasible, and one is");
            return Ok(self.placement(node, sampled.chosen_score, Some(sampled)));
        }
        let chosen = match nominated {
            // Room was made there, for this pod: upstream looks no further.
            Some(chosen) => chosen,
            None => {
                let node = match self.tie_break {
                    _ if count == 1 => best.nth(0),
                    TieBreak::Uniform { .. } => best.nth(self.rng.random_range(0..count)),
                    TieBreak::ByName => {
                        (0..count).filter_map(|index| best.nth(index)).min_by_key(|node| self.cluster.name(*node))
                    }
                    _ => best.first(),
                };
                (node.expect("the tournament counts its best nodes"), score)
            }
        };
        Ok(self.placement(chosen.0, chosen.1, None))
    }

    fn placement(&self, id: NodeId, score: i64, sampled: Option<Sampled>) -> Placement {
        let node = self.cluster.name(id).to_owned();
        Placement { node, id, score, annotations: BTreeMap::new(), sampled }
    }

    /// Decides, reserves devices and puts the pod on its node.
    ///
    /// # Errors
    /// Why it goes nowhere; nothing was changed.
    pub fn place(&mut self, pod: &Arc<Pod>) -> Result<Placement, Unplaced> {
        let mut placement = self.decide(pod)?;
        placement.annotations = self.reserve(pod, placement.id)?.annotations;
        let placed =
            if placement.annotations.is_empty() { pod.clone() } else { annotated(pod, &placement.annotations) };
        self.cluster.place(placed, placement.id);
        Ok(placement)
    }

    /// Takes a pod that [`Engine::place`] put somewhere out again and gives back what was reserved. Says whether it was there.
    pub fn unplace(&mut self, namespace: &str, name: &str) -> bool {
        self.unplace_telling(namespace, name, &mut NobodyWaits)
    }

    pub(crate) fn unplace_telling(&mut self, namespace: &str, name: &str, waiting: &mut dyn Waiting) -> bool {
        let Some(gone) = self.cluster.remove_pod(namespace, name) else { return false };
        let node = gone.node().map(|node| self.cluster.name(node).to_owned()).unwrap_or_default();
        if let Some(profile) = self.profile_of(gone.pod()).cloned() {
            for (_, reserve) in profile.reserves().rev() {
                reserve.unreserve(gone.pod(), &node, waiting);
            }
        }
        true
    }

    fn reserve(&mut self, pod: &Pod, node: NodeId) -> Result<Reservation, Unplaced> {
        let mut reservation = Reservation::default();
        let Some(profile) = self.profile_of(pod).cloned() else { return Ok(reservation) };
        if profile.reserves().next().is_none() {
            return Ok(reservation);
        }
        let shape = self.cluster.shape(pod);
        let cycle = Cycle::new(pod, &shape, &self.cluster);
        for (place, reserve) in profile.reserves() {
            if let Err(refusal) = reserve.reserve(cycle, node, &mut reservation) {
                let name = self.cluster.name(node);
                for (_, reserve) in profile.reserves().rev() {
                    reserve.unreserve(pod, name, &mut NobodyWaits);
                }
                return Err(Unplaced::NotReserved { policy: profile.name_of(place).to_owned(), refusal });
            }
        }
        Ok(reservation)
    }

    /// Whether a policy holds the pod back.
    fn held(&self, place: usize, pod: &Pod) -> Result<(), Unplaced> {
        let profile = &self.profiles[place];
        for (place, policy) in profile.pre_enqueue() {
            policy
                .pre_enqueue(pod)
                .map_err(|refusal| Unplaced::Held { policy: profile.name_of(place).to_owned(), refusal })?;
        }
        Ok(())
    }

    /// For each node, who refused the pod and why, from what was found by [`Engine::look`].
    fn refusals(&mut self, profile: &Profile, seat: Option<(usize, ShapeId)>, pod: &Pod) -> Candidates {
        let shape = self.cluster.shape(pod);
        let question = Question { profile, pod, shape: &shape };
        cached_at(&self.known, &self.scratch, seat).refusals(question, &self.cluster)
    }

    /// Brings up to date what policies think of the pod and every node, and says where that is found.
    fn look(&mut self, place: usize, pod: &Pod) -> (Arc<Profile>, Option<(usize, ShapeId)>) {
        let profile = self.profiles[place].clone();
        let shape = self.cluster.shape(pod);
        let question = Question { profile: &profile, pod, shape: &shape };
        let meta = &pod.metadata;
        let nominated = !self.cluster.nodes_with_nominations().is_empty()
            && self
                .cluster
                .nomination(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
                .is_some();
        if nominated {
            // It does not stand in its own way, which is not so for others of its shape.
            self.scratch.cold(question, &mut self.cluster);
            return (profile, None);
        }
        self.used += 1;
        let key = (place, shape.id());
        // Many shapes never come again, and are not worth the memory, nor its being out of reach of the processor's caches.
        if !self.known.contains_key(&key) && self.asked_once.insert(key) {
            if self.asked_once.len() > ASKED_ONCE {
                self.asked_once.clear();
            }
            self.scratch.cold(question, &mut self.cluster);
            return (profile, None);
        }
        let most = (REMEMBERED_BYTES / (BYTES_PER_NODE * self.cluster.width().max(1))).clamp(4, 256);
        if self.known.len() >= most && !self.known.contains_key(&key) {
            let oldest = self.known.iter().min_by_key(|(_, cached)| cached.last_used).map(|(key, _)| *key);
            if let Some(oldest) = oldest {
                let reused = self.known.remove(&oldest).map(Cached::forgotten).unwrap_or_default();
                self.known.insert(key, reused);
            }
        }
        let cached = self.known.entry(key).or_default();
        cached.last_used = self.used;
        cached.refresh(question, &mut self.cluster);
        (profile, Some(key))
    }
}

type Known = FxHashMap<(usize, ShapeId), Box<Cached>>;

fn cached_at<'k>(known: &'k Known, scratch: &'k Cached, seat: Option<(usize, ShapeId)>) -> &'k Cached {
    seat.and_then(|key| known.get(&key)).map_or(scratch, |cached| cached)
}

fn annotated(pod: &Pod, annotations: &BTreeMap<String, String>) -> Arc<Pod> {
    let mut pod = pod.clone();
    let all = pod.metadata.annotations.get_or_insert_default();
    all.extend(annotations.iter().map(|(key, value)| (key.clone(), value.clone())));
    Arc::new(pod)
}

/// For an engine without a shell: nobody waits for permission.
struct NobodyWaits;

impl Waiting for NobodyWaits {
    fn pods(&self) -> Vec<(Arc<Pod>, String)> {
        Vec::new()
    }
    fn allow(&mut self, _: &ObjectKey) {}
    fn refuse(&mut self, _: &ObjectKey, _: Refusal) {}
}
