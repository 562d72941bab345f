//! What is left of the devices that nodes say may be shared.

use std::borrow::Cow;

use super::{Cluster, NodeId, PlacedPod};
use crate::api::Node;
use crate::devices::{BestFit, Pool};

/// The account of one node.
#[derive(Debug, Clone)]
pub(super) struct Account {
    /// What is left once those pods have theirs that were told which.
    left: Pool,
    /// How many of the node's pods ask for devices and were not told.
    untold: usize,
}

impl Account {
    /// Nothing is taken yet; `None` if the node has no such devices.
    pub(super) fn of(node: &Node) -> Option<Box<Self>> {
        Some(Box::new(Self { left: Pool::of(node)?, untold: 0 }))
    }

    pub(super) fn enter(&mut self, pod: &PlacedPod) {
        match &pod.devices {
            Some(charge) => self.left.take(charge),
            None => self.untold += usize::from(self.left.concerns(pod.pod())),
        }
    }

    pub(super) fn leave(&mut self, pod: &PlacedPod) {
        match &pod.devices {
            Some(charge) => self.left.give(charge),
            None => self.untold -= usize::from(self.left.concerns(pod.pod())),
        }
    }
}

impl Cluster {
    /// What is left of the devices that a node says may be shared (see [`devices`](crate::devices)); `None` if it has none. Pods
    /// that were not told which devices they have count, after the others, as if they were told now.
    pub fn devices(&self, node: NodeId) -> Option<Cow<'_, Pool>> {
        let account = self.slots.get(node.index())?.devices.as_deref()?;
        if account.untold == 0 {
            return Some(Cow::Borrowed(&account.left));
        }
        let mut left = account.left.clone();
        for pod in self.pods_on(node).filter(|pod| pod.devices.is_none() && account.left.concerns(pod.pod())) {
            if let Ok(assignment) = left.assign(pod.pod(), &BestFit) {
                left.take(&assignment.charge(pod.pod()));
            }
        }
        Some(Cow::Owned(left))
    }

    /// Makes a node's account anew, for the node is another than before.
    pub(super) fn open_account(&mut self, id: NodeId, node: &Node) {
        let mut account = Account::of(node);
        if let Some(account) = &mut account {
            self.pods_on(id).for_each(|pod| account.enter(pod));
        }
        self.slots[id.index()].devices = account;
    }
}
