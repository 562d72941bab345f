//! What would be if pods were gone.

use std::sync::Arc;

use longshore_core::api::pod::Pod;
use longshore_core::informer::ObjectKey;
use longshore_core::scheduling::cluster::Cluster;
use longshore_core::scheduling::{NodeId, PostFiltered, Refusal, Shape, State, Trial};

use super::cached::{Cached, Question};
use super::{Diagnosis, Engine};
use crate::Profile;

impl Engine {
    /// Lets the policies that look for a way after all have a try at a pod that no node can take, usually by preemption.
    /// Evicts nobody: that is up to the caller. The message is upstream's, from all of them.
    ///
    /// A pod that was refused before any node was looked at gets no try: what is wrong is not on the nodes, and upstream's
    /// first such policy fails there.
    pub fn post_filter(&mut self, pod: &Pod, diagnosis: &Diagnosis) -> PostFiltered {
        self.try_after_all(pod, diagnosis, false)
    }

    /// The same, and tells of every way that was found.
    pub fn post_filter_every_way(&mut self, pod: &Pod, diagnosis: &Diagnosis) -> PostFiltered {
        self.try_after_all(pod, diagnosis, true)
    }

    fn try_after_all(&mut self, pod: &Pod, diagnosis: &Diagnosis, every_way: bool) -> PostFiltered {
        if diagnosis.pre_filter().is_some() {
            return PostFiltered::default();
        }
        let Some(place) = self.profile_place(pod) else { return PostFiltered::default() };
        let profile = self.profiles[place].clone();
        let shape = self.cluster.shape(pod);
        let cached = self.known.get_mut(&(place, shape.id()));
        let is_local = cached.as_ref().is_some_and(|cached| cached.is_local(&profile));
        let mut forgotten = Vec::new();
        let states = cached.map_or(&mut forgotten, |cached| &mut cached.post_filters);
        states.resize_with(profile.policies().len(), State::default);
        let mut messages = Vec::new();
        for (place, policy) in profile.post_filters() {
            let (shape, cluster) = (&shape, &mut self.cluster);
            let mut trial = EngineTrial { profile: &profile, pod, shape, cluster, is_local, every_way };
            let found = policy.post_filter(&mut trial, diagnosis.candidates(), &mut states[place]);
            if found.nomination.is_some() {
                return found;
            }
            messages.push(found.message);
        }
        messages.retain(|message| !message.is_empty());
        PostFiltered { message: messages.join(", "), ..PostFiltered::default() }
    }
}

struct EngineTrial<'e> {
    profile: &'e Profile,
    pod: &'e Pod,
    shape: &'e Arc<Shape>,
    cluster: &'e mut Cluster,
    is_local: bool,
    every_way: bool,
}

impl Trial for EngineTrial<'_> {
    fn pod(&self) -> &Pod {
        self.pod
    }

    fn cluster(&self) -> &Cluster {
        self.cluster
    }

    fn is_local(&self) -> bool {
        self.is_local
    }

    fn wants_every_way(&self) -> bool {
        self.every_way
    }

    fn refusal_without(&mut self, node: NodeId, gone: &[ObjectKey]) -> Option<Refusal> {
        let question = Question { profile: self.profile, pod: self.pod, shape: self.shape };
        self.cluster.suppose((&[], node), gone, |cluster| Cached::refusal_of(question, cluster, node))
    }
}
