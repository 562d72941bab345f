//! Pods of one group, whose fates hang together.

use std::sync::Arc;

use longshore_core::api::pod::Pod;
use longshore_core::informer::ObjectKey;
use longshore_core::scheduling::{Cycle, Refusal};

use super::Placed;
use super::queue::Failure;
use super::work::Loop;
use crate::Profile;
use crate::metrics::Ending;

impl Loop {
    /// The pod, which is out, was refused by these policies: it waits for an event that may help; with its group, if that cannot
    /// be completed without it.
    pub(super) fn set_back(&mut self, key: &ObjectKey, pod: &Arc<Pod>, profile: &Arc<Profile>, policies: Vec<String>) {
        if !self.give_up_group(pod, profile, Some(key), &policies) {
            self.queue.failed(key, Failure::Refused(policies), self.clock.elapsed());
        }
    }

    /// The pod found no node, lost it, came to wait for others or is gone. If its group cannot be completed now, no pod of it
    /// holds a node any longer, and all wait for an event that may help the one that these policies refused. Says whether
    /// that is so.
    pub(super) fn give_up_group(
        &mut self,
        pod: &Arc<Pod>,
        profile: &Arc<Profile>,
        out: Option<&ObjectKey>,
        policies: &[String],
    ) -> bool {
        let Some((place, grouping)) = profile.grouping() else { return false };
        let Some(group) = profile.group_of(pod) else { return false };
        let shape = self.engine.cluster_mut().shape(pod);
        let cluster = self.engine.cluster();
        let left = self.queue.hopeful(&group, |key| cluster.nomination(&key.namespace, &key.name).is_some());
        let Err(why) = grouping.go_on(Cycle::new(pod, &shape, cluster), left) else { return false };
        let held = self.waiting.remove_all(|placed| placed.profile.group_of(&placed.pod).as_ref() == Some(&group));
        let mut back: Vec<ObjectKey> = out.cloned().into_iter().collect();
        for (key, placed) in held {
            self.give_back(&key, &placed, &why);
            back.push(key);
        }
        let own = [profile.name_of(place).to_owned()];
        let policies = if policies.is_empty() { &own } else { policies };
        for key in self.queue.give_up(&group, &back, policies, self.clock.elapsed()) {
            if let Some(pod) = self.queue.get(&key).cloned() {
                self.tell(&pod, "Unschedulable", why.to_string(), None);
            }
        }
        true
    }

    /// A pod that waited for the others of its group gives its node back.
    fn give_back(&mut self, key: &ObjectKey, placed: &Placed, why: &Refusal) {
        self.lost(key, &placed.bind.node, &why.to_string());
        self.ended(&placed.profile, Ending::Unschedulable, placed.started);
        self.assumed.remove(key);
        self.engine.unplace_telling(&key.namespace, &key.name, &mut self.waiting.seen_by(None));
        self.queue.gave_back(key, self.clock.elapsed());
        self.tell(&placed.pod, "Unschedulable", why.to_string(), None);
    }
}
