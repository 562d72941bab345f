//! What would be if pods were gone.

use std::sync::Arc;

use longshore_core::api::pod::Pod;
use longshore_core::informer::ObjectKey;
use longshore_core::scheduling::cluster::Cluster;
use longshore_core::scheduling::{NodeId, PostFiltered, Refusal, Shape, Trial};

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
        if diagnosis.pre_filter().is_some() {
            return PostFiltered::default();
        }
        let Some(profile) = self.profile_of(pod).cloned() else { return PostFiltered::default() };
        let shape = self.cluster.shape(pod);
        let mut messages = Vec::new();
        for (_, policy) in profile.post_filters() {
            let mut trial = EngineTrial { profile: &profile, pod, shape: &shape, cluster: &mut self.cluster };
            let found = policy.post_filter(&mut trial, diagnosis.candidates());
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
}

impl Trial for EngineTrial<'_> {
    fn pod(&self) -> &Pod {
        self.pod
    }

    fn cluster(&self) -> &Cluster {
        self.cluster
    }

    fn refusal_without(&mut self, node: NodeId, gone: &[ObjectKey]) -> Option<Refusal> {
        let removed: Vec<_> =
            gone.iter().filter_map(|key| self.cluster.remove_pod(&key.namespace, &key.name)).collect();
        let question = Question { profile: self.profile, pod: self.pod, shape: self.shape };
        let refusal = Cached::refusal_of(question, self.cluster, node);
        for pod in removed {
            if let Some(node) = pod.node() {
                self.cluster.place(pod.pod().clone(), node);
            }
        }
        refusal
    }
}
